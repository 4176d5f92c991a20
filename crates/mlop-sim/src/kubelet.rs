//! A kubelet that runs nothing: pods start and end as a script says, in virtual time.
//!
//! ```
//! # use mlop_sim::{Sim, kubelet::{self, PodOutcome}};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sim = Sim::new();
//! kubelet::spawn(&sim, |pod| match pod.metadata.name.as_deref() {
//!     Some("broken") => PodOutcome::fail(137, "OOMKilled", ""),
//!     _ => PodOutcome::succeed(r#"{"digest":"sha256:..."}"#),
//! });
//! # }
//! ```

mod report;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Sim,
    background::with,
    delete::DeleteOptions,
    news::News,
    object::{Object, text},
    server::{Server, WriteOptions},
    store::{Change, Key},
    stored::Stored,
};

use report::{ended, running, unschedulable, waiting};

/// From a pod's creation to its start, unless the outcome says otherwise.
const STARTUP: Duration = Duration::from_secs(1);
/// From a pod's start to its end, unless the outcome says otherwise.
const RUNTIME: Duration = Duration::from_secs(10);
/// How long a running pod takes to end after it was deleted.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// What a process ends with that a SIGTERM ended.
const EXIT_SIGTERM: i32 = 143;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOutcome {
    end: End,
    container: Option<String>,
    startup: Duration,
    runtime: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Succeed { message: String },
    Fail { exit_code: i32, reason: String, message: String },
    Evicted,
    ImagePullBackOff,
    Unschedulable,
    Never,
}

impl PodOutcome {
    /// All containers end with code 0; `message` is the termination message of the last one.
    pub fn succeed(message: impl Into<String>) -> Self {
        Self::new(End::Succeed { message: message.into() })
    }

    /// One container (the last) ends with `exit_code`, `reason` (as the kubelet gives it: `Error`, `OOMKilled`) and
    /// its termination `message`; the others end with code 0.
    pub fn fail(exit_code: i32, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(End::Fail { exit_code, reason: reason.into(), message: message.into() })
    }

    /// It runs, then the node evicts it.
    pub fn evicted() -> Self {
        Self::new(End::Evicted)
    }

    /// It is scheduled, but an image cannot be pulled: it waits until it is deleted.
    pub fn image_pull_back_off() -> Self {
        Self::new(End::ImagePullBackOff)
    }

    /// No node takes it: it waits until it is deleted.
    pub fn unschedulable() -> Self {
        Self::new(End::Unschedulable)
    }

    /// It becomes ready and runs until it is deleted.
    pub fn run_forever() -> Self {
        Self::new(End::Never)
    }

    fn new(end: End) -> Self {
        Self { end, container: None, startup: STARTUP, runtime: RUNTIME }
    }

    /// The container that the message or the failure belongs to, instead of the last one.
    #[must_use]
    pub fn in_container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// How long it takes until the pod runs.
    #[must_use]
    pub fn starting_after(mut self, startup: Duration) -> Self {
        self.startup = startup;
        self
    }

    /// How long the pod runs.
    #[must_use]
    pub fn running_for(mut self, runtime: Duration) -> Self {
        self.runtime = runtime;
        self
    }

    /// Writes into `pod` what a kubelet reports when it was started at `now`.
    pub fn start(&self, pod: &mut Value, now: &str) {
        match self.end {
            End::Unschedulable => unschedulable(pod, now),
            End::ImagePullBackOff => waiting(pod, now),
            _ => running(pod, now),
        }
    }

    /// Whether the pod stays as it started until it is deleted.
    pub fn lasts(&self) -> bool {
        matches!(self.end, End::Unschedulable | End::ImagePullBackOff | End::Never)
    }

    /// Writes into `pod` what a kubelet reports when it ended by itself at `now`.
    pub fn finish(&self, pod: &mut Value, now: &str) {
        ended(pod, now, &self.end, self.container.as_deref());
    }
}

/// Starts the kubelet of `sim`. It asks `script` once for every pod that it begins to run, and ends with the server.
pub fn spawn(sim: &Sim, script: impl FnMut(&Pod) -> PodOutcome + Send + 'static) {
    let created = |change: &Change| change.before.is_none() && &*change.key.resource == "pods";
    let news = sim.lock().store.subscribe(created);
    tokio::spawn(run(Arc::downgrade(&sim.server), news, script));
}

/// The pods that the kubelet has, by uid.
type Lives = BTreeMap<String, JoinHandle<()>>;

async fn run(server: Weak<Mutex<Server>>, mut news: News, mut script: impl FnMut(&Pod) -> PodOutcome + Send) {
    let mut lives = Lives::new();
    loop {
        lives.retain(|_, life| !life.is_finished());
        for (key, pod) in with(&server, |server| unknown_pods(server, &lives)).unwrap_or_default() {
            let Ok(typed) = Pod::deserialize(&**pod) else { continue };
            // What a pod would do that is only there to be stopped is nobody's business.
            let outcome = if pod.is_deleting() { PodOutcome::run_forever() } else { script(&typed) };
            let uid = pod.uid().to_string();
            let Some(life) = with(&server, |state| Life::new(&server, state, key, &uid, outcome)) else {
                return;
            };
            lives.insert(uid, tokio::spawn(life.live()));
        }
        if news.next().await.is_err() {
            return;
        }
    }
}

/// Pods that should run, or be stopped, and are not known. After a backup was restored these can be old ones.
fn unknown_pods(server: &Server, lives: &Lives) -> Vec<(Key, Arc<Stored>)> {
    let unknown = |pod: &Value| {
        let stopped = pod.is_deleting() && pod.meta()["deletionGracePeriodSeconds"] == 0;
        let ended = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
        !stopped && !ended && !lives.contains_key(pod.uid())
    };
    let pods = server.store.list("pods", None).filter(|(_, pod)| unknown(pod));
    pods.map(|(key, pod)| (key.clone(), pod.clone())).collect()
}

/// One pod, from its start to its end.
struct Life {
    server: Weak<Mutex<Server>>,
    news: News,
    key: Key,
    uid: String,
    outcome: PodOutcome,
    /// The node and the status that were written last.
    reported: Option<(Value, Value)>,
    /// How often the server had restarted when that was written.
    restarts: u64,
}

impl Life {
    fn new(
        shared: &Weak<Mutex<Server>>,
        server: &mut Server,
        key: Key,
        uid: &str,
        outcome: PodOutcome,
    ) -> Self {
        let own = key.clone();
        Self {
            server: shared.clone(),
            news: server.store.subscribe(move |change| change.key == own),
            key,
            uid: uid.into(),
            outcome,
            reported: None,
            restarts: server.store.restarts(),
        }
    }

    async fn live(mut self) {
        let start = Instant::now() + self.outcome.startup;
        if !self.until(start).await {
            return self.shut_down().await;
        }
        let outcome = self.outcome.clone();
        self.status(|pod, now| outcome.start(pod, now));
        if outcome.lasts() {
            self.deleted().await;
            return self.shut_down().await;
        }
        if !self.until(start + self.outcome.runtime).await {
            return self.shut_down().await;
        }
        self.status(|pod, now| outcome.finish(pod, now));
        self.deleted().await;
        self.remove();
    }

    /// Waits for a moment; false if the pod is deleted before.
    async fn until(&mut self, moment: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.deleted() => false,
            () = sleep_until(moment) => true,
        }
    }

    /// Waits until the pod is being deleted, or is gone.
    async fn deleted(&mut self) {
        let server = self.server.clone();
        loop {
            let alive = with(&server, |server| self.is_wanted(server));
            if alive != Some(true) || self.news.next().await.is_err() {
                return;
            }
        }
    }

    /// Whether the pod is to go on. A server that has restarted is told again how far it is.
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

    fn pod(&self, server: &Server) -> Option<Arc<Stored>> {
        server.store.get(&self.key).filter(|pod| pod.uid() == self.uid).cloned()
    }

    async fn shut_down(&mut self) {
        sleep(SHUTDOWN).await;
        let killed = End::Fail { exit_code: EXIT_SIGTERM, reason: "Error".into(), message: String::new() };
        self.status(|pod, now| {
            if text(&pod["status"]["phase"]) == "Running" {
                ended(pod, now, &killed, None);
            }
        });
        self.remove();
    }

    /// Lets go of a pod that is being deleted.
    fn remove(&self) {
        with(&self.server, |server| {
            let Some(ty) = server.types.get("pods", "").cloned() else { return };
            if !self.pod(server).is_some_and(|pod| pod.is_deleting()) {
                return;
            }
            let options = DeleteOptions {
                uid: Some(self.uid.clone()),
                grace_seconds: Some(0),
                ..DeleteOptions::default()
            };
            // The pod was there a moment ago, and nothing else stands in the way.
            let _ = server.delete(&ty, &self.key.namespace, &self.key.name, &options);
        });
    }

    fn status(&mut self, change: impl FnOnce(&mut Value, &str)) {
        let reported = with(&self.server, |server| {
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

fn write(server: &mut Server, old: &Arc<Stored>, new: Value) {
    let Some(ty) = server.types.get("pods", "").cloned() else { return };
    // The status written here is valid for every pod that was admitted.
    let _ = server.replace(&ty, old, new, None, &WriteOptions::direct("kubelet"));
}
