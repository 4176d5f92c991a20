//! The API server's rules for one write: what a client may set, what the server sets, and when nothing changes.

use std::{collections::BTreeSet, sync::Arc};

use kube::core::response::Status;
use serde_json::{Value, json};

use crate::{
    admission::{
        admit, check_fields, check_namespace, check_type, check_versions, keep_what_the_server_owns,
    },
    apply::{Apply, Manager, Managers},
    clock::Clock,
    object::{Object, as_object},
    quota::Quotas,
    resource::{Generation, Model, ResourceType, Types},
    shape::Shape,
    status::{self, Result, cause},
    store::{Key, Store},
    stored::Stored,
    trace::Write,
    validate,
};

/// The whole server: its types, its objects and what was written to it.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) types: Types,
    pub(crate) quotas: Quotas,
    pub(crate) clock: Clock,
    pub(crate) writes: Vec<Write>,
    /// How many uids and generated names were given out.
    pub(crate) issued: u64,
    /// Whether clients see `metadata.managedFields`.
    pub(crate) shows_managers: bool,
    /// Objects whose status is a default that no write has stored yet: the next one changes them, whatever it says.
    pub(crate) unstored_status: BTreeSet<Key>,
}

/// The part of an object that a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object without its status, where that is a subresource.
    Main,
    /// The status alone.
    Status,
    /// Everything at once: only direct access from a test has this.
    Whole,
}

/// How a write is to be done.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    /// The field manager.
    pub(crate) manager: String,
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    /// For apply: take fields from other managers.
    pub(crate) force: bool,
    /// Unknown fields are errors.
    pub(crate) strict: bool,
}

/// What a write did.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) code: u16,
    pub(crate) body: Body,
    pub(crate) changed: bool,
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Body {
    Object(Arc<Stored>),
    Status(Box<Status>),
}

impl Written {
    pub(crate) fn object(code: u16, object: Arc<Stored>, changed: bool) -> Self {
        Self { code, body: Body::Object(object), changed }
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        let mut server = Self {
            store: Store::new(),
            types: Types::built_in(),
            quotas: Quotas::default(),
            clock: Clock::start(),
            writes: Vec::new(),
            issued: 0,
            shows_managers: true,
            unstored_status: BTreeSet::new(),
        };
        for name in ["default", "kube-system"] {
            server.create_namespace(name);
        }
        server
    }

    fn create_namespace(&mut self, name: &str) {
        let Some(ty) = self.types.get("namespaces", "").cloned() else { return };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        // A namespace with a valid name cannot be refused by an empty server.
        let _ = self.create(&ty, "", object, &WriteOptions::direct("mlop-sim"));
    }

    pub(crate) fn find(&self, ty: &ResourceType, namespace: &str, name: &str) -> Result<Arc<Stored>> {
        self.store.get(&key(ty, namespace, name)).cloned().ok_or_else(|| status::not_found(ty, name))
    }

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
        if ty.has_status && options.part != Part::Whole {
            as_object(&mut object).remove("status");
        }
        admit(ty, &mut object, options.strict)?;
        let causes = validate::created(ty, &object);
        if !causes.is_empty() {
            return Err(status::invalid(ty, &name, causes));
        }
        self.check_quota(ty, namespace, &object)?;
        let key = key(ty, namespace, &name);
        if self.store.get(&key).is_some() {
            return Err(status::already_exists(ty, &name));
        }
        let who = manager("Update", ty, options);
        let empty = json!({"apiVersion": null, "kind": null, "metadata": {}});
        let now = self.clock.now_seconds().to_string();
        let mut written = object.clone();
        if ty.has_status && options.part != Part::Whole {
            as_object(&mut written).remove("status");
        }
        object.meta_mut().remove("managedFields");
        let managers = Managers::default().updated(&who, &empty, &written, Shape::of(ty), &now);
        if options.dry_run {
            return Ok(Written::object(201, Arc::new(Stored::new(object, managers)), false));
        }
        Ok(self.put_new(ty, &key, object, managers))
    }

    fn put_new(&mut self, ty: &ResourceType, key: &Key, object: Value, managers: Managers) -> Written {
        let by_default = matches!(ty.model, Model::Custom(_)) && ty.has_status && !object["status"].is_null();
        if by_default {
            self.unstored_status.insert(key.clone());
        }
        Written::object(201, self.store.put(key, object, managers), true)
    }

    /// Writes `object` over the one of its name, as PUT does.
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
        let who = manager("Apply", ty, options);
        let now = self.clock.now_seconds().to_string();
        let ignored: &[&str] = match options.part {
            Part::Main if ty.has_status => &["status"],
            Part::Status => &["spec", "metadata"],
            Part::Main | Part::Whole => &[],
        };
        let old = match self.find(ty, namespace, name) {
            Ok(old) => old,
            Err(missing) if options.part == Part::Status => return Err(missing),
            Err(_) => return self.apply_new(ty, namespace, name, intent, options, (&who, &now)),
        };
        intent.meta_mut().insert("name".into(), json!(name));
        check_namespace(ty, namespace, &mut intent)?;
        let shape = Shape::of(ty);
        let apply = Apply { who: &who, intent: &intent, shape, force: options.force, ignored, now: &now };
        let (object, managers) = apply.to(&old, old.managers())?;
        self.replace(ty, &old, object, Some(managers), options)
    }

    fn apply_new(
        &mut self,
        ty: &Arc<ResourceType>,
        namespace: &str,
        name: &str,
        mut intent: Value,
        options: &WriteOptions,
        (who, now): (&Manager, &str),
    ) -> Result<Written> {
        if !intent.uid().is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                intent.uid()
            );
            return Err(status::conflict(ty, name, &why));
        }
        intent.meta_mut().insert("name".into(), json!(name));
        let ignored: &[&str] = if ty.has_status { &["status"] } else { &[] };
        let shape = Shape::of(ty);
        let empty = json!({"metadata": {}});
        let apply = Apply { who, intent: &intent, shape, force: true, ignored, now };
        let (_, managers) = apply.to(&empty, &Managers::default())?;
        let dry_run = WriteOptions { dry_run: true, ..options.clone() };
        let Written { body: Body::Object(object), .. } =
            self.create(ty, namespace, intent.clone(), &dry_run)?
        else {
            return Err(status::internal("a creation gives an object"));
        };
        let object = Value::clone(&object);
        if options.dry_run {
            return Ok(Written::object(201, Arc::new(Stored::new(object, managers)), false));
        }
        Ok(self.put_new(ty, &key(ty, namespace, name), object, managers))
    }

    /// Puts `new` in the place of `old`. Every update ends here: what a request may not change is taken from `old`.
    pub(crate) fn replace(
        &mut self,
        ty: &ResourceType,
        old: &Arc<Stored>,
        mut new: Value,
        managers: Option<Managers>,
        options: &WriteOptions,
    ) -> Result<Written> {
        let name = old.name().to_string();
        check_versions(ty, old, &new)?;
        as_object(&mut new).entry("metadata").or_insert_with(|| json!({}));
        keep_what_the_server_owns(ty, old, &mut new, options.part);
        admit(ty, &mut new, options.strict)?;
        let causes = validate::updated(ty, &new, old);
        if !causes.is_empty() {
            return Err(status::invalid(ty, &name, causes));
        }
        self.set_generation(ty, old, &mut new);
        let managers = managers.unwrap_or_else(|| {
            let who = manager("Update", ty, options);
            let now = self.clock.now_seconds().to_string();
            old.managers().clone().updated(&who, old, &new, Shape::of(ty), &now)
        });
        let key = key(ty, old.namespace(), &name);
        let same = same_content(&new, old) && managers.same_fields(old.managers());
        if same && !self.unstored_status.contains(&key) {
            return Ok(Written::object(200, old.clone(), false));
        }
        if options.dry_run {
            return Ok(Written::object(200, Arc::new(Stored::new(new, managers)), false));
        }
        self.unstored_status.remove(&key);
        if nothing_holds(ty, &new) {
            self.store.remove(&key);
            return Ok(Written::object(200, Arc::new(Stored::new(new, managers)), true));
        }
        Ok(Written::object(200, self.store.put(&key, new, managers), true))
    }

    fn set_generation(&self, ty: &ResourceType, old: &Value, new: &mut Value) {
        let moved = match ty.generation {
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
        let generation = old.generation() + i64::from(moved);
        new.meta_mut().insert("generation".into(), json!(generation));
    }

    /// Objects are created only in a namespace that exists and is not going away.
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

impl WriteOptions {
    /// A write that does not come through a request.
    pub(crate) fn direct(manager: &str) -> Self {
        Self { manager: manager.into(), part: Part::Whole, dry_run: false, force: false, strict: false }
    }
}

pub(crate) fn key(ty: &ResourceType, namespace: &str, name: &str) -> Key {
    let namespace = if ty.namespaced { namespace } else { "" };
    Key { resource: ty.resource.clone(), namespace: namespace.into(), name: name.into() }
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn nothing_holds(ty: &ResourceType, object: &Value) -> bool {
    let content =
        ty.kind == "Namespace" && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let graceful = object.meta()["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0);
    object.is_deleting() && object.finalizers().is_empty() && !graceful && !content
}

/// Whether both say the same, whoever owns it.
fn same_content(a: &Value, b: &Value) -> bool {
    let content = |name: &str| name != "metadata";
    a.meta() == b.meta() && fields(a, content).eq(fields(b, content))
}

/// The fields of an object that `counts` picks by name.
fn fields(object: &Value, counts: impl Fn(&str) -> bool) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten().filter(move |(name, _)| counts(name))
}

fn manager(operation: &str, ty: &ResourceType, options: &WriteOptions) -> Manager {
    Manager {
        operation: operation.into(),
        name: options.manager.clone(),
        api_version: ty.api_version(),
        subresource: if options.part == Part::Status { "status".into() } else { String::new() },
    }
}
