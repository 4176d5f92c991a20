//! Causes: where a problem began, and the path from there to here.

use crate::{
    condition::{self, ConditionStatus, MESSAGE_BYTES_MAX},
    resource::InputObject,
};
use mlop_api::{
    Reason,
    common::ObjectRef,
    contract::{Cause, condition_type},
};

/// A problem that began upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamFailure {
    pub cause: Cause,
    /// The path from the input to the cause, such as `FeatureView v <- Dataset d: SchemaMismatch: ...`.
    pub path: String,
}

impl UpstreamFailure {
    fn is_queued(&self) -> bool {
        self.cause.reason.parse().is_ok_and(Reason::waits_for_room)
    }

    /// The reason of the conditions of an object downstream.
    pub fn reason(&self) -> Reason {
        if self.is_queued() { Reason::WaitingForInputs } else { Reason::UpstreamFailed }
    }

    /// The status of those conditions.
    pub fn status(&self) -> ConditionStatus {
        if self.is_queued() { ConditionStatus::Unknown } else { ConditionStatus::False }
    }
}

/// The failure that somebody should look at first: one that is queued ends by itself.
pub fn worst<'a>(upstream: impl IntoIterator<Item = &'a UpstreamFailure>) -> Option<&'a UpstreamFailure> {
    upstream.into_iter().min_by_key(|upstream| upstream.is_queued())
}

/// The problem that `object` reports, and the path that leads to it.
pub(super) fn upstream_failure(from: &ObjectRef, object: &InputObject) -> Option<UpstreamFailure> {
    let cause = object.status.cause.clone()?;
    let here = format!("{} {}", from.kind, from.name);
    // A message that repeats another condition's is shortened: the first of these is whole.
    let reported = [condition_type::READY, condition_type::INPUTS_READY, condition_type::UP_TO_DATE]
        .into_iter()
        .filter_map(|kind| condition::get(&object.status.conditions, kind))
        .find(|c| c.status != "True" && c.message.starts_with(&here))
        .map(|c| c.message.clone());
    let path = reported.unwrap_or_else(|| path(&here, &cause, None));
    Some(UpstreamFailure { cause, path })
}

/// The path from `here` to `cause`, directly or through `upstream`.
pub fn path(here: &str, cause: &Cause, upstream: Option<&UpstreamFailure>) -> String {
    let text = match upstream {
        Some(upstream) => format!("{here} <- {}", upstream.path),
        None if here == format!("{} {}", cause.kind, cause.name) => {
            format!("{here}: {}: {}", cause.reason, cause.message)
        }
        None => format!("{here} <- {} {}: {}: {}", cause.kind, cause.name, cause.reason, cause.message),
    };
    condition::truncated(&text, MESSAGE_BYTES_MAX)
}
