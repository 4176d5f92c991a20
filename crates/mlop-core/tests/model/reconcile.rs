//! One reconcile: a plan, carried out as `execute` does, on the model's API server.

use crate::{
    chain::{Chain, Cut},
    cluster::{Cluster, owner},
    oracle::{self, Rule},
    shared::Shared,
    stage,
};
use mlop_api::{
    features::{FeatureSnapshot, FeatureView},
    status::IntentStatus,
};
use mlop_core::{plan::Precondition, resource::InputObject};
use serde_json::{Value, json};

impl Chain {
    /// Reconciles a stage: carries out its plan as `execute` does.
    pub fn reconcile(&self, cluster: &mut Cluster, stage: usize, cut: Option<Cut>) {
        let node = &cluster.stages[stage];
        let (Some(plan), Some(seen)) = (self.plan(node), node.seen.clone()) else { return };
        for create in &plan.creates {
            if self.checks && !create.requires.iter().all(|required| self.holds(cluster, required)) {
                return;
            }
            let run = self.known.runs.get(create.object.to_string(), || created(&create.object));
            let node = &cluster.stages[stage];
            if let Some(known) = node.run(run.metadata.name.as_deref().unwrap_or_default()) {
                if owner(known) == owner(&run) {
                    continue;
                }
                return;
            }
            let inputs = self.inputs(cluster, stage);
            let live: Vec<Option<&InputObject>> = inputs.iter().map(|input| input.as_deref()).collect();
            cluster.broken = oracle::start(self.shape, &live, node, &seen, &run, stage);
            cluster.stages[stage].put(run);
        }
        for apply in &plan.applies {
            let name = apply.object["metadata"]["name"].as_str().unwrap_or_default();
            let Some(run) = cluster.stages[stage].run(name) else { continue };
            let mut json = run.json().clone();
            json["spec"]["execution"] = apply.object["spec"]["execution"].clone();
            json["metadata"]["generation"] = json!(run.metadata.generation.map(|generation| generation + 1));
            cluster.stages[stage].put(Shared::of(&json));
        }
        if cut == Some(Cut::AfterChildren) {
            return;
        }
        if let Some(status) = &plan.status {
            self.report(cluster, stage, &seen, status);
        }
        if cut == Some(Cut::AfterStatus) {
            return;
        }
        for delete in &plan.deletes {
            let node = &mut cluster.stages[stage];
            node.runs.retain(|run| run.metadata.name.as_deref() != Some(&delete.name));
            node.awake = true;
        }
        let gone = |name: &String| plan.deletes.iter().any(|delete| delete.name == *name);
        let live = cluster.stages[stage].live.as_ref().filter(|live| live.metadata.uid == seen.metadata.uid);
        let used = live.and_then(|live| Some(&live.status.as_ref()?.artifact.as_ref()?.run));
        if used.into_iter().chain(&seen.spec.pin).any(gone) {
            cluster.broken = cluster.broken.or(Some(Rule::Retention));
        }
    }

    fn holds(&self, cluster: &Cluster, required: &Precondition) -> bool {
        let input = self.known.server.input(cluster, &required.name);
        input.is_some_and(|input| {
            input.metadata.uid.as_deref() == Some(required.uid.as_str())
                && input.metadata.generation == Some(required.generation)
                && input.status.observed_generation == Some(required.generation)
                && mlop_core::condition::is_true(&input.status.conditions, "Ready")
                && input.status.artifact.as_ref().is_some_and(|a| a.digest == required.digest)
        })
    }

    fn report(&self, cluster: &mut Cluster, stage: usize, seen: &FeatureView, status: &IntentStatus) {
        let Some(live) = cluster.stages[stage].live.clone() else { return };
        if live.metadata.uid != seen.metadata.uid {
            return;
        }
        // Nothing decides on the history; without it states that differ only in their past are one.
        let mut status = IntentStatus { history: Vec::new(), ..status.clone() };
        if let Some(artifact) = &mut status.artifact {
            artifact.produced_at = stage::published_at(artifact.revision).into();
        }
        let written = json!(status);
        let view = self.known.views.get((&live, written.to_string()), || {
            let mut json = live.json().clone();
            json["status"] = written;
            Shared::of(&json)
        });
        cluster.broken = cluster.broken.or_else(|| oracle::report(live.status.as_ref(), &status));
        self.known.server.write_through(self.shape, cluster, stage, view);
    }
}

/// A run as the API server keeps it.
fn created(object: &Value) -> Shared<FeatureSnapshot> {
    let mut object = object.clone();
    let name = object["metadata"]["name"].clone();
    object["metadata"]["uid"] = name;
    object["metadata"]["generation"] = json!(1);
    object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:00Z");
    Shared::of(&object)
}
