//! The controllers of Deployments and StatefulSets: each change of a spec becomes ready after a delay.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::common::{condition, set_status};
use crate::{
    api::{server::Server, shared::WeakServer},
    object::Object,
    schema::resource::ResourceType,
    sim::Sim,
    storage::{
        object_version::ObjectVersion,
        store::{Change, Key},
        subscriptions::Subscription,
    },
};

/// The current rollout of each object.
type Rollouts = BTreeMap<Key, Rollout>;

/// The rollout of one generation of an object.
struct Rollout {
    uid: String,
    generation: i64,
    /// The time at which it becomes ready; `None` if it never does.
    ready_at: Option<Instant>,
}

/// Starts the controllers of Deployments and StatefulSets. They end with the server.
///
/// Each generation of an object becomes ready after the `delay` of its name; with `None` it never does.
pub fn spawn_workloads(sim: &Sim, delay: impl FnMut(&str) -> Option<Duration> + Send + 'static) {
    let is_relevant =
        |change: &Change| matches!(&*change.key.resource, "deployments.apps" | "statefulsets.apps");
    let subscription = sim.lock().store.subscribe(is_relevant);
    tokio::spawn(run(sim.server.downgrade(), subscription, delay));
}

async fn run(
    server: WeakServer,
    mut subscription: Subscription,
    mut delay: impl FnMut(&str) -> Option<Duration> + Send,
) {
    let mut rollouts = Rollouts::new();
    loop {
        server.with(|server| sync_all(server, &mut rollouts, &mut delay));
        let now = Instant::now();
        let next = rollouts.values().filter_map(|rollout| rollout.ready_at).filter(|at| *at > now).min();
        tokio::select! {
            biased;
            changed = subscription.changed() => if changed.is_err() { return },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

fn sync_all(server: &mut Server, rollouts: &mut Rollouts, delay: &mut impl FnMut(&str) -> Option<Duration>) {
    for plural in ["deployments", "statefulsets"] {
        let Some(ty) = server.types.get(plural, "apps").cloned() else { continue };
        let objects: Vec<(Key, Arc<ObjectVersion>)> = server
            .store
            .list(&ty.resource, None)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for (key, object) in objects.iter().filter(|(_, object)| !object.is_deleting()) {
            let mut start = || Rollout {
                uid: object.uid().to_string(),
                generation: object.generation(),
                ready_at: delay(&key.name).map(|delay| Instant::now() + delay),
            };
            let rollout = rollouts.entry(key.clone()).or_insert_with(&mut start);
            if rollout.uid != object.uid() || rollout.generation != object.generation() {
                *rollout = start();
            }
            let is_ready = rollout.ready_at.is_some_and(|at| at <= Instant::now());
            report(server, &ty, object, is_ready);
        }
    }
}

fn report(server: &mut Server, ty: &ResourceType, object: &Value, is_ready: bool) {
    let old = &object["status"];
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let was_ready = old.get("readyReplicas").and_then(Value::as_i64).unwrap_or_default();
    // The pods of the previous generation remain until the new ones are ready.
    let available = if is_ready { replicas } else { was_ready };
    let mut status = json!({"observedGeneration": object.generation(), "replicas": replicas});
    for (field, count) in [
        ("updatedReplicas", if is_ready { replicas } else { 0 }),
        ("readyReplicas", available),
        ("availableReplicas", available),
    ] {
        if count > 0 {
            status[field] = json!(count);
        }
    }
    if ty.kind == "Deployment" {
        let now = server.clock.now_seconds().to_string();
        let old = &old["conditions"][0];
        let new =
            condition("Available", if available > 0 { "True" } else { "False" }, "MinimumReplicas", &now);
        let new = if old["status"] == new["status"] { old.clone() } else { new };
        status["conditions"] = json!([new]);
    }
    set_status(server, ty, object.namespace(), object.name(), status);
}
