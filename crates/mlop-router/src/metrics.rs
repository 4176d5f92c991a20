//! The metrics of a router, for Prometheus and for measurements.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{fmt, sync::Arc, time::Duration};

/// Upper ends of the latency histogram's buckets in seconds. A percentile is interpolated between two.
const SECONDS: [f64; 20] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0,
    10.0, 30.0, 60.0,
];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An answer with a status below 400.
    Ok,
    /// An answer with a status from 400 to 499: the client's fault.
    Refused,
    /// An answer with a status from 500 on.
    Failed,
    /// No connection. Nothing was sent.
    Unreachable,
    /// No answer after the request was sent, or one that broke off.
    Broken,
}

impl Ending {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ok, Self::Refused, Self::Failed, Self::Unreachable, Self::Broken];

    pub(crate) fn of(status: u16) -> Self {
        match status {
            0..=399 => Self::Ok,
            400..=499 => Self::Refused,
            _ => Self::Failed,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
        }
    }

    /// Whether the version is to blame.
    pub(crate) const fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::Unreachable | Self::Broken)
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

/// The counters of one version.
#[derive(Clone, Debug)]
pub(crate) struct VersionCounters {
    requests: Arc<[Counter; Ending::ALL.len()]>,
    seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let requests = Family::<_, Counter>::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let mut registry = Registry::with_prefix("mlop_router");
        let help = "Requests by the version that they were for, and how they ended";
        registry.register("requests", help, requests.clone());
        registry.register("request_duration_seconds", "Time to the head of an answer", seconds.clone());
        Self { registry, requests, seconds }
    }

    /// The counters of `version`. An ending that has not occurred is a zero, not a gap.
    pub(crate) fn version(&self, version: &str) -> VersionCounters {
        let counter = |ending| self.requests.get_or_create(&request_labels(version, ending)).clone();
        VersionCounters {
            requests: Arc::new(Ending::ALL.map(counter)),
            seconds: self.seconds.get_or_create(&labels(version)).clone(),
        }
    }

    /// Forgets a version, so that their number stays bounded.
    pub(crate) fn forget(&self, version: &str) {
        self.seconds.remove(&labels(version));
        for ending in Ending::ALL {
            self.requests.remove(&request_labels(version, ending));
        }
    }

    /// # Errors
    /// Never: writing to a text cannot fail.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl VersionCounters {
    pub(crate) fn ended(&self, ending: Ending) {
        if let Some(counter) = self.requests.get(ending as usize) {
            counter.inc();
        }
    }

    pub(crate) fn answered(&self, elapsed: Duration) {
        self.seconds.observe(elapsed.as_secs_f64());
    }
}

fn labels(version: &str) -> Labels<1> {
    [("version", version.to_owned())]
}

fn request_labels(version: &str, ending: Ending) -> Labels<2> {
    [("version", version.to_owned()), ("ending", ending.as_str().to_owned())]
}
