//! The stages of a chain: what each has made, waited for one after the other.

use crate::{
    audit::{AuditLog, Entry},
    cluster::Cluster,
    hand_off::{self, HandOff, Writes},
    scratch::Scratch,
    state::{Intent, Kind as _},
    wait,
};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use mlop_api::{Digest, deployment::ModelDeployment};
use serde::Serialize;
use std::time::Duration;

/// Where the operators run.
pub const OPERATORS: &str = "mlop-system";
/// The kinds of a chain, and the operator of each.
pub const STAGES: [(&str, &str); 5] = [
    ("Dataset", "mlop-ingestion"),
    ("FeatureView", "mlop-feature-store"),
    ("TrainingJob", "mlop-training"),
    ("Model", "mlop-registry"),
    ("ModelDeployment", "mlop-deployment"),
];

/// What one stage has made.
#[derive(Clone, Debug)]
pub struct Stage {
    pub kind: String,
    pub name: String,
    /// The run that made it; none for a stage without runs.
    pub run: Option<String>,
    pub digest: Digest,
    pub summary: String,
    /// What had to be ready before its pods could start.
    pub needs: Vec<Need>,
}

/// An object that a stage builds on.
#[derive(Clone, Debug)]
pub struct Need {
    pub kind: String,
    pub name: String,
    /// What it has to have published; nothing for a connection.
    pub digest: Option<Digest>,
}

impl Stage {
    /// The stage of an intent that has published an artifact.
    pub fn of<K: Intent + Serialize>(object: &K) -> Option<Self> {
        let artifact = object.artifact()?;
        let status = Intent::status(object)?;
        let inputs = artifact.inputs.iter().map(|input| Need {
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
            needs: inputs.chain(tracking_server(object)).collect(),
        })
    }

    /// The stage of a deployment that serves.
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
            needs: vec![Need { kind: from.kind.clone(), name: from.name.clone(), digest }],
        })
    }

    /// What the names of its pods and Jobs start with.
    pub fn pods(&self) -> String {
        match &self.run {
            Some(run) => format!("{run}-"),
            None => format!("{}-mdep-", self.name),
        }
    }

    /// What it has when it is done.
    pub fn done(&self) -> Need {
        Need { kind: self.kind.clone(), name: self.name.clone(), digest: Some(self.digest.clone()) }
    }

    /// Whether it is about a look at the source.
    pub fn looks(&self, entry: &Entry) -> bool {
        entry.name.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with("-scan-"))
    }

    /// Whether its operator asked for something about it, its runs, pods, Jobs or servers. Events are left out.
    pub fn concerns(&self, entry: &Entry) -> bool {
        let its =
            STAGES.iter().any(|(kind, operator)| *kind == self.kind && entry.operator() == Some(operator));
        let rest = entry.name.strip_prefix(&self.name);
        its && entry.resource != "events" && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// The one connection that is waited for before a pod is made: others are ready before the chain's data is.
fn tracking_server<K: Intent + Serialize>(object: &K) -> Option<Need> {
    let object = serde_json::to_value(object).ok()?;
    let name = object.pointer("/spec/trackingServer")?.as_str()?.to_owned();
    Some(Need { kind: "TrackingServer".to_owned(), name, digest: None })
}

/// One way through the chain: waits for one stage after the other, and prints each as a row of a table.
pub struct Pass {
    cluster: Cluster,
    /// It must have begun before the chain's objects were made, so that it shows when each became ready.
    audit: Option<AuditLog>,
    namespace: String,
    /// Longest time of one stage.
    limit: Duration,
    /// The newest entry of the log when the pass began.
    begin: Timestamp,
    pub stages: Vec<Stage>,
}

impl Pass {
    /// # Errors
    /// When the log cannot be read.
    pub async fn begin(scratch: &Scratch, audit: Option<&AuditLog>, limit: Duration) -> Result<Self> {
        let mut pass = Self {
            cluster: scratch.cluster.clone(),
            audit: audit.cloned(),
            namespace: scratch.namespace.clone(),
            limit,
            begin: Timestamp::UNIX_EPOCH,
            stages: Vec::new(),
        };
        pass.begin = pass.entries().await?.last().map_or(pass.begin, |entry| entry.at);
        Ok(pass)
    }

    /// The head of a chain, once it has published something other than `before`.
    ///
    /// # Errors
    /// After the limit.
    pub async fn head<K: Intent + Serialize>(
        &mut self,
        api: &Api<K>,
        name: &str,
        before: Option<&Digest>,
    ) -> Result<Stage> {
        let other = |object: &K| object.artifact().is_some_and(|artifact| Some(&artifact.digest) != before);
        let object =
            wait::until(api, name, "ready with new data", self.limit, |o| o.ready() && other(o)).await?;
        self.report(Stage::of(&object).context("no artifact")?).await
    }

    /// The next stage, once it has made something from what `from` published.
    ///
    /// # Errors
    /// After the limit.
    pub async fn after<K: Intent + Serialize>(
        &mut self,
        api: &Api<K>,
        name: &str,
        from: &Stage,
    ) -> Result<Stage> {
        let follows = |object: &K| {
            let inputs = object.artifact().map_or(&[][..], |artifact| &artifact.inputs);
            object.ready()
                && inputs.iter().any(|input| input.kind == from.kind && input.digest == from.digest)
        };
        let object = wait::until(api, name, "ready with what came before it", self.limit, follows).await?;
        self.report(Stage::of(&object).context("no artifact")?).await
    }

    /// The deployment, once it serves what `model` published and nothing else.
    ///
    /// # Errors
    /// After the limit.
    pub async fn serving(&mut self, api: &Api<ModelDeployment>, name: &str, model: &Stage) -> Result<Stage> {
        let serves = |object: &ModelDeployment| {
            object.ready() && Stage::serving(object).is_some_and(|stage| stage.digest == model.digest)
        };
        let object = wait::until(api, name, "serving the new model", self.limit, serves).await?;
        self.report(Stage::serving(&object).context("nothing is served")?).await
    }

    /// How long each stage took to begin after what it needs was ready; empty when the cluster keeps no audit log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn hand_offs(&self) -> Result<Vec<HandOff>> {
        let entries = self.entries().await?;
        Ok(self.stages.iter().filter_map(|stage| HandOff::of(stage, &entries)).collect())
    }

    /// What the operators wrote for each stage, with the reason of each write.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn writes(&self) -> Result<Vec<Writes>> {
        let entries = self.entries().await?;
        Ok(self.stages.iter().map(|stage| hand_off::writes(stage, &entries, self.begin)).collect())
    }

    async fn report(&mut self, stage: Stage) -> Result<Stage> {
        let hand_off = HandOff::of(&stage, &self.entries().await?);
        print_row([
            &stage.kind,
            stage.run.as_deref().unwrap_or(&stage.name),
            stage.digest.short(12),
            &hand_off.map_or_else(|| "-".to_owned(), |hand_off| hand_off::millis(hand_off.time())),
            &stage.summary,
        ]);
        self.stages.push(stage.clone());
        Ok(stage)
    }

    /// All writes in the namespace that have been answered by now.
    async fn entries(&self) -> Result<Vec<Entry>> {
        let Some(audit) = &self.audit else { return Ok(Vec::new()) };
        audit.catch_up(&self.cluster).await?;
        audit.entries(|entry| entry.namespace == self.namespace && entry.is_write() && entry.accepted())
    }
}

/// The head of the table of stages.
pub fn print_header() {
    print_row(["STAGE", "VERSION", "DIGEST", "HAND-OFF", "RESULT"]);
}

fn print_row(cells: [&str; 5]) {
    let [stage, version, digest, hand_off, result] = cells;
    println!("{stage:<16} {version:<27} {digest:<13} {hand_off:>9}  {result}");
}
