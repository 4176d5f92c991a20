//! Deployments and StatefulSets: a status that says ready a while after each change of the spec.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{condition, set_status};
use crate::{
    Sim,
    background::with,
    news::News,
    object::Object,
    resource::ResourceType,
    server::Server,
    store::{Change, Key},
    stored::Stored,
};

/// The rollout of every object: of which uid and generation it is, and when that is ready.
type Rollouts = BTreeMap<Key, (String, i64, Option<Instant>)>;

/// Starts the controllers of Deployments and StatefulSets; they end with the server.
///
/// Each generation of an object becomes ready after what `delay` gives for its name; with `None` it never does.
pub fn spawn_workloads(sim: &Sim, delay: impl FnMut(&str) -> Option<Duration> + Send + 'static) {
    let wants = |change: &Change| matches!(&*change.key.resource, "deployments.apps" | "statefulsets.apps");
    let news = sim.lock().store.subscribe(wants);
    tokio::spawn(run(Arc::downgrade(&sim.server), news, delay));
}

async fn run(
    server: Weak<Mutex<Server>>,
    mut news: News,
    mut delay: impl FnMut(&str) -> Option<Duration> + Send,
) {
    let mut rollouts = Rollouts::new();
    loop {
        with(&server, |server| sync_all(server, &mut rollouts, &mut delay));
        let now = Instant::now();
        let next = rollouts.values().filter_map(|(_, _, due)| *due).filter(|due| *due > now).min();
        tokio::select! {
            biased;
            news = news.next() => if news.is_err() { return },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

fn sync_all(server: &mut Server, rollouts: &mut Rollouts, delay: &mut impl FnMut(&str) -> Option<Duration>) {
    for plural in ["deployments", "statefulsets"] {
        let Some(ty) = server.types.get(plural, "apps").cloned() else { continue };
        let objects: Vec<(Key, Arc<Stored>)> = server
            .store
            .list(&ty.resource, None)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for (key, object) in objects.iter().filter(|(_, object)| !object.is_deleting()) {
            let mut rollout = || {
                let due = delay(&key.name).map(|delay| Instant::now() + delay);
                (object.uid().to_string(), object.generation(), due)
            };
            let current = rollouts.entry(key.clone()).or_insert_with(&mut rollout);
            if current.0 != object.uid() || current.1 != object.generation() {
                *current = rollout();
            }
            let ready = current.2.is_some_and(|due| due <= Instant::now());
            report(server, &ty, object, ready);
        }
    }
}

fn report(server: &mut Server, ty: &ResourceType, object: &Value, ready: bool) {
    let old = &object["status"];
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let was_ready = old.get("readyReplicas").and_then(Value::as_i64).unwrap_or_default();
    // The pods of the version before stay until the new ones are ready.
    let available = if ready { replicas } else { was_ready };
    let mut status = json!({"observedGeneration": object.generation(), "replicas": replicas});
    for (field, count) in [
        ("updatedReplicas", if ready { replicas } else { 0 }),
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
