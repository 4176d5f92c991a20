//! Faults of what users' programs ask: the model servers and the online API.

use super::{Drill, Lab, Look, nothing};
use crate::state::Kind as _;
use anyhow::{Context as _, Result};
use mlop_api::{
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
};
use serde_json::json;

const STORES: &str = include_str!("../../../tests/pipelines/stores.yaml");
const POINTS: &str = include_str!("../../../tests/pipelines/points.yaml");
const MEANS: &str = include_str!("../../../tests/pipelines/means.yaml");
const FIT: &str = include_str!("../../../tests/pipelines/fit.yaml");
const SERVE: &str = include_str!("../../../tests/pipelines/serve.yaml");
const ROWS: &str = "id,at,line,x,v,note\n0,2026-01-01T00:00:00Z,a,1,2,\n1,2026-01-01T00:01:00Z,b,2,4,\n\
                    2,2026-01-01T00:02:00Z,a,3,6,\n3,2026-01-01T00:03:00Z,b,4,8,\n";
/// Requests of each repetition.
const REQUESTS: usize = 5;
/// The time limit for a stage of the chain, in seconds.
const STAGE: u64 = 600;

pub(super) fn drills() -> Vec<Drill> {
    vec![features(), model()]
}

fn features() -> Drill {
    Drill {
        alert: "MlopFeatureServerErrors",
        fault: "the node cordoned and the pod of the managed Redis deleted, while features are requested",
        prepare: |lab| {
            Box::pin(async {
                lab.ns.upload("points/1.csv", ROWS).await?;
                lab.ns.apply(&[STORES, POINTS, MEANS]).await?;
                lab.ns.until("means", "ready", STAGE, FeatureView::is_ready).await?;
                request(lab).await
            })
        },
        make: |lab| Box::pin(lose(lab, "app.kubernetes.io/instance=features-redis")),
        again: |lab| Box::pin(request(lab)),
        mend: |lab| {
            Box::pin(async {
                uncordon(lab).await?;
                lab.ns.until("features", "ready", STAGE, FeatureStore::is_ready).await.map(drop)
            })
        },
        look: Look::Why("FeatureStore", "features"),
        object: "",
        ends: false,
    }
}

fn model() -> Drill {
    Drill {
        alert: "MlopModelNotServed",
        fault: "the node cordoned and the pod of the model server deleted",
        prepare: |lab| {
            Box::pin(async {
                lab.ns.upload("points/1.csv", ROWS).await?;
                lab.ns.apply(&[STORES, POINTS, MEANS, FIT, SERVE]).await?;
                lab.ns.until("slope", "ready", STAGE, ModelDeployment::is_ready).await.map(drop)
            })
        },
        make: |lab| Box::pin(lose(lab, "app.kubernetes.io/instance=slope-mdep")),
        again: nothing,
        mend: |lab| Box::pin(uncordon(lab)),
        look: Look::Why("ModelDeployment", "slope"),
        object: "slope",
        ends: true,
    }
}

/// Deletes pods that find no node any more.
async fn lose(lab: &Lab<'_>, selector: &str) -> Result<()> {
    let cluster = &lab.ns.cluster;
    for node in nodes(lab).await? {
        cluster.kubectl(&["cordon", &node]).await?;
    }
    let deleted = lab.ns.kubectl(&["delete", "pod", "--selector", selector, "-o", "name"], "").await?;
    anyhow::ensure!(!deleted.trim().is_empty(), "no pod has the labels {selector}");
    Ok(())
}

async fn uncordon(lab: &Lab<'_>) -> Result<()> {
    for node in nodes(lab).await? {
        lab.ns.cluster.kubectl(&["uncordon", &node]).await?;
    }
    Ok(())
}

async fn nodes(lab: &Lab<'_>) -> Result<Vec<String>> {
    let nodes = lab.ns.cluster.kubectl(&["get", "nodes", "-o", "name"]).await?;
    Ok(nodes.lines().map(|line| line.trim_start_matches("node/").to_owned()).collect())
}

/// Requests that may fail, over one connection: without Redis the API is not ready, and the Service refuses new ones.
async fn request(lab: &Lab<'_>) -> Result<()> {
    let store: FeatureStore = lab.ns.api().get("features").await?;
    let address = store.status.and_then(|status| status.address).context("the online API has no address")?;
    let url = format!("{}/get-online-features", lab.ns.cluster.external_url(&address).await?);
    let body = json!({"features": ["means:x"], "entities": {"line": ["a"]}});
    for _ in 0..REQUESTS {
        match lab.http.post(&url).json(&body).send().await {
            // The connection goes back only after the whole answer.
            Ok(answer) => drop(answer.bytes().await),
            Err(error) => println!("  online features: {error:#}"),
        }
    }
    Ok(())
}
