//! What a table of bad requests is made of, and how it is run.

use std::fmt::Debug;

use frikort_proto::error::{DOMAIN, Failure};
use frikort_proto::v1::{ErrorReason, Refusal};
use frikort_tests::{
    client::{Ledger, new_cpr},
    stack::Stack,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// One way to spoil a sound request, and the fields that must be named for it.
pub(crate) struct Case<R> {
    pub(crate) what: String,
    pub(crate) fields: Vec<String>,
    pub(crate) change: Box<dyn Fn(&mut R) + Send + Sync>,
}

/// A case by hand.
pub(crate) fn case<R>(
    what: &str,
    fields: &[&str],
    change: impl Fn(&mut R) + Send + Sync + 'static,
) -> Case<R> {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    Case { what: what.to_owned(), fields, change: Box::new(change) }
}

/// A stack with the limit of 2022, and the holder of a card from 2022-01-01.
pub(crate) struct Ground {
    pub(crate) stack: Stack,
    pub(crate) ledger: Ledger,
    pub(crate) cpr: String,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let stack = Stack::start(1).await.unwrap();
        let mut ledger = stack.ledger().await.unwrap();
        ledger.set_limit(2022, 20_000).await.unwrap();
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        Self { stack, ledger, cpr }
    }

    /// Sends every case; each must be refused for its fields, and nothing may be recorded.
    pub(crate) async fn refuses<R, T>(
        &self,
        sound: &R,
        cases: Vec<Case<R>>,
        call: impl AsyncFn(R) -> Result<T, Status>,
    ) where
        R: Clone + Debug,
        T: Debug,
    {
        let before = self.stack.recorded().await.unwrap();
        let mut wrong = Vec::new();
        for case in &cases {
            let mut request = sound.clone();
            (case.change)(&mut request);
            let sent = digits_in(&format!("{request:?}"));
            let verdict = match call(request).await {
                Ok(answer) => Err(format!("was accepted: {answer:?}")),
                Err(status) => judge(&status, &case.fields, &sent),
            };
            wrong.extend(verdict.err().map(|why| format!("{}: {why}", case.what)));
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        assert_eq!(self.stack.recorded().await.unwrap(), before, "something was recorded");
    }
}

/// Whether a status is the refusal that names these fields, and shows nothing that was sent.
fn judge(status: &Status, fields: &[String], sent: &[String]) -> Result<(), String> {
    let details = status.get_error_details();
    let info = details.error_info().ok_or_else(|| format!("no ErrorInfo: {status:?}"))?;
    let told = (status.code(), info.reason.as_str(), info.domain.as_str());
    if told != (Code::InvalidArgument, "INVALID_FIELD", DOMAIN) {
        return Err(format!("answered {told:?}: {}", status.message()));
    }
    if details.retry_info().is_some() || details.precondition_failure().is_some() {
        return Err("says that it can be repeated, or that state was at fault".to_owned());
    }
    let failure = Failure::from_status(status).ok_or("is not of our error model")?;
    named(failure.fields.iter().map(|(field, text)| (field.as_str(), text.as_str())), fields)?;
    let details = String::from_utf8_lossy(status.details());
    hides(&format!("{} {details}", status.message()), sent)
}

/// The same for one item of a stream.
pub(crate) fn judge_item(
    refusal: &Refusal,
    fields: &[String],
    sent: &[String],
) -> Result<(), String> {
    if refusal.reason() != ErrorReason::InvalidField {
        return Err(format!("answered {:?}", refusal.reason()));
    }
    if refusal.retry_delay_ms != 0 {
        return Err("says that it can be repeated".to_owned());
    }
    let faults = refusal.fields.iter();
    named(faults.map(|fault| (fault.field.as_str(), fault.description.as_str())), fields)?;
    hides(&format!("{refusal:?}"), sent)
}

fn named<'a>(
    faults: impl Iterator<Item = (&'a str, &'a str)>,
    fields: &[String],
) -> Result<(), String> {
    let (mut named, mut expected) = (Vec::new(), fields.to_vec());
    for (field, description) in faults {
        if description.is_empty() {
            return Err(format!("does not say what is wrong with {field}"));
        }
        named.push(field.to_owned());
    }
    named.sort();
    expected.sort();
    if named == expected { Ok(()) } else { Err(format!("names {named:?}, not {expected:?}")) }
}

fn hides(text: &str, sent: &[String]) -> Result<(), String> {
    match sent.iter().find(|number| text.contains(number.as_str())) {
        Some(_) => Err(format!("shows a number that was sent: {text}")),
        None => Ok(()),
    }
}

/// What looks like a CPR number in a text: ten digits in a row, or six, a hyphen and four.
pub(crate) fn digits_in(text: &str) -> Vec<String> {
    let shaped = |word: &&str| word.bytes().filter(u8::is_ascii_digit).count() == 10;
    text.split(|c: char| !c.is_ascii_digit() && c != '-')
        .filter(shaped)
        .map(str::to_owned)
        .collect()
}
