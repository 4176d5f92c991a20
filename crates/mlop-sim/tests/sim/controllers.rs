//! The stand-ins for controllers, and compaction.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use mlop_sim::{
    Sim, controllers,
    kubelet::{self, PodOutcome},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{config_map, until};

fn job(completions: i32) -> Job {
    serde_json::from_value(json!({"metadata": {"name": "train"}, "spec": {
        "completionMode": "Indexed", "completions": completions, "parallelism": completions, "backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a:1"}]}}}}))
    .unwrap()
}

fn finished(sim: &Sim) -> Option<(String, Job)> {
    let job: Job = sim.get("default", "train")?;
    let conditions = job.status.as_ref()?.conditions.clone()?;
    let last = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    Some((last.type_.clone(), job))
}

#[tokio::test(start_paused = true)]
async fn indexed_job_runs_one_pod_per_index() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::succeed("done"));
    controllers::spawn_jobs(&sim);
    sim.create(&job(2)).unwrap();
    let (outcome, job) = until(|| finished(&sim)).await;
    assert_eq!(outcome, "Complete");
    assert_eq!(job.status.unwrap().succeeded, Some(2));
    let pods = sim.list::<Pod>();
    let starts: Vec<_> =
        pods.iter().map(|pod| pod.metadata.name.clone().unwrap()[.."train-0-".len()].to_string()).collect();
    assert_eq!(starts, ["train-0-", "train-1-"]);
    let labels = pods[0].metadata.labels.as_ref().unwrap();
    assert_eq!(labels["batch.kubernetes.io/job-name"], "train");
    assert_eq!(pods[0].metadata.owner_references.as_ref().unwrap()[0].kind, "Job");
}

/// A Job that repeats no pod, and is complete when its first one is.
fn gang(completions: i32) -> Job {
    let mut job = job(completions);
    let spec = job.spec.as_mut().unwrap();
    (spec.backoff_limit, spec.backoff_limit_per_index) = (None, Some(0));
    let policy = json!({"rules": [{"succeededIndexes": "0"}]});
    spec.pod_replacement_policy = Some("Failed".into());
    spec.success_policy = Some(serde_json::from_value(policy).unwrap());
    job
}

#[tokio::test(start_paused = true)]
async fn job_is_complete_when_its_success_policy_is_met() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref().unwrap().starts_with("train-0") {
        true => PodOutcome::succeed("done"),
        false => PodOutcome::run_forever(),
    });
    controllers::spawn_jobs(&sim);
    sim.create(&gang(3)).unwrap();
    let (outcome, job) = until(|| finished(&sim)).await;
    assert_eq!((outcome.as_str(), job.status.unwrap().completed_indexes.as_deref()), ("Complete", Some("0")));
    assert_eq!(sim.list::<Pod>().len(), 1, "the others were stopped");
}

#[tokio::test(start_paused = true)]
async fn index_that_has_failed_ends_no_other_and_is_not_repeated() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref().unwrap().starts_with("train-1") {
        true => PodOutcome::fail(1, "Error", ""),
        false => PodOutcome::run_forever(),
    });
    controllers::spawn_jobs(&sim);
    sim.create(&gang(2)).unwrap();
    let failed = || sim.get::<Job>("default", "train").and_then(|job| job.status?.failed_indexes);
    assert_eq!(until(failed).await, "1");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(finished(&sim).is_none());
    let pods = sim.list::<Pod>();
    assert_eq!(pods.len(), 2);
    let leader =
        pods.iter().find(|pod| pod.metadata.name.as_deref().unwrap().starts_with("train-0")).unwrap();
    sim.delete::<Pod>("default", leader.metadata.name.as_deref().unwrap()).unwrap();
    let (outcome, job) = until(|| finished(&sim)).await;
    assert_eq!((outcome.as_str(), job.status.unwrap().failed_indexes.as_deref()), ("Failed", Some("0,1")));
    assert_eq!(sim.list::<Pod>().len(), 1, "a pod that somebody has removed is not created again");
}

#[tokio::test(start_paused = true)]
async fn job_fails_and_stops_its_pods_when_one_fails() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref().unwrap().starts_with("train-1") {
        true => PodOutcome::fail(1, "Error", ""),
        false => PodOutcome::run_forever(),
    });
    controllers::spawn_jobs(&sim);
    sim.create(&job(2)).unwrap();
    let (outcome, job) = until(|| finished(&sim)).await;
    assert_eq!(outcome, "Failed");
    assert_eq!(job.status.unwrap().failed, Some(1));
    until(|| (sim.count::<Pod>() == 1).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn deleted_job_deletes_its_pods() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::run_forever());
    controllers::spawn_jobs(&sim);
    sim.create(&job(3)).unwrap();
    until(|| (sim.count::<Pod>() == 3).then_some(())).await;
    sim.delete::<Job>("default", "train").unwrap();
    until(|| (sim.count::<Pod>() == 0).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn deployment_becomes_ready_after_the_scripted_delay() {
    let sim = Sim::new();
    controllers::spawn_workloads(&sim, |name| (name != "stuck").then_some(Duration::from_secs(30)));
    for name in ["stuck", "web"] {
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "a:1"}]}}}}))
        .unwrap();
        sim.create(&deployment).unwrap();
    }
    let ready = |name: &str| {
        let status = sim.get::<Deployment>("default", name)?.status?;
        (status.available_replicas == Some(2)).then_some(status)
    };
    let start = Instant::now();
    until(|| ready("web")).await;
    assert!(start.elapsed() >= Duration::from_secs(30));
    sim.edit::<Deployment>("default", "web", |web| web.spec.as_mut().unwrap().paused = Some(true)).unwrap();
    let updated =
        || ready("web").filter(|s| s.observed_generation == Some(2) && s.updated_replicas == Some(2));
    until(updated).await;
    assert!(start.elapsed() >= Duration::from_secs(60));
    assert!(ready("stuck").is_none());
}

#[tokio::test(start_paused = true)]
async fn compaction_expires_watches_from_older_versions() {
    let sim = Sim::new();
    sim.create(&config_map("a")).unwrap();
    let then = sim.revision().to_string();
    sim.edit::<ConfigMap>("default", "a", |a| a.data = Some([("k".into(), "v".into())].into())).unwrap();
    let api: kube::Api<ConfigMap> = kube::Api::namespaced(sim.client(), "default");
    let params = kube::api::WatchParams::default();
    let first = async |from: &str| {
        let mut events = Box::pin(api.watch(&params, from).await.unwrap());
        futures::StreamExt::next(&mut events).await.unwrap().unwrap()
    };
    assert!(matches!(first(&then).await, kube::api::WatchEvent::Modified(_)));
    sim.compact();
    assert!(matches!(first(&then).await, kube::api::WatchEvent::Error(status) if status.code == 410));
}
