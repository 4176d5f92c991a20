//! Work that a store refuses although its probe succeeds.
//!
//! Keys may be allowed to do what the probe does, and not what the work does: to read, or to write below another prefix.
//! The connection stays ready, so nothing would ever end the repetition, and each attempt is a whole training.

use crate::{Blocked, errand::PROBE_INTERVAL};
use jiff::{SignedDuration, Timestamp};
use mlop_api::{Reason, labels, status::AttemptFailure};

/// Intervals of the probe in which it notices that the keys are refused for everything.
const PROBES: i32 = 2;

/// Why no attempt follows `failure`, if probes must have succeeded since its store began to refuse. All connections are
/// ready since `connected`. It ends when one of them becomes ready again, or at a request to retry.
pub(super) fn lasting(failure: &AttemptFailure, connected: Timestamp) -> Option<Blocked> {
    let began = failure.since.filter(|_| failure.reason == Reason::StoreDenied.as_str())?.get();
    let probed: SignedDuration = PROBE_INTERVAL.checked_mul(PROBES)?;
    let certain = began.max(connected).checked_add(probed).ok()?;
    (failure.at.get() >= certain).then(|| {
        let message = format!(
            "{}; the probe of the ObjectStore succeeds, so its keys lack a permission for this prefix: grant it and set {}",
            failure.message,
            labels::RETRY_REQUESTED_AT
        );
        Blocked::stalled(Reason::StoreDenied, message)
    })
}
