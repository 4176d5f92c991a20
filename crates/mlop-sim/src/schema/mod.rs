//! The types of objects: how they are decoded, defaulted, validated and divided among field managers.

pub(crate) mod built_in;
pub(crate) mod cause;
pub(crate) mod check;
pub(crate) mod list_keys;
pub(crate) mod node;
pub(crate) mod openapi;
pub(crate) mod resource;
pub(crate) mod rules;
pub(crate) mod shape;
pub(crate) mod types;
pub(crate) mod validate;
