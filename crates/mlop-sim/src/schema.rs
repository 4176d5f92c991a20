//! The OpenAPI schema of a custom resource: pruning, defaults and validation.
//!
//! The three walks follow the real server: unknown fields are dropped (except under
//! `x-kubernetes-preserve-unknown-fields`), missing fields get their default, and what breaks a rule becomes a cause
//! of a 422. A value that an update leaves as it was is not validated again (ratcheting).

use std::collections::BTreeMap;

use kube::core::response::StatusCause;
use regex::Regex;
use serde_json::{Map, Value};

use crate::{rules::Rules, status::cause};

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

    /// Drops the fields that the schema does not know and names their paths.
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

    /// Fills in what is missing and has a default.
    pub(crate) fn default(&self, object: &mut Value) {
        default(&self.root, object);
    }

    /// What `object` breaks; empty when it is valid. `old` is what it replaces.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
        let mut check = Check { patterns: &self.patterns, causes: Vec::new() };
        check.value(&self.root, object, old, "");
        if let Some(rules) = &self.rules {
            match check.causes.iter().any(blocks_rules) {
                true => check.causes.push(cause("FieldValueInvalid", "<nil>", RULES_LEFT_OUT)),
                false => check.causes.extend(rules.broken(object, old)),
            }
        }
        check.causes
    }
}

/// What the real server adds where errors of the schema keep it from evaluating rules.
const RULES_LEFT_OUT: &str = "Invalid value: null: some validation rules were not checked because the object was \
    invalid; correct the existing errors to complete validation";

/// Whether rules cannot be evaluated on an object with this error.
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

/// Whether the field stays.
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

struct Check<'a> {
    patterns: &'a BTreeMap<String, Regex>,
    causes: Vec<StatusCause>,
}

impl Check<'_> {
    fn invalid(&mut self, path: &str, value: &Value, problem: &str) {
        let message = format!("Invalid value: {value}: {path} in body {problem}");
        self.causes.push(cause("FieldValueInvalid", path, message));
    }

    fn value(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) || (value.is_null() && schema["nullable"] == true) {
            return;
        }
        if let Some(wanted) = type_mismatch(schema, value) {
            let shown =
                if value.is_object() || value.is_array() { type_of(value).into() } else { value.to_string() };
            let got = type_of(value);
            let message =
                format!("Invalid value: {shown}: {path} in body must be of type {wanted}: \"{got}\"");
            self.causes.push(cause("FieldValueTypeInvalid", path, message));
            return;
        }
        self.enumeration(schema, value, path);
        match value {
            Value::String(text) => self.string(schema, text, path),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or_default(), value, path),
            Value::Array(items) => self.array(schema, items, old, path),
            Value::Object(map) => self.object(schema, map, old, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn enumeration(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(allowed) = schema["enum"].as_array() else { return };
        if !allowed.contains(value) {
            let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
            let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
            self.causes.push(cause("FieldValueNotSupported", path, message));
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        let length = text.chars().count() as u64;
        if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
            let message = format!("Too long: may not be more than {max} bytes");
            self.causes.push(cause("FieldValueTooLong", path, message));
        }
        let value = Value::from(text);
        if let Some(min) = schema["minLength"].as_u64().filter(|min| length < *min) {
            self.invalid(path, &value, &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && self.patterns.get(pattern).is_some_and(|regex| !regex.is_match(text))
        {
            self.invalid(path, &value, &format!("should match '{pattern}'"));
        }
    }

    fn number(&mut self, schema: &Value, number: f64, value: &Value, path: &str) {
        if let Some(max) = schema["maximum"].as_f64() {
            if schema["exclusiveMaximum"] == true && number >= max {
                self.invalid(path, value, &format!("should be less than {max}"));
            } else if number > max {
                self.invalid(path, value, &format!("should be less than or equal to {max}"));
            }
        }
        if let Some(min) = schema["minimum"].as_f64() {
            if schema["exclusiveMinimum"] == true && number <= min {
                self.invalid(path, value, &format!("should be greater than {min}"));
            } else if number < min {
                self.invalid(path, value, &format!("should be greater than or equal to {min}"));
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], old: Option<&Value>, path: &str) {
        self.count(schema, "maxItems", "minItems", "items", items.len() as u64, path);
        self.duplicates(schema, items, path);
        let keys = map_keys(schema);
        for (index, item) in items.iter().enumerate() {
            let same_key = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
            let old = match old.and_then(Value::as_array) {
                Some(old) if !keys.is_empty() => old.iter().find(same_key),
                _ => None,
            };
            self.value(&schema["items"], item, old, &format!("{path}[{index}]"));
        }
    }

    fn duplicates(&mut self, schema: &Value, items: &[Value], path: &str) {
        let keys = map_keys(schema);
        if keys.is_empty() && schema["x-kubernetes-list-type"] != "set" {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            let same = |other: &Value| match keys.as_slice() {
                [] => other == item,
                keys => keys.iter().all(|key| other.get(key) == item.get(key)),
            };
            if items.iter().take(index).any(same) {
                let shown = match keys.as_slice() {
                    [] => item.clone(),
                    keys => keys
                        .iter()
                        .filter_map(|key| Some((key.to_string(), item.get(key)?.clone())))
                        .collect(),
                };
                let path = format!("{path}[{index}]");
                self.causes.push(cause("FieldValueDuplicate", &path, format!("Duplicate value: {shown}")));
            }
        }
    }

    fn object(&mut self, schema: &Value, map: &Map<String, Value>, old: Option<&Value>, path: &str) {
        self.count(schema, "maxProperties", "minProperties", "properties", map.len() as u64, path);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                self.causes.push(cause("FieldValueRequired", &child(path, name), "Required value"));
            }
        }
        for (name, value) in map {
            if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let old = old.and_then(|old| old.get(name));
            if let Some(schema) = schema["properties"].get(name) {
                self.value(schema, value, old, &child(path, name));
            } else if schema["additionalProperties"].is_object() {
                self.value(&schema["additionalProperties"], value, old, &child(path, name));
            }
        }
    }

    fn count(&mut self, schema: &Value, max: &str, min: &str, what: &str, count: u64, path: &str) {
        if let Some(max) = schema[max].as_u64().filter(|max| count > *max) {
            let message = format!("Too many: {count}: must have at most {max} items");
            self.causes.push(cause("FieldValueTooMany", path, message));
        }
        if let Some(min) = schema[min].as_u64().filter(|min| count < *min) {
            self.invalid(path, &Value::from(count), &format!("should have at least {min} {what}"));
        }
    }
}

/// The keys of a list that is a map, or none.
pub(crate) fn map_keys(schema: &Value) -> Vec<&str> {
    if schema["x-kubernetes-list-type"] != "map" {
        return Vec::new();
    }
    schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The type that `value` should have had.
fn type_mismatch<'a>(schema: &'a Value, value: &Value) -> Option<&'a str> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then_some("integer,string");
    }
    let wanted = schema["type"].as_str()?;
    let got = type_of(value);
    let fits = wanted == got || (wanted == "number" && got == "integer");
    (!fits).then_some(wanted)
}
