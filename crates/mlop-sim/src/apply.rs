//! Server-side apply: who owns which field, and what becomes of an object when a manager states its intent anew.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    fields::{Difference, Fields},
    object::Object,
    shape::{Part, Shape, Step},
    status::{self, cause},
};

/// Who writes, and how. Two operations of one name are two managers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    /// `Apply` or `Update`.
    pub(crate) operation: String,
    pub(crate) name: String,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    fields: Arc<Fields>,
    time: String,
}

/// The managers of an object: its `metadata.managedFields`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Managers(BTreeMap<Manager, Owned>);

impl Managers {
    /// Adds `metadata.managedFields`.
    pub(crate) fn write_to(&self, object: &mut Value) {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|(manager, owned)| (manager.operation.clone(), owned.time.clone()));
        let entries: Vec<Value> = entries.into_iter().map(|(manager, owned)| entry(manager, owned)).collect();
        if !entries.is_empty() {
            object.meta_mut().insert("managedFields".into(), json!(entries));
        }
    }

    /// Whether both give every manager the same fields, whenever that was.
    pub(crate) fn same_fields(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0 && a.1.fields == b.1.fields)
    }

    /// The managers after `who` wrote `after` over `before`: it takes what it changed from all others.
    pub(crate) fn updated(
        mut self,
        who: &Manager,
        before: &Value,
        after: &Value,
        shape: Shape<'_>,
        now: &str,
    ) -> Self {
        let difference = Difference::between(before, after, shape).owned();
        for owned in self.0.values_mut() {
            owned.lose(&difference.added);
            owned.lose(&difference.modified);
            owned.lose(&difference.removed);
        }
        let mut taken = difference.added;
        taken.extend(&difference.modified);
        if !taken.is_empty() {
            let owned = self.0.entry(who.clone()).or_insert_with(Owned::nothing);
            Arc::make_mut(&mut owned.fields).extend(&taken);
            owned.time = now.into();
        }
        self.0.retain(|_, owned| !owned.fields.is_empty());
        self
    }
}

impl Owned {
    fn nothing() -> Self {
        Self { fields: Arc::default(), time: String::new() }
    }

    fn lose(&mut self, fields: &Fields) {
        if self.fields.meets(fields) {
            Arc::make_mut(&mut self.fields).subtract(fields);
        }
    }
}

fn entry(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": manager.name, "operation": manager.operation, "apiVersion": manager.api_version,
        "time": owned.time, "fieldsType": "FieldsV1", "fieldsV1": owned.fields.encode(),
    });
    if !manager.subresource.is_empty() {
        entry["subresource"] = json!(manager.subresource);
    }
    entry
}

/// One apply: `who` says what it wants of an object.
pub(crate) struct Apply<'a> {
    pub(crate) who: &'a Manager,
    pub(crate) intent: &'a Value,
    pub(crate) shape: Shape<'a>,
    /// Whether to take fields from other managers that hold other values.
    pub(crate) force: bool,
    /// Top-level fields that this request cannot write.
    pub(crate) ignored: &'a [&'a str],
    pub(crate) now: &'a str,
}

impl Apply<'_> {
    /// The object that `live` with these managers becomes, and its managers then; 409 when others own what would
    /// change.
    pub(crate) fn to(&self, live: &Value, managers: &Managers) -> status::Result<(Value, Managers)> {
        let mut managers = managers.clone();
        let last = managers.0.remove(self.who).unwrap_or_else(Owned::nothing);
        let mut intended = Fields::of(self.intent, self.shape);
        let merged = merge(live, self.intent, self.shape);
        let mut kept = intended.clone();
        managers.0.values().for_each(|owned| kept.extend(&owned.fields));
        let merged = without(&merged, self.shape, Some(&last.fields), Some(&kept));

        let mut difference = Difference::between(live, &merged, self.shape).owned();
        intended.forget_unowned();
        for root in self.ignored {
            intended.forget_root(root);
            for fields in [&mut difference.added, &mut difference.modified, &mut difference.removed] {
                fields.forget_root(root);
            }
        }
        let mut changed = difference.modified;
        changed.extend(&difference.added);
        self.take(&mut managers, &changed)?;
        managers.0.values_mut().for_each(|owned| owned.lose(&difference.removed));

        let same = intended == *last.fields && merged == *live;
        let time = if same { last.time } else { self.now.to_string() };
        managers.0.insert(self.who.clone(), Owned { fields: intended.into(), time });
        managers.0.retain(|_, owned| !owned.fields.is_empty());
        Ok((merged, managers))
    }

    /// Takes the changed fields from the other managers, or fails if that is not forced.
    fn take(&self, managers: &mut Managers, changed: &Fields) -> status::Result<()> {
        let conflicts: Vec<(&Manager, Fields)> = managers
            .0
            .iter()
            .map(|(manager, owned)| (manager, owned.fields.intersection(changed)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        if !conflicts.is_empty() && !self.force {
            return Err(conflict(&conflicts));
        }
        managers.0.values_mut().for_each(|owned| owned.lose(changed));
        Ok(())
    }
}

fn conflict(conflicts: &[(&Manager, Fields)]) -> Box<kube::core::Status> {
    let mut causes = Vec::new();
    let mut groups = Vec::new();
    for (manager, fields) in conflicts {
        let subresource = match manager.subresource.as_str() {
            "" => String::new(),
            name => format!(" with subresource \"{name}\""),
        };
        let mut with = format!("\"{}\"{subresource}", manager.name);
        if manager.operation == "Update" {
            with = format!("{with} using {}", manager.api_version);
        }
        let paths = fields.shown();
        causes.extend(
            paths.iter().map(|path| cause("FieldManagerConflict", path, format!("conflict with {with}"))),
        );
        groups.push(match paths.as_slice() {
            [one] => format!("conflict with {with}: {one}"),
            many => format!("conflicts with {with}:\n- {}", many.join("\n- ")),
        });
    }
    let plural = if causes.len() == 1 { "" } else { "s" };
    let message = format!("Apply failed with {} conflict{plural}: {}", causes.len(), groups.join("\n"));
    status::apply_conflict(message, causes)
}

/// `live` with everything that `intent` says.
fn merge(live: &Value, intent: &Value, shape: Shape<'_>) -> Value {
    let (Some(old), Some(new)) = (shape.parts(live), shape.parts(intent)) else { return intent.clone() };
    let merged_with = |part: &Part<'_, '_>| match old.iter().find(|old| old.step == part.step) {
        Some(old) => merge(old.value, part.value, part.shape),
        None => part.value.clone(),
    };
    if live.is_object() {
        let kept = old.iter().filter(|old| new.iter().all(|new| new.step != old.step));
        let kept = kept.map(|part| (&part.step, part.value.clone()));
        let fields = kept.chain(new.iter().map(|part| (&part.step, merged_with(part))));
        return fields
            .filter_map(|(step, value)| match step {
                Step::Field(name) => Some((name.clone(), value)),
                Step::Key(_) | Step::Member(_) => None,
            })
            .collect();
    }
    // Items keep the order of the intent; what only the live list has stays before the next common item.
    let mut merged = Vec::new();
    let mut taken = 0;
    for part in &old {
        match new.iter().position(|new| new.step == part.step) {
            None => merged.push(part.value.clone()),
            Some(at) if at >= taken => {
                merged.extend(new.iter().take(at + 1).skip(taken).map(merged_with));
                taken = at + 1;
            }
            Some(_) => {}
        }
    }
    merged.extend(new.iter().skip(taken).map(merged_with));
    Value::Array(merged)
}

/// `value` without what was owned in `last` and nobody keeps.
fn without(value: &Value, shape: Shape<'_>, last: Option<&Fields>, kept: Option<&Fields>) -> Value {
    let Some(parts) = shape.parts(value).filter(|_| last.is_some()) else { return value.clone() };
    let mut remaining = Vec::new();
    for part in parts {
        let last = last.and_then(|last| last.below(&part.step));
        let kept = kept.and_then(|kept| kept.below(&part.step));
        let owned = last.is_some_and(|last| last.is_owned() || part.declared);
        if !owned || kept.is_some() {
            remaining.push((part.step, without(part.value, part.shape, last, kept)));
        }
    }
    if value.is_array() {
        return remaining.into_iter().map(|(_, item)| item).collect();
    }
    remaining
        .into_iter()
        .filter_map(|(step, value)| match step {
            Step::Field(name) => Some((name, value)),
            Step::Key(_) | Step::Member(_) => None,
        })
        .collect()
}
