//! Small types that several kinds share.

use crate::{GROUP, Quantity, duration::Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A reference by role to a resource whose artifact is consumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedInput {
    /// Name of the input: a directory for training code, a table for SQL.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    pub name: String,
    /// The resource that publishes the artifact.
    pub from: ObjectRef,
}

/// A resource in the same namespace whose status publishes an artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// API group of the resource.
    #[serde(default = "default_group")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub api_group: String,
    /// Kind of the resource, for example Dataset.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Name of the resource in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

fn default_group() -> String {
    GROUP.to_owned()
}

/// How often failing work is tried again, and with what delays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Retry {
    /// Attempts in all, the first included.
    #[schemars(range(min = 1, max = 20))]
    pub limit: u32,
    /// Delay before the second attempt.
    pub initial: Span,
    /// Each further delay is this many times longer (a decimal number from 1 to 10).
    #[schemars(length(max = 8), regex(pattern = r"^(10(\.0+)?|[1-9](\.[0-9]+)?)$"))]
    pub factor: String,
    /// Longest delay.
    pub max: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: 3, initial: Span::seconds(10), factor: "2".to_owned(), max: Span::minutes(5) }
    }
}

/// When a new input starts new work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Trigger {
    /// `auto` starts on every new input digest; `manual` waits for the annotation mlop.dev/run-requested-at.
    pub mode: TriggerMode,
    /// Wait until the newest input has been unchanged for this long. Default: start at once, as a Dataset always does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stabilization_window: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TriggerMode {
    #[default]
    Auto,
    Manual,
}

/// Whether inputs that descend from the same root must come from the same version of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Wait until all inputs descend from the same digest of a shared root.
    #[default]
    Same,
    /// Take each input's newest version.
    Any,
}

/// Computing resources of a pod: its requests, which are its limits too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resources {
    /// CPU cores, for example `500m`, `2` or `"0.5"`. Requested; not limited, so that idle cores are used.
    #[schemars(extend("maxLength" = 16, "pattern" = r"^([1-9][0-9]*m|[0-9]+(\.[0-9]+)?)$"))]
    pub cpu: Quantity,
    /// Memory in bytes with a unit, for example `512Mi` or `2Gi`. Requested and limited.
    #[schemars(extend("maxLength" = 16, "pattern" = r"^[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    pub memory: Quantity,
    /// Number of GPUs (resource nvidia.com/gpu).
    #[schemars(range(min = 0, max = 64))]
    pub gpu: u32,
}

impl Resources {
    /// Resources without GPUs.
    pub fn of(cpu: Quantity, memory: Quantity) -> Self {
        Self { cpu, memory, gpu: 0 }
    }

    /// Resources of a container that waits more than it computes, with its memory in Mi.
    pub fn small(memory: u32) -> Self {
        Self::of(Quantity::milli(50), Quantity::mebi(memory))
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self::of(Quantity::milli(250), Quantity::mebi(512))
    }
}

/// A taint that the pod accepts, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Toleration {
    /// Key of the taint.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Value of the taint; without it any value is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint: NoSchedule, PreferNoSchedule or NoExecute; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// Name, for example `auc` or `rows`.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// Value as a decimal number (with an exponent if it is long), or NaN, Infinity, -Infinity.
    #[schemars(length(min = 1, max = 32))]
    pub value: String,
}

impl Metric {
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        let value = if value.is_nan() {
            "NaN".to_owned()
        } else if value.is_infinite() {
            if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
        } else {
            // Plain digits of 1e300 would be 301.
            let plain = value.to_string();
            if plain.len() <= 24 { plain } else { format!("{value:e}") }
        };
        Self { name: name.into(), value }
    }

    /// The number; NaN when the text is none.
    pub fn number(&self) -> f64 {
        match self.value.as_str() {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            text => text.parse().unwrap_or(f64::NAN),
        }
    }
}

/// Shared part of the specs of intents that make runs: flow control that never enters a digest.
pub trait Flow {
    fn pin(&self) -> Option<&str>;
    fn suspend(&self) -> bool;
    fn trigger(&self) -> &Trigger;
    /// How many finished runs are kept besides the current one.
    fn history_limit(&self) -> u32;
    /// Name of the PodProfile; none for the default one.
    fn profile(&self) -> Option<&str>;
}

pub(crate) fn default_history_limit() -> u32 {
    10
}

/// Schema of a map's values: texts of at most `max` characters. (The bounds that the derive takes reach lists only.)
pub(crate) fn text(max: u32) -> serde_json::Value {
    serde_json::json!({"type": "string", "maxLength": max})
}

/// Schema of the values of labels.
pub(crate) fn label_value() -> serde_json::Value {
    let pattern = "^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$";
    serde_json::json!({"type": "string", "maxLength": 63, "pattern": pattern})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_a_metric_and_read_back() {
        let numbers = [
            0.0,
            -0.1,
            0.7123456789012345,
            336_776.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            5e-324,
            f64::INFINITY,
        ];
        for number in numbers {
            let metric = Metric::new("m", number);
            assert!(metric.value.len() <= 32, "{}", metric.value);
            assert_eq!(metric.number(), number);
        }
        assert!(Metric::new("m", f64::NAN).number().is_nan());
    }
}
