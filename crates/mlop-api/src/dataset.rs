//! Ingestion: `ObjectStore`, `Dataset` and its run `DatasetVersion`.

mod column;
mod format;
mod rules;

pub use column::{Column, ColumnType};
pub use format::{Csv, Format, Header, Ndjson, Parquet};
pub use rules::{Freshness, Rules};

use crate::{
    Digest,
    common::{Flow, Resources, Retry, Trigger, default_history_limit},
    duration::Span,
    is_default,
    run::{Execution, Lineage, RunSpec},
    status::{ConnectionStatus, IntentStatus, RunStatus},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where files lie: an S3-compatible bucket and the keys to it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "ObjectStore",
    namespaced,
    status = "ConnectionStatus",
    derive = "PartialEq",
    cel,
    shortname = "ostore",
    category = "mlop",
    category = "mlop-all",
    doc = "An S3-compatible bucket and the keys to it. Datasets, features and models are read from and written to ObjectStores.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".spec.bucket"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message")
)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreSpec {
    /// Base URL of the S3 API, for example http://minio.storage.svc:9000; it may have a path.
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$")
    )]
    pub endpoint: String,
    /// Name of the bucket. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Put before every key; must end with a slash if it is not empty.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = r"^([A-Za-z0-9!_.*'()-]+/)*$"))]
    pub prefix: String,
    /// Region that requests are signed for.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: String,
    /// Name of a Secret in this namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without it requests are not signed. It may also have AWS_SESSION_TOKEN, and ca.crt with the certificates (PEM) of the endpoint's own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// Put the bucket into the host's name (https://bucket.host/key) instead of the path (https://host/bucket/key).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_hosted: bool,
    /// Nothing is written to it, also not to check it. For sources whose keys may only list and read. A resource whose output would be here is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// A table that is kept up to date from files, each version validated and immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "Dataset",
    namespaced,
    status = "IntentStatus",
    derive = "PartialEq",
    cel,
    shortname = "dset",
    category = "mlop",
    category = "mlop-all",
    doc = "A table that is kept up to date from files. Each version is validated, immutable and has a digest.",
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
#[x_kube(
    validation = ("!has(self.unique) || self.unique.all(u, self.columns.exists(c, c.name == u))", "unique must name columns"),
    validation = ("!has(self.rules) || !has(self.rules.freshness) || self.columns.exists(c, c.name == self.rules.freshness.column && c.type in ['timestamp', 'date'])", "rules.freshness.column must name a column of type timestamp or date")
)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSpec {
    /// Where the rows come from.
    pub source: Source,
    /// The columns of the table, in order. Columns of the source that are not named here are left out.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub columns: Vec<Column>,
    /// Columns whose values together must not repeat; a row that repeats them is rejected. As in SQL, rows with a missing value in one of them repeat nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub unique: Vec<String>,
    /// How many rows may be rejected before a version fails.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// Rules for the rows of a version as a whole.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: Rules,
    /// Name of the ObjectStore that holds the versions.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: String,
    /// How often the source is looked at.
    #[serde(default)]
    pub refresh: Refresh,
    /// When newer data starts a new version.
    #[serde(default)]
    pub trigger: Trigger,
    /// Computing resources of the pods that write a version.
    #[serde(default)]
    pub resources: Resources,
    /// Attempts and delays when writing a version fails.
    #[serde(default)]
    pub retry: Retry,
    /// Longest time of one attempt.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// Use the DatasetVersion of this name (`kubectl get dver`) instead of the newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pin: Option<String>,
    /// Start nothing new while true; what runs goes on.
    #[serde(default)]
    pub suspend: bool,
    /// How many finished versions are kept as objects besides the current one. Their bytes stay.
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

/// Where rows come from and how they are written there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.objects)", "source needs exactly one of: objects"))]
pub struct Source {
    /// Objects in a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Objects>,
    /// How the objects are written.
    pub format: Format,
}

/// Objects in a bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Objects {
    /// Name of the ObjectStore.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: String,
    /// Keys start with this.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// Patterns with `*`, `?` and `**` of which the rest of the key must match one; without any all objects are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<String>,
}

/// How many rows may be rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Quarantine {
    /// Largest share of rejected rows: a decimal number from 0 to 1 in quotes, as in maxRatio: "0.01".
    #[schemars(length(max = 16), regex(pattern = r"^(0(\.[0-9]+)?|1(\.0+)?)$"))]
    pub max_ratio: String,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { max_ratio: "0".to_owned() }
    }
}

/// How often the source is scanned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("!self.interval.endsWith('s') || int(self.interval.substring(0, self.interval.size() - 1)) >= 60", "interval must be at least one minute"))]
pub struct Refresh {
    /// Time between two scans, at least a minute. The annotation mlop.dev/refresh-requested-at scans at once.
    #[serde(default = "default_interval")]
    pub interval: Span,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { interval: default_interval() }
    }
}

fn default_interval() -> Span {
    Span::hours(1)
}

/// The part of a Dataset's spec that determines the rows of a version. Fields at their default are left out of its
/// JSON form, which enters the input digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetContent {
    /// How the objects are written.
    pub format: Format,
    /// The columns of the table, in order.
    #[schemars(length(min = 1, max = 256))]
    pub columns: Vec<Column>,
    /// Columns whose values together must not repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    pub unique: Vec<String>,
    /// How many rows may be rejected before the version fails.
    pub quarantine: Quarantine,
    /// Rules for the version as a whole.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: Rules,
}

impl From<&DatasetSpec> for DatasetContent {
    fn from(spec: &DatasetSpec) -> Self {
        let DatasetSpec {
            source: Source { objects: _, format },
            columns,
            unique,
            quarantine,
            rules,
            // Enters the input digest beside the content.
            store: _,
            // When to look and when to start.
            refresh: _,
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
        Self {
            format: format.clone(),
            columns: columns.clone(),
            unique: unique.clone(),
            quarantine: quarantine.clone(),
            rules: rules.clone(),
        }
    }
}

/// One immutable version of a Dataset. Made by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "DatasetVersion",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    cel,
    shortname = "dver",
    category = "mlop-all",
    doc = "One immutable version of a Dataset. Made by the operator; read it, do not write it.",
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
#[serde(rename_all = "camelCase")]
pub struct DatasetVersionSpec {
    /// The part of the Dataset's spec that determines the rows.
    #[x_kube(validation = ("self == oldSelf", "content is immutable: edit the Dataset to get another version"))]
    pub content: DatasetContent,
    /// The digest of everything that determines the version.
    #[x_kube(validation = ("self == oldSelf", "lineage is immutable: edit the Dataset to get another version"))]
    pub lineage: Lineage,
    /// The objects in a bucket that are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "objects is immutable: edit the Dataset to get another version"))]
    pub objects: Option<Objects>,
    /// Digest of the listing: keys, sizes and entity tags of the objects.
    #[x_kube(validation = ("self == oldSelf", "listing is immutable: edit the Dataset to get another version"))]
    pub listing: Digest,
    /// Name of the ObjectStore that holds the version.
    #[schemars(length(max = 63))]
    #[x_kube(validation = ("self == oldSelf", "store is immutable: edit the Dataset to get another version"))]
    pub store: String,
    /// Rows of the version that was in use when this one was created; rules.maxRowChange compares them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    #[x_kube(validation = ("self == oldSelf", "previousRows is immutable: edit the Dataset to get another version"))]
    pub previous_rows: Option<i64>,
    /// How the work is carried out.
    #[serde(default)]
    pub execution: Execution,
}

impl RunSpec for DatasetVersionSpec {
    type Content = DatasetContent;
    fn content(&self) -> &DatasetContent {
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
    fn source_store(&self) -> Option<&str> {
        self.objects.as_ref().map(|objects| objects.store.as_str())
    }
    fn digested_store(&self) -> Option<&str> {
        Some(&self.store)
    }
    fn drop_work(&mut self) {
        self.content.columns = Vec::new();
    }
    fn digests(&self) -> Vec<(String, Digest)> {
        vec![(LISTING.to_owned(), self.listing.clone())]
    }
}

/// Name under which the listing enters the input digest of a version.
pub const LISTING: &str = "listing";

/// Metric of a version with `rules.freshness`: the time of its newest row, in seconds since 1970.
pub const NEWEST: &str = "newest";

impl Flow for DatasetSpec {
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
