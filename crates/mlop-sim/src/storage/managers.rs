//! Field managers: the clients that own the fields of an object.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::fields::{Difference, FieldSet};
use crate::{object::Object, schema::shape::Shape};

/// The identity of a field manager. `Apply` and `Update` under one name are two managers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    /// `Apply` or `Update`.
    pub(crate) operation: String,
    pub(crate) name: String,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

/// The fields that one manager owns, and the time at which they last changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) fields: Arc<FieldSet>,
    /// RFC 3339, in whole seconds.
    pub(crate) time: String,
}

impl Owned {
    fn lose(&mut self, fields: &FieldSet) {
        if self.fields.overlaps(fields) {
            Arc::make_mut(&mut self.fields).subtract(fields);
        }
    }
}

/// The managers of an object: the content of its `metadata.managedFields`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Managers(BTreeMap<Manager, Owned>);

impl Managers {
    /// Writes `metadata.managedFields` into `object`.
    pub(crate) fn write_to(&self, object: &mut Value) {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|(manager, owned)| (manager.operation.clone(), owned.time.clone()));
        let entries: Vec<Value> = entries.into_iter().map(|(manager, owned)| entry(manager, owned)).collect();
        if !entries.is_empty() {
            object.meta_mut().insert("managedFields".into(), json!(entries));
        }
    }

    /// Whether every manager owns the same fields in both, regardless of times.
    pub(crate) fn same_fields(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0 && a.1.fields == b.1.fields)
    }

    /// The managers after `manager` replaced `before` by `after` at `now`. It becomes the only owner of each field that
    /// it changed.
    pub(crate) fn updated(
        mut self,
        manager: &Manager,
        before: &Value,
        after: &Value,
        shape: Shape<'_>,
        now: &str,
    ) -> Self {
        let difference = Difference::between(before, after, shape).without_unowned();
        self.release(&difference.added);
        self.release(&difference.modified);
        self.release(&difference.removed);
        let mut changed = difference.added;
        changed.extend(&difference.modified);
        if !changed.is_empty() {
            let owned = self.0.entry(manager.clone()).or_default();
            Arc::make_mut(&mut owned.fields).extend(&changed);
            owned.time = now.into();
        }
        self.0.retain(|_, owned| !owned.fields.is_empty());
        self
    }

    /// Removes `manager` and returns its fields.
    pub(crate) fn remove(&mut self, manager: &Manager) -> Owned {
        self.0.remove(manager).unwrap_or_default()
    }

    /// Sets the fields of `manager`, and drops managers that own nothing.
    pub(crate) fn set(&mut self, manager: &Manager, owned: Owned) {
        self.0.insert(manager.clone(), owned);
        self.0.retain(|_, owned| !owned.fields.is_empty());
    }

    /// Takes `fields` from all managers.
    pub(crate) fn release(&mut self, fields: &FieldSet) {
        self.0.values_mut().for_each(|owned| owned.lose(fields));
    }

    /// Each manager that owns some of `fields`, with those fields.
    pub(crate) fn owners_of(&self, fields: &FieldSet) -> Vec<(&Manager, FieldSet)> {
        let owners = self.0.iter().map(|(manager, owned)| (manager, owned.fields.intersection(fields)));
        owners.filter(|(_, fields)| !fields.is_empty()).collect()
    }

    /// The fields of each manager.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &FieldSet> {
        self.0.values().map(|owned| &*owned.fields)
    }
}

fn entry(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": manager.name, "operation": manager.operation, "apiVersion": manager.api_version,
        "time": owned.time, "fieldsType": "FieldsV1", "fieldsV1": owned.fields.encode(),
    });
    if !manager.subresource.is_empty() {
        entry["subresource"] = json!(manager.subresource);
    }
    entry
}
