//! A kind of intent for tests, and fluent builders of its situations.

pub(super) use crate::testing::{
    NOW, Situation, active, check, dead, descendant, failed, finish, missing, outdated, ready, refused,
    repeated, retrying, succeeded, version, without_image as held_up,
};
use crate::{
    Blocked,
    inputs::{InputState, ReadyInput},
    intent::{Activation, Identity, Intent, Observed},
    resource::PodView,
    testing::{
        self, Forecast, ForecastContent, ForecastRun, ForecastRunSpec, ForecastSpec, IntentCase, TestLineage,
    },
};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::{Consistency, Flow, NamedInput, TriggerMode},
    duration::Span,
    labels,
    result::{Activated, Failure, Registered, ResultDocument},
    run::{Execution, Lineage},
    status::Verdict,
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
        let image = observed.worker_image.clone();
        match observed.related {
            _ if !ACTIVATES => Activation::None,
            waits_for => Activation::Pod {
                parameters: parameters(&observed.object.spec.alias),
                build: Box::new(move |metadata, _, _| {
                    let containers = vec![Container { image: Some(image.clone()), ..Container::default() }];
                    Pod { metadata, spec: Some(PodSpec { containers, ..PodSpec::default() }), status: None }
                }),
                waits_for: waits_for.map(|message| Blocked::waiting(Reason::ConnectionNotReady, message)),
            },
        }
    }
}

fn parameters(alias: &str) -> Digest {
    Digest::of_bytes(alias.as_bytes())
}

/// A situation of a Forecast. With `ACTIVATES`, its results are shown by the alias `champion`.
pub(super) type Case<const ACTIVATES: bool = false> = IntentCase<Forecasts<ACTIVATES>>;

/// An intent without inputs whose results are not activated.
pub(super) fn intent(name: &str) -> Case {
    IntentCase::new(name, &spec(), None)
}

impl Case {
    /// As just created, with results that are activated.
    pub(super) fn activates(self) -> Case<true> {
        IntentCase::new(&self.object.name_any(), &spec(), None)
    }
}

fn spec() -> Value {
    let alias = "champion".to_owned();
    json!(ForecastSpec { method: "mean".into(), history_limit: 10, alias, ..Default::default() })
}

impl<const ACTIVATES: bool> Case<ACTIVATES> {
    pub(super) fn manual(self) -> Self {
        self.with(|spec| spec.trigger.mode = TriggerMode::Manual)
    }

    pub(super) fn settles(self, seconds: u32) -> Self {
        self.with(|spec| spec.trigger.stabilization_window = Some(Span::seconds(seconds)))
    }

    pub(super) fn cycle(mut self, path: &str) -> Self {
        self.cycle = Some(path.to_owned());
        self
    }

    /// The external system comes back without its data: another alias stands for its new mark.
    pub(super) fn emptied(self) -> Self {
        self.with(|spec| spec.alias = "lost".to_owned())
    }

    pub(super) fn not_connected(mut self, missing: &'static str) -> Self {
        self.related = Some(missing);
        self
    }

    /// Adds an input to the spec, or replaces the one of this name.
    pub(super) fn input(mut self, state: InputState) -> Self {
        self.object.spec.inputs.retain(|known| known.name != state.name);
        self.object.spec.inputs.push(NamedInput { name: state.name.clone(), from: state.from.clone() });
        self.observes(state)
    }

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

// States of runs.

/// As [`succeeded`], `seconds` after [`NOW`].
pub(super) fn succeeded_at(seconds: i64) -> impl Fn(&mut ForecastRun) {
    move |run| finish(run, "5", NOW + seconds)
}

/// The run has succeeded, and a registry has given its result this number.
pub(super) fn registered(number: &str) -> impl Fn(&mut ForecastRun) {
    move |run| {
        finish(run, "5", NOW);
        let output = run.status.as_mut().unwrap().output.as_mut().unwrap();
        output.registered = Some(registration(number));
    }
}

fn registration(number: &str) -> Registered {
    Registered {
        registry: "mlflow".into(),
        name: "delay".into(),
        version: number.to_owned(),
        reference: format!("models:/delay/{number}"),
        alias: None,
    }
}

/// The run has succeeded with this score.
pub(super) fn scored(score: u32) -> impl Fn(&mut ForecastRun) {
    move |run| finish(run, &score.to_string(), NOW)
}

/// The run has succeeded, and its pod has given the alias `champion` to the result.
pub(super) fn activated(run: &mut ForecastRun) {
    activated_at(0)(run);
}

/// As [`activated`], `seconds` after [`NOW`].
pub(super) fn activated_at(seconds: i64) -> impl Fn(&mut ForecastRun) {
    move |run| {
        finish(run, "5", NOW + seconds);
        let revision = run.labels()[labels::REVISION].parse().unwrap();
        let output = run.status.as_mut().unwrap().output.as_mut().unwrap();
        output.activated = Some(Activated { revision, parameters: parameters("champion") });
    }
}

// States of activation pods.

/// The pod has succeeded.
pub(super) fn pod_succeeded(pod: &mut PodView) {
    pod.status = testing::terminated(&ResultDocument::default(), NOW);
}

/// The pod has succeeded, and says that the registry knows the result by this number.
pub(super) fn pod_registered(number: &str) -> impl Fn(&mut PodView) {
    let result = ResultDocument { registered: Some(registration(number)), ..ResultDocument::default() };
    move |pod| pod.status = testing::terminated(&result, NOW)
}

/// The pod has failed `seconds` after [`NOW`] for a reason that may pass.
pub(super) fn pod_failed(seconds: i64) -> impl Fn(&mut PodView) {
    let failure = Failure::transient(Reason::OnlineStoreUnreachable, "no connection");
    move |pod| pod.status = testing::terminated(&ResultDocument::failed(failure.clone()), NOW + seconds)
}

/// The worker of the pod has refused its task.
pub(super) fn pod_refused(pod: &mut PodView) {
    let failure = Failure::terminal(Reason::TrackingRefused, "no such model");
    pod.status = testing::terminated(&ResultDocument::failed(failure), NOW + 12);
}

/// The external system shows a higher revision already.
pub(super) fn pod_superseded(by: i64) -> impl Fn(&mut PodView) {
    let failure = Failure::superseded(Some(by), "too late");
    move |pod| pod.status = testing::terminated(&ResultDocument::failed(failure.clone()), NOW)
}

pub(super) fn pod_running(pod: &mut PodView) {
    pod.status = testing::running();
}

/// The image of the pod cannot be pulled.
pub(super) fn pod_held_up(pod: &mut PodView) {
    pod.status = testing::held_up();
}
