//! A resource type: its names, its schema, and its rules for generations.

use std::{any::TypeId, fmt, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionSpec,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{built_in, openapi::Schema};

/// The changes that increase `metadata.generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has no generation.
    Never,
    /// Changes of `spec`.
    Spec,
    /// Changes outside metadata, and outside the status if that is a subresource.
    Everything,
}

/// One served resource: its names, and how its objects are decoded and defaulted.
#[derive(Debug)]
pub struct ResourceType {
    /// The name in messages and keys: `plural.group`, or the plural alone for the core group.
    pub(crate) resource: Arc<str>,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    /// Whether the status is a subresource.
    pub(crate) has_status: bool,
    pub(crate) generation: Generation,
    /// The dotted paths that field selectors may use, besides name and namespace.
    pub(crate) selectable: Vec<String>,
    pub(crate) model: Model,
}

/// The source of a type's structure.
pub(crate) enum Model {
    /// A Rust type of k8s-openapi. Decoding into it prunes unknown fields and checks types.
    BuiltIn { decode: fn(Value) -> Result<Value, serde_json::Error>, default: fn(&mut Value) },
    /// The OpenAPI schema of a CustomResourceDefinition.
    Custom(Box<Schema>),
}

impl ResourceType {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(super) fn built_in<K>(default: fn(&mut Value), generation: Generation, has_status: bool) -> Self
    where
        K: k8s_openapi::Resource + Serialize + DeserializeOwned,
        K::Scope: 'static,
    {
        Self {
            resource: qualified(K::URL_PATH_SEGMENT, K::GROUP).into(),
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            kind: K::KIND.into(),
            plural: K::URL_PATH_SEGMENT.into(),
            namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
            has_status,
            generation,
            selectable: built_in::selectable(K::KIND),
            model: Model::BuiltIn {
                decode: |value| {
                    serde_json::from_value::<K>(value).and_then(|typed| serde_json::to_value(&typed))
                },
                default,
            },
        }
    }

    /// The type that a CustomResourceDefinition declares, in its storage version.
    ///
    /// # Errors
    /// The CRD lacks a storage version or its schema, or a pattern does not compile.
    pub(super) fn custom(spec: &CustomResourceDefinitionSpec) -> Result<Self, String> {
        let version = spec
            .versions
            .iter()
            .find(|version| version.storage)
            .ok_or_else(|| format!("{}: no storage version", spec.names.plural))?;
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let schema = serde_json::to_value(schema.ok_or_else(|| format!("{}: no schema", spec.names.plural))?)
            .map_err(|error| format!("{}: {error}", spec.names.plural))?;
        let selectable = version.selectable_fields.iter().flatten();
        Ok(Self {
            resource: qualified(&spec.names.plural, &spec.group).into(),
            group: spec.group.clone(),
            version: version.name.clone(),
            kind: spec.names.kind.clone(),
            plural: spec.names.plural.clone(),
            namespaced: spec.scope == "Namespaced",
            has_status: version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
            generation: Generation::Everything,
            selectable: selectable.map(|field| field.json_path.trim_start_matches('.').to_string()).collect(),
            model: Model::Custom(Box::new(
                Schema::new(&schema).map_err(|error| format!("{}: {error}", spec.names.plural))?,
            )),
        })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BuiltIn { .. } => "BuiltIn",
            Self::Custom(_) => "Custom",
        })
    }
}

pub(super) fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.into() } else { format!("{plural}.{group}") }
}
