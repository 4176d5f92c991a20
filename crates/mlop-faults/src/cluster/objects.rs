//! The objects that users write, by the names of their kinds.

use kube::Resource;
use mlop_api::{
    kinds::{self, Class, Kind, Visitor},
    labels,
};
use mlop_sim::Sim;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{borrow::Cow, sync::LazyLock};

/// The namespace of all objects of users.
pub const NAMESPACE: &str = "default";

/// The operations of users on one kind.
struct UserKind {
    name: Cow<'static, str>,
    create: fn(&Sim, Value) -> Result<(), String>,
    apply: fn(&Sim, Value) -> Result<(), String>,
    list: fn(&Sim) -> Vec<Value>,
    annotate: fn(&Sim, &str, &str, &str),
}

/// The kinds whose objects users write.
static USER_KINDS: LazyLock<Vec<UserKind>> = LazyLock::new(|| {
    struct UserKinds(Vec<UserKind>);
    impl Visitor for UserKinds {
        fn visit<K: Kind>(&mut self) {
            if K::CLASS != Class::Run {
                self.0.push(UserKind {
                    name: K::kind(&()),
                    create: create_as::<K>,
                    apply: apply_as::<K>,
                    list: list_as::<K>,
                    annotate: annotate_as::<K>,
                });
            }
        }
    }
    let mut kinds = UserKinds(Vec::new());
    kinds::for_each(&mut kinds);
    kinds.0
});

fn kind_of(manifest: &Value) -> Result<&'static UserKind, String> {
    let name = manifest["kind"].as_str().unwrap_or_default();
    USER_KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| format!("unsupported kind {name}"))
}

/// Creates a user's object.
///
/// # Errors
/// The message of the server's refusal.
pub fn create(sim: &Sim, manifest: Value) -> Result<(), String> {
    create_in(sim, NAMESPACE, manifest)
}

/// Creates a user's object in a namespace.
///
/// # Errors
/// The message of the server's refusal.
pub fn create_in(sim: &Sim, namespace: &str, mut manifest: Value) -> Result<(), String> {
    place(&mut manifest, namespace);
    (kind_of(&manifest)?.create)(sim, manifest)
}

/// Creates a user's object, or replaces its spec.
///
/// # Errors
/// The message of the server's refusal, or that the object is still being deleted.
pub fn apply(sim: &Sim, mut manifest: Value) -> Result<(), String> {
    place(&mut manifest, NAMESPACE);
    (kind_of(&manifest)?.apply)(sim, manifest)
}

/// Puts an object into a namespace, if its kind has namespaces.
fn place(manifest: &mut Value, namespace: &str) {
    if !kinds::is_cluster_scoped(manifest["kind"].as_str().unwrap_or_default()) {
        manifest["metadata"]["namespace"] = namespace.into();
    }
}

/// The namespace of the users' objects of a kind; empty if it has none.
fn namespace_of<K: Kind>() -> &'static str {
    if kinds::is_cluster_scoped(&K::kind(&())) { "" } else { NAMESPACE }
}

/// All objects of users.
pub fn list(sim: &Sim) -> Vec<Value> {
    USER_KINDS.iter().flat_map(|kind| (kind.list)(sim)).collect()
}

/// The users' objects of one kind.
pub fn list_kind(sim: &Sim, name: &str) -> Vec<Value> {
    let kind = USER_KINDS.iter().find(|kind| kind.name == name);
    kind.map(|kind| (kind.list)(sim)).unwrap_or_default()
}

/// The documents of a YAML text.
///
/// # Panics
/// When the text is not YAML.
pub fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n").map(|text| serde_saphyr::from_str(text).expect("the text is YAML")).collect()
}

/// The manifest that created an object.
pub fn manifest_of(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
        "metadata": {"name": meta["name"], "annotations": meta["annotations"]},
    })
}

/// A user requests a look at the source.
pub fn refresh(sim: &Sim, request: &str) {
    annotate(sim, "Dataset", "flights", labels::REFRESH_REQUESTED_AT, request);
}

/// A user requests another attempt of all failed work, and another look at all connections.
pub fn retry(sim: &Sim, request: &str) {
    for object in list(sim) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        annotate(sim, &kind, &name, labels::RETRY_REQUESTED_AT, request);
    }
}

/// Annotates a user's object, if it exists.
pub fn annotate(sim: &Sim, kind: &str, name: &str, annotation: &str, value: &str) {
    if let Some(kind) = USER_KINDS.iter().find(|known| known.name == kind) {
        (kind.annotate)(sim, name, annotation, value);
    }
}

/// Changes the spec of a user's object by a merge patch.
///
/// # Errors
/// The message of the server's refusal, or that there is no such object.
pub fn change(sim: &Sim, kind: &str, name: &str, patch: &Value) -> Result<(), String> {
    let object = list_kind(sim, kind).into_iter().find(|object| object["metadata"]["name"] == name);
    let mut manifest = manifest_of(&object.ok_or_else(|| format!("there is no {kind} {name}"))?);
    json_patch::merge(&mut manifest["spec"], patch);
    apply(sim, manifest)
}

fn annotate_as<K: Kind>(sim: &Sim, name: &str, annotation: &str, value: &str) {
    // An object that is recreated later needs no request.
    let _ = sim.edit::<K>(namespace_of::<K>(), name, |object| {
        let annotations = object.meta_mut().annotations.get_or_insert_default();
        annotations.insert(annotation.to_owned(), value.to_owned());
    });
}

fn create_as<K>(sim: &Sim, manifest: Value) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(manifest).map_err(|error| error.to_string())?;
    sim.create(&object).map(drop).map_err(|status| status.message.clone())
}

fn apply_as<K: Kind>(sim: &Sim, manifest: Value) -> Result<(), String> {
    let (name, namespace) =
        (manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned(), namespace_of::<K>());
    let Some(object) = sim.get::<K>(namespace, &name) else { return create_as::<K>(sim, manifest) };
    if object.meta().deletion_timestamp.is_some() {
        return Err(format!("{name} is still being deleted"));
    }
    let mut value = serde_json::to_value(&object).map_err(|error| error.to_string())?;
    value["spec"] = manifest["spec"].clone();
    let wanted: K = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let edited = sim.edit::<K>(namespace, &name, |object| *object = wanted);
    edited.map(drop).map_err(|status| status.message.clone())
}

fn list_as<K>(sim: &Sim) -> Vec<Value>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    sim.list::<K>().iter().filter_map(|object| serde_json::to_value(object).ok()).collect()
}
