//! The past on the command line: as of what the ledger knew, and up to which day. What must stay
//! out: what is allowed; the projector says that.

use anyhow::{Context, anyhow};
use clap::ValueHint;
use frikort_domain::parse_date;
use frikort_proto::v1::{self, as_of::KnownAt};

use crate::wire;

/// As of when.
#[derive(clap::Args, Debug)]
pub(crate) struct AsOf {
    /// As the ledger knew it then: a position, or an instant such as 2023-05-31T12:00:00Z.
    #[arg(long, value_name = "POSITION|INSTANT", value_hint = ValueHint::Other)]
    known_at: Option<String>,
    /// Only payments that count up to this day, such as 2023-05-31.
    #[arg(long, value_name = "DAY")]
    paid_through: Option<String>,
}

impl AsOf {
    /// As a question asks it; `None` for now.
    pub(crate) fn ask(&self) -> anyhow::Result<Option<v1::AsOf>> {
        let known_at = self.known_at.as_deref().map(known_at).transpose()?;
        let day = |text: &str| {
            parse_date(text).ok_or_else(|| anyhow!("--paid-through: give a day as 2023-05-31"))
        };
        let paid_through = self.paid_through.as_deref().map(day).transpose()?.map(Into::into);
        let asked = v1::AsOf { known_at, paid_through };
        Ok((asked != v1::AsOf::default()).then_some(asked))
    }
}

fn known_at(text: &str) -> anyhow::Result<KnownAt> {
    if let Ok(position) = text.parse() {
        return Ok(KnownAt::KnownPosition(position));
    }
    let instant = wire::instant(text);
    Ok(KnownAt::KnownTime(instant.context("--known-at: give a position, or an instant")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(known_at: Option<&str>, paid_through: Option<&str>) -> Option<Option<v1::AsOf>> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        AsOf { known_at: text(known_at), paid_through: text(paid_through) }.ask().ok()
    }

    #[test]
    fn a_number_is_a_position_and_anything_else_an_instant() {
        let asked = |known_at| ask(Some(known_at), None).flatten().and_then(|as_of| as_of.known_at);
        assert_eq!(asked("17"), Some(KnownAt::KnownPosition(17)));
        let Some(KnownAt::KnownTime(time)) = asked("2023-05-31T12:00:00.5+02:00") else {
            panic!("no instant")
        };
        assert_eq!((time.seconds, time.nanos), (1_685_527_200, 500_000_000));
        assert_eq!(ask(Some("31 May"), None), None);
        assert_eq!(ask(None, Some("2023-02-29")), None);
        assert_eq!(ask(None, None), Some(None));
    }
}
