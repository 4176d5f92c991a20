//! The course of a training's metrics, as its status has it.

mod html;
mod text;

use crate::{
    names,
    output::clean,
    snapshot::{Object, Snapshot},
};
use anyhow::{Result, bail};
use mlop_api::progress::Progress;
use serde::Serialize;

pub use html::html;
pub use text::text;

/// The curves of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Plot {
    pub run: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    pub curves: Vec<Curve>,
}

/// The course of one metric: its points by step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    pub metric: String,
    pub points: Vec<(u64, f64)>,
}

/// Least and largest step and value of the points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    steps: (u64, u64),
    values: (f64, f64),
}

impl Plot {
    /// The curves of the object or run `name`: of its newest run that has any, and of one `metric` or all.
    ///
    /// # Errors
    /// When there is no such object, or nothing to plot.
    pub fn of(snapshot: &Snapshot, name: &str, metric: Option<&str>) -> Result<Self> {
        let found = names::candidates(snapshot, name)?;
        let runs = found.iter().flat_map(|object| {
            let is_run = object.intent().is_some();
            if is_run { vec![*object] } else { snapshot.runs_of(&object.id) }
        });
        let Some(run) = runs.into_iter().find(|run| !run.status.series.is_empty()) else {
            bail!(
                "no run of {name} has reported metrics with their steps; a training appends lines such as \
                 {{\"step\": 1, \"loss\": 0.5}} to $MLOP_PROGRESS"
            );
        };
        Self::of_run(run, metric)
    }

    fn of_run(run: &Object, metric: Option<&str>) -> Result<Self> {
        let series = run.status.series.iter().filter(|series| metric.is_none_or(|name| series.name == name));
        let curves: Vec<_> = series
            .map(|series| Curve { metric: clean(&series.name), points: series.parsed() })
            .filter(|curve| !curve.points.is_empty())
            .collect();
        if curves.is_empty() {
            let names: Vec<_> = run.status.series.iter().map(|series| clean(&series.name)).collect();
            bail!("run {} has no curve of this metric; it has: {}", run.id.name, names.join(", "));
        }
        Ok(Self { run: run.id.name.clone(), progress: run.status.progress.clone(), curves })
    }
}

impl Curve {
    fn range(&self) -> Range {
        let steps = self.points.iter().map(|(step, _)| *step);
        let (low, high) =
            self.points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| {
                (low.min(*value), high.max(*value))
            });
        // A flat curve has a range too.
        let values = if low < high {
            (low, high)
        } else {
            (low - low.abs().max(1.0) / 2.0, high + high.abs().max(1.0) / 2.0)
        };
        Range { steps: (steps.clone().min().unwrap_or_default(), steps.max().unwrap_or_default()), values }
    }
}

impl Range {
    /// The place of a point: from left to right and from the bottom to the top, each in [0, 1].
    #[expect(clippy::cast_precision_loss, reason = "a place on a screen")]
    fn place(&self, (step, value): (u64, f64)) -> (f64, f64) {
        let ((first, last), (low, high)) = (self.steps, self.values);
        let x = if first == last { 0.5 } else { (step - first) as f64 / (last - first) as f64 };
        // Halves, since the difference of two large numbers may be too large.
        let y = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        (x, y.clamp(0.0, 1.0))
    }
}

/// A number with about four digits.
fn short(value: f64) -> String {
    if value == 0.0 || (0.001..100_000.0).contains(&value.abs()) {
        format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.2e}")
    }
}
