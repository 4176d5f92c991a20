//! The OpenAPI schema of a custom resource: pruning, defaults and validation.
//!
//! All three follow the real server. Unknown fields are dropped, except under `x-kubernetes-preserve-unknown-fields`.
//! Missing fields get their defaults. Violations become the causes of a 422. An update does not validate values that it
//! leaves unchanged (ratcheting).

use std::collections::BTreeMap;

use kube::core::response::StatusCause;
use regex::Regex;
use serde_json::{Map, Value};

use super::{cause::cause, check::Check, rules::Rules};

/// A structural schema with its patterns and rules compiled.
#[derive(Debug)]
pub(crate) struct Schema {
    root: Value,
    patterns: BTreeMap<String, Regex>,
    rules: Option<Rules>,
}

impl Schema {
    pub(crate) fn new(root: Value) -> Result<Self, String> {
        let mut patterns = BTreeMap::new();
        collect_patterns(&root, &mut patterns)?;
        let rules = Rules::of(&root);
        Ok(Self { root, patterns, rules })
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Drops unknown fields and returns their paths.
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut pruned = Vec::new();
        if let Value::Object(map) = object {
            let properties = &self.root["properties"];
            let known = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
            map.retain(|name, value| {
                if known(name) {
                    return true;
                }
                prune_field(&self.root, properties, name, value, name, &mut pruned)
            });
        }
        pruned
    }

    /// Sets missing fields that have a default.
    pub(crate) fn default(&self, object: &mut Value) {
        default(&self.root, object);
    }

    /// The violations of `object`, which replaces `old`. None for a valid object.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
        let mut causes = Check::new(&self.patterns).run(&self.root, object, old);
        if let Some(rules) = &self.rules {
            match causes.iter().any(blocks_rules) {
                true => causes.push(cause("FieldValueInvalid", "<nil>", RULES_SKIPPED)),
                false => causes.extend(rules.violations(object, old)),
            }
        }
        causes
    }
}

/// The cause that the real server adds if errors of the schema prevent the evaluation of rules.
const RULES_SKIPPED: &str = "Invalid value: null: some validation rules were not checked because the object was \
    invalid; correct the existing errors to complete validation";

/// Whether this violation prevents the evaluation of rules.
fn blocks_rules(error: &StatusCause) -> bool {
    matches!(
        error.reason.as_str(),
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

fn collect_patterns(schema: &Value, patterns: &mut BTreeMap<String, Regex>) -> Result<(), String> {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern")
                && !patterns.contains_key(pattern)
            {
                patterns.insert(pattern.clone(), Regex::new(pattern).map_err(|error| error.to_string())?);
            }
            map.values().try_for_each(|value| collect_patterns(value, patterns))
        }
        Value::Array(items) => items.iter().try_for_each(|value| collect_patterns(value, patterns)),
        _ => Ok(()),
    }
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Prunes one field of an object, and returns whether the field itself is kept.
fn prune_field(
    parent: &Value,
    properties: &Value,
    name: &str,
    value: &mut Value,
    path: &str,
    pruned: &mut Vec<String>,
) -> bool {
    let additional = &parent["additionalProperties"];
    let schema = match properties.get(name) {
        Some(schema) => schema,
        None if additional.is_object() => additional,
        None if preserves(parent) || additional == true => return true,
        None => {
            pruned.push(path.to_string());
            return false;
        }
    };
    prune(schema, value, path, pruned);
    true
}

fn prune(schema: &Value, value: &mut Value, path: &str, pruned: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            map.retain(|name, value| {
                let known = embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
                known
                    || prune_field(
                        schema,
                        &schema["properties"],
                        name,
                        value,
                        &format!("{path}.{name}"),
                        pruned,
                    )
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune(&schema["items"], item, &format!("{path}[{index}]"), pruned);
            }
        }
        _ => {}
    }
}

fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            default_properties(schema, map);
            let additional = &schema["additionalProperties"];
            for (name, value) in map.iter_mut() {
                match schema["properties"].get(name) {
                    Some(schema) => default(schema, value),
                    None if additional.is_object() => default(additional, value),
                    None => {}
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| default(&schema["items"], item)),
        _ => {}
    }
}

fn default_properties(schema: &Value, map: &mut Map<String, Value>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let null_to_replace = map.get(name).is_some_and(|v| v.is_null()) && property["nullable"] != true;
        if let Some(default) = property.get("default")
            && (null_to_replace || !map.contains_key(name))
        {
            map.insert(name.clone(), default.clone());
        } else if null_to_replace {
            map.remove(name);
        }
    }
}
