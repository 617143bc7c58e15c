//! Exact numbers: quantities and money are fractions until the one rounding of their line.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One as _, Signed as _, Zero as _};

/// A number without any rounding.
pub type Exact = BigRational;

/// Most digits of a decimal that is read: far more than any price has, and few enough that no
/// arithmetic on it takes long.
pub const MAX_DIGITS: usize = 30;

/// The decimal that `text` spells: digits, and behind a point more digits. No exponent, no sign
/// but `-`, at most [`MAX_DIGITS`] digits.
pub fn decimal(text: &str) -> Option<Exact> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, places) = match unsigned.split_once('.') {
        Some((whole, places)) if !places.is_empty() => (whole, places),
        Some(_) => return None,
        None => (unsigned, ""),
    };
    let digits = format!("{whole}{places}");
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits || digits.len() > MAX_DIGITS {
        return None;
    }
    let numerator: BigInt = digits.parse().ok()?;
    let number = Exact::new(numerator, power_of_ten(places.len()));
    Some(if negative { -number } else { number })
}

/// A whole number.
pub fn whole(number: impl Into<BigInt>) -> Exact {
    Exact::from_integer(number.into())
}

/// `part` of `of` equal parts; `of` is not zero.
pub fn fraction(part: impl Into<BigInt>, of: impl Into<BigInt>) -> Exact {
    Exact::new(part.into(), of.into())
}

/// The nearest number with `places` digits behind the point; halves go away from zero.
pub fn rounded(number: &Exact, places: u32) -> Exact {
    scaled(number, places, |scaled| scaled.round())
}

/// `step`, such as `ceil`, on the digit `places` behind the point.
pub fn scaled(number: &Exact, places: u32, step: impl FnOnce(&Exact) -> Exact) -> Exact {
    let scale = whole(power_of_ten(places as usize));
    step(&(number * &scale)) / scale
}

/// The number in full: a decimal, or a fraction `1/3` when no decimal ends.
pub fn text(number: &Exact) -> String {
    match decimal_places(number) {
        Some(places) => fixed(number, places),
        None => format!("{}/{}", number.numer(), number.denom()),
    }
}

/// The number that [`text`] shows so.
pub fn parse(text: &str) -> Option<Exact> {
    let Some((numerator, denominator)) = text.split_once('/') else {
        return decimal(text).or_else(|| long_decimal(text));
    };
    let denominator: BigInt = denominator.parse().ok()?;
    (denominator.is_positive()).then_some(())?;
    Some(Exact::new(numerator.parse().ok()?, denominator))
}

/// A decimal of any length, as [`text`] shows what arithmetic made.
fn long_decimal(text: &str) -> Option<Exact> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{whole}{places}").parse().ok()?;
    Some(Exact::new(digits, power_of_ten(places.len())))
}

/// The number rounded to `places` digits behind the point, all of them shown.
pub fn fixed(number: &Exact, places: u32) -> String {
    let scale = power_of_ten(places as usize);
    let scaled = (number * Exact::from_integer(scale)).round().to_integer();
    let sign = if scaled.is_negative() { "-" } else { "" };
    let digits = scaled.abs().to_string();
    let places = places as usize;
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, behind) = digits.split_at(digits.len() - places);
    if behind.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{behind}") }
}

/// The number rounded to at most `places` digits behind the point, without zeros at the end.
pub fn short(number: &Exact, places: u32) -> String {
    let shown = fixed(number, places);
    match shown.contains('.') {
        true => shown.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => shown,
    }
}

/// The digits behind the point of a decimal that ends.
fn decimal_places(number: &Exact) -> Option<u32> {
    let mut denominator = number.denom().clone();
    let mut places = [0, 0];
    for (count, factor) in places.iter_mut().zip([2, 5]) {
        let factor = BigInt::from(factor);
        while (&denominator % &factor).is_zero() {
            denominator /= &factor;
            *count += 1;
        }
    }
    denominator.is_one().then(|| places[0].max(places[1]))
}

fn power_of_ten(places: usize) -> BigInt {
    num_traits::pow(BigInt::from(10), places)
}

/// How serde writes exact numbers: as text, the way [`text`] shows them.
pub mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Exact;

    /// Writes the text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(number: &Exact, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text(number))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// It is no number.
    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Exact, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a number")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_to_the_last_digit() {
        for (text, shown) in [("0.02", "0.02"), ("-1.50", "-1.5"), ("007", "7"), ("0.125", "0.125")]
        {
            assert_eq!(super::text(&decimal(text).unwrap()), shown);
        }
        let long = "1".repeat(MAX_DIGITS);
        assert!(decimal(&long).is_some());
        for bad in
            ["", ".", "1.", ".5", "+1", "--1", "1e3", "1_000", "1,5", "٣", &format!("{long}1")]
        {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn halves_go_away_from_zero() {
        for (text, shown) in
            [("1.005", "1.01"), ("-1.005", "-1.01"), ("1.0049", "1.00"), ("100.025", "100.03")]
        {
            let number = decimal(text).unwrap();
            assert_eq!(fixed(&rounded(&number, 2), 2), shown);
            assert_eq!(fixed(&number, 2), shown);
        }
        assert_eq!(fixed(&decimal("-0.004").unwrap(), 2), "0.00");
        assert_eq!(fixed(&decimal("-0.5").unwrap(), 0), "-1");
        assert_eq!(short(&fraction(26, 31), 4), "0.8387");
        assert_eq!(short(&whole(1000), 4), "1000");
    }

    #[test]
    fn a_decimal_without_an_end_is_a_fraction() {
        assert_eq!(text(&fraction(26, 31)), "26/31");
        assert_eq!(text(&fraction(-1, 3)), "-1/3");
        assert_eq!(text(&fraction(1, 1024)), "0.0009765625");
        for bad in ["1/0", "1/-3", "a/b", "1/", "/1", "1.2.3", ""] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_is_read(numerator: i64, denominator in 1i64..) {
            let number = fraction(numerator, denominator);
            prop_assert_eq!(parse(&text(&number)), Some(number));
        }

        #[test]
        fn noise_is_no_number(noise in ".{0,40}") {
            drop((decimal(&noise), parse(&noise)));
        }
    }
}
