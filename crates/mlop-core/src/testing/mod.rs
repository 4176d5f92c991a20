//! What the tests of several rooms share.

mod inputs;
mod kinds;
mod pods;

pub(crate) use inputs::{dataset, descendant, failed, input, missing, outdated, ready, version};
pub(crate) use kinds::{Forecast, ForecastContent, ForecastRun, ForecastRunSpec, ForecastSpec, TestLineage};
pub(crate) use pods::{held_up, running, scheduled, terminated};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Seconds since the epoch at which decisions are made, unless a test says otherwise.
pub(crate) const NOW: i64 = 1_000_000;
/// The namespace of all objects.
pub(crate) const NS: &str = "default";

/// The time of this second.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The time of this second as Kubernetes writes it.
pub(crate) fn time(second: i64) -> Time {
    Time(at(second))
}
