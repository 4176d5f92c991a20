//! References between the objects of files.

use super::finding::{Document, Finding};
use crate::{
    kinds,
    references::{self, Reference},
    snapshot::ObjectId,
};
use mlop_api::{
    kinds::{Class, is_cluster_scoped},
    operators, profile,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An object of the files: its namespace, kind and name.
type Key = (String, ObjectId);

/// References to objects that the files do not have, kinds that cannot be inputs, cycles, and objects that are there
/// twice.
pub(super) fn findings(documents: &[Document]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut present: BTreeSet<Key> = BTreeSet::new();
    for document in documents {
        if !present.insert(key(document)) {
            let message = "is there twice; the last one would be applied";
            findings.push(Finding::new(document, true, "", message));
        }
    }
    let mut edges: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
    for document in documents.iter().filter(|document| document.is_ours()) {
        let spec = document.value.get("spec").unwrap_or(&Value::Null);
        let references = references::of(spec);
        for reference in &references {
            findings.extend(reference_finding(document, reference, &present));
        }
        let inputs = references.into_iter().filter(|reference| reference.is_input);
        let namespace = document.namespace().to_owned();
        edges.insert(key(document), inputs.map(|it| (namespace.clone(), it.to)).collect());
        for (field, name) in secrets(spec, "spec") {
            let secret = (namespace.clone(), ObjectId::new("Secret", &name));
            if !present.contains(&secret) {
                findings.push(Finding::new(document, false, field, absent(&secret.1)));
            }
        }
    }
    for document in documents.iter().filter(|document| document.is_ours()) {
        if let Some(cycle) = cycle(&edges, &key(document)) {
            findings.push(Finding::new(document, true, "", format!("depends on itself: {cycle}")));
        }
    }
    findings
}

fn key(document: &Document) -> Key {
    (document.namespace().to_owned(), ObjectId::new(document.kind(), document.name()))
}

fn absent(id: &ObjectId) -> String {
    let place = if is_cluster_scoped(&id.kind) { "cluster" } else { "namespace" };
    format!("{id} is not in these files: it must exist in the {place}")
}

fn reference_finding(document: &Document, reference: &Reference, present: &BTreeSet<Key>) -> Option<Finding> {
    let Reference { field, to, is_input, is_ours } = reference;
    let operator = operators::of(document.kind());
    let allowed = operator.map(|operator| operator.inputs).unwrap_or_default();
    if *is_input && !allowed.contains(&to.kind.as_str()) {
        let is_sure = *is_ours && kinds::info(&to.kind).is_some_and(|info| info.class != Class::Intent);
        let message = format!(
            "{} is not among the kinds that {} reads as inputs ({}); inputKinds of its chart adds one",
            to.kind,
            operator.map_or("the operator", |operator| operator.name),
            allowed.join(", ")
        );
        return Some(Finding::new(document, is_sure, field, message));
    }
    let is_optional = to.kind == "PodProfile" && to.name == profile::DEFAULT;
    let is_present = present.contains(&(document.namespace().to_owned(), to.clone()));
    (!is_present && !is_optional).then(|| Finding::new(document, false, field, absent(to)))
}

/// The names of Secrets in a spec, with their paths.
fn secrets(value: &Value, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match (name.as_str(), value) {
                    ("secretName", Value::String(secret)) => found.push((path, secret.clone())),
                    ("pullSecrets", Value::Array(names)) => {
                        found.extend(
                            names.iter().filter_map(|it| Some((path.clone(), it.as_str()?.to_owned()))),
                        );
                    }
                    ("secret", Value::Object(secret)) => {
                        let name = secret.get("name").and_then(Value::as_str);
                        found.extend(name.map(|name| (format!("{path}.name"), name.to_owned())));
                    }
                    _ => found.extend(secrets(value, &path)),
                }
            }
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            found.extend(items.flat_map(|(index, item)| secrets(item, &format!("{path}[{index}]"))));
        }
        _ => {}
    }
    found
}

/// The way from an object along its inputs back to itself.
fn cycle(edges: &BTreeMap<Key, Vec<Key>>, start: &Key) -> Option<String> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let last = way.last()?.clone();
        for next in edges.get(&last).into_iter().flatten() {
            let way = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == start {
                let names: Vec<_> = way.iter().map(|(_, id)| id.to_string()).collect();
                return Some(names.join(" <- "));
            }
            if seen.insert(next.clone()) {
                ways.push(way);
            }
        }
    }
    None
}
