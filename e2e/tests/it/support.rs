//! The small pipeline that the tests share: points on two lines, their moving means, a straight line through them.

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use mlop_api::{Digest, deployment::ModelDeployment};
use mlop_e2e::{
    chain::Stage,
    predict::{self, Request},
    scratch::Scratch,
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

/// Longest time, in seconds, of one stage on a busy machine.
pub const STAGE: u64 = 180;
/// Longest time, in seconds, from an empty namespace to a served model.
pub const CHAIN_SECONDS: u64 = 420;

const ROWS: i64 = 40;

/// A source file: points on `v = slope * x`, with ids from `first`.
pub fn points(first: i64, slope: f64) -> String {
    let row = |row: i64| {
        let (id, line, x) = (first + row, if row % 2 == 0 { "a" } else { "b" }, row + 1);
        let v = slope * x as f64;
        format!("{id},2026-01-01T00:{row:02}:00Z,{line},{x},{v},\n")
    };
    std::iter::once("id,at,line,x,v,note\n".to_owned()).chain((0..ROWS).map(row)).collect()
}

/// Puts the whole chain into the namespace and waits until it serves.
pub async fn serve(scratch: &Scratch) -> Result<ModelDeployment> {
    scratch.arrive("points/1.csv", &points(0, 2.0)).await?;
    scratch.apply(&CHAIN).await?;
    scratch.until("slope", "serving", CHAIN_SECONDS, ModelDeployment::ready).await
}

/// Asks to look at the source now.
pub async fn refresh(scratch: &Scratch, request: &str) -> Result<()> {
    let annotation = format!("{}={request}", mlop_api::labels::REFRESH_REQUESTED_AT);
    scratch.kubectl(&["annotate", "--overwrite", "dset", "points", &annotation], "").await.map(drop)
}

/// Where predictions are asked for.
pub async fn infer_url(scratch: &Scratch, deployment: &ModelDeployment) -> Result<String> {
    let url = deployment.status.as_ref().and_then(|status| status.url.as_deref()).context("no URL")?;
    scratch.cluster.outside(url).await
}

/// A pod that is ready is not routed to at once: the node's proxy hears of it like everybody else.
const ROUTED_WITHIN: Duration = Duration::from_secs(10);

/// What the served model says about `x = 10`.
pub async fn predict(scratch: &Scratch) -> Result<f64> {
    let deployment: ModelDeployment = scratch.api().get("slope").await?;
    let url = infer_url(scratch, &deployment).await?;
    let (client, request) = (reqwest::Client::new(), Request::new([("x", 10.0)]));
    let end = Instant::now() + ROUTED_WITHIN;
    loop {
        match predict::infer(&client, &url, &request).await {
            Ok(answer) => return answer.first().copied().context("an empty answer"),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

pub fn served(deployment: &ModelDeployment) -> Result<Digest> {
    Ok(Stage::serving(deployment).context("nothing is served")?.digest)
}

pub fn digest<K: Intent>(object: &K) -> Result<Digest> {
    Ok(object.artifact().context("no artifact")?.digest.clone())
}

/// All runs of a kind, by name.
pub async fn runs<R: Run>(scratch: &Scratch) -> Result<Vec<R>> {
    let mut runs = scratch.api::<R>().list(&ListParams::default()).await?.items;
    runs.sort_by_key(kube::ResourceExt::name_any);
    Ok(runs)
}
