//! CPR numbers where they must not be (W5): the numbers that tests use, found in any text.

/// Where a CPR number of a test's persons, who are born 1858 to 1880, stands in a text: ten digits, or
/// six and four with a hyphen or a space between, and no letter or digit beside them.
pub fn find_cpr(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|&at| {
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        begins && is_cpr(&bytes[at..])
    })
}

/// Whether a text begins with one.
fn is_cpr(text: &[u8]) -> bool {
    let divided = matches!(text.get(6), Some(b'-' | b' '));
    let length = if divided { 11 } else { 10 };
    let Some(number) = text.get(..length) else { return false };
    if text.get(length).is_some_and(u8::is_ascii_alphanumeric) {
        return false;
    }
    let digits: Vec<u8> = number.iter().copied().filter(u8::is_ascii_digit).collect();
    let two = |at: usize| (digits[at] - b'0') * 10 + digits[at + 1] - b'0';
    digits.len() == 10
        && (1..=31).contains(&two(0))
        && (1..=12).contains(&two(2))
        && (58..=80).contains(&two(4))
        && (b'5'..=b'8').contains(&digits[6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::cpr;

    #[test]
    fn a_number_is_found_however_it_is_written() {
        for number in (0..20_000).step_by(777).map(cpr) {
            let (day, rest) = number.split_at(6);
            for form in [number.clone(), format!("{day}-{rest}"), format!("{day} {rest}")] {
                assert_eq!(find_cpr(&form), Some(0));
                assert_eq!(find_cpr(&format!("person=\"{form}\", x")), Some(8), "{form}");
            }
            assert_eq!(find_cpr(&format!("4{number}")), None);
            assert_eq!(find_cpr(&format!("a{number}")), None);
        }
        assert_eq!(find_cpr("2026-11-26T13:12:48.123456Z 13748136 0102030405"), None);
    }
}
