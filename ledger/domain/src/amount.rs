//! Money and hours: exact, two decimals, never negative.

use std::{fmt, iter::Sum, ops::Add, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::digits::Text;

/// An amount in kroner with exactly two decimals, 0 or more.
///
/// Held as whole øre, as on the wire; in records a decimal string (`"400.00"`), in tables and
/// towards other programs a [`Decimal`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Why a text or number is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the form `123.45`.
    #[error("must be a number with two decimals, such as 400.00")]
    Malformed,
    /// Below zero.
    #[error("must not be negative")]
    Negative,
}

impl Amount {
    /// 0,00 kr.
    pub const ZERO: Self = Self(0);

    /// The largest amount of one payment: 999.999,99 kr. (P1).
    pub const MAX_PAYMENT: Self = Self(99_999_999);

    /// The largest sum of one person's payments in one year that a table column can hold.
    pub const MAX_TOTAL: Self = Self(99_999_999_999_999);

    /// From whole øre, 0 or more.
    pub fn from_oere(oere: i64) -> Result<Self, AmountError> {
        if oere < 0 { Err(AmountError::Negative) } else { Ok(Self(oere)) }
    }

    /// From a decimal with at most two decimals, 0 or more, of at most 17 digits before them.
    pub fn from_decimal(mut decimal: Decimal) -> Result<Self, AmountError> {
        if decimal.is_sign_negative() && !decimal.is_zero() {
            return Err(AmountError::Negative);
        }
        if decimal.normalize().scale() > 2 {
            return Err(AmountError::Malformed);
        }
        decimal.rescale(2);
        i64::try_from(decimal.mantissa()).map(Self).map_err(|_| AmountError::Malformed)
    }

    /// Whole øre.
    pub fn oere(self) -> i64 {
        self.0
    }

    /// The decimal, scale 2.
    pub fn decimal(self) -> Decimal {
        Decimal::new(self.0, 2)
    }

    /// Whether it is 0,00.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self - other`, or zero where that would be negative.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }
}

impl Add for Amount {
    type Output = Self;
    /// Saturates far above [`Amount::MAX_TOTAL`], which no year may exceed.
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(hundredths(self.0.unsigned_abs()).as_str())
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `12.34` for 1234.
fn hundredths(number: u64) -> Text<21> {
    Text::new().number(number / 100, 1).push(b'.').number(number % 100, 2)
}

impl FromStr for Amount {
    type Err = AmountError;

    /// Reads the canonical form only: digits, a point, two digits.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.starts_with('-') {
            return Err(AmountError::Negative);
        }
        Ok(Self(canonical_hundredths(text).ok_or(AmountError::Malformed)?))
    }
}

/// `12.34`: no sign, no leading zero, exactly two decimals.
fn canonical_hundredths(text: &str) -> Option<i64> {
    let (whole, cents) = text.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits(whole)
        && digits(cents)
        && cents.len() == 2
        && whole.len() <= 16 // 18 digits in all, which 64 bits hold
        && (whole.len() == 1 || !whole.starts_with('0'));
    let number = |digits: &str| digits.bytes().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
    canonical.then(|| number(whole) * 100 + number(cents))
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(hundredths(self.0.unsigned_abs()).as_str())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Hours worked, in steps of 0,01: 0,01 to 999,99 (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hours(u32);

impl Hours {
    /// From hundredths of an hour, 1 to 99 999; `None` outside.
    pub fn from_hundredths(hundredths: i32) -> Option<Self> {
        let hundredths = u32::try_from(hundredths).ok()?;
        (1..=99_999).contains(&hundredths).then_some(Self(hundredths))
    }

    /// Hundredths of an hour.
    pub fn hundredths(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(hundredths(self.0.into()).as_str())
    }
}

impl FromStr for Hours {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        canonical_hundredths(text)
            .and_then(|hundredths| i32::try_from(hundredths).ok())
            .and_then(Self::from_hundredths)
            .ok_or(AmountError::Malformed)
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(hundredths(self.0.into()).as_str())
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_reads_only_its_canonical_form() {
        for text in ["0.00", "400.00", "999999.99", "12345678901234.56"] {
            assert_eq!(text.parse::<Amount>().unwrap().to_string(), text);
        }
        for text in ["", "400", "400.0", "400.000", "0400.00", "4,00", "+1.00", "1e2", ".00"] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError::Malformed), "{text}");
        }
        assert_eq!("-1.00".parse::<Amount>(), Err(AmountError::Negative));
    }

    #[test]
    fn oere_and_kroner_are_the_same_number() {
        let amount = Amount::from_oere(40_001).unwrap();
        assert_eq!((amount.to_string().as_str(), amount.oere()), ("400.01", 40_001));
        assert_eq!(Amount::from_oere(-1), Err(AmountError::Negative));
        assert_eq!(Amount::MAX_PAYMENT.to_string(), "999999.99");
        assert_eq!(Amount::MAX_TOTAL.to_string(), "999999999999.99");
    }

    #[test]
    fn hours_keep_their_hundredths() {
        assert_eq!("7.40".parse::<Hours>().unwrap().hundredths(), 740);
        assert_eq!(Hours::from_hundredths(740).unwrap().to_string(), "7.40");
        assert!(Hours::from_hundredths(0).is_none() && Hours::from_hundredths(100_000).is_none());
    }
}
