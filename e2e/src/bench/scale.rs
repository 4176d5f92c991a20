//! The cost of an operator with thousands of objects in one namespace: memory, CPU time, time to ready after a restart,
//! and the time of one event.

use super::{
    CONCURRENCY, create_namespace, object,
    process::{Process, Usage},
    workers::{self, Epoch},
};
use crate::control_plane::ControlPlane;
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, wait::await_condition, watcher},
};
use mlop_api::{
    contract::condition_type,
    dataset::{Dataset, ObjectStore},
    kinds::Kind as _,
    operators::{self, Operator},
};
use serde_json::json;
use std::{collections::BTreeSet, ops::Range, path::Path, pin::pin, time::Duration};
use tokio::time::{Instant, sleep, timeout};

const NAMESPACE: &str = "scale";
/// Edits of one object that an operator follows without a delay.
const BURST: u32 = 10;
/// Time in which an operator at rest is watched.
const REST: Duration = Duration::from_secs(30);
/// The time limit for all Datasets to be Ready.
const READY_LIMIT: Duration = Duration::from_secs(3600);
/// The time limit for one event.
const EVENT_LIMIT: Duration = Duration::from_secs(60);

/// Creates `datasets` Datasets, lets the ingestion operator make their versions, and prints the figures of all
/// operators. Each figure of an event is the result of `edits` edits.
///
/// # Errors
/// A program does not start, or a step takes too long.
pub async fn run(programs: &Path, datasets: u32, edits: u32) -> Result<()> {
    let server = ControlPlane::start().await?;
    let client = server.client.clone();
    let start = |operator: &'static Operator| Process::start(operator, programs, &server, Some(NAMESPACE));
    create_connection(&client).await?;
    let work = workers::run(client.clone(), Epoch::default());
    let measurements = async {
        let mut ingestion = start(&operators::INGESTION).await?;
        ingestion.ready().await?;
        create_datasets(&client, 0..1).await?;
        until_all_ready(&client, 1).await?;
        println!(
            "1 Dataset: {}; {}",
            memory(ingestion.usage()?),
            events(&client, &ingestion, 1, 0..edits.min(BURST)).await?
        );

        let (began, before) = (Instant::now(), ingestion.usage()?);
        let (created, ready) =
            tokio::join!(create_datasets(&client, 1..datasets), until_all_ready(&client, datasets));
        created?;
        ready?;
        let usage = ingestion.usage()?;
        println!(
            "{datasets} Datasets created and Ready in {:.0} s; {}; {:.1} s of CPU",
            began.elapsed().as_secs_f64(),
            memory(usage),
            usage.cpu - before.cpu
        );
        println!("objects in the caches of {}: {:.0}", operators::INGESTION.name, cached(&ingestion).await?);
        ingestion.settled(0.0).await?;
        println!("{}", events(&client, &ingestion, datasets, edits..2 * edits).await?);
        println!("{}", at_rest(&ingestion).await?);
        ingestion.kill().await?;

        for operator in operators::ALL {
            let mut process = start(operator).await?;
            let ready = process.ready().await?;
            let reconciles = if operator.name == operators::INGESTION.name { 2 * datasets } else { 0 };
            let settled = process.settled(f64::from(reconciles)).await?;
            let usage = process.usage()?;
            println!(
                "{} after a restart: {:.0} objects, ready in {:.1} s, every object reconciled in {:.1} s, {}, {:.1} s of CPU",
                operator.name,
                cached(&process).await?,
                ready.as_secs_f64(),
                settled.as_secs_f64(),
                memory(usage),
                usage.cpu
            );
            if operator.name == operators::INGESTION.name {
                println!("{}", events(&client, &process, datasets, 2 * edits..3 * edits).await?);
            }
            process.kill().await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = measurements => ended,
        () = work => Err(anyhow::anyhow!("the stand-in for the workers has ended")),
    }
}

/// The namespace and the ObjectStore that all Datasets use.
pub(super) async fn create_connection(client: &Client) -> Result<()> {
    create_namespace(client, NAMESPACE).await?;
    let store: ObjectStore = object(json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "ObjectStore", "metadata": {"name": "files"},
        "spec": {"endpoint": "http://files.example.com", "bucket": "files"},
    }))?;
    Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &store).await?;
    Ok(())
}

/// Creates `datasets` Datasets, and waits until all are Ready.
pub(super) async fn make_datasets(client: &Client, datasets: u32) -> Result<()> {
    let (created, ready) =
        tokio::join!(create_datasets(client, 0..datasets), until_all_ready(client, datasets));
    created.and(ready)
}

fn name(number: u32) -> String {
    format!("table-{number:05}")
}

/// A Dataset of twelve columns.
fn dataset(number: u32) -> Result<Dataset> {
    let columns: Vec<_> = (0..12)
        .map(|column| json!({"name": format!("measurement_{column}"), "type": "float64", "nullable": true, "min": "-120", "max": "3000"}))
        .collect();
    object(json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"name": name(number), "labels": {"team": "forecast"}},
        "spec": {
            "source": {"objects": {"store": "files", "prefix": format!("{}/", name(number)), "include": ["*.csv.gz"]}, "format": {"csv": {}}},
            "columns": columns,
            "refresh": {"interval": "24h"},
            "store": "files",
        },
    }))
}

async fn create_datasets(client: &Client, numbers: Range<u32>) -> Result<()> {
    let api: Api<Dataset> = Api::namespaced(client.clone(), NAMESPACE);
    let created =
        stream::iter(numbers.map(Ok::<_, anyhow::Error>)).try_for_each_concurrent(CONCURRENCY, |number| {
            let api = api.clone();
            async move {
                api.create(&PostParams::default(), &dataset(number)?).await?;
                Ok(())
            }
        });
    created.await
}

/// Waits until this number of Datasets is Ready.
async fn until_all_ready(client: &Client, number: u32) -> Result<()> {
    let api: Api<Dataset> = Api::namespaced(client.clone(), NAMESPACE);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    let mut ready = BTreeSet::new();
    let all = async {
        while ready.len() < number as usize {
            let dataset = events.next().await.context("the watch has ended")?;
            // The watch restarts after an error.
            let Ok(dataset) = dataset else { continue };
            if is_ready(&dataset) && ready.insert(dataset.name_any()) && ready.len() % 1000 == 0 {
                eprintln!("{} Datasets are Ready", ready.len());
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(READY_LIMIT, all).await.context("the Datasets are not Ready in time")?
}

fn is_ready(dataset: &Dataset) -> bool {
    dataset
        .conditions()
        .iter()
        .any(|condition| condition.type_ == condition_type::READY && condition.status == "True")
}

/// The time from an edit of one Dataset until its status describes the edit, and the operator's CPU time for it. Each of
/// `edits` writes another value.
async fn events(client: &Client, operator: &Process, datasets: u32, edits: Range<u32>) -> Result<String> {
    let number = u32::try_from(edits.len())?;
    let api: Api<Dataset> = Api::namespaced(client.clone(), NAMESPACE);
    let (mut times, before) = (Vec::new(), operator.usage()?);
    for edit in edits {
        let name = name(edit % number * datasets / number);
        // Memory is part of the execution: the edit needs no new version.
        let patch = json!({"spec": {"resources": {"memory": format!("{}Mi", 512 + edit)}}});
        let began = Instant::now();
        let edited = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let observed = |dataset: Option<&Dataset>| {
            let status = dataset.and_then(|dataset| dataset.status.as_ref());
            status.is_some_and(|status| status.observed_generation >= edited.metadata.generation)
        };
        timeout(EVENT_LIMIT, await_condition(api.clone(), &name, observed))
            .await
            .with_context(|| format!("Dataset {name} does not follow its edit"))??;
        times.push(began.elapsed());
    }
    ensure!(!times.is_empty(), "no edits");
    times.sort_unstable();
    let at = |share: usize| {
        times.get((times.len() - 1) * share / 100).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let cpu = (operator.usage()?.cpu - before.cpu) * 1000.0 / f64::from(number);
    Ok(format!("edit to status: median {:.0} ms, longest {:.0} ms, {cpu:.1} ms of CPU each", at(50), at(100)))
}

async fn at_rest(operator: &Process) -> Result<String> {
    let before = operator.usage()?;
    sleep(REST).await;
    let cpu = (operator.usage()?.cpu - before.cpu) / REST.as_secs_f64() * 1000.0;
    Ok(format!("at rest: {cpu:.1} thousandths of a core"))
}

async fn cached(operator: &Process) -> Result<f64> {
    Ok(operator.metrics().await?.get("mlop_cache_objects").copied().unwrap_or_default())
}

fn memory(usage: Usage) -> String {
    format!("{:.0} MiB of memory (at most {:.0})", usage.memory, usage.memory_max)
}
