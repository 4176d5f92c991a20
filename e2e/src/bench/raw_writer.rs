//! A client that sends recorded requests again, with other namespaces.

use crate::{audit::AuditLog, control_plane::ControlPlane};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use mlop_api::operators;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A write of an operator, from the audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recorded {
    user: User,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    object_ref: ObjectRef,
    response_status: Status,
    #[serde(default)]
    request_object: Value,
    #[serde(default)]
    response_object: Value,
    request_received_timestamp: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    namespace: String,
    resource: String,
    name: String,
    subresource: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    code: u16,
}

impl Recorded {
    /// The object whose status this write reports, if it is one of mlop's.
    pub(super) fn reported(&self) -> Option<(&str, &str, &str)> {
        let of = &self.object_ref;
        let is_status = of.api_group == mlop_api::GROUP && of.subresource == "status";
        is_status.then_some((&of.namespace, &of.resource, &of.name))
    }

    fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete")
    }

    fn object(&self) -> (&str, &str, &str) {
        (&self.object_ref.namespace, &self.object_ref.resource, &self.object_ref.name)
    }

    fn resource_version(&self) -> Option<&str> {
        self.response_object.pointer("/metadata/resourceVersion")?.as_str()
    }
}

/// The operators' writes in the log, in the order in which they came.
pub(super) fn recorded(log: &AuditLog) -> Result<Vec<Recorded>> {
    let lines = log.lines(|line| line.contains("requestURI"))?;
    // The last line can be incomplete.
    let events = lines.iter().filter_map(|line| serde_json::from_str::<Recorded>(line).ok());
    let mut writes: Vec<_> =
        events.filter(|it| it.is_write() && operators::named(&it.user.username).is_some()).collect();
    writes.sort_by_key(|write| write.request_received_timestamp);
    Ok(writes)
}

/// The writes that the server refused.
pub(super) fn refused(writes: &[Recorded]) -> Vec<&Recorded> {
    writes.iter().filter(|write| write.response_status.code >= 300).collect()
}

/// The writes by verb and resource, with their number.
pub(super) fn kinds(writes: &[&Recorded]) -> String {
    let mut counts = BTreeMap::<_, u32>::new();
    for Recorded { verb, object_ref, .. } in writes {
        *counts.entry(format!("{verb} {} {}", object_ref.resource, object_ref.subresource)).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{} {count}", what.trim_end())).collect();
    counts.join(", ")
}

/// The number of the `later` writes that left their object as an earlier write had made it.
pub(super) fn without_change(earlier: &[Recorded], later: &[Recorded]) -> usize {
    let mut versions: BTreeMap<_, _> =
        earlier.iter().filter_map(|write| Some((write.object(), write.resource_version()?))).collect();
    let written = later.iter().filter_map(|write| Some((write.object(), write.resource_version()?)));
    written.filter(|(object, version)| versions.insert(*object, version) == Some(version)).count()
}

/// The namespace in which the raw writer repeats the requests of another. Names have the same length, so that objects
/// have the same size.
pub(super) fn copy(namespace: &str) -> String {
    namespace.replace("chain-", "again-")
}

/// A client for each operator, with its permissions.
pub(super) struct RawWriter(BTreeMap<&'static str, Client>);

impl RawWriter {
    pub(super) async fn new(server: &ControlPlane) -> Result<Self> {
        let mut clients = BTreeMap::new();
        for operator in operators::ALL {
            let kubeconfig = Kubeconfig::read_from(server.kubeconfig_of(operator))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            clients.insert(operator.name, Client::try_from(config)?);
        }
        Ok(Self(clients))
    }

    /// Repeats `writes`: those of each namespace one after the other, all namespaces at once. Returns the refused ones.
    pub(super) async fn send<'a>(
        &self,
        namespaces: &[String],
        writes: &'a [Recorded],
    ) -> Result<Vec<&'a Recorded>> {
        let mut chains: BTreeMap<&str, Vec<&Recorded>> = BTreeMap::new();
        for write in writes {
            chains.entry(&write.object_ref.namespace).or_default().push(write);
        }
        let chains = namespaces.iter().filter_map(|name| Some((name, chains.remove(name.as_str())?)));
        let sent = stream::iter(chains).map(|(namespace, writes)| self.send_all(namespace, writes));
        let refused: Vec<_> = sent.buffer_unordered(namespaces.len().max(1)).try_collect().await?;
        Ok(refused.concat())
    }

    async fn send_all<'a>(&self, namespace: &str, writes: Vec<&'a Recorded>) -> Result<Vec<&'a Recorded>> {
        let mut refused = Vec::new();
        for write in writes {
            let client = self.0.get(write.user.username.as_str()).context("no such operator")?;
            let answer = client.send(request(namespace, write)?).await?;
            if !answer.status().is_success() {
                refused.push(write);
            }
            // Read to its end, so that the connection can be used again.
            answer.into_body().collect().await?;
        }
        Ok(refused)
    }
}

/// The request in the other namespace.
fn request(namespace: &str, write: &Recorded) -> Result<Request<Body>> {
    let method = match write.verb.as_str() {
        "create" => Method::POST,
        "update" => Method::PUT,
        "delete" => Method::DELETE,
        _ => Method::PATCH,
    };
    // The log does not have the content type. A patch that may take fields from others is an apply.
    let content = match (&method, write.uri.contains("force=true")) {
        (&Method::PATCH, true) => "application/apply-patch+yaml",
        (&Method::PATCH, false) => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = match method {
        // The recorded preconditions hold only for the original.
        Method::DELETE => String::new(),
        _ => without_identity(write.request_object.clone()).to_string().replace(namespace, &copy(namespace)),
    };
    let request = Request::builder().method(method).uri(write.uri.replace(namespace, &copy(namespace)));
    Ok(request.header(CONTENT_TYPE, content).body(Body::from(body.into_bytes()))?)
}

/// An object without the fields that hold only for the one that was recorded.
fn without_identity(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["uid", "resourceVersion", "ownerReferences", "creationTimestamp", "generation"] {
            metadata.remove(field);
        }
    }
    object
}
