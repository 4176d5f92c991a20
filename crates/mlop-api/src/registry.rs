//! Registry: `TrackingServer`, `Model` and its run `ModelVersion`.

use crate::{
    Quantity,
    common::{Flow, Metric, ObjectRef, Resources, Retry, Trigger, default_history_limit},
    defaults::defaults,
    run::{Execution, Lineage, RunSpec},
    status::{ConnectionStatus, IntentStatus, RunStatus},
};
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An MLflow server: one that mlop runs, or one that exists.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "TrackingServer",
    namespaced,
    status = "ConnectionStatus",
    derive = "PartialEq",
    cel,
    shortname = "tracking",
    category = "mlop",
    category = "mlop-all",
    doc = "An MLflow tracking server: one that mlop runs, or one that exists.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message")
)]
#[x_kube(validation = ("has(self.managed) != has(self.existing)", "a TrackingServer needs exactly one of: managed, existing"))]
pub struct TrackingServerSpec {
    /// Run an MLflow server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedMlflow>,
    /// Use a server that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingMlflow>,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
}

/// An MLflow server that mlop runs: one pod, SQLite on a volume, one worker, job execution off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ManagedMlflow {
    /// Image with the mlflow command.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: String,
    /// Size of the volume. It cannot be changed.
    #[serde(default = "default_volume")]
    #[schemars(length(max = 16), regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti)$"))]
    #[x_kube(validation = ("self == oldSelf", "managed.volume cannot be changed; back the data up and create another TrackingServer"))]
    pub volume: String,
    /// Whether the volume with MLflow's database is kept when this TrackingServer is deleted. One that is applied again
    /// under the same name finds it.
    #[serde(default)]
    pub reclaim: Reclaim,
    /// Computing resources.
    #[serde(default = "own_resources::value", deserialize_with = "own_resources::deserialize")]
    #[schemars(schema_with = "own_resources::schema")]
    pub resources: Resources,
}

/// What happens to a volume when the object that it was made for is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reclaim {
    /// It stays. Delete the PersistentVolumeClaim to delete the data.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

defaults!(own_resources: Resources = Resources::of(Quantity::milli(100), Quantity::gibi(1)));

fn default_volume() -> String {
    "1Gi".to_owned()
}

/// An MLflow server that exists: a Service in the cluster, or any URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.service) != has(self.url)", "existing needs exactly one of: service, url"))]
pub struct ExistingMlflow {
    /// Base URL, for example https://mlflow.example.com/team; it may have a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$")
    )]
    pub url: Option<String>,
    /// Name of a Secret in this namespace with the key token (a bearer token), or the keys username and password. It may also have ca.crt with the certificates (PEM) of the server's own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// Name of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: Option<String>,
    /// Namespace of the Service; without it this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Port of the Service.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl ExistingMlflow {
    /// Base URL of the server. A Service without a namespace is in `namespace`.
    pub fn address(&self, namespace: &str) -> String {
        match (&self.url, &self.service) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, service) => {
                let namespace = self.namespace.as_deref().unwrap_or(namespace);
                format!("http://{}.{namespace}.svc:{}", service.as_deref().unwrap_or_default(), self.port)
            }
        }
    }
}

impl TrackingServer {
    /// The Secret with the keys of the server.
    pub fn secret_name(&self) -> Option<&str> {
        self.spec.existing.as_ref()?.secret_name.as_deref()
    }
}

fn default_port() -> i32 {
    5000
}

/// A registered model that follows a training: each version is recorded, gated, and given an alias.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "Model",
    namespaced,
    status = "IntentStatus",
    derive = "PartialEq",
    cel,
    shortname = "model",
    category = "mlop",
    category = "mlop-all",
    doc = "A registered model that follows a TrainingJob: each version is recorded in MLflow, judged by gates, and given an alias.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "UpToDate", type_ = "string", json_path = ".status.conditions[?(@.type=='UpToDate')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.artifact.revision", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.artifact.digest", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// The resource whose artifact is registered.
    pub from: ObjectRef,
    /// Name of the TrackingServer.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub tracking_server: String,
    /// Name of the registered model in MLflow; without it `<namespace>.<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"))]
    pub registered_model: Option<String>,
    /// Bounds that a version's metrics must meet before it is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gates: Vec<Gate>,
    /// Alias that names the version in use in MLflow.
    #[serde(default = "default_alias")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_-]*$"))]
    #[x_kube(validation = ("self.lowerAscii() != 'latest' && !self.matches('^[vV][0-9]+$')", "MLflow reserves the aliases latest and v<number>"))]
    pub alias: String,
    /// Attempts and delays when recording fails.
    #[serde(default = "own_retry::value", deserialize_with = "own_retry::deserialize")]
    #[schemars(schema_with = "own_retry::schema")]
    pub retry: Retry,
    /// When newer inputs start new work.
    #[serde(default)]
    pub trigger: Trigger,
    /// Use this version instead of the newest one: the name of its ModelVersion, or `version 3` for its number in MLflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pin: Option<String>,
    /// Start nothing new while true; what runs goes on.
    #[serde(default)]
    pub suspend: bool,
    /// How many finished runs are kept as objects besides the current one. Their bytes stay.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub history_limit: u32,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
}

fn default_alias() -> String {
    "champion".to_owned()
}

// Recording is cheap and a tracking server restarts now and then: be more patient than with training.
defaults!(own_retry: Retry = Retry { limit: 10, ..Retry::default() });

/// A bound on one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("has(self.min) || has(self.max)", "a gate needs min, max or both"),
    validation = ("!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)", "min must not be greater than max")
)]
pub struct Gate {
    /// Name of the gate.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Name of the metric.
    #[schemars(length(min = 1, max = 100))]
    pub metric: String,
    /// Least value that passes: a number in quotes, as in min: "0.9".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"))]
    pub min: Option<String>,
    /// Greatest value that passes: a number in quotes, as in max: "1e-3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"))]
    pub max: Option<String>,
}

impl Flow for ModelSpec {
    fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }
    fn suspend(&self) -> bool {
        self.suspend
    }
    fn trigger(&self) -> &Trigger {
        &self.trigger
    }
    fn history_limit(&self) -> u32 {
        self.history_limit
    }
    fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}

/// The part of a Model that determines a version. Its JSON form enters the input digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelContent {
    /// Name of the TrackingServer that records the version.
    #[schemars(length(max = 63))]
    pub tracking_server: String,
    /// Name of the registered model in MLflow.
    #[schemars(length(max = 200))]
    pub registered_model: String,
}

impl From<&Model> for ModelContent {
    fn from(model: &Model) -> Self {
        let ModelSpec {
            tracking_server,
            registered_model,
            // Enters the input digest next to the content.
            from: _,
            // Decide which version is used, not its content.
            gates: _,
            alias: _,
            // When to start.
            trigger: _,
            pin: _,
            suspend: _,
            history_limit: _,
            // How the work is carried out.
            retry: _,
            profile: _,
        } = &model.spec;
        let default = || format!("{}.{}", model.namespace().unwrap_or_default(), model.name_any());
        Self {
            tracking_server: tracking_server.clone(),
            registered_model: registered_model.clone().unwrap_or_else(default),
        }
    }
}

/// One registered version. Made by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "ModelVersion",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    cel,
    shortname = "mver",
    category = "mlop-all",
    doc = "One version of a Model, recorded in MLflow. Made by the operator; read it, do not write it.",
    printcolumn(
        name = "Succeeded",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Succeeded')].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.output.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message"),
    printcolumn(name = "Attempts", type_ = "integer", json_path = ".status.attempts", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.output.digest", priority = 1)
)]
pub struct ModelVersionSpec {
    /// Where the artifact is registered.
    #[x_kube(validation = ("self == oldSelf", "content is immutable: edit the Model to get another run"))]
    pub content: ModelContent,
    /// The artifact that is registered, and the digest of everything that determines the version.
    #[x_kube(validation = ("self == oldSelf", "lineage is immutable: edit the Model to get another run"))]
    pub lineage: Lineage,
    /// Metrics of the artifact as its producer published them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = ("self == oldSelf", "metrics is immutable: edit the Model to get another run"))]
    pub metrics: Vec<Metric>,
    /// How the work is carried out.
    #[serde(default)]
    pub execution: Execution,
}

impl RunSpec for ModelVersionSpec {
    type Content = ModelContent;
    fn content(&self) -> &ModelContent {
        &self.content
    }
    fn lineage(&self) -> &Lineage {
        &self.lineage
    }
    fn execution(&self) -> &Execution {
        &self.execution
    }
    /// A version adds nothing to the tree that it registers: the tree stays in its input's store.
    fn store(&self) -> &str {
        self.lineage.inputs.first().map_or("", |input| &input.store)
    }
    fn digested_store(&self) -> Option<&str> {
        None
    }
}
