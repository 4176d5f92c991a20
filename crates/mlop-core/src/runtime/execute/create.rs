//! Creation of children, and adoption of those that exist.

use super::write::{Subject, is_another, leads, refusal};
use crate::{
    Blocked, condition,
    plan::{Create, Precondition},
    resource::{ApiKind, InputObject},
    runtime::{context::Context, error::Error},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use mlop_api::{Reason, contract::condition_type, labels};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The labels by which watches, indexes and decisions find children.
const FINDING: [&str; 8] = [
    labels::OPERATOR,
    labels::ROLE,
    labels::INTENT,
    labels::INTENT_KIND,
    labels::RUN,
    labels::RUN_KIND,
    labels::ATTEMPT,
    labels::DIGEST,
];

/// Creates a child, or adopts the one that exists.
pub(super) async fn create(cx: &Context, subject: &Subject<'_>, step: &Create) -> Result<(), Error> {
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
            tracing::info!(why = %step.why, "{verb}");
            cx.write_through(&step.kind, &created);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            adopt(cx, subject, &step.kind, &api, &object).await
        }
        Err(kube::Error::Api(status)) => {
            Err(refusal(&step.kind, &name, &status)
                .unwrap_or_else(|| Error::api(verb, kube::Error::Api(status))))
        }
        Err(error) => Err(Error::api(verb, error)),
    }
}

/// Takes the existing object of the name for the wanted one, if it is that.
///
/// Usually the cache is behind. It also lacks an object whose labels somebody has taken off: watches and indexes find
/// children by them. They are put back, but not on pods and Jobs, which operators never change.
async fn adopt(
    cx: &Context,
    subject: &Subject<'_>,
    kind: &ApiKind,
    api: &Api<DynamicObject>,
    wanted: &DynamicObject,
) -> Result<(), Error> {
    let name = wanted.name_any();
    let existing = match api.get_opt(&name).await {
        Ok(Some(existing)) => existing,
        Ok(None) => return Err(Error::Outdated(format!("{kind} {name} has changed"))),
        Err(error) => return Err(Error::api(format!("read {kind} {name}"), error)),
    };
    check_owner(kind, wanted, &existing)?;
    let (is, want) = (existing.labels(), wanted.labels());
    let lost: Vec<&str> = FINDING.into_iter().filter(|label| is.get(*label) != want.get(*label)).collect();
    if lost.is_empty() {
        cx.write_through(kind, &existing);
        return Ok(());
    }
    let names = lost.join(", ");
    if matches!(kind.kind.as_str(), "Pod" | "Job") {
        let message = format!("{kind} {name} has lost labels: {names}; put them back, or delete it");
        return Err(Error::Blocked(Blocked::stalled(Reason::NameConflict, message)));
    }
    leads(cx, subject)?;
    let labels: BTreeMap<&str, Option<&String>> =
        lost.into_iter().map(|label| (label, want.get(label))).collect();
    let body = json!({"metadata": {"uid": existing.metadata.uid, "labels": labels}});
    let params = PatchParams { field_manager: Some(subject.manager()), ..PatchParams::default() };
    match api.patch(&name, &params, &Patch::Merge(&body)).await {
        Ok(labelled) => {
            tracing::info!(labels = names, "put labels of {kind} {name} back");
            cx.write_through(kind, &labelled);
            Ok(())
        }
        Err(kube::Error::Api(status)) if is_another(&status) => {
            Err(Error::Outdated(format!("{kind} {name} has changed")))
        }
        Err(error) => Err(Error::api(format!("patch {kind} {name}"), error)),
    }
}

/// The digest of what an object is for. A run has it in its spec, which nobody can edit; a label can be taken off.
fn digest(object: &DynamicObject) -> Option<&str> {
    let of_run = object.data.pointer("/spec/lineage/inputDigest").and_then(Value::as_str);
    of_run.or_else(|| object.labels().get(labels::DIGEST).map(String::as_str))
}

/// Checks that an existing object of the same name is the wanted one: same owner, same digest.
pub(super) fn check_owner(
    kind: &ApiKind,
    wanted: &DynamicObject,
    existing: &DynamicObject,
) -> Result<(), Error> {
    let owner = |object: &DynamicObject| {
        object
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true))
            .map(|o| (o.kind.clone(), o.name.clone(), o.uid.clone()))
    };
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
