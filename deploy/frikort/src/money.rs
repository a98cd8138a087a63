//! Amounts as text: `20.000,00 kr.` for people in Denmark (N7), `20000.00` for programs. What
//! must stay out: arithmetic.

/// `2000000` → `20.000,00 kr.`
pub(crate) fn danish(oere: i64) -> String {
    let sign = if oere < 0 { "-" } else { "" };
    let kroner = (oere.unsigned_abs() / 100).to_string();
    let mut grouped = String::new();
    for (index, digit) in kroner.chars().enumerate() {
        if index > 0 && (kroner.len() - index).is_multiple_of(3) {
            grouped.push('.');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped},{:02} kr.", oere.unsigned_abs() % 100)
}

/// `2000000` → `20000.00`
pub(crate) fn plain(oere: i64) -> String {
    let sign = if oere < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", oere.unsigned_abs() / 100, oere.unsigned_abs() % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n7_danish_display() {
        assert_eq!(danish(2_000_000), "20.000,00 kr.");
        assert_eq!(danish(5), "0,05 kr.");
        assert_eq!(danish(99_999), "999,99 kr.");
        assert_eq!(danish(123_456_789), "1.234.567,89 kr.");
        assert_eq!(danish(-100_000), "-1.000,00 kr.");
    }

    #[test]
    fn programs_get_two_decimals() {
        assert_eq!(plain(2_000_005), "20000.05");
        assert_eq!(plain(0), "0.00");
    }
}
