//! Validation beyond the schema: names and labels, immutable fields, and invariants of built-in kinds.

use std::sync::LazyLock;

use kube::core::response::StatusCause;
use regex::Regex;
use serde_json::Value;

use super::{
    cause::{cause, invalid_value},
    resource::{Model, ResourceType},
};
use crate::object::{Object, array, text};

static SUBDOMAIN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok());
static LABEL_VALUE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$").ok());

const SUBDOMAIN_HELP: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
    or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_HELP: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

/// The violations of a new object.
pub(crate) fn created(ty: &ResourceType, object: &Value) -> Vec<StatusCause> {
    let mut causes = metadata(object);
    match &ty.model {
        Model::Custom(schema) => causes.extend(schema.validate(object, None)),
        Model::BuiltIn { .. } => causes.extend(built_in(ty, object)),
    }
    causes
}

/// The violations of `object`, which replaces `old`.
pub(crate) fn updated(ty: &ResourceType, object: &Value, old: &Value) -> Vec<StatusCause> {
    let mut causes = metadata_update(object, old);
    match &ty.model {
        Model::Custom(schema) => causes.extend(schema.validate(object, Some(old))),
        Model::BuiltIn { .. } => causes.extend(built_in_update(ty, object, old)),
    }
    causes
}

fn metadata(object: &Value) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    let name = object.name();
    if name.is_empty() {
        let message = "Required value: name or generateName is required";
        causes.push(cause("FieldValueRequired", "metadata.name", message));
    } else if name.len() > NAME_MAX {
        let why = format!("must be no more than {NAME_MAX} bytes");
        causes.push(invalid_value("metadata.name", &object.meta()["name"], &why));
    } else if SUBDOMAIN.as_ref().is_some_and(|regex| !regex.is_match(name)) {
        causes.push(invalid_value("metadata.name", &object.meta()["name"], SUBDOMAIN_HELP));
    }
    causes.extend(labels(object));
    causes
}

fn labels(object: &Value) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    for value in object.meta()["labels"].as_object().into_iter().flat_map(|labels| labels.values()) {
        if text(value).len() > LABEL_MAX {
            causes.push(invalid_value("metadata.labels", value, "must be no more than 63 bytes"));
        } else if LABEL_VALUE.as_ref().is_some_and(|regex| !regex.is_match(text(value))) {
            causes.push(invalid_value("metadata.labels", value, LABEL_HELP));
        }
    }
    causes
}

fn metadata_update(object: &Value, old: &Value) -> Vec<StatusCause> {
    let mut causes = labels(object);
    if object.uid() != old.uid() {
        causes.push(invalid_value("metadata.uid", &object.meta()["uid"], "field is immutable"));
    }
    let before = old.finalizers();
    let added: Vec<&str> = object.finalizers().into_iter().filter(|f| !before.contains(f)).collect();
    if old.is_deleting() && !added.is_empty() {
        let list: Vec<String> = added.iter().map(|finalizer| format!("\"{finalizer}\"")).collect();
        let message = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            list.join(", ")
        );
        causes.push(cause("FieldValueForbidden", "metadata.finalizers", message));
    }
    causes
}

fn built_in(ty: &ResourceType, object: &Value) -> Vec<StatusCause> {
    let spec = match ty.kind.as_str() {
        "Pod" => &object["spec"],
        "Job" | "Deployment" | "StatefulSet" => &object["spec"]["template"]["spec"],
        _ => return Vec::new(),
    };
    let path = if ty.kind == "Pod" { "spec" } else { "spec.template.spec" };
    if array(&spec["containers"]).is_empty() {
        return vec![cause("FieldValueRequired", &format!("{path}.containers"), "Required value")];
    }
    Vec::new()
}

fn built_in_update(ty: &ResourceType, object: &Value, old: &Value) -> Vec<StatusCause> {
    let (path, new, old) = match ty.kind.as_str() {
        "Pod" => ("spec", fixed_pod_spec(&object["spec"]), fixed_pod_spec(&old["spec"])),
        "Job" => ("spec.template", object["spec"]["template"].clone(), old["spec"]["template"].clone()),
        "ConfigMap" | "Secret" if old["immutable"] == true => {
            ("data", object["data"].clone(), old["data"].clone())
        }
        _ => return Vec::new(),
    };
    if new == old {
        return Vec::new();
    }
    match ty.kind.as_str() {
        "Pod" => vec![cause(
            "FieldValueForbidden",
            path,
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
             tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )],
        "Job" => vec![invalid_value(path, &new, "field is immutable")],
        _ => {
            vec![cause("FieldValueForbidden", path, "Forbidden: field is immutable when `immutable` is set")]
        }
    }
}

/// The immutable part of a pod's spec. `nodeName` is left out because only the server sets it.
fn fixed_pod_spec(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut() {
        for field in ["nodeName", "activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
            map.remove(field);
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    spec
}
