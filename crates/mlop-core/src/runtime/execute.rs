//! The only writer. It carries out a [`Plan`] in a fixed order and decides nothing.

use crate::{
    Blocked, condition,
    plan::{Create, Delete, Event, Plan, Precondition},
    resource::{ApiKind, InputObject},
    runtime::{context::Context, error::Error, workqueue::Key},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::{DynamicObject, Status},
};
use mlop_api::{Digest, Reason, contract::condition_type, labels};
use serde::Serialize;
use serde_json::json;

/// The object that the plan is for.
pub(crate) struct Subject<'a> {
    pub kind: ApiKind,
    pub meta: &'a ObjectMeta,
}

impl Subject<'_> {
    pub(crate) fn key(&self) -> Key {
        Key::of(self.meta)
    }

    fn manager(&self) -> String {
        format!("mlop-{}", self.kind.kind.to_lowercase())
    }
}

/// Carries out `plan`: children, status, deletions, Events.
///
/// # Errors
/// The first step that failed; later steps are not taken. A lost Event is only logged.
pub(crate) async fn execute<S: Serialize>(
    cx: &Context,
    subject: &Subject<'_>,
    plan: &Plan<S>,
) -> Result<(), Error> {
    for step in &plan.creates {
        create(cx, subject, step).await?;
    }
    for step in &plan.applies {
        apply::apply(cx, subject, step).await?;
    }
    if let Some(status) = &plan.status {
        report(cx, subject, status, Guard::Uid).await?;
    }
    // Delete only after the status is written: the object may be the only record of a fact that the status reports.
    for step in &plan.deletes {
        delete(cx, subject, step).await?;
    }
    for event in &plan.events {
        publish(cx, subject, event).await;
    }
    Ok(())
}

/// Checks the leadership again before every write.
fn leads(cx: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    if cx.is_leading() { Ok(()) } else { Err(Error::Gone(format!("leadership over {}", subject.key()))) }
}

async fn create(cx: &Context, subject: &Subject<'_>, step: &Create) -> Result<(), Error> {
    leads(cx, subject)?;
    for required in &step.requires {
        check(cx, &subject.key().namespace, required).await?;
    }
    let api = cx.api(&step.kind, &subject.key().namespace);
    let object: DynamicObject = serde_json::from_value(step.object.clone())
        .map_err(|e| Error::api(format!("build {}", step.kind), kube::Error::SerdeError(e)))?;
    let name = object.name_any();
    let verb = format!("create {} {name}", step.kind);
    let params = PostParams { field_manager: Some(subject.manager()), dry_run: step.dry_run };
    match api.create(&params, &object).await {
        Ok(_) if step.dry_run => Ok(()),
        Ok(created) => {
            tracing::info!(object = %subject.key(), kind = %subject.kind, why = %step.why, "{verb}");
            cx.write_through(&step.kind, &created);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing =
                api.get(&name).await.map_err(|e| Error::api(format!("read {} {name}", step.kind), e))?;
            check_owner(&step.kind, &object, &existing)?;
            cx.write_through(&step.kind, &existing);
            Ok(())
        }
        Err(kube::Error::Api(status)) => {
            Err(refusal(&step.kind, &name, &status)
                .unwrap_or_else(|| Error::api(verb, kube::Error::Api(status))))
        }
        Err(error) => Err(Error::api(verb, error)),
    }
}

/// Checks that an existing object of the same name is the wanted one: same owner, same digest.
fn check_owner(kind: &ApiKind, wanted: &DynamicObject, existing: &DynamicObject) -> Result<(), Error> {
    let owner = |object: &DynamicObject| {
        object
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true))
            .map(|o| (o.kind.clone(), o.name.clone(), o.uid.clone()))
    };
    let digest = |object: &DynamicObject| object.labels().get(labels::DIGEST).cloned();
    let (ours, theirs) = (owner(wanted), owner(existing));
    let name = wanted.name_any();
    if existing.metadata.deletion_timestamp.is_some() {
        let message = format!("{kind} {name} is still being deleted; it is created again afterwards");
        return Err(Error::Blocked(Blocked::waiting(Reason::WaitingForDeletion, message)));
    }
    // Data that outlives its object has no owner: labels tell whose it is.
    let label = |object: &DynamicObject, name| object.labels().get(name).cloned();
    let same_labels = |name| label(wanted, name).is_some() && label(wanted, name) == label(existing, name);
    let is_kept = ours.is_none() && same_labels(labels::INTENT) && same_labels(labels::INTENT_KIND);
    if is_kept || (ours.is_some() && ours == theirs && digest(wanted) == digest(existing)) {
        return Ok(());
    }
    let earlier = match (&ours, &theirs) {
        (Some(a), Some(b)) => a.0 == b.0 && a.1 == b.1 && a.2 != b.2,
        _ => false,
    };
    if earlier {
        let message =
            format!("{kind} {name} belongs to an earlier object of the same name and is deleted with it");
        return Err(Error::Blocked(Blocked::waiting(Reason::WaitingForDeletion, message)));
    }
    let message = format!(
        "{kind} {name} already exists and is not controlled by this object; delete it or choose another name"
    );
    Err(Error::Blocked(Blocked::stalled(Reason::NameConflict, message)))
}

/// The error of a write that admission refuses.
fn refusal(kind: &ApiKind, name: &str, status: &Status) -> Option<Error> {
    let refused = |reason| {
        Some(Error::Refused { reason, message: format!("{kind} {name} was refused: {}", status.message) })
    };
    let says = |words: &str| status.message.contains(words);
    match status.code {
        403 if says("exceeded quota") || says("failed quota") => refused(Reason::QuotaExceeded),
        403 if says("being terminated") => Some(Error::Gone(format!("the namespace of {kind} {name}"))),
        // A missing right of the operator is not a refusal of the object.
        403 if says("cannot create resource") || says("cannot patch resource") => None,
        // Pod Security, LimitRange, admission policies. A webhook chooses the code of its refusal.
        _ if matches!(status.code, 403 | 422) || says("denied the request") => {
            let is_pod = matches!(kind.kind.as_str(), "Pod" | "Job");
            refused(if is_pod { Reason::PodRefused } else { Reason::ChildRefused })
        }
        _ => None,
    }
}

/// Reads an input from the API server and compares it with the decision.
async fn check(cx: &Context, namespace: &str, required: &Precondition) -> Result<(), Error> {
    let api: Api<InputObject> = Api::namespaced_with(cx.client.clone(), namespace, &required.kind.resource());
    let label = format!("{} {}", required.kind, required.name);
    let input = match api.get_opt(&required.name).await {
        Ok(Some(input)) => input,
        Ok(None) => return Err(Error::Outdated(format!("{label} is gone"))),
        Err(error) => return Err(Error::api(format!("read {label}"), error)),
    };
    let holds = input.metadata.uid.as_deref() == Some(required.uid.as_str())
        && input.metadata.deletion_timestamp.is_none()
        && input.metadata.generation == Some(required.generation)
        && input.status.observed_generation == Some(required.generation)
        && condition::is_true(&input.status.conditions, condition_type::READY)
        && input.status.artifact.as_ref().is_some_and(|a| a.digest == required.digest);
    if holds { Ok(()) } else { Err(Error::Outdated(format!("{label} has changed"))) }
}

/// Whether the object of an apply is gone or another one has its name. The API server reports it in three ways.
fn is_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_not_found()
        || status.is_conflict()
        || causes.into_iter().any(|cause| cause.field == "metadata.uid")
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
            tracing::info!(object = %subject.key(), kind = %subject.kind, why = %step.why, "delete {} {}", step.kind, step.name);
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

/// The precondition of a status write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The same object: a derived status is right after any other write.
    Uid,
    /// The same version: the status was made from the one that was read.
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

/// Publishes an Event. Its name is a digest of its content, so equal content makes no second Event.
async fn publish(cx: &Context, subject: &Subject<'_>, event: &Event) {
    let key = subject.key();
    let identity = format!("{:?}{}{}", subject.meta.uid, event.reason, event.message);
    let name = format!("{}.{}", key.name, Digest::of_bytes(identity.as_bytes()).short(16));
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(condition::whole_second(cx.now()));
    let object = k8s_openapi::api::core::v1::Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(key.namespace.clone()),
            ..Default::default()
        },
        involved_object: k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some(subject.kind.api_version()),
            kind: Some(subject.kind.kind.clone()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: subject.meta.uid.clone(),
            ..Default::default()
        },
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(event.reason.as_str().to_owned()),
        message: Some(condition::truncated(&event.message, condition::MESSAGE_BYTES_MAX)),
        source: Some(k8s_openapi::api::core::v1::EventSource {
            component: Some(cx.settings.operator.clone()),
            host: None,
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Default::default()
    };
    let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(cx.client.clone(), &key.namespace);
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => tracing::warn!(object = %key, %error, "cannot publish an Event"),
    }
}

mod apply;
mod difference;
#[cfg(test)]
mod tests;
