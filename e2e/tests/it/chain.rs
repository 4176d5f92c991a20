//! The whole chain: files in a bucket to predictions, and back.

use crate::support::{self, STAGE};
use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
    networking::v1::NetworkPolicy,
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
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    registry::{Model, ModelVersion},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    audit::AuditLog,
    chain::Pass,
    hand_off,
    predict::{self, Request},
    prober::Prober,
    scratch::Scratch,
    state::Kind as _,
    trace, wait,
};
use serde_json::json;
use std::{pin::pin, time::Duration};
use tokio::time::timeout;

/// How long nothing may be written when nothing has changed.
const QUIET: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn new_data_becomes_a_new_served_model_without_a_failed_request() -> Result<()> {
    Scratch::run("follow", async |scratch| {
        let audit = AuditLog::from_now()?;
        let first = support::serve(scratch).await?;
        let old = support::digest(&scratch.api::<Dataset>().get("points").await?)?;
        let first = (support::served(&first)?, support::infer_url(scratch, &first).await?);
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-6;
        ensure!(near(support::predict(scratch).await?, 20.0), "v = 2 x");
        let trace = trace::trace(&scratch.cluster, &scratch.namespace, "slope").await?;
        let last = trace.lines.last().map(|line| line.object.as_str());
        ensure!(
            last == Some("points/1.csv") || last == Some("1.csv"),
            "the trace ends at {last:?}:\n{trace}"
        );

        nothing_is_written(scratch).await?;

        let mut pass = Pass::begin(scratch, audit.as_ref(), Duration::from_secs(STAGE)).await?;
        let mut prober = Prober::start(first.1, Request::new([("x", 10.0)]))?;
        scratch.arrive("points/1.csv", &support::points(0, 3.0)).await?;
        support::refresh(scratch, "1").await?;
        let data = pass.head(&scratch.api::<Dataset>(), "points", Some(&old)).await?;
        let means = pass.after(&scratch.api::<FeatureView>(), "means", &data).await?;
        let fit = pass.after(&scratch.api::<TrainingJob>(), "fit", &means).await?;
        let model = pass.after(&scratch.api::<Model>(), "slope", &fit).await?;
        let new = pass.serving(&scratch.api(), "slope", &model).await?;
        ensure!(new.digest != first.0, "the new data made a new model");
        prober.answers(2, Duration::from_secs(STAGE)).await?;
        let report = prober.stop().await?;
        report.check()?;
        let answers: Vec<f64> = report.answers.iter().flatten().copied().collect();
        ensure!(matches!(answers[..], [old, new] if near(old, 20.0) && near(new, 30.0)), "{answers:?}");

        if audit.is_some() {
            let hand_offs = pass.hand_offs().await?;
            ensure!(hand_offs.len() == 4, "one for each edge: {hand_offs:?}");
            println!("{}", hand_off::table(&hand_offs));
            hand_off::check(&hand_offs)?;
            for writes in pass.writes().await? {
                print!("{writes}");
                writes.check()?;
            }
        }
        Ok(())
    })
    .await
}

/// Watches every object of mlop and every pod for a while in which nothing has changed.
async fn nothing_is_written(scratch: &Scratch) -> Result<()> {
    let mut watches = Vec::new();
    for crd in mlop_api::kinds::all() {
        let names = &crd.spec.names;
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(mlop_api::GROUP, mlop_api::VERSION, &names.kind),
            &names.plural,
        );
        let api: Api<DynamicObject> =
            Api::namespaced_with(scratch.cluster.client.clone(), &scratch.namespace, &kind);
        watches.push(later_changes(api.clone(), format!("{} ", names.kind)).boxed());
    }
    let pods = Api::<Pod>::namespaced(scratch.cluster.client.clone(), &scratch.namespace);
    let kind = ApiResource::erase::<Pod>(&());
    let pods: Api<DynamicObject> = Api::namespaced_with(pods.into_client(), &scratch.namespace, &kind);
    watches.push(later_changes(pods, "Pod ".to_owned()).boxed());
    let mut changes = pin!(futures::stream::select_all(watches));
    match timeout(QUIET, changes.next()).await {
        Err(_) => Ok(()),
        Ok(change) => {
            anyhow::bail!("nothing has changed, but this was written: {}", change.unwrap_or_default())
        }
    }
}

/// The names of objects that change after they were first listed.
fn later_changes(api: Api<DynamicObject>, kind: String) -> impl futures::Stream<Item = String> {
    let config = watcher::Config::default();
    watcher::watcher(api, config).default_backoff().filter_map(move |event| {
        let name = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => Some(object.name_any()),
            _ => None,
        };
        let name = name.map(|name| format!("{kind}{name}"));
        async move { name }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_data_leaves_the_old_model_serving_and_every_stage_says_why() -> Result<()> {
    Scratch::run("bad-data", async |scratch| {
        let first = support::served(&support::serve(scratch).await?)?;

        let without_v = support::points(0, 2.0).replace("x,v,note", "x,w,note");
        scratch.arrive("points/1.csv", &without_v).await?;
        support::refresh(scratch, "1").await?;
        still_serving_because(scratch, &first, Reason::SchemaMismatch, "column v").await?;

        let out_of_range = support::points(0, 2.0).replace(",a,", ",c,");
        scratch.arrive("points/1.csv", &out_of_range).await?;
        support::refresh(scratch, "2").await?;
        still_serving_because(scratch, &first, Reason::QuarantineBudgetExceeded, "line").await?;

        scratch.arrive("points/1.csv", &support::points(0, 2.0)).await?;
        support::refresh(scratch, "3").await?;
        let well =
            |deployment: &ModelDeployment| deployment.cause().is_none() && deployment.is(UP_TO_DATE, "True");
        let healed = scratch.until("slope", "well again", STAGE, well).await?;
        ensure!(support::served(&healed)? == first, "the data is as it was, so the model is too");
        Ok(())
    })
    .await
}

/// The deployment names the Dataset as the beginning of the problem, and serves on.
async fn still_serving_because(
    scratch: &Scratch,
    digest: &mlop_api::Digest,
    reason: Reason,
    says: &str,
) -> Result<()> {
    let told = |deployment: &ModelDeployment| {
        deployment.cause().is_some_and(|cause| cause.reason == reason.as_str())
    };
    let deployment = scratch.until("slope", &format!("telling {reason}"), STAGE, told).await?;
    let cause = deployment.cause().cloned();
    let cause = cause.as_ref().map(|c| (c.kind.as_str(), c.name.as_str(), c.message.contains(says)));
    ensure!(cause == Some(("Dataset", "points", true)), "{}", deployment.describe());
    ensure!(deployment.ready(), "new data that fails does not end serving: {}", deployment.describe());
    ensure!(support::served(&deployment)? == *digest, "the old model serves on");
    support::predict(scratch).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_brings_model_alias_and_features_back() -> Result<()> {
    Scratch::run("pin", async |scratch| {
        let old = support::serve(scratch).await?;
        let old = (support::served(&old)?, registered(scratch).await?, online(scratch).await?);
        let version = support::runs::<DatasetVersion>(scratch).await?.remove(0).name_any();

        scratch.arrive("points/1.csv", &support::points(0, 3.0)).await?;
        support::refresh(scratch, "1").await?;
        let new = |d: &ModelDeployment| d.ready() && support::served(d).is_ok_and(|digest| digest != old.0);
        scratch.until("slope", "serving the new model", support::CHAIN_SECONDS, new).await?;
        ensure!(
            registered(scratch).await? != old.1 && online(scratch).await? != old.2,
            "the new version differs"
        );
        let runs = number_of_runs(scratch).await?;

        scratch.patch::<Dataset>("points", &json!({"spec": {"pin": version}})).await?;
        let back = |d: &ModelDeployment| d.ready() && support::served(d).is_ok_and(|digest| digest == old.0);
        scratch.until("slope", "serving the earlier model", support::CHAIN_SECONDS, back).await?;
        ensure!(registered(scratch).await? == old.1, "the alias is back");
        ensure!(online(scratch).await? == old.2, "the features are back");
        ensure!(number_of_runs(scratch).await? == runs, "nothing was computed again");
        Ok(())
    })
    .await
}

/// The version that the alias names, as MLflow says.
async fn registered(scratch: &Scratch) -> Result<String> {
    let model: Model = scratch.until("slope", "ready", STAGE, Model::ready).await?;
    let name = model.status.and_then(|status| status.registered).map(|registered| registered.model);
    let mlflow: mlop_api::registry::TrackingServer = scratch.api().get("mlflow").await?;
    let address = mlflow.status.and_then(|status| status.address).unwrap_or_default();
    let base = scratch.cluster.outside(&address).await?;
    let url = format!(
        "{base}/api/2.0/mlflow/registered-models/alias?name={}&alias=champion",
        name.unwrap_or_default()
    );
    // MLflow answers only to the names of its Service.
    let host = address.trim_start_matches("http://").to_owned();
    let answer = reqwest::Client::new().get(&url).header("Host", host).send().await?.error_for_status()?;
    let answer: serde_json::Value = answer.json().await?;
    Ok(answer.pointer("/model_version/version").and_then(|v| v.as_str()).unwrap_or_default().to_owned())
}

/// The newest mean of `v` on line `a`, as the online API says.
async fn online(scratch: &Scratch) -> Result<String> {
    let store: FeatureStore = scratch.api().get("features").await?;
    let address = store.status.and_then(|status| status.address).unwrap_or_default();
    let base = scratch.cluster.outside(&address).await?;
    let found = predict::features(&base, &["means:v".to_owned()], &[("line", "a")]).await?;
    let feature = found.get("v").cloned();
    ensure!(feature.as_ref().is_some_and(|feature| feature.status == "PRESENT"), "{found:?}");
    Ok(feature.map(|feature| feature.value.to_string()).unwrap_or_default())
}

async fn number_of_runs(scratch: &Scratch) -> Result<usize> {
    Ok(support::runs::<DatasetVersion>(scratch).await?.len()
        + support::runs::<FeatureSnapshot>(scratch).await?.len()
        + support::runs::<TrainingRun>(scratch).await?.len()
        + support::runs::<ModelVersion>(scratch).await?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_leaves_nothing_behind() -> Result<()> {
    Scratch::run("deletion", async |scratch| {
        support::serve(scratch).await?;
        let file = scratch.filled(&support::CHAIN);
        scratch.kubectl(&["delete", "--wait=false", "-f", "-"], &file).await?;
        let (client, namespace) = (&scratch.cluster.client, &scratch.namespace);
        let all = watcher::Config::default;
        let limit = Duration::from_secs(STAGE);
        wait::gone(&scratch.api::<FeatureView>(), all(), "FeatureViews", limit).await?;
        wait::gone(&scratch.api::<TrainingJob>(), all(), "TrainingJobs", limit).await?;
        macro_rules! gone {
            ($($kind:ty),+) => {$(
                let api: Api<$kind> = Api::namespaced(client.clone(), namespace);
                wait::gone(&api, all(), stringify!($kind), limit).await?;
            )+};
        }
        gone!(DatasetVersion, FeatureSnapshot, TrainingRun, ModelVersion);
        gone!(Pod, Job, Deployment, StatefulSet, Service, NetworkPolicy, PersistentVolumeClaim);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let maps = maps.list(&ListParams::default()).await?.items;
        let left: Vec<_> =
            maps.iter().map(|map| map.name_any()).filter(|name| name != "kube-root-ca.crt").collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_and_an_application_at_once_end_well() -> Result<()> {
    Scratch::run("again", async |scratch| {
        support::serve(scratch).await?;
        let file = scratch.filled(&support::CHAIN);
        let first = scratch.api::<Dataset>().get("points").await?.uid();
        // The deletion ends while runs and pods of the objects are still going away.
        scratch.kubectl(&["delete", "-f", "-"], &file).await?;
        scratch.kubectl(&["apply", "-f", "-"], &file).await?;
        scratch.until("slope", "serving again", support::CHAIN_SECONDS, ModelDeployment::ready).await?;
        ensure!(scratch.api::<Dataset>().get("points").await?.uid() != first, "a new Dataset");
        support::predict(scratch).await?;
        Ok(())
    })
    .await
}
