//! The one way to say "not yet".

use mlop_api::Reason;

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
}

impl Blocked {
    /// Blocked until something observed changes by itself.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: false }
    }

    /// Blocked until a user changes something.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: true }
    }
}
