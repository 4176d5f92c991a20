//! The state of an object in one word.

use crate::snapshot::Object;
use mlop_api::{
    Reason,
    contract::{Cause, condition_type as condition},
    kinds::Class,
};
use serde::Serialize;

/// Whether an object may be used, and whether somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// In use, and made from the newest inputs. Of a run: succeeded.
    Ready,
    /// In use, while something newer is on its way, or is held back by a user's wish.
    Behind,
    /// In use, but something newer has failed.
    Blocked,
    /// On its way. Waiting helps.
    Pending,
    /// Not usable, because something has failed.
    Failed,
}

impl State {
    pub fn of(object: &Object) -> Self {
        let Some(main) = object.main_condition() else { return Self::Pending };
        let is_ready = main.status == "True" && is_seen(object);
        let queued = |cause: &Cause| is_queued(&cause.reason);
        let waits_for_room = object.status.cause.as_ref().map_or(is_queued(&main.reason), queued);
        let has_failed = object.status.cause.is_some() && !waits_for_room;
        let is_troubled = has_failed || object.is(condition::STALLED);
        if object.class == Class::Run {
            let is_rejected = object.condition(condition::ACCEPTED).is_some_and(|it| it.status == "False");
            return match main.status.as_str() {
                "True" if is_rejected => Self::Blocked,
                "True" => Self::Ready,
                "False" => Self::Failed,
                _ if is_troubled => Self::Failed,
                _ => Self::Pending,
            };
        }
        let up_to_date = object.condition(condition::UP_TO_DATE).map_or("True", |it| it.status.as_str());
        let waits_for_inputs = object.condition(condition::UP_TO_DATE).is_some_and(|it| {
            matches!(it.reason.parse(), Ok(Reason::WaitingForInputs | Reason::InputsDiverged))
        });
        let is_behind = up_to_date == "False" || waits_for_room || waits_for_inputs;
        match (is_ready, is_troubled) {
            (true, false) if up_to_date == "True" => Self::Ready,
            (true, false) if is_behind => Self::Behind,
            (true, _) => Self::Blocked,
            (false, true) => Self::Failed,
            (false, false) if main.status == "False" && !waits_for_room => Self::Failed,
            (false, false) => Self::Pending,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Behind => "behind",
            Self::Blocked => "blocked",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }

    pub const fn mark(self) -> &'static str {
        match self {
            Self::Ready => "✓",
            Self::Behind => "~",
            Self::Blocked => "!",
            Self::Pending => "…",
            Self::Failed => "✗",
        }
    }

    /// Whether an artifact is in use, be it the newest or not.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Ready | Self::Behind | Self::Blocked)
    }

    /// Whether somebody has to act.
    pub const fn is_problem(self) -> bool {
        matches!(self, Self::Blocked | Self::Failed)
    }
}

/// Whether work with this reason goes on by itself once a node or a quota has room. Nothing has failed then.
pub fn is_queued(reason: &str) -> bool {
    reason.parse().is_ok_and(Reason::waits_for_room)
}

/// Whether the status describes the present spec. That of a new object has no generation yet.
pub fn is_seen(object: &Object) -> bool {
    object.status.observed_generation == Some(object.generation())
}
