//! The objects of a namespace as they were read: the input of every decision of this crate.
//!
//! Objects are read as duck types. Every kind of mlop has the same names for the same facts of its status, so one
//! [`Status`] reads all of them, also those of a release that has further fields.

use crate::kinds::{self, KindInfo};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use mlop_api::{
    common::Metric,
    contract::{Artifact, Cause, condition_type},
    headline::Headline,
    kinds::Class,
    labels, operators,
    progress::{Checkpoint, Progress, Series},
    result::Registered,
    rollout::RolloutStatus,
    run::Lineage,
    status::{AttemptFailure, DeadLetter, HistoryEntry, Output, Serving, Verdict},
    text::printable,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{cmp::Reverse, fmt};

/// An object of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectId {
    pub kind: String,
    pub name: String,
}

impl ObjectId {
    pub fn new(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned() }
    }

    /// As kubectl takes it: `tjob/delay`.
    pub fn argument(&self) -> String {
        let kind = kinds::info(&self.kind).map_or(self.kind.as_str(), KindInfo::short_name);
        format!("{kind}/{}", self.name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The facts of a status, whatever the kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub observed_generation: Option<i64>,
    pub artifact: Option<Artifact>,
    pub output: Option<Output>,
    pub summary: Option<String>,
    pub metrics: Vec<Metric>,
    pub notes: Vec<String>,
    pub registered: Option<Registered>,
    pub verdicts: Vec<Verdict>,
    pub cause: Option<Cause>,
    pub history: Vec<HistoryEntry>,
    pub dead_letters: Vec<DeadLetter>,
    pub headline: Option<Headline>,
    pub attempts: u32,
    pub failure: Option<AttemptFailure>,
    pub last_checkpoint: Option<Checkpoint>,
    pub progress: Option<Progress>,
    pub series: Vec<Series>,
    pub serving: Vec<Serving>,
    pub rollout: Option<RolloutStatus>,
    pub url: Option<String>,
    pub address: Option<String>,
    pub conditions: Vec<Condition>,
}

/// An object of a kind of mlop.
#[derive(Clone, Debug)]
pub struct Object {
    pub id: ObjectId,
    pub class: Class,
    pub meta: ObjectMeta,
    pub spec: Value,
    pub status: Status,
    /// Why its status cannot be read, if it cannot.
    pub unreadable: Option<String>,
}

impl Object {
    /// Reads an object of `kind` from its fields besides the metadata.
    pub fn new(kind: &KindInfo, meta: ObjectMeta, data: &Value) -> Self {
        let field = |name| data.get(name).cloned().unwrap_or_default();
        let (status, unreadable) = match field("status") {
            Value::Null => (Status::default(), None),
            status => match serde_json::from_value(status) {
                Ok(status) => (status, None),
                Err(error) => (Status::default(), Some(format!("status: {error}"))),
            },
        };
        let id = ObjectId { kind: kind.kind.clone(), name: meta.name.clone().unwrap_or_default() };
        Self { id, class: kind.class, meta, spec: field("spec"), status, unreadable }
    }

    /// Reads an object as `kubectl get -o yaml` shows it; none if its kind is not mlop's.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn from_value(value: &Value) -> Result<Option<Self>, serde_json::Error> {
        let kind = value.get("kind").and_then(Value::as_str).and_then(kinds::info);
        let Some(kind) = kind else { return Ok(None) };
        let meta = serde_json::from_value(value.get("metadata").cloned().unwrap_or_default())?;
        Ok(Some(Self::new(kind, meta, value)))
    }

    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// `Ready`, or `Succeeded` of a run.
    pub fn main_condition(&self) -> Option<&Condition> {
        let kind = if self.class == Class::Run { condition_type::SUCCEEDED } else { condition_type::READY };
        self.condition(kind)
    }

    /// Whether the condition exists and is True.
    pub fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True")
    }

    /// Whether the run has neither succeeded nor failed.
    pub fn is_active_run(&self) -> bool {
        let ended = |condition: &Condition| condition.status == "True" || condition.status == "False";
        self.class == Class::Run && !self.main_condition().is_some_and(ended)
    }

    /// Whether its kind makes runs.
    pub fn has_runs(&self) -> bool {
        let operator = operators::of(&self.id.kind);
        self.class == Class::Intent && operator.is_some_and(|operator| !operator.runs().is_empty())
    }

    pub fn generation(&self) -> i64 {
        self.meta.generation.unwrap_or_default()
    }

    pub fn created_at(&self) -> Option<Timestamp> {
        self.meta.creation_timestamp.as_ref().map(|at| at.0)
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.meta.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The intent that a run works for.
    pub fn intent(&self) -> Option<ObjectId> {
        Some(ObjectId::new(self.label(labels::INTENT_KIND)?, self.label(labels::INTENT)?))
    }

    /// The inputs of a run, fixed when it was created.
    pub fn lineage(&self) -> Option<Lineage> {
        serde_json::from_value(self.spec.get("lineage")?.clone()).ok()
    }

    /// A text of the spec.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.spec.get(field)?.as_str()
    }

    pub fn is_suspended(&self) -> bool {
        self.spec.get("suspend").and_then(Value::as_bool).unwrap_or_default()
    }

    /// Number of the version in the registry.
    pub fn version(&self) -> Option<&str> {
        let status = &self.status;
        let of_output = || status.output.as_ref()?.registered.as_ref().map(|it| it.version.as_str());
        let served = || status.serving.first()?.version.as_deref();
        status.registered.as_ref().map(|it| it.version.as_str()).or_else(of_output).or_else(served)
    }

    /// The headline's message, safe for a terminal.
    pub fn message(&self) -> Option<String> {
        let message = self.status.headline.as_ref()?.message.as_ref()?;
        Some(printable(message).into_owned())
    }
}

/// The objects of one namespace at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub namespace: String,
    pub objects: Vec<Object>,
    pub now: Timestamp,
}

impl Snapshot {
    pub fn get(&self, id: &ObjectId) -> Option<&Object> {
        self.objects.iter().find(|object| object.id == *id)
    }

    pub fn of_class(&self, class: Class) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.class == class)
    }

    /// The runs of an intent, newest first.
    pub fn runs_of(&self, intent: &ObjectId) -> Vec<&Object> {
        let mut runs: Vec<_> =
            self.of_class(Class::Run).filter(|run| run.intent().as_ref() == Some(intent)).collect();
        runs.sort_by_key(|run| Reverse((run.created_at(), run.id.name.clone())));
        runs
    }

    /// The run of this name, of any kind.
    pub fn run(&self, name: &str) -> Option<&Object> {
        self.of_class(Class::Run).find(|run| run.id.name == name)
    }

    /// The run that works for the intent now.
    pub fn active_run(&self, intent: &ObjectId) -> Option<&Object> {
        self.runs_of(intent).into_iter().find(|run| run.is_active_run())
    }
}
