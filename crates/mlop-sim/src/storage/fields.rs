//! Sets of field paths: the fields that a manager owns, and the difference of two objects.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Map, Value, json};

use crate::schema::shape::{Part, Shape, Step};

/// A set of field paths, as a tree. A path in the set does not imply the paths below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the path to this node is in the set.
    owned: bool,
    /// The nodes below this one. None of them is empty.
    below: BTreeMap<Step, FieldSet>,
}

impl FieldSet {
    /// The fields that an apply of `value` owns: its leaves, its list items and the keys of its free maps.
    pub(crate) fn of(value: &Value, shape: Shape<'_>) -> Self {
        let parts = shape.parts(value).unwrap_or_default();
        let mut fields = Self { owned: parts.is_empty(), ..Self::default() };
        for Part { step, value, shape, declared } in parts {
            let mut below = Self::of(value, shape);
            below.owned |= !declared;
            fields.attach(step, below);
        }
        fields
    }

    /// The path of `value` and every path below it.
    fn all(value: &Value, shape: Shape<'_>) -> Self {
        let parts = shape.parts(value).unwrap_or_default().into_iter();
        let below = parts.map(|part| (part.step, Self::all(part.value, part.shape))).collect();
        Self { owned: true, below }
    }

    fn attach(&mut self, step: Step, below: FieldSet) {
        if !below.is_empty() {
            self.below.insert(step, below);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.owned && self.below.is_empty()
    }

    /// Whether the path to this node is in the set.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned
    }

    /// The paths that continue with `step`, if any.
    pub(crate) fn below(&self, step: &Step) -> Option<&FieldSet> {
        self.below.get(step)
    }

    pub(crate) fn extend(&mut self, other: &FieldSet) {
        self.owned |= other.owned;
        for (step, fields) in &other.below {
            match self.below.get_mut(step) {
                Some(own) => own.extend(fields),
                None => self.attach(step.clone(), fields.clone()),
            }
        }
    }

    pub(crate) fn subtract(&mut self, other: &FieldSet) {
        self.owned &= !other.owned;
        for (step, fields) in &other.below {
            if let Some(own) = self.below.get_mut(step) {
                own.subtract(fields);
                if own.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    /// Whether a path is in both sets.
    pub(crate) fn overlaps(&self, other: &FieldSet) -> bool {
        (self.owned && other.owned)
            || other
                .below
                .iter()
                .any(|(step, fields)| self.below(step).is_some_and(|own| own.overlaps(fields)))
    }

    pub(crate) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut common = Self { owned: self.owned && other.owned, ..Self::default() };
        for (step, fields) in &other.below {
            if let Some(own) = self.below(step) {
                common.attach(step.clone(), own.intersection(fields));
            }
        }
        common
    }

    /// Removes a top-level field and all paths below it.
    pub(crate) fn remove_root(&mut self, name: &str) {
        self.below.remove(&Step::Field(name.into()));
    }

    /// Removes the fields that no manager owns: the identity of an object, and metadata that the server writes.
    pub(crate) fn remove_unowned(&mut self) {
        for name in ["apiVersion", "kind"] {
            self.remove_root(name);
        }
        let metadata = Step::Field("metadata".into());
        let Some(fields) = self.below.get_mut(&metadata) else { return };
        fields.owned = false;
        for name in UNOWNED_METADATA {
            fields.remove_root(name);
        }
        if fields.is_empty() {
            self.below.remove(&metadata);
        }
    }

    /// Every path in the notation of messages: `.spec.containers[name="main"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, path: String, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(path.clone());
        }
        for (step, fields) in &self.below {
            let mut path = path.clone();
            append_step(step, &mut path);
            fields.collect_paths(path, paths);
        }
    }

    /// The set as the `fieldsV1` of a `managedFields` entry.
    pub(crate) fn encode(&self) -> Value {
        let mut map: Map<String, Value> =
            self.below.iter().map(|(step, fields)| (encoded(step), fields.encode())).collect();
        if self.owned && !map.is_empty() {
            map.insert(".".into(), json!({}));
        }
        Value::Object(map)
    }
}

const UNOWNED_METADATA: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

fn encoded(step: &Step) -> String {
    match step {
        Step::Field(field) => format!("f:{field}"),
        Step::Key(key) => format!("k:{key}"),
        Step::Member(member) => format!("v:{member}"),
    }
}

fn append_step(step: &Step, path: &mut String) {
    // Writing to a string cannot fail.
    let _ = match step {
        Step::Field(field) => write!(path, ".{field}"),
        Step::Member(member) => write!(path, "[={member}]"),
        Step::Key(key) => {
            let key: Value = serde_json::from_str(key).unwrap_or_default();
            let pairs = key.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
            write!(path, "[{}]", pairs.collect::<Vec<_>>().join(","))
        }
    };
}

/// The difference of two objects.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) added: FieldSet,
    pub(crate) removed: FieldSet,
    pub(crate) modified: FieldSet,
}

impl Difference {
    pub(crate) fn between(before: &Value, after: &Value, shape: Shape<'_>) -> Self {
        let mut difference = Self::default();
        if before == after {
            return difference;
        }
        let (Some(old), Some(new)) = (shape.parts(before), shape.parts(after)) else {
            difference.modified = FieldSet::all(after, shape);
            return difference;
        };
        for Part { step, value, shape, .. } in &old {
            match new.iter().find(|part| part.step == *step) {
                Some(part) => difference.attach(step, Self::between(value, part.value, *shape)),
                None => difference.removed.attach(step.clone(), FieldSet::all(value, *shape)),
            }
        }
        for Part { step, value, shape, .. } in new {
            if old.iter().all(|part| part.step != step) {
                difference.added.attach(step, FieldSet::all(value, shape));
            }
        }
        difference
    }

    fn attach(&mut self, step: &Step, below: Difference) {
        self.added.attach(step.clone(), below.added);
        self.removed.attach(step.clone(), below.removed);
        self.modified.attach(step.clone(), below.modified);
    }

    /// The difference without the fields that no manager owns.
    pub(crate) fn without_unowned(mut self) -> Self {
        for fields in [&mut self.added, &mut self.removed, &mut self.modified] {
            fields.remove_unowned();
        }
        self
    }
}
