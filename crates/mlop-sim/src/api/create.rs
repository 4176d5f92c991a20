//! Creation of objects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    admission::{admit, check_namespace, check_type},
    server::{Server, key},
    status::{self, Result},
    write::{Part, WriteOptions, Written},
};
use crate::{
    object::{Object, as_object, text},
    schema::{
        cause::cause,
        resource::{Generation, Model, ResourceType},
        shape::Shape,
        validate,
    },
    storage::{managers::Managers, object_version::ObjectVersion, store::Key},
};

/// Metadata that a client cannot set on a new object.
const SERVER_METADATA: &[&str] =
    &["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink", "generation"];

impl Server {
    pub(crate) fn create(
        &mut self,
        ty: &Arc<ResourceType>,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        check_type(ty, &object)?;
        check_namespace(ty, namespace, &mut object)?;
        if !object.resource_version().is_empty() {
            return Err(status::internal("resourceVersion should not be set on objects to be created"));
        }
        self.generate_name(&mut object);
        let name = object.name().to_string();
        self.check_namespace_is_active(ty, namespace, &name)?;
        self.stamp_new(ty, &mut object);
        let drops_status = ty.has_status && options.part != Part::Whole;
        if drops_status {
            as_object(&mut object).remove("status");
        }
        admit(ty, &mut object, options.strict)?;
        let causes = validate::created(ty, &object);
        if !causes.is_empty() {
            return Err(status::invalid(ty, &name, causes));
        }
        self.quotas.check(&self.store, ty, namespace, &object)?;
        let key = key(ty, namespace, &name);
        if self.store.get(&key).is_some() {
            return Err(status::already_exists(ty, &name));
        }
        let manager = options.field_manager("Update", ty);
        let empty = json!({"apiVersion": null, "kind": null, "metadata": {}});
        let now = self.clock.now_seconds().to_string();
        let mut written = object.clone();
        if drops_status {
            // `admit` sets the default of the status, which belongs to no manager.
            as_object(&mut written).remove("status");
        }
        object.meta_mut().remove("managedFields");
        let managers = Managers::default().updated(&manager, &empty, &written, Shape::of(ty), &now);
        if options.dry_run {
            return Ok(Written::object(201, Arc::new(ObjectVersion::new(object, managers)), false));
        }
        Ok(self.put_new(ty, &key, object, managers))
    }

    /// Stores a new object.
    pub(super) fn put_new(
        &mut self,
        ty: &ResourceType,
        key: &Key,
        object: Value,
        managers: Managers,
    ) -> Written {
        let has_default_status =
            matches!(ty.model, Model::Custom(_)) && ty.has_status && !object["status"].is_null();
        if has_default_status {
            self.unstored_status.insert(key.clone());
        }
        Written::object(201, self.store.put(key, object, managers), true)
    }

    /// Generates a name if the object has only `generateName`.
    fn generate_name(&mut self, object: &mut Value) {
        let base = text(&object.meta()["generateName"]).to_string();
        if object.name().is_empty() && !base.is_empty() {
            let suffix = self.identities.suffix();
            object.meta_mut().insert("name".into(), json!(format!("{base}{suffix}")));
        }
    }

    /// Sets the uid, the creation timestamp and the generation.
    fn stamp_new(&mut self, ty: &ResourceType, object: &mut Value) {
        let uid = self.identities.uid();
        let now = self.clock.now_seconds().to_string();
        let meta = object.meta_mut();
        for field in SERVER_METADATA {
            meta.remove(*field);
        }
        meta.insert("uid".into(), json!(uid));
        meta.insert("creationTimestamp".into(), json!(now));
        if ty.generation != Generation::Never {
            meta.insert("generation".into(), json!(1));
        }
    }

    /// Fails unless the namespace exists and is not terminating.
    fn check_namespace_is_active(&self, ty: &ResourceType, namespace: &str, name: &str) -> Result<()> {
        let Some(namespaces) = self.types.get("namespaces", "").filter(|_| ty.namespaced) else {
            return Ok(());
        };
        let object = self.find(namespaces, "", namespace)?;
        if !object.is_deleting() {
            return Ok(());
        }
        let message = format!("namespace {namespace} is being terminated");
        let causes = vec![cause("NamespaceTerminating", "metadata.namespace", message)];
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(status::forbidden(ty, name, &why, causes))
    }
}
