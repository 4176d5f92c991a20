//! The small pipeline of the tests: points on two lines, their moving means, and a linear fit.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{api::ListParams, runtime::watcher};
use mlop_api::{
    Digest, Reason,
    contract::condition_type::READY,
    dataset::ObjectStore,
    deployment::ModelDeployment,
    features::FeatureStore,
    labels,
    registry::{Model, TrackingServer},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    namespace::TestNamespace,
    predict::{self, Request},
    stage::Stage,
    state::{Intent, Kind, Run},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

pub const STORES: &str = include_str!("../pipelines/stores.yaml");
pub const POINTS: &str = include_str!("../pipelines/points.yaml");
pub const MEANS: &str = include_str!("../pipelines/means.yaml");
pub const FIT: &str = include_str!("../pipelines/fit.yaml");
pub const SERVE: &str = include_str!("../pipelines/serve.yaml");
pub const SCRIPT: &str = include_str!("../pipelines/script.yaml");
pub const CHAIN: [&str; 5] = [STORES, POINTS, MEANS, FIT, SERVE];

/// The time limit of one stage on a busy machine, in seconds.
pub const STAGE: u64 = 180;
/// The time limit from an empty namespace to a served model, in seconds.
pub const CHAIN_SECONDS: u64 = 420;

const ROWS: i64 = 40;

/// The image that runs the code of tests.
pub const TRAINER: &str = "mlop.local/trainer:dev";

/// Code that leaves a file.
pub const SAVE: &str = r#"
import os, pathlib
pathlib.Path(os.environ["MLOP_OUTPUT"], "model.txt").write_text("42")
"#;

/// The training `script` with this code.
pub fn script(code: &str) -> String {
    SCRIPT.replace("\"raise SystemExit('the test replaces this')\"", &json!(code).to_string())
}

/// Adds lines to the spec of the training `script`.
pub fn with_spec(manifest: &str, lines: &str) -> String {
    manifest.replace("  store: mlop\n", &format!("  {}\n  store: mlop\n", lines.trim().replace('\n', "\n  ")))
}

/// Whether `Ready` has the reason and the words.
pub fn says<K: Kind>(object: &K, reason: Reason, words: &str) -> bool {
    object.current(READY).is_some_and(|c| c.reason == reason.as_str() && c.message.contains(words))
}

/// Applies the ObjectStores, and waits until they are ready.
pub async fn stores_are_ready(ns: &TestNamespace) -> Result<()> {
    ns.apply(&[STORES]).await?;
    for store in ["raw", "mlop"] {
        ns.until(store, "ready", STAGE, ObjectStore::is_ready).await?;
    }
    Ok(())
}

/// The run whose result the training `script` publishes.
pub async fn published_run(ns: &TestNamespace) -> Result<TrainingRun> {
    let job: TrainingJob = ns.until("script", "ready", STAGE, TrainingJob::is_ready).await?;
    let artifact = job.artifact().context("no artifact")?;
    Ok(ns.api().get(&artifact.run).await?)
}

/// A source file with points on `v = slope * x` and ids from `first`.
pub fn points(first: i64, slope: f64) -> String {
    let row = |row: i64| {
        let (id, line, x) = (first + row, if row % 2 == 0 { "a" } else { "b" }, row + 1);
        let v = slope * x as f64;
        format!("{id},2026-01-01T00:{row:02}:00Z,{line},{x},{v},\n")
    };
    std::iter::once("id,at,line,x,v,note\n".to_owned()).chain((0..ROWS).map(row)).collect()
}

/// Applies the whole chain and waits until it serves.
pub async fn serve_chain(ns: &TestNamespace) -> Result<ModelDeployment> {
    ns.upload("points/1.csv", &points(0, 2.0)).await?;
    ns.apply(&CHAIN).await?;
    ns.until("slope", "serving", CHAIN_SECONDS, ModelDeployment::is_ready).await
}

/// Requests a scan of the source.
pub async fn request_refresh(ns: &TestNamespace, request: &str) -> Result<()> {
    let annotation = format!("{}={request}", mlop_api::labels::REFRESH_REQUESTED_AT);
    ns.kubectl(&["annotate", "--overwrite", "dset", "points", &annotation], "").await.map(drop)
}

/// The URL for predictions.
pub async fn infer_url(ns: &TestNamespace, deployment: &ModelDeployment) -> Result<String> {
    let url = deployment.status.as_ref().and_then(|status| status.url.as_deref()).context("no URL")?;
    ns.cluster.external_url(url).await
}

/// The time from the readiness of a pod until the node's proxy routes to it.
const ROUTING_LIMIT: Duration = Duration::from_secs(10);

/// The prediction of the served model for `x = 10`.
pub async fn predict(ns: &TestNamespace) -> Result<f64> {
    let deployment: ModelDeployment = ns.api().get("slope").await?;
    let url = infer_url(ns, &deployment).await?;
    let (client, request) = (reqwest::Client::new(), Request::new([("x", 10.0)]));
    let end = Instant::now() + ROUTING_LIMIT;
    loop {
        match predict::infer(&client, &url, &request).await {
            Ok(answer) => return answer.first().copied().context("an empty prediction"),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

pub fn served_digest(deployment: &ModelDeployment) -> Result<Digest> {
    Ok(Stage::serving(deployment).context("nothing is served")?.digest)
}

pub fn published_digest<K: Intent>(object: &K) -> Result<Digest> {
    Ok(object.artifact().context("no artifact")?.digest.clone())
}

/// All runs of a kind, by name.
pub async fn runs<R: Run>(ns: &TestNamespace) -> Result<Vec<R>> {
    let mut runs = ns.api::<R>().list(&ListParams::default()).await?.items;
    runs.sort_by_key(kube::ResourceExt::name_any);
    Ok(runs)
}

/// The version to which MLflow's alias points.
pub async fn registered(ns: &TestNamespace) -> Result<String> {
    let model: Model = ns.until("slope", "ready", STAGE, Model::is_ready).await?;
    let name = model.status.and_then(|status| status.registered).map(|registered| registered.name);
    let mlflow: TrackingServer = ns.api().get("mlflow").await?;
    let address = mlflow.status.and_then(|status| status.address).unwrap_or_default();
    let base = ns.cluster.external_url(&address).await?;
    let url = format!(
        "{base}/api/2.0/mlflow/registered-models/alias?name={}&alias=champion",
        name.unwrap_or_default()
    );
    // MLflow accepts only the host names of its Service.
    let host = address.trim_start_matches("http://").to_owned();
    let answer = reqwest::Client::new().get(&url).header("Host", host).send().await?.error_for_status()?;
    let answer: serde_json::Value = answer.json().await?;
    Ok(answer.pointer("/model_version/version").and_then(|v| v.as_str()).unwrap_or_default().to_owned())
}

/// The newest mean of `v` on line `a`, from the online API of a FeatureStore.
pub async fn online(ns: &TestNamespace, feature_store: &str) -> Result<String> {
    let store: FeatureStore = ns.api().get(feature_store).await?;
    let address = store.status.and_then(|status| status.address).unwrap_or_default();
    let base = ns.cluster.external_url(&address).await?;
    let found = predict::features(&base, &["means:v".to_owned()], &[("line", "a")]).await?;
    let feature = found.get("v").cloned();
    ensure!(feature.as_ref().is_some_and(|feature| feature.status == "PRESENT"), "{found:?}");
    Ok(feature.map(|feature| feature.value.to_string()).unwrap_or_default())
}

/// The pods of trainings.
pub fn of_runs() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}=TrainingRun", labels::RUN_KIND))
}

/// Whether the user's command runs in this pod.
pub fn command_runs(pod: &Pod) -> bool {
    user_container(pod).is_some_and(|state| state.running.is_some())
}

/// The state of the user's container.
pub fn user_container(pod: &Pod) -> Option<&ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == labels::USER_CONTAINER)?.state.as_ref()
}
