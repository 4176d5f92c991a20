//! The stages of a chain, and the wait for their results in order.

use crate::{
    audit::{AuditLog, Entry},
    cluster::Cluster,
    latency::{self, HandOff, Writes},
    namespace::TestNamespace,
    state::{Intent, Kind as _},
    wait,
};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use mlop_api::{Digest, deployment::ModelDeployment};
use serde::Serialize;
use std::time::Duration;

/// The namespace of the operators.
pub const OPERATORS: &str = "mlop-system";
/// The kinds of a chain in order, each with its operator.
pub const STAGES: [(&str, &str); 5] = [
    ("Dataset", "mlop-ingestion"),
    ("FeatureView", "mlop-feature-store"),
    ("TrainingJob", "mlop-training"),
    ("Model", "mlop-registry"),
    ("ModelDeployment", "mlop-deployment"),
];

/// The result of one stage.
#[derive(Clone, Debug)]
pub struct Stage {
    pub kind: String,
    pub name: String,
    /// The run with this result; `None` for a kind without runs.
    pub run: Option<String>,
    pub digest: Digest,
    pub summary: String,
    /// The objects that had to be ready before its pods could start.
    pub dependencies: Vec<Dependency>,
}

/// An object on which a stage depends.
#[derive(Clone, Debug)]
pub struct Dependency {
    pub kind: String,
    pub name: String,
    /// The digest that it must have published; `None` for a connection.
    pub digest: Option<Digest>,
}

impl Stage {
    /// The stage of an intent; `None` if it has not published an artifact.
    pub fn of<K: Intent + Serialize>(object: &K) -> Option<Self> {
        let artifact = object.artifact()?;
        let status = Intent::status(object)?;
        let inputs = artifact.inputs.iter().map(|input| Dependency {
            kind: input.kind.clone(),
            name: input.object.clone(),
            digest: Some(input.digest.clone()),
        });
        Some(Self {
            kind: K::kind(&()).into_owned(),
            name: object.name_any(),
            run: Some(artifact.run.clone()),
            digest: artifact.digest.clone(),
            summary: status.summary.clone().unwrap_or_default(),
            dependencies: inputs.chain(tracking_server(object)).collect(),
        })
    }

    /// The stage of a deployment; `None` if it does not serve.
    pub fn serving(deployment: &ModelDeployment) -> Option<Self> {
        let status = deployment.status.as_ref()?;
        let serving = status.serving.as_ref()?;
        let from = &deployment.spec.from;
        let digest = Some(serving.digest.clone());
        Some(Self {
            kind: "ModelDeployment".to_owned(),
            name: deployment.name_any(),
            run: None,
            digest: serving.digest.clone(),
            summary: status.summary.clone().unwrap_or_default(),
            dependencies: vec![Dependency { kind: from.kind.clone(), name: from.name.clone(), digest }],
        })
    }

    /// The prefix of the names of its pods and Jobs.
    pub fn pod_prefix(&self) -> String {
        match &self.run {
            Some(run) => format!("{run}-"),
            None => format!("{}-mdep-", self.name),
        }
    }

    /// The result of this stage as a dependency of another.
    pub fn result(&self) -> Dependency {
        Dependency { kind: self.kind.clone(), name: self.name.clone(), digest: Some(self.digest.clone()) }
    }

    /// Whether a request belongs to a scan of the source.
    pub fn is_scan(&self, entry: &Entry) -> bool {
        entry.name.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with("-scan-"))
    }

    /// Whether a request is from its operator, and for its intent, runs, pods, Jobs or servers, but not for Events.
    pub fn is_about(&self, entry: &Entry) -> bool {
        let is_its_operator =
            STAGES.iter().any(|(kind, operator)| *kind == self.kind && entry.operator() == Some(operator));
        let rest = entry.name.strip_prefix(&self.name);
        is_its_operator
            && entry.resource != "events"
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// The connection that can delay a pod. All other connections are ready before the data of a chain.
fn tracking_server<K: Intent + Serialize>(object: &K) -> Option<Dependency> {
    let object = serde_json::to_value(object).ok()?;
    let name = object.pointer("/spec/trackingServer")?.as_str()?.to_owned();
    Some(Dependency { kind: "TrackingServer".to_owned(), name, digest: None })
}

/// Waits for the stages of a chain in order, and prints each as a row of a table.
pub struct ChainTracker {
    cluster: Cluster,
    /// The log from before the creation of the chain's objects, so that it shows when each became ready.
    audit: Option<AuditLog>,
    namespace: String,
    /// The time limit of one stage.
    limit: Duration,
    /// The time of the newest entry of the log at the start.
    start: Timestamp,
    pub stages: Vec<Stage>,
}

impl ChainTracker {
    /// # Errors
    /// The log cannot be read.
    pub async fn start(ns: &TestNamespace, audit: Option<&AuditLog>, limit: Duration) -> Result<Self> {
        let mut tracker = Self {
            cluster: ns.cluster.clone(),
            audit: audit.cloned(),
            namespace: ns.name.clone(),
            limit,
            start: Timestamp::UNIX_EPOCH,
            stages: Vec::new(),
        };
        tracker.start = tracker.entries().await?.last().map_or(tracker.start, |entry| entry.at);
        Ok(tracker)
    }

    /// Waits until the head of a chain has published a digest other than `before`.
    ///
    /// # Errors
    /// The time limit has passed.
    pub async fn head<K: Intent + Serialize>(
        &mut self,
        api: &Api<K>,
        name: &str,
        before: Option<&Digest>,
    ) -> Result<Stage> {
        let other = |object: &K| object.artifact().is_some_and(|artifact| Some(&artifact.digest) != before);
        let object =
            wait::until(api, name, "ready with new data", self.limit, |o| o.is_ready() && other(o)).await?;
        self.report(Stage::of(&object).context("no artifact")?).await
    }

    /// Waits until the next stage has published a result of the artifact of `from`.
    ///
    /// # Errors
    /// The time limit has passed.
    pub async fn after<K: Intent + Serialize>(
        &mut self,
        api: &Api<K>,
        name: &str,
        from: &Stage,
    ) -> Result<Stage> {
        let follows = |object: &K| {
            let inputs = object.artifact().map_or(&[][..], |artifact| &artifact.inputs);
            object.is_ready()
                && inputs.iter().any(|input| input.kind == from.kind && input.digest == from.digest)
        };
        let object =
            wait::until(api, name, "ready with the result of the previous stage", self.limit, follows)
                .await?;
        self.report(Stage::of(&object).context("no artifact")?).await
    }

    /// Waits until the deployment serves the artifact of `model`.
    ///
    /// # Errors
    /// The time limit has passed.
    pub async fn serving(&mut self, api: &Api<ModelDeployment>, name: &str, model: &Stage) -> Result<Stage> {
        let serves = |object: &ModelDeployment| {
            object.is_ready() && Stage::serving(object).is_some_and(|stage| stage.digest == model.digest)
        };
        let object = wait::until(api, name, "serving the new model", self.limit, serves).await?;
        self.report(Stage::serving(&object).context("nothing is served")?).await
    }

    /// The hand-off latency of each stage; empty if the cluster has no audit log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn hand_offs(&self) -> Result<Vec<HandOff>> {
        let entries = self.entries().await?;
        Ok(self.stages.iter().filter_map(|stage| HandOff::of(stage, &entries)).collect())
    }

    /// The operators' writes for each stage, with the change of each.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn writes(&self) -> Result<Vec<Writes>> {
        let entries = self.entries().await?;
        Ok(self.stages.iter().map(|stage| latency::writes(stage, &entries, self.start)).collect())
    }

    async fn report(&mut self, stage: Stage) -> Result<Stage> {
        let hand_off = HandOff::of(&stage, &self.entries().await?);
        print_row([
            &stage.kind,
            stage.run.as_deref().unwrap_or(&stage.name),
            stage.digest.short(12),
            &hand_off.map_or_else(|| "-".to_owned(), |hand_off| latency::millis(hand_off.latency())),
            &stage.summary,
        ]);
        self.stages.push(stage.clone());
        Ok(stage)
    }

    /// All accepted writes in the namespace up to now.
    async fn entries(&self) -> Result<Vec<Entry>> {
        let Some(audit) = &self.audit else { return Ok(Vec::new()) };
        audit.catch_up(&self.cluster).await?;
        audit.entries(|entry| entry.namespace == self.namespace && entry.is_write() && entry.is_accepted())
    }
}

/// Prints the header of the table of stages.
pub fn print_header() {
    print_row(["STAGE", "VERSION", "DIGEST", "HAND-OFF", "RESULT"]);
}

fn print_row(cells: [&str; 5]) {
    let [stage, version, digest, hand_off, result] = cells;
    println!("{stage:<16} {version:<27} {digest:<13} {hand_off:>9}  {result}");
}
