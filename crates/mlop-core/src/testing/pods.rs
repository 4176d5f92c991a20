//! Pod statuses as the kubelet reports them.

use super::{NOW, time};
use crate::resource::PodView;
use k8s_openapi::{
    api::core::v1::PodStatus,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use mlop_api::{labels, result::ResultDocument};
use serde_json::{Value, json};

/// The pod of an attempt, with this status.
pub fn pod_of(name: &str, attempt: u32, status: PodStatus) -> PodView {
    let labels = [(labels::ATTEMPT.to_owned(), attempt.to_string())];
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some(format!("{name}-uid")),
        labels: Some(labels.into()),
        ..Default::default()
    };
    PodView { metadata, status, ..PodView::default() }
}

/// The pod of this rank of an attempt of several pods, with this status.
pub fn worker_of(name: &str, attempt: u32, rank: u32, status: PodStatus) -> PodView {
    let mut pod = pod_of(&format!("{name}-{rank}"), attempt, status);
    pod.metadata.labels.get_or_insert_default().insert(labels::RANK.to_owned(), rank.to_string());
    pod.metadata.owner_references =
        Some(vec![OwnerReference { kind: "Job".to_owned(), ..Default::default() }]);
    pod
}

/// A pod whose worker has ended with `result` at `second`.
pub fn terminated(result: &ResultDocument, second: i64) -> PodStatus {
    let failed = result.error.is_some();
    let state = json!({"terminated": {"exitCode": i32::from(failed), "message": result.to_message(),
        "finishedAt": time(second)}});
    status(if failed { "Failed" } else { "Succeeded" }, state)
}

/// A pod that runs.
pub fn running() -> PodStatus {
    status("Running", json!({"running": {}}))
}

/// A pod that has a node since [`NOW`].
pub fn scheduled() -> PodStatus {
    status("Pending", json!({"waiting": {"reason": "ContainerCreating"}}))
}

/// A pod whose image cannot be pulled.
pub fn held_up() -> PodStatus {
    status("Pending", json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}))
}

fn status(phase: &str, state: Value) -> PodStatus {
    let container = json!({"name": "worker", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": state});
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": time(NOW)});
    serde_json::from_value(
        json!({"phase": phase, "conditions": [scheduled], "containerStatuses": [container]}),
    )
    .unwrap()
}
