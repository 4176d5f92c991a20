//! Distributed trainings with real frameworks. Their images are large, so this suite runs by name only.

use crate::support::{self, STAGE};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::DeleteParams, runtime::watcher};
use mlop_api::{
    Reason,
    dataset::Dataset,
    labels,
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    flights,
    namespace::TestNamespace,
    state::{Intent as _, Kind as _},
    wait,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PYTORCH: &str = include_str!("../../pipelines/flights-pytorch.yaml");
/// The time limit of one training on a busy machine, in seconds.
const TRAINING: u64 = 300;
/// An untrained model has 0.5.
const LEARNED: f64 = 0.6;
/// How far the metrics of a training that was interrupted may be from those of one that was not.
const TOLERANCE: f64 = 1e-3;

/// The end of a training, from its metrics.
#[derive(Debug)]
struct Trained {
    auc: f64,
    loss: f64,
    resumed_after: f64,
    workers: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn pytorch_learns_the_same_when_a_worker_or_the_leader_is_killed() -> Result<()> {
    let directory = flights::prepare().await?;
    TestNamespace::run("pytorch", async |ns| {
        flights::upload(1..=1, &directory, ns).await?;
        let (data, training) = manifests(&ns.name)?;
        ns.apply(&[&data]).await?;
        ns.until("flights", "ready", STAGE, Dataset::is_ready).await?;

        let calm = train(ns, &training, "calm", None).await?;
        println!("undisturbed: {calm:?}");
        ensure!(calm.auc > LEARNED && calm.workers > 1.0 && calm.resumed_after < 1.0, "{calm:?}");
        for (name, rank) in [("worker", 1), ("leader", 0)] {
            let killed = train(ns, &training, name, Some(rank)).await?;
            println!("{name} killed: {killed:?}");
            ensure!(killed.resumed_after >= 1.0, "it began with the first epoch: {killed:?}");
            let difference = (killed.auc - calm.auc).abs().max((killed.loss - calm.loss).abs());
            ensure!(difference <= TOLERANCE, "{killed:?} is not {calm:?}");
        }
        Ok(())
    })
    .await
}

/// The manifests of the data and of the training. Each epoch takes a second longer than in the example.
fn manifests(namespace: &str) -> Result<(String, String)> {
    let (data, training) = PYTORCH.rsplit_once("---\n").context("no training")?;
    let data = data.replace("prefix: flights/", &format!("prefix: {namespace}/"));
    let save = "              save(epoch, model, optimizer)\n";
    ensure!(training.contains(save), "the training saves no checkpoint");
    let slow = format!("{save}              __import__(\"time\").sleep(1)\n");
    Ok((data, training.replace(save, &slow)))
}

/// Trains under a name, and kills the pod of `rank` when a checkpoint is saved.
async fn train(ns: &TestNamespace, manifest: &str, name: &str, rank: Option<u32>) -> Result<Trained> {
    let begin = Instant::now();
    ns.apply(&[&manifest.replace("metadata: {name: delay}", &format!("metadata: {{name: {name}}}"))]).await?;
    if let Some(rank) = rank {
        kill(ns, name, rank).await?;
    }
    let job: TrainingJob = ns.until(name, "ready", TRAINING, TrainingJob::is_ready).await?;
    let run = job.artifact().context("no artifact")?.run.clone();
    let run: TrainingRun = ns.api().get(&run).await?;
    let attempts = run.status.as_ref().map(|status| status.attempts);
    ensure!(attempts == Some(1 + u32::from(rank.is_some())), "{}", run.describe());
    let metrics = job.status.map(|status| status.metrics).unwrap_or_default();
    let value = |name: &str| -> Result<f64> {
        let metric = metrics.iter().find(|metric| metric.name == name);
        Ok(metric.with_context(|| format!("no metric {name} in {metrics:?}"))?.value.parse()?)
    };
    println!("{name} took {} s", begin.elapsed().as_secs());
    Ok(Trained {
        auc: value("auc")?,
        loss: value("loss")?,
        resumed_after: value("resumed_after")?,
        workers: value("workers")?,
    })
}

/// Kills the pod of this rank of the first attempt, and waits until its end is reported as the cause.
async fn kill(ns: &TestNamespace, job: &str, rank: u32) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
    let selector = format!(
        "{}={job},{}=TrainingRun,{}=1,{}={rank}",
        labels::INTENT,
        labels::RUN_KIND,
        labels::ATTEMPT,
        labels::RANK
    );
    let limit = Duration::from_secs(TRAINING);
    let config = watcher::Config::default().labels(&selector);
    let pod = wait::until_any(&pods, config, "running pod", limit, support::command_runs).await?;
    let run = pod.labels().get(labels::RUN).context("no run")?;
    let uid = ns.api::<TrainingRun>().get(run).await?.uid().context("no uid")?;
    saved(ns, &uid).await?;
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;

    let failure = |run: &TrainingRun| run.status.as_ref()?.failure.clone();
    let has_failed = |run: &TrainingRun| failure(run).is_some();
    let run: TrainingRun = ns.until(run, "failed", STAGE, has_failed).await?;
    let failure = failure(&run).context("no failure")?;
    ensure!(failure.reason == Reason::PodLost.as_str(), "{failure:?}");
    ensure!(failure.message.starts_with(&format!("worker {rank} of 2: ")), "{failure:?}");
    Ok(())
}

/// Waits until a checkpoint of the run is complete.
async fn saved(ns: &TestNamespace, uid: &str) -> Result<()> {
    let prefix = format!("{}/checkpoints/{uid}", ns.name);
    let end = Instant::now() + Duration::from_secs(TRAINING);
    loop {
        let keys = ns.store.keys(&prefix).await?;
        if keys.iter().any(|key| key.contains("/manifests/")) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "no checkpoint within {TRAINING} s: {keys:?}");
        sleep(Duration::from_millis(200)).await;
    }
}
