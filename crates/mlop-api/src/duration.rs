//! Durations and quantities as users write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, time::Duration};

/// A positive whole number and a unit: `30s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// A text that is not a [`Span`].
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a duration: want a number of 1 to 6 digits and one of s, m, h, d, for example 30s or 1h"
)]
pub struct InvalidSpan(String);

impl Span {
    pub const fn seconds(count: u32) -> Self {
        Self { count, unit: Unit::Second }
    }
    pub const fn minutes(count: u32) -> Self {
        Self { count, unit: Unit::Minute }
    }
    pub const fn hours(count: u32) -> Self {
        Self { count, unit: Unit::Hour }
    }

    pub fn as_secs(self) -> u64 {
        u64::from(self.count)
            * match self.unit {
                Unit::Second => 1,
                Unit::Minute => 60,
                Unit::Hour => 3_600,
                Unit::Day => 86_400,
            }
    }

    pub fn as_duration(self) -> Duration {
        Duration::from_secs(self.as_secs())
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        let parse = || {
            let unit = match text.chars().last()? {
                's' => Unit::Second,
                'm' => Unit::Minute,
                'h' => Unit::Hour,
                'd' => Unit::Day,
                _ => return None,
            };
            let digits = text.get(..text.len() - 1)?;
            let plain = (1..=6).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0');
            plain.then(|| digits.parse().ok()).flatten().map(|count| Self { count, unit })
        };
        parse().ok_or_else(|| InvalidSpan(text.clone()))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
            Unit::Day => 'd',
        };
        write!(f, "{}{unit}", self.count)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[1-9][0-9]{0,5}(s|m|h|d)$", "maxLength": 7})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_reads_back_as_written() {
        for (text, seconds) in [("1s", 1), ("90m", 5_400), ("24h", 86_400), ("7d", 604_800)] {
            let span = Span::try_from(text.to_owned()).unwrap();
            assert_eq!((span.as_secs(), span.to_string().as_str()), (seconds, text));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in ["", "s", "0s", "01s", "1", "1.5h", "1w", "-1s", "1000000s", "1é"] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
