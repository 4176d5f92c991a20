//! Label and field selectors.

use serde_json::Value;

use super::status::{self, Result};
use crate::{
    object::{Object, text},
    schema::resource::ResourceType,
};

/// The label and field selectors of a list or a watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

#[derive(Debug, Clone)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    pub(crate) fn parse(ty: &ResourceType, labels: &str, fields: &str) -> Result<Self> {
        let labels = clauses(labels).map(requirement).collect::<Result<_>>()?;
        let fields: Vec<FieldRequirement> = clauses(fields).map(field_requirement).collect::<Result<_>>()?;
        for FieldRequirement { path, .. } in &fields {
            let common = matches!(path.as_str(), "metadata.name" | "metadata.namespace");
            if !common && !ty.selectable.contains(path) {
                return Err(status::bad_request(format!("field label not supported: {path}")));
            }
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object.meta()["labels"];
        self.labels.iter().all(|requirement| requirement.holds(labels))
            && self.fields.iter().all(|requirement| requirement.holds(object))
    }
}

impl Requirement {
    fn holds(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).map(text);
        match self {
            Self::In(key, values) => {
                value(key).is_some_and(|actual| values.iter().any(|value| value == actual))
            }
            Self::NotIn(key, values) => {
                !value(key).is_some_and(|actual| values.iter().any(|value| value == actual))
            }
            Self::Exists(key) => value(key).is_some(),
            Self::DoesNotExist(key) => value(key).is_none(),
        }
    }
}

impl FieldRequirement {
    fn holds(&self, object: &Value) -> bool {
        let value = self.path.split('.').fold(object, |value, name| &value[name]);
        let text = match value {
            Value::String(string) => string.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        (text == self.value) == self.equal
    }
}

/// The clauses of a selector, which commas outside parentheses separate.
fn clauses(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let parts = selector.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|clause| !clause.is_empty())
}

fn requirement(clause: &str) -> Result<Requirement> {
    let malformed = || status::bad_request(format!("unable to parse requirement: {clause}"));
    if let Some((key, values)) = clause.split_once(" notin ") {
        return Ok(Requirement::NotIn(key.trim().into(), set(values).ok_or_else(malformed)?));
    }
    if let Some((key, values)) = clause.split_once(" in ") {
        return Ok(Requirement::In(key.trim().into(), set(values).ok_or_else(malformed)?));
    }
    if let Some((key, value)) = clause.split_once("!=") {
        return Ok(Requirement::NotIn(key.trim().into(), vec![value.trim().into()]));
    }
    if let Some((key, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        return Ok(Requirement::In(key.trim().into(), vec![value.trim().into()]));
    }
    if clause.contains(char::is_whitespace) {
        return Err(malformed());
    }
    Ok(match clause.strip_prefix('!') {
        Some(key) => Requirement::DoesNotExist(key.into()),
        None => Requirement::Exists(clause.into()),
    })
}

fn set(values: &str) -> Option<Vec<String>> {
    let values = values.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(values.split(',').map(|value| value.trim().to_string()).collect())
}

fn field_requirement(clause: &str) -> Result<FieldRequirement> {
    let (path, value, equal) = if let Some((path, value)) = clause.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        (path, value, true)
    } else {
        return Err(status::bad_request(format!(
            "invalid selector: '{clause}'; can't understand '{clause}'"
        )));
    };
    Ok(FieldRequirement { path: path.into(), value: value.into(), equal })
}
