//! The pods that Prometheus scrapes, as a file: what the PodMonitors of the charts select.
//!
//! Debian's Prometheus cannot ask Kubernetes itself.

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use mlop_api::{labels, operators};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    pin::pin,
};

/// Keeps `file` up to date, until the task is aborted.
pub(super) async fn follow(client: Client, file: PathBuf) {
    let (reader, writer) = reflector::store();
    let watch = watcher::watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff();
    let mut changes = pin!(watch.reflect(writer));
    let mut written = Value::Null;
    while changes.next().await.is_some() {
        let mut targets: Vec<Value> = reader.state().iter().filter_map(|pod| target(pod)).collect();
        targets.sort_by_key(Value::to_string);
        let targets = json!(targets);
        if targets != written {
            if let Err(error) = write(&file, &targets) {
                eprintln!("{error:#}");
            }
            written = targets;
        }
    }
}

/// Writes a file of targets. By rename: Prometheus never reads a part.
pub(super) fn write(file: &Path, targets: &Value) -> Result<()> {
    let part = file.with_extension("part");
    let written = fs::write(&part, targets.to_string()).and_then(|()| fs::rename(&part, file));
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// The group of one target, if the pod runs and has metrics.
fn target(pod: &Pod) -> Option<Value> {
    let status = pod.status.as_ref()?;
    let address = status.pod_ip.as_deref()?;
    if status.phase.as_deref() != Some("Running") {
        return None;
    }
    let label = |name: &str| pod.labels().get(name).map(String::as_str);
    let name = label("app.kubernetes.io/name").unwrap_or_default();
    let operator = operators::ALL.iter().find(|operator| operator.name == name);
    let (port, job) = match (operator, label(labels::INTENT_KIND), label(labels::ROLE)) {
        (Some(operator), ..) => ("health", operator.name),
        (None, Some("FeatureStore"), Some(labels::SERVING)) => ("http", "mlop-feature-servers"),
        (None, Some("ModelDeployment"), Some(labels::ROUTING)) => ("metrics", "mlop-routers"),
        _ => return None,
    };
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|entry| entry.name.as_deref() == Some(port))?.container_port;
    let labels = json!({
        "job": job, "namespace": pod.namespace(), "pod": pod.name_any(), "mlop_dev_intent": label(labels::INTENT),
    });
    let labels: serde_json::Map<_, _> = labels
        .as_object()?
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Some(json!({"targets": [format!("{address}:{port}")], "labels": labels}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(labels: Value, port: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": labels},
            "spec": {"containers": [{"name": "c", "ports": [{"name": port, "containerPort": 8081}]}]},
            "status": {"phase": phase, "podIP": "10.0.0.1"},
        }))
        .unwrap()
    }

    #[test]
    fn target_is_a_running_pod_with_metrics() {
        let operator = json!({"app.kubernetes.io/name": "mlop-training"});
        let store = json!({"mlop.dev/intent-kind": "FeatureStore", "mlop.dev/intent": "f", "mlop.dev/role": "serving"});
        let router = json!({"mlop.dev/intent-kind": "ModelDeployment", "mlop.dev/intent": "m", "mlop.dev/role": "routing"});
        let labels = |pod: &Pod| target(pod).map(|target| target["labels"].clone());
        assert_eq!(
            target(&pod(operator.clone(), "health", "Running")),
            Some(json!({
                "targets": ["10.0.0.1:8081"],
                "labels": {"job": "mlop-training", "namespace": "n", "pod": "p"},
            }))
        );
        assert_eq!(
            labels(&pod(store.clone(), "http", "Running")),
            Some(
                json!({"job": "mlop-feature-servers", "namespace": "n", "pod": "p", "mlop_dev_intent": "f"})
            )
        );
        assert_eq!(labels(&pod(router.clone(), "metrics", "Running")).unwrap()["job"], "mlop-routers");
        for other in [
            pod(operator, "health", "Pending"),
            // The managed Redis of a FeatureStore, and the model server of a ModelDeployment.
            pod(store, "redis", "Running"),
            pod(router, "http", "Running"),
            pod(json!({"app": "other"}), "metrics", "Running"),
        ] {
            assert_eq!(target(&other), None);
        }
    }
}
