//! The progress that trainings report.

use mlop_api::{
    common::Metric,
    progress::Report,
    task::{Task, Work},
};
use std::time::Duration;

/// Time between two steps of a training.
const STEP: Duration = Duration::from_secs(4);
/// Steps of a training. One that a fault keeps running longer reports more slowly at its end.
const STEPS: u32 = 7;

/// The lines that the agent of a training prints.
pub fn log(task: &Task) -> Vec<(Duration, String)> {
    let Work::Train(_) = task.work else { return Vec::new() };
    let line = |step| (STEP * step, report(task.subject.attempt, step).to_line());
    (1..STEPS).map(line).chain([(STEP * 100, report(task.subject.attempt, STEPS).to_line())]).collect()
}

/// The last progress of a training.
pub fn last(attempt: u32) -> Report {
    report(attempt, STEPS)
}

fn report(attempt: u32, step: u32) -> Report {
    Report {
        attempt,
        step: Some(step.into()),
        of: Some(STEPS.into()),
        metrics: vec![Metric::new("loss", 1.0 / f64::from(step))],
        ..Report::default()
    }
}
