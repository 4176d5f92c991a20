//! Rollouts in steps: `ModelDeployment.spec.rollout` and `status.rollout`.

use crate::{Digest, duration::Span, run::REQUEST_CHARS_MAX, time::Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most rollouts in a status.
pub const HISTORY_MAX: usize = 5;

/// How a new version takes over from the one that serves: step by step, as long as its answers are good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.steps.map(s, s.weight).isSorted() && self.steps.all(a, self.steps.exists_one(b, a.weight == b.weight))", "steps: each weight must be greater than the one before"))]
pub struct RolloutSpec {
    /// The steps, in their order. After the last one the new version takes over. For a switch at once (blue-green): weight 0, then 100.
    #[schemars(length(min = 1, max = 20))]
    pub steps: Vec<Step>,
    /// The bounds that the answers of the new version must keep.
    #[serde(default)]
    pub analysis: Analysis,
    /// Number of router pods, which share the requests out among the versions.
    #[serde(default = "default_routers")]
    #[schemars(range(min = 1, max = 20))]
    pub routers: i32,
}

const fn default_routers() -> i32 {
    2
}

/// One step of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Share of the requests that the new version answers, in percent. With 0 its pods start, and users do not reach them.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,
    /// Least time at this weight.
    #[serde(default = "default_hold")]
    pub hold: Span,
}

const fn default_hold() -> Span {
    Span::minutes(2)
}

/// Bounds for the answers of a new version. One that does not keep them is rolled back at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Analysis {
    /// Time over which requests are counted for one measurement. Values above 1h count as 1h.
    pub interval: Span,
    /// Largest share of requests that fail: a number from 0 to 1 in quotes. A request has failed if the version cannot be reached, breaks off, or answers with a status from 500 on. A version has also failed that refuses a larger share with statuses from 400 to 499 than the stable version in the same interval, by more than this and more than chance.
    #[schemars(length(max = 32), regex(pattern = r"^(0(\.[0-9]+)?|1(\.0+)?)$"))]
    pub max_error_rate: String,
    /// Largest 99th percentile of the time to an answer, in seconds: a number in quotes, as in maxP99: "0.25". Without it time is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?$"))]
    pub max_p99: Option<String>,
    /// Number of requests to the new version that a measurement needs. With fewer it proves nothing, and another one follows.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,
    /// Longest time that a step waits for a measurement that proves something, after its hold. Then the version is rolled back.
    pub timeout: Span,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            interval: Span::seconds(30),
            max_error_rate: "0.05".to_owned(),
            max_p99: None,
            min_requests: 50,
            timeout: Span::minutes(15),
        }
    }
}

/// The newest rollout in steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// How far it is.
    pub phase: RolloutPhase,
    /// Number of the step, from 1.
    pub step: u32,
    /// Share of the requests that the new version gets, in percent.
    pub weight: i32,
    /// The version that served when the rollout began.
    pub stable: RolloutVersion,
    /// The new version.
    pub canary: RolloutVersion,
    /// Identity of the attempt: it changes with the new version and with `spec.rollout`.
    #[schemars(length(max = 64))]
    pub attempt: String,
    /// The request for a retry that was answered before the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REQUEST_CHARS_MAX))]
    pub retry_requested_at: Option<String>,
    /// The request for an end that was there before the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REQUEST_CHARS_MAX))]
    pub cancel_requested_at: Option<String>,
    /// The request for a promotion that was there before the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REQUEST_CHARS_MAX))]
    pub promote_requested_at: Option<String>,
    /// When the weight of the step took effect, or the phase began (RFC 3339). Absent while the pods of the step start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Number of measurements so far.
    #[serde(default)]
    pub measurements: u32,
    /// The newest measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_measurement: Option<Measurement>,
    /// The state in words.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The last rollouts that have ended, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<PastRollout>,
}

/// The state of a rollout in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// The new version answers the share of its step.
    Progressing,
    /// All steps are done, and the stable pods are replaced by those of the new version.
    Promoting,
    /// The new version is the stable one.
    Promoted,
    /// The new version did not keep the bounds, or could not be measured, or a user has ended its rollout. It is not tried again until it or the spec changes, or a retry is requested.
    RolledBack,
    /// The version that serves is the wanted one again.
    Withdrawn,
}

/// A version in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutVersion {
    /// Digest of the model.
    pub digest: Digest,
    /// Name of the run that made it, for a Model its ModelVersion.
    #[schemars(length(max = 63))]
    pub run: String,
    /// Version number in the tracking server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub version: Option<String>,
    /// Identity of its pods: the model and the server that loads it.
    #[schemars(length(max = 64))]
    pub template: String,
}

/// The requests of one interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// Number of the step.
    pub step: u32,
    /// What it proves.
    pub verdict: Verdict,
    /// Requests to the new version.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// 99th percentile of their time to an answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub p99: Option<String>,
    /// Requests to the stable version.
    pub stable_requests: u64,
    /// The reason of the verdict.
    #[schemars(length(max = 256))]
    pub message: String,
    /// When it was judged (RFC 3339).
    pub at: Time,
}

/// What a measurement proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// All bounds are kept.
    Passed,
    /// A bound is exceeded.
    Failed,
    /// Nothing: there are too few requests, or none could be counted.
    Inconclusive,
}

/// A rollout that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastRollout {
    /// Name of the run that made the version.
    #[schemars(length(max = 63))]
    pub run: String,
    /// Version number in the tracking server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub version: Option<String>,
    /// Digest of the model.
    pub digest: Digest,
    /// How it ended.
    pub phase: RolloutPhase,
    /// The reason for this end.
    #[schemars(length(max = 256))]
    pub message: String,
    /// When (RFC 3339).
    pub at: Time,
}

impl RolloutPhase {
    /// Whether the new version has pods.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Progressing | Self::Promoting)
    }
}

impl RolloutVersion {
    /// The version in words, such as `version 3`.
    pub fn words(&self) -> String {
        self.version.as_ref().map_or_else(|| self.run.clone(), |version| format!("version {version}"))
    }
}

impl RolloutSpec {
    /// The weight of step `number`, counted from 1.
    pub fn step(&self, number: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}
