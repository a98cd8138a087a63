//! Money and hours: exact, two decimals, never negative.

use std::{fmt, iter::Sum, ops::Add, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An amount in kroner with exactly two decimals, 0 or more.
///
/// On the wire it is whole øre, in records a decimal string (`"400.00"`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Decimal);

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
    pub const ZERO: Self = Self(Decimal::from_parts(0, 0, 0, false, 2));

    /// The largest amount of one payment: 999.999,99 kr. (P1).
    pub const MAX_PAYMENT: Self = Self(Decimal::from_parts(99_999_999, 0, 0, false, 2));

    /// The largest sum of one person's payments in one year that a table column can hold.
    pub const MAX_TOTAL: Self = Self(Decimal::from_parts(276_447_231, 23_283, 0, false, 2));

    /// From whole øre, 0 or more.
    pub fn from_oere(oere: i64) -> Result<Self, AmountError> {
        if oere < 0 { Err(AmountError::Negative) } else { Ok(Self(Decimal::new(oere, 2))) }
    }

    /// From a decimal with at most two decimals, 0 or more.
    pub fn from_decimal(mut decimal: Decimal) -> Result<Self, AmountError> {
        if decimal.is_sign_negative() && !decimal.is_zero() {
            return Err(AmountError::Negative);
        }
        if decimal.normalize().scale() > 2 {
            return Err(AmountError::Malformed);
        }
        decimal.rescale(2);
        Ok(Self(decimal.abs()))
    }

    /// Whole øre. Saturates, which no sum below [`Amount::MAX_TOTAL`] reaches.
    pub fn oere(self) -> i64 {
        i64::try_from(self.0.mantissa()).unwrap_or(i64::MAX)
    }

    /// The decimal, scale 2.
    pub fn decimal(self) -> Decimal {
        self.0
    }

    /// Whether it is 0,00.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// `self - other`, or zero where that would be negative.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        if other.0 >= self.0 { Self::ZERO } else { Self(self.0 - other.0) }
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
fn canonical_hundredths(text: &str) -> Option<Decimal> {
    let (whole, cents) = text.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits(whole)
        && digits(cents)
        && cents.len() == 2
        && whole.len() <= 16
        && (whole.len() == 1 || !whole.starts_with('0'));
    let hundredths = canonical.then(|| format!("{whole}{cents}"))?.parse().ok()?;
    Some(Decimal::new(hundredths, 2))
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl FromStr for Hours {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        canonical_hundredths(text)
            .and_then(|d| i32::try_from(d.mantissa()).ok())
            .and_then(Self::from_hundredths)
            .ok_or(AmountError::Malformed)
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
