//! The kubelet itself: it takes over new pods and reports the course of each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    outcome::{Aftermath, PodOutcome, Stage},
    pod_status::set_exited,
};
use crate::{
    api::{delete::DeleteOptions, server::Server, shared::WeakServer, write::WriteOptions},
    object::{Object, text},
    sim::Sim,
    storage::{
        object_version::ObjectVersion,
        store::{Change, Key},
        subscriptions::Subscription,
    },
};

/// The time from a running pod's deletion to its end.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// The exit code of a process that SIGTERM ended.
const EXIT_SIGTERM: i32 = 143;

/// Starts the kubelet of `sim`. It calls `script` once for every pod that it starts, and ends with the server.
pub fn spawn(sim: &Sim, script: impl FnMut(&Pod) -> PodOutcome + Send + 'static) {
    let is_creation = |change: &Change| change.before.is_none() && &*change.key.resource == "pods";
    let subscription = sim.lock().store.subscribe(is_creation);
    tokio::spawn(run(sim.server.downgrade(), subscription, script));
}

/// The tasks of the kubelet's pods, by uid.
type PodTasks = BTreeMap<String, JoinHandle<()>>;

async fn run(
    server: WeakServer,
    mut subscription: Subscription,
    mut script: impl FnMut(&Pod) -> PodOutcome + Send,
) {
    let mut tasks = PodTasks::new();
    loop {
        tasks.retain(|_, task| !task.is_finished());
        for (key, pod) in server.with(|server| unknown_pods(server, &tasks)).unwrap_or_default() {
            let Ok(typed) = Pod::deserialize(&**pod) else { continue };
            // A pod that is being deleted is only stopped, so the script is not asked.
            let outcome = if pod.is_deleting() { PodOutcome::run_forever() } else { script(&typed) };
            let uid = pod.uid().to_string();
            let Some(pod) = server.with(|state| RunningPod::new(&server, state, key, &uid, outcome)) else {
                return;
            };
            tasks.insert(uid, tokio::spawn(pod.run()));
        }
        if subscription.changed().await.is_err() {
            return;
        }
    }
}

/// Pods without a task that must be run or stopped. After the restore of a backup, older pods can be among them.
fn unknown_pods(server: &Server, tasks: &PodTasks) -> Vec<(Key, Arc<ObjectVersion>)> {
    let is_unknown = |pod: &Value| {
        let stopped = pod.is_deleting() && pod.meta()["deletionGracePeriodSeconds"] == 0;
        let ended = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
        !stopped && !ended && !tasks.contains_key(pod.uid())
    };
    let pods = server.store.list("pods", None).filter(|(_, pod)| is_unknown(pod));
    pods.map(|(key, pod)| (key.clone(), pod.clone())).collect()
}

/// One pod of the kubelet.
struct RunningPod {
    server: WeakServer,
    subscription: Subscription,
    key: Key,
    uid: String,
    outcome: PodOutcome,
    /// The node and the status of the last report.
    reported: Option<(Value, Value)>,
    /// How often the server had restarted at the last report.
    restarts: u64,
}

impl RunningPod {
    fn new(shared: &WeakServer, server: &mut Server, key: Key, uid: &str, outcome: PodOutcome) -> Self {
        let own = key.clone();
        Self {
            server: shared.clone(),
            subscription: server.store.subscribe(move |change| change.key == own),
            key,
            uid: uid.into(),
            outcome,
            reported: None,
            restarts: server.store.restarts(),
        }
    }

    /// Runs the pod from its start to its removal.
    async fn run(mut self) {
        let outcome = self.outcome.clone();
        let mut due = Instant::now();
        for (delay, stage) in outcome.stages() {
            due += delay;
            if !self.until(due).await {
                return self.shut_down().await;
            }
            self.report(|pod, now| outcome.report(stage, pod, now));
            if stage == Stage::Started && !outcome.log().is_empty() {
                self.server.with(|server| server.start_log(&self.uid, outcome.log()));
            }
        }
        match outcome.aftermath() {
            Aftermath::Wait => self.deleted().await,
            Aftermath::Delete => self.delete(None),
            Aftermath::Abandon => {
                self.delete(None);
                return self.gone().await;
            }
        }
        self.shut_down().await;
    }

    /// Waits until `moment`, and returns false if the pod is deleted before.
    async fn until(&mut self, moment: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.deleted() => false,
            () = sleep_until(moment) => true,
        }
    }

    /// Waits until the pod is being deleted or is gone.
    async fn deleted(&mut self) {
        let server = self.server.clone();
        loop {
            let alive = server.with(|server| self.is_wanted(server));
            if alive != Some(true) || self.subscription.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the pod is gone.
    async fn gone(&mut self) {
        while self.server.with(|server| self.pod(server).is_some()) == Some(true) {
            if self.subscription.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether the pod must keep running. After a restart of the server, reports the last status again.
    fn is_wanted(&mut self, server: &mut Server) -> bool {
        let Some(pod) = self.pod(server) else { return false };
        if self.restarts != server.store.restarts() {
            self.restarts = server.store.restarts();
            if let Some((node, status)) = &self.reported {
                let mut new = Value::clone(&pod);
                new["spec"]["nodeName"] = node.clone();
                new["status"] = status.clone();
                write(server, &pod, new);
            }
        }
        !pod.is_deleting()
    }

    fn pod(&self, server: &Server) -> Option<Arc<ObjectVersion>> {
        server.store.get(&self.key).filter(|pod| pod.uid() == self.uid).cloned()
    }

    /// Stops the containers of a pod that is being deleted, and removes it.
    async fn shut_down(&mut self) {
        let has_ended = self.server.with(|server| {
            self.pod(server).is_none_or(|pod| matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed"))
        });
        if has_ended == Some(false) {
            sleep(SHUTDOWN).await;
            self.report(|pod, now| {
                if text(&pod["status"]["phase"]) == "Running" {
                    set_exited(pod, now, None, EXIT_SIGTERM, "Error", "");
                }
            });
        }
        self.delete(Some(0));
    }

    /// Deletes the pod, with `grace_seconds` or its own grace period.
    fn delete(&self, grace_seconds: Option<i64>) {
        self.server.with(|server| {
            let Some(ty) = server.types.get("pods", "").cloned() else { return };
            if self.pod(server).is_none_or(|pod| grace_seconds.is_some() && !pod.is_deleting()) {
                return;
            }
            let options =
                DeleteOptions { uid: Some(self.uid.clone()), grace_seconds, ..DeleteOptions::default() };
            // The pod exists, and its uid is the only precondition.
            let _ = server.delete(&ty, &self.key.namespace, &self.key.name, &options);
        });
    }

    /// Changes the status of the pod, and remembers it for restarts of the server.
    fn report(&mut self, change: impl FnOnce(&mut Value, &str)) {
        let reported = self.server.with(|server| {
            let old = self.pod(server)?;
            let now = server.clock.now_seconds().to_string();
            let mut new = Value::clone(&old);
            change(&mut new, &now);
            let reported = (new["spec"]["nodeName"].clone(), new["status"].clone());
            write(server, &old, new);
            Some(reported)
        });
        self.reported = reported.flatten();
    }
}

fn write(server: &mut Server, old: &Arc<ObjectVersion>, new: Value) {
    let Some(ty) = server.types.get("pods", "").cloned() else { return };
    // The server accepts this status for every pod that it admitted.
    let _ = server.replace(&ty, old, new, None, &WriteOptions::direct("kubelet"));
}
