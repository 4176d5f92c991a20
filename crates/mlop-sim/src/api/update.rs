//! Replacement of objects. Updates, patches and applies all end in [`Server::replace`].

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    admission::{admit, check_namespace, check_type, check_version, restore_server_fields},
    delete::can_be_removed,
    server::{Server, key},
    status::{self, Result},
    write::{WriteOptions, Written},
};
use crate::{
    object::{Object, as_object},
    schema::{
        cause::cause,
        resource::{Generation, Model, ResourceType},
        shape::Shape,
        validate,
    },
    storage::{managers::Managers, object_version::ObjectVersion},
};

impl Server {
    /// Replaces the object of this name, as PUT does.
    pub(crate) fn update(
        &mut self,
        ty: &ResourceType,
        namespace: &str,
        name: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        check_type(ty, &object)?;
        check_namespace(ty, namespace, &mut object)?;
        if object.name() != name {
            let message = format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object.name()
            );
            return Err(status::bad_request(message));
        }
        let old = self.find(ty, namespace, name)?;
        if !object.uid().is_empty() && object.uid() != old.uid() {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                object.uid(),
                old.uid()
            );
            return Err(status::conflict(ty, name, &why));
        }
        if object.resource_version().is_empty() && matches!(ty.model, Model::Custom(_)) {
            let message = "Invalid value: 0: must be specified for an update";
            let causes = vec![cause("FieldValueInvalid", "metadata.resourceVersion", message)];
            return Err(status::invalid(ty, name, causes));
        }
        self.replace(ty, &old, object, None, options)
    }

    /// Replaces `old` by `new`, after restoring the fields that this write may not change.
    ///
    /// `managers` are the field managers afterwards; with `None`, the options name the manager of an update.
    pub(crate) fn replace(
        &mut self,
        ty: &ResourceType,
        old: &Arc<ObjectVersion>,
        mut new: Value,
        managers: Option<Managers>,
        options: &WriteOptions,
    ) -> Result<Written> {
        let name = old.name().to_string();
        check_version(ty, old, &new)?;
        as_object(&mut new).entry("metadata").or_insert_with(|| json!({}));
        restore_server_fields(ty, old, &mut new, options.part);
        admit(ty, &mut new, options.strict)?;
        let causes = validate::updated(ty, &new, old);
        if !causes.is_empty() {
            return Err(status::invalid(ty, &name, causes));
        }
        set_generation(ty, old, &mut new);
        let managers = managers.unwrap_or_else(|| {
            let manager = options.field_manager("Update", ty);
            let now = self.clock.now_seconds().to_string();
            old.managers().clone().updated(&manager, old, &new, Shape::of(ty), &now)
        });
        let key = key(ty, old.namespace(), &name);
        let unchanged = same_content(&new, old) && managers.same_fields(old.managers());
        if unchanged && !self.unstored_status.contains(&key) {
            return Ok(Written::object(200, old.clone(), false));
        }
        if options.dry_run {
            return Ok(Written::object(200, Arc::new(ObjectVersion::new(new, managers)), false));
        }
        self.unstored_status.remove(&key);
        if can_be_removed(ty, &new) {
            self.store.remove(&key);
            return Ok(Written::object(200, Arc::new(ObjectVersion::new(new, managers)), true));
        }
        Ok(Written::object(200, self.store.put(&key, new, managers), true))
    }
}

fn set_generation(ty: &ResourceType, old: &Value, new: &mut Value) {
    let increases = match ty.generation {
        Generation::Never => return,
        Generation::Spec => old["spec"] != new["spec"],
        Generation::Everything => {
            let counts = |name: &str| match name {
                "metadata" | "apiVersion" | "kind" => false,
                "status" => !ty.has_status,
                _ => true,
            };
            !fields(old, counts).eq(fields(new, counts))
        }
    };
    let generation = old.generation() + i64::from(increases);
    new.meta_mut().insert("generation".into(), json!(generation));
}

/// Whether two objects are equal apart from their field managers.
fn same_content(a: &Value, b: &Value) -> bool {
    let is_content = |name: &str| name != "metadata";
    a.meta() == b.meta() && fields(a, is_content).eq(fields(b, is_content))
}

/// The fields of an object whose names `filter` accepts.
fn fields(object: &Value, filter: impl Fn(&str) -> bool) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten().filter(move |(name, _)| filter(name))
}
