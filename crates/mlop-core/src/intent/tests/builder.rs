//! A kind of intent for tests, and fluent builders of its situations.

pub(super) use crate::testing::{NOW, descendant, failed, missing, outdated, ready, version};
use crate::{
    Blocked, Plan,
    condition::{self, ConditionStatus, Conditions},
    inputs::{self, InputState, ReadyInput},
    intent::{Activation, Identity, Intent, Observed, plan},
    plan::Action,
    resource::PodView,
    run::RunResource,
    testing::{
        self, Forecast, ForecastContent, ForecastRun, ForecastRunSpec, ForecastSpec, NS, TestLineage, at,
        time,
    },
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::{Consistency, Flow, NamedInput, Trigger, TriggerMode},
    contract::condition_type,
    duration::Span,
    labels,
    result::{Activated, Failure, ResultDocument},
    run::{Execution, Lineage},
    status::{AttemptFailure, IntentStatus, Output, Verdict},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The kind under test. With `ACTIVATES`, results are shown by an alias.
pub(super) struct Forecasts<const ACTIVATES: bool>;

impl<const ACTIVATES: bool> Intent for Forecasts<ACTIVATES> {
    type Resource = Forecast;
    type Run = ForecastRun;
    /// Why the connection is not ready; none if it is.
    type Related = Option<&'static str>;
    const ACTIVATES: bool = ACTIVATES;

    fn observe(&self, _: &Forecast, _: &[Arc<ForecastRun>]) -> Self::Related {
        None
    }

    fn flow(object: &Forecast) -> &dyn Flow {
        &object.spec
    }

    fn inputs(object: &Forecast) -> Vec<NamedInput> {
        object.spec.inputs.clone()
    }

    fn consistency(object: &Forecast) -> Consistency {
        object.spec.consistency
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<ForecastContent>, Blocked> {
        if observed.object.spec.method == "guess" {
            return Err(Blocked::stalled(Reason::InvalidSpec, "spec.method: guess is not a method"));
        }
        Ok(Identity::of(ForecastContent { method: observed.object.spec.method.clone() }, Some("files")))
    }

    fn execution(object: &Forecast) -> Execution {
        object.spec.execution.clone()
    }

    fn run(
        _: &Observed<Self>,
        metadata: ObjectMeta,
        identity: &Identity<ForecastContent>,
        lineage: Lineage,
        execution: Execution,
        _: &[ReadyInput],
    ) -> ForecastRun {
        let spec =
            ForecastRunSpec { content: identity.content.clone(), lineage: TestLineage(lineage), execution };
        ForecastRun { metadata, spec, status: None }
    }

    fn judge(object: &Forecast, run: &ForecastRun) -> Option<Verdict> {
        let gate = object.spec.gate?;
        let measured = run.status.as_ref()?.output.as_ref()?.summary.clone()?;
        Some(Verdict {
            run: run.name_any(),
            gates_digest: Digest::of_bytes(&gate.to_be_bytes()),
            passed: measured.parse::<u32>().is_ok_and(|measured| measured >= gate),
            message: format!("{measured}, want at least {gate}"),
        })
    }

    fn activation(observed: &Observed<Self>, _: &ForecastRun) -> Activation {
        match observed.related {
            _ if !ACTIVATES => Activation::None,
            waits_for => Activation::Pod {
                parameters: parameters(&observed.object.spec.alias),
                build: Box::new(|metadata, _, _| Pod { metadata, spec: None, status: None }),
                waits_for: waits_for.map(str::to_owned),
            },
        }
    }
}

fn parameters(alias: &str) -> Digest {
    Digest::of_bytes(alias.as_bytes())
}

/// One situation of an intent.
#[derive(Clone)]
pub(super) struct Case {
    activates: bool,
    now: i64,
    object: Forecast,
    inputs: Vec<InputState>,
    runs: Vec<ForecastRun>,
    pods: Vec<PodView>,
    cycle: Option<String>,
    related: Option<&'static str>,
}

/// An intent without inputs whose results are not activated.
pub(super) fn intent(name: &str) -> Case {
    let mut object =
        Forecast::new(name, ForecastSpec { method: "mean".into(), history_limit: 10, ..Default::default() });
    object.metadata.namespace = Some(NS.into());
    object.metadata.uid = Some("intent-uid".into());
    object.metadata.generation = Some(1);
    Case {
        activates: false,
        now: NOW,
        object,
        inputs: Vec::new(),
        runs: Vec::new(),
        pods: Vec::new(),
        cycle: None,
        related: None,
    }
}

impl Case {
    /// Results are shown by the alias `champion`.
    pub(super) fn activates(mut self) -> Self {
        self.activates = true;
        self.object.spec.alias = "champion".into();
        self
    }

    /// Edits the spec: its generation grows.
    pub(super) fn edited(mut self, edit: impl Fn(&mut ForecastSpec)) -> Self {
        edit(&mut self.object.spec);
        self.object.metadata.generation = self.object.metadata.generation.map(|generation| generation + 1);
        self
    }

    /// Sets fields of the spec as the user created it.
    pub(super) fn with(mut self, set: impl Fn(&mut ForecastSpec)) -> Self {
        set(&mut self.object.spec);
        self
    }

    pub(super) fn manual(self) -> Self {
        self.with(|spec| spec.trigger.mode = TriggerMode::Manual)
    }

    pub(super) fn settles(self, seconds: u32) -> Self {
        self.with(|spec| spec.trigger.stabilization_window = Some(Span::seconds(seconds)))
    }

    pub(super) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.object.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn being_deleted(mut self) -> Self {
        self.object.metadata.deletion_timestamp = Some(time(NOW));
        self
    }

    pub(super) fn cycle(mut self, path: &str) -> Self {
        self.cycle = Some(path.to_owned());
        self
    }

    pub(super) fn not_connected(mut self, missing: &'static str) -> Self {
        self.related = Some(missing);
        self
    }

    /// The time of the decision, in seconds after [`NOW`].
    pub(super) fn at(mut self, seconds: i64) -> Self {
        self.now = NOW + seconds;
        self
    }

    /// Adds an input, or replaces the one of this name.
    pub(super) fn input(mut self, state: InputState) -> Self {
        self.inputs.retain(|known| known.name != state.name);
        self.object.spec.inputs.retain(|known| known.name != state.name);
        self.object.spec.inputs.push(NamedInput { name: state.name.clone(), from: state.from.clone() });
        self.inputs.push(state);
        self
    }

    /// The run that the intent starts now, or its present one.
    pub(super) fn run(&self) -> ForecastRun {
        let mut alone = self.clone();
        alone.runs.clear();
        alone.pods.clear();
        alone.object.status = None;
        alone.object.spec.suspend = false;
        alone.object.spec.pin = None;
        alone.object.spec.trigger = Trigger::default();
        let mut plan = alone.plan();
        assert_eq!(plan.creates.len(), 1, "no run starts: {plan:#?}");
        created(plan.creates.remove(0).object, self.now)
    }

    /// Name of the run of the present inputs.
    pub(super) fn run_name(&self) -> String {
        self.run().name_any()
    }

    /// Adds the run of the present inputs in a state such as [`succeeded`].
    pub(super) fn its_run(mut self, state: impl Fn(&mut ForecastRun)) -> Self {
        let mut run = self.run();
        if self.activates {
            let revision = self.runs.len() + self.pods.len() + 1;
            run.labels_mut().insert(labels::REVISION.into(), revision.to_string());
        }
        state(&mut run);
        self.runs.retain(|known| known.name_any() != run.name_any());
        self.runs.push(run);
        self
    }

    /// Removes all runs.
    pub(super) fn without_runs(mut self) -> Self {
        self.runs.clear();
        self
    }

    /// Changes the pods of the intent.
    pub(super) fn pods(mut self, state: impl Fn(&mut PodView)) -> Self {
        self.pods.iter_mut().for_each(state);
        self
    }

    /// Carries out plans until one is quiet.
    pub(super) fn reconciled(self) -> Self {
        let mut case = self;
        for _ in 0..10 {
            let plan = case.plan();
            if plan.is_quiet() {
                return case;
            }
            case = case.carried_out(&plan);
        }
        panic!("reconciling does not end: {:#?}", case.plan());
    }

    pub(super) fn status(&self) -> IntentStatus {
        self.object.status.clone().unwrap_or_default()
    }

    pub(super) fn plan(&self) -> Plan<IntentStatus> {
        let now = at(self.now);
        if self.activates {
            plan(&self.observed::<true>(), now)
        } else {
            plan(&self.observed::<false>(), now)
        }
    }

    fn observed<const ACTIVATES: bool>(&self) -> Observed<Forecasts<ACTIVATES>> {
        Observed {
            object: Arc::new(self.object.clone()),
            inputs: self.inputs.clone(),
            runs: self.runs.iter().cloned().map(Arc::new).collect(),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            cycle: self.cycle.clone(),
            operator: "mlop-test".into(),
            worker_image: "worker".into(),
            related: self.related,
        }
    }

    /// The situation after the API server has carried out `plan`.
    pub(super) fn carried_out(&self, plan: &Plan<IntentStatus>) -> Self {
        let mut next = self.clone();
        if let Some(status) = &plan.status {
            next.object.status = Some(status.clone());
        }
        for create in &plan.creates {
            match create.kind.kind.as_str() {
                "ForecastRun" => next.runs.push(created(create.object.clone(), self.now)),
                _ => next.pods.push(created(create.object.clone(), self.now)),
            }
        }
        for apply in &plan.applies {
            let name = apply.object["metadata"]["name"].as_str().unwrap();
            let run = next.runs.iter_mut().find(|run| run.name_any() == name).unwrap();
            run.spec.execution = serde_json::from_value(apply.object["spec"]["execution"].clone()).unwrap();
        }
        for delete in &plan.deletes {
            next.runs.retain(|run| run.uid().as_ref() != Some(&delete.uid));
            next.pods.retain(|pod| pod.uid().as_ref() != Some(&delete.uid));
        }
        next
    }
}

fn created<K: serde::de::DeserializeOwned>(mut object: Value, now: i64) -> K {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    object["metadata"]["uid"] = json!(format!("{name}-uid"));
    object["metadata"]["generation"] = json!(1);
    object["metadata"]["creationTimestamp"] = json!(time(now));
    serde_json::from_value(object).unwrap()
}

// States of runs.

/// The run has succeeded at [`NOW`] with the score 5. Equal inputs give equal results.
pub(super) fn succeeded(run: &mut ForecastRun) {
    finish(run, 5, NOW);
}

/// As [`succeeded`], `seconds` after [`NOW`].
pub(super) fn succeeded_at(seconds: i64) -> impl Fn(&mut ForecastRun) {
    move |run| finish(run, 5, NOW + seconds)
}

/// The run has succeeded with this score.
pub(super) fn scored(score: u32) -> impl Fn(&mut ForecastRun) {
    move |run| finish(run, score, NOW)
}

/// The run has succeeded, and its pod has given the alias `champion` to the result.
pub(super) fn activated(run: &mut ForecastRun) {
    activated_at(0)(run);
}

/// As [`activated`], `seconds` after [`NOW`].
pub(super) fn activated_at(seconds: i64) -> impl Fn(&mut ForecastRun) {
    move |run| {
        finish(run, 5, NOW + seconds);
        let revision = run.labels()[labels::REVISION].parse().unwrap();
        let output = run.status.as_mut().unwrap().output.as_mut().unwrap();
        output.activated = Some(Activated { revision, parameters: parameters("champion") });
    }
}

fn finish(run: &mut ForecastRun, score: u32, second: i64) {
    let digest = Digest::of_bytes(run.lineage().input_digest.as_str().as_bytes());
    let status = run.status.get_or_insert_default();
    status.attempts = 1;
    status.finished_at = Some(at(second).to_string());
    status.output = Some(Output {
        uri: format!("s3://files/{}", digest.short(12)),
        digest,
        store: "files".into(),
        media_type: "table".into(),
        schema_digest: None,
        metrics: Vec::new(),
        summary: Some(score.to_string()),
        registered: None,
        activated: None,
    });
    set(run, ConditionStatus::True, Reason::Succeeded, "done");
}

/// The run has no status yet.
pub(super) fn active(_: &mut ForecastRun) {}

/// The pod of the run has no image.
pub(super) fn held_up(run: &mut ForecastRun) {
    set(run, ConditionStatus::Unknown, Reason::ImagePull, "no such image");
}

/// An attempt of the run has failed, and the next one comes.
pub(super) fn retrying(run: &mut ForecastRun) {
    run.status.get_or_insert_default().attempts = 1;
    set(run, ConditionStatus::Unknown, Reason::Retrying, "attempt 1 of 3 failed");
}

/// The attempts of the run are used up.
pub(super) fn dead(run: &mut ForecastRun) {
    let status = run.status.get_or_insert_default();
    status.attempts = 3;
    status.finished_at = Some(at(NOW).to_string());
    status.failure = Some(AttemptFailure {
        attempt: 3,
        reason: "UserError".into(),
        message: "exit code 1".into(),
        retryable: true,
        at: at(NOW).to_string(),
    });
    set(run, ConditionStatus::False, Reason::UserError, "exit code 1");
}

fn set(run: &mut ForecastRun, status: ConditionStatus, reason: Reason, message: &str) {
    let generation = run.metadata.generation.unwrap();
    let conditions = &mut run.status.get_or_insert_default().conditions;
    let now = at(NOW);
    Conditions::new(conditions, generation, now).set(condition_type::SUCCEEDED, status, reason, message);
}

// States of activation pods.

/// The pod has succeeded.
pub(super) fn pod_succeeded(pod: &mut PodView) {
    pod.status = testing::terminated(&ResultDocument::default(), NOW);
}

/// The pod has failed `seconds` after [`NOW`] for a reason that may pass.
pub(super) fn pod_failed(seconds: i64) -> impl Fn(&mut PodView) {
    let failure = Failure::transient(Reason::OnlineStoreUnreachable, "no connection");
    move |pod| pod.status = testing::terminated(&ResultDocument::failed(failure.clone()), NOW + seconds)
}

/// The worker of the pod has refused its task.
pub(super) fn pod_refused(pod: &mut PodView) {
    let failure = Failure::terminal(Reason::TrackingRefused, "no such model");
    pod.status = testing::terminated(&ResultDocument::failed(failure), NOW);
}

/// The external system shows a higher revision already.
pub(super) fn pod_superseded(by: i64) -> impl Fn(&mut PodView) {
    let failure = Failure::superseded(Some(by), "too late");
    move |pod| pod.status = testing::terminated(&ResultDocument::failed(failure.clone()), NOW)
}

/// The image of the pod cannot be pulled.
pub(super) fn pod_held_up(pod: &mut PodView) {
    pod.status = testing::held_up();
}

/// The plan in one line: the conditions after it, then the writes, then the time of the next reconcile.
///
/// `quiet` means that the status is left as it is. Times are seconds after the decision. Runs are `run` for the run of
/// the present inputs and `old` for others; activation pods are `pod` and their revision.
pub(super) fn summary(case: &Case, plan: &Plan<IntentStatus>) -> String {
    let mut words = Vec::new();
    match &plan.status {
        None => words.push("quiet".to_owned()),
        Some(status) => {
            for kind in ["Ready", "InputsReady", "UpToDate", "Reconciling", "Stalled"] {
                if let Some(c) = condition::get(&status.conditions, kind) {
                    let word = match kind {
                        "Reconciling" | "Stalled" => kind.to_owned(),
                        _ => format!("{kind}={}/{}", c.status, c.reason),
                    };
                    words.push(word);
                }
            }
            let before = case.status();
            let artifact = |status: &IntentStatus| {
                status.artifact.as_ref().map(|a| (a.digest.clone(), a.revision, a.generation))
            };
            if let Some(new) = status.artifact.as_ref().filter(|_| artifact(status) != artifact(&before)) {
                let valid = if new.generation == case.object.metadata.generation { "" } else { " invalid" };
                words.push(format!("artifact {}{valid}", new.revision));
            }
        }
    }
    let name = |name: &str| match name.split_once("-a") {
        _ if name == case.current_run() => "run".to_owned(),
        Some((_, revision)) if name.matches('-').count() > 1 => format!("pod {revision}"),
        _ => "old".to_owned(),
    };
    for create in &plan.creates {
        words.push(format!("create {}", name(create.object["metadata"]["name"].as_str().unwrap())));
    }
    for apply in &plan.applies {
        words.push(format!("apply {}", name(apply.object["metadata"]["name"].as_str().unwrap())));
    }
    for delete in &plan.deletes {
        words.push(format!("delete {}", name(&delete.name)));
    }
    if let Action::RequeueAt(due) = plan.action {
        words.push(format!("requeue {}", due.as_second() - case.now));
    }
    words.join(" ")
}

impl Case {
    /// Name of the run of the present inputs, if one can start.
    fn current_run(&self) -> String {
        let usable = self.inputs.iter().all(|input| inputs::gate(input).is_ok());
        let sound = self.cycle.is_none() && self.object.spec.method != "guess" && usable;
        if sound && !self.diverged() { self.run_name() } else { String::new() }
    }

    fn diverged(&self) -> bool {
        let ready: Vec<_> = self.inputs.iter().filter_map(|input| inputs::gate(input).ok()).collect();
        inputs::converged(&ready, self.object.spec.consistency).is_err()
    }
}

impl Case {
    pub(super) fn runs_left(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn has_run(&self, name: &str) -> bool {
        self.runs.iter().any(|run| run.name_any() == name)
    }

    /// The revisions of the activation pods that are left.
    pub(super) fn pods_left(&self) -> Vec<String> {
        self.pods.iter().map(|pod| pod.labels()[labels::REVISION].clone()).collect()
    }
}
