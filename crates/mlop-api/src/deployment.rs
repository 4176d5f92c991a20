//! Deployment: `ModelDeployment`.

use crate::{
    Quantity,
    common::{ObjectRef, Resources, Toleration, label_value},
    defaults::defaults,
    duration::Span,
    rollout::RolloutSpec,
    status::DeploymentStatus,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A prediction service that follows a model: it always serves the newest version that may be used.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    namespaced,
    status = "DeploymentStatus",
    derive = "PartialEq",
    cel,
    shortname = "mdep",
    category = "mlop",
    category = "mlop-all",
    doc = "A prediction service that follows a Model: it serves the newest version that may be used, and keeps the old one until the new one is ready.",
    scale(
        spec_replicas_path = ".spec.target.deployment.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "UpToDate", type_ = "string", json_path = ".status.conditions[?(@.type=='UpToDate')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.serving[*].digest", priority = 1)
)]
#[x_kube(
    validation = ("!has(self.rollout) || !has(self.target.deployment) || self.target.deployment.strategy != 'Recreate'", "rollout: a rollout in steps needs target.deployment.strategy RollingUpdate"),
    validation = ("!has(self.nodeSelector) || self.nodeSelector.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$'))", "nodeSelector: keys must be names of labels, for example kubernetes.io/arch")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// The resource whose artifact is served.
    pub from: ObjectRef,
    /// The server that loads the model.
    pub runtime: Runtime,
    /// What serves it.
    pub target: Target,
    /// Roll new versions out in steps, behind mlop's router, and roll them back when their answers are bad. Without it pods are replaced one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = label_value()))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
    /// Change nothing while true. The served version stays.
    #[serde(default)]
    pub suspend: bool,
}

/// The server that loads the model: MLServer, which speaks the Open Inference Protocol (V2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Image with mlserver and the runtime that `implementation` names.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: String,
    /// MLServer's class that loads the model.
    #[serde(default = "default_implementation")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.]*$"))]
    pub implementation: String,
    /// Directory of the artifact that holds the model, relative to its root; `.` is the root.
    #[serde(default = "default_path")]
    #[schemars(
        length(max = 256),
        regex(pattern = r"^(\.|[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)$")
    )]
    pub path: String,
    /// Name of the model in requests; without it the name of this resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub model_name: Option<String>,
    /// Computing resources of each pod.
    #[serde(default = "own_resources::value", deserialize_with = "own_resources::deserialize")]
    #[schemars(schema_with = "own_resources::schema")]
    pub resources: Resources,
    /// Names of Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pull_secrets: Vec<String>,
}

fn default_implementation() -> String {
    "mlserver_mlflow.MLflowRuntime".to_owned()
}
defaults!(own_resources: Resources = Resources::of(Quantity::milli(250), Quantity::gibi(1)));

fn default_path() -> String {
    "model".to_owned()
}

/// What serves the model. Exactly one is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.deployment)", "target needs exactly one of: deployment"))]
pub struct Target {
    /// A Kubernetes Deployment and a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentTarget>,
}

/// A Kubernetes Deployment and a Service of the name `<name>-mdep`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentTarget {
    /// Number of pods. Without it the Deployment begins with one pod, and mlop leaves its size to others, such as a HorizontalPodAutoscaler on the Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i32>,
    /// How pods are replaced.
    pub strategy: Strategy,
    /// Longest time until a new version is ready; then it counts as failed and the old one keeps serving.
    pub progress_deadline: Span,
}

impl Default for DeploymentTarget {
    fn default() -> Self {
        Self { replicas: None, strategy: Strategy::RollingUpdate, progress_deadline: Span::minutes(10) }
    }
}

/// How the pods of a version are replaced by those of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// A new pod is ready before an old one ends: no request fails, and the cluster needs room for one more pod.
    #[default]
    RollingUpdate,
    /// All old pods end before new ones start: for clusters without room for one more pod. Nothing serves meanwhile.
    Recreate,
}
