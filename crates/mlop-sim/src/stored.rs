//! An object as the store has it: never changed, shared by all who read it, written as JSON text once.

use std::{ops::Deref, sync::OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::apply::Managers;

/// An object at one resource version, with what readers make of it again and again.
#[derive(Debug)]
pub(crate) struct Stored {
    value: Value,
    json: OnceLock<Bytes>,
    managers: OnceLock<Managers>,
}

impl Stored {
    pub(crate) fn new(value: Value) -> Self {
        Self { value, json: OnceLock::new(), managers: OnceLock::new() }
    }

    /// An object whose managers are known, as well as in its metadata.
    pub(crate) fn managed(value: Value, managers: Managers) -> Self {
        Self { managers: managers.into(), ..Self::new(value) }
    }

    /// The object as JSON text.
    pub(crate) fn json(&self) -> &Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string()))
    }

    /// Who owns its fields.
    pub(crate) fn managers(&self) -> &Managers {
        self.managers.get_or_init(|| Managers::of(&self.value))
    }
}

impl Deref for Stored {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}
