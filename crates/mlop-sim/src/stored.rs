//! An object as the store has it: never changed, shared by all who read it, written as JSON text once.

use std::{ops::Deref, sync::OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::apply::Managers;

/// An object at one resource version. Its `metadata.managedFields` are made of `managers` when somebody asks for them:
/// they are a good part of most objects, and nobody but a client reads them as JSON.
#[derive(Debug)]
pub(crate) struct Stored {
    value: Value,
    managers: Managers,
    json: OnceLock<Bytes>,
    unmanaged_json: OnceLock<Bytes>,
}

impl Stored {
    pub(crate) fn new(value: Value, managers: Managers) -> Self {
        Self { value, managers, json: OnceLock::new(), unmanaged_json: OnceLock::new() }
    }

    /// The object with its managed fields.
    pub(crate) fn managed(&self) -> Value {
        let mut object = self.value.clone();
        self.managers.write_to(&mut object);
        object
    }

    /// The object as JSON text, with its managed fields.
    pub(crate) fn json(&self) -> &Bytes {
        self.json.get_or_init(|| Bytes::from(self.managed().to_string()))
    }

    /// The object as JSON text, without its managed fields.
    pub(crate) fn unmanaged_json(&self) -> &Bytes {
        self.unmanaged_json.get_or_init(|| Bytes::from(self.value.to_string()))
    }

    /// Who owns its fields.
    pub(crate) fn managers(&self) -> &Managers {
        &self.managers
    }
}

impl Deref for Stored {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}
