//! Stand-ins for the controllers of Jobs, Deployments and StatefulSets.
//!
//! ```
//! # use std::time::Duration;
//! # use mlop_sim::{Sim, controllers};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sim = Sim::new();
//! controllers::spawn_jobs(&sim);
//! controllers::spawn_workloads(&sim, |name| (name != "stuck").then_some(Duration::from_secs(5)));
//! # }
//! ```
//!
//! A Job gets its pods, and its status from what becomes of them (a [`kubelet`](crate::kubelet) decides that). There are
//! no tracking finalizers on the pods, no backoff between them, no pod failure policies and no success policies.
//! Deployments and StatefulSets get no pods at all: only a status.

mod jobs;
mod workloads;

use std::time::Duration;

pub use jobs::spawn_jobs;
use serde_json::{Value, json};
pub use workloads::spawn_workloads;

use crate::{
    resource::ResourceType,
    server::{Server, WriteOptions},
};

/// From a change to what a controller makes of it.
const LAG: Duration = Duration::from_millis(50);
/// From a refusal to the next try.
const RETRY: Duration = Duration::from_secs(10);
/// The field manager of these controllers.
const MANAGER: &str = "kube-controller-manager";

/// Writes `status` over what an object has, if that is a change.
fn set_status(server: &mut Server, ty: &ResourceType, namespace: &str, name: &str, status: Value) {
    let Ok(old) = server.find(ty, namespace, name) else { return };
    if old["status"] == status {
        return;
    }
    let mut new = Value::clone(&old);
    new["status"] = status;
    // Refused only if the object was invalid before; then its status stays as it is.
    let _ = server.replace(ty, &old, new, None, &WriteOptions::direct(MANAGER));
}

fn condition(kind: &str, status: &str, reason: &str, now: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": now,
        "lastProbeTime": now})
}
