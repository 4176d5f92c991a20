//! Sets of field paths: what a manager owns, and what two states of an object differ in.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Map, Value, json};

use crate::shape::{Part, Shape, Step};

/// A set of paths, as the tree that they make. A path stands for the value there, not for what lies below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Whether the path that leads here is in the set.
    owned: bool,
    /// What lies below; never empty sets.
    below: BTreeMap<Step, Fields>,
}

impl Fields {
    /// What applying `value` owns: its leaves, its list items and the keys of its free maps.
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

    /// Every path from here down through `value`.
    fn all(value: &Value, shape: Shape<'_>) -> Self {
        let parts = shape.parts(value).unwrap_or_default().into_iter();
        let below = parts.map(|part| (part.step, Self::all(part.value, part.shape))).collect();
        Self { owned: true, below }
    }

    fn attach(&mut self, step: Step, below: Fields) {
        if !below.is_empty() {
            self.below.insert(step, below);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.owned && self.below.is_empty()
    }

    /// Whether the path that leads here is in the set.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned
    }

    /// The paths that go on with `step`, if there are any.
    pub(crate) fn below(&self, step: &Step) -> Option<&Fields> {
        self.below.get(step)
    }

    pub(crate) fn extend(&mut self, other: &Fields) {
        self.owned |= other.owned;
        for (step, fields) in &other.below {
            match self.below.get_mut(step) {
                Some(own) => own.extend(fields),
                None => self.attach(step.clone(), fields.clone()),
            }
        }
    }

    pub(crate) fn subtract(&mut self, other: &Fields) {
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

    /// Whether any path is in both sets.
    pub(crate) fn meets(&self, other: &Fields) -> bool {
        (self.owned && other.owned)
            || other.below.iter().any(|(step, fields)| self.below(step).is_some_and(|own| own.meets(fields)))
    }

    pub(crate) fn intersection(&self, other: &Fields) -> Fields {
        let mut common = Self { owned: self.owned && other.owned, ..Self::default() };
        for (step, fields) in &other.below {
            if let Some(own) = self.below(step) {
                common.attach(step.clone(), own.intersection(fields));
            }
        }
        common
    }

    /// Forgets a top-level field and all below it.
    pub(crate) fn forget_root(&mut self, name: &str) {
        self.below.remove(&Step::Field(name.into()));
    }

    /// Forgets what identifies an object or is written by the server: nobody owns that.
    pub(crate) fn forget_unowned(&mut self) {
        for name in ["apiVersion", "kind"] {
            self.forget_root(name);
        }
        let metadata = Step::Field("metadata".into());
        let Some(fields) = self.below.get_mut(&metadata) else { return };
        fields.owned = false;
        for name in UNOWNED_METADATA {
            fields.forget_root(name);
        }
        if fields.is_empty() {
            self.below.remove(&metadata);
        }
    }

    /// Every path, as messages show it: `.spec.containers[name="main"].image`.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        self.show(String::new(), &mut shown);
        shown
    }

    fn show(&self, path: String, shown: &mut Vec<String>) {
        if self.owned {
            shown.push(path.clone());
        }
        for (step, fields) in &self.below {
            let mut path = path.clone();
            show_step(step, &mut path);
            fields.show(path, shown);
        }
    }

    /// Writes it as the `fieldsV1` of a managedFields entry.
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

fn show_step(step: &Step, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = match step {
        Step::Field(field) => write!(text, ".{field}"),
        Step::Member(member) => write!(text, "[={member}]"),
        Step::Key(key) => {
            let key: Value = serde_json::from_str(key).unwrap_or_default();
            let pairs = key.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
            write!(text, "[{}]", pairs.collect::<Vec<_>>().join(","))
        }
    };
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
        if before == after {
            return difference;
        }
        let (Some(old), Some(new)) = (shape.parts(before), shape.parts(after)) else {
            difference.modified = Fields::all(after, shape);
            return difference;
        };
        for Part { step, value, shape, .. } in &old {
            match new.iter().find(|part| part.step == *step) {
                Some(part) => difference.attach(step, Self::between(value, part.value, *shape)),
                None => difference.removed.attach(step.clone(), Fields::all(value, *shape)),
            }
        }
        for Part { step, value, shape, .. } in new {
            if old.iter().all(|part| part.step != step) {
                difference.added.attach(step, Fields::all(value, shape));
            }
        }
        difference
    }

    fn attach(&mut self, step: &Step, below: Difference) {
        self.added.attach(step.clone(), below.added);
        self.removed.attach(step.clone(), below.removed);
        self.modified.attach(step.clone(), below.modified);
    }

    /// Leaves out what nobody owns.
    pub(crate) fn owned(mut self) -> Self {
        for fields in [&mut self.added, &mut self.removed, &mut self.modified] {
            fields.forget_unowned();
        }
        self
    }
}
