//! Nodes that are not fit for a training: its command does not start there, and the next attempt goes elsewhere.

use crate::{
    gpu,
    support::{self, SAVE, STAGE, STORES, published_run, says, script, stores_are_ready},
};
use anyhow::{Context as _, Result, ensure};
use kube::runtime::watcher;
use mlop_api::{
    Reason,
    dataset::ObjectStore,
    labels,
    preflight::Check,
    status::RunStatus,
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{namespace::TestNamespace, state::Kind as _, wait};
use serde_json::json;
use std::time::Duration;

/// Another address of the store, which leads nowhere when the test says so. The cluster's network has no policies.
const DOOR: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: door}
spec: {ports: [{port: 9000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: door, labels: {kubernetes.io/service-name: door}}
addressType: IPv4
ports: [{port: 9000}]
endpoints: [@TO@]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn store_that_the_pod_does_not_reach_costs_no_attempt() -> Result<()> {
    TestNamespace::run("preflight-store", async |ns| {
        let ip = "jsonpath={.items[0].endpoints[0].addresses[0]}";
        let slices =
            ["-n", "storage", "get", "endpointslices", "-l", "kubernetes.io/service-name=minio", "-o", ip];
        let ip = ns.cluster.kubectl(&slices).await?;
        let open = DOOR.replace("@TO@", &format!("{{addresses: [{}]}}", ip.trim()));
        let endpoint = format!("http://door.{}.svc:9000", ns.name);
        let stores = STORES.replace("http://minio.storage.svc:9000", &endpoint);
        ensure!(stores != STORES, "the stores have another address: {STORES}");
        ns.apply(&[&open, &stores]).await?;
        for store in ["raw", "mlop"] {
            ns.until(store, "ready", STAGE, ObjectStore::is_ready).await?;
        }
        ns.apply(&[&DOOR.replace("@TO@", ""), &script(SAVE)]).await?;
        let status = until_run(ns, "a failed preflight", |status| status.failure.is_some()).await?;
        let failure = status.failure.as_ref().context("no failure")?;
        ensure!(failure.reason == Reason::PreflightFailed.as_str(), "{failure:?}");
        ensure!(failure.message.contains("ObjectStore mlop does not answer this pod"), "{failure:?}");
        ensure!(status.attempts == status.budget_start, "it costs an attempt: {status:?}");
        let avoided = status.avoided_nodes.first().context("no node is avoided")?;
        ensure!(avoided.check == Check::Store && failure.message.contains(&avoided.name), "{status:?}");

        ns.apply(&[&open]).await?;
        published_run(ns).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_without_room_is_reported_until_less_is_asked_for() -> Result<()> {
    TestNamespace::run("preflight-disk", async |ns| {
        stores_are_ready(ns).await?;
        ns.apply(&[&script(SAVE).replace("scratch: 64Mi", "scratch: 900Ti")]).await?;
        let status = until_run(ns, "a failed preflight", |status| status.failure.is_some()).await?;
        let failure = status.failure.as_ref().context("no failure")?;
        ensure!(failure.reason == Reason::PreflightFailed.as_str(), "{failure:?}");
        ensure!(
            failure.message.contains("and the scratch space 989560.4 GB; lower spec.scratch"),
            "{failure:?}"
        );
        ns.patch::<TrainingJob>("script", &json!({"spec": {"scratch": "64Mi"}})).await?;
        published_run(ns).await.map(drop)
    })
    .await
}

/// Its driver is a stand-in: a program `nvidia-smi` that fails as the real one does without a driver.
#[tokio::test(flavor = "multi_thread")]
async fn broken_gpus_are_left_until_somebody_mends_them() -> Result<()> {
    TestNamespace::run("preflight-gpu", async |ns| {
        gpu::set(&ns.cluster, json!("2")).await?;
        let outcome = broken_gpus(ns).await;
        gpu::set(&ns.cluster, serde_json::Value::Null).await?;
        outcome
    })
    .await
}

async fn broken_gpus(ns: &TestNamespace) -> Result<()> {
    stores_are_ready(ns).await?;
    let broken =
        "echo \"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\"; exit 9";
    gpu::install_driver(ns, broken).await?;
    ns.apply(&[&gpu::training(1)]).await?;
    let is_left = |job: &TrainingJob| says(job, Reason::Unschedulable, "; avoided until ");
    let job: TrainingJob = ns.until("script", "no node is left", STAGE, is_left).await?;
    let words = job.describe();
    for part in ["nodes are available", "PreflightFailed: node ", "exit status: 9: NVIDIA-SMI has failed"] {
        ensure!(words.contains(part), "{part}: {words}");
    }
    let status = until_run(ns, "avoided nodes", |status| !status.avoided_nodes.is_empty()).await?;
    let attempts = status.attempts;
    ensure!(status.avoided_nodes.len() == usize::try_from(attempts)?, "a node was tried twice: {status:?}");
    ensure!(status.budget_start == attempts.min(3), "{status:?}");

    // In the time until the nodes count again, somebody repairs the driver.
    gpu::install_driver(ns, gpu::WORKS).await?;
    let retry = format!("{}=1", labels::RETRY_REQUESTED_AT);
    ns.kubectl(&["annotate", "tjob", "script", &retry], "").await?;
    let run = published_run(ns).await?;
    let status = run.status.clone().unwrap_or_default();
    ensure!(status.attempts == attempts + 1 && status.avoided_nodes.is_empty(), "{}", run.describe());
    Ok(())
}

/// The status of the only run, once it has `reached` something.
async fn until_run(
    ns: &TestNamespace,
    what: &str,
    reached: impl Fn(&RunStatus) -> bool,
) -> Result<RunStatus> {
    let limit = Duration::from_secs(STAGE);
    let has_reached = |run: &TrainingRun| run.status.as_ref().is_some_and(&reached);
    wait::until_any(&ns.api::<TrainingRun>(), watcher::Config::default(), what, limit, has_reached).await?;
    let run = support::runs::<TrainingRun>(ns).await?.pop().context("no run")?;
    run.status.context("no status")
}
