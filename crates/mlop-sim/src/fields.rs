//! Sets of field paths: what a manager owns, and what two states of an object differ in.

use std::{collections::BTreeSet, fmt::Write};

use serde_json::{Map, Value, json};

use crate::{
    object::{as_object, object_at},
    shape::{Part, Shape, Step},
};

pub(crate) type Path = Vec<Step>;

/// A set of paths. A path stands for the value there, not for what lies below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(BTreeSet<Path>);

impl Fields {
    /// What applying `value` owns: its leaves, its list items and the keys of its free maps.
    pub(crate) fn of(value: &Value, shape: Shape<'_>) -> Self {
        let mut fields = Self::default();
        fields.add_owned(value, shape, &mut Vec::new());
        fields
    }

    fn add_owned(&mut self, value: &Value, shape: Shape<'_>, path: &mut Path) {
        match shape.parts(value) {
            Some(parts) if !parts.is_empty() => {
                for Part { step, value, shape, declared } in parts {
                    path.push(step);
                    if !declared {
                        self.0.insert(path.clone());
                    }
                    self.add_owned(value, shape, path);
                    path.pop();
                }
            }
            _ => {
                self.0.insert(path.clone());
            }
        }
    }

    /// Adds every path from `path` down through `value`.
    fn add_all(&mut self, value: &Value, shape: Shape<'_>, path: &mut Path) {
        self.0.insert(path.clone());
        for Part { step, value, shape, .. } in shape.parts(value).unwrap_or_default() {
            path.push(step);
            self.add_all(value, shape, path);
            path.pop();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter()
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.0.contains(path)
    }

    /// Whether it has `path` or anything below it.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        self.0.range(path.clone()..).next().is_some_and(|first| first.starts_with(path))
    }

    pub(crate) fn extend(&mut self, other: &Fields) {
        self.0.extend(other.0.iter().cloned());
    }

    pub(crate) fn subtract(&mut self, other: &Fields) {
        self.0.retain(|path| !other.0.contains(path));
    }

    /// Forgets the paths for which `drop` holds.
    pub(crate) fn drop(&mut self, drop: impl Fn(&[Step]) -> bool) {
        self.0.retain(|path| !drop(path));
    }

    pub(crate) fn intersection(&self, other: &Fields) -> Fields {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Reads the `fieldsV1` of a managedFields entry.
    pub(crate) fn decode(fields: &Value) -> Self {
        let mut set = Self::default();
        set.decode_into(fields, &mut Vec::new());
        set
    }

    fn decode_into(&mut self, fields: &Value, path: &mut Path) {
        let Some(map) = fields.as_object() else { return };
        if !path.is_empty() && (map.is_empty() || map.contains_key(".")) {
            self.0.insert(path.clone());
        }
        for (name, fields) in map {
            let step = match name.split_once(':') {
                Some(("f", field)) => Step::Field(field.into()),
                Some(("k", key)) => Step::Key(key.into()),
                Some(("v", member)) => Step::Member(member.into()),
                _ => continue,
            };
            path.push(step);
            self.decode_into(fields, path);
            path.pop();
        }
    }

    /// Writes it as the `fieldsV1` of a managedFields entry.
    pub(crate) fn encode(&self) -> Value {
        let mut root = json!({});
        for path in &self.0 {
            let mut map: &mut Map<String, Value> = as_object(&mut root);
            for step in path {
                map = object_at(map, &encoded(step));
            }
            if self.0.range(path.clone()..).nth(1).is_some_and(|next| next.starts_with(path)) {
                map.insert(".".into(), json!({}));
            }
        }
        root
    }
}

fn encoded(step: &Step) -> String {
    match step {
        Step::Field(field) => format!("f:{field}"),
        Step::Key(key) => format!("k:{key}"),
        Step::Member(member) => format!("v:{member}"),
    }
}

/// A path as messages show it: `.spec.containers[name="main"].image`.
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for step in path {
        // Writing to a string cannot fail.
        let _ = match step {
            Step::Field(field) => write!(text, ".{field}"),
            Step::Member(member) => write!(text, "[={member}]"),
            Step::Key(key) => {
                let key: Value = serde_json::from_str(key).unwrap_or_default();
                let pairs: Vec<String> = key
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(text, "[{}]", pairs.join(","))
            }
        };
    }
    text
}

/// What makes `after` of `before`.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) added: Fields,
    pub(crate) removed: Fields,
    pub(crate) modified: Fields,
}

impl Difference {
    pub(crate) fn between(before: &Value, after: &Value, shape: Shape<'_>) -> Self {
        let mut difference = Self::default();
        difference.compare(before, after, shape, &mut Vec::new());
        difference
    }

    fn compare(&mut self, before: &Value, after: &Value, shape: Shape<'_>, path: &mut Path) {
        if before == after {
            return;
        }
        let (Some(old), Some(new)) = (shape.parts(before), shape.parts(after)) else {
            self.modified.add_all(after, shape, path);
            return;
        };
        for Part { step, value, shape, .. } in &old {
            path.push(step.clone());
            match new.iter().find(|part| part.step == *step) {
                Some(part) => self.compare(value, part.value, *shape, path),
                None => self.removed.add_all(value, *shape, path),
            }
            path.pop();
        }
        for Part { step, value, shape, .. } in &new {
            if old.iter().all(|part| part.step != *step) {
                path.push(step.clone());
                self.added.add_all(value, *shape, path);
                path.pop();
            }
        }
    }
}
