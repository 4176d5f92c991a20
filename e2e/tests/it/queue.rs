//! Trainings that wait for room in a queue.

use crate::support::{SAVE, STAGE, runs, says, script, stores_are_ready, with_spec};
use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::DeleteParams, runtime::watcher};
use kubectl_mlop::{cluster::Cluster, queue, status::Width};
use mlop_api::{
    Reason, labels,
    queue::TrainingQueue,
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{namespace::TestNamespace, state::Kind as _, wait};
use serde_json::json;
use std::time::Duration;

/// A queue for this namespace. It has room for one training: its command and mlop's agent.
const QUEUE: &str = r#"
apiVersion: mlop.dev/v1alpha1
kind: TrainingQueue
metadata: {name: "@NAMESPACE@"}
spec:
  resources: [{name: cpu, quota: 250m}]
  namespaces: {matchLabels: {kubernetes.io/metadata.name: "@NAMESPACE@"}}
"#;

/// Ends when it is told to.
const WAIT: &str = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(1)); signal.pause()";

/// The training `name` of the queue, with this code and so much CPU.
fn training(name: &str, code: &str, cpu: &str) -> String {
    let training = with_spec(&script(code), "queue: \"@NAMESPACE@\"");
    training.replace("name: script", &format!("name: {name}")).replace("cpu: 50m", &format!("cpu: {cpu}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn trainings_of_a_queue_wait_for_room() -> Result<()> {
    TestNamespace::run("queue", async |ns| {
        let queues: Api<TrainingQueue> = Api::all(ns.cluster.client.clone());
        let outcome = wait_for_room(ns, &queues).await;
        queues.delete(&ns.name, &DeleteParams::default()).await?;
        outcome
    })
    .await
}

async fn wait_for_room(ns: &TestNamespace, queues: &Api<TrainingQueue>) -> Result<()> {
    stores_are_ready(ns).await?;
    ns.apply(&[QUEUE, &training("first", WAIT, "150m")]).await?;
    let works = |job: &TrainingJob| says(job, Reason::Running, "is running");
    ns.until("first", "at work", STAGE, works).await?;

    ns.apply(&[&training("second", SAVE, "150m"), &training("large", SAVE, "300m")]).await?;
    let words = format!("waits in TrainingQueue {} at position 1; it needs 200m of 250m cpu", ns.name);
    let waits = |job: &TrainingJob| says(job, Reason::Queued, &words);
    ns.until("second", "waiting", STAGE, waits).await?;
    let words = format!("it needs 350m cpu, and the whole quota of TrainingQueue {} is 250m", ns.name);
    let is_refused = |job: &TrainingJob| says(job, Reason::QueueRefused, &words);
    ns.until("large", "refused", STAGE, is_refused).await?;
    let shown = Cluster::new(ns.cluster.client.clone(), &ns.name).queues().await?;
    let shown = queue::text(&queue::of(&shown, Some(&ns.name))?, Width::Wide, Timestamp::UNIX_EPOCH);
    ensure!(shown.contains("1 admitted, 1 waiting"), "{shown}");

    let cancel = json!({"metadata": {"annotations": {(labels::CANCEL_REQUESTED_AT): "now"}}});
    ns.patch::<TrainingJob>("first", &cancel).await?;
    ns.until("second", "ready", STAGE, TrainingJob::is_ready).await?;
    let first = run_of(ns, "first").await?.status.context("the first run has no status")?;
    let second = run_of(ns, "second").await?.status.context("the second run has no status")?;
    let end = first.finished_at.context("the first run has no end")?;
    let admission = second.admission.context("the second run has no admission")?;
    ensure!(admission.at.is_some_and(|at| at >= end), "{admission:?} before the end at {end}");
    let is_empty = |queue: &TrainingQueue| {
        queue.status.as_ref().is_some_and(|status| status.admitted == 0 && status.pending == 0)
    };
    let named = watcher::Config::default().fields(&format!("metadata.name={}", ns.name));
    let limit = Duration::from_secs(STAGE);
    wait::until_any(queues, named, "queue whose quota is free", limit, is_empty).await.map(drop)
}

/// The run of the training `name`.
async fn run_of(ns: &TestNamespace, name: &str) -> Result<TrainingRun> {
    let is_of = |run: &TrainingRun| run.labels().get(labels::INTENT).is_some_and(|intent| intent == name);
    runs::<TrainingRun>(ns).await?.into_iter().find(is_of).with_context(|| format!("no run of {name}"))
}
