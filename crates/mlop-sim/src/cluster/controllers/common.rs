//! Shared code of the controllers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    api::{server::Server, write::WriteOptions},
    schema::resource::ResourceType,
};

/// The time from a change to the reaction of a controller.
pub(super) const DELAY: Duration = Duration::from_millis(50);
/// The time from a refused creation to the next attempt.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The field manager of the controllers.
pub(super) const MANAGER: &str = "kube-controller-manager";

/// Writes the status of an object if it differs.
pub(super) fn set_status(server: &mut Server, ty: &ResourceType, namespace: &str, name: &str, status: Value) {
    let Ok(old) = server.find(ty, namespace, name) else { return };
    if old["status"] == status {
        return;
    }
    let mut new = Value::clone(&old);
    new["status"] = status;
    // The server refuses this only if the object was already invalid. Then its status stays unchanged.
    let _ = server.replace(ty, &old, new, None, &WriteOptions::direct(MANAGER));
}

pub(super) fn condition(condition_type: &str, status: &str, reason: &str, now: &str) -> Value {
    json!({"type": condition_type, "status": status, "reason": reason, "message": "", "lastTransitionTime": now,
        "lastProbeTime": now})
}
