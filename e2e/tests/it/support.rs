//! The small pipeline of the tests: points on two lines, their moving means, and a linear fit.

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use mlop_api::{Digest, deployment::ModelDeployment};
use mlop_e2e::{
    namespace::TestNamespace,
    predict::{self, Request},
    stage::Stage,
    state::{Intent, Kind, Run},
};
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
