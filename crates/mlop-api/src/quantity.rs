//! Amounts of resources in Kubernetes' notation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr};

const BILLION: i128 = 1_000_000_000;

/// An amount such as `500m`, `2` or `1.5Gi`. It compares by value and is written as the text that was read; a whole number
/// may also be a number in JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Quantity {
    text: String,
    /// The amount in billionths, which is the finest that the API server stores.
    billionths: i128,
}

/// A text that is not a quantity.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a quantity: want a number with an optional unit, such as 500m or 1.5Gi")]
pub struct InvalidQuantity(String);

impl Quantity {
    pub fn units(number: u32) -> Self {
        Self { text: number.to_string(), billionths: i128::from(number) * BILLION }
    }

    pub fn milli(number: u32) -> Self {
        Self { text: format!("{number}m"), billionths: i128::from(number) * (BILLION / 1_000) }
    }

    pub fn mebi(number: u32) -> Self {
        Self { text: format!("{number}Mi"), billionths: (i128::from(number) << 20) * BILLION }
    }

    pub fn gibi(number: u32) -> Self {
        Self { text: format!("{number}Gi"), billionths: (i128::from(number) << 30) * BILLION }
    }

    /// The amount in billionths, the finest part that the API server stores.
    pub fn billionths(&self) -> i128 {
        self.billionths
    }

    /// The quantity of so many billionths, in the largest unit that needs no fraction: `1500m`, `4`, `64Gi`.
    pub fn of_billionths(billionths: i128) -> Self {
        let is_whole = |unit: i128| billionths % unit == 0;
        let written = |unit: i128, suffix: &str| format!("{}{suffix}", billionths / unit);
        let binary = [("Ti", 40), ("Gi", 30), ("Mi", 20)].map(|(suffix, power)| (suffix, BILLION << power));
        let large = binary.into_iter().find(|(_, unit)| billionths >= *unit && is_whole(*unit));
        let text = match large {
            Some((suffix, unit)) => written(unit, suffix),
            None if is_whole(BILLION) => written(BILLION, ""),
            None if is_whole(BILLION / 1_000) => written(BILLION / 1_000, "m"),
            None => written(1, "n"),
        };
        Self { text, billionths }
    }

    /// A share of the amount in whole units, such as bytes, rounded down.
    pub fn percent(&self, percent: u8) -> u64 {
        let share = self.billionths.saturating_mul(i128::from(percent)) / (100 * BILLION);
        u64::try_from(share.max(0)).unwrap_or(u64::MAX)
    }
}

/// The amount of `text` in billionths.
fn billionths(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (scale, exponent): (i128, i32) = match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    let scaled = digits.checked_mul(scale)?;
    if shift >= 0 {
        scaled.checked_mul(power)
    } else {
        // The API server rounds up.
        Some(scaled.checked_add(power - 1)?.div_euclid(power))
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        Self::try_from(text.to_owned())
    }
}

/// A quantity as objects have it: people write `cpu: 2` as often as `cpu: "2"`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl TryFrom<Written> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(written: Written) -> Result<Self, InvalidQuantity> {
        written.into_text().try_into()
    }
}

impl TryFrom<String> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(text: String) -> Result<Self, InvalidQuantity> {
        match billionths(&text) {
            Some(billionths) => Ok(Self { text, billionths }),
            None => Err(InvalidQuantity(text)),
        }
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.text
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.billionths == other.billionths
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.billionths.cmp(&other.billionths)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A field bounds its length and form.
impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"x-kubernetes-int-or-string": true, "minimum": 1})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn quantity_compares_by_value_and_keeps_its_text() {
        assert_eq!(quantity("1024Mi"), Quantity::gibi(1));
        assert_eq!(quantity("0.5"), Quantity::milli(500));
        assert_eq!(quantity("1000m"), Quantity::units(1));
        assert_eq!(quantity("1048576Ki"), Quantity::mebi(1024));
        assert!(quantity("1G") < quantity("1Gi"));
        for text in ["1024Mi", "0.5", "1.5e3"] {
            assert_eq!(json!(from_value::<Quantity>(json!(text)).unwrap()), json!(text));
        }
        assert_eq!(json!(from_value::<Quantity>(json!(2)).unwrap()), json!("2"));
        for made in [Quantity::units(2), Quantity::milli(50), Quantity::mebi(64), Quantity::gibi(2)] {
            assert_eq!(quantity(&made.to_string()), made);
        }
    }

    #[test]
    fn sum_is_written_in_the_largest_whole_unit() {
        for text in ["0", "250m", "4", "64Gi", "1Ti", "1536Mi", "1n", "1000"] {
            assert_eq!(Quantity::of_billionths(quantity(text).billionths()).to_string(), text);
        }
        assert_eq!(Quantity::of_billionths(quantity("1.5Gi").billionths()).to_string(), "1536Mi");
    }

    #[test]
    fn percent_is_counted_in_whole_units() {
        for (text, bytes) in [("1000", 600), ("1Gi", 644_245_094), ("1.5G", 900_000_000), ("500m", 0)] {
            assert_eq!(quantity(text).percent(60), bytes, "{text}");
        }
    }

    #[test]
    fn text_is_refused_when_it_is_not_an_amount() {
        for bad in [json!(1.5), json!(-1), json!(null)] {
            assert!(from_value::<Quantity>(bad.clone()).is_err(), "{bad}");
        }
        for bad in ["", "x", "Gi", "1 Gi", "1Gib", "1e999", "1.2.3", "ä"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }
}
