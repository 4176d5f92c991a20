//! Where an intent stands, derived from its observed on every pass and never stored.

use super::{
    Activation, BuildActivation, Identity, Intent, Observed, RunState, activation_digest, publish, revision,
    run_state,
};
use crate::{
    children::{
        pod,
        pod_outcome::{self, Outcome},
    },
    inputs::{self, ReadyInput, UpstreamFailure},
    plan::{Action, Create, Delete, Plan, Precondition},
    resource::{ApiKind, PodView},
    run::RunResource,
    runtime::controller::Reports,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason,
    common::TriggerMode,
    labels,
    result::{Activated, Failure},
    run::Lineage,
    status::{ActivationRecord, IntentStatus, Output, Verdict},
    task::Subject,
};
use serde_json::json;
use std::sync::Arc;

/// Pause before a failed activation is tried again.
const ACTIVATION_RETRY: SignedDuration = SignedDuration::from_secs(10);

pub(super) enum Step<I: Intent> {
    /// Nothing can be decided: an input, a connection or the spec is not as it must be.
    Blocked {
        reason: Reason,
        message: String,
        stalled: bool,
        upstream: Option<UpstreamFailure>,
    },
    /// Everything is there, but it is not to start now.
    Pause {
        reason: Reason,
        message: String,
        next: Action,
    },
    /// The inputs come from different versions of what they share, since the newest of them was published.
    Diverged {
        message: String,
        since: Timestamp,
    },
    Start(Box<Create>),
    /// A run for earlier inputs or an earlier spec is held up or between attempts: nothing of it is worth waiting for.
    Supersede(Arc<I::Run>),
    /// A run works for us.
    Busy {
        run: Arc<I::Run>,
        held_up: Option<(Reason, String)>,
        newer_waits: bool,
    },
    /// The run for the present inputs has used up its attempts.
    Dead {
        run: Arc<I::Run>,
        reason: Reason,
        message: String,
    },
    /// The run succeeded but its result may not be used.
    Rejected {
        run: Arc<I::Run>,
        verdict: Verdict,
    },
    Activating {
        create: Option<Box<Create>>,
        delete: Option<Delete>,
        reason: Reason,
        message: String,
        /// When its pod was made.
        since: Timestamp,
        next: Action,
    },
    Publish {
        run: Arc<I::Run>,
        verdict: Option<Verdict>,
        /// The artifact's new revision; none: its own, or the next if it is another.
        revision: Option<i64>,
        activation: Option<ActivationRecord>,
    },
    /// The artifact is what the present inputs make.
    Current,
}

/// What was learnt on the way to the step.
pub(super) struct Findings {
    /// The inputs, when all of them are usable.
    pub inputs: Option<Vec<ReadyInput>>,
    /// A problem upstream that leaves the present artifact usable.
    pub upstream: Option<UpstreamFailure>,
    /// When the newest of the inputs was published, when all of them are usable.
    pub newest: Option<Timestamp>,
}

/// Decides what an intent does next.
pub fn plan<I: Intent>(observed: &Observed<I>, now: Timestamp) -> Plan<IntentStatus> {
    if observed.object.meta().deletion_timestamp.is_some() {
        return Plan::idle();
    }
    let (decided, findings) = decide(observed, now);
    let step = taken_back(observed, &decided, now).unwrap_or(decided);
    let late = late(observed, &step, &findings);
    publish::render(observed, step, late, findings, now)
}

fn decide<I: Intent>(observed: &Observed<I>, now: Timestamp) -> (Step<I>, Findings) {
    let mut findings = Findings { inputs: None, upstream: None, newest: None };
    if let Some(cycle) = &observed.cycle {
        return (hold(Reason::DependencyCycle, cycle.clone(), true), findings);
    }
    if let Some(pin) = I::flow(&observed.object).pin() {
        return (pinned(observed, pin, now), findings);
    }
    let mut inputs = Vec::new();
    for state in &observed.inputs {
        match inputs::gate(state) {
            Ok(usable) => inputs.push(usable),
            Err(problem) => {
                let stalled = problem.reason == Reason::InputKindUnknown;
                let step = Step::Blocked {
                    reason: problem.reason,
                    message: problem.message,
                    stalled,
                    upstream: problem.upstream,
                };
                return (step, findings);
            }
        }
    }
    findings.upstream = inputs.iter().find_map(|input| input.upstream.clone());
    findings.newest = newest(&inputs);
    if let Err(message) = inputs::converged(&inputs, I::consistency(&observed.object)) {
        return (Step::Diverged { message, since: findings.newest.unwrap_or(now) }, findings);
    }
    let step = match I::identity(observed) {
        Err(problem) => hold(problem.reason, problem.message, problem.stalled),
        Ok(identity) => follow(observed, &identity, &inputs, now),
    };
    findings.inputs = Some(inputs);
    (step, findings)
}

fn hold<I: Intent>(reason: Reason, message: String, stalled: bool) -> Step<I> {
    Step::Blocked { reason, message, stalled, upstream: None }
}

fn pinned<I: Intent>(observed: &Observed<I>, pin: &str, now: Timestamp) -> Step<I> {
    match observed.run_named(pin).map(|run| (run, run_state(run.as_ref()))) {
        Some((run, RunState::Succeeded)) => candidate(observed, run, now),
        Some((run, RunState::Active(held_up))) => {
            Step::Busy { run: Arc::clone(run), held_up, newer_waits: false }
        }
        _ => hold(
            Reason::PinnedRunNotFound,
            format!(
                "spec.pin: {} has no run {pin} that has succeeded; `kubectl get` its runs for their names",
                observed.label()
            ),
            true,
        ),
    }
}

/// The inputs are known: is there an artifact for them, a run, or neither?
fn follow<I: Intent>(
    observed: &Observed<I>,
    identity: &Identity,
    inputs: &[ReadyInput],
    now: Timestamp,
) -> Step<I> {
    let artifact = observed.object.reported().and_then(|status| status.artifact.as_ref());
    if let Some(artifact) = artifact {
        let made_by = observed.run_named(&artifact.run);
        let semantics = made_by.map_or(I::SEMANTICS, |run| run.lineage().semantics_version);
        if artifact.input_digest == digest_of::<I>(identity, inputs, semantics) {
            match made_by {
                Some(run) => return candidate(observed, run, now),
                None if nothing_is_later(observed) => return Step::Current,
                // Something else may be active by now: what is not there any more is made again to be it.
                None => {}
            }
        }
    }
    let digest = digest_of::<I>(identity, inputs, I::SEMANTICS);
    let name = format!("{}-{}", observed.key().name, digest.short(12));
    if let Some(run) = observed.run_named(&name) {
        return match run_state(run.as_ref()) {
            RunState::Succeeded => candidate(observed, run, now),
            RunState::Active(held_up) => Step::Busy { run: Arc::clone(run), held_up, newer_waits: false },
            RunState::Dead(reason, message) => Step::Dead { run: Arc::clone(run), reason, message },
        };
    }
    if let Some((run, held_up)) = observed.runs.iter().find_map(|run| match run_state(run.as_ref()) {
        RunState::Active(held_up) => Some((run, held_up)),
        _ => None,
    }) {
        let works =
            held_up.is_none() || run.meta().deletion_timestamp.is_some() || may_be_active::<I>(run.as_ref());
        return if works || pause(observed, inputs, now).is_some() {
            Step::Busy { run: Arc::clone(run), held_up, newer_waits: true }
        } else {
            Step::Supersede(Arc::clone(run))
        };
    }
    pause(observed, inputs, now)
        .unwrap_or_else(|| Step::Start(Box::new(start(observed, name, digest, inputs))))
}

fn digest_of<I: Intent>(identity: &Identity, inputs: &[ReadyInput], semantics: u32) -> Digest {
    let inputs = inputs.iter().map(|input| (input.input.record.name.clone(), input.artifact.digest.clone()));
    input_digest::<I>(identity, inputs.chain(identity.digests.iter().cloned()), semantics)
}

/// Whether an attempt of it may have activated what it made. That would be forgotten with the run's number.
fn may_be_active<I: Intent>(run: &I::Run) -> bool {
    I::ACTIVATES && run.reported().is_some_and(|status| status.attempts > 0)
}

/// What is published is activated again when a pod may have brought something else outside that nobody wants any more:
/// for a pin that was taken back while it was on the way, say.
fn taken_back<I: Intent>(observed: &Observed<I>, step: &Step<I>, now: Timestamp) -> Option<Step<I>> {
    let rests =
        matches!(step, Step::Blocked { .. } | Step::Pause { .. } | Step::Dead { .. } | Step::Rejected { .. });
    let last = published(observed);
    // What the worker has refused has moved nothing.
    let refused =
        |pod: &PodView| matches!(pod_outcome::of(pod), Outcome::Failed(it) if !it.failure.retryable);
    let other = observed.pods.iter().any(|pod| revision(pod.as_ref()) > last && !refused(pod));
    let artifact = observed.object.reported()?.artifact.as_ref().filter(|_| rests && other)?;
    Some(candidate(observed, observed.run_named(&artifact.run)?, now))
}

/// Whether what is published is what the present spec makes of its inputs, accepts, and activates: an edit of anything
/// else leaves it right.
pub(super) fn is_right<I: Intent>(observed: &Observed<I>) -> bool {
    let right = || {
        let status = observed.object.reported()?;
        let run = observed.run_named(&status.artifact.as_ref()?.run)?;
        let wanted = I::flow(&observed.object).pin().is_none_or(|pin| pin == run.name_any());
        let accepted = judge(observed, run).is_none_or(|verdict| verdict.passed);
        let active = match I::activation(observed, run) {
            Activation::None => true,
            Activation::Waiting(_) => false,
            Activation::Pod { parameters, .. } => {
                let output = output(run.as_ref())?;
                let target = activation_digest(&output.digest, output.registered.as_ref(), &parameters);
                status.activation.as_ref()?.digest == target
            }
        };
        Some(wanted && accepted && active && makes(observed, &I::identity(observed).ok()?, run))
    };
    right().unwrap_or(false)
}

/// Whether the run is what this identity makes of the run's inputs, and these are what the spec names.
fn makes<I: Intent>(observed: &Observed<I>, identity: &Identity, run: &I::Run) -> bool {
    let lineage = run.lineage();
    let mut named: Vec<_> = I::inputs(&observed.object)
        .into_iter()
        .map(|input| (input.name, input.from.api_group, input.from.kind, input.from.name))
        .collect();
    let records = lineage.inputs.iter().map(|input| input.record.clone());
    let mut used: Vec<_> =
        records.map(|record| (record.name, record.api_group, record.kind, record.object)).collect();
    named.sort();
    used.sort();
    if named != used {
        return false;
    }
    let inputs = lineage.inputs.iter().map(|input| (input.record.name.clone(), input.record.digest.clone()));
    let digest = input_digest::<I>(identity, inputs.chain(I::digests(run)), lineage.semantics_version);
    digest == lineage.input_digest
}

fn input_digest<I: Intent>(
    identity: &Identity,
    inputs: impl Iterator<Item = (String, Digest)>,
    semantics: u32,
) -> Digest {
    let mut digests: Vec<_> = inputs.collect();
    digests.sort();
    let document = json!({
        "kind": Observed::<I>::kind(),
        "semanticsVersion": semantics,
        "spec": identity.spec,
        "inputs": digests,
    });
    Digest::of_bytes(&serde_json_canonicalizer::to_vec(&document).unwrap_or_default())
}

fn pause<I: Intent>(observed: &Observed<I>, inputs: &[ReadyInput], now: Timestamp) -> Option<Step<I>> {
    let flow = I::flow(&observed.object);
    if flow.suspend() {
        let message = "new inputs wait because spec.suspend is true".to_owned();
        return Some(Step::Pause { reason: Reason::Suspended, message, next: Action::AwaitChange });
    }
    if flow.trigger().mode == TriggerMode::Manual {
        let request = observed.annotation(labels::RUN_REQUESTED_AT);
        let answered = |request: &str| {
            observed
                .runs
                .iter()
                .any(|run| run.annotations().get(labels::RUN_REQUESTED_AT).is_some_and(|at| at == request))
        };
        if request.is_none_or(answered) {
            let message = format!(
                "new inputs wait for the annotation {} (spec.trigger.mode is manual)",
                labels::RUN_REQUESTED_AT
            );
            return Some(Step::Pause {
                reason: Reason::WaitingForTrigger,
                message,
                next: Action::AwaitChange,
            });
        }
    }
    let settle = SignedDuration::try_from(flow.trigger().settle?.as_duration()).ok()?;
    let due = newest(inputs)?.checked_add(settle).ok().filter(|due| *due > now)?;
    let message = format!("new inputs are left to settle until {}", crate::condition::whole_second(due));
    Some(Step::Pause { reason: Reason::Settling, message, next: Action::RequeueAt(due) })
}

/// When the newest of the inputs was published.
fn newest(inputs: &[ReadyInput]) -> Option<Timestamp> {
    inputs.iter().filter_map(|input| input.artifact.produced_at.parse().ok()).max()
}

fn start<I: Intent>(observed: &Observed<I>, name: String, digest: Digest, inputs: &[ReadyInput]) -> Create {
    let object = observed.object.as_ref();
    let mut meta = pod::child_meta(
        object,
        name,
        [
            (labels::OPERATOR, observed.operator.clone()),
            (labels::INTENT, observed.key().name),
            (labels::INTENT_KIND, Observed::<I>::kind()),
            (labels::DIGEST, digest.short(63).to_owned()),
        ],
    );
    if I::ACTIVATES {
        number(&mut meta, next_revision(observed));
    }
    if let Some(request) = observed.annotation(labels::RUN_REQUESTED_AT) {
        meta.annotations
            .get_or_insert_default()
            .insert(labels::RUN_REQUESTED_AT.to_owned(), request.to_owned());
    }
    let lineage = Lineage {
        input_digest: digest,
        semantics_version: I::SEMANTICS,
        inputs: inputs.iter().map(|input| input.input.clone()).collect(),
        roots: inputs::roots(inputs),
    };
    let run = I::run(observed, meta, lineage, execution(observed), inputs);
    let requires = inputs.iter().map(|input| Precondition {
        kind: input.kind.clone(),
        name: input.input.record.object.clone(),
        uid: input.input.record.uid.clone(),
        generation: input.input.record.generation,
        digest: input.artifact.digest.clone(),
    });
    Create { requires: requires.collect(), ..Create::of(&run, "its inputs are new") }
}

/// The execution that runs are to have now, a request to try again included.
pub(super) fn execution<I: Intent>(observed: &Observed<I>) -> mlop_api::run::Execution {
    let mut execution = I::execution(&observed.object);
    execution.retry_requested_at = observed.annotation(labels::RETRY_REQUESTED_AT).map(str::to_owned);
    execution
}

/// A run has succeeded: may its result be used, and is it active outside?
fn candidate<I: Intent>(observed: &Observed<I>, run: &Arc<I::Run>, now: Timestamp) -> Step<I> {
    let verdict = judge(observed, run);
    if let Some(verdict) = verdict.clone().filter(|verdict| !verdict.passed) {
        return Step::Rejected { run: Arc::clone(run), verdict };
    }
    match I::activation(observed, run) {
        Activation::None => Step::Publish { run: Arc::clone(run), verdict, revision: None, activation: None },
        Activation::Waiting(message) => hold(Reason::ConnectionNotReady, message, false),
        Activation::Pod { parameters, build } => {
            activate(observed, run, verdict, &parameters, build.as_ref(), now)
        }
    }
}

/// A run is judged once by the same gates.
fn judge<I: Intent>(observed: &Observed<I>, run: &I::Run) -> Option<Verdict> {
    I::judge(&observed.object, run).map(|fresh| {
        let recorded =
            observed.object.reported().map(|status| status.verdicts.as_slice()).unwrap_or_default();
        recorded
            .iter()
            .find(|v| v.run == fresh.run && v.gates_digest == fresh.gates_digest)
            .cloned()
            .unwrap_or(fresh)
    })
}

fn activate<I: Intent>(
    observed: &Observed<I>,
    run: &Arc<I::Run>,
    verdict: Option<Verdict>,
    parameters: &Digest,
    build: &BuildActivation,
    now: Timestamp,
) -> Step<I> {
    let Some(output) = output(run.as_ref()) else {
        return hold(Reason::ResultMissing, format!("{} does not say what it made", run.name_any()), false);
    };
    let target = activation_digest(&output.digest, output.registered.as_ref(), parameters);
    let publish = |revision: Option<i64>, active: i64| Step::Publish {
        run: Arc::clone(run),
        verdict: verdict.clone(),
        revision,
        activation: Some(ActivationRecord { digest: target.clone(), revision: active }),
    };
    // Whatever has a higher number may have come after it, or may still come.
    let others = taken(observed, run);
    let recorded = observed.object.reported().and_then(|status| status.activation.as_ref());
    let known = recorded.is_some_and(|active| active.digest == target);
    if let Some(active) = recorded.filter(|active| known && active.revision >= others) {
        return publish(None, active.revision);
    }
    let published = published(observed);
    let by_run = activated(run.as_ref())
        .filter(|by| by.parameters == *parameters && by.revision > others.max(published));
    if let Some(by_run) = by_run {
        return publish((!known).then_some(by_run.revision), by_run.revision);
    }
    let stem = format!("{}-{}-a", observed.key().name, target.short(8));
    let ours = observed.pods.iter().find(|pod| {
        let number = revision(pod.as_ref());
        number > published && number == others && pod.name_any().starts_with(&stem)
    });
    let Some(pod) = ours else { return begin(observed, build, &stem, next_revision(observed), now) };
    if let Some(beyond) = overtaken(pod, now) {
        return begin(observed, build, &stem, beyond + 1, now);
    }
    let revision = others;
    let since = pod.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    let waiting = |reason, message, delete, next| Step::Activating {
        create: None,
        delete,
        reason,
        message,
        since,
        next,
    };
    match pod_outcome::of(pod) {
        Outcome::Succeeded(_) => publish(Some(revision), revision),
        Outcome::Failed(ended) if is_given_up(observed, pod, &ended.failure) => {
            let message = format!(
                "activating revision {revision} failed: {}; it is tried again when the spec or the annotation {} \
                 changes",
                ended.failure.message,
                labels::RETRY_REQUESTED_AT
            );
            hold(ended.failure.reason, message, true)
        }
        Outcome::Running | Outcome::Starting(None) => {
            waiting(Reason::Activating, format!("activating revision {revision}"), None, Action::AwaitChange)
        }
        Outcome::Starting(Some((reason, message))) => waiting(reason, message, None, Action::AwaitChange),
        Outcome::Failed(ended) => {
            let at = pod_outcome::ended_at(pod)
                .and_then(|at| at.checked_add(ACTIVATION_RETRY).ok())
                .unwrap_or(now);
            let message = format!(
                "activating revision {revision} failed and is tried again: {}",
                ended.failure.message
            );
            let delete = (at <= now && pod.metadata.deletion_timestamp.is_none()).then(|| Delete {
                kind: ApiKind::of::<PodView>(),
                name: pod.name_any(),
                uid: pod.metadata.uid.clone().unwrap_or_default(),
                why: "the activation is tried again".to_owned(),
            });
            let next = if delete.is_some() { Action::AwaitChange } else { Action::RequeueAt(at) };
            waiting(ended.failure.reason, message, delete, next)
        }
    }
}

fn output<R: RunResource>(run: &R) -> Option<&Output> {
    run.reported()?.output.as_ref()
}

/// How the run's own pod has activated the result, under the run's number.
fn activated<R: RunResource>(run: &R) -> Option<&Activated> {
    output(run)?.activated.as_ref().filter(|activated| activated.revision == revision(run))
}

/// The highest number that is known to be over: of what is published, and of what is active.
fn published<I: Intent>(observed: &Observed<I>) -> i64 {
    let status = observed.object.reported();
    let artifact = status.and_then(|s| s.artifact.as_ref()).map_or(0, |artifact| artifact.revision);
    artifact.max(status.and_then(|s| s.activation.as_ref()).map_or(0, |active| active.revision))
}

/// The highest number of all pods and of all runs but this one.
fn taken<I: Intent>(observed: &Observed<I>, run: &I::Run) -> i64 {
    let others = observed.runs.iter().filter(|other| other.name_any() != run.name_any());
    let runs = others.map(|other| revision(other.as_ref())).max().unwrap_or_default();
    observed.pods.iter().map(|pod| revision(pod.as_ref())).max().unwrap_or_default().max(runs)
}

fn next_revision<I: Intent>(observed: &Observed<I>) -> i64 {
    let runs = observed.runs.iter().map(|run| revision(run.as_ref()));
    let pods = observed.pods.iter().map(|pod| revision(pod.as_ref()));
    runs.chain(pods).fold(published(observed), i64::max) + 1
}

/// Whether no run and no pod has a higher number than what is published and active.
fn nothing_is_later<I: Intent>(observed: &Observed<I>) -> bool {
    next_revision(observed) == published(observed) + 1
}

fn number(meta: &mut ObjectMeta, revision: i64) {
    meta.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), revision.to_string());
}

/// A result that is better than what is published, though not of the newest inputs.
pub(super) struct Late<I: Intent> {
    pub run: Arc<I::Run>,
    pub verdict: Option<Verdict>,
    pub activation: Option<ActivationRecord>,
    /// Whether it is what the present spec makes of its inputs.
    pub of_this_spec: bool,
}

/// The newest result that nobody has decided on because newer inputs came while it was made. Inputs that change
/// faster than runs end would otherwise never come to anything; and what a run's pod has activated is published,
/// wanted or not, so that what is published and what is active are the same again.
fn late<I: Intent>(observed: &Observed<I>, step: &Step<I>, findings: &Findings) -> Option<Late<I>> {
    let decided = matches!(step, Step::Publish { .. } | Step::Current | Step::Activating { .. });
    if decided || I::flow(&observed.object).pin().is_some() {
        return None;
    }
    let artifact = observed.object.reported().and_then(|status| status.artifact.as_ref());
    let published_at: Option<Timestamp> = artifact.and_then(|artifact| artifact.produced_at.parse().ok());
    let ended = |run: &I::Run| run.reported()?.finished_at.as_deref()?.parse::<Timestamp>().ok();
    let done = observed.runs.iter().filter(|run| run_state(run.as_ref()) == RunState::Succeeded);
    let after = done
        .filter_map(|run| Some((ended(run)?, run)))
        .filter(|(at, _)| published_at.is_none_or(|published| *at > published));
    let (ended_at, run) = after.max_by_key(|(at, run)| (*at, run.name_any()))?;
    let made = output(run.as_ref())?;
    if artifact.is_some_and(|artifact| artifact.digest == made.digest) {
        return None;
    }
    let verdict = judge(observed, run);
    let passed = verdict.as_ref().is_none_or(|verdict| verdict.passed);
    let identity = I::identity(observed).ok();
    let of_this_spec = passed && identity.as_ref().is_some_and(|identity| makes(observed, identity, run));
    let activation =
        activated(run.as_ref()).filter(|by| by.revision > taken(observed, run).max(published(observed)));
    let activation = activation.map(|by| ActivationRecord {
        digest: activation_digest(&made.digest, made.registered.as_ref(), &by.parameters),
        revision: by.revision,
    });
    // What ended before the newest inputs came was decided on when it ended, for others that were there again.
    let newest = findings.newest.max(identity.and_then(|identity| identity.since));
    let newer_came_meanwhile = newest.is_some_and(|newest| newest < ended_at);
    let usable = if I::ACTIVATES { activation.is_some() } else { of_this_spec && newer_came_meanwhile };
    usable.then(|| Late { run: Arc::clone(run), verdict, activation, of_this_spec })
}

fn begin<I: Intent>(
    observed: &Observed<I>,
    build: &BuildActivation,
    stem: &str,
    revision: i64,
    now: Timestamp,
) -> Step<I> {
    let mut meta = observed.child(format!("{stem}{revision}"), "activation");
    number(&mut meta, revision);
    meta.annotations.get_or_insert_default().insert(labels::MADE_FOR.to_owned(), made_for(observed));
    let subject = Subject {
        kind: Observed::<I>::kind(),
        namespace: observed.key().namespace,
        name: observed.key().name,
        uid: observed.object.meta().uid.clone().unwrap_or_default(),
        attempt: 1,
    };
    let create = Create::of(&build(meta, subject, revision), format!("revision {revision} is to be active"));
    Step::Activating {
        create: Some(Box::new(create)),
        delete: None,
        reason: Reason::Activating,
        message: format!("activating revision {revision}"),
        since: now,
        next: Action::AwaitChange,
    }
}

/// What a failed activation has to differ in to be tried again when the failure is terminal.
fn made_for<I: Intent>(observed: &Observed<I>) -> String {
    format!(
        "{} {}",
        observed.generation(),
        observed.annotation(labels::RETRY_REQUESTED_AT).unwrap_or_default()
    )
}

fn is_given_up<I: Intent>(observed: &Observed<I>, pod: &PodView, failure: &Failure) -> bool {
    let asked = pod.annotations().get(labels::MADE_FOR);
    !failure.retryable && failure.superseded_by.is_none() && asked == Some(&made_for(observed))
}

/// The revision outside that is ahead of this pod's, once it is clear that no other pod of ours has brought it there:
/// the API server was restored from a backup, or the object was made anew before the outside was cleaned up.
fn overtaken(pod: &PodView, now: Timestamp) -> Option<i64> {
    let Outcome::Failed(ended) = pod_outcome::of(pod) else { return None };
    let settled = pod_outcome::ended_at(pod)?.checked_add(ACTIVATION_RETRY).ok()? <= now;
    ended.failure.superseded_by.filter(|by| settled && *by >= revision(pod))
}
