//! Data between stages: propagation of changes, and refusal of corrupt or invalid input.

use crate::support::{self, MEANS, POINTS, STAGE, STORES};
use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use mlop_api::{
    Reason,
    contract::condition_type::{READY, STALLED},
    dataset::{Dataset, DatasetVersion},
    features::{FeatureSnapshot, FeatureView},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    namespace::TestNamespace,
    state::{Intent as _, Kind as _},
};
use serde_json::Value;

/// A fast job that sums the sizes of its input files.
const COUNT: &str = r#"
apiVersion: mlop.dev/v1alpha1
kind: TrainingJob
metadata: {name: count}
spec:
  inputs: [{name: data, from: {kind: KIND, name: NAME}}]
  image: mlop.local/trainer:dev
  command: [python, main.py]
  code:
    main.py: |
      import os, pathlib
      size = sum(p.stat().st_size for p in pathlib.Path(os.environ["MLOP_INPUTS"]).rglob("*.parquet"))
      pathlib.Path(os.environ["MLOP_OUTPUT"], "size").write_text(str(size))
  resources: {cpu: 50m, memory: 128Mi}
  scratch: 64Mi
  retry: {limit: 2, initial: 1s, factor: "1", max: 1s}
  store: mlop
"#;

fn count(kind: &str, name: &str) -> String {
    COUNT.replace("KIND", kind).replace("NAME", name)
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_output_stops_propagation() -> Result<()> {
    TestNamespace::run("equal", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        ns.apply(&[STORES, POINTS, MEANS, &count("FeatureView", "means")]).await?;
        let job = ns.until("count", "ready", support::CHAIN_SECONDS, TrainingJob::is_ready).await?;
        let (view, points): (FeatureView, Dataset) =
            (ns.api().get("means").await?, ns.api().get("points").await?);

        // The view does not read this column.
        let noted = support::points(0, 2.0).replacen(",\n", ",seen\n", 1);
        ns.upload("points/1.csv", &noted).await?;
        support::request_refresh(ns, "1").await?;
        let old = support::published_digest(&points)?;
        let changed =
            |d: &Dataset| d.is_ready() && d.artifact().is_some_and(|artifact| artifact.digest != old);
        let points: Dataset = ns.until("points", "changed", STAGE, changed).await?;
        let new = support::published_digest(&points)?;
        let follows = |view: &FeatureView| {
            view.is_ready()
                && view.artifact().is_some_and(|artifact| artifact.inputs.iter().any(|i| i.digest == new))
        };
        let after: FeatureView = ns.until("means", "made from the new version", STAGE, follows).await?;

        ensure!(
            support::published_digest(&after)? == support::published_digest(&view)?,
            "the view depends on the note"
        );
        let revision = |view: &FeatureView| view.artifact().map(|artifact| artifact.revision);
        ensure!(revision(&after) == revision(&view), "the revision increased without a change of the digest");
        ensure!(support::runs::<FeatureSnapshot>(ns).await?.len() == 2, "the view was not computed again");
        // The job could still start until it reports the view's new inputs.
        let root = |job: &TrainingJob| {
            job.artifact().is_some_and(|artifact| artifact.roots().any(|root| root.digest == new))
        };
        let now: TrainingJob = ns.until("count", "naming the new root", STAGE, root).await?;
        ensure!(support::runs::<TrainingRun>(ns).await?.len() == 1, "training started again");
        ensure!(
            support::published_digest(&now)? == support::published_digest(&job)?,
            "the artifact of the training changed"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn training_refuses_input_with_a_wrong_digest() -> Result<()> {
    TestNamespace::run("corrupt", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        ns.apply(&[STORES, POINTS]).await?;
        let points: Dataset = ns.until("points", "ready", STAGE, Dataset::is_ready).await?;

        let digest = support::published_digest(&points)?;
        let manifest = ns.store.get(&format!("{}/manifests/{}.json", ns.name, digest.hex())).await?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let part = manifest.pointer("/parts/0/path").and_then(Value::as_str).context("no part")?;
        let key = format!("{}/{part}", ns.name);
        let mut content = ns.store.get(&key).await?;
        let middle = content.len() / 2;
        content[middle] ^= 1;
        ns.store.put(&key, content).await?;

        ns.apply(&[&count("Dataset", "points")]).await?;
        let refused =
            |job: &TrainingJob| job.cause().is_some_and(|c| c.reason == Reason::InputCorrupt.as_str());
        let job: TrainingJob = ns.until("count", "refusing its input", STAGE, refused).await?;
        ensure!(!job.is_ready() && job.artifact().is_none(), "{}", job.describe());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dataset_recovers_when_an_invalid_edit_is_reverted() -> Result<()> {
    TestNamespace::run("edit", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        ns.apply(&[STORES, POINTS]).await?;
        let points: Dataset = ns.until("points", "ready", STAGE, Dataset::is_ready).await?;
        let (digest, before) = (support::published_digest(&points)?, points.metadata.generation);

        ns.apply(&[&POINTS.replace("name: note", "name: remark")]).await?;
        let failed = |d: &Dataset| {
            d.has_status(READY, "False") && d.has_status(STALLED, "True") && d.metadata.generation != before
        };
        let stalled: Dataset = ns.until("points", "stalled", STAGE, failed).await?;
        ensure!(stalled.has_reason(STALLED, Reason::SchemaMismatch), "{}", stalled.describe());
        ensure!(stalled.describe().contains("remark"), "{}", stalled.describe());

        ns.apply(&[POINTS]).await?;
        let recovered: Dataset = ns.until("points", "ready again", STAGE, Dataset::is_ready).await?;
        ensure!(support::published_digest(&recovered)? == digest, "the reverted spec has another version");
        let names: Vec<_> = support::runs::<DatasetVersion>(ns).await?.iter().map(|v| v.name_any()).collect();
        ensure!(names.len() == 2, "not one run per spec: {names:?}");
        Ok(())
    })
    .await
}
