//! A look-up as the journal holds it: a line of JSON, ended by a line feed.
//!
//! What must stay out: files, the database, and whether somebody may look.

use std::borrow::Cow;

use frikort_domain::PersonId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The look-ups of one call: a list on its line, since names would be most of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Note<'a>(
    /// When, in microseconds since 1970: as fine as the table has it.
    i64,
    #[serde(borrow)] Texts<'a>,
    /// Who.
    Cow<'a, [PersonId]>,
);

/// Caller, role, purpose, method, and what was asked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Texts<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
);

/// What look-ups may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Alike<'a> {
    pub(crate) caller: &'a str,
    pub(crate) role: &'a str,
    pub(crate) purpose: &'a str,
    pub(crate) method: &'a str,
    pub(crate) asked: &'a str,
}

impl<'a> Alike<'a> {
    pub(crate) fn texts(&self) -> [&'a str; 5] {
        [self.caller, self.role, self.purpose, self.method, self.asked]
    }
}

impl<'a> Note<'a> {
    /// `None` where the table could not have it: of nobody, of no time that there is, or with a text
    /// that holds a NUL.
    pub(crate) fn new(
        at: OffsetDateTime,
        alike: &Alike<'a>,
        persons: &'a [PersonId],
    ) -> Option<Self> {
        let at = i64::try_from(at.unix_timestamp_nanos() / 1000).ok()?;
        let [caller, role, purpose, method, asked] = alike.texts().map(Cow::Borrowed);
        let texts = Texts(caller, role, purpose, method, asked);
        Some(Self(at, texts, Cow::Borrowed(persons))).filter(Self::is_sound)
    }

    fn is_sound(&self) -> bool {
        !self.persons().is_empty()
            && self.time().is_some()
            && self.alike().texts().iter().all(|text| !text.contains('\0'))
    }

    pub(crate) fn time(&self) -> Option<OffsetDateTime> {
        let nanoseconds = u64::try_from(self.0).ok().map(|at| i128::from(at) * 1000)?;
        OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()
    }

    pub(crate) fn alike(&self) -> Alike<'_> {
        let Texts(caller, role, purpose, method, asked) = &self.1;
        Alike { caller, role, purpose, method, asked }
    }

    pub(crate) fn persons(&self) -> &[PersonId] {
        &self.2
    }

    /// As a line, with its end.
    pub(crate) fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = Vec::with_capacity(192 + 40 * self.persons().len());
        serde_json::to_writer(&mut line, self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The notes of whole lines, and how many lines are none. What comes after the last line's end was
/// not written whole, and nobody is answered for what was not.
pub(crate) fn read(lines: &[u8]) -> (Vec<Note<'_>>, usize) {
    let (mut notes, mut unreadable) = (Vec::new(), 0);
    let whole = lines.split_inclusive(|byte| *byte == b'\n');
    for line in whole.filter_map(|line| line.strip_suffix(b"\n")) {
        match serde_json::from_slice(line).ok().filter(Note::is_sound) {
            Some(note) => notes.push(note),
            None => unreadable += 1,
        }
    }
    (notes, unreadable)
}

#[cfg(test)]
pub(crate) mod tests {
    use time::{Duration, macros::datetime};
    use uuid::Uuid;

    use super::*;

    pub(crate) const AT: OffsetDateTime = datetime!(2026-05-01 12:00:00.123456 UTC);

    pub(crate) const ALIKE: Alike<'_> = Alike {
        caller: "Skat",
        role: "tax",
        purpose: "AARSOPGOERELSE",
        method: "AllowanceService/GetAllowance",
        asked: "year 2026",
    };

    pub(crate) fn person(number: u128) -> PersonId {
        PersonId(Uuid::from_u128(number))
    }

    fn lines(notes: &[Note<'_>]) -> Vec<u8> {
        notes.iter().flat_map(|note| note.line().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_whatever_the_texts_say() {
        let persons = [person(1), person(2)];
        let odd = "\"Løn\"\n\r\t{}\u{7f}\u{2028}😀\\";
        let alike = Alike { caller: odd, asked: "", ..ALIKE };
        let notes = [
            Note::new(AT, &ALIKE, &persons).unwrap(),
            Note::new(AT + Duration::SECOND, &alike, &persons[..1]).unwrap(),
        ];
        assert_eq!(lines(&notes).iter().filter(|byte| **byte == b'\n').count(), 2);
        assert_eq!(read(&lines(&notes)), (notes.to_vec(), 0));
        assert_eq!(notes[0].time(), Some(AT));
    }

    #[test]
    fn a_line_that_was_not_written_whole_is_no_note_and_those_before_it_are() {
        let persons = [person(1)];
        let notes = vec![Note::new(AT, &ALIKE, &persons).unwrap(); 3];
        let (all, one) = (lines(&notes), notes[0].line().unwrap().len());
        for end in 0..=all.len() {
            assert_eq!(read(&all[..end]), (notes[..end / one].to_vec(), 0), "{end}");
        }
    }

    #[test]
    fn what_is_no_look_up_is_counted_and_the_others_are_read() {
        let note = Note::new(AT, &ALIKE, &[person(1)]).unwrap().line().unwrap();
        let text = str::from_utf8(&note).unwrap();
        let mut all = note.clone();
        for (of, instead) in [
            ("\"Skat\"", "\"Ska\\u0000\""),
            ("[1777", "[-1777"),
            ("[1777", "[10000000000777"),
            ("[\"00000000-0000-0000-0000-000000000001\"]", "[]"),
            ("\"tax\"", "7"),
            ("\"tax\",", ""),
            (text.trim_end(), ""),
            (text.trim_end(), "\0\0\0\0"),
        ] {
            assert!(text.contains(of));
            all.extend(text.replacen(of, instead, 1).into_bytes());
        }
        all.extend(&note);
        let (notes, unreadable) = read(&all);
        assert_eq!((notes.len(), unreadable), (2, 8));
    }

    #[test]
    fn what_the_table_could_not_have_is_no_note() {
        let persons = [person(1)];
        assert!(Note::new(AT, &ALIKE, &[]).is_none());
        assert!(Note::new(AT, &Alike { caller: "a\0", ..ALIKE }, &persons).is_none());
        assert!(Note::new(datetime!(1969-12-31 23:59 UTC), &ALIKE, &persons).is_none());
    }
}
