//! The structural part of a schema, as the API server checks it with strict field validation: types, bounds, patterns,
//! unknown fields.

use crate::names::distance;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A path, and the mistake there.
pub(super) type Wrong = (String, String);

/// What to do about the header of a column that cannot be its name.
const HEADER: &str = "; give the column a `name` of this form, and its header in `header`";

/// Everything in `object` that the schema of its kind refuses. The API server knows the metadata itself.
///
/// `booleans` has other words than `true` and `false` that were read as booleans, by their paths.
pub(super) fn wrong(
    schema: &JSONSchemaProps,
    object: &Value,
    booleans: &BTreeMap<String, String>,
) -> Vec<Wrong> {
    let mut schema = schema.clone();
    let fields = schema.properties.get_or_insert_default();
    for name in ["apiVersion", "kind", "metadata"] {
        let any = JSONSchemaProps { x_kubernetes_preserve_unknown_fields: Some(true), ..Default::default() };
        fields.insert(name.to_owned(), any);
    }
    let mut check = Check { wrong: Vec::new(), booleans };
    check.value(&schema, object, "");
    check.wrong
}

struct Check<'a> {
    wrong: Vec<Wrong>,
    booleans: &'a BTreeMap<String, String>,
}

impl Check<'_> {
    fn say(&mut self, path: &str, message: impl Into<String>) {
        self.wrong.push((path.to_owned(), message.into()));
    }

    fn value(&mut self, schema: &JSONSchemaProps, value: &Value, path: &str) {
        if let Some(allowed) = &schema.enum_
            && !allowed.iter().any(|JSON(one)| one == value)
        {
            let allowed: Vec<_> = allowed.iter().map(|JSON(one)| one.to_string()).collect();
            return self.say(path, format!("{value} is not one of {}", allowed.join(", ")));
        }
        let is_open = schema.x_kubernetes_preserve_unknown_fields == Some(true) && schema.type_.is_none();
        let wanted = match schema.x_kubernetes_int_or_string {
            Some(true) if value.is_i64() || value.is_u64() => Some("integer"),
            // A fraction needs quotes.
            Some(true) => Some("string"),
            _ => schema.type_.as_deref(),
        };
        match (wanted, value) {
            _ if is_open => {}
            (Some("object"), Value::Object(fields)) => self.object(schema, fields, path),
            (Some("array"), Value::Array(items)) => self.array(schema, items, path),
            (Some("string"), Value::String(text)) => self.string(schema, text, path),
            (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.number(schema, number.as_f64(), path);
            }
            (Some("number"), Value::Number(number)) => self.number(schema, number.as_f64(), path),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(wanted), found) => {
                self.say(path, mismatch(wanted, found, self.booleans.get(path).map(String::as_str)));
            }
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, fields: &Map<String, Value>, path: &str) {
        // The API server drops a null in a field that is not nullable.
        let present = || fields.iter().filter(|(_, value)| !value.is_null());
        for name in schema.required.iter().flatten() {
            if !present().any(|(present, _)| present == name) {
                self.say(&below(path, name), "missing");
            }
        }
        if let Some(max) = schema.max_properties
            && present().count() as i64 > max
        {
            self.say(path, format!("has {} entries, more than {max}", present().count()));
        }
        let known = schema.properties.as_ref();
        for (name, value) in present() {
            let path = below(path, name);
            match (known.and_then(|known| known.get(name)), &schema.additional_properties) {
                (Some(field), _) => {
                    let before = self.wrong.len();
                    self.value(field, value, &path);
                    let has_header = known.is_some_and(|known| known.contains_key("header"));
                    if name == "name" && has_header && value.is_string() {
                        let refused = self.wrong.iter_mut().skip(before);
                        refused.for_each(|(_, message)| message.push_str(HEADER));
                    }
                }
                (None, Some(JSONSchemaPropsOrBool::Schema(values))) => self.value(values, value, &path),
                (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                _ if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
                _ => {
                    let names: Vec<&str> =
                        known.iter().flat_map(|known| known.keys().map(String::as_str)).collect();
                    self.say(&path, unknown(name, &names));
                }
            }
        }
    }

    fn array(&mut self, schema: &JSONSchemaProps, items: &[Value], path: &str) {
        let count = items.len() as i64;
        if schema.max_items.is_some_and(|max| count > max) {
            self.say(path, format!("has {count} items, more than {}", schema.max_items.unwrap_or_default()));
        }
        if schema.min_items.is_some_and(|min| count < min) {
            self.say(path, format!("has {count} items, fewer than {}", schema.min_items.unwrap_or_default()));
        }
        let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
        let is_set = schema.x_kubernetes_list_type.as_deref() == Some("set");
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let key: Vec<String> = match is_set {
                true => vec![item.to_string()],
                false => keys.iter().filter_map(|key| Some(item.get(key)?.to_string())).collect(),
            };
            if !key.is_empty() && !seen.insert(key.clone()) {
                self.say(&path, format!("{} is there twice", key.join(", ")));
            }
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                self.value(schema, item, &path);
            }
        }
    }

    fn string(&mut self, schema: &JSONSchemaProps, text: &str, path: &str) {
        let count = text.chars().count() as i64;
        if schema.max_length.is_some_and(|max| count > max) {
            self.say(
                path,
                format!("has {count} characters, more than {}", schema.max_length.unwrap_or_default()),
            );
        }
        if schema.min_length.is_some_and(|min| count < min) {
            self.say(
                path,
                format!("has {count} characters, fewer than {}", schema.min_length.unwrap_or_default()),
            );
        }
        let pattern =
            schema.pattern.as_deref().and_then(|pattern| Some((pattern, Regex::new(pattern).ok()?)));
        if let Some((pattern, regex)) = pattern
            && !regex.is_match(text)
        {
            self.say(path, format!("{text:?} does not match {pattern}"));
        }
    }

    fn number(&mut self, schema: &JSONSchemaProps, number: Option<f64>, path: &str) {
        let Some(number) = number else { return };
        if let Some(min) = schema.minimum.filter(|min| number < *min) {
            self.say(path, format!("{number} is less than {min}"));
        }
        if let Some(max) = schema.maximum.filter(|max| number > *max) {
            self.say(path, format!("{number} is greater than {max}"));
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The message about a value of another type. `word` is how a boolean was written.
fn mismatch(wanted: &str, found: &Value, word: Option<&str>) -> String {
    let type_of = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let read = word.map(|word| format!("{word} is read as the boolean {found}, "));
    let read = read.unwrap_or_else(|| format!("is {type_of}, "));
    let quotes = if wanted == "string" && (found.is_number() || found.is_boolean()) {
        let written = word.map_or_else(|| found.to_string(), str::to_owned);
        format!("; put it in quotes: \"{written}\"")
    } else {
        String::new()
    };
    format!("{read}want type {wanted}{quotes}")
}

/// The message about a field that the kind does not have.
fn unknown(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|field| distance(&field.to_lowercase(), &name.to_lowercase()));
    match nearest {
        Some(field) if distance(&field.to_lowercase(), &name.to_lowercase()) <= name.len() / 3 + 1 => {
            format!("unknown field; did you mean {field}?")
        }
        Some(_) => format!("unknown field; there are {}", known.join(", ")),
        None => "unknown field".to_owned(),
    }
}
