//! Decimal numbers, exact to a fixed number of digits.

use mlop_api::dataset::Column;
use std::fmt;

/// Most digits of a decimal number.
pub const PRECISION_MAX: u8 = 38;

/// The digits that the values of a column have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// Digits in all.
    pub precision: u8,
    /// Digits behind the point.
    pub scale: u8,
}

/// A decimal number: a count of units, each of which is one of the last digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Decimal {
    pub units: i128,
    scale: u8,
}

impl Digits {
    /// The digits of `column`.
    pub fn of(column: &Column) -> Self {
        let precision = column.precision.unwrap_or(PRECISION_MAX).clamp(1, PRECISION_MAX);
        Self { precision, scale: column.scale.unwrap_or_default().min(precision) }
    }

    /// The number that `text` is, if it has no more digits than these. Zeros at its ends do not count.
    pub fn read(self, text: &str) -> Option<Decimal> {
        let (is_negative, unsigned) = match text.strip_prefix(['-', '+']) {
            Some(unsigned) => (text.starts_with('-'), unsigned),
            None => (false, text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let missing = usize::from(self.scale).checked_sub(fraction.len())?;
        let digits = format!("{whole}{fraction}{}", "0".repeat(missing));
        let digits = digits.trim_start_matches('0');
        if digits.len() > usize::from(self.precision) {
            return None;
        }
        let units: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        Some(Decimal { units: if is_negative { -units } else { units }, scale: self.scale })
    }

    /// The decimal number that equals `integer`.
    pub fn integer(self, integer: i64) -> Option<Decimal> {
        self.read(&integer.to_string())
    }
}

impl Decimal {
    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let digits = format!("{:0>width$}", self.units.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.units < 0 { "-" } else { "" };
        match fraction {
            "" => write!(f, "{sign}{whole}"),
            fraction => write!(f, "{sign}{whole}.{fraction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_or_not_at_all() {
        let digits = Digits { precision: 5, scale: 2 };
        let rows = [
            ("0", Some("0.00")),
            ("-0.00", Some("0.00")),
            ("1.5", Some("1.50")),
            ("+1.50", Some("1.50")),
            ("-123.45", Some("-123.45")),
            ("0123.450", Some("123.45")),
            (".5", Some("0.50")),
            ("5.", Some("5.00")),
            ("999.99", Some("999.99")),
            // More digits than the column has.
            ("1000", None),
            ("0.005", None),
            // Not a decimal number.
            ("", None),
            (".", None),
            ("-", None),
            ("--1", None),
            ("1e2", None),
            ("1,5", None),
            ("NaN", None),
            ("٣", None),
        ];
        for (text, expected) in rows {
            let read = digits.read(text).map(|number| number.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn all_38_digits_are_kept() {
        let digits = Digits { precision: 38, scale: 38 };
        for text in [format!("0.{}", "9".repeat(38)), format!("-0.{}1", "0".repeat(37))] {
            assert_eq!(digits.read(&text).unwrap().to_string(), text);
        }
        assert_eq!(digits.read("1"), None);
        assert_eq!(
            Digits { precision: 38, scale: 0 }.integer(i64::MIN).unwrap().to_string(),
            i64::MIN.to_string()
        );
    }
}
