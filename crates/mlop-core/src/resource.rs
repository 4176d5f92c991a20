//! Kinds as data, and the objects that caches hold.

use k8s_openapi::{api::core::v1::PodStatus, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, NamespaceResourceScope},
};
use mlop_api::{common::ObjectRef, contract::Upstream, kinds::Kind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
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

/// Parses `Kind.version.group`, kubectl's way to name a kind, for example `Dataset.v1alpha1.mlop.dev`.
impl std::str::FromStr for ApiKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(version), Some(group))
                if !kind.is_empty() && version.starts_with('v') && !group.is_empty() =>
            {
                let resource =
                    ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind));
                Ok(Self {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: kind.to_owned(),
                    plural: resource.plural,
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
}

/// Gives a projection the [`Resource`] of the kind it is cut from.
macro_rules! projection {
    ($name:ident, $kind:literal, $group:literal, $version:literal, $plural:literal) => {
        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;
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

/// A Pod without its spec: the part that decisions depend on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodView {
    pub metadata: ObjectMeta,
    pub status: PodStatus,
}
projection!(PodView, "Pod", "", "v1", "pods");
impl Cached for PodView {}

/// A Job without its template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JobView {
    pub metadata: ObjectMeta,
    pub status: k8s_openapi::api::batch::v1::JobStatus,
}
projection!(JobView, "Job", "batch", "v1", "jobs");
impl Cached for JobView {}

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
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct InputObject {
    pub metadata: ObjectMeta,
    pub spec: InputSpec,
    pub status: Upstream,
}

/// The references that the contract names, for finding cycles.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct InputSpec {
    pub inputs: Vec<InputEntry>,
    pub from: Option<ObjectRef>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct InputEntry {
    pub from: ObjectRef,
}

impl InputObject {
    /// The objects that this one consumes.
    pub fn references(&self) -> impl Iterator<Item = &ObjectRef> {
        self.spec.inputs.iter().map(|input| &input.from).chain(&self.spec.from)
    }
}

dynamic!(InputObject);
impl Cached for InputObject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_parses_as_kubectl_writes_it() {
        let kind: ApiKind = "FeatureView.v1alpha1.mlop.dev".parse().unwrap();
        assert_eq!(kind, ApiKind::of::<mlop_api::features::FeatureView>());
        for bad in ["", "Dataset", "Dataset.mlop.dev", "Dataset.v1", ".v1.x"] {
            assert!(bad.parse::<ApiKind>().is_err(), "{bad}");
        }
    }
}
