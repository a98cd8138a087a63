//! Short texts of digits without an allocation: dates, instants, amounts. They are most of a
//! record, and records are written for every event.

use std::str;

/// A text of at most `N` ASCII characters.
#[derive(Clone, Copy)]
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Adds a character; what has no room is left out, which no caller of ours reaches.
    pub(crate) fn push(mut self, character: u8) -> Self {
        debug_assert!(character.is_ascii() && self.length < N);
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = character;
            self.length += 1;
        }
        self
    }

    /// Adds a number with at least `width` digits.
    pub(crate) fn number(mut self, number: u64, width: usize) -> Self {
        const LONGEST: usize = 20;
        let mut reversed = [b'0'; LONGEST];
        let (mut rest, mut length) = (number, 0);
        for place in &mut reversed {
            if rest == 0 && length >= width {
                break;
            }
            *place = b"0123456789"[usize::try_from(rest % 10).unwrap_or_default()];
            rest /= 10;
            length += 1;
        }
        for digit in reversed.iter().take(length).rev() {
            self = self.push(*digit);
        }
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        let written = self.bytes.get(..self.length).unwrap_or_default();
        str::from_utf8(written).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn numbers_have_at_least_their_width() {
        let text = |number, width| Text::<24>::new().number(number, width).as_str().to_owned();
        assert_eq!(text(0, 1), "0");
        assert_eq!(text(0, 2), "00");
        assert_eq!(text(7, 2), "07");
        assert_eq!(text(123, 2), "123");
        assert_eq!(text(u64::MAX, 1), u64::MAX.to_string());
        assert_eq!(text(5, 20), format!("{:020}", 5));
    }
}
