//! Times in statuses.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{borrow::Cow, fmt};

/// A point in time in whole microseconds, written as RFC 3339 with exactly six decimals, so that times sort as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Timestamp);

impl Time {
    pub fn get(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for Time {
    /// Drops the nanoseconds.
    fn from(at: Timestamp) -> Self {
        Self(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<Timestamp>().map(Self::from).map_err(D::Error::custom)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "maxLength": 40})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn time_is_written_with_six_decimals() {
        for (text, want) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000Z"),
            ("2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.123456Z"),
            ("2026-01-01T01:00:00.5+01:00", "2026-01-01T00:00:00.500000Z"),
        ] {
            let time: Time = from_value(json!(text)).unwrap();
            assert_eq!(json!(time), json!(want));
            assert_eq!(from_value::<Time>(json!(want)).unwrap(), time);
        }
    }

    #[test]
    fn time_is_read_only_from_rfc_3339() {
        for bad in [json!(""), json!("yesterday"), json!("2026-01-01"), json!(7), json!(null)] {
            assert!(from_value::<Time>(bad.clone()).is_err(), "{bad}");
        }
    }
}
