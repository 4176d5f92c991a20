//! `TrainingQueue`: quota that trainings of several namespaces share, and the handshake by which it admits them.
//!
//! A run asks ([`QueueRequest`]) in its own part of its status, and the queue answers ([`Admission`]) in a field that only
//! the queue operator writes. An answer repeats the request, so that one to an earlier request admits nothing.

use crate::{Quantity, Time, common::label_value, headline::Headline};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most runs that a queue admits at the same time. Its status names each of them.
pub const RESERVATIONS_MAX: usize = 1_000;
/// Most waiting runs that the status of a queue names.
pub const WAITING_MAX: usize = 50;

/// Quota that the trainings of several namespaces share.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "TrainingQueue",
    status = "QueueStatus",
    derive = "PartialEq",
    cel,
    shortname = "tqueue",
    doc = "Quota that the trainings of several namespaces share. A TrainingJob that names the queue in spec.queue starts no pod before the queue admits its run.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message"),
    printcolumn(name = "Admitted", type_ = "integer", json_path = ".status.admitted", priority = 1),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.pending", priority = 1)
)]
pub struct TrainingQueueSpec {
    /// The resources that are shared. What a run asks for of others is not limited.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub resources: Vec<QueueResource>,
    /// Namespaces whose trainings may use the queue, by their labels. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelector>,
}

/// A shared resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueResource {
    /// Its name in the requests of a pod, for example `cpu`, `memory` or `nvidia.com/gpu`.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub name: String,
    /// How much of it the admitted runs may request together, for example `8` or `64Gi`. A lower value ends no run.
    #[schemars(extend("maxLength" = 16, "minimum" = 0, "pattern" = r"^([1-9][0-9]*m|[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?)$"))]
    pub quota: Quantity,
}

/// Selects namespaces by their labels. All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceSelector {
    /// Labels that a namespace must have with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = label_value()))]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements on labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)", "values are for the operators In and NotIn, which need at least one"))]
pub struct LabelRequirement {
    /// Name of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label must be.
    pub operator: LabelOperator,
    /// Values of the label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl NamespaceSelector {
    /// Whether it selects a namespace with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.match_labels.iter().all(has) && self.match_expressions.iter().all(|one| one.holds(labels))
    }
}

impl LabelRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// The queue of a run, as its TrainingJob names it. Mirrored until the run has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunQueue {
    /// Name of the TrainingQueue.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Runs of a higher priority are admitted first.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Whether the TrainingJob is suspended. A run without an attempt then leaves the queue.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub suspended: bool,
}

/// An amount of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceAmount {
    /// Name of the resource.
    #[schemars(length(max = 317))]
    pub name: String,
    /// How much of it.
    #[schemars(extend("maxLength" = 64, "minimum" = 0))]
    pub quantity: Quantity,
}

/// What a run asks its queue for. It is there from the run's entry into the queue until the run has ended and none of its
/// pods runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueRequest {
    /// Name of the TrainingQueue.
    #[schemars(length(max = 40))]
    pub queue: String,
    /// When the run entered the queue (RFC 3339).
    pub since: Time,
    /// Requests of all pods of an attempt.
    #[schemars(length(max = 64))]
    pub resources: Vec<ResourceAmount>,
}

/// The answer of a queue to a [`QueueRequest`], which it repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admission {
    /// Name of the TrainingQueue.
    #[schemars(length(max = 40))]
    pub queue: String,
    /// The time in the request.
    pub since: Time,
    /// The resources in the request.
    #[schemars(length(max = 64))]
    pub resources: Vec<ResourceAmount>,
    /// When the run was admitted (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Why the queue can never admit the run, and what to do. Absent if it is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub refused: Option<String>,
}

impl Admission {
    /// Whether it answers `request`, and not an earlier one.
    pub fn answers(&self, request: &QueueRequest) -> bool {
        let Self { queue, since, resources, at: _, refused: _ } = self;
        (queue, since, resources) == (&request.queue, &request.since, &request.resources)
    }
}

/// An admitted run. What it asks for counts until it asks for nothing more, or is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    /// Namespace of the run.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the TrainingRun.
    #[schemars(length(max = 63))]
    pub run: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Its resourceVersion when it was admitted. An older state of the run says nothing about the reservation.
    #[schemars(length(max = 20))]
    pub version: String,
    /// The time in the run's request.
    pub since: Time,
    /// When the run was admitted (RFC 3339).
    pub at: Time,
    /// The resources in the run's request.
    #[schemars(length(max = 64))]
    pub resources: Vec<ResourceAmount>,
}

impl Reservation {
    /// The request that it is for.
    pub fn request(&self, queue: &str) -> QueueRequest {
        QueueRequest { queue: queue.to_owned(), since: self.since, resources: self.resources.clone() }
    }

    /// The answer that tells the run.
    pub fn admission(&self, queue: &str) -> Admission {
        let QueueRequest { queue, since, resources } = self.request(queue);
        Admission { queue, since, resources, at: Some(self.at), refused: None }
    }
}

/// A run that waits for its admission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingRun {
    /// Namespace of the run.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the TrainingRun.
    #[schemars(length(max = 63))]
    pub run: String,
}

/// The run that has waited as the first one, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueHead {
    /// The run.
    #[serde(flatten)]
    pub waiting: WaitingRun,
    /// Since when there was no room for it (RFC 3339). Ten minutes later no run behind the first one is admitted before it.
    pub since: Time,
}

/// Usage of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueUsage {
    /// Name of the resource.
    #[schemars(length(max = 128))]
    pub name: String,
    /// What the admitted runs ask for together.
    #[schemars(extend("maxLength" = 64, "minimum" = 0))]
    pub used: Quantity,
    /// The quota.
    #[schemars(extend("maxLength" = 64, "minimum" = 0))]
    pub quota: Quantity,
}

/// Status of a TrainingQueue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The shared resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub usage: Vec<QueueUsage>,
    /// Number of admitted runs that have not ended.
    #[serde(default)]
    pub admitted: u32,
    /// Number of runs that wait for their admission.
    #[serde(default)]
    pub pending: u32,
    /// The admitted runs. A run enters this list before it is told, so that no other run gets its share of the quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub reservations: Vec<Reservation>,
    /// The first of the waiting runs, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub waiting: Vec<WaitingRun>,
    /// The run that there is no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<QueueHead>,
    /// Admitted and waiting runs, and the usage.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn namespaces_are_selected_by_their_labels() {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let rows: [(Value, bool); 9] = [
            (json!({}), true),
            (json!({"matchLabels": {"team": "a"}}), true),
            (json!({"matchLabels": {"team": "b"}}), false),
            (json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}), true),
            (json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}), false),
            (json!({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["a"]}]}), true),
            (json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}), true),
            (json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}), false),
            (
                json!({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "gpu", "operator": "Exists"}]}),
                false,
            ),
        ];
        for (selector, want) in rows {
            let read: NamespaceSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(read.selects(&labels), want, "{selector}");
        }
    }

    #[test]
    fn admission_answers_the_request_that_it_repeats() {
        let amount =
            |quantity: u32| vec![ResourceAmount { name: "cpu".into(), quantity: Quantity::units(quantity) }];
        let time = |text: &str| serde_json::from_value::<Time>(json!(text)).unwrap();
        let request = QueueRequest {
            queue: "gpu".into(),
            since: time("2026-11-21T10:00:00.000001Z"),
            resources: amount(2),
        };
        let answer = |queue: &str, since, resources| Admission {
            queue: queue.into(),
            since,
            resources,
            at: None,
            refused: None,
        };
        let later = time("2026-11-21T10:00:00.000002Z");
        assert!(answer("gpu", request.since, amount(2)).answers(&request));
        assert!(!answer("cpu", request.since, amount(2)).answers(&request), "another queue");
        assert!(!answer("gpu", later, amount(2)).answers(&request), "another entry");
        assert!(!answer("gpu", request.since, amount(1)).answers(&request), "another size");
    }
}
