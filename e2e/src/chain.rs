//! The stages of a chain: what each has made, how soon it started, and what it wrote.

use crate::{
    audit::{self, AuditLog, Write},
    state::{Intent, Kind as _},
    wait,
};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::{Api, Resource as _, ResourceExt as _};
use mlop_api::{Digest, contract::InputRecord, deployment::ModelDeployment};
use std::{collections::BTreeMap, time::Duration};

/// Where the operators run.
pub const OPERATORS: &str = "mlop-system";

/// What one stage has made.
#[derive(Clone, Debug)]
pub struct Stage {
    pub kind: String,
    /// Plural of the kind, as in requests.
    pub plural: String,
    pub name: String,
    /// The run that made it, and its kind's plural; none for a stage without runs.
    pub run: Option<(String, String)>,
    pub digest: Digest,
    pub summary: String,
    inputs: Vec<(String, String, Digest)>,
}

impl Stage {
    /// The stage of an intent that has published an artifact.
    pub fn of<K: Intent>(object: &K) -> Option<Self> {
        let artifact = object.artifact()?;
        let status = Intent::status(object)?;
        Some(Self {
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            name: object.name_any(),
            run: Some((artifact.run.clone(), K::Run::plural(&()).into_owned())),
            digest: artifact.digest.clone(),
            summary: status.summary.clone().unwrap_or_default(),
            inputs: artifact.inputs.iter().map(input).collect(),
        })
    }

    /// The stage of a deployment that serves.
    pub fn serving(deployment: &ModelDeployment) -> Option<Self> {
        let status = deployment.status.as_ref()?;
        let serving = status.serving.as_ref()?;
        let from = &deployment.spec.from;
        Some(Self {
            kind: "ModelDeployment".to_owned(),
            plural: "modeldeployments".to_owned(),
            name: deployment.name_any(),
            run: None,
            digest: serving.digest.clone(),
            summary: status.summary.clone().unwrap_or_default(),
            inputs: vec![(plural(&from.kind), from.name.clone(), serving.digest.clone())],
        })
    }

    /// When the last of its inputs became usable.
    fn called_at(&self, writes: &[Write]) -> Option<Timestamp> {
        self.inputs
            .iter()
            .map(|(plural, name, digest)| audit::ready_at(writes, plural, name, digest))
            .max()?
    }

    /// What the names of its pods and Jobs start with.
    fn pods(&self) -> String {
        match &self.run {
            Some((run, _)) => format!("{run}-"),
            None => format!("{}-mdep-", self.name),
        }
    }

    /// Time from the last input's `Ready` to the creation of the first pod or Job; none for the head of a chain.
    pub fn hand_off(&self, writes: &[Write]) -> Option<Duration> {
        let from = self.called_at(writes)?;
        audit::between(from, audit::started_at(writes, &self.pods(), from)?)
    }

    /// The operators' writes for it until it said `Ready`: how often each, by verb and resource. Events are left out.
    pub fn writes(&self, writes: &[Write]) -> BTreeMap<String, usize> {
        let until = audit::ready_at(writes, &self.plural, &self.name, &self.digest);
        let from = self.called_at(writes);
        let within =
            |at: Timestamp| from.is_none_or(|from| at >= from) && until.is_none_or(|until| at <= until);
        let operators = format!("system:serviceaccount:{OPERATORS}:");
        let mut counts = BTreeMap::new();
        let ours = writes.iter().filter(|write| write.user.starts_with(&operators) && within(write.at));
        for write in ours.filter(|write| self.concerns(write)) {
            *counts.entry(format!("{} {}", write.verb, write.resource)).or_default() += 1;
        }
        counts
    }

    fn concerns(&self, write: &Write) -> bool {
        let (base, _) = write.resource.split_once('/').unwrap_or((&write.resource, ""));
        match base {
            "pods" | "jobs" => write.name.starts_with(&self.pods()),
            plural if plural == self.plural => write.name == self.name,
            plural => self.run.as_ref().is_some_and(|(run, runs)| plural == runs && write.name == *run),
        }
    }
}

/// Waits for one stage after the other, and prints each as a row of a table.
pub struct Follower<'a> {
    pub audit: Option<&'a AuditLog>,
    pub namespace: &'a str,
    /// Longest time of one stage.
    pub limit: Duration,
}

impl Follower<'_> {
    pub fn header(&self) {
        print_row(["STAGE", "VERSION", "DIGEST", "HAND-OFF", "WRITES", "RESULT"]);
    }

    /// The head of a chain, once it has published something other than `before`.
    ///
    /// # Errors
    /// After the limit.
    pub async fn head<K: Intent>(&self, api: &Api<K>, name: &str, before: Option<&Digest>) -> Result<Stage> {
        let other = |object: &K| object.artifact().is_some_and(|artifact| Some(&artifact.digest) != before);
        let object =
            wait::until(api, name, "ready with new data", self.limit, |o| o.ready() && other(o)).await?;
        self.report(Stage::of(&object).context("no artifact")?)
    }

    /// The next stage, once it has made something from what `from` published.
    ///
    /// # Errors
    /// After the limit.
    pub async fn after<K: Intent>(&self, api: &Api<K>, name: &str, from: &Stage) -> Result<Stage> {
        let follows = |object: &K| {
            let inputs = object.artifact().map_or(&[][..], |artifact| &artifact.inputs);
            object.ready()
                && inputs.iter().any(|input| input.kind == from.kind && input.digest == from.digest)
        };
        let object = wait::until(api, name, "ready with what came before it", self.limit, follows).await?;
        self.report(Stage::of(&object).context("no artifact")?)
    }

    /// The deployment, once it serves what `model` published and nothing else.
    ///
    /// # Errors
    /// After the limit.
    pub async fn serving(&self, api: &Api<ModelDeployment>, name: &str, model: &Stage) -> Result<Stage> {
        let serves = |object: &ModelDeployment| {
            object.ready() && Stage::serving(object).is_some_and(|stage| stage.digest == model.digest)
        };
        let object = wait::until(api, name, "serving the new model", self.limit, serves).await?;
        self.report(Stage::serving(&object).context("nothing is served")?)
    }

    fn report(&self, stage: Stage) -> Result<Stage> {
        let writes = self.audit.map(|log| log.writes(self.namespace)).transpose()?.unwrap_or_default();
        let hand_off = stage.hand_off(&writes).map(|time| format!("{:.1} ms", time.as_secs_f64() * 1e3));
        let count: usize = stage.writes(&writes).values().sum();
        print_row([
            &stage.kind,
            stage.run.as_ref().map_or(stage.name.as_str(), |(run, _)| run),
            stage.digest.short(12),
            &hand_off.unwrap_or_else(|| "-".to_owned()),
            &count.to_string(),
            &stage.summary,
        ]);
        Ok(stage)
    }
}

fn print_row(cells: [&str; 6]) {
    let [stage, version, digest, hand_off, writes, result] = cells;
    println!("{stage:<16} {version:<27} {digest:<13} {hand_off:>9} {writes:>7}  {result}");
}

fn input(record: &InputRecord) -> (String, String, Digest) {
    (plural(&record.kind), record.object.clone(), record.digest.clone())
}

/// The plural of any kind of mlop.
fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}
