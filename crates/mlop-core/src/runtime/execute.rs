//! The only writer. It carries out a [`Plan`] in a fixed order and decides nothing.

use crate::{
    condition,
    plan::{Delete, Event, Plan},
    runtime::{context::Context, error::Error},
};
use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use mlop_api::Digest;
use serde::Serialize;
use serde_json::json;
use write::{is_another, leads};

pub(crate) use write::Subject;

/// Carries out `plan`: children, status under its `guard`, deletions, Events.
///
/// # Errors
/// The first step that failed; later steps are not taken. After the refusal of a child, the other children are still
/// written.
pub(crate) async fn execute<S: Serialize>(
    cx: &Context,
    subject: &Subject<'_>,
    plan: &Plan<S>,
    guard: Guard,
) -> Result<(), Error> {
    // A quota that has no room for one child does not keep the others from their wanted state.
    let mut admitted = Ok(());
    for step in &plan.creates {
        admitted = admitted.and(unless_refused(create::create(cx, subject, step).await)?);
    }
    for step in &plan.applies {
        admitted = admitted.and(unless_refused(apply::apply(cx, subject, step).await)?);
    }
    admitted?;
    if let Some(status) = &plan.status {
        report(cx, subject, status, guard).await?;
    }
    // Delete only after the status is written: the object may be the only record of a fact that the status reports.
    for step in &plan.deletes {
        delete(cx, subject, step).await?;
    }
    for event in &plan.events {
        cx.events.record(object(cx, subject, event), &cx.metrics);
    }
    Ok(())
}

/// The outcome of a write, with a refusal by admission set apart from errors that other writes would meet too.
fn unless_refused(done: Result<(), Error>) -> Result<Result<(), Error>, Error> {
    match done {
        Err(refused @ Error::Refused { .. }) => Ok(Err(refused)),
        done => done.map(Ok),
    }
}

async fn delete(cx: &Context, subject: &Subject<'_>, step: &Delete) -> Result<(), Error> {
    leads(cx, subject)?;
    let api = cx.api(&step.kind, &subject.key().namespace);
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: Some(step.uid.clone()), resource_version: None }),
        ..Default::default()
    };
    match api.delete(&step.name, &params).await {
        Ok(deleted) => {
            tracing::info!(why = %step.why, "delete {} {}", step.kind, step.name);
            if let Some(going) = deleted.left() {
                cx.write_through_deletion(&step.kind, &going);
            }
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        // Another object has the name, or the object was written meanwhile. The next reconcile finds out.
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            Err(Error::Outdated(format!("{} {} has changed", step.kind, step.name)))
        }
        Err(error) => Err(Error::api(format!("delete {} {}", step.kind, step.name), error)),
    }
}

/// The precondition of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The same object: a derived state is right after any other write.
    Uid,
    /// The same version: the state was made from the one that was read.
    ResourceVersion,
}

/// Writes the whole status.
pub(crate) async fn report<S: Serialize>(
    cx: &Context,
    subject: &Subject<'_>,
    status: &S,
    guard: Guard,
) -> Result<(), Error> {
    leads(cx, subject)?;
    let key = subject.key();
    let mut metadata = json!({"name": key.name, "namespace": key.namespace, "uid": subject.meta.uid});
    if let (Guard::ResourceVersion, Some(fields)) = (guard, metadata.as_object_mut()) {
        fields.insert("resourceVersion".to_owned(), json!(subject.meta.resource_version));
    }
    let body = json!({
        "apiVersion": subject.kind.api_version(),
        "kind": subject.kind.kind,
        "metadata": metadata,
        "status": status,
    });
    let api = cx.api(&subject.kind, &key.namespace);
    let params = PatchParams::apply(&subject.manager()).force();
    match api.patch_status(&key.name, &params, &Patch::Apply(&body)).await {
        Ok(written) => {
            cx.write_through(&subject.kind, &written);
            Ok(())
        }
        Err(kube::Error::Api(status)) if is_another(&status) => {
            Err(Error::Outdated(format!("{} {key} has changed", subject.kind)))
        }
        Err(error) => Err(Error::api(format!("write the status of {} {key}", subject.kind), error)),
    }
}

/// The Event as an object. Its name is a digest of its content, so equal content makes no second Event.
fn object(cx: &Context, subject: &Subject<'_>, event: &Event) -> v1::Event {
    let key = subject.key();
    let identity = format!("{:?}{}{}", subject.meta.uid, event.reason, event.message);
    let name = format!("{}.{}", key.name, Digest::of_bytes(identity.as_bytes()).short(16));
    let now = Time(condition::whole_second(cx.now()));
    v1::Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(key.namespace.clone()),
            ..Default::default()
        },
        involved_object: v1::ObjectReference {
            api_version: Some(subject.kind.api_version()),
            kind: Some(subject.kind.kind.clone()),
            name: Some(key.name),
            namespace: Some(key.namespace),
            uid: subject.meta.uid.clone(),
            ..Default::default()
        },
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(event.reason.as_str().to_owned()),
        message: Some(condition::truncated(&event.message, condition::MESSAGE_BYTES_MAX)),
        source: Some(v1::EventSource { component: Some(cx.settings.operator.clone()), host: None }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Default::default()
    }
}

mod apply;
mod create;
pub(crate) mod difference;
#[cfg(test)]
mod tests;
mod write;
