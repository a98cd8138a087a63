//! Pages of long lists: how many rows, and the token that leads from a page to the next one.
//!
//! A token says what the list is about, as of which positions it began, and where the page ended.
//! It is bound to the request by the first of these; it opens nothing that the request does not.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use frikort_proto::error::{Failure, Faults};
use serde::{Serialize, de::DeserializeOwned};

use crate::{tables::Checkpoint, wire::ResumePosition};

/// Rows of a page where the request does not say, and at most.
const USUAL: i32 = 100;
const MOST: i32 = 1000;

/// Tokens are far shorter.
const LONGEST: usize = 16 * 1024;

/// How many rows a page has; notes a number that is not allowed.
pub(crate) fn page_size(faults: &mut Faults, asked: i32) -> Option<usize> {
    page_size_or(faults, asked, USUAL)
}

/// The same of a list that most callers want whole.
pub(crate) fn large_page_size(faults: &mut Faults, asked: i32) -> Option<usize> {
    page_size_or(faults, asked, MOST)
}

fn page_size_or(faults: &mut Faults, asked: i32, usual: i32) -> Option<usize> {
    let size = if asked == 0 { usual } else { asked };
    if !(1..=MOST).contains(&size) {
        faults.note("page_size", format!("must be from 1 to {MOST}, or 0 for {usual}"));
    }
    usize::try_from(size).ok()
}

/// A token that belongs to another list, or to a history that is no longer the database's.
pub(crate) fn of_another_list() -> Failure {
    refused("is of another list: all else must be unchanged")
}

fn refused(what: &str) -> Failure {
    Failure::invalid(vec![("page_token".to_owned(), what.to_owned())])
}

/// What leads to the next page.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub(crate) struct PageToken<Filter, Place> {
    pub(crate) filter: Filter,
    /// As of which positions the first page was.
    pub(crate) as_of: BTreeMap<i32, Checkpoint>,
    pub(crate) after: Place,
}

impl<Filter, Place> PageToken<Filter, Place>
where
    Filter: Serialize + DeserializeOwned,
    Place: Serialize + DeserializeOwned,
{
    /// Reads a token that was given for the same list; `None` where there is none.
    pub(crate) fn read(
        text: &str,
        is_same: impl FnOnce(&Filter) -> bool,
    ) -> Result<Option<Self>, Failure> {
        if text.is_empty() {
            return Ok(None);
        }
        let short = Some(text).filter(|text| text.len() <= LONGEST);
        let token: Option<Self> = short
            .and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let token =
            token.ok_or_else(|| refused("must be the next_page_token of the page before"))?;
        if !is_same(&token.filter) {
            return Err(of_another_list());
        }
        Ok(Some(token))
    }

    /// The positions of the first page, which the next ones must find in the history.
    pub(crate) fn resumed(&self) -> BTreeMap<i32, ResumePosition> {
        let resumed = |(partition, at): (&i32, &Checkpoint)| {
            let (position, recorded_at) = (at.position, at.recorded_at?);
            (position > 0).then_some((*partition, ResumePosition { position, recorded_at }))
        };
        self.as_of.iter().filter_map(resumed).collect()
    }

    pub(crate) fn write(&self) -> String {
        // Keys of the maps are numbers, which JSON writes as strings; nothing here can fail.
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Token = PageToken<(i16, i32), (i32, String)>;

    fn token() -> Token {
        let as_of = BTreeMap::from([(0, Checkpoint { position: 7, ..Checkpoint::default() })]);
        Token { filter: (751, 2024), as_of, after: (3, "løn".to_owned()) }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let read = Token::read(&token().write(), |of| *of == (751, 2024)).unwrap().unwrap();
        assert_eq!((read.as_of, read.after), (token().as_of, token().after));
        assert!(Token::read("", |_| true).unwrap().is_none());
    }

    #[test]
    fn a_token_of_another_list_or_of_nobody_is_refused() {
        let token = token().write();
        for (text, filter) in
            [(token.as_str(), (101, 2024)), ("x", (751, 2024)), ("{}", (751, 2024))]
        {
            let failure = Token::read(text, |of| *of == filter).unwrap_err();
            assert_eq!(failure.fields[0].0, "page_token");
        }
        let long = "A".repeat(LONGEST + 1);
        assert!(Token::read(&long, |_| true).is_err());
    }

    #[test]
    fn a_page_has_1_to_1000_rows() {
        let size = |asked| {
            let mut faults = Faults::default();
            let size = page_size(&mut faults, asked);
            (size, faults.count())
        };
        assert_eq!((size(0), size(1), size(1000)), ((Some(100), 0), (Some(1), 0), (Some(1000), 0)));
        assert_eq!((size(-1).1, size(1001).1), (1, 1));
    }
}
