//! Validation of a value against its OpenAPI schema.

use kube::core::response::StatusCause;
use serde_json::{Map, Value};

use super::{
    cause::{cause, child, invalid_value},
    list_keys::same_keys,
    node::{List, Node, Range},
};

/// One validation of an object. It collects violations.
#[derive(Default)]
pub(super) struct Check {
    causes: Vec<StatusCause>,
}

impl Check {
    /// The violations of `object`, which replaces `old`.
    pub(super) fn run(mut self, node: &Node, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
        self.value(node, object, old, "");
        self.causes
    }

    fn invalid(&mut self, path: &str, value: &Value, problem: &str) {
        self.causes.push(invalid_value(path, value, &format!("{path} in body {problem}")));
    }

    fn value(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) || (value.is_null() && node.nullable) {
            return;
        }
        if let Some(wanted) = type_mismatch(node, value) {
            let shown =
                if value.is_object() || value.is_array() { type_of(value).into() } else { value.to_string() };
            let got = type_of(value);
            let message =
                format!("Invalid value: {shown}: {path} in body must be of type {wanted}: \"{got}\"");
            self.causes.push(cause("FieldValueTypeInvalid", path, message));
            return;
        }
        self.enumeration(node, value, path);
        match value {
            Value::String(text) => self.string(node, text, path),
            Value::Number(number) => self.number(node, number.as_f64().unwrap_or_default(), value, path),
            Value::Array(items) => self.array(node, items, old, path),
            Value::Object(map) => self.object(node, map, old, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn enumeration(&mut self, node: &Node, value: &Value, path: &str) {
        let allowed = &node.bounds.allowed;
        if !allowed.is_empty() && !allowed.contains(value) {
            let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
            let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
            self.causes.push(cause("FieldValueNotSupported", path, message));
        }
    }

    fn string(&mut self, node: &Node, text: &str, path: &str) {
        let Range { min, max } = node.bounds.length;
        let length = text.chars().count() as u64;
        if let Some(max) = max.filter(|max| length > *max) {
            let message = format!("Too long: may not be more than {max} bytes");
            self.causes.push(cause("FieldValueTooLong", path, message));
        }
        if let Some(min) = min.filter(|min| length < *min) {
            self.invalid(path, &Value::from(text), &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = node.bounds.pattern.as_ref().filter(|regex| !regex.is_match(text)) {
            self.invalid(path, &Value::from(text), &format!("should match '{pattern}'"));
        }
    }

    fn number(&mut self, node: &Node, number: f64, value: &Value, path: &str) {
        let bounds = &node.bounds;
        if let Some(max) = bounds.number.max {
            if bounds.excludes_max && number >= max {
                self.invalid(path, value, &format!("should be less than {max}"));
            } else if number > max {
                self.invalid(path, value, &format!("should be less than or equal to {max}"));
            }
        }
        if let Some(min) = bounds.number.min {
            if bounds.excludes_min && number <= min {
                self.invalid(path, value, &format!("should be greater than {min}"));
            } else if number < min {
                self.invalid(path, value, &format!("should be greater than or equal to {min}"));
            }
        }
    }

    fn array(&mut self, node: &Node, items: &[Value], old: Option<&Value>, path: &str) {
        self.count(node.bounds.items, "items", items.len() as u64, path);
        let keys = node.list.keys();
        self.duplicates(node, &keys, items, path);
        for (index, item) in items.iter().enumerate() {
            let old = match old.and_then(Value::as_array) {
                Some(old) if !keys.is_empty() => old.iter().find(|old| same_keys(&keys, old, item)),
                _ => None,
            };
            self.value(node.items(), item, old, &format!("{path}[{index}]"));
        }
    }

    fn duplicates(&mut self, node: &Node, keys: &[&str], items: &[Value], path: &str) {
        if keys.is_empty() && node.list != List::Set {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            let same = |other: &Value| match keys {
                [] => other == item,
                keys => same_keys(keys, other, item),
            };
            if items.iter().take(index).any(same) {
                let shown = match keys {
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

    fn object(&mut self, node: &Node, map: &Map<String, Value>, old: Option<&Value>, path: &str) {
        self.count(node.bounds.properties, "properties", map.len() as u64, path);
        for name in &node.bounds.required {
            if !map.contains_key(name) {
                self.causes.push(cause("FieldValueRequired", &child(path, name), "Required value"));
            }
        }
        for (name, value) in map {
            if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let old = old.and_then(|old| old.get(name));
            self.value(node.field(name).0, value, old, &child(path, name));
        }
    }

    fn count(&mut self, range: Range<u64>, what: &str, count: u64, path: &str) {
        if let Some(max) = range.max.filter(|max| count > *max) {
            let message = format!("Too many: {count}: must have at most {max} items");
            self.causes.push(cause("FieldValueTooMany", path, message));
        }
        if let Some(min) = range.min.filter(|min| count < *min) {
            self.invalid(path, &Value::from(count), &format!("should have at least {min} {what}"));
        }
    }
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

/// The type that `node` demands, if `value` does not have it.
fn type_mismatch<'a>(node: &'a Node, value: &Value) -> Option<&'a str> {
    if node.bounds.int_or_string {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then_some("integer,string");
    }
    let wanted = node.bounds.kind.as_deref()?;
    let got = type_of(value);
    let fits = wanted == got || (wanted == "number" && got == "integer");
    (!fits).then_some(wanted)
}
