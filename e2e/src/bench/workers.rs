//! The stand-in for kubelet and workers: it reports the success of each pod, in one write, as soon as it sees the pod.
//! Pods that serve are ready at once.

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::{
    Digest,
    common::Metric,
    labels,
    result::{Registered, ResultDocument},
    task::{PROBES, Task, Work},
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Writes at the same time.
const CONCURRENCY: usize = 32;

/// The namespace whose pods never end.
pub(super) const HANGING: &str = "hanging";

/// The state of all data. Sources have other objects in each, and every run then has another result.
#[derive(Clone, Default)]
pub(super) struct Epoch(Arc<AtomicU32>);

impl Epoch {
    pub(super) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reports the success of all pods but the hanging ones, until it is dropped.
pub(super) async fn run(client: Client, epoch: Epoch) {
    let events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let (client, epoch) = (&client, &epoch);
    let ended =
        events.default_backoff().applied_objects().for_each_concurrent(CONCURRENCY, |pod| async move {
            // The watch restarts after an error.
            let Ok(pod) = pod else { return };
            if pod.namespace().as_deref() == Some(HANGING) {
                return;
            }
            if pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
                == "Pending"
            {
                let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
                let status = json!({"status": status(&pod, epoch.now())});
                // A pod that is gone needs no status.
                let _ =
                    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
            }
        });
    ended.await;
}

/// The status of a pod whose worker has ended with the result of its task, or of one that serves.
fn status(pod: &Pod, epoch: u32) -> Value {
    let task = pod.annotations().get(labels::TASK).and_then(|text| serde_json::from_str::<Task>(text).ok());
    let work = task.map(|task| task.work).filter(|work| !matches!(work, Work::Serve { .. }));
    let now = now();
    let (phase, is_ready) = if work.is_some() { ("Succeeded", false) } else { ("Running", true) };
    let condition = |kind: &str, status: bool| {
        let status = if status { "True" } else { "False" };
        json!({"type": kind, "status": status, "lastTransitionTime": now})
    };
    let ended = |message: &str| {
        json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": now,
            "finishedAt": now, "containerID": format!("containerd://{}", "c".repeat(64))}})
    };
    let message = work.map_or_else(String::new, |work| result(pod, &work, epoch).to_message());
    let container = |name: &str, state: Value| {
        let is_running = state.get("running").is_some();
        json!({"name": name, "ready": is_running, "started": is_running, "restartCount": 0, "image": "worker:test",
            "imageID": format!("worker@sha256:{}", "d".repeat(64)), "state": state})
    };
    let spec = pod.spec.clone().unwrap_or_default();
    let init: Vec<_> = spec.init_containers.unwrap_or_default().into_iter().map(|it| it.name).collect();
    let main = spec.containers.iter().map(|it| match it.name.as_str() {
        name if is_ready => container(name, json!({"running": {"startedAt": now}})),
        name => container(name, ended(if name == labels::WORKER_CONTAINER { &message } else { "" })),
    });
    let init = init
        .iter()
        .map(|name| container(name, ended(if name == labels::WORKER_CONTAINER { &message } else { "" })));
    json!({
        "phase": phase,
        "conditions": [
            condition("PodReadyToStartContainers", is_ready),
            condition("Initialized", true),
            condition("Ready", is_ready),
            condition("ContainersReady", is_ready),
            condition("PodScheduled", true),
        ],
        "startTime": now, "hostIP": "198.18.0.1", "hostIPs": [{"ip": "198.18.0.1"}],
        "podIP": "198.18.1.1", "podIPs": [{"ip": "198.18.1.1"}], "qosClass": "Burstable",
        "initContainerStatuses": init.collect::<Vec<_>>(), "containerStatuses": main.collect::<Vec<_>>(),
    })
}

/// The result of the pod's task. Equal tasks of one epoch have equal digests.
fn result(pod: &Pod, work: &Work, epoch: u32) -> ResultDocument {
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    let made = |what: &str| {
        let text =
            format!("{epoch} {} {} {what}", pod.namespace().unwrap_or_default(), label(labels::INTENT));
        Some(Digest::of_bytes(text.as_bytes()))
    };
    let of = |digest: Option<Digest>, summary: &str| ResultDocument {
        digest,
        summary: Some(summary.to_owned()),
        ..ResultDocument::default()
    };
    match work {
        Work::Scan(_) => of(made("listing"), "12 objects"),
        Work::Version(_) => ResultDocument {
            schema_digest: Some(Digest::of_bytes(b"schema")),
            metrics: vec![Metric::new("rows", 336_776.0)],
            ..of(made("table"), "336776 rows, 12 rejected")
        },
        Work::Snapshot(work) => ResultDocument {
            activated: work.online.as_ref().map(|online| online.activation.clone()),
            ..of(made("snapshot"), "336776 rows")
        },
        Work::Activate(work) => {
            ResultDocument { activated: Some(work.online.activation.clone()), ..ResultDocument::default() }
        }
        Work::Train(_) => {
            ResultDocument { metrics: vec![Metric::new("auc", 0.9)], ..of(made("model"), "auc=0.9") }
        }
        Work::Register(work) => ResultDocument {
            metrics: work.metrics.clone(),
            registered: Some(Registered {
                registry: work.registry.clone(),
                name: work.registered_model.clone(),
                version: epoch.to_string(),
                reference: format!("models:/{}/{epoch}", work.registered_model),
                alias: work.alias.as_ref().map(|alias| alias.name.clone()),
            }),
            activated: work.alias.as_ref().map(|alias| alias.activation.clone()),
            ..of(Some(work.model.digest.clone()), &format!("version {epoch}"))
        },
        Work::Alias(work) => {
            ResultDocument { activated: Some(work.alias.activation.clone()), ..ResultDocument::default() }
        }
        Work::ProbeOnline { seen, .. } => ResultDocument {
            metrics: vec![Metric::new(PROBES, *seen as f64 + 1.0)],
            ..of(Some(Digest::of_bytes(b"mark")), "")
        },
        _ => ResultDocument::default(),
    }
}

#[allow(clippy::disallowed_methods, reason = "a kubelet has a real clock")]
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
