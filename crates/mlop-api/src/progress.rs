//! Progress of a training: what its pod reports while it runs, and what of it a status shows.
//!
//! The agent prints one line with a [`Report`] into its log, again whenever something has changed. The operator reads the
//! last lines from time to time ([decision 14](../../../docs/decisions/0014-progress-is-read-from-the-agents-log.md)).

use crate::{Digest, Time, common::Metric, duration::Span, text::make_printable};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest line of a report in bytes.
pub const LINE_BYTES_MAX: usize = 1_024;
/// Most metrics of a report.
pub const METRICS_MAX: usize = 16;
/// Longest name of a metric in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest value of a metric in characters.
const VALUE_CHARS_MAX: usize = 32;
/// Most curves of a run.
const SERIES_MAX: usize = 4;
/// Most points of a curve.
const POINTS_MAX: usize = 64;
/// Largest number of steps: what a JSON number of any reader holds.
const STEP_MAX: u64 = 1 << 53;
/// The beginning of a line that is a report. JSON of others that has this member somewhere else is none.
const MARK: &str = "{\"mlopProgress\":";

/// What the agent of a training knows of its progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Estimated seconds until the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// The newest checkpoint that the store has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "mlopProgress")]
    report: Report,
}

impl Report {
    /// The report as one line, with as many metrics as it has room for.
    pub fn to_line(&self) -> String {
        let mut line = Line { report: self.clone().fitted() };
        loop {
            let json = serde_json::to_string(&line).unwrap_or_default();
            if json.len() <= LINE_BYTES_MAX || line.report.metrics.pop().is_none() {
                return json;
            }
        }
    }

    /// The last report in the end of a log. Lines that are none, or too long, do not count.
    pub fn last_of(log: &str) -> Option<Self> {
        let lines = log.lines().rev().filter(|line| line.len() <= LINE_BYTES_MAX && line.starts_with(MARK));
        let mut reports = lines.filter_map(|line| serde_json::from_str::<Line>(line).ok());
        reports.next().map(|line| line.report.fitted())
    }

    /// Whether user code has reported something.
    pub fn has_progress(&self) -> bool {
        self.step.is_some() || self.epoch.is_some() || !self.metrics.is_empty()
    }

    /// The report within the limits of a status, with text that can be written everywhere.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        for number in [&mut self.step, &mut self.of, &mut self.epoch] {
            *number = number.filter(|number| *number <= STEP_MAX);
        }
        for metric in &mut self.metrics {
            make_printable(&mut metric.name);
        }
        self.metrics.retain(|metric| {
            (1..=NAME_CHARS_MAX).contains(&metric.name.chars().count())
                && (1..=VALUE_CHARS_MAX).contains(&metric.value.chars().count())
                && (metric.value == "NaN" || !metric.number().is_nan())
        });
        self.metrics.truncate(METRICS_MAX);
        self
    }
}

/// Progress of an attempt of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Number of the attempt that has reported it.
    pub attempt: u32,
    /// Steps that are done, as the code counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Steps in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// `step` and `of` in one: `120/1000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub steps: Option<String>,
    /// Epoch, without its fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The last value of each metric, for example of `loss`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = METRICS_MAX))]
    pub metrics: Vec<Metric>,
    /// Estimated time from `at` to the last step, at the speed of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<Span>,
    /// When this was written (RFC 3339): at most every 15 seconds, and when the attempt ends.
    pub at: Time,
}

impl Progress {
    /// What a status shows of `report`, written at `at`.
    pub fn of(report: &Report, at: Time) -> Self {
        let Report { attempt, step, of, epoch, metrics, eta_seconds, checkpoint: _ } = report;
        let steps = step.map(|step| match of {
            Some(of) => format!("{step}/{of}"),
            None => step.to_string(),
        });
        let (step, of, epoch, metrics) = (*step, *of, *epoch, metrics.clone());
        Self { attempt: *attempt, step, of, steps, epoch, metrics, eta: eta_seconds.and_then(rounded), at }
    }

    /// Whether it shows what `report` says.
    pub fn shows(&self, report: &Report) -> bool {
        *self == Self::of(report, self.at)
    }
}

/// Seconds in a unit in which they have two digits or more. None is less than a second.
fn rounded(seconds: u64) -> Option<Span> {
    let whole = |unit: u64| u32::try_from(seconds.div_ceil(unit)).ok().filter(|count| *count <= 999_999);
    match seconds {
        0 => None,
        1..600 => whole(1).map(Span::seconds),
        600..36_000 => whole(60).map(Span::minutes),
        _ => whole(3_600).map(Span::hours),
    }
}

/// The course of one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Name of the metric.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    pub name: String,
    /// At most 64 points, each as its step (or epoch, if the code reports no steps) and its value, which `:` separates.
    #[schemars(length(max = 2048))]
    pub points: String,
}

impl Series {
    /// The points: step and value.
    pub fn parsed(&self) -> Vec<(u64, f64)> {
        let point = |text: &str| {
            let (step, value) = text.split_once(':')?;
            Some((step.parse().ok()?, value.parse().ok()?))
        };
        self.points.split(' ').filter_map(point).collect()
    }

    fn of(name: &str, points: &[(u64, f64)]) -> Self {
        let points: Vec<_> = points.iter().map(|(step, value)| format!("{step}:{}", short(*value))).collect();
        Self { name: name.to_owned(), points: points.join(" ") }
    }
}

/// A number with about four digits.
fn short(value: f64) -> String {
    let plain = format!("{value:.4}");
    let is_exact = value == 0.0 || (0.1..1e6).contains(&value.abs());
    if is_exact {
        plain.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.3e}")
    }
}

/// Adds the metrics of `report` to the curves of a run. A point of an earlier attempt that is not before the report is
/// dropped: the attempt has gone back to a checkpoint. Curves that are full lose the points that are closest together.
pub fn extend(series: &mut Vec<Series>, report: &Report) {
    let Some(step) = report.step.or(report.epoch) else { return };
    let mut finite: Vec<_> = report.metrics.iter().filter(|metric| metric.number().is_finite()).collect();
    // The one that everybody looks at has a curve, however many there are.
    finite.sort_by_key(|metric| metric.name != "loss");
    for metric in finite {
        let known = series.iter().position(|curve| curve.name == metric.name);
        let mut points = known.and_then(|at| series.get(at)).map(Series::parsed).unwrap_or_default();
        points.retain(|(before, _)| *before < step);
        points.push((step, metric.number()));
        thin(&mut points);
        let curve = Series::of(&metric.name, &points);
        if let Some(known) = known.and_then(|at| series.get_mut(at)) {
            *known = curve;
        } else if series.len() < SERIES_MAX {
            series.push(curve);
        }
    }
}

/// Drops inner points until [`POINTS_MAX`] are left: each time the one whose neighbours are closest together.
fn thin(points: &mut Vec<(u64, f64)>) {
    while points.len() > POINTS_MAX {
        let gaps = points.windows(3).enumerate().filter_map(|(at, three)| match three {
            [(before, _), _, (after, _)] => Some((after - before, at + 1)),
            _ => None,
        });
        let Some((_, closest)) = gaps.min() else { return };
        points.remove(closest);
    }
}

/// The newest complete checkpoint of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Number of the upload among those of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The step in the names of its files, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Where it lies: a tree of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub uri: Option<String>,
    /// Digest of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Size of its files in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was uploaded (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

impl Checkpoint {
    /// The number by which people know it: its step, or its sequence number.
    pub fn number(&self) -> Option<u64> {
        self.step.or(self.sequence)
    }
}

impl From<u64> for Checkpoint {
    /// One of which only the sequence number is known.
    fn from(number: u64) -> Self {
        Self { sequence: Some(number), ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    /// A pod of an earlier release reports a bare number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[derive(Default)]
        struct Whole {
            sequence: Option<u64>,
            step: Option<u64>,
            uri: Option<String>,
            digest: Option<Digest>,
            size: Option<u64>,
            at: Option<Time>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Whole(Whole),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Number(number) => number.into(),
            Form::Whole(Whole { sequence, step, uri, digest, size, at }) => {
                Self { sequence, step, uri, digest, size, at }
            }
        })
    }
}

#[cfg(test)]
mod tests;
