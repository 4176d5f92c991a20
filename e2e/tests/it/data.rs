//! Data between stages: what propagates, and what must not be used.

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
    scratch::Scratch,
    state::{Intent as _, Kind as _},
};
use serde_json::Value;

/// Counts the rows of its input, in a moment.
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
async fn an_equal_output_stops_propagation() -> Result<()> {
    Scratch::run("equal", async |scratch| {
        scratch.arrive("points/1.csv", &support::points(0, 2.0)).await?;
        scratch.apply(&[STORES, POINTS, MEANS, &count("FeatureView", "means")]).await?;
        let job = scratch.until("count", "ready", support::CHAIN_SECONDS, TrainingJob::ready).await?;
        let (view, points): (FeatureView, Dataset) =
            (scratch.api().get("means").await?, scratch.api().get("points").await?);

        // A note that the view does not read.
        let noted = support::points(0, 2.0).replacen(",\n", ",seen\n", 1);
        scratch.arrive("points/1.csv", &noted).await?;
        support::refresh(scratch, "1").await?;
        let old = support::digest(&points)?;
        let changed = |d: &Dataset| d.ready() && d.artifact().is_some_and(|artifact| artifact.digest != old);
        let points: Dataset = scratch.until("points", "changed", STAGE, changed).await?;
        let new = support::digest(&points)?;
        let follows = |view: &FeatureView| {
            view.ready()
                && view.artifact().is_some_and(|artifact| artifact.inputs.iter().any(|i| i.digest == new))
        };
        let after: FeatureView = scratch.until("means", "made from the new version", STAGE, follows).await?;

        ensure!(support::digest(&after)? == support::digest(&view)?, "the view does not read the note");
        let revision = |view: &FeatureView| view.artifact().map(|artifact| artifact.revision);
        ensure!(revision(&after) == revision(&view), "the revision grows on a change of digest only");
        ensure!(support::runs::<FeatureSnapshot>(scratch).await?.len() == 2, "the view was computed again");
        // The job has seen the view's new inputs when it repeats them; until then it might still start.
        let root = |job: &TrainingJob| {
            job.artifact().is_some_and(|artifact| artifact.roots.iter().any(|root| root.digest == new))
        };
        let now: TrainingJob = scratch.until("count", "naming the new root", STAGE, root).await?;
        ensure!(support::runs::<TrainingRun>(scratch).await?.len() == 1, "training did not start again");
        ensure!(support::digest(&now)? == support::digest(&job)?, "and its artifact is the same");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_does_not_have_its_digest_is_refused() -> Result<()> {
    Scratch::run("corrupt", async |scratch| {
        scratch.arrive("points/1.csv", &support::points(0, 2.0)).await?;
        scratch.apply(&[STORES, POINTS]).await?;
        let points: Dataset = scratch.until("points", "ready", STAGE, Dataset::ready).await?;

        let digest = support::digest(&points)?;
        let manifest =
            scratch.store.get(&format!("{}/manifests/{}.json", scratch.namespace, digest.hex())).await?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let part = manifest.pointer("/parts/0/path").and_then(Value::as_str).context("no part")?;
        let key = format!("{}/{part}", scratch.namespace);
        let mut content = scratch.store.get(&key).await?;
        let middle = content.len() / 2;
        content[middle] ^= 1;
        scratch.store.put(&key, content).await?;

        scratch.apply(&[&count("Dataset", "points")]).await?;
        let refused =
            |job: &TrainingJob| job.cause().is_some_and(|c| c.reason == Reason::InputCorrupt.as_str());
        let job: TrainingJob = scratch.until("count", "refusing its input", STAGE, refused).await?;
        ensure!(!job.ready() && job.artifact().is_none(), "{}", job.describe());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_cannot_work_is_told_and_healed() -> Result<()> {
    Scratch::run("edit", async |scratch| {
        scratch.arrive("points/1.csv", &support::points(0, 2.0)).await?;
        scratch.apply(&[STORES, POINTS]).await?;
        let points: Dataset = scratch.until("points", "ready", STAGE, Dataset::ready).await?;
        let (digest, before) = (support::digest(&points)?, points.metadata.generation);

        scratch.apply(&[&POINTS.replace("name: note", "name: remark")]).await?;
        let failed =
            |d: &Dataset| d.is(READY, "False") && d.is(STALLED, "True") && d.metadata.generation != before;
        let told: Dataset = scratch.until("points", "stalled", STAGE, failed).await?;
        ensure!(told.says(STALLED, Reason::SchemaMismatch), "{}", told.describe());
        ensure!(told.describe().contains("remark"), "{}", told.describe());

        scratch.apply(&[POINTS]).await?;
        let healed: Dataset = scratch.until("points", "ready again", STAGE, Dataset::ready).await?;
        ensure!(support::digest(&healed)? == digest, "the same version again");
        let names: Vec<_> =
            support::runs::<DatasetVersion>(scratch).await?.iter().map(|v| v.name_any()).collect();
        ensure!(names.len() == 2, "one run of each spec: {names:?}");
        Ok(())
    })
    .await
}
