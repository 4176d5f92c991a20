//! Brings existing objects to the state of a plan.

use super::{
    Guard,
    create::{check_owner, create},
    difference,
    write::{Subject, is_another, is_by_webhook, leads, refusal},
};
use crate::{
    plan::{Apply, Create},
    runtime::{context::Context, error::Error, workqueue::Key},
};
use http::{Request, header::CONTENT_TYPE};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::{DynamicObject, Status},
};
use mlop_api::labels;
use serde_json::{Value, json};
/// Brings one object to the wanted state. What would change nothing is not written.
pub(super) async fn apply(cx: &Context, subject: &Subject<'_>, step: &Apply) -> Result<(), Error> {
    leads(cx, subject)?;
    let namespace = subject.key().namespace;
    let name = text(&step.object, "/metadata/name");
    match cx.live(&step.kind, &Key::new(&namespace, &name)) {
        Some(live) => overwrite(cx, subject, step, &live).await,
        // With a uid, it is an object that the plan has seen; without one, a child that does not exist yet.
        None if step.object.pointer("/metadata/uid").is_none() => {
            let creation = Create {
                kind: step.kind.clone(),
                object: step.object.clone(),
                requires: Vec::new(),
                handover: None,
                dry_run: false,
                why: step.why.clone(),
            };
            create(cx, subject, &creation).await
        }
        None if step.object.get("status").is_some() => apply_status(cx, subject, step, &name).await,
        None if step.object.get("spec").is_some() => {
            let uid = text(&step.object, "/metadata/uid");
            patch(cx, subject, step, &uid, difference::replacement(&step.object)).await.map(drop)
        }
        None => apply_fields(cx, subject, step, &name).await,
    }
}

/// Removes every difference between a child and its wanted state.
async fn overwrite(cx: &Context, subject: &Subject<'_>, step: &Apply, live: &Value) -> Result<(), Error> {
    let changes = difference::changes(&step.kind.kind, live, &step.object);
    let uid = text(live, "/metadata/uid");
    if changes.is_empty() || cx.leftovers.has(&uid, &changes) {
        return Ok(());
    }
    let decode = |value: &Value| {
        serde_json::from_value::<DynamicObject>(value.clone())
            .map_err(|e| Error::api(format!("build {}", step.kind), kube::Error::SerdeError(e)))
    };
    let (present, wanted) = (decode(live)?, decode(&step.object)?);
    if !is_owned(&present, &wanted) {
        check_owner(&step.kind, &wanted, &present)?;
    }
    let version = text(live, "/metadata/resourceVersion");
    let guard = (cx.guard() == Guard::ResourceVersion).then(|| test("resourceVersion", &version));
    let changes = guard.into_iter().chain(changes).collect();
    let written = patch(cx, subject, step, &uid, changes).await?;
    let left = difference::changes(&step.kind.kind, &written, &step.object);
    if !left.is_empty() {
        let fields: Vec<_> = left.iter().map(|change| text(change, "/path")).collect();
        tracing::warn!(
            ?fields,
            "the API server sets other values of {} {}",
            step.kind,
            text(&step.object, "/metadata/name")
        );
    }
    cx.leftovers.set(&uid, &left);
    Ok(())
}

/// Whether the child has the wanted owner, or may get it. Data that outlived an earlier owner has none, and labels tell
/// whose it is.
fn is_owned(present: &DynamicObject, wanted: &DynamicObject) -> bool {
    let owner = |object: &DynamicObject| {
        let owners = object.owner_references().iter();
        owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next()
    };
    let label = |object: &DynamicObject, name| object.labels().get(name).cloned();
    let has_label = |name| label(wanted, name).is_some() && label(wanted, name) == label(present, name);
    let is_labelled = has_label(labels::INTENT) && has_label(labels::INTENT_KIND);
    let is_live = present.metadata.deletion_timestamp.is_none();
    is_live && (owner(present) == owner(wanted) || owner(present).is_none() && is_labelled)
}

/// Sends a JSON patch that fails unless the object still has `uid`, and returns the written object.
async fn patch(
    cx: &Context,
    subject: &Subject<'_>,
    step: &Apply,
    uid: &str,
    changes: Vec<Value>,
) -> Result<Value, Error> {
    let name = text(&step.object, "/metadata/name");
    let api = cx.api(&step.kind, &subject.key().namespace);
    let verb = format!("patch {} {name}", step.kind);
    let body = Value::from_iter([test("uid", uid)].into_iter().chain(changes)).to_string().into_bytes();
    let uri = format!("{}/{name}?fieldManager={}", api.resource_url(), subject.manager());
    let request = Request::patch(uri).header(CONTENT_TYPE, "application/json-patch+json").body(body);
    let request = request.map_err(|e| Error::api(verb.clone(), kube::Error::HttpError(e)))?;
    let sent = cx.client.request::<DynamicObject>(request).await;
    let written = finish(cx, step, &verb, sent)?;
    serde_json::to_value(written).map_err(|e| Error::api(verb, kube::Error::SerdeError(e)))
}

/// The operation that fails a JSON patch unless a field of the metadata has this value.
fn test(field: &str, value: &str) -> Value {
    json!({"op": "test", "path": format!("/metadata/{field}"), "value": value})
}

/// Applies fields of the status of an object whose other fields have another writer. The object may be in any namespace.
async fn apply_status(cx: &Context, subject: &Subject<'_>, step: &Apply, name: &str) -> Result<(), Error> {
    let api: Api<DynamicObject> = cx.api(&step.kind, &text(&step.object, "/metadata/namespace"));
    let params = PatchParams::apply(&subject.manager()).force();
    let sent = api.patch_status(name, &params, &Patch::Apply(&step.object)).await;
    finish(cx, step, &format!("apply the status of {} {name}", step.kind), sent).map(drop)
}

/// Applies the fields of an object that others write too, such as its finalizers.
///
/// An apply leaves a finalizer that another manager has written as well, such as a tool that has restored the object.
/// One of this domain is taken out: nobody else would ever do it.
async fn apply_fields(cx: &Context, subject: &Subject<'_>, step: &Apply, name: &str) -> Result<(), Error> {
    let api: Api<DynamicObject> = cx.api(&step.kind, &subject.key().namespace);
    let params = PatchParams::apply(&subject.manager()).force();
    let sent = api.patch(name, &params, &Patch::Apply(&step.object)).await;
    let written = finish(cx, step, &format!("apply {} {name}", step.kind), sent)?;
    let surplus = difference::finalizers(written.finalizers(), &step.object);
    if surplus.is_empty() {
        return Ok(());
    }
    let uid = written.uid().unwrap_or_default();
    patch(cx, subject, step, &uid, surplus).await.map(drop)
}

/// Whether the test of a JSON patch failed, or one of its paths is gone. A refusal of the object names causes or a webhook.
fn is_failed_test(status: &Status) -> bool {
    let has_causes = status.details.iter().any(|details| !details.causes.is_empty());
    status.code == 422 && !has_causes && !is_by_webhook(status)
}

/// Takes in the answer to a write.
fn finish(
    cx: &Context,
    step: &Apply,
    verb: &str,
    sent: Result<DynamicObject, kube::Error>,
) -> Result<DynamicObject, Error> {
    match sent {
        Ok(written) => {
            tracing::info!(why = %step.why, "{verb}");
            cx.write_through(&step.kind, &written);
            Ok(written)
        }
        Err(kube::Error::Api(status)) if is_another(&status) || is_failed_test(&status) => Err(
            Error::Outdated(format!("{} {} has changed", step.kind, text(&step.object, "/metadata/name"))),
        ),
        Err(kube::Error::Api(status)) => {
            Err(refusal(&step.kind, &text(&step.object, "/metadata/name"), &status)
                .unwrap_or_else(|| Error::api(verb, kube::Error::Api(status))))
        }
        Err(error) => Err(Error::api(verb, error)),
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
