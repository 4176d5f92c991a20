//! The lineage of a served model, back to the objects of its sources, digest by digest.
//!
//! Statuses alone are not trusted: each manifest and listing is read from the object store and hashed again.

use crate::{cluster::Cluster, s3::Bucket, state::Run};
use anyhow::{Context as _, Result, ensure};
use kube::{Api, ResourceExt as _, api::ListParams};
use mlop_api::{
    Digest,
    dataset::{DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::FeatureSnapshot,
    registry::ModelVersion,
    run::RunInput,
    training::TrainingRun,
};
use serde_json::Value;
use std::fmt;

/// The verified lineage of one served model.
#[derive(Clone, Debug, Default)]
pub struct LineageTree {
    pub lines: Vec<Line>,
}

/// One object of a lineage.
#[derive(Clone, Debug)]
pub struct Line {
    depth: usize,
    pub object: String,
    pub digest: Digest,
    pub detail: String,
}

struct Verifier<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    tree: LineageTree,
}

/// Verifies the lineage of the model that the deployment `name` serves.
///
/// # Errors
/// An object is missing, or its content does not have the recorded digest.
pub async fn verify(cluster: &Cluster, namespace: &str, name: &str) -> Result<LineageTree> {
    let mut verifier = Verifier { cluster, namespace, tree: LineageTree::default() };
    let deployment: ModelDeployment = verifier.api().get(name).await?;
    let serving = deployment
        .status
        .and_then(|status| status.serving.into_iter().next())
        .context("the deployment serves no model")?;
    let replicas = serving.ready_replicas;
    verifier.line(0, format!("ModelDeployment {name}"), &serving.digest, format!("{replicas} ready"));
    let version: ModelVersion = verifier.api().get(&serving.model_version).await?;
    let (input, registered) = (input_with(&version, &serving.digest)?, serving.version.unwrap_or_default());
    let registered = format!("version {registered} of {}", version.spec.content.registered_model);
    verifier.line(1, format!("ModelVersion {}", serving.model_version), &input.record.digest, registered);
    verifier.training(2, input).await?;
    Ok(verifier.tree)
}

impl Verifier<'_> {
    async fn training(&mut self, depth: usize, model: &RunInput) -> Result<()> {
        let run: TrainingRun = self.find_run_of(&model.record.digest).await?;
        let manifest = self.document(&model.store, "manifests", &model.record.digest).await?;
        let content = &run.spec.content;
        let detail = format!("image {}, seed {}", content.image, content.seed);
        self.line(depth, format!("TrainingRun {}", run.name_any()), &model.record.digest, detail);
        for input in &run.spec.lineage.inputs {
            let recorded = manifest.pointer(&format!("/provenance/inputs/{}", input.record.name));
            let recorded = recorded.and_then(Value::as_str).unwrap_or_default();
            ensure!(
                recorded == input.record.digest.as_str(),
                "input {} of the model is {recorded:?} in its manifest, but {} in its run",
                input.record.name,
                input.record.digest
            );
            match input.record.kind.as_str() {
                "FeatureView" => self.snapshot(depth + 1, input).await?,
                _ => self.version(depth + 1, input).await?,
            }
        }
        Ok(())
    }

    async fn snapshot(&mut self, depth: usize, table: &RunInput) -> Result<()> {
        let run: FeatureSnapshot = self.find_run_of(&table.record.digest).await?;
        let detail = self.table(table).await?;
        self.line(depth, format!("FeatureSnapshot {}", run.name_any()), &table.record.digest, detail);
        for input in &run.spec.lineage.inputs {
            self.version(depth + 1, input).await?;
        }
        Ok(())
    }

    async fn version(&mut self, depth: usize, table: &RunInput) -> Result<()> {
        let run: DatasetVersion = self.find_run_of(&table.record.digest).await?;
        let object = format!("DatasetVersion {}", run.name_any());
        let known = self.tree.lines.iter().any(|line| line.object == object);
        let detail = if known { "as above".to_owned() } else { self.table(table).await? };
        self.line(depth, object, &table.record.digest, detail);
        if known {
            return Ok(());
        }
        let spec = &run.spec;
        let listing = self.document(&spec.store, "listings", &spec.listing).await?;
        let objects =
            listing.get("objects").and_then(Value::as_array).context("the listing has no objects")?;
        self.line(depth + 1, "listing".to_owned(), &spec.listing, format!("{} objects", objects.len()));
        for object in objects {
            let text =
                |field: &str| object.get(field).map(|v| v.as_str().map_or(v.to_string(), str::to_owned));
            let (key, size, etag) = (text("key"), text("size"), text("etag"));
            let detail = format!("{} bytes, etag {}", size.unwrap_or_default(), etag.unwrap_or_default());
            self.line(depth + 2, key.unwrap_or_default(), &spec.listing, detail);
        }
        Ok(())
    }

    async fn table(&self, table: &RunInput) -> Result<String> {
        let manifest = self.document(&table.store, "manifests", &table.record.digest).await?;
        let rows = manifest.get("rows").and_then(Value::as_u64).context("the manifest has no row count")?;
        Ok(format!("{rows} rows"))
    }

    /// Reads a document whose name is its digest, and verifies the digest.
    async fn document(&self, store: &str, directory: &str, digest: &Digest) -> Result<Value> {
        let store: ObjectStore = self.api().get(store).await?;
        let bucket = Bucket::open(self.cluster, &store.spec.bucket).await?;
        let bytes = bucket.get(&format!("{}{directory}/{}.json", store.spec.prefix, digest.hex())).await?;
        let found = Digest::of_bytes(&bytes);
        ensure!(found == *digest, "{directory}/{}.json has the digest {found}", digest.hex());
        Ok(serde_json::from_slice(&bytes)?)
    }

    async fn find_run_of<K: Run>(&self, digest: &Digest) -> Result<K> {
        let runs = self.api::<K>().list(&ListParams::default()).await?;
        let has_output = |run: &K| {
            run.status().and_then(|s| s.output.as_ref()).is_some_and(|output| output.digest == *digest)
        };
        let found = runs.items.into_iter().find(has_output);
        found.with_context(|| format!("no {} has the output {digest}", K::kind(&())))
    }

    fn api<K: crate::state::Kind>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client.clone(), self.namespace)
    }

    fn line(&mut self, depth: usize, object: String, digest: &Digest, detail: String) {
        self.tree.lines.push(Line { depth, object, digest: digest.clone(), detail });
    }
}

/// The input of a run with this digest.
fn input_with<'a>(run: &'a impl Run, digest: &Digest) -> Result<&'a RunInput> {
    let mut inputs = run.lineage().inputs.iter();
    let found = inputs.find(|input| input.record.digest == *digest);
    found.with_context(|| format!("{} has no input {digest}", run.name_any()))
}

impl fmt::Display for LineageTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let indent = "  ".repeat(line.depth);
            let object = format!("{indent}{}", line.object);
            writeln!(f, "{object:<51} {:<19} {}", format!("sha256:{}", line.digest.short(12)), line.detail)?;
        }
        Ok(())
    }
}
