//! The wait for the stages of a chain, in order.

use crate::{
    audit::{AuditLog, Entry},
    cluster::Cluster,
    latency::{self, HandOff, Writes},
    namespace::TestNamespace,
    stage::Stage,
    state::{Intent, Kind as _},
    wait,
};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::Api;
use mlop_api::{Digest, deployment::ModelDeployment};
use std::time::Duration;

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
    pub async fn head<K: Intent>(
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
    pub async fn after<K: Intent>(&mut self, api: &Api<K>, name: &str, from: &Stage) -> Result<Stage> {
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
