//! Validation of a value against its OpenAPI schema.

use std::collections::BTreeMap;

use kube::core::response::StatusCause;
use regex::Regex;
use serde_json::{Map, Value};

use super::{
    cause::{cause, invalid_value},
    list_keys::{map_keys, same_keys},
};

/// One validation of an object. It collects violations.
pub(super) struct Check<'a> {
    patterns: &'a BTreeMap<String, Regex>,
    causes: Vec<StatusCause>,
}

impl<'a> Check<'a> {
    /// A validation with the compiled form of every `pattern` in the schema.
    pub(super) fn new(patterns: &'a BTreeMap<String, Regex>) -> Self {
        Self { patterns, causes: Vec::new() }
    }

    /// The violations of `object`, which replaces `old`.
    pub(super) fn run(mut self, schema: &Value, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
        self.value(schema, object, old, "");
        self.causes
    }

    fn invalid(&mut self, path: &str, value: &Value, problem: &str) {
        self.causes.push(invalid_value(path, value, &format!("{path} in body {problem}")));
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
            let old = match old.and_then(Value::as_array) {
                Some(old) if !keys.is_empty() => old.iter().find(|old| same_keys(&keys, old, item)),
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
                keys => same_keys(keys, other, item),
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

/// The type that `schema` demands, if `value` does not have it.
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
