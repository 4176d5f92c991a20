//! The registry of served types: the built-in ones, and those of registered CRDs.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use k8s_openapi::{
    api::{apps, batch, coordination, core::v1 as core, events, networking, policy},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionSpec,
    },
};
use serde_json::{Value, json};

use super::{
    built_in,
    resource::{Generation, ResourceType, qualified},
};

/// The compiled types of all CRDs registered in this process. Schemas, patterns and rules are slow to compile, and every
/// test registers the same ones.
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
        ResourceType::built_in::<core::Pod>(built_in::pod, Spec, true),
        ResourceType::built_in::<core::Service>(built_in::service, Never, true),
        ResourceType::built_in::<core::Secret>(built_in::secret, Never, false),
        ResourceType::built_in::<core::ConfigMap>(built_in::no_defaults, Never, false),
        ResourceType::built_in::<core::ServiceAccount>(built_in::no_defaults, Never, false),
        ResourceType::built_in::<core::PersistentVolumeClaim>(built_in::volume_claim, Never, true),
        ResourceType::built_in::<core::Event>(built_in::no_defaults, Never, false),
        ResourceType::built_in::<core::Namespace>(built_in::namespace, Never, true),
        ResourceType::built_in::<core::ResourceQuota>(built_in::no_defaults, Never, true),
        ResourceType::built_in::<apps::v1::Deployment>(built_in::deployment, Spec, true),
        ResourceType::built_in::<apps::v1::StatefulSet>(built_in::stateful_set, Spec, true),
        ResourceType::built_in::<batch::v1::Job>(built_in::job, Spec, true),
        ResourceType::built_in::<coordination::v1::Lease>(built_in::no_defaults, Never, false),
        ResourceType::built_in::<events::v1::Event>(built_in::no_defaults, Never, false),
        ResourceType::built_in::<networking::v1::NetworkPolicy>(built_in::no_defaults, Spec, false),
        ResourceType::built_in::<policy::v1::PodDisruptionBudget>(built_in::no_defaults, Spec, true),
    ];
    types.into_iter().map(|ty| (ty.resource.clone(), Arc::new(ty))).collect()
});

/// The served types, by `plural.group`.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    served: BTreeMap<Arc<str>, Arc<ResourceType>>,
    /// How often each type was removed.
    removals: BTreeMap<Arc<str>, u64>,
}

impl Types {
    pub(crate) fn built_in() -> Self {
        Self { served: BUILT_IN.clone(), removals: BTreeMap::new() }
    }

    /// Serves the type of `crd`, and replaces an earlier type of that name.
    ///
    /// # Errors
    /// The CRD lacks a storage version or its schema, or a pattern does not compile.
    pub(crate) fn register(&mut self, crd: &CustomResourceDefinition) -> Result<(), String> {
        let ty = compiled(&crd.spec)?;
        self.served.insert(ty.resource.clone(), ty);
        Ok(())
    }

    /// Stops serving a custom type.
    pub(crate) fn remove(&mut self, ty: &ResourceType) {
        self.served.remove(&ty.resource);
        *self.removals.entry(ty.resource.clone()).or_default() += 1;
    }

    pub(crate) fn removals(&self, ty: &ResourceType) -> u64 {
        self.removals.get(&ty.resource).copied().unwrap_or_default()
    }

    /// Whether the server has built-in types in this group and version. It answers requests for other types there with a
    /// `Status`.
    pub(crate) fn is_built_in(&self, group: &str, version: &str) -> bool {
        BUILT_IN.values().any(|ty| ty.group == group && ty.version == version)
    }

    /// The type with this name as kubectl understands it: `plural.group`, or the plural alone.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<ResourceType>> {
        self.served.get(name).or_else(|| self.served.values().find(|ty| ty.plural == name))
    }

    pub(crate) fn get(&self, plural: &str, group: &str) -> Option<&Arc<ResourceType>> {
        self.served.get(qualified(plural, group).as_str())
    }

    pub(crate) fn by_key(&self, resource: &str) -> Option<&Arc<ResourceType>> {
        self.served.get(resource)
    }

    /// The type of `kind` in the group of `api_version`, as in an owner reference.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceType>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.served.values().find(|ty| ty.group == group && ty.kind == kind)
    }

    /// The discovery document of one group and version; `None` if no type is in it.
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
