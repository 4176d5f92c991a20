//! The simulator as clients and tests use it, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admin;
mod cases;
mod client;
mod controllers;
mod frames;
mod kubelet;
mod restore;

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, WatchEvent, WatchParams},
    core::{ApiResource, GroupVersionKind, Status},
};
use mlop_sim::Sim;
use serde_json::json;
use tokio::time::{sleep, timeout};

type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a:1"}]}}))
    .unwrap()
}

fn config_maps(sim: &Sim) -> Api<ConfigMap> {
    Api::namespaced(sim.client(), "default")
}

fn widgets(sim: &Sim) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("conformance.mlop.dev", "v1", "Widget"));
    Api::namespaced_with(sim.client(), "default", &resource)
}

fn widget(name: &str) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "conformance.mlop.dev/v1", "kind": "Widget",
        "metadata": {"name": name}, "spec": {"size": 1}}))
    .unwrap()
}

async fn watch<K>(api: &Api<K>, from: &str) -> Events<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    Box::pin(api.watch(&WatchParams::default().timeout(290), from).await.unwrap())
}

/// Longer than the interval between two bookmarks.
const SILENCE: Duration = Duration::from_secs(61);

/// The next event as `TYPE name`; `END` at the end of the watch, `SILENCE` after a minute without an event.
async fn next_event<K: ResourceExt>(events: &mut Events<K>) -> String {
    let Ok(event) = timeout(SILENCE, events.next()).await else { return "SILENCE".into() };
    match event.transpose().unwrap() {
        None => "END".into(),
        Some(WatchEvent::Added(object)) => format!("ADDED {}", object.name_any()),
        Some(WatchEvent::Modified(object)) => format!("MODIFIED {}", object.name_any()),
        Some(WatchEvent::Deleted(object)) => format!("DELETED {}", object.name_any()),
        Some(WatchEvent::Bookmark(bookmark)) => format!("BOOKMARK {}", bookmark.metadata.resource_version),
        Some(WatchEvent::Error(status)) => format!("ERROR {}", status.code),
    }
}

fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not refused: {other:?}"),
    }
}

fn names(sim: &Sim) -> Vec<String> {
    sim.list::<ConfigMap>().iter().map(ResourceExt::name_any).collect()
}

fn phase(sim: &Sim, name: &str) -> String {
    let pod = sim.get::<Pod>("default", name);
    pod.and_then(|pod| pod.status?.phase).unwrap_or_else(|| "none".into())
}

/// Waits until `read` returns a value.
async fn until<T>(mut read: impl FnMut() -> Option<T>) -> T {
    let polled = async {
        loop {
            match read() {
                Some(value) => return value,
                None => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(Duration::from_secs(3600), polled).await.expect("a value within an hour of virtual time")
}

async fn until_true(sim: &Sim, holds: impl Fn(&Sim) -> bool) {
    until(|| holds(sim).then_some(())).await;
}

fn owner_reference(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}
