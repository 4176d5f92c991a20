//! The statuses of mlop's kinds.

use crate::{
    Digest, Time,
    common::Metric,
    contract::{Artifact, Cause},
    headline::Headline,
    preflight::AvoidedNode,
    progress::{Checkpoint, Progress, Series},
    queue::{Admission, QueueRequest},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod conditioned;

pub use conditioned::Conditioned;

/// Status of an intent that makes runs (Dataset, FeatureView, TrainingJob, Model).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntentStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The result that others may use, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// The one fact about the artifact that people look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub summary: Option<String>,
    /// Measured values of the artifact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub metrics: Vec<Metric>,
    /// Remarks on the usable artifact, such as rows that were rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(max = 256)))]
    pub notes: Vec<String>,
    /// Result of the newest scan of the source (Dataset).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// How the tracking server knows the artifact (Model).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<crate::result::Registered>,
    /// The activation in the external system (online store, alias).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationRecord>,
    /// Names of the FeatureStores that the rows of the view may be online in (FeatureView). The rows are removed from those that the spec does not name any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub online_in: Vec<String>,
    /// Verdicts of the gates (Model), newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub verdicts: Vec<Verdict>,
    /// Where a problem began, here or upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Value of the annotation mlop.dev/run-requested-at that was answered last: by a run, or by an Event that says why there was nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub answered_request: Option<String>,
    /// The last runs, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<HistoryEntry>,
    /// Inputs whose attempts are used up, newest first. The annotation mlop.dev/retry-requested-at tries those of now again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub dead_letters: Vec<DeadLetter>,
    /// Reason and message of the columns REASON and MESSAGE of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Headline>,
    /// Observations: Ready, InputsReady, UpToDate; Reconciling and Stalled while present.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Result of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scan {
    /// Identity of the listing: keys, sizes and entity tags of the objects.
    pub digest: Digest,
    /// Name of the ObjectStore that was listed.
    #[schemars(length(max = 63))]
    pub store: String,
    /// Digest of the scanned source (store, prefix, patterns), so that an edit makes a new scan.
    pub source_digest: Digest,
    /// The result in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub summary: Option<String>,
}

/// The activation in an external system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActivationRecord {
    /// Digest of the artifact and of all parameters of the activation.
    pub digest: Digest,
    /// Revision under which it is active.
    pub revision: i64,
}

/// Outcome of the gates for one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The run that was judged.
    #[schemars(length(max = 63))]
    pub run: String,
    /// Digest of the gates it was judged by.
    pub gates_digest: Digest,
    /// Whether it passed.
    pub passed: bool,
    /// Each gate with the value that was measured.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// One finished run, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Name of the run.
    #[schemars(length(max = 63))]
    pub run: String,
    /// Digest of its inputs.
    pub input_digest: Digest,
    /// Digest of its output, if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Succeeded, or the reason of the failure.
    #[schemars(length(max = 63))]
    pub outcome: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// Seconds from the run's creation to its end.
    pub duration_seconds: i64,
}

/// Inputs that were given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Name of the run.
    #[schemars(length(max = 63))]
    pub run: String,
    /// Digest of the inputs that failed.
    pub input_digest: Digest,
    /// Failure class of the last attempt.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// The beginning of the last attempt's message. The run's status has all of it.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// When the last attempt ended (RFC 3339).
    pub at: Time,
}

/// Status of a run (DatasetVersion, FeatureSnapshot, TrainingRun, ModelVersion).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Output of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Attempts that have ended; the next one has this number plus one. Never restarts.
    #[serde(default)]
    pub attempts: u32,
    /// Number of attempts that ended before the current budget began.
    #[serde(default)]
    pub budget_start: u32,
    /// Attempts in a row that ended by no fault of the work: eviction, a lost node, an external system that is away.
    /// They cost nothing of the budget; the delays between them grow to five minutes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disruptions: u32,
    /// Attempts in a row that a preflight has ended because of the node: its GPU or its disk. The first three cost nothing of the budget.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub preflight_failures: u32,
    /// Nodes that the next attempts avoid, because a preflight failed there, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub avoided_nodes: Vec<AvoidedNode>,
    /// Digest of the `spec.execution` that the current budget belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_digest: Option<Digest>,
    /// The last failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<AttemptFailure>,
    /// Where a problem began, here or at a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The answered request to end the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cancel_requested_at: Option<String>,
    /// Progress that the code of a training reports: of the attempt that is under way, or of the last one when the run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The course of the first metrics of a training, `loss` before others, through all of its attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub series: Vec<Series>,
    /// Sequence number of the newest complete checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// The newest complete checkpoint of a training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<Checkpoint>,
    /// What a training asks its queue for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<QueueRequest>,
    /// The answer of the queue. The queue operator alone writes it: others read it, and leave it out of what they write.
    #[serde(default, skip_serializing_if = "is_left_out")]
    pub admission: Option<Admission>,
    /// When the run ended (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Reason and message of the columns REASON and MESSAGE of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Headline>,
    /// Observations: Succeeded; Reconciling and Stalled while present.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Output of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Identity of the content.
    pub digest: Digest,
    /// Name of the ObjectStore that holds it.
    #[schemars(length(max = 63))]
    pub store: String,
    /// Where it lies.
    #[schemars(length(max = 1024))]
    pub uri: String,
    /// Type of the content at the uri.
    #[schemars(length(max = 128))]
    pub media_type: String,
    /// Identity of the table's columns and types, if it is a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_digest: Option<Digest>,
    /// Measured values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub metrics: Vec<Metric>,
    /// The one fact that people look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub summary: Option<String>,
    /// Remarks on the usable output, such as rows that were rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(max = 256)))]
    pub notes: Vec<String>,
    /// How the tracking server knows it (ModelVersion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<crate::result::Registered>,
    /// How the pod that made it has activated it too (FeatureSnapshot, ModelVersion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<crate::result::Activated>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptFailure {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Failure class.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// What happened.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Whether a further attempt may help.
    pub retryable: bool,
    /// When the attempt ended (RFC 3339).
    pub at: Time,
    /// When the first of the attempts ended that have failed in a row for this reason, if there were more than one (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// Status of a connection (ObjectStore, FeatureStore, TrackingServer).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Address inside the cluster under which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub address: Option<String>,
    /// Reason and message of the columns REASON and MESSAGE of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Headline>,
    /// Identity of the online store's data (FeatureStore). It changes when the store comes back empty: every view is then
    /// loaded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Digest>,
    /// Observations: Ready; Reconciling and Stalled while present.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Status of a policy (PodProfile).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The fields that the policy sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub summary: Option<String>,
    /// Reason and message of the columns REASON and MESSAGE of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Headline>,
    /// Observations: Ready; Reconciling and Stalled while present.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Status of a ModelDeployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The served artifact, as others may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// The versions that ready pods serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub serving: Vec<Serving>,
    /// The newest rollout in steps, while `spec.rollout` asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<crate::rollout::RolloutStatus>,
    /// Pods of any version, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub selector: Option<String>,
    /// Where predictions are served inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// The one fact that people look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub summary: Option<String>,
    /// Where a problem began, here or upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Reason and message of the columns REASON and MESSAGE of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Headline>,
    /// Observations: Ready, InputsReady, UpToDate; Reconciling and Stalled while present.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A version that ready pods serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// Digest of the model.
    pub digest: Digest,
    /// Name of the ModelVersion.
    #[schemars(length(max = 63))]
    pub model_version: String,
    /// Version number in the tracking server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub version: Option<String>,
    /// Pods that are ready.
    pub ready_replicas: i32,
}

/// Whether a field of another writer is left out of a status that is written: always.
fn is_left_out<T>(_: &T) -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
