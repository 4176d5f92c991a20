//! The API server's audit log: who wrote what, to the microsecond.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use mlop_api::{
    Digest,
    contract::{Upstream, condition::READY},
};
use serde::Deserialize;
use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

/// The log from one moment on.
pub struct AuditLog {
    path: PathBuf,
    start: u64,
}

/// One write that the API server answered.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: Timestamp,
    pub user: String,
    pub verb: String,
    /// Plural name, with `/status` where that was written.
    pub resource: String,
    pub name: String,
    pub accepted: bool,
    /// The status that was written, where the log keeps it.
    pub status: Option<Upstream>,
    /// The object's resource version after the write, where the log keeps it.
    pub resource_version: Option<String>,
}

impl AuditLog {
    /// The log that `MLOP_AUDIT_LOG` names, from now on; none when the cluster keeps none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn from_now() -> Result<Option<Self>> {
        let Some(path) = env::var_os("MLOP_AUDIT_LOG").map(PathBuf::from) else { return Ok(None) };
        let metadata = path.metadata().with_context(|| format!("MLOP_AUDIT_LOG={}", path.display()))?;
        Ok(Some(Self { start: metadata.len(), path }))
    }

    /// All writes in a namespace, in order of time.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn writes(&self, namespace: &str) -> Result<Vec<Write>> {
        let mut file = File::open(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        let rotated = file.metadata()?.len() < self.start;
        file.seek(SeekFrom::Start(if rotated { 0 } else { self.start }))?;
        let mut writes = Vec::new();
        for line in BufReader::new(file).lines() {
            // The last line may still be being written.
            let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
            writes.extend(event.into_write(namespace));
        }
        writes.sort_by_key(|write| write.at);
        Ok(writes)
    }
}

/// When `name` (of the resource `plural`) first said that `digest` may be used.
pub fn ready_at(writes: &[Write], plural: &str, name: &str, digest: &Digest) -> Option<Timestamp> {
    let resource = format!("{plural}/status");
    let mut of_object = writes.iter().filter(|w| w.accepted && w.resource == resource && w.name == name);
    of_object
        .find(|write| write.status.as_ref().is_some_and(|status| says_ready(status, digest)))
        .map(|write| write.at)
}

fn says_ready(status: &Upstream, digest: &Digest) -> bool {
    let published = status.artifact.as_ref().is_some_and(|artifact| artifact.digest == *digest);
    published && status.conditions.iter().any(|c| c.type_ == READY && c.status == "True")
}

/// When the first pod or Job whose name starts with `prefix` was created at or after `from`. The log has no name for a
/// pod whose name the server makes up: such a one counts from when it is bound to its node.
pub fn started_at(writes: &[Write], prefix: &str, from: Timestamp) -> Option<Timestamp> {
    let starts = |write: &&Write| {
        write.accepted
            && write.verb == "create"
            && matches!(write.resource.as_str(), "pods" | "jobs" | "pods/binding")
            && write.name.starts_with(prefix)
            && write.at >= from
    };
    writes.iter().find(starts).map(|write| write.at)
}

/// Time between two moments of the log; nothing when they are the other way round.
pub fn between(from: Timestamp, to: Timestamp) -> Option<Duration> {
    Duration::try_from(to.duration_since(from)).ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    response_status: Option<ResponseStatus>,
    #[serde(default)]
    response_object: Option<Object>,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    /// Not every status is an mlop one.
    #[serde(default)]
    status: serde_json::Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    resource_version: Option<String>,
}

impl Event {
    fn into_write(self, namespace: &str) -> Option<Write> {
        let object = self.object_ref.filter(|object| object.namespace == namespace)?;
        let writes =
            matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        if self.stage != "ResponseComplete" || !writes {
            return None;
        }
        let slash = if object.subresource.is_empty() { "" } else { "/" };
        let (resource_version, status) = match self.response_object {
            Some(object) => (object.metadata.resource_version, serde_json::from_value(object.status).ok()),
            None => (None, None),
        };
        Some(Write {
            at: self.stage_timestamp,
            user: self.user.username,
            verb: self.verb,
            resource: format!("{}{slash}{}", object.resource, object.subresource),
            name: object.name,
            accepted: self.response_status.is_some_and(|status| (200..300).contains(&status.code)),
            status,
            resource_version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    fn line(at: &str, verb: &str, object: &str, rest: &str) -> String {
        format!(
            r#"{{"stage":"ResponseComplete","verb":"{verb}","user":{{"username":"system:serviceaccount:mlop-system:x"}},
                "objectRef":{object},"responseStatus":{{"code":200}},"stageTimestamp":"{at}"{rest}}}"#
        )
        .replace('\n', "")
    }

    fn artifact() -> String {
        format!(
            r#"{{"digest":"{DIGEST}","store":"s","uri":"s3://b/k","mediaType":"m","revision":1,"generation":1,
                "inputDigest":"{DIGEST}","run":"flights-0","producedAt":"2026-11-21T10:00:00Z"}}"#
        )
    }

    #[test]
    fn the_hand_off_is_the_time_from_ready_to_the_next_pod() {
        let ready = format!(
            r#","responseObject":{{"metadata":{{"resourceVersion":"7"}},"status":{{"artifact":{},"conditions":[
                {{"type":"Ready","status":"True","reason":"Ready","message":"","lastTransitionTime":"2026-11-21T10:00:00Z"}}]}}}}"#,
            artifact().replace('\n', "")
        )
        .replace('\n', "");
        let status = r#"{"resource":"datasets","namespace":"n","name":"flights","subresource":"status"}"#;
        let pod = |name: &str| format!(r#"{{"resource":"pods","namespace":"n","name":"{name}"}}"#);
        let log = [
            line("2026-11-21T10:00:00.000000Z", "create", &pod("route-1-1"), ""),
            line("2026-11-21T10:00:01.000000Z", "patch", status, &ready),
            line("2026-11-21T10:00:01.020000Z", "create", &pod("route-1-2"), ""),
        ];
        let parse = |line: &String| serde_json::from_str::<Event>(line).unwrap().into_write("n").unwrap();
        let writes: Vec<Write> = log.iter().map(parse).collect();
        let digest = Digest::try_from(DIGEST.to_owned()).unwrap();
        let from = ready_at(&writes, "datasets", "flights", &digest).unwrap();
        let to = started_at(&writes, "route-1-", from).unwrap();
        assert_eq!(between(from, to), Some(Duration::from_millis(20)));
        assert_eq!(between(to, from), None);
    }

    #[test]
    fn reads_and_other_namespaces_are_left_out() {
        let object = r#"{"resource":"pods","namespace":"n","name":"p"}"#;
        let event = |verb: &str| {
            serde_json::from_str::<Event>(&line("2026-11-21T10:00:00Z", verb, object, "")).unwrap()
        };
        assert!(event("get").into_write("n").is_none());
        assert!(event("create").into_write("other").is_none());
        assert!(event("create").into_write("n").is_some());
    }
}
