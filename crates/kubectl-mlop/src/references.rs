//! The objects that a spec refers to.

use crate::{
    kinds,
    snapshot::{Object, ObjectId, Snapshot},
};
use mlop_api::{
    GROUP,
    common::{NamedInput, ObjectRef},
};
use serde_json::Value;

/// Fields of specs that name a connection or a policy, and its kind.
const CONNECTIONS: [(&str, &str); 6] = [
    ("source.objects.store", "ObjectStore"),
    ("store", "ObjectStore"),
    ("featureStore", "FeatureStore"),
    ("trackingServer", "TrackingServer"),
    ("profile", "PodProfile"),
    ("queue", "TrainingQueue"),
];

/// A reference to another object of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Path of the field, such as `spec.inputs[0].from`.
    pub field: String,
    pub to: ObjectId,
    /// Whether the other object's artifact is consumed. Otherwise it is a connection or a policy.
    pub is_input: bool,
    /// Whether the other object's kind is mlop's and has namespaces, so that it is in the snapshot.
    pub is_ours: bool,
}

/// The references of a spec: the inputs first, in the order of the spec.
pub fn of(spec: &Value) -> Vec<Reference> {
    let mut found = inputs(spec);
    for (path, kind) in CONNECTIONS {
        let pointer = format!("/{}", path.replace('.', "/"));
        let Some(name) = spec.pointer(&pointer).and_then(Value::as_str) else { continue };
        let to = ObjectId::new(kind, name);
        let is_ours = kinds::namespaced().any(|info| info.kind == kind);
        found.push(Reference { field: format!("spec.{path}"), to, is_input: false, is_ours });
    }
    found
}

fn inputs(spec: &Value) -> Vec<Reference> {
    let reference = |field: String, from: &ObjectRef| Reference {
        field,
        to: ObjectId::new(&from.kind, &from.name),
        is_input: true,
        is_ours: from.api_group == GROUP && kinds::info(&from.kind).is_some(),
    };
    let named: Vec<NamedInput> = read(spec, "inputs").unwrap_or_default();
    let single: Option<ObjectRef> = read(spec, "from");
    let named = named
        .iter()
        .enumerate()
        .map(|(index, input)| reference(format!("spec.inputs[{index}].from"), &input.from));
    named.chain(single.iter().map(|from| reference("spec.from".to_owned(), from))).collect()
}

fn read<T: serde::de::DeserializeOwned>(spec: &Value, field: &str) -> Option<T> {
    serde_json::from_value(spec.get(field)?.clone()).ok()
}

/// The path from `from` along references to `to`, both included; none if no reference leads there.
pub fn path(snapshot: &Snapshot, from: &ObjectId, to: &ObjectId) -> Option<Vec<ObjectId>> {
    let mut paths = vec![vec![from.clone()]];
    let mut seen = vec![from.clone()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        let Some(last) = path.last() else { continue };
        if last == to {
            return Some(path);
        }
        let references = snapshot.get(last).map(|object| of(&object.spec)).unwrap_or_default();
        for reference in references {
            if !seen.contains(&reference.to) {
                seen.push(reference.to.clone());
                paths.push([path.as_slice(), &[reference.to]].concat());
            }
        }
    }
    None
}

/// The inputs of an object that are in the snapshot.
pub fn present_inputs<'a>(snapshot: &'a Snapshot, object: &Object) -> Vec<&'a Object> {
    let inputs = of(&object.spec).into_iter().filter(|reference| reference.is_input);
    inputs.filter_map(|reference| snapshot.get(&reference.to)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
    use std::collections::BTreeSet;

    /// Fields whose description says that they name a connection or a policy.
    fn described(path: &str, schema: &JSONSchemaProps, found: &mut BTreeSet<(String, String)>) {
        for (name, field) in schema.properties.iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let words = field.description.as_deref().unwrap_or_default().split([' ', '.']);
            let kind = words.skip_while(|word| *word != "the").nth(1).unwrap_or_default();
            let is_name = field.description.as_deref().is_some_and(|text| text.starts_with("Name of the "));
            let is_kind = kinds::info(kind).is_some_and(|info| {
                use mlop_api::kinds::Class::{Connection, Policy};
                matches!(info.class, Connection | Policy)
            });
            if is_name && is_kind {
                found.insert((path.clone(), kind.to_owned()));
            }
            described(&path, field, found);
        }
    }

    #[test]
    fn connections_are_the_fields_that_schemas_describe() {
        let mut found = BTreeSet::new();
        for crd in mlop_api::kinds::all() {
            let info = kinds::info(&crd.spec.names.kind).unwrap();
            if info.class == mlop_api::kinds::Class::Run {
                continue;
            }
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            described("", &schema.properties.as_ref().unwrap()["spec"], &mut found);
        }
        let known = CONNECTIONS.map(|(path, kind)| (path.to_owned(), kind.to_owned()));
        assert_eq!(found, known.into());
    }
}
