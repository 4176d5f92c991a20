//! The rules for all rows of a version together.

use super::value::{Value, display};
use crate::text;
use jiff::Timestamp;
use mlop_api::{
    Reason,
    dataset::{Freshness, Rules},
    result::Failure,
};

/// Microseconds of a second, and of a day.
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The figures of a version that the rules bound.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Accepted rows.
    pub rows: u64,
    /// Rows of the version in use.
    pub previous: Option<u64>,
    /// Greatest value of the column of `freshness`.
    pub newest: Option<Value>,
    pub now: Timestamp,
}

impl Volume {
    /// Judges the version by `rules`.
    ///
    /// # Errors
    /// [`Reason::RuleViolated`], terminal, with the rule, the count, and the fields to change.
    pub fn check(&self, rules: &Rules) -> Result<(), Failure> {
        let broken = self
            .too_few(rules.min_rows)
            .or_else(|| self.changed(rules.max_row_change.as_deref()))
            .or_else(|| self.stale(rules.freshness.as_ref()));
        match broken {
            None => Ok(()),
            Some(what) => Err(Failure::terminal(
                Reason::RuleViolated,
                format!("{what}; upload the whole data, or change the rule. The version in use stays"),
            )),
        }
    }

    /// The time of the newest row in seconds since 1970, if the column of `freshness` has one.
    pub fn newest_second(&self) -> Option<i64> {
        self.newest_micros().map(|micros| micros.div_euclid(SECOND))
    }

    fn newest_micros(&self) -> Option<i64> {
        match self.newest? {
            Value::Timestamp(micros) => Some(micros),
            Value::Date(days) => Some(i64::from(days) * DAY),
            _ => None,
        }
    }

    fn too_few(&self, min_rows: Option<i64>) -> Option<String> {
        let least = u64::try_from(min_rows.unwrap_or(1)).unwrap_or_default();
        (self.rows < least).then(|| {
            format!(
                "the source has {}, fewer than rules.minRows {least}",
                text::count(self.rows, "valid row")
            )
        })
    }

    fn changed(&self, max_row_change: Option<&str>) -> Option<String> {
        let max: f64 = max_row_change?.parse().ok()?;
        let previous = self.previous.filter(|rows| *rows > 0)?;
        let change = self.rows.abs_diff(previous) as f64 / previous as f64;
        (change > max).then(|| {
            format!(
                "the source has {}, the version in use {}: a change of {change:.3}, more than rules.maxRowChange {max}",
                text::count(self.rows, "row"),
                text::thousands(previous),
            )
        })
    }

    fn stale(&self, freshness: Option<&Freshness>) -> Option<String> {
        let Freshness { column, max_age } = freshness?;
        let Some(micros) = self.newest_micros() else {
            return Some(format!("rules.freshness: column {column} has no time at all"));
        };
        let age = self.now.as_microsecond() - micros;
        (age > i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX).saturating_mul(SECOND)).then(|| {
            let newest = display(Value::Timestamp(micros));
            format!("the newest {column} is {newest}, older than rules.freshness.maxAge {max_age}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::duration::Span;

    fn volume(rows: u64, previous: Option<u64>) -> Volume {
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        Volume { rows, previous, newest: None, now }
    }

    #[track_caller]
    fn check(volume: Volume, rules: &Rules, told: Option<&str>) {
        let broken = volume.check(rules).err().map(|failure| failure.message);
        match told {
            None => assert_eq!(broken, None),
            Some(told) => assert!(broken.as_ref().is_some_and(|text| text.contains(told)), "{broken:?}"),
        }
    }

    #[test]
    fn empty_version_is_refused_by_default() {
        check(volume(0, None), &Rules::default(), Some("0 valid rows, fewer than rules.minRows 1"));
        check(volume(1, Some(1_000)), &Rules::default(), None);
        check(volume(0, None), &Rules { min_rows: Some(0), ..Rules::default() }, None);
        check(volume(9, None), &Rules { min_rows: Some(10), ..Rules::default() }, Some("minRows 10"));
    }

    #[test]
    fn changes_are_measured_against_the_version_in_use() {
        let rules = Rules { max_row_change: Some("0.5".into()), ..Rules::default() };
        for (rows, previous, is_broken) in [
            (50, Some(100), false),
            (49, Some(100), true),
            (150, Some(100), false),
            (151, Some(100), true),
            (1, None, false),
            (9, Some(0), false),
        ] {
            check(volume(rows, previous), &rules, is_broken.then_some("rules.maxRowChange 0.5"));
        }
    }

    #[test]
    fn newest_row_must_be_recent() {
        let freshness = Freshness { column: "at".into(), max_age: Span::hours(24) };
        let rules = Rules { freshness: Some(freshness), ..Rules::default() };
        let newest = |value| Volume { newest: value, ..volume(1, None) };
        let hours = |hours: i64| {
            newest(Some(Value::Timestamp(volume(1, None).now.as_microsecond() - hours * 3_600 * SECOND)))
        };
        check(hours(24), &rules, None);
        check(hours(-5), &rules, None);
        check(hours(25), &rules, Some("the newest at is 2026-02-28T09:00:00Z, older than"));
        check(newest(Some(Value::Date(20_513))), &rules, None);
        check(newest(None), &rules, Some("no time at all"));
    }
}
