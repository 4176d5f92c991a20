//! Quotas: limits for the number of objects of a resource in a namespace.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::status::{self, Result};
use crate::{
    object::{Object, text},
    schema::resource::ResourceType,
    storage::store::Store,
};

/// The name of every quota in messages.
const QUOTA: &str = "quota";

/// The limits, by namespace and resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas(BTreeMap<(String, Arc<str>), usize>);

impl Quotas {
    pub(crate) fn set(&mut self, namespace: &str, ty: &ResourceType, limit: Option<usize>) {
        let key = (namespace.to_string(), ty.resource.clone());
        match limit {
            Some(limit) => self.0.insert(key, limit),
            None => self.0.remove(&key),
        };
    }

    fn get(&self, namespace: &str, ty: &ResourceType) -> Option<usize> {
        let concerns = |(ns, resource): &(String, Arc<str>)| ns == namespace && *resource == ty.resource;
        self.0.iter().find(|(key, _)| concerns(key)).map(|(_, limit)| *limit)
    }

    /// Fails if one more object would exceed the limit. As on the real server, this check follows validation and
    /// precedes the check that the name is free.
    pub(crate) fn check(
        &self,
        store: &Store,
        ty: &ResourceType,
        namespace: &str,
        object: &Value,
    ) -> Result<()> {
        let Some(limit) = self.get(namespace, ty) else { return Ok(()) };
        let used = store.list(&ty.resource, Some(namespace)).filter(|(_, o)| counts(ty, o)).count();
        if used < limit {
            return Ok(());
        }
        let name = if COUNTED_BY_NAME.contains(&&*ty.resource) {
            ty.plural.clone()
        } else {
            format!("count/{}", ty.resource)
        };
        let why = format!(
            "exceeded quota: {QUOTA}, requested: {name}=1, used: {name}={used}, limited: {name}={limit}"
        );
        Err(status::forbidden(ty, object.name(), &why, Vec::new()))
    }
}

/// Resources that quotas name without the prefix `count/`.
const COUNTED_BY_NAME: &[&str] =
    &["configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services"];

/// Whether an object counts towards the quota. Pods that have ended do not.
fn counts(ty: &ResourceType, object: &Value) -> bool {
    ty.kind != "Pod" || !matches!(text(&object["status"]["phase"]), "Succeeded" | "Failed")
}
