//! Metrics of TrainingQueues.

use super::{MINUTES, registered, seconds};
use mlop_api::{
    Time,
    queue::{QueueStatus, Reservation},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    /// Name of the TrainingQueue.
    pub queue: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    /// Name of the TrainingQueue.
    pub queue: String,
    /// `admitted` or `pending`.
    pub state: &'static str,
}

/// The metrics of all queues.
pub(super) struct Metrics {
    /// Counted when the metrics are read.
    runs: Family<QueueLabels, Gauge>,
    /// Time from the entry of a run into its queue to its admission.
    wait_seconds: Family<QueueLabel, Histogram>,
}

impl Metrics {
    pub(super) fn new(all: &mut Registry) -> Self {
        Self {
            runs: registered(all, "mlop_queue_runs", "Runs of TrainingQueues by state"),
            wait_seconds: seconds(
                all,
                "mlop_queue_wait_seconds",
                "Time from the entry of a run into its TrainingQueue to its admission",
                MINUTES,
            ),
        }
    }

    pub(super) fn clear(&self) {
        self.runs.clear();
    }

    /// The runs of a queue.
    pub(super) fn count(&self, name: &str, status: &QueueStatus) {
        for (state, number) in [("admitted", status.admitted), ("pending", status.pending)] {
            let labels = QueueLabels { queue: name.to_owned(), state };
            self.runs.get_or_create(&labels).set(number.into());
        }
    }

    /// The runs that the status `after` has admitted since `before`.
    pub(super) fn admitted(&self, name: &str, before: Option<&QueueStatus>, after: &QueueStatus) {
        let known: BTreeSet<_> = before.iter().flat_map(|before| &before.reservations).map(key).collect();
        for admitted in after.reservations.iter().filter(|admitted| !known.contains(&key(admitted))) {
            let label = QueueLabel { queue: name.to_owned() };
            let seconds = admitted.at.get().duration_since(admitted.since.get()).as_secs_f64();
            self.wait_seconds.get_or_create(&label).observe(seconds.max(0.0));
        }
    }
}

/// What makes an admission another one.
fn key(reservation: &Reservation) -> (&str, Time) {
    (&reservation.uid, reservation.at)
}
