//! Objects of files, and their mistakes.

use super::booleans::Booleans;
use crate::output::clean;
use mlop_api::GROUP;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// An object of a file.
#[derive(Clone, Debug)]
pub struct Document {
    pub file: String,
    pub value: Value,
    pub(super) booleans: Booleans,
}

impl Document {
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(super) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    pub(super) fn is_ours(&self) -> bool {
        self.text("/apiVersion").split('/').next() == Some(GROUP)
    }
}

/// A mistake of an object, or something that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub file: String,
    pub object: String,
    /// Path of the field; empty for the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    pub message: String,
    /// Whether the API server or an operator would refuse it. Otherwise it may be right.
    pub is_error: bool,
}

impl Finding {
    pub(super) fn new(
        document: &Document,
        is_error: bool,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let name = if document.name().is_empty() { "(without a name)" } else { document.name() };
        Self {
            file: document.file.clone(),
            object: format!("{}/{name}", document.kind()),
            field: field.into(),
            message: message.into(),
            is_error,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, object, field, message, is_error } = self;
        let level = if *is_error { "error" } else { "note" };
        let field = if field.is_empty() { String::new() } else { format!(" {field}") };
        // The file may be somebody else's.
        f.write_str(&clean(&format!("{file}: {level}: {object}{field}: {message}")))
    }
}
