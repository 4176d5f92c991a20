//! The simulator through kube's client and watcher.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use mlop_sim::{
    Sim,
    kubelet::{self, PodOutcome},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{config_map, until};

/// A pod with the containers of a training run.
fn worker_pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "user", "image": "a:1"}, {"name": "agent", "image": "b:1"}]},
    }))
    .unwrap()
}

fn pod_phase(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn watcher_sees_writes_after_its_watch_ended() {
    let sim = Sim::new();
    let api: Api<ConfigMap> = Api::namespaced(sim.client(), "default");
    api.create(&PostParams::default(), &config_map("before")).await.unwrap();
    let mut names = Box::pin(
        watcher(api.clone(), watcher::Config::default().timeout(45))
            .touched_objects()
            .map_ok(|o| o.name_any()),
    );
    assert_eq!(names.next().await.unwrap().unwrap(), "before");
    api.create(&PostParams::default(), &config_map("after")).await.unwrap();
    assert_eq!(names.next().await.unwrap().unwrap(), "after");
    // The watch of 45 s ends several times meanwhile, and the watcher starts it again.
    tokio::time::advance(Duration::from_secs(200)).await;
    api.delete("before", &DeleteParams::default()).await.unwrap();
    assert_eq!(names.next().await.unwrap().unwrap(), "before");
}

#[tokio::test(start_paused = true)]
async fn pod_ends_with_the_scripted_outcome() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| {
        PodOutcome::succeed("result").in_container("agent").running_for(Duration::from_secs(60))
    });
    let started = Instant::now();
    sim.create(&worker_pod("a")).unwrap();
    let ended = until(|| sim.get::<Pod>("default", "a").filter(|pod| pod_phase(pod) == "Succeeded")).await;
    assert!(started.elapsed() >= Duration::from_secs(61));
    let statuses = ended.status.unwrap().container_statuses.unwrap();
    let messages: Vec<_> = statuses
        .iter()
        .map(|s| (s.name.as_str(), s.state.as_ref().unwrap().terminated.as_ref().unwrap().message.as_deref()))
        .collect();
    assert_eq!(messages, [("user", None), ("agent", Some("result"))]);
}

#[tokio::test(start_paused = true)]
async fn deleted_pod_shuts_down_before_removal() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::run_forever());
    sim.create(&worker_pod("a")).unwrap();
    until(|| sim.get::<Pod>("default", "a").filter(|pod| pod_phase(pod) == "Running")).await;
    sim.delete::<Pod>("default", "a").unwrap();
    assert!(sim.get::<Pod>("default", "a").unwrap().metadata.deletion_timestamp.is_some());
    until(|| sim.get::<Pod>("default", "a").is_none().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_a_test_have_the_same_trace() {
    async fn run() -> (u64, Vec<String>) {
        let sim = Sim::new();
        kubelet::spawn(&sim, |_| PodOutcome::fail(1, "Error", "no"));
        let api: Api<Pod> = Api::namespaced(sim.client(), "default");
        for name in ["a", "b", "c"] {
            api.create(&PostParams::default(), &worker_pod(name)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        until(|| sim.list::<Pod>().iter().all(|pod| pod_phase(pod) == "Failed").then_some(())).await;
        let objects = sim.list::<Pod>().iter().map(|pod| serde_json::to_string(pod).unwrap()).collect();
        (sim.trace_hash(), objects)
    }
    assert_eq!(run().await, run().await);
}

#[tokio::test(start_paused = true)]
async fn watchers_react_to_an_event_in_order_of_subscription() {
    async fn run() -> u64 {
        let sim = Sim::new();
        let mut followers = tokio::task::JoinSet::new();
        for follower in 0..16 {
            let api: Api<ConfigMap> = Api::namespaced(sim.client(), "default");
            let mut seen = Box::pin(watcher(api.clone(), watcher::Config::default()).touched_objects());
            followers.spawn(async move {
                seen.next().await.unwrap().unwrap();
                api.create(&PostParams::default(), &config_map(&format!("after-{follower}"))).await.unwrap();
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        sim.create(&config_map("first")).unwrap();
        followers.join_all().await;
        sim.trace_hash()
    }
    let first = run().await;
    for _ in 0..8 {
        assert_eq!(run().await, first);
    }
}

#[tokio::test(start_paused = true)]
async fn custom_type_is_served_with_defaults_and_status() {
    let sim = Sim::new();
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "widgets.test.dev"},
        "spec": {"group": "test.dev", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1}}},
                    "status": {"type": "object", "default": {"state": "Unknown"},
                        "properties": {"state": {"type": "string"}}}}}}}]},
    }))
    .unwrap();
    sim.register_crd(&crd).unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("test.dev", "v1", "Widget"));
    let api: Api<DynamicObject> = Api::namespaced_with(sim.client(), "default", &resource);
    let spec = json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {}});
    let applied = api.patch("a", &PatchParams::apply("me"), &Patch::Apply(&spec)).await.unwrap();
    assert_eq!(applied.data["spec"]["size"], 1);
    assert_eq!(applied.data["status"]["state"], "Unknown");
    let status = json!({"apiVersion": "test.dev/v1", "kind": "Widget", "status": {"state": "Ready"}});
    api.patch_status("a", &PatchParams::apply("me"), &Patch::Apply(&status)).await.unwrap();
    let listed = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items[0].data["status"]["state"], "Ready");
    assert_eq!(listed.items[0].metadata.generation, Some(1));
    let verbs: Vec<_> = sim.writes().into_iter().map(|w| (w.verb, w.subresource, w.changed)).collect();
    assert_eq!(verbs, [("apply".into(), String::new(), true), ("apply".into(), "status".into(), true)]);
}
