//! The spans of a run: one from its creation to its end, and one per attempt.

use super::{Observed, Run, RunResource};
use crate::{
    children::pod_outcome,
    condition, inputs,
    span::{self, Span},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::{Resource, core::object::HasStatus};
use mlop_api::{
    contract::condition_type,
    status::RunStatus,
    trace::{self, SpanId, TraceId},
};
use serde_json::Value;

/// The outcome of what has succeeded. That of a failure is its reason.
const SUCCEEDED: &str = "Succeeded";

/// The trace that a run belongs to: that of the newest root among its ancestors, or its own.
pub fn trace_id<R: RunResource>(run: &R) -> TraceId {
    let (namespace, lineage) = (run.meta().namespace.as_deref().unwrap_or_default(), run.lineage());
    TraceId::of(namespace, &lineage.ancestors).unwrap_or_else(|| {
        let (kind, name) = intent(run);
        TraceId::of_root(namespace, kind, name, &lineage.input_digest)
    })
}

/// Kind and name of the intent that a run belongs to.
fn intent<R: RunResource>(run: &R) -> (&str, &str) {
    let mut owners = run.meta().owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true));
    owner.map_or(("", ""), |owner| (&owner.kind, &owner.name))
}

/// Makes attempt number `attempt` the parent of what the containers of its pod do. A variable of the user's stays.
pub(super) fn join<R: RunResource>(pod: &mut Pod, run: &R, attempt: u32) {
    let uid = run.meta().uid.as_deref().unwrap_or_default();
    let parent = trace::traceparent(&trace_id(run), &SpanId::of_attempt(uid, attempt));
    let Some(spec) = &mut pod.spec else { return };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let variables = container.env.get_or_insert_default();
        if variables.iter().all(|variable| variable.name != trace::TRACEPARENT) {
            let (name, value) = (trace::TRACEPARENT.to_owned(), Some(parent.clone()));
            variables.push(EnvVar { name, value, value_from: None });
        }
    }
}

/// Number of the attempt that is active or comes next; of the last one if the run has ended.
pub(super) fn current_attempt<R: RunResource>(run: &R) -> u32 {
    run.status().map_or(1, |status| status.attempts + u32::from(status.finished_at.is_none()))
}

/// The spans of the run that end with the status `planned`, or have ended a short time ago.
pub(super) fn spans<R: Run>(
    observed: &Observed<R>,
    planned: Option<&RunStatus>,
    now: Timestamp,
) -> Vec<Span> {
    let run = observed.object.as_ref();
    let before = run.status();
    let Some(status) = planned.or(before) else { return Vec::new() };
    let (known_attempts, known_end) = before.map_or((0, None), |known| (known.attempts, known.finished_at));
    let is_recent = status.finished_at.is_some_and(|end| span::is_exported_again(end.get(), now));
    let family = Family::of(run);
    let attempt = if status.attempts > known_attempts || is_recent {
        attempt_span(observed, status, &family)
    } else {
        None
    };
    let run_span =
        if status.finished_at != known_end || is_recent { run_span(run, status, &family) } else { None };
    attempt.into_iter().chain(run_span).collect()
}

/// The ids of a run's spans.
struct Family {
    trace: TraceId,
    run: SpanId,
    parent: Option<SpanId>,
}

impl Family {
    fn of<R: RunResource>(run: &R) -> Self {
        let trace = trace_id(run);
        let is_root = !run.lineage().ancestors.iter().any(|ancestor| ancestor.root);
        let first = trace.root_span();
        let (run, parent) = match is_root {
            true => (first, None),
            false => (SpanId::of_run(run.meta().uid.as_deref().unwrap_or_default()), Some(first)),
        };
        Self { trace, run, parent }
    }
}

fn run_span<R: RunResource>(run: &R, status: &RunStatus, family: &Family) -> Option<Span> {
    let (start, end) = (run.meta().creation_timestamp.as_ref()?.0, status.finished_at?.get());
    let outcome = condition::get(&status.conditions, condition_type::SUCCEEDED)?.reason.clone();
    let lineage = run.lineage();
    let mut attributes = attributes(run);
    attributes.push(("mlop.attempts", status.attempts.into()));
    attributes.push(("mlop.outcome", outcome.clone().into()));
    attributes.push(("mlop.input_digest", lineage.input_digest.as_str().into()));
    attributes.extend(status.output.iter().map(|output| ("mlop.digest", output.digest.as_str().into())));
    let records = lineage.inputs.iter().map(|input| &input.record);
    let published = inputs::last_published(records, &lineage.ancestors);
    attributes.extend(published.map(|at| ("mlop.inputs_published_at", at.to_string().into())));
    Some(Span {
        trace: family.trace.clone(),
        id: family.run.clone(),
        parent: family.parent.clone(),
        name: format!("{} {}", R::kind(&()), intent(run).1),
        start,
        end,
        attributes,
        error: (outcome != SUCCEEDED).then_some(outcome),
    })
}

/// The span of the attempt that ended last. Its Job or pod says when it began: without them there is none.
fn attempt_span<R: Run>(observed: &Observed<R>, status: &RunStatus, family: &Family) -> Option<Span> {
    let (run, attempt) = (observed.object.as_ref(), status.attempts);
    let failure = status.failure.as_ref().filter(|failure| failure.attempt == attempt);
    let outcome = match failure {
        Some(failure) => failure.reason.clone(),
        None if condition::is_true(&status.conditions, condition_type::SUCCEEDED) => SUCCEEDED.to_owned(),
        None => return None,
    };
    let pod = observed.pod(attempt);
    let made = observed.job(attempt).map(Resource::meta).or_else(|| pod.map(Resource::meta))?;
    let start = made.creation_timestamp.as_ref()?.0;
    let end = failure.map(|failure| failure.at.get()).or_else(|| pod.and_then(pod_outcome::ended_at));
    let mut attributes = attributes(run);
    attributes.push(("mlop.attempt", attempt.into()));
    attributes.push(("mlop.outcome", outcome.clone().into()));
    attributes.extend(pod.and_then(|pod| Some(("k8s.pod.name", pod.metadata.name.clone()?.into()))));
    Some(Span {
        trace: family.trace.clone(),
        id: SpanId::of_attempt(run.meta().uid.as_deref().unwrap_or_default(), attempt),
        parent: Some(family.run.clone()),
        name: format!("attempt {attempt}"),
        start,
        end: end.or(status.finished_at.map(mlop_api::Time::get))?,
        attributes,
        error: failure.map(|_| outcome),
    })
}

fn attributes<R: RunResource>(run: &R) -> Vec<(&'static str, Value)> {
    let text = |value: Option<&str>| Value::from(value.unwrap_or_default());
    vec![
        ("k8s.namespace.name", text(run.meta().namespace.as_deref())),
        ("mlop.kind", R::kind(&()).into()),
        ("mlop.name", intent(run).1.into()),
        ("mlop.run", text(run.meta().name.as_deref())),
    ]
}
