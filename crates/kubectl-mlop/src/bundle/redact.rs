//! Fields of objects that may hold secrets.

use mlop_api::labels;
use regex::Regex;
use serde_json::{Map, Value};
use std::{collections::BTreeSet, sync::LazyLock};

/// In place of a value.
pub(super) const REMOVED: &str = "<removed>";

/// Annotations whose values are requests of users, or digests. Others hold copies of whole objects, or anything.
const ANNOTATIONS: [&str; 7] = [
    labels::RETRY_REQUESTED_AT,
    labels::CANCEL_REQUESTED_AT,
    labels::PROMOTE_REQUESTED_AT,
    labels::REFRESH_REQUESTED_AT,
    labels::RUN_REQUESTED_AT,
    labels::MADE_FOR,
    labels::TEMPLATE,
];

/// Variables that mlop sets itself, and the beginnings of their names; the values are paths, numbers and digests.
const OWN_VARIABLES: [&str; 3] = ["HOME", "USER", "LOGNAME"];
const OWN_PREFIXES: [&str; 2] = ["MLOP_", "MLSERVER_"];

/// Fields whose texts are no secrets, wherever else they are.
const PUBLIC: [&str; 4] = ["name", "namespace", "image", "digest"];

/// Names of options whose values are secret.
static SECRET_OPTION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("(?i)(pass|pwd|secret|token|key|cred|auth)").ok());

/// How a field hides its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// A list of objects with a name and a value.
    Named,
    /// A list of words.
    Words,
    /// An object whose values are removed.
    Values,
    Annotations,
}

fn field(name: &str) -> Option<Field> {
    match name {
        "env" | "httpHeaders" => Some(Field::Named),
        "command" | "args" => Some(Field::Words),
        "code" | "hyperparameters" | "volumeAttributes" | "data" | "stringData" => Some(Field::Values),
        "annotations" => Some(Field::Annotations),
        _ => None,
    }
}

/// The object without managed fields, and with [`REMOVED`] in place of what may be secret.
pub(super) fn object(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(object).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "managedFields");
            let shown = |(name, value): (&String, &Value)| {
                let value = match (field(name), value) {
                    (Some(Field::Named), Value::Array(items)) => items.iter().map(without_value).collect(),
                    (Some(Field::Words), Value::Array(words)) => words.iter().map(|_| REMOVED).collect(),
                    (Some(Field::Values), Value::Object(values)) => without_values(values, |_| true),
                    (Some(Field::Annotations), Value::Object(values)) => {
                        without_values(values, |name| !ANNOTATIONS.contains(&name))
                    }
                    (_, other) => object(other),
                };
                (name.clone(), value)
            };
            Value::Object(kept.map(shown).collect())
        }
        other => other.clone(),
    }
}

fn without_value(item: &Value) -> Value {
    let mut item = object(item);
    if let Some(value) = item.get_mut("value") {
        *value = REMOVED.into();
    }
    item
}

fn without_values(values: &Map<String, Value>, is_removed: impl Fn(&str) -> bool) -> Value {
    let shown = |(name, value): (&String, &Value)| {
        (name.clone(), if is_removed(name) { REMOVED.into() } else { value.clone() })
    };
    Value::Object(values.iter().map(shown).collect())
}

/// The removed texts that may be printed elsewhere: values of variables, hyperparameters, headers and secret options, and
/// passwords of URLs.
pub(super) fn removed<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut found = Found::default();
    objects.into_iter().for_each(|object| found.collect(object));
    found.removed.difference(&found.public).cloned().collect()
}

#[derive(Default)]
struct Found {
    removed: BTreeSet<String>,
    public: BTreeSet<String>,
}

impl Found {
    fn collect(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| self.collect_field(name, value)),
            Value::String(text) => self.removed.extend(password(text)),
            _ => {}
        }
    }

    fn collect_field(&mut self, name: &str, value: &Value) {
        match (field(name), value) {
            (Some(Field::Named), Value::Array(items)) => {
                self.removed.extend(items.iter().filter_map(variable))
            }
            (Some(Field::Words), Value::Array(words)) => self.removed.extend(options(words)),
            (Some(Field::Values), Value::Object(values)) if name != "code" => {
                self.removed.extend(values.values().filter_map(Value::as_str).map(str::to_owned));
            }
            // The same object again, as it was applied, or the task of a pod.
            (Some(Field::Annotations), Value::Object(values)) => {
                let texts = values.values().filter_map(Value::as_str);
                let copies = texts.filter_map(|text| serde_json::from_str::<Value>(text).ok());
                copies.for_each(|copy| self.collect(&copy));
            }
            (None, Value::String(text)) if PUBLIC.contains(&name) => drop(self.public.insert(text.clone())),
            (_, other) => self.collect(other),
        }
    }
}

fn variable(item: &Value) -> Option<String> {
    let name = item.get("name")?.as_str()?;
    let is_own = OWN_VARIABLES.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let value = item.get("value")?.as_str()?;
    (!is_own).then(|| value.to_owned())
}

/// The values of secret options: `--token=value`, `TOKEN=value`, and the word after `--token`.
fn options(words: &[Value]) -> Vec<String> {
    let is_secret = |name: &str| SECRET_OPTION.as_ref().is_none_or(|secret| secret.is_match(name));
    let mut found = Vec::new();
    let mut before = "";
    for word in words.iter().filter_map(Value::as_str) {
        match word.split_once('=') {
            Some((name, value)) if is_secret(name) => found.push(value.to_owned()),
            None if before.starts_with('-') && is_secret(before) => found.push(word.to_owned()),
            _ => {}
        }
        before = word;
    }
    found
}

/// The password of `scheme://user:password@host`.
fn password(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let (_, password) = authority.rsplit_once('@')?.0.split_once(':')?;
    Some(password.to_owned())
}
