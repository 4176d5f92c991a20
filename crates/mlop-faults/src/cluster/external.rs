//! The external systems: the bucket, Redis and MLflow, as far as pods and checks need them.

use super::{
    credentials::Credentials,
    mlflow::{self, Mlflow, RegisteredModel},
    needs,
    object_stores::ObjectStores,
    pointer::Pointer,
};
use crate::plan::System;
use mlop_api::{
    Digest, Reason,
    common::Metric,
    result::{Activated, Failure, ResultDocument},
    task::{AliasWork, AnalyzeWork, Departure, MEASURED, PROBES, ViewKey, Work},
};
use mlop_sim::kubelet::PodOutcome;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Changes the course of a pod, for example so that it waits in a queue.
pub type CourseChange = fn(PodOutcome) -> PodOutcome;

/// The state of the external systems, and the behaviour of the pods that use them.
pub struct ExternalSystems {
    /// The content of the source's bucket.
    pub bucket: String,
    /// The bytes of the object stores.
    pub object_stores: ObjectStores,
    /// The Secrets of the namespace, and the keys that the systems accept.
    pub credentials: Credentials,
    /// The metric that a training reports.
    pub auc: f64,
    /// Failures of the next pods by kind of work, first one first.
    pub failures: BTreeMap<&'static str, Vec<Failure>>,
    /// Changes of the courses of the next pods by kind of work, first one first.
    pub courses: BTreeMap<&'static str, Vec<CourseChange>>,
    /// The MLflow servers by address.
    pub mlflow: BTreeMap<String, Mlflow>,
    /// Number of pods that began by kind of work.
    pub started: BTreeMap<&'static str, u32>,
    /// The pointers of Redis by kind, address, namespace and owner: `view redis:6379 default/routes`.
    pub pointers: BTreeMap<String, Pointer>,
    /// How often the online store has lost its data.
    pub flushes: u32,
    /// Number of probes that the data of the online store have seen.
    pub probes: u64,
    /// Number of moves by pointer.
    pub moves: BTreeMap<String, u32>,
    /// The bucket had content for a moment that did not stay.
    pub flapped: bool,
    /// The ends of the outages of systems.
    pub away: BTreeMap<System, Instant>,
    /// The Deployments of models never become ready.
    pub broken_rollout: bool,
    /// Digests of the models made from the data [`FAULTY`]. The servers of such models fail all requests.
    pub faulty: BTreeSet<Digest>,
}

impl Default for ExternalSystems {
    fn default() -> Self {
        Self {
            bucket: "january".into(),
            object_stores: ObjectStores::default(),
            credentials: Credentials::default(),
            auc: 0.75,
            failures: BTreeMap::new(),
            courses: BTreeMap::new(),
            mlflow: BTreeMap::new(),
            started: BTreeMap::new(),
            pointers: BTreeMap::new(),
            flushes: 0,
            probes: 0,
            moves: BTreeMap::new(),
            flapped: false,
            away: BTreeMap::new(),
            broken_rollout: false,
            faulty: BTreeSet::new(),
        }
    }
}

/// Data that make a bad model.
pub const FAULTY: &str = "faulty";
/// Requests that a version gets in an interval.
const REQUESTS: f64 = 100.0;

/// The name of the pointer of a view in a Redis.
pub fn view_pointer(address: &str, view: &ViewKey) -> String {
    format!("view {address} {}/{}", view.namespace, view.name)
}

impl ExternalSystems {
    /// Notes that `made` is the result of bad data, if one of the inputs of `work` is.
    pub fn note_faulty(&mut self, work: &Work, made: Option<&Digest>) {
        let inputs: Vec<&Digest> = match work {
            Work::Version(work) => vec![&work.listing],
            Work::Snapshot(work) => work.inputs.iter().map(|input| &input.digest).collect(),
            Work::Train(work) => work.inputs.iter().map(|input| &input.digest).collect(),
            _ => Vec::new(),
        };
        let is_source = matches!(work, Work::Scan(_)) && self.bucket == FAULTY;
        if is_source || inputs.into_iter().any(|input| self.faulty.contains(input)) {
            self.faulty.extend(made.cloned());
        }
    }

    /// The requests of an interval, in which those to a bad model fail.
    pub fn measure(&self, work: &AnalyzeWork) -> ResultDocument {
        let errors = if self.faulty.contains(&work.model) { REQUESTS } else { 0.0 };
        let values = [REQUESTS, errors, 0.01, REQUESTS, 0.0, 0.0];
        ResultDocument {
            metrics: MEASURED.into_iter().zip(values).map(|(name, value)| Metric::new(name, value)).collect(),
            ..ResultDocument::default()
        }
    }

    /// Moves a pointer, but never back.
    pub fn activate(&mut self, name: String, target: &Activated, content: String) -> ResultDocument {
        let now = self.pointers.entry(name.clone()).or_default();
        let is_same = target.revision == now.revision && content == now.content;
        // A view that has left may come back under the revision that keeps the earlier ones out.
        let is_free = target.revision == now.revision && now.content.is_empty();
        if target.revision <= now.revision && !is_same && !is_free {
            let message = format!("revision {} is active already", now.revision);
            return ResultDocument::failed(Failure::superseded(Some(now.revision), message));
        }
        if !is_same {
            *now = Pointer { revision: target.revision, content };
            *self.moves.entry(name).or_default() += 1;
        }
        ResultDocument::default()
    }

    /// Removes what a pointer shows. Revisions below that of the departure come too late.
    pub fn leave(&mut self, name: String, left: &Departure) {
        let now = self.pointers.entry(name).or_default();
        if now.revision <= left.revision {
            *now = Pointer { revision: left.revision, content: String::new() };
        }
    }

    /// The online store loses its data.
    pub fn flush(&mut self) {
        self.pointers.retain(|name, _| !name.starts_with("view "));
        self.flushes += 1;
    }

    /// Looks at the online store, whose data had seen so many probes at the last one. Those of a backup get another mark.
    pub fn probe_online(&mut self, seen: u64) -> ResultDocument {
        self.flushes += u32::from(self.probes < seen);
        self.probes = self.probes.max(seen) + 1;
        ResultDocument {
            digest: Some(Digest::of_bytes(&self.flushes.to_le_bytes())),
            metrics: vec![Metric::new(PROBES, self.probes as f64)],
            ..ResultDocument::default()
        }
    }

    /// A system does not answer for a while.
    pub fn take_away(&mut self, system: System, time: Duration) {
        let end = Instant::now() + time;
        self.away.entry(system).and_modify(|until| *until = end.max(*until)).or_insert(end);
    }

    /// Checks that all systems that a piece of work needs answer.
    ///
    /// # Errors
    /// The outage of one.
    pub fn reach_all(&self, work: &Work) -> Result<(), Failure> {
        let is_away = |system: &System| self.away.get(system).is_some_and(|end| *end > Instant::now());
        let Some(away) = needs::systems(work).find(is_away) else { return Ok(()) };
        let reason = match away {
            System::ObjectStores => Reason::StoreUnreachable,
            System::Redis => Reason::OnlineStoreUnreachable,
            System::Mlflow => Reason::TrackingUnreachable,
        };
        Err(Failure::transient(reason, "no answer"))
    }

    /// Gives an alias to a version, or checks it.
    pub fn give_alias(&mut self, work: &AliasWork) -> ResultDocument {
        let server = self.mlflow.entry(work.tracking.clone()).or_default();
        let (result, is_new) = mlflow::activate(server, work);
        if is_new {
            let name = format!("alias {} {}", work.alias.name, work.alias.owner);
            *self.moves.entry(name).or_default() += 1;
        }
        result
    }

    /// All registered models of all servers.
    pub fn registered_models(&mut self) -> impl Iterator<Item = &mut RegisteredModel> {
        self.mlflow.values_mut().flat_map(|server| server.values_mut())
    }

    /// A registered model of a server.
    pub fn registered_model(&mut self, tracking: &str, name: &str) -> &mut RegisteredModel {
        self.mlflow.entry(tracking.to_owned()).or_default().entry(name.to_owned()).or_default()
    }
}
