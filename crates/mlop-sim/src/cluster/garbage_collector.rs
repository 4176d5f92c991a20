//! The garbage collector and the namespace controller.
//!
//! As on a real cluster, both react to a change with a delay: a dependent outlives its owner for a moment.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    api::{
        delete::{DeleteOptions, FOREGROUND, ORPHAN, waits_for},
        server::Server,
        shared::{SharedServer, WeakServer},
        write::WriteOptions,
    },
    object::{Object, text},
    storage::{
        object_version::ObjectVersion,
        store::{Change, Key},
        subscriptions::Subscription,
    },
};

/// The time from a change to the sweep that it triggers.
const DELAY: Duration = Duration::from_millis(20);

/// Starts the collector of `server`. It ends with the server.
pub(crate) fn spawn(server: &SharedServer) {
    let subscription = server.lock().store.subscribe(is_relevant);
    tokio::spawn(run(server.downgrade(), subscription));
}

async fn run(server: WeakServer, mut subscription: Subscription) {
    while subscription.changed().await.is_ok() {
        sleep(DELAY).await;
        subscription.mark_seen();
        server.with(sweep);
    }
}

/// Whether an object may have lost an owner, or the reason that delayed its removal.
fn is_relevant(change: &Change) -> bool {
    let Some(after) = &change.after else { return true };
    let (owners, was_deleting) = match &change.before {
        Some(before) => (before.owner_references(), before.is_deleting()),
        None => (Default::default(), false),
    };
    after.owner_references() != owners || after.is_deleting() || was_deleting
}

fn sweep(server: &mut Server) {
    let is_candidate = |object: &Value| !object.owner_references().is_empty() || object.is_deleting();
    let objects = copies(server.store.iter().filter(|(_, object)| is_candidate(object)));
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

/// Copies of the keys and references to the objects, so that the server can change during the iteration.
fn copies<'a>(
    objects: impl Iterator<Item = (&'a Key, &'a Arc<ObjectVersion>)>,
) -> Vec<(Key, Arc<ObjectVersion>)> {
    objects.map(|(key, object)| (key.clone(), object.clone())).collect()
}

/// Deletes an object if none of its owners exists. Otherwise removes its references to absent owners.
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

/// Looks up the owner in the namespace of the dependent, or cluster-wide if its type is cluster-scoped.
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

/// Removes the references of all dependents to `owner`, and releases it.
fn orphan(server: &mut Server, key: &Key, owner: &Value) {
    for (dependent, _) in copies(server.store.iter().filter(|(_, object)| is_owned_by(object, owner))) {
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

/// Deletes all dependents of `owner`, and releases it once none of them blocks its deletion.
fn foreground(server: &mut Server, key: &Key, owner: &Value) {
    for (dependent, object) in copies(server.store.iter().filter(|(_, object)| is_owned_by(object, owner))) {
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

/// Deletes the objects of a terminating namespace, and releases the namespace once it is empty.
fn empty_namespace(server: &mut Server, namespace: &Key) {
    for (key, object) in copies(server.store.iter().filter(|(key, _)| key.namespace == namespace.name)) {
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
    // An object that is gone or was created again needs no deletion.
    let _ = server.delete(&ty, &key.namespace, &key.name, &options);
}

/// Removes a finalizer.
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
    // The server refuses this only if the object was already invalid. Then it stays unchanged.
    let _ = server.replace(&ty, &old, new, None, &WriteOptions::direct("kube-controller-manager"));
}
