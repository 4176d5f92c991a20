//! The writes of operators, checked as they are accepted.

use super::request::OperatorRequest;
use crate::timing::SECOND_LEADER;
use mlop_api::{Reason, contract::condition_type};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Operators may still write objects that a restored server does not know for this time.
const RESTORE_NOTICED: Duration = Duration::from_secs(15);
/// Plurals of the kinds of runs.
const RUNS: [&str; 4] = ["datasetversions", "featuresnapshots", "trainingruns", "modelversions"];

/// Most requests of one operator in one run. A run without faults makes a few hundred.
const REQUESTS_MAX: u64 = 4_000;

/// Requests of operators, and the violations among the writes that the server accepted.
#[derive(Clone, Default)]
pub struct Ledger {
    violations: Vec<String>,
    /// Number of requests by operator.
    requests: BTreeMap<String, u64>,
    /// Number of creations by kind and name.
    pub created: BTreeMap<(String, String), u32>,
    /// Artifacts that may be consumed: kind, name, digest.
    published: BTreeSet<(String, String, String)>,
    restored: Option<Instant>,
    rivals: Option<Instant>,
    /// The last report by uid.
    reported: BTreeMap<String, Report>,
}

/// The parts of a status that must not go back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    generation: i64,
    revision: i64,
    digest: String,
}

impl Ledger {
    /// All violations, each beginning with the name of its oracle.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = self.violations.clone();
        let excessive = self.requests.iter().filter(|(_, requests)| **requests > REQUESTS_MAX);
        failures.extend(excessive.map(|(by, count)| format!("bounded pressure: {by} made {count} requests")));
        failures
    }

    pub fn count_request(&mut self, by: &str) {
        *self.requests.entry(by.to_owned()).or_default() += 1;
    }

    /// The server was restored from a backup: numbers may go back once.
    pub fn note_restore(&mut self) {
        self.reported.clear();
        self.restored = Some(Instant::now());
    }

    pub fn was_restored(&self) -> bool {
        self.restored.is_some()
    }

    /// Two instances believe that they lead.
    pub fn note_rivals(&mut self) {
        self.rivals = Some(Instant::now());
    }

    /// Checks a write that the server accepted.
    pub fn check_write(&mut self, request: &OperatorRequest) {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match request.verb {
            // Events are repeated after a failure, and leases exist in some plans only.
            "create" if request.kind == "events" || request.kind == "leases" => {}
            "create" => {
                *self.created.entry((request.kind.clone(), request.name.clone())).or_default() += 1;
                if RUNS.contains(&request.kind.as_str()) {
                    self.check_inputs(request, &body);
                }
            }
            "delete" if body["preconditions"]["uid"].is_null() => {
                let violation = format!("{} {} was deleted without its uid", request.kind, request.name);
                self.add("identity", &violation);
            }
            "apply" if body["metadata"]["uid"].is_null() => {
                let object = format!("{} {} {}", request.kind, request.name, request.subresource);
                self.add("identity", &format!("{object} was applied without its uid"));
            }
            // The server refuses a merge patch with another object's uid.
            "patch"
                if body["metadata"]["uid"].is_null()
                    && (body[0]["op"] != "test" || body[0]["path"] != "/metadata/uid") =>
            {
                self.add(
                    "identity",
                    &format!("{} {} was patched without its uid", request.kind, request.name),
                );
            }
            // An answer to a run is one field of its status.
            "apply" if request.subresource == "status" && is_whole(&body["status"]) => {
                self.check_status(request, &body);
            }
            _ => {}
        }
    }

    /// An operator wrote long after it had lost its lease.
    pub fn add_usurper(&mut self, request: &OperatorRequest) {
        let OperatorRequest { by, kind, name, .. } = request;
        self.add("one leader", &format!("{by} wrote {kind} {name} long after it had lost its lease"));
    }

    /// Violations that others have found.
    pub fn add_all(&mut self, violations: Vec<String>) {
        self.violations.extend(violations);
    }

    fn add(&mut self, oracle: &str, violation: &str) {
        self.violations.push(format!("{oracle}: {violation}"));
    }

    /// A run may consume published artifacts only.
    fn check_inputs(&mut self, request: &OperatorRequest, body: &Value) {
        let spec = &body["spec"];
        let Some(lineage) = Some(&spec["lineage"]).filter(|part| part.is_object()) else {
            return self.add("gate safety", &format!("{} {} has no lineage", request.kind, request.name));
        };
        for input in lineage["inputs"].as_array().into_iter().flatten() {
            let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
            let artifact = (text("kind"), text("object"), text("digest"));
            if !self.published.contains(&artifact) {
                let (kind, name, digest) = artifact;
                let run = format!("{} {}", request.kind, request.name);
                let violation =
                    format!("{run} consumes {digest} of {kind} {name}, which was never published");
                self.add("gate safety", &violation);
            }
        }
    }

    fn check_status(&mut self, request: &OperatorRequest, body: &Value) {
        let (uid, status) = (body["metadata"]["uid"].as_str().unwrap_or_default(), &body["status"]);
        self.check_progress(request, uid, status);
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        if conditions.iter().any(|condition| condition["reason"] == Reason::Panicked.as_str()) {
            self.add("no panic", &format!("a reconcile of {} {} panicked", request.kind, request.name));
        }
        let is_ready =
            |condition: &Value| condition["type"] == condition_type::READY && condition["status"] == "True";
        let digest = status["artifact"]["digest"].as_str();
        if let Some(digest) = digest.filter(|_| conditions.iter().any(is_ready)) {
            let kind = body["kind"].as_str().unwrap_or_default().to_owned();
            self.published.insert((kind, request.name.clone(), digest.to_owned()));
        }
    }

    /// Generations and revisions only grow, and another digest has another revision.
    fn check_progress(&mut self, request: &OperatorRequest, uid: &str, status: &Value) {
        let now = Report {
            generation: status["observedGeneration"].as_i64().unwrap_or_default(),
            revision: status["artifact"]["revision"].as_i64().unwrap_or_default(),
            digest: status["artifact"]["digest"].as_str().unwrap_or_default().to_owned(),
        };
        let before = self.reported.get(uid).cloned().unwrap_or_default();
        let shares_revision =
            !before.digest.is_empty() && now.digest != before.digest && now.revision <= before.revision;
        let goes_back = now.generation < before.generation || now.revision < before.revision;
        let is_restored = self.restored.is_some_and(|at| at.elapsed() < RESTORE_NOTICED);
        // Each of two leaders may write a state from before the other wrote.
        let has_rivals = self.rivals.is_some_and(|at| at.elapsed() < SECOND_LEADER);
        if !is_restored && !has_rivals && (goes_back || shares_revision) {
            let object = format!("{} {}", request.kind, request.name);
            self.add("monotonic status", &format!("{object} went from {before:?} to {now:?}"));
        }
        self.reported.insert(uid.to_owned(), now);
    }
}

/// Whether a status is one that its operator reports, with a generation.
fn is_whole(status: &Value) -> bool {
    !status["observedGeneration"].is_null()
}
