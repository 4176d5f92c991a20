//! The whole chain, from files in a bucket to predictions.

use crate::{
    plugin,
    support::{self, STAGE},
};
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::{
    Reason,
    contract::condition_type::UP_TO_DATE,
    dataset::{Dataset, DatasetVersion},
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureView},
    labels,
    registry::{Model, ModelVersion},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    audit::AuditLog, chain::ChainTracker, latency, lineage, namespace::TestNamespace, predict::Request,
    prober::Prober, state::Kind as _, wait,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The time without writes while nothing changes.
const QUIET: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn new_data_is_served_without_a_failed_request() -> Result<()> {
    TestNamespace::run("follow", async |ns| {
        let audit = AuditLog::from_now()?;
        let first = support::serve_chain(ns).await?;
        let old = support::published_digest(&ns.api::<Dataset>().get("points").await?)?;
        let first = (support::served_digest(&first)?, support::infer_url(ns, &first).await?);
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-6;
        ensure!(near(support::predict(ns).await?, 20.0), "the prediction is not 2 x");
        let lineage = lineage::verify(&ns.cluster, &ns.name, "slope").await?;
        let last = lineage.lines.last().map(|line| line.object.as_str());
        ensure!(
            last == Some("points/1.csv") || last == Some("1.csv"),
            "the lineage ends at {last:?}:\n{lineage}"
        );

        plugin::check_served_chain(ns).await?;
        check_no_writes(ns).await?;

        let mut tracker = ChainTracker::start(ns, audit.as_ref(), Duration::from_secs(STAGE)).await?;
        let mut prober = Prober::start(first.1, Request::new([("x", 10.0)]))?;
        ns.upload("points/1.csv", &support::points(0, 3.0)).await?;
        support::request_refresh(ns, "1").await?;
        let data = tracker.head(&ns.api::<Dataset>(), "points", Some(&old)).await?;
        let means = tracker.after(&ns.api::<FeatureView>(), "means", &data).await?;
        let fit = tracker.after(&ns.api::<TrainingJob>(), "fit", &means).await?;
        let model = tracker.after(&ns.api::<Model>(), "slope", &fit).await?;
        let new = tracker.serving(&ns.api(), "slope", &model).await?;
        ensure!(new.digest != first.0, "the new data did not lead to a new model");
        prober.until_answers(2, Duration::from_secs(STAGE)).await?;
        let report = prober.stop().await?;
        report.check()?;
        let answers: Vec<f64> = report.answers.iter().flatten().copied().collect();
        ensure!(matches!(answers[..], [old, new] if near(old, 20.0) && near(new, 30.0)), "{answers:?}");

        if audit.is_some() {
            let hand_offs = tracker.hand_offs().await?;
            ensure!(hand_offs.len() == 4, "not one hand-off per edge: {hand_offs:?}");
            println!("{}", latency::table(&hand_offs));
            latency::check(&hand_offs)?;
            for writes in tracker.writes().await? {
                print!("{writes}");
                writes.check()?;
            }
        }
        Ok(())
    })
    .await
}

/// Checks that no object of mlop and no pod is written for some time. Only the next probe of a connection may be due.
async fn check_no_writes(ns: &TestNamespace) -> Result<()> {
    let mut watches = Vec::new();
    for crd in mlop_api::kinds::all() {
        let names = &crd.spec.names;
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(mlop_api::GROUP, mlop_api::VERSION, &names.kind),
            &names.plural,
        );
        watches.push(later_changes(ns, kind).boxed());
    }
    watches.push(later_changes(ns, ApiResource::erase::<Pod>(&())).boxed());
    let mut changes = pin!(futures::stream::select_all(watches));
    let mut probes: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    let end = Instant::now() + QUIET;
    while let Ok(change) = timeout_at(end, changes.next()).await {
        let (kind, object) = change.context("the watches have ended")?;
        let (name, labels) = (object.name_any(), object.labels());
        let is_probe = labels.get(labels::ROLE).is_some_and(|role| role == "probe");
        ensure!(is_probe, "written without any change: {kind} {name}");
        let pods = probes.entry(labels.get(labels::INTENT).cloned()).or_default();
        pods.insert(name);
        // The pod of the last probe is deleted, that of the next one starts.
        ensure!(pods.len() <= 2, "probed more than once within {QUIET:?}: {pods:?}");
    }
    Ok(())
}

/// The objects of a kind that change after the initial list, with the kind's name.
fn later_changes(
    ns: &TestNamespace,
    kind: ApiResource,
) -> impl futures::Stream<Item = (String, DynamicObject)> + use<> {
    let api: Api<DynamicObject> = Api::namespaced_with(ns.cluster.client.clone(), &ns.name, &kind);
    watcher::watcher(api, watcher::Config::default()).default_backoff().filter_map(move |event| {
        let object = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => Some(object),
            _ => None,
        };
        let change = object.map(|object| (kind.kind.clone(), object));
        async move { change }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_data_keeps_the_old_model_and_reports_the_cause() -> Result<()> {
    TestNamespace::run("bad-data", async |ns| {
        let first = support::served_digest(&support::serve_chain(ns).await?)?;

        let without_v = support::points(0, 2.0).replace("x,v,note", "x,w,note");
        ns.upload("points/1.csv", &without_v).await?;
        support::request_refresh(ns, "1").await?;
        check_still_serves_with_cause(ns, &first, Reason::SchemaMismatch, "column \"v\"").await?;

        let out_of_range = support::points(0, 2.0).replace(",a,", ",c,");
        ns.upload("points/1.csv", &out_of_range).await?;
        support::request_refresh(ns, "2").await?;
        check_still_serves_with_cause(ns, &first, Reason::QuarantineBudgetExceeded, "line").await?;

        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        support::request_refresh(ns, "3").await?;
        let has_recovered = |deployment: &ModelDeployment| {
            deployment.cause().is_none() && deployment.has_status(UP_TO_DATE, "True")
        };
        let recovered = ns.until("slope", "without a cause again", STAGE, has_recovered).await?;
        ensure!(
            support::served_digest(&recovered)? == first,
            "the restored data did not lead to the old model"
        );
        Ok(())
    })
    .await
}

/// Checks that the deployment names the Dataset as the cause, and serves the old model.
async fn check_still_serves_with_cause(
    ns: &TestNamespace,
    digest: &mlop_api::Digest,
    reason: Reason,
    message: &str,
) -> Result<()> {
    let has_cause = |deployment: &ModelDeployment| {
        deployment.cause().is_some_and(|cause| cause.reason == reason.as_str())
    };
    let deployment = ns.until("slope", &format!("reporting {reason}"), STAGE, has_cause).await?;
    let cause = deployment.cause().cloned();
    let cause = cause.as_ref().map(|c| (c.kind.as_str(), c.name.as_str(), c.message.contains(message)));
    ensure!(cause == Some(("Dataset", "points", true)), "{}", deployment.describe());
    ensure!(deployment.is_ready(), "bad data ended serving: {}", deployment.describe());
    ensure!(support::served_digest(&deployment)? == *digest, "another model is served");
    support::predict(ns).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_restores_model_alias_and_features() -> Result<()> {
    TestNamespace::run("pin", async |ns| {
        let old = support::serve_chain(ns).await?;
        let old = (
            support::served_digest(&old)?,
            support::registered(ns).await?,
            support::online(ns, "features").await?,
        );
        let version = support::runs::<DatasetVersion>(ns).await?.remove(0).name_any();

        ns.upload("points/1.csv", &support::points(0, 3.0)).await?;
        support::request_refresh(ns, "1").await?;
        let new = |d: &ModelDeployment| {
            d.is_ready() && support::served_digest(d).is_ok_and(|digest| digest != old.0)
        };
        ns.until("slope", "serving the new model", support::CHAIN_SECONDS, new).await?;
        ensure!(
            support::registered(ns).await? != old.1 && support::online(ns, "features").await? != old.2,
            "the new version does not differ"
        );
        let runs = number_of_runs(ns).await?;

        ns.patch::<Dataset>("points", &json!({"spec": {"pin": version}})).await?;
        let back = |d: &ModelDeployment| {
            d.is_ready() && support::served_digest(d).is_ok_and(|digest| digest == old.0)
        };
        ns.until("slope", "serving the earlier model", support::CHAIN_SECONDS, back).await?;
        ensure!(support::registered(ns).await? == old.1, "the alias was not restored");
        ensure!(support::online(ns, "features").await? == old.2, "the features were not restored");
        ensure!(number_of_runs(ns).await? == runs, "the pin started a run");
        Ok(())
    })
    .await
}

async fn number_of_runs(ns: &TestNamespace) -> Result<usize> {
    Ok(support::runs::<DatasetVersion>(ns).await?.len()
        + support::runs::<FeatureSnapshot>(ns).await?.len()
        + support::runs::<TrainingRun>(ns).await?.len()
        + support::runs::<ModelVersion>(ns).await?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_removes_all_objects_but_the_history() -> Result<()> {
    TestNamespace::run("deletion", async |ns| {
        support::serve_chain(ns).await?;
        let file = ns.fill(&support::CHAIN);
        ns.kubectl(&["delete", "--wait=false", "-f", "-"], &file).await?;
        let (client, namespace) = (&ns.cluster.client, &ns.name);
        let all = watcher::Config::default;
        let limit = Duration::from_secs(STAGE);
        wait::until_gone(&ns.api::<FeatureView>(), all(), "FeatureViews", limit).await?;
        wait::until_gone(&ns.api::<TrainingJob>(), all(), "TrainingJobs", limit).await?;
        macro_rules! gone {
            ($($kind:ty),+) => {$(
                let api: Api<$kind> = Api::namespaced(client.clone(), namespace);
                wait::until_gone(&api, all(), stringify!($kind), limit).await?;
            )+};
        }
        gone!(DatasetVersion, FeatureSnapshot, TrainingRun, ModelVersion);
        gone!(Pod, Job, Deployment, StatefulSet, Service, NetworkPolicy, PodDisruptionBudget);
        // The history of all models outlives its TrackingServer.
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let others = all().fields("metadata.name!=mlflow-mlflow");
        wait::until_gone(&claims, others, "PersistentVolumeClaims", limit).await?;
        claims.get("mlflow-mlflow").await.context("MLflow's volume")?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let maps = maps.list(&ListParams::default()).await?.items;
        let left: Vec<_> =
            maps.iter().map(|map| map.name_any()).filter(|name| name != "kube-root-ca.crt").collect();
        ensure!(left.is_empty(), "remaining ConfigMaps: {left:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_serves_when_applied_during_its_deletion() -> Result<()> {
    TestNamespace::run("again", async |ns| {
        support::serve_chain(ns).await?;
        let file = ns.fill(&support::CHAIN);
        let first = ns.api::<Dataset>().get("points").await?.uid();
        // The command ends while runs and pods of the objects are still being deleted.
        ns.kubectl(&["delete", "-f", "-"], &file).await?;
        ns.kubectl(&["apply", "-f", "-"], &file).await?;
        ns.until("slope", "serving again", support::CHAIN_SECONDS, ModelDeployment::is_ready).await?;
        ensure!(ns.api::<Dataset>().get("points").await?.uid() != first, "the Dataset was not created again");
        support::predict(ns).await?;
        Ok(())
    })
    .await
}
