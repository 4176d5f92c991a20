//! A kubelet without processes: it reports the statuses that the simulator's kubelet would, in less time.

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_sim::kubelet::PodOutcome;
use serde_json::{Value, json};
use std::{collections::BTreeMap, pin::pin, time::Duration};
use tokio::{task::JoinSet, time::sleep};

/// The time from a pod's creation to its start, and from there to its end.
const STARTUP: Duration = Duration::from_millis(100);
const RUNTIME: Duration = Duration::from_millis(300);

/// Reports the statuses of the pods in `namespace`. It calls `script` once per pod.
pub async fn run(client: Client, namespace: String, mut script: impl FnMut(&Pod) -> PodOutcome) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut events = pin!(watcher(pods.clone(), watcher::Config::default()).default_backoff());
    let mut handles = BTreeMap::new();
    let mut tasks: JoinSet<()> = JoinSet::new();
    while let Some(event) = events.next().await {
        while tasks.try_join_next().is_some() {}
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                handles.entry(uid).or_insert_with(|| tasks.spawn(run_pod(pods.clone(), script(&pod), pod)));
            }
            Ok(watcher::Event::Delete(pod)) => {
                if let Some(task) = handles.get(&pod.uid().unwrap_or_default()) {
                    task.abort();
                }
            }
            // The backoff restarts a watch that failed.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Reports the statuses of one pod.
async fn run_pod(pods: Api<Pod>, outcome: PodOutcome, pod: Pod) {
    let name = pod.name_any();
    let Ok(mut pod) = serde_json::to_value(&pod) else { return };
    sleep(STARTUP).await;
    outcome.start(&mut pod, &now());
    report(&pods, &name, &pod).await;
    if !outcome.lasts() {
        sleep(RUNTIME).await;
        outcome.finish(&mut pod, &now());
        report(&pods, &name, &pod).await;
    }
}

async fn report(pods: &Api<Pod>, name: &str, pod: &Value) {
    let status = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": pod["status"]});
    // The pod can be gone, which the watch reports.
    let _ = pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
}

#[allow(clippy::disallowed_methods, reason = "the kubelet of a real cluster has a real clock")]
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
