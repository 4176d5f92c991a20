//! The kubelet: the course of pods, and their statuses compared with those that a real kubelet reported.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, api::DeleteParams};
use mlop_sim::{
    Sim,
    kubelet::{self, PodOutcome},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{phase, pod, until, until_true};

/// Statuses of pods as a real kubelet reported them, by the name of the case.
fn recorded() -> BTreeMap<String, Pod> {
    serde_saphyr::from_str(include_str!("../../../mlop-core/tests/recorded/pods.yaml")).unwrap()
}

/// A pod with the containers of a recorded one.
fn with_containers_of(recorded: &Pod) -> Pod {
    let status = recorded.status.as_ref().unwrap();
    let containers = |statuses: &Option<Vec<ContainerStatus>>| -> Vec<Value> {
        let statuses = statuses.iter().flatten();
        statuses.map(|status| json!({"name": status.name, "image": status.image})).collect()
    };
    let mut main = containers(&status.container_statuses);
    if main.is_empty() {
        main = vec![json!({"name": "worker", "image": "a:1"})];
    }
    serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"restartPolicy": "Never",
        "initContainers": containers(&status.init_container_statuses), "containers": main}}))
    .unwrap()
}

/// The part of a pod's status from which its outcome is read, without times and texts of container runtimes.
fn essence(pod: &Pod) -> Value {
    let status = pod.status.as_ref().unwrap();
    let conditions: BTreeMap<_, _> =
        status.conditions.iter().flatten().map(|c| (c.type_.clone(), json!([c.status, c.reason]))).collect();
    let states = |statuses: &Option<Vec<ContainerStatus>>| -> BTreeMap<String, Value> {
        statuses.iter().flatten().map(|status| (status.name.clone(), state(status))).collect()
    };
    json!({
        "phase": status.phase, "reason": status.reason, "message": status.message, "conditions": conditions,
        "init": states(&status.init_container_statuses), "containers": states(&status.container_statuses),
    })
}

fn state(status: &ContainerStatus) -> Value {
    let state = status.state.clone().unwrap_or_default();
    match (state.waiting, state.running, state.terminated) {
        (Some(waiting), ..) => json!(["waiting", waiting.reason]),
        (_, Some(_), _) => json!("running"),
        (.., Some(ended)) => json!(["terminated", ended.exit_code, ended.reason]),
        _ => Value::Null,
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_match_those_of_a_real_kubelet() {
    let hour = Duration::from_secs(3600);
    let volume = "Usage of EmptyDir volume \"mlop\" exceeds the limit \"8Mi\". ";
    let storage = "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. ";
    let affinity = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    let cpu = "Node didn't have enough resource: cpu, requested: 64000, used: 60, capacity: 2000";
    let cases = [
        ("running", PodOutcome::run_forever()),
        ("fetching", PodOutcome::run_forever().fetching_for(hour)),
        ("fetch-failed", PodOutcome::fail(1, "Error", "denied").in_container("fetch")),
        ("succeeded", PodOutcome::succeed("{}").in_container("worker")),
        ("failed", PodOutcome::fail(1, "Error", "")),
        ("unschedulable", PodOutcome::unschedulable()),
        ("wrong-image-beside-running-agent", PodOutcome::image_pull_back_off().in_container("user")),
        (
            "missing-secret-in-env",
            PodOutcome::held_up("CreateContainerConfigError", "secret \"absent\" not found")
                .in_container("user"),
        ),
        ("missing-secret-volume", PodOutcome::held_up("ContainerCreating", "")),
        ("empty-dir-full", PodOutcome::disk_full(volume)),
        ("ephemeral-storage-full", PodOutcome::disk_full(storage)),
        ("node-affinity-at-kubelet", PodOutcome::rejected("NodeAffinity", affinity)),
        ("out-of-cpu-at-kubelet", PodOutcome::rejected("OutOfcpu", cpu)),
    ];
    let recorded = recorded();
    for (name, outcome) in cases {
        let sim = Sim::new();
        kubelet::spawn(&sim, move |_| outcome.clone());
        sim.create(&with_containers_of(&recorded[name])).unwrap();
        sleep(Duration::from_secs(60)).await;
        let reported: Pod = sim.get("default", "a").unwrap();
        assert_eq!(essence(&reported), essence(&recorded[name]), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn queued_pod_runs_once_a_node_fits() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::succeed("").queued_for(Duration::from_secs(3600)));
    let start = Instant::now();
    sim.create(&pod("a")).unwrap();
    sleep(Duration::from_secs(1800)).await;
    assert_eq!(phase(&sim, "a"), "Pending");
    let ended = until(|| sim.get::<Pod>("default", "a").filter(|_| phase(&sim, "a") == "Succeeded")).await;
    assert!(start.elapsed() >= Duration::from_secs(3600));
    let conditions = ended.status.unwrap().conditions.unwrap();
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled").unwrap();
    let since = scheduled.last_transition_time.as_ref().unwrap().0;
    assert_eq!(since.to_string(), "2026-01-01T01:00:01Z", "the time at which the node fitted");
}

#[tokio::test(start_paused = true)]
async fn preempted_pod_is_stopped_and_removed() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::preempted());
    sim.create(&pod("a")).unwrap();
    let preempted = until(|| {
        let pod = sim.get::<Pod>("default", "a")?;
        pod.metadata.deletion_timestamp.is_some().then_some(pod)
    })
    .await;
    let conditions = preempted.status.unwrap().conditions.unwrap();
    let target = conditions.iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(target.reason.as_deref(), Some("PreemptionByScheduler"));
    until_true(&sim, |sim| phase(sim, "a") == "none").await;
}

#[tokio::test(start_paused = true)]
async fn pod_of_a_lost_node_exists_until_it_is_deleted_by_force() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref() {
        Some("lost") => PodOutcome::node_lost(),
        _ => PodOutcome::run_forever(),
    });
    sim.create(&pod("lost")).unwrap();
    sleep(Duration::from_secs(60)).await;
    // The kubelet looks for unknown pods when another one is created.
    sim.create(&pod("other")).unwrap();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(phase(&sim, "lost"), "Running");
    let lost: Pod = sim.get("default", "lost").unwrap();
    assert!(lost.metadata.deletion_timestamp.is_some());
    let pods: Api<Pod> = Api::namespaced(sim.client(), "default");
    pods.delete("lost", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(phase(&sim, "lost"), "none");
}
