//! Situations of an intent.

use super::{
    NOW, at, count_edit, created, object, profile,
    situation::{Situation, as_written, created_of, requeue},
    time,
};
use crate::{
    condition,
    inputs::InputState,
    intent::{Intent, Intents, Observed, present_run},
    plan::Plan,
    resource::PodView,
    runtime::controller::Reconciler,
};
use kube::{
    Resource, ResourceExt,
    core::object::{HasSpec, HasStatus},
};
use mlop_api::{labels, profile::PodProfile, status::IntentStatus};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::sync::Arc;

/// A situation of an intent: the objects that its decision depends on, and the time.
pub struct IntentCase<I: Intent> {
    pub object: I::Resource,
    pub inputs: Vec<InputState>,
    pub runs: Vec<I::Run>,
    pub pods: Vec<PodView>,
    pub cycle: Option<String>,
    /// The PodProfiles of the namespace.
    pub profiles: Vec<PodProfile>,
    pub related: I::Related,
    /// Image of the operator's worker.
    pub worker_image: &'static str,
    /// Time of the decision in seconds since the epoch.
    pub now: i64,
}

impl<I: Intent<Related: Clone>> Clone for IntentCase<I> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            inputs: self.inputs.clone(),
            runs: self.runs.clone(),
            pods: self.pods.clone(),
            cycle: self.cycle.clone(),
            profiles: self.profiles.clone(),
            related: self.related.clone(),
            worker_image: self.worker_image,
            now: self.now,
        }
    }
}

impl<I: Intent<Related: Clone>> IntentCase<I> {
    /// An intent with this name and spec that was just created.
    pub fn new(name: &str, spec: &Value, related: I::Related) -> Self {
        Self {
            object: object::<I::Resource>(name, spec),
            inputs: Vec::new(),
            runs: Vec::new(),
            pods: Vec::new(),
            cycle: None,
            profiles: Vec::new(),
            related,
            worker_image: "worker",
            now: NOW,
        }
    }

    /// The caches have this state of an input. It replaces an earlier one.
    #[must_use]
    pub fn observes(mut self, state: InputState) -> Self {
        self.inputs.retain(|known| known.name != state.name);
        self.inputs.push(state);
        self
    }

    /// A platform team writes a PodProfile. It replaces an earlier one of its name.
    #[must_use]
    pub fn profiled(mut self, profile: PodProfile) -> Self {
        self.profiles.retain(|known| known.name_any() != profile.name_any());
        self.profiles.push(profile);
        self
    }

    /// Sets fields of the spec as the user created it.
    #[must_use]
    pub fn with(mut self, set: impl Fn(&mut <I::Resource as HasSpec>::Spec)) -> Self
    where
        I::Resource: HasSpec,
    {
        set(self.object.spec_mut());
        self
    }

    /// Edits the spec: its generation grows.
    #[must_use]
    pub fn edited(self, edit: impl Fn(&mut <I::Resource as HasSpec>::Spec)) -> Self
    where
        I::Resource: HasSpec,
    {
        let mut next = self.with(edit);
        count_edit(next.object.meta_mut());
        next
    }

    #[must_use]
    pub fn annotated(mut self, name: &str, value: &str) -> Self {
        self.object.annotations_mut().insert(name.to_owned(), value.to_owned());
        self
    }

    /// Somebody deletes the intent at [`NOW`].
    #[must_use]
    pub fn being_deleted(mut self) -> Self {
        self.object.meta_mut().deletion_timestamp = Some(time(NOW));
        self
    }

    /// The operator was upgraded: its worker has this image.
    #[must_use]
    pub fn image(mut self, worker_image: &'static str) -> Self {
        self.worker_image = worker_image;
        self
    }

    /// The time of the decision, in seconds after [`NOW`].
    #[must_use]
    pub fn at(mut self, seconds: i64) -> Self {
        self.now = NOW + seconds;
        self
    }

    /// The run of the present inputs, as the intent starts it.
    ///
    /// # Panics
    /// When an input is not ready, or the spec can never work.
    pub fn run(&self) -> I::Run {
        let create = present_run(&self.observed()).expect("inputs that are ready");
        created(create.object, at(self.now))
    }

    /// Name of the run of the present inputs.
    pub fn run_name(&self) -> String {
        self.run().name_any()
    }

    /// Adds the run of the present inputs in a certain state.
    #[must_use]
    pub fn its_run(mut self, state: impl Fn(&mut I::Run)) -> Self {
        let mut run = self.run();
        state(&mut run);
        self.runs.retain(|known| known.name_any() != run.name_any());
        self.runs.push(run);
        self
    }

    /// Removes all runs.
    #[must_use]
    pub fn without_runs(mut self) -> Self {
        self.runs.clear();
        self
    }

    /// Changes the pods of the intent.
    #[must_use]
    pub fn pods(mut self, state: impl Fn(&mut PodView)) -> Self {
        self.pods.iter_mut().for_each(state);
        self
    }

    pub fn status(&self) -> IntentStatus {
        self.object.status().cloned().unwrap_or_default()
    }

    /// The state as the operator observes it.
    pub fn observed(&self) -> Observed<I> {
        Observed {
            object: Arc::new(self.object.clone()),
            inputs: self.inputs.clone(),
            runs: self.runs.iter().cloned().map(Arc::new).collect(),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            cycle: self.cycle.clone(),
            profile: profile(&self.profiles, I::flow(&self.object).profile()),
            operator: "mlop-test".into(),
            worker_image: self.worker_image.into(),
            related: self.related.clone(),
        }
    }
}

impl<I: Intent<Related: Clone>> Situation for IntentCase<I> {
    type Status = IntentStatus;

    fn plan(&self) -> Plan<IntentStatus> {
        as_written(&self.object, Intents::<I>::plan(&self.observed(), at(self.now)), at(self.now))
    }

    fn carried_out(&self, plan: &Plan<IntentStatus>) -> Self {
        let mut next = self.clone();
        if let Some(status) = &plan.status {
            *next.object.status_mut() = Some(status.clone());
        }
        next.runs.extend(created_of(plan, None, at(self.now)));
        next.pods.extend(created_of(plan, Some("Pod"), at(self.now)));
        for apply in &plan.applies {
            let metadata = &apply.object["metadata"];
            match next.runs.iter_mut().find(|run| metadata["name"] == run.name_any()) {
                Some(run) => *run = with_spec(run, &apply.object["spec"]),
                None => {
                    next.object.meta_mut().finalizers =
                        serde_json::from_value(metadata["finalizers"].clone()).unwrap();
                }
            }
        }
        for delete in &plan.deletes {
            next.runs.retain(|run| run.uid().as_ref() != Some(&delete.uid));
            next.pods.retain(|pod| pod.uid().as_ref() != Some(&delete.uid));
        }
        next
    }

    /// Runs are `run` for the run of the present inputs and `old` for others. Activation pods are `pod` and their
    /// revision, other pods are their role. `hold` and `release` set and remove the finalizer. Events are left out.
    fn summary(&self, plan: &Plan<IntentStatus>) -> String {
        let mut words = vec![self.reported(plan)];
        let run = present_run(&self.observed()).map(|create| create.object["metadata"]["name"].clone());
        let label = |metadata: &Value| match run.as_ref() == Some(&metadata["name"]) {
            true => "run".to_owned(),
            false => pod_label(&metadata["labels"]).unwrap_or_else(|| "old".to_owned()),
        };
        words.extend(
            plan.creates.iter().map(|create| format!("create {}", label(&create.object["metadata"]))),
        );
        for apply in &plan.applies {
            let metadata = &apply.object["metadata"];
            words.push(match apply.kind.kind == I::Resource::kind(&()) {
                true if metadata["finalizers"].is_null() => "release".to_owned(),
                true => "hold".to_owned(),
                false => format!("apply {}", label(metadata)),
            });
        }
        for delete in &plan.deletes {
            let pod = self.pods.iter().find(|pod| pod.uid().as_ref() == Some(&delete.uid));
            let labels = pod.map(|pod| pod.labels());
            words.push(format!("delete {}", label(&json!({"name": delete.name, "labels": labels}))));
        }
        words.extend(requeue(plan, self.now));
        words.join(" ")
    }
}

impl<I: Intent<Related: Clone>> IntentCase<I> {
    /// The conditions and a change of the artifact in the planned status.
    fn reported(&self, plan: &Plan<IntentStatus>) -> String {
        let Some(status) = &plan.status else { return "quiet".to_owned() };
        let mut words = Vec::new();
        for kind in ["Ready", "InputsReady", "UpToDate", "Reconciling", "Stalled"] {
            if let Some(c) = condition::get(&status.conditions, kind) {
                words.push(match kind {
                    "Reconciling" | "Stalled" => kind.to_owned(),
                    _ => format!("{kind}={}/{}", c.status, c.reason),
                });
            }
        }
        let artifact = |status: &IntentStatus| {
            status.artifact.as_ref().map(|a| (a.digest.clone(), a.revision, a.generation))
        };
        if let Some(new) = status.artifact.as_ref().filter(|_| artifact(status) != artifact(&self.status())) {
            let valid = if new.generation == self.object.meta().generation { "" } else { " invalid" };
            words.push(format!("artifact {}{valid}", new.revision));
        }
        words.join(" ")
    }
}

fn pod_label(labels: &Value) -> Option<String> {
    let role = labels[labels::ROLE].as_str()?;
    let revision = labels[labels::REVISION].as_str();
    Some(revision.map_or_else(|| role.to_owned(), |revision| format!("pod {revision}")))
}

/// `run` with the fields of `spec` in place of its own.
fn with_spec<K: Serialize + DeserializeOwned>(run: &K, spec: &Value) -> K {
    let mut value = serde_json::to_value(run).unwrap();
    for (field, new) in spec.as_object().unwrap() {
        value["spec"][field] = new.clone();
    }
    serde_json::from_value(value).unwrap()
}
