//! A chain as a cluster has recorded it, and what users see when something happens to it.
//!
//! `cases/flights.yaml` is the chain of `e2e/pipelines/flights.yaml` in a real cluster. A test is a situation: changes of
//! these objects as the operators write them. `UPDATE_EXPECT=1 cargo test -p kubectl-mlop` writes the golden files.

mod act;
mod arguments;
mod bundle;
mod check;
mod hostile;
mod plot;
mod pods;
mod rollout;
mod status;
mod trace;
mod why;

use crate::snapshot::{Object, ObjectId, Snapshot};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Objects, and changes of them.
#[derive(Clone)]
pub(super) struct Case {
    objects: Vec<Value>,
    now: Timestamp,
}

/// The time of the tests: minutes after the recording.
const NOW: &str = "2026-11-29T12:40:00Z";
/// When the trouble of a situation began.
const TROUBLE: &str = "2026-11-29T12:28:00Z";

/// What the scheduler says of a pod that fits on no node.
const NO_ROOM: &str = "0/1 nodes are available: 1 Insufficient cpu";

/// The recorded chain: everything is ready.
pub(super) fn flights() -> Case {
    static OBJECTS: LazyLock<Vec<Value>> =
        LazyLock::new(|| serde_saphyr::from_multiple(include_str!("cases/flights.yaml")).unwrap());
    Case { objects: OBJECTS.clone(), now: NOW.parse().unwrap() }
}

impl Case {
    pub(super) fn empty() -> Self {
        Self { objects: Vec::new(), now: NOW.parse().unwrap() }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let objects = self.objects.iter().map(|value| Object::from_value(value).unwrap().unwrap());
        Snapshot { namespace: "flights".to_owned(), objects: objects.collect(), now: self.now }
    }

    /// The object `KIND/NAME`.
    pub(super) fn object(&self, id: &str) -> &Value {
        self.objects.iter().find(|object| is(object, id)).unwrap_or_else(|| panic!("no {id}"))
    }

    /// Applies a merge patch.
    pub(super) fn with(mut self, id: &str, patch: Value) -> Self {
        let object = self.objects.iter_mut().find(|object| is(object, id));
        json_patch::merge(object.unwrap_or_else(|| panic!("no {id}")), &patch);
        self
    }

    pub(super) fn without(mut self, id: &str) -> Self {
        self.objects.retain(|object| !is(object, id));
        self
    }

    pub(super) fn add(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    /// The name of the run of an intent, from its artifact.
    pub(super) fn run_of(&self, id: &str) -> String {
        self.object(id)["status"]["artifact"]["run"].as_str().unwrap().to_owned()
    }

    /// A copy of a run under another name, created at `TROUBLE`, with changes.
    pub(super) fn another_run(self, id: &str, name: &str, patch: Value) -> Self {
        let mut run = self.object(id).clone();
        json_patch::merge(&mut run, &json!({"metadata": {"name": name, "creationTimestamp": TROUBLE}}));
        json_patch::merge(&mut run, &patch);
        self.add(run)
    }

    /// New data has failed at `id`. The artifact in use stays. Everything downstream names the cause.
    pub(super) fn fails(mut self, id: &str, reason: &str, message: &str) -> Self {
        let (kind, name) = id.split_once('/').unwrap();
        let text = format!("{kind} {name}: {reason}: {message}");
        let cause = json!({"kind": kind, "name": name, "reason": reason, "message": message});
        let headline = json!({"reason": reason, "message": message});
        self = self.with(id, json!({"status": {"cause": cause, "headline": headline}}));
        self = self
            .condition(id, "UpToDate", "False", reason, &text)
            .condition(id, "Stalled", "True", reason, &text);
        let snapshot = self.snapshot();
        let origin = ObjectId::new(kind, name);
        let intents = snapshot.of_class(mlop_api::kinds::Class::Intent).filter(|object| object.id != origin);
        let downstream =
            intents.filter(|object| crate::references::path(&snapshot, &object.id, &origin).is_some());
        let downstream: Vec<String> = downstream.map(|object| object.id.to_string()).collect();
        for id in downstream {
            let headline = json!({"reason": "UpstreamFailed", "message": text});
            self = self
                .with(&id, json!({"status": {"cause": cause, "headline": headline}}))
                .condition(&id, "InputsReady", "False", "UpstreamFailed", &text)
                .condition(&id, "UpToDate", "False", "UpstreamFailed", &text);
        }
        self
    }

    /// The pod of new work at `id` waits for a node: nothing has failed.
    pub(super) fn queued(mut self, id: &str) -> Self {
        let is_ready = |case: &Self, id: &str| !case.object(id)["status"]["artifact"].is_null();
        let objects =
            ["FeatureView/route-delays", "TrainingJob/delay", "Model/delay", "ModelDeployment/delay"];
        let (kind, name) = id.split_once('/').unwrap();
        let cause = json!({"kind": kind, "name": name, "reason": "Unschedulable", "message": NO_ROOM});
        for object in objects {
            let reason = if object == id { "Unschedulable" } else { "WaitingForInputs" };
            let message = format!("{kind} {name}: Unschedulable: {NO_ROOM}");
            self = self.with(
                object,
                json!({"status": {"cause": cause,
                "headline": {"reason": reason, "message": message}}}),
            );
            let kind = if is_ready(&self, object) { "UpToDate" } else { "Ready" };
            self = self
                .condition(object, kind, "Unknown", reason, &message)
                .condition(object, "Stalled", "False", reason, "");
        }
        self
    }

    /// Changes the time of a condition.
    pub(super) fn transition(&mut self, id: &str, kind: &str, time: &str) {
        let object = self.objects.iter_mut().find(|object| is(object, id)).unwrap();
        let conditions = object["status"]["conditions"].as_array_mut().unwrap();
        let condition = conditions.iter_mut().find(|condition| condition["type"] == kind).unwrap();
        condition["lastTransitionTime"] = json!(time);
    }

    /// Sets a condition as an operator does.
    pub(super) fn condition(
        mut self,
        id: &str,
        kind: &str,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Self {
        let object = self.objects.iter_mut().find(|object| is(object, id)).unwrap();
        let generation = object["metadata"]["generation"].clone();
        let conditions = object["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["type"] != kind);
        conditions.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": TROUBLE, "observedGeneration": generation,
        }));
        self
    }

    /// The object has never published anything: no artifact, and `Ready` is Unknown.
    pub(super) fn unpublished(self, id: &str, reason: &str, message: &str) -> Self {
        let headline = json!({"reason": reason, "message": message});
        let nothing = json!({"artifact": null, "summary": null, "serving": null, "registered": null, "headline": headline});
        self.with(id, json!({"status": nothing}))
            .condition(id, "Ready", "Unknown", reason, message)
            .condition(id, "UpToDate", "Unknown", reason, message)
    }
}

fn is(object: &Value, id: &str) -> bool {
    id.split_once('/')
        .is_some_and(|(kind, name)| object["kind"] == kind && object["metadata"]["name"] == name)
}
