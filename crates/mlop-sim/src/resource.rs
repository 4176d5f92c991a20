//! The resource types the server knows, and what differs between them.

use std::{
    any::TypeId,
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps, batch, coordination, core::v1 as core, events, networking, policy},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionSpec,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{builtin, schema::Schema};

/// What of a write moves `metadata.generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has no generation.
    Never,
    /// A change of `spec` moves it.
    Spec,
    /// Any change outside metadata (and outside status where that is a subresource) moves it.
    Everything,
}

/// One served resource: its names, and how its objects are decoded and defaulted.
#[derive(Debug)]
pub struct ResourceType {
    /// `plural.group`, or the plural alone for the core group: how messages and keys name a resource.
    pub(crate) resource: Arc<str>,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    /// Whether `status` is written only through its subresource.
    pub(crate) has_status: bool,
    pub(crate) generation: Generation,
    /// Fields beyond name and namespace that field selectors may name, as dotted paths.
    pub(crate) selectable: Vec<String>,
    pub(crate) model: Model,
}

/// Where the shape of a type comes from.
pub(crate) enum Model {
    /// A Rust type of k8s-openapi: decoding into it prunes and checks types.
    BuiltIn { decode: fn(Value) -> Result<Value, serde_json::Error>, default: fn(&mut Value) },
    /// The OpenAPI schema of a CustomResourceDefinition.
    Custom(Box<Schema>),
}

impl ResourceType {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    fn built_in<K>(default: fn(&mut Value), generation: Generation, has_status: bool) -> Self
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
            selectable: builtin::selectable(K::KIND),
            model: Model::BuiltIn {
                decode: |value| {
                    serde_json::from_value::<K>(value).and_then(|typed| serde_json::to_value(&typed))
                },
                default,
            },
        }
    }

    /// The type that a CustomResourceDefinition declares, in its storage version.
    fn custom(spec: &CustomResourceDefinitionSpec) -> Result<Self, String> {
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
                Schema::new(schema).map_err(|error| format!("{}: {error}", spec.names.plural))?,
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

fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.into() } else { format!("{plural}.{group}") }
}

/// The types of all CRDs that were registered in this process. Schemas, patterns and rules take long to compile, and
/// every test registers the same.
static COMPILED: Mutex<BTreeMap<Arc<str>, Compiled>> = Mutex::new(BTreeMap::new());
type Compiled = (CustomResourceDefinitionSpec, Arc<ResourceType>);

fn compiled(spec: &CustomResourceDefinitionSpec) -> Result<Arc<ResourceType>, String> {
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(qualified(&spec.names.plural, &spec.group).as_str()) {
        Some((same, ty)) if same == spec => Ok(ty.clone()),
        _ => {
            let ty = Arc::new(ResourceType::custom(spec)?);
            known.insert(ty.resource.clone(), (spec.clone(), ty.clone()));
            Ok(ty)
        }
    }
}

static BUILT_IN: LazyLock<BTreeMap<Arc<str>, Arc<ResourceType>>> = LazyLock::new(|| {
    use Generation::{Never, Spec};
    let types = [
        ResourceType::built_in::<core::Pod>(builtin::pod, Spec, true),
        ResourceType::built_in::<core::Service>(builtin::service, Never, true),
        ResourceType::built_in::<core::Secret>(builtin::secret, Never, false),
        ResourceType::built_in::<core::ConfigMap>(builtin::nothing, Never, false),
        ResourceType::built_in::<core::ServiceAccount>(builtin::nothing, Never, false),
        ResourceType::built_in::<core::PersistentVolumeClaim>(builtin::volume_claim, Never, true),
        ResourceType::built_in::<core::Event>(builtin::nothing, Never, false),
        ResourceType::built_in::<core::Namespace>(builtin::namespace, Never, true),
        ResourceType::built_in::<core::ResourceQuota>(builtin::nothing, Never, true),
        ResourceType::built_in::<apps::v1::Deployment>(builtin::deployment, Spec, true),
        ResourceType::built_in::<apps::v1::StatefulSet>(builtin::stateful_set, Spec, true),
        ResourceType::built_in::<batch::v1::Job>(builtin::job, Spec, true),
        ResourceType::built_in::<coordination::v1::Lease>(builtin::nothing, Never, false),
        ResourceType::built_in::<events::v1::Event>(builtin::nothing, Never, false),
        ResourceType::built_in::<networking::v1::NetworkPolicy>(builtin::nothing, Spec, false),
        ResourceType::built_in::<policy::v1::PodDisruptionBudget>(builtin::nothing, Spec, true),
    ];
    types.into_iter().map(|ty| (ty.resource.clone(), Arc::new(ty))).collect()
});

/// All types that are served, by `plural.group`.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    served: BTreeMap<Arc<str>, Arc<ResourceType>>,
    /// How often each type went away.
    removals: BTreeMap<Arc<str>, u64>,
}

impl Types {
    pub(crate) fn built_in() -> Self {
        Self { served: BUILT_IN.clone(), removals: BTreeMap::new() }
    }

    /// Serves the type of `crd`, replacing an earlier one of the same name.
    pub(crate) fn register(&mut self, crd: &CustomResourceDefinition) -> Result<(), String> {
        let ty = compiled(&crd.spec)?;
        self.served.insert(ty.resource.clone(), ty);
        Ok(())
    }

    /// Serves a custom type no longer.
    pub(crate) fn remove(&mut self, ty: &ResourceType) {
        self.served.remove(&ty.resource);
        *self.removals.entry(ty.resource.clone()).or_default() += 1;
    }

    pub(crate) fn removals(&self, ty: &ResourceType) -> u64 {
        self.removals.get(&ty.resource).copied().unwrap_or_default()
    }

    /// Whether the server itself has types in this group: what else is asked for there gets a `Status` for an answer.
    pub(crate) fn is_built_in(&self, group: &str, version: &str) -> bool {
        BUILT_IN.values().any(|ty| ty.group == group && ty.version == version)
    }

    /// The type that `name` means: `plural.group`, or a plural that is enough to know it.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<ResourceType>> {
        self.served.get(name).or_else(|| self.served.values().find(|ty| ty.plural == name))
    }

    pub(crate) fn get(&self, plural: &str, group: &str) -> Option<&Arc<ResourceType>> {
        self.served.get(qualified(plural, group).as_str())
    }

    pub(crate) fn by_key(&self, resource: &str) -> Option<&Arc<ResourceType>> {
        self.served.get(resource)
    }

    /// The type of `kind` in the group of `api_version`, as owner references name it.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceType>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.served.values().find(|ty| ty.group == group && ty.kind == kind)
    }

    /// The discovery document of one group and version, if any type is in it.
    pub(crate) fn discovery(&self, group: &str, version: &str) -> Option<Value> {
        let types: Vec<_> =
            self.served.values().filter(|ty| ty.group == group && ty.version == version).collect();
        let group_version = types.first()?.api_version();
        let entry = |name: String, ty: &ResourceType, verbs: &[&str]| {
            json!({"name": name, "singularName": ty.kind.to_lowercase(), "namespaced": ty.namespaced,
                   "kind": ty.kind, "verbs": verbs})
        };
        let mut resources = Vec::new();
        for ty in types {
            let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
            resources.push(entry(ty.plural.clone(), ty, &verbs));
            if ty.has_status {
                resources.push(entry(format!("{}/status", ty.plural), ty, &["get", "patch", "update"]));
            }
        }
        Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
                    "resources": resources}))
    }
}
