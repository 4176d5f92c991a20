//! The contract between stages: the part of a resource's status on which others may build.
//!
//! Any kind whose status has these fields can be an input, mlop's or not. Consumers read [`Upstream`], never the
//! producer's own type.

use crate::{Digest, Time, common::Metric};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An immutable result: its identity, its place and its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Identity of the content: equal digests mean equal content.
    pub digest: Digest,
    /// Name of the ObjectStore in this namespace that holds it.
    #[schemars(length(max = 63))]
    pub store: String,
    /// Where it lies, for people and tools. Composed by the operator from store and digest.
    #[schemars(length(max = 1024))]
    pub uri: String,
    /// Type of the content at the uri: a table manifest or the root of a tree.
    #[schemars(length(max = 128))]
    pub media_type: String,
    /// Grows on every change of digest, a rollback included; never goes back. By one, but for a FeatureView and a
    /// Model, where each run and each activation has a number.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// Identity of the table's columns and types, if it is a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_digest: Option<Digest>,
    /// Generation of this resource's spec that the artifact is valid for; absent if it is valid for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Digest of everything that determined the content.
    pub input_digest: Digest,
    /// Name of the run that made it; `spec.pin` takes such a name.
    #[schemars(length(max = 63))]
    pub run: String,
    /// The direct parents.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub inputs: Vec<InputRecord>,
    /// The resources that it descends from, the direct parents included; those without inputs first.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub ancestors: Vec<Ancestor>,
    /// When it was published (RFC 3339, microseconds).
    pub produced_at: Time,
}

/// One direct parent of an artifact, as it was when the work was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputRecord {
    /// The input's name in the spec.
    #[schemars(length(max = 63))]
    pub name: String,
    /// API group of the parent.
    #[schemars(length(max = 253))]
    pub api_group: String,
    /// Kind of the parent.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the parent in this namespace.
    #[schemars(length(max = 253))]
    pub object: String,
    /// UID of the parent.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Generation of the parent that published the digest.
    pub generation: i64,
    /// The digest that was consumed.
    pub digest: Digest,
}

impl Artifact {
    /// The ancestors that have no inputs themselves.
    pub fn roots(&self) -> impl Iterator<Item = &Ancestor> {
        self.ancestors.iter().filter(|ancestor| ancestor.root)
    }
}

/// A resource from whose artifact another one descends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ancestor {
    /// API group of the resource.
    #[schemars(length(max = 253))]
    pub api_group: String,
    /// Kind of the resource.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the resource in this namespace.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Digest of its artifact that was used.
    pub digest: Digest,
    /// Whether it has no inputs itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root: bool,
    /// Digest of everything that determined the artifact, if the resource has no inputs itself. The trace of a propagation
    /// is named after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_digest: Option<Digest>,
    /// When the artifact was published (RFC 3339, microseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produced_at: Option<Time>,
}

impl Ancestor {
    /// The ancestor without the fields that may differ between equal artifacts. Documents that enter a digest have this.
    pub fn identity(&self) -> Self {
        Self { input_digest: None, produced_at: None, ..self.clone() }
    }
}

/// Where a problem began. Copied downstream unchanged, so that every stage names the first one that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Kind of the resource where the problem began.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name in this namespace.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The documented reason.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// What happened, in words.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// The part of any status that consumers read. A missing field means "not yet".
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upstream {
    pub observed_generation: Option<i64>,
    pub artifact: Option<Artifact>,
    pub metrics: Vec<Metric>,
    pub cause: Option<Cause>,
    /// How a tracking server knows the artifact, if one does.
    pub registered: Option<crate::result::Registered>,
    pub conditions: Vec<Condition>,
}

/// Types of the conditions in use.
pub mod condition_type {
    pub const READY: &str = "Ready";
    pub const INPUTS_READY: &str = "InputsReady";
    pub const UP_TO_DATE: &str = "UpToDate";
    pub const SUCCEEDED: &str = "Succeeded";
    /// Whether the gates of its intent let the result of a run be used. Present once they have refused it.
    pub const ACCEPTED: &str = "Accepted";
    /// kstatus: present and True while the controller is working towards the spec.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: present and True while nothing but a change by someone will help.
    pub const STALLED: &str = "Stalled";
}
