//! The children that a parent has, of all kinds, and the deletion of those that it no longer wants.

use crate::{
    plan::{Delete, Plan},
    resource::{ApiKind, ChildObject},
    runtime::{cache::Cache, index::Index, workqueue::Key},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use std::sync::Arc;

/// The children of the kinds that a controller applies, by their owner.
#[derive(Default)]
pub struct ChildCaches(Vec<(ApiKind, Index<ChildObject>)>);

/// An existing child.
#[derive(Clone, Debug)]
pub struct Child {
    pub kind: ApiKind,
    pub object: Arc<ChildObject>,
}

impl ChildCaches {
    /// Adds the cache of the kind `K`.
    pub fn with<K: Resource<DynamicType = ()>>(mut self, cache: &Arc<Cache<ChildObject>>) -> Self {
        let index = Index::new(cache, |child: &ChildObject| {
            let owners = child.metadata.owner_references.iter().flatten();
            owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).collect()
        });
        self.0.push((ApiKind::of::<K>(), index));
        self
    }

    /// The children whose controller is the object with the metadata `parent`. Data that is to outlive it has none.
    pub fn of(&self, parent: &ObjectMeta) -> Vec<Child> {
        let namespace = Key::of(parent).namespace;
        let uid = parent.uid.as_deref().unwrap_or_default();
        let children = self.0.iter().flat_map(|(kind, index)| {
            index.get(&namespace, uid).into_iter().map(|object| Child { kind: kind.clone(), object })
        });
        children.collect()
    }
}

/// Adds to `plan` the deletion of those `children` that it does not apply.
pub fn prune<S>(mut plan: Plan<S>, children: &[Child]) -> Plan<S> {
    let is_wanted = |child: &&Child| {
        let name = child.object.metadata.name.as_deref();
        plan.applies.iter().any(|apply| {
            apply.kind == child.kind
                && apply.object.pointer("/metadata/name").and_then(serde_json::Value::as_str) == name
        })
    };
    let unwanted = children.iter().filter(|child| !is_wanted(child));
    let deletes: Vec<_> = unwanted.filter_map(deletion).collect();
    plan.deletes.extend(deletes);
    plan
}

fn deletion(child: &Child) -> Option<Delete> {
    let meta = &child.object.metadata;
    let (name, uid) = (meta.name.clone()?, meta.uid.clone()?);
    let why = "the spec no longer asks for it".to_owned();
    meta.deletion_timestamp.is_none().then(|| Delete { kind: child.kind.clone(), name, uid, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    fn child(name: &str, owner: &str, extra: serde_json::Value) -> Arc<ChildObject> {
        let owner = json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": owner, "controller": true});
        let mut meta = json!({"name": name, "namespace": "ns", "uid": name, "ownerReferences": [owner]});
        meta.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    #[test]
    fn only_own_children_that_are_not_wanted_are_pruned() {
        let cache = Arc::new(Cache::<ChildObject>::default());
        for child in [
            child("wanted", "u", json!({})),
            child("old", "u", json!({})),
            child("ending", "u", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
            child("of-another", "v", json!({})),
            child("kept", "u", json!({"ownerReferences": []})),
        ] {
            cache.put_written(child.as_ref().clone());
        }
        let caches = ChildCaches::default().with::<Service>(&cache);
        let parent =
            ObjectMeta { namespace: Some("ns".to_owned()), uid: Some("u".to_owned()), ..Default::default() };
        let meta = ObjectMeta { name: Some("wanted".to_owned()), ..Default::default() };
        let plan: Plan<()> =
            Plan::idle().apply(&Service { metadata: meta, ..Default::default() }, "it is wanted");
        let deleted: Vec<_> = prune(plan, &caches.of(&parent)).deletes.into_iter().map(|d| d.name).collect();
        assert_eq!(deleted, ["old"]);
    }
}
