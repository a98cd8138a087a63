//! Identifiers, amounts and days: what parses is printed as it was written, and nothing else parses.

use std::{fmt::Display, str::FromStr};

use frikort::fuzzing as danish;
use frikort_domain::{
    Amount, Cpr, Cvr, FrikortId, Hours, MunicipalityCode, ProductionUnit, Reference, contains_cpr,
    format_date, parse_date,
};

use super::text;

/// Weights of the check digit of a CVR number (N2).
const CVR_WEIGHTS: [u32; 8] = [2, 7, 6, 5, 4, 3, 2, 1];

pub(super) fn cpr(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(cpr) = text.parse::<Cpr>() else { return };
    let digits = cpr.expose_digits();
    assert_eq!(digits, text.replacen('-', "", 1), "the digits are those that were given");
    assert!(digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(digits.parse().as_ref(), Ok(&cpr), "it parses to the same");
    let born = format_date(cpr.birth_date().expect("begins with a real date"));
    let day = |range| &digits[range];
    let (year, month, date) = (&born[2..4], &born[5..7], &born[8..]);
    assert_eq!((date, month, year), (day(0..2), day(2..4), day(4..6)), "the day of birth");
    assert!(!format!("{cpr:?}").contains(digits), "W5: it is shown nowhere");
    let (first, last) = digits.split_at(6);
    for said in [format!("{first}-{last}"), format!("løn {digits}"), format!("{first} {last}/2")] {
        assert!(contains_cpr(&said) && said.parse::<Reference>().is_err(), "W5: it is found");
    }
    assert!(cpr.is_in(text) && cpr.is_in(&format!("x{text}1")), "W5: its own is found anywhere");
}

pub(super) fn cvr(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let checks = text.len() == 8
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text != "00000000"
        && text.bytes().zip(CVR_WEIGHTS).map(|(d, w)| u32::from(d - b'0') * w).sum::<u32>() % 11
            == 0;
    let cvr = text.parse::<Cvr>();
    assert_eq!(cvr.is_ok(), checks, "N2: eight digits and the check digit, and nothing else");
    if let Ok(cvr) = cvr {
        assert_eq!(cvr.to_string(), text);
        assert!(cvr.number() < 100_000_000);
    }
}

pub(super) fn identifiers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let digits = |length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    assert_eq!(same::<FrikortId>(text), digits(5), "N4: five digits");
    assert_eq!(same::<ProductionUnit>(text), digits(10), "N3: ten digits");
    if same::<MunicipalityCode>(text) {
        assert!(digits(3), "N6: three digits");
    }
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.as_str(), text);
    assert!((1..=64).contains(&text.chars().count()) && text.trim() == text);
    assert!(!contains_cpr(text), "W5");
    let json = serde_json::to_string(&reference).unwrap_or_default();
    assert_eq!(json, format!("\"{text}\""), "a record needs no escaping");
}

pub(super) fn amount(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(amount) = text.parse::<Amount>() {
        assert_eq!(amount.to_string(), text, "one form");
        assert!((0..=999_999_999_999_999_999).contains(&amount.oere()));
        assert_eq!(Amount::from_oere(amount.oere()), Ok(amount));
        assert_eq!(Amount::from_decimal(amount.decimal()), Ok(amount));
        assert_eq!(amount.decimal().to_string(), text, "the decimal is the same number");
    }
    if let Ok(hours) = text.parse::<Hours>() {
        assert_eq!(hours.to_string(), text, "one form");
        assert!((1..=99_999).contains(&hours.hundredths()), "P8");
    }
    let digits = |text: &str| text.replace(['.', ','], "");
    let plain = danish::number(text);
    assert_eq!(digits(&plain), digits(text), "no digit is added, lost or moved");
    if let Ok(amount) = plain.parse::<Amount>() {
        assert_eq!(danish::number(&plain), plain, "ours stays as it is");
        let decimals = text.rsplit(['.', ',']).next().map(str::len);
        assert_eq!(decimals, Some(2), "{amount} has its decimals where they were written");
    }
}

pub(super) fn date(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let parsed = parse_date(text);
    if let Some(day) = parsed {
        assert_eq!(format_date(day), text, "one form");
        assert!((0..=9999).contains(&day.year()));
    }
    match danish::date(text) {
        None => assert_eq!(parsed, None, "a file may hold our form"),
        Some(day) if parsed.is_some() => assert_eq!(Some(day), parsed),
        Some(day) => {
            let iso = format_date(day);
            assert_eq!(format!("{}-{}-{}", &iso[8..], &iso[5..7], &iso[..4]), text);
        }
    }
}

/// Whether it parses; then it is printed as it was written.
fn same<T: FromStr + Display>(text: &str) -> bool {
    let parsed = text.parse::<T>().ok();
    parsed.inspect(|value| assert_eq!(value.to_string(), text, "one form")).is_some()
}
