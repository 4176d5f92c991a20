//! The garbage collector and the end of namespaces.
//!
//! Both run a little after a change, as their controllers do: a dependent outlives its owner for a moment.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    background::with,
    delete::{DeleteOptions, FOREGROUND, ORPHAN, waits_for},
    news::News,
    object::{Object, text},
    server::{Server, WriteOptions},
    store::{Change, Key},
    stored::Stored,
};

/// From a change to the sweep it causes.
const LAG: Duration = Duration::from_millis(20);

/// Starts the collector of `server`; it ends with it.
pub(crate) fn spawn(server: &Arc<Mutex<Server>>) {
    let news = server.lock().unwrap_or_else(PoisonError::into_inner).store.subscribe(matters);
    tokio::spawn(run(Arc::downgrade(server), news));
}

async fn run(server: Weak<Mutex<Server>>, mut news: News) {
    while news.next().await.is_ok() {
        sleep(LAG).await;
        news.catch_up();
        with(&server, sweep);
    }
}

/// Whether something may have lost its owner, or may now be let go.
fn matters(change: &Change) -> bool {
    let Some(after) = &change.after else { return true };
    let (owners, was_deleting) = match &change.before {
        Some(before) => (before.owner_references(), before.is_deleting()),
        None => (Default::default(), false),
    };
    after.owner_references() != owners || after.is_deleting() || was_deleting
}

fn sweep(server: &mut Server) {
    let concerns = |object: &Value| !object.owner_references().is_empty() || object.is_deleting();
    let objects = owned(server.store.iter().filter(|(_, object)| concerns(object)));
    for (key, object) in &objects {
        collect(server, key, object);
    }
    for (key, object) in &objects {
        if waits_for(object, ORPHAN) {
            orphan(server, key, object);
        } else if waits_for(object, FOREGROUND) {
            foreground(server, key, object);
        }
        if &*key.resource == "namespaces" && object.is_deleting() {
            empty_namespace(server, key);
        }
    }
}

/// Copies of the keys, so that the server can change meanwhile.
fn owned<'a>(objects: impl Iterator<Item = (&'a Key, &'a Arc<Stored>)>) -> Vec<(Key, Arc<Stored>)> {
    objects.map(|(key, object)| (key.clone(), object.clone())).collect()
}

/// Deletes an object none of whose owners exists, or drops the references to those that do not.
fn collect(server: &mut Server, key: &Key, object: &Value) {
    let owners = object.owner_references();
    let (present, absent): (Vec<&Value>, Vec<&Value>) =
        owners.iter().partition(|owner| owner_exists(server, key, owner));
    if absent.is_empty() {
        return;
    }
    if present.is_empty() {
        delete(server, key, object);
    } else {
        let kept: Vec<Value> = present.into_iter().cloned().collect();
        edit(server, key, |object| {
            object.meta_mut().insert("ownerReferences".into(), json!(kept));
        });
    }
}

/// The owner is looked up where the reference can point: in the namespace of the dependent, or cluster-wide.
fn owner_exists(server: &Server, key: &Key, owner: &Value) -> bool {
    let Some(ty) = server.types.by_kind(text(&owner["apiVersion"]), text(&owner["kind"])) else {
        return false;
    };
    let found = server.find(ty, &key.namespace, text(&owner["name"]));
    found.is_ok_and(|found| found.uid() == text(&owner["uid"]))
}

fn is_owned_by(object: &Value, owner: &Value) -> bool {
    object.owner_references().iter().any(|reference| text(&reference["uid"]) == owner.uid())
}

fn orphan(server: &mut Server, key: &Key, owner: &Value) {
    for (dependent, _) in owned(server.store.iter().filter(|(_, object)| is_owned_by(object, owner))) {
        edit(server, &dependent, |object| {
            let kept: Vec<Value> = object
                .owner_references()
                .iter()
                .filter(|reference| text(&reference["uid"]) != owner.uid())
                .cloned()
                .collect();
            if kept.is_empty() {
                object.meta_mut().remove("ownerReferences");
            } else {
                object.meta_mut().insert("ownerReferences".into(), json!(kept));
            }
        });
    }
    release(server, key, ORPHAN);
}

fn foreground(server: &mut Server, key: &Key, owner: &Value) {
    for (dependent, object) in owned(server.store.iter().filter(|(_, object)| is_owned_by(object, owner))) {
        delete(server, &dependent, &object);
    }
    let blocks = |object: &Value| {
        let mut references = object.owner_references().iter();
        references.any(|r| text(&r["uid"]) == owner.uid() && r["blockOwnerDeletion"] == true)
    };
    if !server.store.iter().any(|(_, object)| blocks(object)) {
        release(server, key, FOREGROUND);
    }
}

/// Deletes what is in a namespace that goes away, and lets it go once it is empty.
fn empty_namespace(server: &mut Server, namespace: &Key) {
    for (key, object) in owned(server.store.iter().filter(|(key, _)| key.namespace == namespace.name)) {
        delete(server, &key, &object);
    }
    if !server.store.iter().any(|(key, _)| key.namespace == namespace.name) {
        edit(server, namespace, |object| object["spec"]["finalizers"] = json!([]));
    }
}

fn delete(server: &mut Server, key: &Key, object: &Value) {
    let Some(ty) = server.types.by_key(&key.resource).cloned() else { return };
    if object.is_deleting() {
        return;
    }
    let options = DeleteOptions {
        uid: Some(object.uid().into()),
        propagation: Some("Background".into()),
        ..DeleteOptions::default()
    };
    // One that is already gone or was made anew needs nothing.
    let _ = server.delete(&ty, &key.namespace, &key.name, &options);
}

fn release(server: &mut Server, key: &Key, finalizer: &str) {
    edit(server, key, |object| {
        let kept: Vec<String> =
            object.finalizers().into_iter().filter(|f| *f != finalizer).map(str::to_string).collect();
        object.set_finalizers(&kept.iter().map(String::as_str).collect::<Vec<_>>());
    });
}

fn edit(server: &mut Server, key: &Key, change: impl FnOnce(&mut Value)) {
    let (Some(ty), Some(old)) = (server.types.by_key(&key.resource).cloned(), server.store.get(key).cloned())
    else {
        return;
    };
    let mut new = Value::clone(&old);
    change(&mut new);
    // Refused only if the object was invalid before; then it stays as it is.
    let _ = server.replace(&ty, &old, new, None, &WriteOptions::direct("kube-controller-manager"));
}
