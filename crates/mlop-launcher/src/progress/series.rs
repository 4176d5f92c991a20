//! The whole series of an attempt, for the store.

use super::line::Reported;
use jiff::Timestamp;
use mlop_api::Time;
use serde_json::{Map, Value, json};

/// Most points. When they are reached, every second one is dropped, and from then on as many are left out.
const POINTS_MAX: usize = 20_000;
/// Most metrics of a point.
const METRICS_MAX: usize = 64;

/// The points of one attempt.
#[derive(Debug)]
pub(super) struct Record {
    points: Vec<Point>,
    /// One of this many reports is kept.
    every: usize,
    reports: usize,
    /// The last report, if it is not among the points.
    last: Option<Point>,
}

#[derive(Clone, Debug)]
struct Point {
    at: Timestamp,
    step: Option<u64>,
    epoch: Option<u64>,
    metrics: Vec<(Box<str>, f64)>,
}

impl Default for Record {
    fn default() -> Self {
        Self { points: Vec::new(), every: 1, reports: 0, last: None }
    }
}

impl Record {
    /// Adds a report that was seen at `at`.
    pub(super) fn add(&mut self, reported: &Reported, at: Timestamp) {
        let metrics = reported.metrics.iter().take(METRICS_MAX);
        let metrics = metrics.map(|metric| (metric.name.as_str().into(), metric.number())).collect();
        let point = Point { at, step: reported.step, epoch: reported.epoch, metrics };
        let is_kept = self.reports.is_multiple_of(self.every);
        self.reports += 1;
        if !is_kept {
            self.last = Some(point);
            return;
        }
        self.last = None;
        self.points.push(point);
        if self.points.len() >= POINTS_MAX {
            let mut place = 0;
            self.points.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// One JSON object a line; none if nothing was reported.
    pub(super) fn to_lines(&self) -> Option<String> {
        let points = self.points.iter().chain(&self.last);
        let lines: String = points.map(|point| point.to_json().to_string() + "\n").collect();
        Some(lines).filter(|lines| !lines.is_empty())
    }
}

impl Point {
    /// Numbers that JSON does not have are null.
    fn to_json(&self) -> Value {
        let mut row = Map::new();
        row.insert("at".to_owned(), json!(Time::from(self.at)));
        row.extend(self.step.map(|step| ("step".to_owned(), json!(step))));
        row.extend(self.epoch.map(|epoch| ("epoch".to_owned(), json!(epoch))));
        row.extend(self.metrics.iter().map(|(name, value)| (name.to_string(), json!(value))));
        row.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::common::Metric;

    fn report(step: u64, loss: f64) -> Reported {
        Reported { step: Some(step), metrics: vec![Metric::new("loss", loss)], ..Reported::default() }
    }

    #[test]
    fn series_is_one_object_a_line() {
        let mut record = Record::default();
        assert_eq!(record.to_lines(), None);
        record.add(&report(1, 0.5), Timestamp::UNIX_EPOCH);
        record.add(&report(2, f64::NAN), Timestamp::UNIX_EPOCH);
        let at = r#""at":"1970-01-01T00:00:00.000000Z""#;
        let want = format!("{{{at},\"loss\":0.5,\"step\":1}}\n{{{at},\"loss\":null,\"step\":2}}\n");
        assert_eq!(record.to_lines().unwrap(), want);
    }

    #[test]
    fn long_series_is_thinned_evenly_and_keeps_its_end() {
        let mut record = Record::default();
        let last = 10 * POINTS_MAX as u64 + 3;
        for step in 0..=last {
            record.add(&report(step, 0.5), Timestamp::UNIX_EPOCH);
        }
        assert!(record.points.len() < POINTS_MAX, "{}", record.points.len());
        let lines = record.to_lines().unwrap();
        let steps: Vec<u64> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert_eq!((steps[0], *steps.last().unwrap()), (0, last));
        assert!(steps.windows(2).all(|two| two[1] - two[0] <= record.every as u64), "{}", record.every);
    }
}
