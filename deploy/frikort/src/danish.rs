//! Numbers and dates as people in Denmark write them, beside the forms of our own files. The two
//! cannot be mistaken for each other: the decimals are always two, and the year always four
//! digits. What must stay out: what a number means.

use frikort_domain::parse_date;
use time::Date;

/// `1.234,50` and `1234,50` as `1234.50`; any other text as it is.
pub(crate) fn number(text: &str) -> String {
    let Some((whole, decimals)) = text.split_once(',') else { return text.to_owned() };
    let groups: Vec<_> = whole.split('.').collect();
    let sound = match groups.as_slice() {
        [_] => true,
        [first, rest @ ..] => {
            (1..=3).contains(&first.len()) && rest.iter().all(|group| group.len() == 3)
        }
        [] => false,
    };
    if sound { format!("{}.{decimals}", groups.concat()) } else { text.to_owned() }
}

/// The day of `2025-01-31` or `31-01-2025`.
pub(crate) fn date(text: &str) -> Option<Date> {
    match text.split('-').collect::<Vec<_>>().as_slice() {
        [day, month, year] if year.len() == 4 => parse_date(&format!("{year}-{month}-{day}")),
        _ => parse_date(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn n7_danish_numbers_are_read_and_nothing_is_guessed() {
        for (text, plain) in [
            ("1.234,50", "1234.50"),
            ("1234,50", "1234.50"),
            ("1.234.567,89", "1234567.89"),
            ("0,05", "0.05"),
            ("538.31", "538.31"),
            // Neither form: left as they are, for the parser of amounts to refuse.
            ("1,234.50", "1.234.50"),
            ("12.34,50", "12.34,50"),
            ("1.2345,00", "1.2345,00"),
            (".234,50", ".234,50"),
            ("1.234", "1.234"),
        ] {
            assert_eq!(number(text), plain, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_both_orders() {
        assert_eq!(date("31-01-2025"), Some(date!(2025 - 01 - 31)));
        assert_eq!(date("2025-01-31"), Some(date!(2025 - 01 - 31)));
        for text in ["01-31-2025", "31-1-2025", "31-01-25", "31.01.2025", "29-02-2023", "2025-31"] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
