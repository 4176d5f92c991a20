//! Flux delivers a chain: its controllers wait for the health of every object, see no drift, name a mistake, put back edits by hand
//! and prune. The controllers are built for this test, so it runs by name only.

use crate::support::{self, CHAIN_SECONDS, FIT, MEANS, POINTS, SERVE, STAGE, STORES, with_spec};
use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{Api, ResourceExt as _, runtime::watcher};
use kubectl_mlop::{actions, cluster::Cluster, snapshot::Snapshot};
use mlop_api::{
    contract::condition_type::READY, dataset::Dataset, deployment::ModelDeployment, labels,
    training::TrainingJob,
};
use mlop_e2e::{
    flux::{self, Actions, Flux},
    namespace::TestNamespace,
    state::Kind as _,
    wait,
};
use std::{collections::BTreeMap, time::Duration};

/// The namespace is part of the source, as a platform team has it.
const NAMESPACE: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: "@NAMESPACE@"
  labels: {pod-security.kubernetes.io/enforce: restricted}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn flux_sees_health_and_no_drift_of_a_chain() -> Result<()> {
    TestNamespace::run("flux", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        let source = [
            ("namespace", NAMESPACE),
            ("stores", STORES),
            ("points", POINTS),
            ("means", MEANS),
            ("fit", &fit()),
            ("serve", SERVE),
        ];
        let flux = Flux::start(ns, &source).await?;
        let outcome = deliver(ns, &flux).await;
        if outcome.is_err() {
            eprintln!("{}", flux.diagnosis().await);
        }
        flux.stop().await?;
        outcome
    })
    .await
}

async fn deliver(ns: &TestNamespace, flux: &Flux<'_>) -> Result<()> {
    let revision = flux.until_fetched(None).await?;
    ready_after_every_object(flux, &revision).await.context("health of a new chain")?;
    second_reconcile_writes_nothing(flux).await.context("drift of a chain at rest")?;
    new_data_is_no_drift(ns, flux).await.context("drift of a chain at work")?;
    suspension_stays(ns, flux).await.context("a request of kubectl mlop")?;
    edits_by_kubectl_are_undone(ns, flux).await.context("an edit by hand")?;
    mistake_is_named_until_it_is_mended(ns, flux, &revision).await.context("a mistake")?;
    removed_object_is_pruned(ns, flux).await.context("an object that left the source")
}

/// A training that gives up after its first failure.
fn fit() -> String {
    with_spec(FIT, "retry: {limit: 1, initial: 1s, factor: \"1\", max: 1s}")
}

/// The Kustomization becomes Ready, and not before the last object of the chain.
async fn ready_after_every_object(flux: &Flux<'_>, revision: &str) -> Result<()> {
    let kustomization = flux.until_ready(revision).await?;
    let ready = flux::condition(&kustomization, READY).context("no Ready")?;
    let delivered = flux.delivered().await?;
    let chain: Vec<_> = delivered.iter().filter(|object| is_of_mlop(object)).collect();
    ensure!(chain.len() == 9, "not the whole chain: {chain:?}");
    for object in chain {
        let name = object.name_any();
        let own = flux::condition(object, READY).with_context(|| format!("{name} has no Ready"))?;
        ensure!(own.status == "True", "Flux was ready, but not {name}: {own:?}");
        ensure!(
            own.last_transition_time <= ready.last_transition_time,
            "Flux was ready before {name}: {ready:?} {own:?}"
        );
    }
    Ok(())
}

fn is_of_mlop(object: &flux::Delivered) -> bool {
    object.types.as_ref().is_some_and(|types| types.api_version.starts_with(mlop_api::GROUP))
}

/// The operators have written statuses since the first apply. Flux finds its fields as they were, and touches none.
async fn second_reconcile_writes_nothing(flux: &Flux<'_>) -> Result<()> {
    let before = written(flux).await?;
    let actions = flux.reconcile().await?;
    ensure!(actions.len() == before.len(), "not all objects were compared: {actions:?}");
    changed(&actions, &[])?;
    let after = written(flux).await?;
    let differing: Vec<_> = before.iter().filter(|(name, fields)| after.get(*name) != Some(fields)).collect();
    ensure!(differing.is_empty(), "written again, before: {differing:?}\nafter: {after:?}");
    Ok(())
}

/// Who has written which fields, by object.
async fn written(flux: &Flux<'_>) -> Result<BTreeMap<String, String>> {
    let delivered = flux.delivered().await?;
    let kind =
        |object: &flux::Delivered| object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
    Ok(delivered.iter().map(|o| (format!("{}/{}", kind(o), o.name_any()), flux::written(o))).collect())
}

/// Checks that Flux has changed exactly these objects, such as `Dataset/points`.
fn changed(actions: &Actions, wanted: &[&str]) -> Result<()> {
    let changed = actions.iter().filter(|(_, action)| *action != "unchanged");
    let changed: Vec<String> = changed.map(|(object, _)| without_namespace(object)).collect();
    ensure!(changed == wanted, "Flux has changed {changed:?}, not {wanted:?}: {actions:?}");
    Ok(())
}

/// `Dataset/points` of `Dataset/park/points`.
fn without_namespace(object: &str) -> String {
    let (kind, rest) = object.split_once('/').unwrap_or_default();
    format!("{kind}/{}", rest.rsplit('/').next().unwrap_or_default())
}

/// Newer data becomes a newer model, and Flux changes nothing, neither meanwhile nor afterwards.
async fn new_data_is_no_drift(ns: &TestNamespace, flux: &Flux<'_>) -> Result<()> {
    let first = served(ns).await?;
    let old = support::published_digest(&ns.api::<Dataset>().get("points").await?)?;
    ns.upload("points/1.csv", &support::points(0, 3.0)).await?;
    act(ns, |snapshot| actions::refresh(snapshot, "points")).await?;
    let is_newer = |dataset: &Dataset| support::published_digest(dataset).is_ok_and(|digest| digest != old);
    ns.until("points", "newer", STAGE, is_newer).await?;
    changed(&flux.reconcile().await?, &[])?;
    let serves_newer = |deployment: &ModelDeployment| {
        deployment.is_ready() && support::served_digest(deployment).is_ok_and(|digest| digest != first)
    };
    ns.until("slope", "serving the newer model", CHAIN_SECONDS, serves_newer).await?;
    changed(&flux.reconcile().await?, &[])
}

/// A field that is not in the source belongs to its writer.
async fn suspension_stays(ns: &TestNamespace, flux: &Flux<'_>) -> Result<()> {
    act(ns, |snapshot| actions::suspend(snapshot, "points", true)).await?;
    changed(&flux.reconcile().await?, &[])?;
    let dataset: Dataset = ns.api().get("points").await?;
    ensure!(dataset.spec.suspend, "Flux has resumed the Dataset");
    act(ns, |snapshot| actions::suspend(snapshot, "points", false)).await
}

/// Does what `kubectl mlop` does.
async fn act(ns: &TestNamespace, change: impl Fn(&Snapshot) -> Result<actions::Change>) -> Result<()> {
    let cluster = Cluster::new(ns.cluster.client.clone(), &ns.name);
    let snapshot = cluster.snapshot(Timestamp::UNIX_EPOCH).await?;
    cluster.apply(&change(&snapshot)?, false).await
}

/// Flux takes what kubectl writes for a mistake, fields that are not in the source included.
async fn edits_by_kubectl_are_undone(ns: &TestNamespace, flux: &Flux<'_>) -> Result<()> {
    let first = served(ns).await?;
    support::request_refresh(ns, "by-hand").await?;
    ns.kubectl(&["patch", "tjob", "fit", "--type=merge", r#"--patch={"spec":{"seed":8}}"#], "").await?;
    changed(&flux.reconcile().await?, &["Dataset/points", "TrainingJob/fit"])?;
    changed(&flux.reconcile().await?, &[])?;
    let job: TrainingJob = ns.api().get("fit").await?;
    ensure!(job.spec.seed == 7, "the seed is {}", job.spec.seed);
    ensure!(served(ns).await? == first, "another model is served after the edit was undone");
    Ok(())
}

/// A training that fails for good makes the Kustomization unhealthy. The model stays served.
async fn mistake_is_named_until_it_is_mended(
    ns: &TestNamespace,
    flux: &Flux<'_>,
    revision: &str,
) -> Result<()> {
    let first = served(ns).await?;
    let right = fit();
    let wrong = right.replace("model = LinearRegression()", "raise SystemExit(\"a mistake\")  # ");
    ensure!(wrong != right, "the mistake is not in the script");
    let mistaken = flux.publish("fit", &wrong).await?;
    let message = flux.until_unhealthy(&mistaken).await?;
    let named = format!("TrainingJob/{}/fit status: 'Failed'", ns.name);
    ensure!(message.contains("failed early") && message.contains(&named), "{message}");
    ensure!(served(ns).await? == first, "the mistake has replaced the served model");
    let mended = flux.publish("fit", &right).await?;
    ensure!(mended == revision, "the same files have the revisions {revision} and {mended}");
    flux.until_ready(&mended).await?;
    ensure!(served(ns).await? == first, "another model is served after the repair");
    Ok(())
}

/// The digest of the model in use.
async fn served(ns: &TestNamespace) -> Result<mlop_api::Digest> {
    let deployment: ModelDeployment = ns.api().get("slope").await?;
    ensure!(deployment.is_ready(), "{}", deployment.describe());
    support::served_digest(&deployment)
}

/// Flux deletes it, and Kubernetes what mlop has made for it.
async fn removed_object_is_pruned(ns: &TestNamespace, flux: &Flux<'_>) -> Result<()> {
    let (rest, deployment) = SERVE.rsplit_once("\n---\n").context("serve.yaml is one object")?;
    ensure!(deployment.contains("kind: ModelDeployment"), "{deployment}");
    let kind = format!("{}=ModelDeployment", labels::INTENT_KIND);
    let list = ["get", "deployments,services,pods", "--output=name", "--selector", &kind];
    let children = ns.kubectl(&list, "").await?;
    for kind in ["deployment.apps/", "service/", "pod/"] {
        ensure!(children.contains(kind), "no {kind} among {children}");
    }
    let revision = flux.publish("serve", rest).await?;
    flux.until_ready(&revision).await?;
    let (limit, client) = (Duration::from_secs(STAGE), ns.cluster.client.clone());
    let all = watcher::Config::default();
    wait::until_gone(&ns.api::<ModelDeployment>(), all, "the ModelDeployment", limit).await?;
    let of_it = || watcher::Config::default().labels(&kind);
    let (deployments, services, pods) = (
        Api::<Deployment>::namespaced(client.clone(), &ns.name),
        Api::<Service>::namespaced(client.clone(), &ns.name),
        Api::<Pod>::namespaced(client, &ns.name),
    );
    wait::until_gone(&deployments, of_it(), "its Deployment", limit).await?;
    wait::until_gone(&services, of_it(), "its Service", limit).await?;
    wait::until_gone(&pods, of_it(), "its pods", limit).await
}
