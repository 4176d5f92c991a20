//! Server-side apply: a manager states the fields that it wants, and the server merges them into the object.

use std::sync::Arc;

use kube::core::response::Status;
use serde_json::{Value, json};

use super::{
    admission::{check_fields, check_namespace, check_type},
    server::{Server, key},
    status::{self, Result},
    write::{Body, Part, WriteOptions, Written},
};
use crate::{
    object::Object,
    schema::{
        cause::cause,
        resource::ResourceType,
        shape::{self, Shape, Step},
    },
    storage::{
        fields::{Difference, FieldSet},
        managers::{Manager, Managers, Owned},
        object_version::ObjectVersion,
    },
};

impl Server {
    /// Applies `intent`, as a PATCH with the content type of server-side apply does.
    pub(crate) fn apply(
        &mut self,
        ty: &Arc<ResourceType>,
        namespace: &str,
        name: &str,
        mut intent: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        check_type(ty, &intent)?;
        if intent.meta()["managedFields"].as_array().is_some_and(|entries| !entries.is_empty()) {
            return Err(status::bad_request("metadata.managedFields must be nil"));
        }
        check_fields(ty, name, &intent)?;
        let old = match self.find(ty, namespace, name) {
            Ok(old) => old,
            Err(missing) if options.part == Part::Status => return Err(missing),
            Err(_) => return self.apply_new(ty, namespace, name, intent, options),
        };
        intent.meta_mut().insert("name".into(), json!(name));
        check_namespace(ty, namespace, &mut intent)?;
        let apply = Apply {
            manager: &options.field_manager("Apply", ty),
            intent: &intent,
            shape: Shape::of(ty),
            force: options.force,
            ignored: match options.part {
                Part::Main if ty.has_status => &["status"],
                Part::Status => &["spec", "metadata"],
                Part::Main | Part::Whole => &[],
            },
            now: &self.clock.now_seconds().to_string(),
        };
        let (object, managers) = apply.to(&old, old.managers())?;
        self.replace(ty, &old, object, Some(managers), options)
    }

    /// Creates the object that `intent` describes.
    fn apply_new(
        &mut self,
        ty: &Arc<ResourceType>,
        namespace: &str,
        name: &str,
        mut intent: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        if !intent.uid().is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                intent.uid()
            );
            return Err(status::conflict(ty, name, &why));
        }
        intent.meta_mut().insert("name".into(), json!(name));
        let apply = Apply {
            manager: &options.field_manager("Apply", ty),
            intent: &intent,
            shape: Shape::of(ty),
            force: true,
            ignored: if ty.has_status { &["status"] } else { &[] },
            now: &self.clock.now_seconds().to_string(),
        };
        let (_, managers) = apply.to(&json!({"metadata": {}}), &Managers::default())?;
        let dry_run = WriteOptions { dry_run: true, ..options.clone() };
        let Written { body: Body::Object(object), .. } =
            self.create(ty, namespace, intent.clone(), &dry_run)?
        else {
            return Err(status::internal("a creation returns an object"));
        };
        let object = Value::clone(&object);
        if options.dry_run {
            return Ok(Written::object(201, Arc::new(ObjectVersion::new(object, managers)), false));
        }
        Ok(self.put_new(ty, &key(ty, namespace, name), object, managers))
    }
}

/// One apply by one manager.
struct Apply<'a> {
    manager: &'a Manager,
    intent: &'a Value,
    shape: Shape<'a>,
    /// Whether to take fields from managers that own them with other values.
    force: bool,
    /// Top-level fields that this request cannot write.
    ignored: &'a [&'a str],
    now: &'a str,
}

impl Apply<'_> {
    /// Merges the intent into `live`, and returns the object and its managers afterwards. Fails with 409 if another
    /// manager owns a field that would change.
    fn to(&self, live: &Value, managers: &Managers) -> Result<(Value, Managers)> {
        let mut managers = managers.clone();
        let last = managers.remove(self.manager);
        let mut intended = FieldSet::of(self.intent, self.shape);
        let merged = merge(live, self.intent, self.shape);
        let mut kept = intended.clone();
        managers.fields().for_each(|fields| kept.extend(fields));
        let merged = without(&merged, self.shape, Some(&last.fields), Some(&kept));

        let mut difference = Difference::between(live, &merged, self.shape).without_unowned();
        intended.remove_unowned();
        for root in self.ignored {
            intended.remove_root(root);
            for fields in [&mut difference.added, &mut difference.modified, &mut difference.removed] {
                fields.remove_root(root);
            }
        }
        let mut changed = difference.modified;
        changed.extend(&difference.added);
        self.check_conflicts(&managers, &changed)?;
        managers.release(&changed);
        managers.release(&difference.removed);

        let unchanged = intended == *last.fields && merged == *live;
        let time = if unchanged { last.time } else { self.now.to_string() };
        managers.set(self.manager, Owned { fields: intended.into(), time });
        Ok((merged, managers))
    }

    fn check_conflicts(&self, managers: &Managers, changed: &FieldSet) -> Result<()> {
        let conflicts = managers.owners_of(changed);
        if conflicts.is_empty() || self.force { Ok(()) } else { Err(conflict(&conflicts)) }
    }
}

fn conflict(conflicts: &[(&Manager, FieldSet)]) -> Box<Status> {
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
        let paths = fields.paths();
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

/// `live` with the fields of `intent`.
fn merge(live: &Value, intent: &Value, shape: Shape<'_>) -> Value {
    let (Some(old), Some(new)) = (shape.parts(live), shape.parts(intent)) else { return intent.clone() };
    let merged_with = |part: &shape::Part<'_, '_>| match old.iter().find(|old| old.step == part.step) {
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
    // Items keep the order of the intent. An item of the live list alone stays before the next common item.
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

/// `value` without the fields that `last` owned and that are not in `kept`.
fn without(value: &Value, shape: Shape<'_>, last: Option<&FieldSet>, kept: Option<&FieldSet>) -> Value {
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
