//! Deletion: preconditions, grace periods, finalizers and propagation policies.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    server::{Server, key},
    status::{self, Result},
    write::{Body, Written},
};
use crate::{
    object::{Object, text},
    schema::resource::ResourceType,
    storage::object_version::ObjectVersion,
};

/// The finalizer that keeps an owner until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that keeps an owner until its dependents no longer refer to it.
pub(crate) const ORPHAN: &str = "orphan";

/// The supported part of a request's `DeleteOptions`.
#[derive(Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn decode(body: &Value) -> Self {
        let preconditions = &body["preconditions"];
        let string = |value: &Value| value.as_str().map(str::to_string);
        Self {
            uid: string(&preconditions["uid"]),
            resource_version: string(&preconditions["resourceVersion"]),
            grace_seconds: body["gracePeriodSeconds"].as_i64(),
            propagation: string(&body["propagationPolicy"]),
            dry_run: body["dryRun"].as_array().is_some_and(|list| !list.is_empty()),
        }
    }

    fn check(&self, ty: &ResourceType, object: &Value) -> Result<()> {
        let differs =
            |wanted: &Option<String>, is: &str| wanted.as_ref().filter(|wanted| *wanted != is).cloned();
        let why = if let Some(uid) = differs(&self.uid, object.uid()) {
            format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have \
                 been deleted and then recreated",
                object.uid()
            )
        } else if let Some(version) = differs(&self.resource_version, object.resource_version()) {
            format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
                 ({}). The object might have been modified",
                object.resource_version()
            )
        } else {
            return Ok(());
        };
        Err(status::conflict(ty, object.name(), &why))
    }
}

impl Server {
    pub(crate) fn delete(
        &mut self,
        ty: &ResourceType,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Written> {
        let old = self.find(ty, namespace, name)?;
        options.check(ty, &old)?;
        let mut new = Value::clone(&old);
        let mut finalizers = new.finalizers();
        let held = match options.propagation.as_deref() {
            Some("Foreground") => Some(FOREGROUND),
            Some("Orphan") => Some(ORPHAN),
            _ => None,
        };
        finalizers.extend(held.filter(|held| !old.finalizers().contains(held)));
        let finalizers: Vec<String> = finalizers.into_iter().map(str::to_string).collect();
        new.set_finalizers(&finalizers.iter().map(String::as_str).collect::<Vec<_>>());
        self.mark_deleting(ty, &mut new, grace(ty, &old, options));

        let gone = can_be_removed(ty, &new);
        let key = key(ty, namespace, name);
        if options.dry_run || (!gone && new == **old) {
            return Ok(Written::object(
                200,
                Arc::new(ObjectVersion::new(new, old.managers().clone())),
                false,
            ));
        }
        self.unstored_status.remove(&key);
        if !gone {
            return Ok(Written::object(200, self.store.put(&key, new, old.managers().clone()), true));
        }
        let last = self.store.remove(&key);
        let body = match last {
            Some(last) if RETURNED.contains(&&*ty.resource) => Body::Object(Arc::new(last)),
            _ => Body::Status(Box::new(status::deleted(ty, name, old.uid()))),
        };
        Ok(Written { code: 200, body, changed: true })
    }

    /// Sets the deletion timestamp, or moves a later one forward.
    fn mark_deleting(&self, ty: &ResourceType, object: &mut Value, grace: i64) {
        let pending = object.meta()["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        if object.is_deleting() && pending <= grace {
            return;
        }
        let now = self.clock.now_seconds();
        let at = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
        let generation = object.generation();
        let first = !object.is_deleting();
        let meta = object.meta_mut();
        meta.insert("deletionTimestamp".into(), json!(at.to_string()));
        meta.insert("deletionGracePeriodSeconds".into(), json!(grace));
        if first && generation > 0 {
            meta.insert("generation".into(), json!(generation + 1));
        }
        if ty.kind == "Namespace" {
            object["status"]["phase"] = json!("Terminating");
        }
    }
}

/// Resources whose deletion returns the last object instead of a status.
const RETURNED: &[&str] = &["pods", "services", "serviceaccounts"];

/// The grace period in seconds. Only scheduled pods that have not ended have one.
fn grace(ty: &ResourceType, object: &Value, options: &DeleteOptions) -> i64 {
    if *ty.resource != *"pods" || ends_at_once(object) {
        return 0;
    }
    let asked = options.grace_seconds.or(object["spec"]["terminationGracePeriodSeconds"].as_i64());
    asked.unwrap_or(30).max(0)
}

/// Whether a pod can be removed without a grace period: it was never scheduled, or it has ended.
fn ends_at_once(pod: &Value) -> bool {
    text(&pod["spec"]["nodeName"]).is_empty()
        || matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

/// Whether an object is being deleted and nothing delays its removal any longer.
pub(crate) fn can_be_removed(ty: &ResourceType, object: &Value) -> bool {
    let has_content =
        ty.kind == "Namespace" && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let has_grace = object.meta()["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0);
    object.is_deleting() && object.finalizers().is_empty() && !has_grace && !has_content
}

/// Whether `object` is being deleted and has this finalizer.
pub(crate) fn waits_for(object: &Value, finalizer: &str) -> bool {
    object.is_deleting() && object.finalizers().contains(&finalizer)
}
