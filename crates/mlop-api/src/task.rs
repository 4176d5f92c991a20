//! The document in which an operator tells one pod what to do.
//!
//! It travels as the pod's annotation [`labels::TASK`](crate::labels::TASK) and is mounted as
//! `task.json` in [`labels::TASK_DIR`](crate::labels::TASK_DIR), so that no value passes through a shell, an argument
//! list or Kubernetes' `$(NAME)` expansion. It holds no secrets: keys are mounted as files.

use crate::{
    Digest,
    common::Metric,
    contract::Ancestor,
    dataset::DatasetContent,
    distributed::{FrameworkName, Size},
    features::FeatureContent,
    preflight::Needs,
    result::Activated,
    training::TrainingContent,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub subject: Subject,
    pub work: Work,
}

/// The object for which the work is done. The uid names `results/<uid>.json`, where a finished result is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// `mlop-dataset`: is the store there, may we read it, and write unless it is only read?
    Probe {
        store: Store,
        #[serde(default, rename = "readOnly", skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// `mlop-dataset`: list the source and keep the listing under `listings/<digest>.json` of `output`.
    Scan(ScanWork),
    /// `mlop-dataset`: read exactly the listed objects, validate, write a table.
    Version(Box<VersionWork>),
    /// `mlop-features`: run the SQL over the inputs, write a table, and activate it if asked to.
    Snapshot(SnapshotWork),
    /// `mlop-features`: load a table into Redis and move the view's pointer to it.
    Activate(ActivateWork),
    /// `mlop-features`: does the online store of a FeatureStore answer, and which mark has it? A store without a mark, or
    /// with the data of an earlier time, gets a fresh one. The result's digest is that of the mark, and its metric
    /// [`PROBES`] counts the probes of these data.
    ProbeOnline {
        namespace: String,
        name: String,
        redis: Redis,
        /// Number of probes that the data had seen at the last one.
        #[serde(default)]
        seen: u64,
    },
    /// `mlop-features`: remove a view from Redis.
    Deactivate {
        view: ViewKey,
        redis: Redis,
        /// How it has left this FeatureStore; none: the view is deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<Departure>,
    },
    /// `mlop-launcher`: fetch inputs, run the user's command, upload its output.
    Train(TrainWork),
    /// `mlop-registrar`: does the tracking server answer, and accept us?
    #[serde(rename_all = "camelCase")]
    ProbeTracking {
        /// Base URL of the tracking server.
        tracking: String,
        /// Whether the tracking server's Secret is mounted in `TRACKING_DIR`.
        credentials: bool,
    },
    /// `mlop-registrar`: record a version in the tracking server, and move an alias to it if asked to.
    Register(RegisterWork),
    /// `mlop-registrar`: move an alias, or check it. Registers the version again if MLflow has lost it.
    Alias(AliasWork),
    /// `mlop-launcher`: put a tree, or only the part of it at `path`, into a directory for a server to load.
    Serve {
        model: Input,
        directory: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// `mlop-launcher`: count the requests that the routers of a ModelDeployment answer in an interval.
    Analyze(AnalyzeWork),
}

/// The versions whose requests are counted. The result's metrics are named by [`MEASURED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalyzeWork {
    /// `host:port` of the metrics of all routers: the host has one address for each.
    pub routers: String,
    /// Digest of the new model.
    pub model: Digest,
    /// Identity of the pods of the new version.
    pub canary: String,
    /// Identity of the pods of the stable version.
    pub stable: String,
    /// Length of the interval.
    pub seconds: u64,
}

/// Metrics of a measurement: requests, failed ones, the 99th percentile of the seconds to an answer, the requests to the
/// stable version, and those that each version refused with a status from 400 to 499. The percentile is NaN without
/// requests, and no metric is there if no router could be asked.
pub const MEASURED: [&str; 6] = ["requests", "errors", "p99", "stableRequests", "refused", "stableRefused"];

/// Metric of a probe of an online store: how many probes its data have seen.
pub const PROBES: &str = "probes";

/// An ObjectStore as a pod reaches it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Name of the ObjectStore; its keys are files in `<STORES_DIR>/<name>/` if it names a Secret.
    pub name: String,
    /// Base URL, for example `http://minio.storage.svc:9000`.
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    /// Put before every key; empty, or ends with `/`.
    pub prefix: String,
    /// Whether keys are mounted.
    pub credentials: bool,
    /// Whether the bucket is part of the host's name instead of the path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_hosted: bool,
}

impl Store {
    /// The uri of `key` in this store.
    pub fn uri(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.bucket, self.prefix)
    }
}

/// An artifact to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The input's name in the spec.
    pub name: String,
    pub digest: Digest,
    pub media_type: String,
    pub store: Store,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanWork {
    pub source: Store,
    /// Keys start with this, after the store's own prefix.
    pub prefix: String,
    /// Patterns (`*`, `?`, `**`) of which a key's rest after `prefix` must match one; none matches all.
    pub include: Vec<String>,
    pub output: Store,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionWork {
    pub source: Store,
    /// Digest of the listing; the listing lies in `output`.
    pub listing: Digest,
    pub content: DatasetContent,
    /// Rows of the version that was in use when this one was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rows: Option<u64>,
    pub output: Store,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotWork {
    pub inputs: Vec<Input>,
    pub content: FeatureContent,
    pub output: Store,
    /// Memory the query may use in bytes before it spills to `/tmp`.
    pub memory_bytes: u64,
    /// The data time: rows dated later are counted, since they are not served online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// How the table is activated when it is written; none: not by this pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<Online>,
    /// The table that is active already: writing it again asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Digest>,
}

/// Names a view in the online store, across namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewKey {
    pub namespace: String,
    pub name: String,
}

/// The move of a view to another FeatureStore, as the former one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Loads under lower revisions are refused from now on: they come too late.
    pub revision: i64,
    /// The FeatureStore that the view is in now; none: in no one. If it has the same Redis, the rows stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// The online store as a pod reaches it. The password, if any, is the file `password` in `REDIS_DIR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redis {
    /// `host:port`.
    pub address: String,
    pub password: bool,
    /// The user; none: the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether TLS is spoken. The file `ca.crt` in `REDIS_DIR`, if there is one, has the certificates of its authority.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Whether it is a Redis Cluster, and `address` one of its nodes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivateWork {
    pub table: Input,
    pub online: Online,
}

/// How a view is served online.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Online {
    pub view: ViewKey,
    pub entities: Vec<String>,
    pub timestamp: String,
    /// Seconds after which a value counts as too old; none: never.
    pub ttl_seconds: Option<u64>,
    /// The data time: rows dated later are left out; none: no row is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    pub redis: Redis,
    /// The pointer moves to this revision only if it is higher than the one it has.
    pub activation: Activated,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainWork {
    pub inputs: Vec<Input>,
    pub output: Store,
    pub content: TrainingContent,
    /// Digest of everything that determines the output.
    pub input_digest: Digest,
    /// The resources that the output descends from.
    pub ancestors: Vec<Ancestor>,
    /// Seconds after which the user's command is ended; none: never.
    pub deadline_seconds: Option<u64>,
    /// Seconds between SIGTERM and SIGKILL of the pod; none: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u64>,
    /// The size of a distributed training; none: this pod is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// What the pod must find where it runs.
    #[serde(default)]
    pub needs: Needs,
}

/// What determined a tree, written into its manifest by the agent, never by user code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provenance {
    pub input_digest: Option<Digest>,
    pub image: String,
    pub command: Vec<String>,
    /// Digest of each code file.
    pub code: BTreeMap<String, Digest>,
    pub hyperparameters: BTreeMap<String, String>,
    /// A text beyond 2^53, since the manifest's numbers are doubles.
    #[serde(with = "crate::exact")]
    pub seed: i64,
    /// Digest of each input by its name in the spec.
    pub inputs: BTreeMap<String, Digest>,
    pub ancestors: Vec<Ancestor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework: Option<FrameworkName>,
    /// The size that the work had when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

impl From<&TrainWork> for Provenance {
    fn from(work: &TrainWork) -> Self {
        let TrainingContent { image, command, code, hyperparameters, seed, framework } = &work.content;
        let digest = |(name, text): (&String, &String)| (name.clone(), Digest::of_bytes(text.as_bytes()));
        Self {
            input_digest: Some(work.input_digest.clone()),
            image: image.clone(),
            command: command.clone(),
            code: code.iter().map(digest).collect(),
            hyperparameters: hyperparameters.clone(),
            seed: *seed,
            inputs: work.inputs.iter().map(|input| (input.name.clone(), input.digest.clone())).collect(),
            ancestors: work.ancestors.clone(),
            framework: *framework,
            size: work.size.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterWork {
    /// Name of the TrackingServer.
    pub registry: String,
    /// Base URL of the tracking server.
    pub tracking: String,
    /// Whether the tracking server's Secret is mounted in `TRACKING_DIR`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub credentials: bool,
    pub model: Input,
    /// Where the tree lies: `source` of the registered version.
    pub source_uri: String,
    /// Name of the registered model.
    pub registered_model: String,
    /// Name of the experiment.
    pub experiment: String,
    pub metrics: Vec<Metric>,
    /// Metrics that gates ask for: the result names them first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<String>,
    /// Marks run and version, so that they are found again after a crash.
    pub input_digest: Digest,
    /// The alias that the version gets; none: not by this pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AliasWork {
    /// Base URL of the tracking server.
    pub tracking: String,
    /// Whether the tracking server's Secret is mounted in `TRACKING_DIR`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub credentials: bool,
    /// Name of the registered model.
    pub registered_model: String,
    /// Number of the version as its ModelVersion reports it.
    pub version: String,
    /// Name of the ModelVersion.
    pub run: String,
    pub alias: Alias,
    /// Only look whether the alias is as it was set, and put it back. An alias that another Model has claimed stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
    /// How the version is registered again if MLflow has lost it; none: it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Box<RegisterWork>>,
}

/// An alias of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alias {
    pub name: String,
    /// Namespace of the Model: Models of other namespaces leave its alias alone.
    pub namespace: String,
    /// UID of the Model: the revisions of a Model that was deleted and created again count from one.
    pub owner: String,
    /// The alias moves to this revision only if it is higher than the one by which the same owner set it last.
    pub activation: Activated,
}
