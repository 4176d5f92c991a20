//! What clients get, in Feast's form: one result for each column.

use super::request::{Key, Wanted};
use crate::feast::Value;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Answer {
    pub metadata: Metadata,
    /// In the order of the metadata's names.
    pub results: Vec<Column>,
}

#[derive(Debug, Serialize)]
pub struct Metadata {
    pub feature_names: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Column {
    pub values: Vec<Value>,
    pub statuses: Vec<Status>,
    pub event_timestamps: Vec<Timestamp>,
}

/// How a value is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Present,
    /// The entity has no row.
    NotFound,
    /// The entity's row has no value.
    NullValue,
    /// The row is older than the view's ttl; its value is told nevertheless.
    OutsideMaxAge,
}

impl Status {
    pub const ALL: [Self; 4] = [Self::Present, Self::NotFound, Self::NullValue, Self::OutsideMaxAge];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::NotFound => "NOT_FOUND",
            Self::NullValue => "NULL_VALUE",
            Self::OutsideMaxAge => "OUTSIDE_MAX_AGE",
        }
    }
}

impl Column {
    /// An entity column with the keys of the request.
    pub fn of_keys(keys: &[Key]) -> Self {
        let value = |key: &Key| match key {
            Key::Number(number) => Value::Int64(*number),
            Key::Text(text) => Value::Text(text.clone()),
        };
        Self {
            values: keys.iter().map(value).collect(),
            statuses: vec![Status::Present; keys.len()],
            event_timestamps: vec![Timestamp::UNIX_EPOCH; keys.len()],
        }
    }

    /// Adds the value of one row; `time` is none if there is no such row.
    pub fn push(&mut self, value: Value, time: Option<Timestamp>, ttl_seconds: Option<u64>, now: Timestamp) {
        self.statuses.push(status(&value, time, ttl_seconds, now));
        self.values.push(value);
        self.event_timestamps.push(time.unwrap_or(Timestamp::UNIX_EPOCH));
    }
}

fn status(value: &Value, time: Option<Timestamp>, ttl_seconds: Option<u64>, now: Timestamp) -> Status {
    let Some(time) = time else { return Status::NotFound };
    let ttl = ttl_seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(SignedDuration::from_secs);
    if ttl.is_some_and(|ttl| now.duration_since(time) > ttl) {
        return Status::OutsideMaxAge;
    }
    if *value == Value::Null { Status::NullValue } else { Status::Present }
}

impl Answer {
    /// An answer to `wanted` with the entity columns; the features follow.
    pub fn with_entities(wanted: &Wanted) -> Self {
        Self {
            metadata: Metadata { feature_names: wanted.entities.keys().cloned().collect() },
            results: wanted.entities.values().map(|keys| Column::of_keys(keys)).collect(),
        }
    }

    pub fn push(&mut self, name: &str, column: Column) {
        self.metadata.feature_names.push(name.to_owned());
        self.results.push(column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_row_age_and_value() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let ago = |seconds| Some(now - SignedDuration::from_secs(seconds));
        let value = Value::Int64(1);
        for (value, time, ttl, expected) in [
            (&Value::Null, None, None, Status::NotFound),
            (&Value::Null, None, Some(1), Status::NotFound),
            (&value, ago(0), None, Status::Present),
            (&value, ago(1_000_000), None, Status::Present),
            (&value, ago(60), Some(60), Status::Present),
            (&value, ago(61), Some(60), Status::OutsideMaxAge),
            (&value, ago(-61), Some(60), Status::Present),
            (&Value::Null, ago(61), Some(60), Status::OutsideMaxAge),
            (&Value::Null, ago(0), Some(60), Status::NullValue),
            (&value, ago(61), Some(u64::MAX), Status::Present),
        ] {
            assert_eq!(status(value, time, ttl, now), expected, "{value:?} {time:?} {ttl:?}");
        }
    }

    #[test]
    fn statuses_are_written_as_feast_does() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
