//! The common part of all writes: the object that they are for, leadership, and refusals.

use crate::{
    resource::ApiKind,
    runtime::{context::Context, error::Error, workqueue::Key},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Status;
use mlop_api::{Reason, text::clause};

/// The object that the plan is for.
pub(crate) struct Subject<'a> {
    pub kind: ApiKind,
    pub meta: &'a ObjectMeta,
}

impl Subject<'_> {
    pub(crate) fn key(&self) -> Key {
        Key::of(self.meta)
    }

    pub(super) fn manager(&self) -> String {
        format!("mlop-{}", self.kind.kind.to_lowercase())
    }
}

/// Checks the leadership again before every write.
pub(super) fn leads(cx: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    if cx.is_leading() { Ok(()) } else { Err(Error::Gone(format!("leadership over {}", subject.key()))) }
}

/// The error of a write that admission refuses.
pub(super) fn refusal(kind: &ApiKind, name: &str, status: &Status) -> Option<Error> {
    let words = clause(status.message.trim_start_matches("Internal error occurred: "));
    let refused =
        |reason| Some(Error::Refused { reason, message: format!("{kind} {name} was refused: {words}") });
    let says = |words: &str| status.message.contains(words);
    match status.code {
        403 if says("exceeded quota") || says("failed quota") => refused(Reason::QuotaExceeded),
        403 if says("being terminated") => Some(Error::Gone(format!("the namespace of {kind} {name}"))),
        // A missing right of the operator is not a refusal of the object.
        403 if says("cannot create resource") || says("cannot patch resource") => None,
        // Pod Security, LimitRange, admission policies.
        _ if matches!(status.code, 403 | 422) || is_by_webhook(status) => {
            let is_pod = matches!(kind.kind.as_str(), "Pod" | "Job");
            refused(if is_pod { Reason::PodRefused } else { Reason::ChildRefused })
        }
        _ => None,
    }
}

/// Whether a webhook refuses, with a code of its own choice, or cannot be called.
pub(super) fn is_by_webhook(status: &Status) -> bool {
    ["denied the request", "failed calling webhook"].iter().any(|words| status.message.contains(words))
}

/// Whether the object of an apply is gone or another one has its name. The API server reports it in three ways.
pub(super) fn is_another(status: &Status) -> bool {
    if is_by_webhook(status) {
        return false;
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_not_found()
        || status.is_conflict()
        || causes.into_iter().any(|cause| cause.field == "metadata.uid")
}
