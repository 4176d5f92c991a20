//! Stored objects, their history, and notifications of their changes.

pub(crate) mod clock;
pub(crate) mod fields;
pub(crate) mod managers;
pub(crate) mod object_version;
pub(crate) mod store;
pub(crate) mod subscriptions;
pub(crate) mod trace;
