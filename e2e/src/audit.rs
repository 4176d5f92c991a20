//! The API server's audit log: each request with its user and its time in microseconds.

use crate::cluster::Cluster;
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::Api;
use mlop_api::{contract::Upstream, dataset::Dataset};
use serde::Deserialize;
use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
    process,
    time::Duration,
};
use tokio::time::{interval, timeout};

/// The prefix of the operators' user names.
const OPERATORS: &str = "system:serviceaccount:mlop-system:";
/// The interval between two reads of the log while an entry is awaited.
const POLL: Duration = Duration::from_millis(20);
/// The longest time from a response to its entry in the log.
const LAG: Duration = Duration::from_secs(10);

/// The part of the log after an offset.
#[derive(Clone)]
pub struct AuditLog {
    path: PathBuf,
    /// In bytes.
    start: u64,
}

/// One request, as the API server logged it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub received: Timestamp,
    /// The time of the response; for a watch, its start or end.
    pub at: Timestamp,
    pub user: String,
    pub verb: String,
    pub namespace: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name, with the subresource after a slash.
    pub resource: String,
    pub name: String,
    /// HTTP status code.
    pub code: u16,
    /// Whether RBAC refused the request. Admission refuses with the same status code.
    pub unauthorized: bool,
    /// The Pod Security level that the namespace enforces, for example `restricted:latest`; only of requests about pods.
    pub pod_security: String,
    pub message: String,
    /// The object's resource version after a write, if the log has the response.
    pub resource_version: Option<u64>,
    /// Whether the object in the response is being deleted without finalizers. The write that removed the last one has no
    /// new resource version.
    pub gone: bool,
    /// The object's status after a write, if the log has the response.
    pub status: Option<Upstream>,
}

impl AuditLog {
    /// The log at `MLOP_AUDIT_LOG` from its current end; `None` if the cluster has no audit log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn from_now() -> Result<Option<Self>> {
        Self::whole()?.map(|log| log.from_its_end()).transpose()
    }

    /// The log at `MLOP_AUDIT_LOG` from the offset `MLOP_AUDIT_FROM`, or from its start; `None` if the cluster has no audit
    /// log.
    ///
    /// # Errors
    /// `MLOP_AUDIT_FROM` is not a number.
    pub fn whole() -> Result<Option<Self>> {
        let Some(path) = env::var_os("MLOP_AUDIT_LOG").map(PathBuf::from) else { return Ok(None) };
        let start = match env::var("MLOP_AUDIT_FROM") {
            Ok(start) => start.parse().context("MLOP_AUDIT_FROM must be a number of bytes")?,
            Err(_) => 0,
        };
        Ok(Some(Self { path, start }))
    }

    /// The log at a path, from its start.
    pub fn at(path: PathBuf) -> Self {
        Self { path, start: 0 }
    }

    /// The log from its current end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn from_its_end(&self) -> Result<Self> {
        Ok(Self { path: self.path.clone(), start: self.length()? })
    }

    /// Waits until the log has every request that got its response before this call.
    ///
    /// # Errors
    /// A request of this call does not appear in time: the audit policy excludes mlop's kinds, or the path belongs to
    /// another cluster.
    pub async fn catch_up(&self, cluster: &Cluster) -> Result<()> {
        let end = self.length()?;
        // The log is ordered, so it is complete once it has this read of a unique name.
        let mark = format!("mark-{}-{end}", process::id());
        Api::<Dataset>::namespaced(cluster.client.clone(), "default").get_opt(&mark).await?;
        let seen = async {
            let mut polls = interval(POLL);
            loop {
                polls.tick().await;
                if self.lines_from(end)?.any(|line| line.is_ok_and(|line| line.contains(&mark))) {
                    return anyhow::Ok(());
                }
            }
        };
        let path = self.path.display();
        timeout(LAG, seen)
            .await
            .with_context(|| format!("{path} does not contain a request of this process"))?
    }

    /// The requests that `filter` accepts, in order of their responses.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn entries(&self, filter: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for line in self.lines_from(self.start)? {
            // The last line can be incomplete.
            let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
            entries.extend(event.into_entry().filter(&filter));
        }
        entries.sort_by_key(|entry| entry.at);
        Ok(entries)
    }

    /// The raw lines that `filter` accepts.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn lines(&self, filter: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let lines = self.lines_from(self.start)?;
        let accepted = lines.filter(|line| line.as_ref().map_or(true, |line| filter(line)));
        Ok(accepted.collect::<Result<_, _>>()?)
    }

    fn length(&self) -> Result<u64> {
        let metadata = self.path.metadata();
        Ok(metadata.with_context(|| format!("MLOP_AUDIT_LOG={}", self.path.display()))?.len())
    }

    /// The lines after an offset, or all lines if the log was rotated since.
    fn lines_from(&self, from: u64) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>> {
        let mut file = File::open(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        let rotated = file.metadata()?.len() < from;
        file.seek(SeekFrom::Start(if rotated { 0 } else { from }))?;
        Ok(BufReader::new(file).lines())
    }
}

impl Entry {
    /// The operator that sent the request, if one did.
    pub fn operator(&self) -> Option<&str> {
        self.user.strip_prefix(OPERATORS)
    }

    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    response_object: Object,
    #[serde(default)]
    annotations: Annotations,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    #[serde(rename = "apiGroup")]
    group: String,
    resource: String,
    namespace: String,
    name: String,
    subresource: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "authorization.k8s.io/decision")]
    decision: String,
    #[serde(rename = "pod-security.kubernetes.io/enforce-policy")]
    pod_security: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
    /// The status of an object, or `Failure` for a refusal.
    status: serde_json::Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    resource_version: String,
    deletion_timestamp: Option<Timestamp>,
    finalizers: Vec<String>,
}

impl Event {
    /// The entry of a request; `None` for requests without an object, such as those for versions and health.
    fn into_entry(self) -> Option<Entry> {
        let object = self.object_ref?;
        let answer = self.response_object;
        let slash = if object.subresource.is_empty() { "" } else { "/" };
        Some(Entry {
            received: self.request_received_timestamp,
            at: self.stage_timestamp,
            user: self.user.username,
            verb: self.verb,
            namespace: object.namespace,
            group: object.group,
            resource: format!("{}{slash}{}", object.resource, object.subresource),
            name: if object.name.is_empty() { answer.metadata.name } else { object.name },
            code: self.response_status.code,
            unauthorized: self.annotations.decision == "forbid",
            pod_security: self.annotations.pod_security,
            message: self.response_status.message,
            resource_version: answer.metadata.resource_version.parse().ok(),
            gone: answer.metadata.deletion_timestamp.is_some() && answer.metadata.finalizers.is_empty(),
            status: serde_json::from_value(answer.status).ok(),
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// An accepted request of the feature store's operator at a time in milliseconds.
    pub fn line(at: i64, verb: &str, resource: &str, name: &str, answer: Value) -> Entry {
        let stamp = |millis| Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap().to_string();
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let line = json!({
            "stage": "ResponseComplete", "verb": verb, "user": {"username": format!("{OPERATORS}mlop-feature-store")},
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": "n", "name": name},
            "responseStatus": {"code": 200}, "responseObject": answer,
            "annotations": {"authorization.k8s.io/decision": "allow"},
            "requestReceivedTimestamp": stamp(at - 5), "stageTimestamp": stamp(at),
        });
        serde_json::from_value::<Event>(line).unwrap().into_entry().unwrap()
    }

    #[test]
    fn entry_has_generated_name_and_version_of_the_response() {
        let answer = json!({"metadata": {"name": "delay-mdep-x1", "resourceVersion": "7"}, "status": {}});
        let entry = line(0, "create", "pods", "", answer);
        assert_eq!((entry.name.as_str(), entry.resource_version), ("delay-mdep-x1", Some(7)));
        assert_eq!(entry.operator(), Some("mlop-feature-store"));
    }

    #[test]
    fn refusal_is_an_entry() {
        let entry = line(0, "create", "pods", "p", json!({"kind": "Status", "status": "Failure"}));
        assert!(entry.status.is_none() && entry.resource_version.is_none());
    }
}
