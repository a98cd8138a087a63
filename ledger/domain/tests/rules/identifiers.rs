//! N1-N6, W5: what is a number of its kind, and what a reference must not hold.

use frikort_domain::{
    Cpr, Cvr, FrikortId, MunicipalityCode, ProductionUnit, Reference, contains_cpr,
};

/// Birth years 1858-1880 only: no living person has such a number.
const NOBODY: &str = "0101605001";

fn is_cpr(text: &str) -> bool {
    text.parse::<Cpr>().is_ok()
}

/// Year of birth by the century table.
fn born(text: &str) -> i32 {
    text.parse::<Cpr>().expect("a CPR number").birth_date().expect("a real date").year()
}

#[test]
fn n1_a_number_that_fails_modulus_11_is_valid() {
    let weights = [4, 3, 2, 7, 6, 5, 4, 3, 2, 1];
    let sum: u32 = NOBODY.bytes().zip(weights).map(|(digit, w)| u32::from(digit - b'0') * w).sum();
    assert_ne!(sum % 11, 0, "the example fails the check, as the rule says");
    assert!(is_cpr(NOBODY));
}

#[test]
fn n1_30_february_is_no_date() {
    assert!(!is_cpr("3002605001"));
    assert!(!is_cpr("0000605001") && !is_cpr("0113605001") && !is_cpr("3104605001"));
}

#[test]
fn n1_29_february_exists_in_leap_years_only() {
    assert!(is_cpr("2902605001"), "1860");
    assert!(!is_cpr("2902615001"), "1861");
    assert!(!is_cpr("2902000001"), "1900 was no leap year");
    assert!(is_cpr("2902004001"), "2000 was one");
}

#[test]
fn n1_the_hyphen_is_optional_and_stands_after_six_digits() {
    assert_eq!("010160-5001".parse::<Cpr>(), NOBODY.parse::<Cpr>());
    for text in ["01016-05001", "0101605-001", "010160--5001", "010160-500", "010160 5001", "-"] {
        assert!(!is_cpr(text), "{text:?}");
    }
    for text in ["", "010160500", "01016050011", " 0101605001", "01016O5001", "０101605001"] {
        assert!(!is_cpr(text), "{text:?}");
    }
}

#[test]
fn n1_the_century_table() {
    for (year, seventh, expected) in [
        ("00", '0', 1900),
        ("99", '0', 1999),
        ("00", '3', 1900),
        ("99", '3', 1999),
        ("36", '4', 2036),
        ("37", '4', 1937),
        ("57", '5', 2057),
        ("58", '5', 1858),
        ("57", '8', 2057),
        ("58", '8', 1858),
        ("99", '8', 1899),
        ("00", '5', 2000),
        ("36", '9', 2036),
        ("37", '9', 1937),
    ] {
        assert_eq!(born(&format!("0101{year}{seventh}001")), expected, "{year} {seventh}");
    }
}

#[test]
fn n2_the_cvr_numbers_of_the_rules() {
    for text in ["13748136", "29189706", "29189692", "25048482"] {
        assert_eq!(text.parse::<Cvr>().expect("valid").to_string(), text);
    }
    for text in ["12345678", "13748137", "35254119"] {
        assert!(text.parse::<Cvr>().is_err(), "{text}");
    }
}

#[test]
fn n2_one_wrong_digit_is_always_found() {
    let right = "13748136";
    for at in 0..8 {
        for digit in '0'..='9' {
            let mut text = right.to_owned();
            text.replace_range(at..=at, &digit.to_string());
            assert_eq!(text.parse::<Cvr>().is_ok(), text == right, "{text}");
        }
    }
}

#[test]
fn n2_a_cvr_number_has_eight_digits() {
    for text in ["", "1374813", "137481360", " 13748136", "1374813x", "00000000", "+3748136"] {
        assert!(text.parse::<Cvr>().is_err(), "{text:?}");
    }
}

#[test]
fn n3_a_p_number_is_ten_digits_and_nothing_else() {
    for text in ["1001234567", "0000000000", "9999999999"] {
        assert_eq!(text.parse::<ProductionUnit>().expect("valid").to_string(), text);
    }
    for text in ["", "100123456", "10012345678", "100123456x"] {
        assert!(text.parse::<ProductionUnit>().is_err(), "{text:?}");
    }
}

#[test]
fn n4_a_frikort_id_is_five_digits_kept_as_text() {
    for text in ["00000", "00071", "99999"] {
        assert_eq!(text.parse::<FrikortId>().expect("valid").to_string(), text);
    }
    for text in ["", "71", "0071", "000071", "0007a"] {
        assert!(text.parse::<FrikortId>().is_err(), "{text:?}");
    }
}

/// The list as it stands in the rules.
const MUNICIPALITIES: &str = "101 147 151 153 155 157 159 161 163 165 167 169 173 175 183 185 187 \
    190 201 210 217 219 223 230 240 250 253 259 260 265 269 270 306 316 320 326 329 330 336 340 \
    350 360 370 376 390 400 410 420 430 440 450 461 479 480 482 492 510 530 540 550 561 563 573 \
    575 580 607 615 621 630 657 661 665 671 706 707 710 727 730 740 741 746 751 756 760 766 773 \
    779 787 791 810 813 820 825 840 846 849 851 860";

#[test]
fn n6_exactly_the_98_municipalities_have_a_code() {
    let codes: Vec<&str> = MUNICIPALITIES.split_whitespace().collect();
    assert_eq!(codes.len(), 98);
    for number in 0..1000 {
        let text = format!("{number:03}");
        let known = text.parse::<MunicipalityCode>().is_ok();
        assert_eq!(known, codes.contains(&text.as_str()), "{text}");
    }
    for text in ["", "0101", "1011", "10", "1O1"] {
        assert!(text.parse::<MunicipalityCode>().is_err(), "{text:?}");
    }
}

#[test]
fn n6_christiansoe_is_none() {
    assert!("411".parse::<MunicipalityCode>().is_err());
}

#[test]
fn w5_a_reference_that_holds_a_cpr_number_is_refused() {
    for text in [
        "0101605001",
        "010160-5001",
        "010160 5001",
        "løn 010160-5001",
        "løn/0101605001/marts",
        "(010160-5001)",
        "1,0101605001",
    ] {
        assert!(contains_cpr(text), "{text}");
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }
}

#[test]
fn w5_a_cpr_number_with_more_than_one_sign_between_its_parts_is_found_too() {
    for text in ["010160 - 5001", "010160--5001", "010160 -5001", "010160  5001", "010160/-5001"] {
        assert!(contains_cpr(text), "{text}");
    }
}

#[test]
fn w5_an_ordinary_reference_is_accepted() {
    for text in ["a", "løn marts 2025", "308-220320-1", "20220315001", "3002605001", "Æ/12_å"] {
        assert!(!contains_cpr(text), "{text}");
        assert_eq!(text.parse::<Reference>().expect("accepted").as_str(), text);
    }
    assert!("x".repeat(64).parse::<Reference>().is_ok());
    for text in ["", " a", "a ", "a\"b", "a\\b", "a\tb", "a\u{7f}"] {
        assert!(text.parse::<Reference>().is_err(), "{text:?}");
    }
    assert!("x".repeat(65).parse::<Reference>().is_err());
}

#[test]
fn w5_neither_debug_nor_an_error_shows_a_cpr_number() {
    let hidden = |text: &str| !text.contains("0101605001") && !text.contains("5001");
    assert!(hidden(&format!("{:?}", NOBODY.parse::<Cpr>())));
    assert!(hidden(&format!("{:?}", [Some(NOBODY.parse::<Cpr>())])));
    for wrong in ["0101605001x", "010160-50011"] {
        let error = wrong.parse::<Cpr>().expect_err("too long");
        assert!(hidden(&format!("{error} {error:?}")));
    }
    let error = "løn 010160-5001".parse::<Reference>().expect_err("it holds one");
    assert!(hidden(&format!("{error} {error:?}")));
    let error = NOBODY.parse::<Cvr>().expect_err("not a CVR number");
    assert!(hidden(&format!("{error} {error:?}")));
}
