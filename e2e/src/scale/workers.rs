//! The stand-in for kubelet and workers: it reports the success of each pod, in one write, as soon as it sees the pod.

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::{
    Digest, labels,
    result::ResultDocument,
    task::{Task, Work},
};
use serde_json::{Value, json};

/// Writes at the same time.
const CONCURRENCY: usize = 32;

/// Reports the success of all pods of `namespace`, until it is dropped.
pub async fn run(client: Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let events = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let pods = &pods;
    let ended = events.for_each_concurrent(CONCURRENCY, |pod| async move {
        // The watch restarts after an error.
        let Ok(pod) = pod else { return };
        if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Succeeded") {
            let status = json!({"status": succeeded(&pod)});
            // A pod that is gone needs no status.
            let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
        }
    });
    ended.await;
}

/// The status of a pod whose worker has ended with the result of its task.
fn succeeded(pod: &Pod) -> Value {
    let now = now();
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": now});
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": result(pod).to_message(),
        "startedAt": now, "finishedAt": now, "containerID": format!("containerd://{}", "c".repeat(64))}});
    json!({
        "phase": "Succeeded",
        "conditions": [
            condition("PodReadyToStartContainers", "False", ""),
            condition("Initialized", "True", "PodCompleted"),
            condition("Ready", "False", "PodCompleted"),
            condition("ContainersReady", "False", "PodCompleted"),
            condition("PodScheduled", "True", ""),
        ],
        "startTime": now, "hostIP": "198.18.0.1", "hostIPs": [{"ip": "198.18.0.1"}],
        "podIP": "198.18.1.1", "podIPs": [{"ip": "198.18.1.1"}], "qosClass": "Burstable",
        "containerStatuses": [{
            "name": "worker", "ready": false, "started": false, "restartCount": 0, "image": "worker:test",
            "imageID": format!("worker@sha256:{}", "d".repeat(64)), "state": ended,
        }],
    })
}

/// The result of the pod's task. Equal tasks have equal digests.
fn result(pod: &Pod) -> ResultDocument {
    let text = pod.annotations().get(labels::TASK).map(String::as_str).unwrap_or_default();
    let digest = Some(Digest::of_bytes(
        pod.labels().get(labels::INTENT).map_or(b"".as_slice(), |name| name.as_bytes()),
    ));
    match serde_json::from_str::<Task>(text).map(|task| task.work) {
        Ok(Work::Scan(_)) => {
            ResultDocument { digest, summary: Some("12 objects".to_owned()), ..ResultDocument::default() }
        }
        Ok(Work::Version(_)) => ResultDocument {
            schema_digest: digest.clone(),
            digest,
            summary: Some("336776 rows, 12 rejected".to_owned()),
            metrics: vec![mlop_api::common::Metric::new("rows", 336_776.0)],
            ..ResultDocument::default()
        },
        _ => ResultDocument::default(),
    }
}

#[allow(clippy::disallowed_methods, reason = "a kubelet has a real clock")]
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
