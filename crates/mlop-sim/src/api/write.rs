//! The options and the outcome of a write.

use std::sync::Arc;

use kube::core::response::Status;

use crate::{
    schema::resource::ResourceType,
    storage::{managers::Manager, object_version::ObjectVersion},
};

/// The part of an object that a write changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object without its status if that is a subresource.
    Main,
    /// The status alone.
    Status,
    /// The whole object, which only direct access from a test can write.
    Whole,
}

#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    /// The name of the field manager.
    pub(crate) manager: String,
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    /// Whether an apply takes fields from other managers.
    pub(crate) force: bool,
    /// Whether unknown fields are errors.
    pub(crate) strict: bool,
}

impl WriteOptions {
    /// The options of a write that is not a request.
    pub(crate) fn direct(manager: &str) -> Self {
        Self { manager: manager.into(), part: Part::Whole, dry_run: false, force: false, strict: false }
    }

    /// The field manager of an `Apply` or `Update` with these options.
    pub(crate) fn field_manager(&self, operation: &str, ty: &ResourceType) -> Manager {
        Manager {
            operation: operation.into(),
            name: self.manager.clone(),
            api_version: ty.api_version(),
            subresource: if self.part == Part::Status { "status".into() } else { String::new() },
        }
    }
}

/// The outcome of a successful write.
#[derive(Debug)]
pub(crate) struct Written {
    /// HTTP status code of the response.
    pub(crate) code: u16,
    pub(crate) body: Body,
    /// Whether the write changed the store.
    pub(crate) changed: bool,
}

impl Written {
    pub(crate) fn object(code: u16, object: Arc<ObjectVersion>, changed: bool) -> Self {
        Self { code, body: Body::Object(object), changed }
    }
}

/// The body of a response to a write.
#[derive(Debug)]
pub(crate) enum Body {
    Object(Arc<ObjectVersion>),
    Status(Box<Status>),
}
