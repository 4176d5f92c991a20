//! Kinds as data, and the objects that caches hold.

use k8s_openapi::{api::core::v1::PodStatus, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource,
    core::{ApiResource, ClusterResourceScope, DynamicResourceScope, NamespaceResourceScope},
};
use mlop_api::{
    common::ObjectRef,
    contract::Upstream,
    kinds::Kind,
    labels,
    queue::{Admission, QueueRequest, RunQueue},
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{borrow::Cow, fmt, fmt::Debug};

/// A kind of object and its address at the API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ApiKind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
}

impl ApiKind {
    pub fn of<K: Resource<DynamicType = ()>>() -> Self {
        Self {
            group: K::group(&()).into_owned(),
            version: K::version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
        }
    }

    /// Group and version, as in a manifest.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind as kube's dynamic API takes it.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }
}

impl fmt::Display for ApiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)
    }
}

/// Parses `Kind.version.group`, kubectl's way to name a kind, for example `Dataset.v1alpha1.mlop.dev`. The plural may
/// follow: `Dataset.v1alpha1.mlop.dev/datasets`. Without it, the usual plural of the kind is assumed.
impl std::str::FromStr for ApiKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, plural) = text.split_once('/').map_or((text, None), |(name, plural)| (name, Some(plural)));
        let mut parts = name.splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(version), Some(group))
                if !kind.is_empty()
                    && version.starts_with('v')
                    && !group.is_empty()
                    && plural != Some("") =>
            {
                let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
                Ok(Self {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: kind.to_owned(),
                    plural: plural.map_or_else(|| ApiResource::from_gvk(&gvk).plural, str::to_owned),
                })
            }
            _ => Err(format!(
                "{text:?} is not a kind: want Kind.version.group, for example Dataset.v1alpha1.mlop.dev"
            )),
        }
    }
}

/// The JSON form of `object` with its apiVersion and kind.
pub fn object_value<K>(object: &K) -> Value
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let mut value = serde_json::to_value(object).unwrap_or_else(|_| json!({}));
    if let Value::Object(map) = &mut value {
        map.insert("apiVersion".to_owned(), K::api_version(&()).into_owned().into());
        map.insert("kind".to_owned(), K::kind(&()).into_owned().into());
        map.remove("status");
        if let Some(Value::Object(meta)) = map.get_mut("metadata") {
            meta.retain(|_, v| !v.is_null());
        }
    }
    value
}

/// An object that a cache can hold.
pub trait Cached: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// The whole object as JSON; none for projections that omit fields.
    fn whole(&self) -> Option<Value> {
        None
    }

    /// Drops the parts that no decision reads, before the object enters a cache.
    fn project(&mut self) {}
}

/// Why the objects of a kind cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The API server does not serve the kind: its definition is not installed.
    NotServed,
    /// The operator may not list it: a permission is missing, or the namespace is gone with its RoleBinding.
    Forbidden,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotServed => "not served",
            Self::Forbidden => "forbidden",
        })
    }
}

/// Gives a projection the [`Resource`] of the kind it is cut from.
macro_rules! projection {
    ($name:ident, $kind:literal, $group:literal, $version:literal, $plural:literal, $scope:ty) => {
        impl Resource for $name {
            type DynamicType = ();
            type Scope = $scope;
            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// Gives a projection the [`Resource`] of a kind that is known at run time only.
macro_rules! dynamic {
    ($name:ident) => {
        impl Resource for $name {
            type DynamicType = ApiResource;
            type Scope = DynamicResourceScope;
            fn kind(dt: &ApiResource) -> Cow<'_, str> {
                dt.kind.as_str().into()
            }
            fn group(dt: &ApiResource) -> Cow<'_, str> {
                dt.group.as_str().into()
            }
            fn version(dt: &ApiResource) -> Cow<'_, str> {
                dt.version.as_str().into()
            }
            fn plural(dt: &ApiResource) -> Cow<'_, str> {
                dt.plural.as_str().into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// A Pod without most of its spec: the part that decisions depend on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodView {
    pub metadata: ObjectMeta,
    pub spec: PodPlace,
    pub status: PodStatus,
}

/// Where a pod is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodPlace {
    /// None until the scheduler has found one.
    pub node_name: Option<String>,
}
projection!(PodView, "Pod", "", "v1", "pods", NamespaceResourceScope);
impl Cached for PodView {
    fn project(&mut self) {
        // The task holds the user's code once more.
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.remove(labels::TASK);
        }
        let status = &mut self.status;
        (status.host_ip, status.host_ips, status.pod_ip, status.pod_ips) = (None, None, None, None);
        let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if let Some(conditions) = status.conditions.as_mut().filter(|_| has_ended) {
            conditions.retain(|condition| condition.type_ == "DisruptionTarget");
            conditions.shrink_to_fit();
        }
        let containers = [&mut status.init_container_statuses, &mut status.container_statuses];
        for container in containers.into_iter().flatten().flatten() {
            container.image_id = String::new();
            container.container_id = None;
            container.volume_mounts = None;
            container.allocated_resources = None;
            container.resources = None;
            if let Some(ended) = container.state.as_mut().and_then(|state| state.terminated.as_mut()) {
                ended.container_id = None;
            }
        }
    }
}

/// A Job without its template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JobView {
    pub metadata: ObjectMeta,
    pub spec: JobSize,
    pub status: k8s_openapi::api::batch::v1::JobStatus,
}
projection!(JobView, "Job", "batch", "v1", "jobs", NamespaceResourceScope);

/// How many pods a Job has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JobSize {
    pub completions: Option<u32>,
}
impl Cached for JobView {}

/// A Namespace with its labels only.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceView {
    pub metadata: ObjectMeta,
}
projection!(NamespaceView, "Namespace", "", "v1", "namespaces", ClusterResourceScope);
impl Cached for NamespaceView {
    fn project(&mut self) {
        (self.metadata.annotations, self.metadata.finalizers) = (None, None);
    }
}

/// The part of a TrainingRun that its queue reads: the request and the answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct QueuedRun {
    pub metadata: ObjectMeta,
    pub spec: QueuedRunSpec,
    pub status: QueuedRunStatus,
}
projection!(QueuedRun, "TrainingRun", "mlop.dev", "v1alpha1", "trainingruns", NamespaceResourceScope);
impl Cached for QueuedRun {
    fn project(&mut self) {
        let meta = &mut self.metadata;
        (meta.labels, meta.annotations, meta.owner_references, meta.finalizers) = (None, None, None, None);
    }
}

/// Which queue the run is for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct QueuedRunSpec {
    pub queue: Option<RunQueue>,
}

/// The handshake of a run with its queue.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct QueuedRunStatus {
    pub queued: Option<QueueRequest>,
    pub admission: Option<Admission>,
}

/// An applied child. It is whole, so that drift of any field is detected.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ChildObject {
    pub metadata: ObjectMeta,
    #[serde(flatten)]
    pub body: serde_json::Map<String, Value>,
}
dynamic!(ChildObject);
impl Cached for ChildObject {
    fn whole(&self) -> Option<Value> {
        let mut body = self.body.clone();
        body.insert("metadata".to_owned(), serde_json::to_value(&self.metadata).ok()?);
        Some(Value::Object(body))
    }
}

/// The kinds of mlop are cached as their own types.
impl<K: Kind> Cached for K {}

/// Any object that may be an input: the contract's part of its status, and its own references.
///
/// It can be read from any object. A status that does not follow the contract is [`unreadable`](Self::unreadable), and
/// a spec of another shape has no references.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputObject {
    pub metadata: ObjectMeta,
    /// The objects that this one consumes, for finding cycles.
    pub references: Vec<ObjectRef>,
    /// The field with which a user keeps this object at an earlier artifact, such as `spec.pin`.
    pub held_by: Option<&'static str>,
    pub status: Upstream,
    /// The field of the status that does not follow the contract, and the error; none if all do.
    pub unreadable: Option<String>,
}

impl<'de> Deserialize<'de> for InputObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Object {
            metadata: ObjectMeta,
            spec: Value,
            status: Value,
        }
        let Object { metadata, spec, status } = Object::deserialize(deserializer)?;
        let read = match status {
            Value::Null => Ok(Upstream::default()),
            status => serde_path_to_error::deserialize(status),
        };
        let (status, unreadable) = match read {
            Ok(status) => (status, None),
            Err(error) => {
                let field = match error.path().iter().next() {
                    Some(_) => format!("status.{}", error.path()),
                    None => "status".to_owned(),
                };
                (Upstream::default(), Some(format!("{field}: {}", error.inner())))
            }
        };
        Ok(Self { metadata, references: references(&spec), held_by: held_by(&spec), status, unreadable })
    }
}

/// The references in `spec.inputs[].from` and `spec.from`.
fn references(spec: &Value) -> Vec<ObjectRef> {
    let inputs = spec.get("inputs").and_then(Value::as_array).into_iter().flatten();
    let fields = inputs.map(|input| input.get("from")).chain([spec.get("from")]);
    fields.flatten().filter_map(|from| ObjectRef::deserialize(from).ok()).collect()
}

/// `spec.pin` or `spec.suspend`, whichever is set.
fn held_by(spec: &Value) -> Option<&'static str> {
    let is_pinned = spec.get("pin").and_then(Value::as_str).is_some();
    let is_suspended = spec.get("suspend").and_then(Value::as_bool) == Some(true);
    is_pinned.then_some("spec.pin").or(is_suspended.then_some("spec.suspend"))
}

dynamic!(InputObject);
impl Cached for InputObject {
    fn project(&mut self) {
        let meta = &mut self.metadata;
        (meta.labels, meta.annotations, meta.owner_references, meta.finalizers) = (None, None, None, None);
    }
}

#[cfg(test)]
mod tests;
