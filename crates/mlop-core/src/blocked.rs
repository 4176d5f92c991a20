//! The one way to say "not yet", and whether that is a problem: where its cause lies.
//!
//! Everything downstream of a problem names its cause. Ordinary work is none: a first scan, a run, a failure that is
//! repeated for the first time, or a user's wish such as `spec.suspend`.

use crate::condition::{MESSAGE_BYTES_MAX, truncated};
use kube::Resource;
use mlop_api::{Reason, contract::Cause, labels};

/// Failures in a row from which on their repetition is a problem. One or two may be chance.
const LASTING: u32 = 3;

/// Why a decision cannot be carried out yet. It is a state, not an error: a change of what blocks it enqueues the
/// object, so no timer is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Becomes the reason of the conditions.
    pub reason: Reason,
    /// Becomes their message: names the object in the way and what to do about it.
    pub message: String,
    /// Only a change by a user helps. The object reports `Stalled` instead of `Reconciling`.
    pub stalled: bool,
    pub origin: Origin,
}

/// Where the cause lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: work goes on as usual, or a user wants it so.
    Ordinary,
    /// At the object that is blocked.
    Here,
    /// At another object.
    Elsewhere(Box<Cause>),
}

impl Blocked {
    /// Blocked until something observed changes by itself.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        let origin = if is_ordinary(reason) { Origin::Ordinary } else { Origin::Here };
        Self { reason, message: message.into(), stalled: false, origin }
    }

    /// Blocked until a user changes something.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { stalled: true, ..Self::waiting(reason, message).here() }
    }

    /// Work that has failed `failures` times in a row and is repeated. The message names no attempts or times: when it
    /// changes, everything downstream is written again.
    pub fn repeated(failures: u32, reason: Reason, message: impl Into<String>) -> Self {
        let origin = if failures < LASTING { Origin::Ordinary } else { Origin::Here };
        Self { origin, ..Self::waiting(reason, message) }
    }

    /// The cause lies at the object that is blocked, whatever the reason.
    #[must_use]
    pub fn here(self) -> Self {
        Self { origin: Origin::Here, ..self }
    }

    /// It waits for the object of `cause`, whose state is ordinary or a problem of its own.
    #[must_use]
    pub fn behind(self, cause: Cause) -> Self {
        let is_ordinary = cause.reason.parse().is_ok_and(is_ordinary);
        let origin = if is_ordinary { Origin::Ordinary } else { Origin::Elsewhere(Box::new(cause)) };
        Self { origin, ..self }
    }

    /// The cause that everything downstream of the blocked object names; none for ordinary work.
    pub fn cause(&self, kind: &str, name: &str) -> Option<Cause> {
        match &self.origin {
            Origin::Ordinary => None,
            Origin::Here => Some(cause(kind, name, self.reason, &self.message)),
            Origin::Elsewhere(cause) => Some(cause.as_ref().clone()),
        }
    }
}

impl Blocked {
    /// As [`cause`](Self::cause), for the object itself. A run stands for its intent, which those downstream know.
    pub(crate) fn cause_at<K: Resource>(&self, object: &K) -> Option<Cause>
    where
        K::DynamicType: Default,
    {
        let label = |label: &str| object.meta().labels.as_ref().and_then(|all| all.get(label)).cloned();
        let kind =
            label(labels::INTENT_KIND).unwrap_or_else(|| K::kind(&K::DynamicType::default()).into_owned());
        let name = label(labels::INTENT).or_else(|| object.meta().name.clone()).unwrap_or_default();
        self.cause(&kind, &name)
    }
}

/// A problem that began at the object `name`.
pub fn cause(kind: &str, name: &str, reason: Reason, message: &str) -> Cause {
    Cause {
        kind: kind.to_owned(),
        name: name.to_owned(),
        reason: reason.to_string(),
        message: truncated(message, MESSAGE_BYTES_MAX),
    }
}

/// Whether an object with this reason is at ordinary work, or waits because a user or another object wants it so.
fn is_ordinary(reason: Reason) -> bool {
    use Reason::{
        Activating, InputsDiverged, InputsReady, Pending, Pinned, Probing, Queued, Ready, Repaired, Retrying,
        RollingOut, Running, ScaledToZero, Scanning, Stabilizing, Starting, Succeeded, Suspended, UpToDate,
        WaitingForDeletion, WaitingForInputs, WaitingForTrigger,
    };
    matches!(
        reason,
        Activating
            | InputsDiverged
            | InputsReady
            | Pending
            | Pinned
            | Probing
            | Queued
            | Ready
            | Repaired
            | Retrying
            | RollingOut
            | Running
            | ScaledToZero
            | Scanning
            | Stabilizing
            | Starting
            | Succeeded
            | Suspended
            | UpToDate
            | WaitingForDeletion
            | WaitingForInputs
            | WaitingForTrigger
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_lies_where_the_problem_began() {
        let store = |reason| cause("ObjectStore", "files", reason, "m");
        let connection = |reason| Blocked::waiting(Reason::ConnectionNotReady, "m").behind(store(reason));
        let rows = [
            ("a scan is under way", Blocked::waiting(Reason::Scanning, "m"), None),
            ("a user suspends it", Blocked::waiting(Reason::Suspended, "m"), None),
            ("an input has published nothing yet", Blocked::waiting(Reason::WaitingForInputs, "m"), None),
            (
                "an input does not exist",
                Blocked::waiting(Reason::WaitingForInputs, "m").here(),
                Some("Forecast/WaitingForInputs"),
            ),
            (
                "an image cannot be pulled",
                Blocked::waiting(Reason::ImagePull, "m"),
                Some("Forecast/ImagePull"),
            ),
            ("its field is wrong", Blocked::stalled(Reason::InvalidSpec, "m"), Some("Forecast/InvalidSpec")),
            ("work has failed twice", Blocked::repeated(2, Reason::StoreUnreachable, "m"), None),
            (
                "work has failed three times",
                Blocked::repeated(3, Reason::StoreUnreachable, "m"),
                Some("Forecast/StoreUnreachable"),
            ),
            ("its connection is probed", connection(Reason::Probing), None),
            ("its connection starts", connection(Reason::Starting), None),
            ("its connection refuses", connection(Reason::StoreDenied), Some("ObjectStore/StoreDenied")),
        ];
        for (situation, blocked, want) in rows {
            let cause =
                blocked.cause("Forecast", "delay").map(|cause| format!("{}/{}", cause.kind, cause.reason));
            assert_eq!(cause.as_deref(), want, "{situation}");
        }
    }
}
