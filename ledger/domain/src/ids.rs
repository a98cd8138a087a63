//! Identifiers (N1-N6): parsed once, at the door; inside they are known to be well formed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::{Date, Month};
use uuid::Uuid;

use crate::digits::Text;

/// Why a text is no identifier of its kind. The text itself is never part of it (W5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(&'static str);

/// The ledger's own opaque id of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PersonId(pub Uuid);

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A CPR number (N1): 10 digits that hold a real date. Shown nowhere: no `Display`, and `Debug`
/// hides it (W5).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cpr([u8; 10]);

impl Cpr {
    /// The ten digits, for the identity register and for nothing else.
    pub fn expose_digits(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether a text holds this very number, with or without its hyphen, whatever stands beside
    /// it (W5).
    pub fn is_in(&self, text: &str) -> bool {
        let (digits, (day, serial)) = (self.expose_digits(), self.expose_digits().split_at(6));
        text.contains(digits) || text.contains(&format!("{day}-{serial}"))
    }

    /// Date of birth by the century table.
    pub fn birth_date(&self) -> Option<Date> {
        birth_date(&self.0)
    }
}

fn birth_date(digits: &[u8; 10]) -> Option<Date> {
    let two = |i: usize| (digits[i] - b'0') * 10 + (digits[i + 1] - b'0');
    let year = i32::from(two(4));
    let century = match (digits[6] - b'0', year) {
        (0..=3, _) => 1900,
        (4 | 9, ..=36) => 2000,
        (4 | 9, _) => 1900,
        (_, ..=57) => 2000,
        (_, _) => 1800,
    };
    Date::from_calendar_date(century + year, Month::try_from(two(2)).ok()?, two(0)).ok()
}

impl FromStr for Cpr {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError("must be a CPR number: 10 digits beginning with a real date");
        let text = match text.split_once('-') {
            Some((day, rest)) if day.len() == 6 => format!("{day}{rest}"),
            Some(_) => return Err(error),
            None => text.to_owned(),
        };
        let digits: [u8; 10] = text.as_bytes().try_into().map_err(|_| error)?;
        let real = digits.iter().all(u8::is_ascii_digit) && birth_date(&digits).is_some();
        if real { Ok(Self(digits)) } else { Err(error) }
    }
}

impl fmt::Debug for Cpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cpr(hidden)")
    }
}

/// Whether a free text holds a CPR number: ten digits, or six and four with hyphens, spaces
/// or other signs between, that stand alone and begin with a real date (W5).
pub fn contains_cpr(text: &str) -> bool {
    let is_cpr = |token: &str| token.len() == 10 && token.parse::<Cpr>().is_ok();
    let mut previous = "";
    let tokens = text.split(|c: char| !c.is_alphanumeric());
    for token in tokens.filter(|token| !token.is_empty()) {
        if is_cpr(token) || (previous.len() == 6 && is_cpr(&format!("{previous}{token}"))) {
            return true;
        }
        previous = token;
    }
    false
}

/// Makes a newtype over a checked, short digit text: parse, show, and the JSON string form.
macro_rules! digits {
    ($(#[$doc:meta])* $name:ident, $length:literal, $inner:ty, $check:expr, $error:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($inner);

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.len() == $length && text.bytes().all(|b| b.is_ascii_digit());
                let number = digits.then(|| text.parse().ok()).flatten().filter($check);
                number.map(Self).ok_or(IdError($error))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:0width$}", self.0, width = $length)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = Text::<$length>::new().number(self.0.into(), $length);
                serializer.serialize_str(text.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <&str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

digits!(
    /// An employer's CVR number (N2): 8 digits, weights 2 7 6 5 4 3 2 1, sum divisible by 11.
    Cvr, 8, u32, cvr_checks, "must be a CVR number: 8 digits with a valid check digit"
);
digits!(
    /// A P-number (N3): 10 digits; there is no check digit.
    ProductionUnit, 10, u64, |_| true, "must be a P-number: 10 digits"
);
digits!(
    /// A Frikort-ID (N4): 5 digits, leading zeros kept. Guessable, so never proof of anything.
    FrikortId, 5, u32, |_| true, "must be a Frikort-ID: 5 digits"
);
digits!(
    /// A municipality (N6): one of the 98 codes.
    MunicipalityCode, 3, u16, |code| MUNICIPALITIES.binary_search(code).is_ok(),
    "must be the 3-digit code of one of the 98 municipalities"
);

impl Cvr {
    /// As a number: 8 digits, so below 100 000 000.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl MunicipalityCode {
    /// As a number: 101 to 860.
    pub fn number(self) -> u16 {
        self.0
    }
}

fn cvr_checks(number: &u32) -> bool {
    let weights = [1, 2, 3, 4, 5, 6, 7, 2];
    let digits = (0..).scan(*number, |rest, _: u32| {
        let digit = *rest % 10;
        *rest /= 10;
        Some(digit)
    });
    *number > 0 && weights.iter().zip(digits).map(|(w, d)| w * d).sum::<u32>() % 11 == 0
}

/// N6, ascending. 411 Christiansø is no municipality.
const MUNICIPALITIES: [u16; 98] = [
    101, 147, 151, 153, 155, 157, 159, 161, 163, 165, 167, 169, 173, 175, 183, 185, 187, 190, 201,
    210, 217, 219, 223, 230, 240, 250, 253, 259, 260, 265, 269, 270, 306, 316, 320, 326, 329, 330,
    336, 340, 350, 360, 370, 376, 390, 400, 410, 420, 430, 440, 450, 461, 479, 480, 482, 492, 510,
    530, 540, 550, 561, 563, 573, 575, 580, 607, 615, 621, 630, 657, 661, 665, 671, 706, 707, 710,
    727, 730, 740, 741, 746, 751, 756, 760, 766, 773, 779, 787, 791, 810, 813, 820, 825, 840, 846,
    849, 851, 860,
];

/// A Frikort-ID as it stands in events: a keyed hash under the person's own key, which lies in
/// the identity register. Without that key it says nothing about the ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrikortTag(pub [u8; 16]);

/// A CPR number as it stands in events: a keyed hash under the person's salt, so that the same
/// change can be told from another one, and nothing else. Without the register it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberTag(pub [u8; 16]);

/// The JSON form of a tag: 32 hexadecimal digits.
macro_rules! hexadecimal {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <&str>::deserialize(deserializer)?;
                let canonical = text.len() == 32
                    && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let number = canonical.then(|| u128::from_str_radix(text, 16).ok()).flatten();
                Ok(Self(number.ok_or_else(|| D::Error::custom("not a tag"))?.to_be_bytes()))
            }
        }
    };
}

hexadecimal!(FrikortTag);
hexadecimal!(NumberTag);

/// An organisation's own reference: 1 to 64 printable characters without quotation mark or
/// backslash (so it never needs escaping in a record), no space at either end, no CPR number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Reference(Box<str>);

impl Reference {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reference {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let printable = |c: char| !c.is_control() && c != '"' && c != '\\';
        let length = text.chars().count();
        if !(1..=64).contains(&length) || text.trim() != text || !text.chars().all(printable) {
            return Err(IdError(
                "must be 1 to 64 printable characters without quotation mark or backslash, \
                 and no space at either end",
            ));
        }
        if contains_cpr(text) {
            return Err(IdError("must not hold a CPR number"));
        }
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for Reference {
    /// Records are ours: what was accepted once is read for ever, even if the rule gets stricter.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(<&str>::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n1_cpr() {
        for text in ["0101605001", "010160-5001", "0101785362", "2902004000"] {
            assert!(text.parse::<Cpr>().is_ok(), "{text}");
        }
        for text in [
            "3002605001",
            "2902014000",
            "010160500",
            "01016050011",
            "0101-605001",
            "",
            "a101605001",
        ] {
            assert!(text.parse::<Cpr>().is_err(), "{text}");
        }
        let born = |text: &str| text.parse::<Cpr>().unwrap().birth_date().unwrap().year();
        assert_eq!(born("0101605001"), 1860);
        assert_eq!(born("0101575001"), 2057);
        assert_eq!(born("0101364001"), 2036);
        assert_eq!(born("0101374001"), 1937);
        assert_eq!(born("0101609001"), 1960);
        assert_eq!(born("0101003001"), 1900);
    }

    #[test]
    fn n2_cvr() {
        for text in ["13748136", "29189706", "29189692", "25048482"] {
            assert_eq!(text.parse::<Cvr>().unwrap().to_string(), text);
        }
        for text in ["12345678", "13748137", "35254119", "1374813", "137481366", "00000000"] {
            assert!(text.parse::<Cvr>().is_err(), "{text}");
        }
    }

    #[test]
    fn n3_p_number_has_no_check_digit() {
        assert_eq!("0000000017".parse::<ProductionUnit>().unwrap().to_string(), "0000000017");
        assert!("123456789".parse::<ProductionUnit>().is_err());
    }

    #[test]
    fn n4_frikort_id_keeps_its_zeros() {
        assert_eq!("00071".parse::<FrikortId>().unwrap().to_string(), "00071");
        assert!("0071".parse::<FrikortId>().is_err());
    }

    #[test]
    fn n6_municipalities() {
        assert!(MUNICIPALITIES.is_sorted() && MUNICIPALITIES.len() == 98);
        assert!("101".parse::<MunicipalityCode>().is_ok());
        assert!("411".parse::<MunicipalityCode>().is_err());
    }

    #[test]
    fn w5_a_reference_holds_no_cpr_number() {
        for text in ["0101605001", "pay-010160-5001", "løn 010160 5001", "x/0101605001/2"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        for text in ["308-220320-1", "20220315001", "3002605001", "løn marts", "a0101605001"] {
            assert!(text.parse::<Reference>().is_ok(), "{text}");
        }
        for text in ["", " a", "a\"b", "a\\b", "a\nb"] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        assert!("x".repeat(65).parse::<Reference>().is_err());
    }

    #[test]
    fn w5_a_number_is_found_whatever_stands_beside_it() {
        let cpr = "0101605001".parse::<Cpr>().unwrap();
        assert!(cpr.is_in("x0101605001y") && cpr.is_in("LON010160-50012"));
        assert!(!cpr.is_in("0101605002") && !cpr.is_in("010160 5001"));
    }

    #[test]
    fn w5_debug_hides_a_cpr_number() {
        assert_eq!(format!("{:?}", "0101605001".parse::<Cpr>().unwrap()), "Cpr(hidden)");
    }
}
