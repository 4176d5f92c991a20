//! One version of an object: immutable, shared by its readers, serialized at most once.

use std::{ops::Deref, sync::OnceLock};

use bytes::Bytes;
use serde_json::Value;

use super::managers::Managers;

/// An object at one resource version.
///
/// Its `metadata.managedFields` are rendered from `managers` on demand: they are a large part of most objects, and only
/// clients read them as JSON.
#[derive(Debug)]
pub(crate) struct ObjectVersion {
    value: Value,
    managers: Managers,
    json: OnceLock<Bytes>,
    unmanaged_json: OnceLock<Bytes>,
}

impl ObjectVersion {
    pub(crate) fn new(value: Value, managers: Managers) -> Self {
        Self { value, managers, json: OnceLock::new(), unmanaged_json: OnceLock::new() }
    }

    /// The object with its managed fields.
    pub(crate) fn managed(&self) -> Value {
        let mut object = self.value.clone();
        self.managers.write_to(&mut object);
        object
    }

    /// The object with its managed fields, as JSON text.
    pub(crate) fn json(&self) -> &Bytes {
        self.json.get_or_init(|| Bytes::from(self.managed().to_string()))
    }

    /// The object without its managed fields, as JSON text.
    pub(crate) fn unmanaged_json(&self) -> &Bytes {
        self.unmanaged_json.get_or_init(|| Bytes::from(self.value.to_string()))
    }

    /// The owners of its fields.
    pub(crate) fn managers(&self) -> &Managers {
        &self.managers
    }
}

impl Deref for ObjectVersion {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}
