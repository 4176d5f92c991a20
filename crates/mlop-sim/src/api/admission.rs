//! Checks of the object in a request against its URL and type, and the restoration of fields that clients cannot write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{
    status::{self, Result},
    write::Part,
};
use crate::{
    object::{Object, as_object, text},
    schema::resource::{Model, ResourceType},
};

pub(crate) fn check_type(ty: &ResourceType, object: &Value) -> Result<()> {
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    if !object.is_object() || api_version.is_empty() || kind.is_empty() {
        return Err(status::bad_request("Object 'Kind' or 'apiVersion' is missing in the request's body"));
    }
    if api_version != ty.api_version() || kind != ty.kind {
        let message = format!(
            "the API version and kind in the data ({api_version}, {kind}) do not match the expected ones ({}, {})",
            ty.api_version(),
            ty.kind
        );
        return Err(status::bad_request(message));
    }
    Ok(())
}

/// Fails if the schema of a custom type lacks a field of `intent`. Only apply refuses unknown fields; other writes drop
/// them.
pub(crate) fn check_fields(ty: &ResourceType, name: &str, intent: &Value) -> Result<()> {
    let Model::Custom(schema) = &ty.model else { return Ok(()) };
    match schema.prune(&mut intent.clone()).first() {
        None => Ok(()),
        Some(path) => Err(status::unknown(format!(
            "failed to create typed patch object ({}/{name}; {}, Kind={}): .{path}: field not declared in schema",
            intent.namespace(),
            ty.api_version(),
            ty.kind
        ))),
    }
}

pub(crate) fn check_namespace(ty: &ResourceType, namespace: &str, object: &mut Value) -> Result<()> {
    if !ty.namespaced {
        object.meta_mut().remove("namespace");
        return Ok(());
    }
    if !object.namespace().is_empty() && object.namespace() != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(status::bad_request(message));
    }
    object.meta_mut().insert("namespace".into(), json!(namespace));
    Ok(())
}

/// Fails if `new` names a resource version other than that of `old`.
pub(crate) fn check_version(ty: &ResourceType, old: &Value, new: &Value) -> Result<()> {
    let wanted = new.resource_version();
    if wanted.is_empty() || wanted == old.resource_version() {
        return Ok(());
    }
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Err(status::conflict(ty, old.name(), why))
}

/// Copies the fields from `old` that a write of this part cannot change.
pub(crate) fn restore_server_fields(ty: &ResourceType, old: &Value, new: &mut Value, part: Part) {
    match part {
        Part::Main if ty.has_status => new.copy_field(old, "status"),
        Part::Main | Part::Whole => {}
        Part::Status => {
            let mut object = old.clone();
            object.copy_field(new, "status");
            object.copy_meta(new, "uid");
            *new = object;
        }
    }
    if new.uid().is_empty() {
        new.copy_meta(old, "uid");
    }
    for field in ["resourceVersion", "creationTimestamp", "generation", "selfLink"] {
        new.copy_meta(old, field);
    }
    // The managers are computed from both objects and stored beside the new one.
    new.meta_mut().remove("managedFields");
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "name", "namespace", "generateName"] {
        new.copy_meta(old, field);
    }
}

/// Decodes an object as the server does: unknown fields are dropped, or refused if `strict`, and missing fields get
/// their defaults.
pub(crate) fn admit(ty: &ResourceType, object: &mut Value, strict: bool) -> Result<()> {
    let refused = |why: &str| {
        let message =
            format!("{} in version \"{}\" cannot be handled as a {}: {why}", ty.kind, ty.version, ty.kind);
        status::bad_request(message)
    };
    match &ty.model {
        Model::BuiltIn { decode, default } => {
            *object = decode(object.take()).map_err(|error| refused(&error.to_string()))?;
            default(object);
        }
        Model::Custom(schema) => {
            let meta: ObjectMeta =
                serde_json::from_value(object.meta().clone()).map_err(|error| refused(&error.to_string()))?;
            as_object(object).insert("metadata".into(), serde_json::to_value(meta).unwrap_or_default());
            let unknown = schema.prune(object);
            if strict && !unknown.is_empty() {
                let fields: Vec<_> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
                return Err(refused(&format!("strict decoding error: {}", fields.join(", "))));
            }
            schema.default(object);
        }
    }
    Ok(())
}
