//! How the numbers of a source are written.

use mlop_api::dataset::Csv;
use std::borrow::Cow;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub decimal: char,
    pub thousands: Option<char>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { decimal: '.', thousands: None }
    }
}

impl Numbers {
    pub fn new(csv: &Csv) -> Self {
        let first = |text: &str| text.chars().next();
        Self {
            decimal: first(&csv.decimal_separator).unwrap_or('.'),
            thousands: first(&csv.thousands_separator),
        }
    }

    /// `text` with a decimal point and without thousands separators.
    pub fn plain<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        if *self == Self::default() {
            return Some(Cow::Borrowed(text));
        }
        let (sign, unsigned) = text.split_at(usize::from(text.starts_with(['-', '+'])));
        let exponent = unsigned.find(['e', 'E']).unwrap_or(unsigned.len());
        let (mantissa, exponent) = unsigned.split_at(exponent);
        let (whole, fraction) = match mantissa.split_once(self.decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let groups: Vec<&str> = whole.split(|char| self.is_thousands(char)).collect();
        let is_grouped = groups.iter().enumerate().all(|(index, group)| {
            is_digits(group)
                && (groups.len() == 1 || group.len() == 3 || index == 0 && (1..3).contains(&group.len()))
        });
        if !is_grouped || !fraction.is_none_or(is_digits) {
            return None;
        }
        let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
        Some(Cow::Owned(format!("{sign}{}{fraction}{exponent}", groups.concat())))
    }

    fn is_thousands(&self, char: char) -> bool {
        self.thousands == Some(char)
            || self.thousands == Some(' ') && matches!(char, '\u{a0}' | '\u{202f}' | '\u{2009}')
    }
}
