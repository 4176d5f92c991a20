//! Quotas: how many objects of a resource a namespace may have.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    object::{Object, text},
    resource::ResourceType,
    server::Server,
    status::{self, Result},
};

/// The name of every quota, for messages.
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
}

impl Server {
    /// Refuses one object too many. The real server asks after validation and before it looks whether the name is free.
    pub(crate) fn check_quota(&self, ty: &ResourceType, namespace: &str, object: &Value) -> Result<()> {
        let Some(limit) = self.quotas.get(namespace, ty) else { return Ok(()) };
        let used = self.store.list(&ty.resource, Some(namespace)).filter(|(_, o)| counts(ty, o)).count();
        if used < limit {
            return Ok(());
        }
        let what = if COUNTED_BY_NAME.contains(&&*ty.resource) {
            ty.plural.clone()
        } else {
            format!("count/{}", ty.resource)
        };
        let why = format!(
            "exceeded quota: {QUOTA}, requested: {what}=1, used: {what}={used}, limited: {what}={limit}"
        );
        Err(status::forbidden(ty, object.name(), &why, Vec::new()))
    }
}

/// Resources whose quota has their plain name.
const COUNTED_BY_NAME: &[&str] =
    &["configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services"];

/// A pod that has ended takes no room.
fn counts(ty: &ResourceType, object: &Value) -> bool {
    ty.kind != "Pod" || !matches!(text(&object["status"]["phase"]), "Succeeded" | "Failed")
}
