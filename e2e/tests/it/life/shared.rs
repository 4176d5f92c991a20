//! Troubles of one namespace: a queue, a slow store, an absent store, a lost TrackingServer, an emptied Redis, a move to
//! another one.

use crate::support::{self, SAVE, STAGE, STORES, published_run, says, script, stores_are_ready, with_spec};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams, runtime::watcher};
use mlop_api::{
    Reason,
    dataset::ObjectStore,
    features::FeatureView,
    labels,
    registry::{Model, TrackingServer},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    namespace::TestNamespace,
    state::{Intent as _, Kind as _},
    wait,
};
use std::time::Duration;
use tokio::time::Instant;

const PROXY: &str = include_str!("../../pipelines/proxy.yaml");
/// `startTimeout` of the trainings that wait for longer, in seconds.
const START_TIMEOUT: u64 = 15;
/// Time of the wait.
const QUEUED: Duration = Duration::from_secs(3 * START_TIMEOUT);
/// Bytes that the proxy needs twice `startTimeout` to read.
const SLOW_BYTES: u64 = 2 * START_TIMEOUT * (64 << 10);
const OUTAGE: Duration = Duration::from_secs(60);
/// The time from the loss of all online values until they are back.
const REFILLED: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn queued_pod_outlives_its_start_timeout() -> Result<()> {
    TestNamespace::run("queue", async |ns| {
        ns.cluster.kubectl(&["label", "nodes", "--all", "mlop.dev/e2e-queue-"]).await?;
        stores_are_ready(ns).await?;
        let queue = format!("startTimeout: {START_TIMEOUT}s\nnodeSelector: {{mlop.dev/e2e-queue: open}}");
        ns.apply(&[&with_spec(&script(SAVE), &queue)]).await?;
        let queued = |job: &TrainingJob| says(job, Reason::Unschedulable, "");
        ns.until("script", "queued", STAGE, queued).await?;
        let pod = pods_of_run(ns).await?.pop().context("no pod")?;
        let other = |job: &TrainingJob| !queued(job);
        let left = wait::until(&ns.api(), "script", "out of the queue", QUEUED, other).await;
        ensure!(left.is_err(), "the wait in the queue ended by itself");

        ns.cluster.kubectl(&["label", "nodes", "--all", "mlop.dev/e2e-queue=open"]).await?;
        let run = published_run(ns).await?;
        ns.cluster.kubectl(&["label", "nodes", "--all", "mlop.dev/e2e-queue-"]).await?;
        check_single_attempt(&run)?;
        let pods: Vec<_> = pods_of_run(ns).await?.iter().map(Pod::uid).collect();
        ensure!(pods == [pod.uid()], "the queued pod was replaced");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_fetches_beyond_the_start_timeout_trains() -> Result<()> {
    TestNamespace::run("fetch", async |ns| {
        proxy_is_ready(ns).await?;
        let large = format!(
            "import os, pathlib\n\
             pathlib.Path(os.environ['MLOP_OUTPUT'], 'large').write_bytes(os.urandom({SLOW_BYTES}))"
        );
        let producer = script(&large).replace("{name: script}", "{name: producer}");
        ns.apply(&[&producer]).await?;
        ns.until("producer", "ready", STAGE, TrainingJob::is_ready).await?;

        let input = format!(
            "startTimeout: {START_TIMEOUT}s\n\
             inputs: [{{name: large, from: {{kind: TrainingJob, name: producer}}}}]"
        );
        let code = format!(
            "import os, pathlib\n\
             assert pathlib.Path(os.environ['MLOP_INPUTS'], 'large/large').stat().st_size == {SLOW_BYTES}\n{SAVE}"
        );
        ns.apply(&[&with_spec(&script(&code), &input)]).await?;
        let run = published_run(ns).await?;
        check_single_attempt(&run)?;
        let pod = pods_of_run(ns).await?.pop().context("no pod")?;
        let fetched = init_seconds(&pod).context("no fetch")?;
        ensure!(fetched > START_TIMEOUT as i64, "the fetch took only {fetched} s");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_store_at_the_end_of_a_training_repeats_nothing() -> Result<()> {
    TestNamespace::run("outage", async |ns| {
        proxy_is_ready(ns).await?;
        let code = format!("print('trained', flush=True)\nimport time\n{SAVE}\ntime.sleep(10)");
        ns.apply(&[&script(&code)]).await?;
        let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let limit = Duration::from_secs(STAGE);
        let config = support::of_runs();
        wait::until_any(&pods, config.clone(), "training at work", limit, support::command_runs).await?;
        ns.kubectl(&["scale", "deployment/proxy", "--replicas=0"], "").await?;
        let ended = |pod: &Pod| support::user_container(pod).is_some_and(|state| state.terminated.is_some());
        wait::until_any(&pods, config, "end of the command", limit, ended).await?;
        let published = |job: &TrainingJob| job.artifact().is_some();
        let early = wait::until(&ns.api(), "script", "published", OUTAGE, published).await;
        ensure!(early.is_err(), "the result was published without its store");

        ns.kubectl(&["scale", "deployment/proxy", "--replicas=1"], "").await?;
        let run = published_run(ns).await?;
        check_single_attempt(&run)?;
        ensure!(pods_of_run(ns).await?.len() == 1, "another pod was made");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_outlives_its_tracking_server() -> Result<()> {
    TestNamespace::run("history", async |ns| {
        let (server, model) = server_and_model();
        ns.apply(&[STORES, &script(SAVE), &server, &model]).await?;
        ns.until("slope", "ready", support::CHAIN_SECONDS, Model::is_ready).await?;
        let before = support::registered(ns).await?;
        ensure!(!before.is_empty(), "the alias names no version");

        ns.kubectl(&["delete", "tracking", "mlflow"], "").await?;
        let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let server_pods = watcher::Config::default().labels("app.kubernetes.io/instance=mlflow-mlflow");
        wait::until_gone(&pods, server_pods, "MLflow", Duration::from_secs(STAGE)).await?;
        ns.apply(&[&server]).await?;
        ns.until("mlflow", "ready", STAGE, TrackingServer::is_ready).await?;
        ns.until("slope", "ready", STAGE, Model::is_ready).await?;
        ensure!(support::registered(ns).await? == before, "MLflow's history is gone");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_is_filled_again_within_a_minute() -> Result<()> {
    TestNamespace::run("emptied", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        ns.apply(&[STORES, support::POINTS, support::MEANS]).await?;
        ns.until("means", "ready", STAGE, FeatureView::is_ready).await?;
        let before = answer(ns, Duration::from_secs(STAGE), None).await?;

        let flush = format!("REDISCLI_AUTH=`cat {}/password` redis-cli FLUSHALL", labels::REDIS_DIR);
        let flushed = ns.kubectl(&["exec", "features-redis-0", "--", "sh", "-c", &flush], "").await?;
        ensure!(flushed.trim() == "OK", "Redis was not emptied: {flushed}");
        ensure!(support::online(ns, "features").await.is_err(), "an emptied Redis still answers");
        answer(ns, REFILLED, Some(&before)).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_view_is_served_by_its_new_store_only() -> Result<()> {
    TestNamespace::run("moved", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        let spare = support::MEANS.split("\n---\n").nth(1).context("no FeatureStore")?;
        let spare = spare.replace("name: features", "name: spare");
        ns.apply(&[STORES, support::POINTS, support::MEANS, &spare]).await?;
        ns.until("means", "ready", STAGE, FeatureView::is_ready).await?;
        let before = answer(ns, Duration::from_secs(STAGE), None).await?;

        let to_spare = r#"{"spec": {"featureStore": "spare"}}"#;
        ns.kubectl(&["patch", "fview", "means", "--type=merge", "--patch", to_spare], "").await?;
        let has_moved = |view: &FeatureView| {
            let status = view.status.as_ref();
            view.is_ready() && status.is_some_and(|status| status.online_in == ["spare"])
        };
        ns.until("means", "online in the other store only", STAGE, has_moved).await?;
        let after = support::online(ns, "spare").await?;
        ensure!(after == before, "the other store serves {after} instead of {before}");
        let left = support::online(ns, "features").await;
        ensure!(left.is_err(), "the former store still serves {left:?}");
        Ok(())
    })
    .await
}

/// The first answer of the online API within `limit`, or the first one that is `wanted`.
async fn answer(ns: &TestNamespace, limit: Duration, wanted: Option<&str>) -> Result<String> {
    let end = Instant::now() + limit;
    loop {
        let answer = support::online(ns, "features").await;
        match answer {
            Ok(value) if wanted.is_none_or(|wanted| wanted == value) => return Ok(value),
            answer => ensure!(Instant::now() < end, "the online API answers {answer:?} after {limit:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The TrackingServer, and a Model of the training `script` without gates.
fn server_and_model() -> (String, String) {
    let mut documents = support::SERVE.split("\n---\n");
    let server = documents.next().unwrap_or_default().to_owned();
    let model = documents.next().unwrap_or_default().replace("name: fit}", "name: script}");
    let model = model.lines().filter(|line| !line.contains("gates:")).collect::<Vec<_>>().join("\n");
    (server, model)
}

async fn proxy_is_ready(ns: &TestNamespace) -> Result<()> {
    ns.apply(&[PROXY]).await?;
    ns.until("mlop", "ready", STAGE, ObjectStore::is_ready).await.map(drop)
}

fn check_single_attempt(run: &TrainingRun) -> Result<()> {
    ensure!(run.status.as_ref().map(|status| status.attempts) == Some(1), "{}", run.describe());
    Ok(())
}

/// The pods of the run of the training `script`.
async fn pods_of_run(ns: &TestNamespace) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
    let of_script = format!("{}=TrainingRun,{}=script", labels::RUN_KIND, labels::INTENT);
    Ok(pods.list(&ListParams::default().labels(&of_script)).await?.items)
}

/// The seconds from the start of the first init container to the end of the last.
fn init_seconds(pod: &Pod) -> Option<i64> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let ended = statuses.iter().filter_map(|status| status.state.as_ref()?.terminated.as_ref());
    let times: Vec<_> = ended
        .filter_map(|state| Some((state.started_at.as_ref()?.0, state.finished_at.as_ref()?.0)))
        .collect();
    let (first, last) = (times.iter().map(|time| time.0).min()?, times.iter().map(|time| time.1).max()?);
    Some(last.as_second() - first.as_second())
}
