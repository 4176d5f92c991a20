//! Features: `FeatureStore`, `FeatureView` and its run `FeatureSnapshot`.

use crate::{
    Quantity,
    common::{Consistency, Flow, NamedInput, Resources, Retry, Trigger, default_history_limit},
    defaults::defaults,
    duration::Span,
    run::{Execution, Lineage, RunSpec},
    status::{ConnectionStatus, IntentStatus, RunStatus},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where features are served from online, and where their files lie.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "FeatureStore",
    namespaced,
    status = "ConnectionStatus",
    derive = "PartialEq",
    cel,
    shortname = "fstore",
    category = "mlop",
    category = "mlop-all",
    doc = "Where features are served from: Redis and the online API, and the ObjectStore for their files.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message")
)]
pub struct FeatureStoreSpec {
    /// Name of the ObjectStore that holds the snapshots.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: String,
    /// The Redis that holds the online values.
    pub redis: RedisConnection,
    /// The online API (POST /get-online-features).
    #[serde(default)]
    pub api: OnlineApi,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
}

/// A Redis: one that mlop runs, or one that exists. Exactly one is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.managed) != has(self.existing)", "redis needs exactly one of: managed, existing"))]
pub struct RedisConnection {
    /// Run a Redis for this store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedRedis>,
    /// Use a Redis that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingRedis>,
}

/// A Redis that mlop runs: one pod with a volume, reachable only by mlop's own pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedRedis {
    /// Image with redis-server.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: String,
    /// Name of a Secret in this namespace with the key `password`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,
    /// Size of the volume. It cannot be changed.
    #[serde(default = "default_volume")]
    #[schemars(length(max = 16), regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti)$"))]
    #[x_kube(validation = ("self == oldSelf", "managed.volume cannot be changed; create another FeatureStore, which is filled from the object store"))]
    pub volume: String,
    /// Computing resources.
    #[serde(default)]
    pub resources: Resources,
}

fn default_volume() -> String {
    "1Gi".to_owned()
}

/// A Redis that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExistingRedis {
    /// Host and port, for example redis.cache.svc:6379.
    #[schemars(length(max = 260), regex(pattern = r"^[A-Za-z0-9.-]+:[0-9]{1,5}$"))]
    pub address: String,
    /// Name of a Secret in this namespace with the key `password`; without it no password is sent. It may also have ca.crt with the certificates (PEM) of the server's own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// User (of Redis' ACL) that the password belongs to; without it the default user. It needs all commands on the keys mlop:*, and INFO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[^\s]+$"))]
    pub user: Option<String>,
    /// Speak TLS. The server's certificate must be for the host of the address, and signed by a public authority or by that in the Secret's ca.crt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// It is a Redis Cluster: `address` is one of its nodes, or a name of all of them; the others are found by it. Each view is on one node as a whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster: bool,
}

/// The online API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OnlineApi {
    /// Number of pods. Without it the Deployment begins with one pod, and mlop leaves its size to others, such as a HorizontalPodAutoscaler on the Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<i32>,
    /// Computing resources of each pod.
    #[serde(deserialize_with = "api_resources::deserialize")]
    #[schemars(schema_with = "api_resources::schema")]
    pub resources: Resources,
}

defaults!(own_resources: Resources = Resources::of(Quantity::milli(500), Quantity::gibi(1)));
defaults!(api_resources: Resources = Resources::small(256));

impl Default for OnlineApi {
    fn default() -> Self {
        Self { replicas: None, resources: api_resources::value() }
    }
}

/// Features computed by SQL from other resources' tables.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "FeatureView",
    namespaced,
    status = "IntentStatus",
    derive = "PartialEq",
    cel,
    shortname = "fview",
    category = "mlop",
    category = "mlop-all",
    doc = "Features computed by SQL from Datasets (or other tables), kept as files for training and online for serving.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    validation = ("has(self.spec.featureStore) != has(self.spec.store)", "spec needs exactly one of: featureStore, store"),
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
pub struct FeatureViewSpec {
    /// The tables that the SQL reads, by the names it uses.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inputs: Vec<NamedInput>,
    /// Whether inputs from the same root must come from the same version of it.
    #[serde(default)]
    pub consistency: Consistency,
    /// One SELECT (DataFusion's SQL). It must yield the entity columns and the timestamp; volatile functions are refused.
    #[schemars(length(min = 1, max = 16384))]
    pub sql: String,
    /// Columns that together name the entity of a row; the key of the online store.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub entities: Vec<String>,
    /// Column with the time since which a row is true. Online, the newest row of each entity counts that is not dated later than the snapshot's creation.
    #[schemars(length(min = 1, max = 128))]
    pub timestamp: String,
    /// Age after which an online value counts as OUTSIDE_MAX_AGE; without it never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Name of the FeatureStore that holds the snapshots and serves them online. After a change the earlier one serves the rows it has until they are online in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub feature_store: Option<String>,
    /// Name of the ObjectStore that holds the snapshots of a view that only trainings read: nothing is online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: Option<String>,
    /// Computing resources of the pods that compute and load.
    #[serde(default = "own_resources::value", deserialize_with = "own_resources::deserialize")]
    #[schemars(schema_with = "own_resources::schema")]
    pub resources: Resources,
    /// Attempts and delays when computing fails.
    #[serde(default)]
    pub retry: Retry,
    /// Longest time of one attempt.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// When newer inputs start new work.
    #[serde(default)]
    pub trigger: Trigger,
    /// Use the FeatureSnapshot of this name (`kubectl get fsnap`) instead of the newest one.
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

fn default_deadline() -> Span {
    Span::hours(6)
}

impl Flow for FeatureViewSpec {
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

/// The part of a FeatureView's spec that determines the rows of a snapshot. Its JSON form enters the input digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureContent {
    /// One SELECT over the inputs.
    #[schemars(length(min = 1, max = 16384))]
    pub sql: String,
    /// Columns that together name an entity.
    #[schemars(length(min = 1, max = 8), inner(length(max = 128)))]
    pub entities: Vec<String>,
    /// Column with the time since which a row is true.
    #[schemars(length(min = 1, max = 128))]
    pub timestamp: String,
}

impl From<&FeatureViewSpec> for FeatureContent {
    fn from(spec: &FeatureViewSpec) -> Self {
        let FeatureViewSpec {
            sql,
            entities,
            timestamp,
            // Enter the input digest beside the content: names and digests of the inputs, the name of the ObjectStore.
            inputs: _,
            feature_store: _,
            store: _,
            // How a snapshot is served.
            ttl: _,
            // When to start.
            consistency: _,
            trigger: _,
            pin: _,
            suspend: _,
            history_limit: _,
            // How the work is carried out.
            resources: _,
            retry: _,
            deadline: _,
            profile: _,
        } = spec;
        Self { sql: sql.clone(), entities: entities.clone(), timestamp: timestamp.clone() }
    }
}

/// One immutable snapshot of a FeatureView. Made by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "FeatureSnapshot",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    cel,
    shortname = "fsnap",
    category = "mlop-all",
    doc = "One immutable snapshot of a FeatureView. Made by the operator; read it, do not write it.",
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
pub struct FeatureSnapshotSpec {
    /// The part of the FeatureView's spec that determines the rows.
    #[x_kube(validation = ("self == oldSelf", "content is immutable: edit the FeatureView to get another run"))]
    pub content: FeatureContent,
    /// The inputs, and the digest of everything that determines the snapshot.
    #[x_kube(validation = ("self == oldSelf", "lineage is immutable: edit the FeatureView to get another run"))]
    pub lineage: Lineage,
    /// Name of the ObjectStore that holds the snapshot.
    #[schemars(length(max = 63))]
    #[x_kube(validation = ("self == oldSelf", "store is immutable: edit the FeatureStore to get another run"))]
    pub store: String,
    /// How the work is carried out.
    #[serde(default)]
    pub execution: Execution,
}

impl RunSpec for FeatureSnapshotSpec {
    type Content = FeatureContent;
    fn content(&self) -> &FeatureContent {
        &self.content
    }
    fn lineage(&self) -> &Lineage {
        &self.lineage
    }
    fn execution(&self) -> &Execution {
        &self.execution
    }
    fn store(&self) -> &str {
        &self.store
    }
    fn digested_store(&self) -> Option<&str> {
        Some(&self.store)
    }
    fn drop_work(&mut self) {
        self.content.sql = String::new();
    }
}
