//! Which step an intent takes.

use super::{
    Activation, Identity, Intent, Observed,
    activation::Activator,
    digest::{input_digest, is_run_of},
    gates::{is_accepted, judge},
    pin::{not_found, pinned_run},
    request,
    step::{Findings, Publication, Step},
};
use crate::{
    Blocked,
    children::meta,
    condition,
    inputs::{self, ReadyInput},
    plan::{Action, Create, Handover, Precondition},
    run::{Content, RunResource, RunState, run_state},
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{
    Digest, Reason,
    common::TriggerMode,
    labels,
    run::{Execution, Lineage, bounded_request},
};
use std::sync::Arc;

/// How long after the end of a run that found its inputs changed they count as seen again.
const SEEN_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// The reason and message of an active run that is held up.
type HeldUp = Option<(Reason, String)>;

/// Derives the step from the inputs, the runs and the pods.
pub(super) fn decide<I: Intent>(observed: &Observed<I>, now: Timestamp) -> (Step<I>, Findings) {
    let mut findings = Findings::default();
    if let Some(cycle) = &observed.cycle {
        let blocked = Blocked::stalled(Reason::DependencyCycle, cycle.clone());
        return (Step::blocked(blocked), findings);
    }
    if let Some(pin) = I::flow(&observed.object).pin() {
        return (use_pinned(observed, pin, now), findings);
    }
    let (mut ready, mut blocked) = (Vec::new(), Vec::new());
    for state in &observed.inputs {
        match inputs::gate(state) {
            Ok(input) => ready.push(input),
            Err(input) => blocked.push(input),
        }
    }
    if let Some(input) = inputs::first_to_mend(blocked) {
        return (Step::Blocked { blocked: input.blocked, upstream: input.upstream }, findings);
    }
    findings.upstream = inputs::worst(ready.iter().filter_map(|input| input.upstream.as_ref())).cloned();
    findings.newest = inputs::newest(&ready);
    if let Err(message) = inputs::converged(&ready, I::consistency(&observed.object)) {
        return (Step::Diverged { message, since: findings.newest.unwrap_or(now) }, findings);
    }
    let step = match I::identity(observed) {
        Err(blocked) => Step::blocked(blocked),
        Ok(identity) => follow_inputs(observed, &identity, &ready, now),
    };
    findings.inputs = Some(ready);
    (step, findings)
}

fn use_pinned<I: Intent>(observed: &Observed<I>, pin: &str, now: Timestamp) -> Step<I> {
    match pinned_run(observed, pin).map(|run| (run, run_state(run.as_ref()))) {
        Some((run, RunState::Succeeded)) => use_result(observed, run, now),
        Some((run, RunState::Active(held_up))) => {
            Step::Running { run: Arc::clone(run), held_up, newer_waits: false }
        }
        _ => Step::blocked(not_found(observed, pin)),
    }
}

/// Looks for an artifact of these inputs, then for their run, then for any active run, and starts a run otherwise.
fn follow_inputs<I: Intent>(
    observed: &Observed<I>,
    identity: &Identity<Content<I::Run>>,
    inputs: &[ReadyInput],
    now: Timestamp,
) -> Step<I> {
    if let Some(step) = keep_artifact(observed, identity, inputs, now) {
        return step;
    }
    let digest = input_digest::<I>(identity, inputs, I::SEMANTICS);
    let name = run_name(observed, &digest);
    if let Some(run) = observed.run_named(&name) {
        return match run_state(run.as_ref()) {
            RunState::Succeeded => use_result(observed, run, now),
            RunState::Active(held_up) => Step::Running { run: Arc::clone(run), held_up, newer_waits: false },
            RunState::Dead(reason, _) if is_back(identity, run.as_ref(), reason) => {
                Step::Supersede(Arc::clone(run))
            }
            RunState::Dead(reason, message) => Step::Dead { run: Arc::clone(run), reason, message },
        };
    }
    let paused = pause(observed, inputs, now);
    if let Some((run, held_up)) = active_run(observed) {
        return if goes_on(observed, identity, run, held_up.is_some()) || paused.is_some() {
            Step::Running { run: Arc::clone(run), held_up, newer_waits: true }
        } else {
            Step::Supersede(Arc::clone(run))
        };
    }
    paused.unwrap_or_else(|| Step::Start(Box::new(start(observed, name, digest, identity, inputs))))
}

/// The step while the artifact has the input digest of these inputs. The digest is computed under the semantics version
/// of the artifact's run, so a new version alone starts no run.
fn keep_artifact<I: Intent>(
    observed: &Observed<I>,
    identity: &Identity<Content<I::Run>>,
    inputs: &[ReadyInput],
    now: Timestamp,
) -> Option<Step<I>> {
    let artifact = observed.status()?.artifact.as_ref()?;
    let run = observed.run_named(&artifact.run);
    let semantics = run.map_or(I::SEMANTICS, |run| run.lineage().semantics_version);
    if artifact.input_digest != input_digest::<I>(identity, inputs, semantics) {
        return None;
    }
    match run {
        Some(run) => Some(use_result(observed, run, now)),
        // The run is gone and another revision may have been activated since: run again instead of trusting the
        // recorded activation.
        None => observed.is_published_last().then_some(Step::Current),
    }
}

fn active_run<I: Intent>(observed: &Observed<I>) -> Option<(&Arc<I::Run>, HeldUp)> {
    observed.runs.iter().find_map(|run| match run_state(run.as_ref()) {
        RunState::Active(held_up) => Some((run, held_up)),
        _ => None,
    })
}

/// The active run that is held up although the present inputs have their result: they were edited, and the edit was taken
/// back. It would hold its pods until it ends by itself.
pub(super) fn left_behind<'a, I: Intent>(
    observed: &'a Observed<I>,
    step: &Step<I>,
) -> Option<&'a Arc<I::Run>> {
    let flow = I::flow(&observed.object);
    let is_wanted_later = flow.pin().is_some() || flow.suspend();
    if is_wanted_later || !matches!(step, Step::Publish(_) | Step::Current) {
        return None;
    }
    let identity = I::identity(observed).ok()?;
    let (run, held_up) = active_run(observed)?;
    (!goes_on(observed, &identity, run, held_up.is_some())).then_some(run)
}

/// Whether an active run that is not the one of the present inputs is left alone.
fn goes_on<I: Intent>(
    observed: &Observed<I>,
    identity: &Identity<Content<I::Run>>,
    run: &Arc<I::Run>,
    is_held_up: bool,
) -> bool {
    !is_held_up
        || run.meta().deletion_timestamp.is_some()
        || may_be_active::<I>(run.as_ref())
        || (is_run_of(observed, identity, run) && has_begun(observed, run.as_ref()))
}

/// Whether the inputs that a run found changed were seen again, as they were, since it has ended.
fn is_back<R: RunResource>(identity: &Identity<Content<R>>, run: &R, reason: Reason) -> bool {
    let ended = run.status().and_then(|status| status.finished_at);
    let again = ended.and_then(|ended| ended.get().checked_add(SEEN_AGAIN_AFTER).ok());
    reason == Reason::SourceChanged && identity.since.zip(again).is_some_and(|(seen, again)| seen >= again)
}

/// Whether an attempt of `run` was made, or its queue was asked for one. Newer data does not cost it its place in a queue, its
/// checkpoints or its attempt; an edit of what determines the output does.
fn has_begun<I: Intent>(observed: &Observed<I>, run: &I::Run) -> bool {
    let name = run.name_any();
    run.status().is_some_and(|status| status.attempts > 0 || status.queued.is_some())
        || observed.pods.iter().any(|pod| pod.labels().get(labels::RUN) == Some(&name))
}

/// Whether an attempt of `run` may have activated its result. Deleting the run would lose its revision.
fn may_be_active<I: Intent>(run: &I::Run) -> bool {
    I::ACTIVATES && run.status().is_some_and(|status| status.attempts > 0)
}

/// The step for a run that has succeeded: its result is judged, then activated, then published.
pub(super) fn use_result<I: Intent>(observed: &Observed<I>, run: &Arc<I::Run>, now: Timestamp) -> Step<I> {
    let verdict = judge(observed, run);
    if let Some(verdict) = verdict.clone().filter(|verdict| !is_accepted(Some(verdict))) {
        return Step::Rejected { run: Arc::clone(run), verdict };
    }
    match I::activation(observed, run) {
        Activation::None => {
            let run = Arc::clone(run);
            Step::Publish(Publication { run, verdict, revision: None, activation: None, registered: None })
        }
        Activation::Blocked(blocked) => Step::blocked(blocked),
        Activation::Pod { parameters, build, waits_for } => match super::activation::output(run.as_ref()) {
            Some(output) => {
                let activator = Activator::new(observed, run, output, &parameters, now);
                activator.waiting_for(waits_for).step(verdict, &build)
            }
            None => Step::blocked(Blocked::waiting(
                Reason::ResultMissing,
                format!("{} does not report its output", run.name_any()),
            )),
        },
    }
}

/// Why a run must not start now: the intent is suspended, waits for a request, or waits until its inputs are stable.
fn pause<I: Intent>(observed: &Observed<I>, inputs: &[ReadyInput], now: Timestamp) -> Option<Step<I>> {
    let flow = I::flow(&observed.object);
    if flow.suspend() {
        let message = "new inputs wait because spec.suspend is true".to_owned();
        return Some(Step::Paused { reason: Reason::Suspended, message, action: Action::AwaitChange });
    }
    if flow.trigger().mode == TriggerMode::Manual && request::open_request(observed).is_none() {
        let message = format!(
            "new inputs wait for the annotation {} (spec.trigger.mode is manual)",
            labels::RUN_REQUESTED_AT
        );
        return Some(Step::Paused {
            reason: Reason::WaitingForTrigger,
            message,
            action: Action::AwaitChange,
        });
    }
    let window = SignedDuration::try_from(flow.trigger().stabilization_window?.as_duration()).ok()?;
    let due = inputs::newest(inputs)?.checked_add(window).ok().filter(|due| *due > now)?;
    let message = format!(
        "new inputs must stay unchanged until {} (spec.trigger.stabilizationWindow)",
        condition::whole_second(due)
    );
    Some(Step::Paused { reason: Reason::Stabilizing, message, action: Action::RequeueAt(due) })
}

/// Name of the run with this input digest.
fn run_name<I: Intent>(observed: &Observed<I>, digest: &Digest) -> String {
    format!("{}-{}", observed.key().name, digest.short(12))
}

/// The creation of the run of the present inputs, paused or not; none while it cannot start.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn present_run<I: Intent>(observed: &Observed<I>) -> Option<Create> {
    let inputs: Result<Vec<_>, _> = observed.inputs.iter().map(inputs::gate).collect();
    let inputs = inputs.ok().filter(|_| observed.cycle.is_none())?;
    inputs::converged(&inputs, I::consistency(&observed.object)).ok()?;
    let identity = I::identity(observed).ok()?;
    let digest = input_digest::<I>(&identity, &inputs, I::SEMANTICS);
    Some(start(observed, run_name(observed, &digest), digest, &identity, &inputs))
}

/// The creation of the run named `name` on `inputs`.
fn start<I: Intent>(
    observed: &Observed<I>,
    name: String,
    digest: Digest,
    identity: &Identity<Content<I::Run>>,
    inputs: &[ReadyInput],
) -> Create {
    let object = observed.object.as_ref();
    let labels = [
        (labels::OPERATOR, observed.operator.clone()),
        (labels::INTENT, observed.key().name),
        (labels::INTENT_KIND, Observed::<I>::kind()),
        (labels::DIGEST, digest.short(63).to_owned()),
    ];
    let mut meta = meta::child_meta(object, name, labels);
    if I::ACTIVATES {
        observed.next_revision().label(&mut meta);
    }
    if let Some(request) = observed.annotation(labels::RUN_REQUESTED_AT) {
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::RUN_REQUESTED_AT.to_owned(), request.to_owned());
    }
    let execution = execution(observed);
    if let Some(request) = &execution.cancel_requested_at {
        // It was meant for the run before.
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::CANCEL_REQUESTED_AT.to_owned(), request.clone());
    }
    let lineage = Lineage {
        input_digest: digest,
        semantics_version: I::SEMANTICS,
        inputs: inputs.iter().map(|input| input.input.clone()).collect(),
        ancestors: inputs::ancestors(inputs),
    };
    let run = I::run(observed, meta, identity, lineage, execution, inputs);
    let requires = inputs.iter().map(|input| Precondition {
        kind: input.kind.clone(),
        name: input.input.record.object.clone(),
        uid: input.input.record.uid.clone(),
        generation: input.input.record.generation,
        digest: input.artifact.digest.clone(),
    });
    let handover = handover(observed, inputs);
    Create { requires: requires.collect(), handover, ..Create::of(&run, "its inputs are new") }
}

/// The newest of the inputs that came after the intent, and after what its artifact was made from.
fn handover<I: Intent>(observed: &Observed<I>, inputs: &[ReadyInput]) -> Option<Handover> {
    let artifact = observed.status().and_then(|status| status.artifact.as_ref());
    let used = |input: &ReadyInput| {
        let mut records = artifact.into_iter().flat_map(|artifact| &artifact.inputs);
        records.any(|record| record.name == input.input.record.name && record.digest == input.artifact.digest)
    };
    let created = observed.object.meta().creation_timestamp.as_ref()?.0;
    let fresh = inputs.iter().filter(|input| !used(input) && input.artifact.produced_at.get() >= created);
    let newest = fresh.max_by_key(|input| input.artifact.produced_at)?;
    let (from, produced_at) = (newest.input.record.kind.clone(), newest.artifact.produced_at.get());
    Some(Handover { from, produced_at })
}

/// The execution that runs must have now, with the user's requests.
pub(super) fn execution<I: Intent>(observed: &Observed<I>) -> Execution {
    let mut execution = I::execution(&observed.object);
    execution.profile = I::flow(&observed.object).profile().map(str::to_owned);
    execution.retry_requested_at = observed.annotation(labels::RETRY_REQUESTED_AT).map(bounded_request);
    execution.cancel_requested_at = observed.annotation(labels::CANCEL_REQUESTED_AT).map(bounded_request);
    execution
}
