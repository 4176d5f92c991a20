//! Where an intent stands, derived from its world on every pass and never stored.

use super::{Activation, BuildActivation, Identity, Intent, RunState, World, publish, run_state};
use crate::{
    chain::{self, Trouble, Usable},
    controller::Reports,
    outcome::{self, Outcome},
    plan::{Create, Delete, Next, Plan, Precondition},
    pod,
    resource::{ApiKind, PodView},
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason,
    common::TriggerMode,
    labels,
    run::Lineage,
    status::{IntentStatus, Verdict},
    task::Subject,
};
use serde_json::json;
use std::sync::Arc;

/// Pause before a failed activation is tried again.
const ACTIVATION_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Label of an activation pod: its revision.
const REVISION: &str = "mlop.dev/revision";

pub(super) enum Step<I: Intent> {
    /// Nothing can be decided: an input, a connection or the spec is not as it must be.
    Hold {
        reason: Reason,
        message: String,
        stalled: bool,
        trouble: Option<Trouble>,
    },
    /// Everything is there, but it is not to start now.
    Pause {
        reason: Reason,
        message: String,
        next: Next,
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
        next: Next,
    },
    Publish {
        run: Arc<I::Run>,
        verdict: Option<Verdict>,
        revision: Option<i64>,
        activation: Option<Digest>,
    },
    /// The artifact is what the present inputs make.
    Current,
}

/// What was learnt on the way to the step.
pub(super) struct Findings {
    /// The inputs, when all of them are usable.
    pub inputs: Option<Vec<Usable>>,
    /// A problem upstream that leaves the present artifact usable.
    pub trouble: Option<Trouble>,
}

/// Decides what an intent does next.
pub fn plan<I: Intent>(world: &World<I>, now: Timestamp) -> Plan<IntentStatus> {
    if world.object.meta().deletion_timestamp.is_some() {
        return Plan::idle();
    }
    let (step, findings) = decide(world, now);
    publish::render(world, step, findings, now)
}

fn decide<I: Intent>(world: &World<I>, now: Timestamp) -> (Step<I>, Findings) {
    let mut findings = Findings { inputs: None, trouble: None };
    if let Some(cycle) = &world.cycle {
        return (hold(Reason::DependencyCycle, cycle.clone(), true), findings);
    }
    if let Some(pin) = I::flow(&world.object).pin() {
        return (pinned(world, pin, now), findings);
    }
    let mut inputs = Vec::new();
    for state in &world.inputs {
        match chain::gate(state) {
            Ok(usable) => inputs.push(usable),
            Err(problem) => {
                let stalled = problem.reason == Reason::InputKindUnknown;
                let step = Step::Hold {
                    reason: problem.reason,
                    message: problem.message,
                    stalled,
                    trouble: problem.trouble,
                };
                return (step, findings);
            }
        }
    }
    findings.trouble = inputs.iter().find_map(|input| input.trouble.clone());
    if let Err(message) = chain::converged(&inputs, I::consistency(&world.object)) {
        return (hold(Reason::InputsDiverged, message, false), findings);
    }
    let step = match I::identity(world) {
        Err(problem) => hold(problem.reason, problem.message, problem.stalled),
        Ok(identity) => follow(world, &identity, &inputs, now),
    };
    findings.inputs = Some(inputs);
    (step, findings)
}

fn hold<I: Intent>(reason: Reason, message: String, stalled: bool) -> Step<I> {
    Step::Hold { reason, message, stalled, trouble: None }
}

fn pinned<I: Intent>(world: &World<I>, pin: &str, now: Timestamp) -> Step<I> {
    match world.run_named(pin).map(|run| (run, run_state(run.as_ref()))) {
        Some((run, RunState::Succeeded)) => candidate(world, run, now),
        Some((run, RunState::Active(held_up))) => {
            Step::Busy { run: Arc::clone(run), held_up, newer_waits: false }
        }
        _ => hold(
            Reason::PinnedRunNotFound,
            format!(
                "spec.pin: {} has no run {pin} that has succeeded; `kubectl get` its runs for their names",
                world.label()
            ),
            true,
        ),
    }
}

/// The inputs are known: is there an artifact for them, a run, or neither?
fn follow<I: Intent>(world: &World<I>, identity: &Identity, inputs: &[Usable], now: Timestamp) -> Step<I> {
    let artifact = world.object.reported().and_then(|status| status.artifact.as_ref());
    if let Some(artifact) = artifact {
        let made_by = world.run_named(&artifact.run);
        let semantics = made_by
            .map_or(I::SEMANTICS, |run| crate::run::RunResource::lineage(run.as_ref()).semantics_version);
        if artifact.input_digest == input_digest::<I>(identity, inputs, semantics) {
            return match made_by {
                Some(run) => candidate(world, run, now),
                None => Step::Current,
            };
        }
    }
    let digest = input_digest::<I>(identity, inputs, I::SEMANTICS);
    let name = format!("{}-{}", world.key().name, digest.short(12));
    if let Some(run) = world.run_named(&name) {
        return match run_state(run.as_ref()) {
            RunState::Succeeded => candidate(world, run, now),
            RunState::Active(held_up) => Step::Busy { run: Arc::clone(run), held_up, newer_waits: false },
            RunState::Dead(reason, message) => Step::Dead { run: Arc::clone(run), reason, message },
        };
    }
    if let Some((run, held_up)) = world.runs.iter().find_map(|run| match run_state(run.as_ref()) {
        RunState::Active(held_up) => Some((run, held_up)),
        _ => None,
    }) {
        let works = held_up.is_none() || run.meta().deletion_timestamp.is_some();
        return if works || pause(world, inputs, now).is_some() {
            Step::Busy { run: Arc::clone(run), held_up, newer_waits: true }
        } else {
            Step::Supersede(Arc::clone(run))
        };
    }
    pause(world, inputs, now).unwrap_or_else(|| Step::Start(Box::new(start(world, name, digest, inputs))))
}

fn input_digest<I: Intent>(identity: &Identity, inputs: &[Usable], semantics: u32) -> Digest {
    let mut digests: Vec<(String, Digest)> = inputs
        .iter()
        .map(|input| (input.input.record.name.clone(), input.artifact.digest.clone()))
        .chain(identity.digests.iter().cloned())
        .collect();
    digests.sort();
    let document = json!({
        "kind": World::<I>::kind(),
        "semanticsVersion": semantics,
        "spec": identity.spec,
        "inputs": digests,
    });
    Digest::of_bytes(&serde_json_canonicalizer::to_vec(&document).unwrap_or_default())
}

fn pause<I: Intent>(world: &World<I>, inputs: &[Usable], now: Timestamp) -> Option<Step<I>> {
    let flow = I::flow(&world.object);
    if flow.suspend() {
        let message = "new inputs wait because spec.suspend is true".to_owned();
        return Some(Step::Pause { reason: Reason::Suspended, message, next: Next::Change });
    }
    if flow.trigger().mode == TriggerMode::Manual {
        let request = world.annotation(labels::RUN_REQUESTED_AT);
        let answered = |request: &str| {
            world
                .runs
                .iter()
                .any(|run| run.annotations().get(labels::RUN_REQUESTED_AT).is_some_and(|at| at == request))
        };
        if request.is_none_or(answered) {
            let message = format!(
                "new inputs wait for the annotation {} (spec.trigger.mode is manual)",
                labels::RUN_REQUESTED_AT
            );
            return Some(Step::Pause { reason: Reason::WaitingForTrigger, message, next: Next::Change });
        }
    }
    let settle = SignedDuration::try_from(flow.trigger().settle?.as_duration()).ok()?;
    let newest =
        inputs.iter().filter_map(|input| input.artifact.produced_at.parse::<Timestamp>().ok()).max()?;
    let due = newest.checked_add(settle).ok().filter(|due| *due > now)?;
    let message = format!("new inputs are left to settle until {}", crate::condition::whole_second(due));
    Some(Step::Pause { reason: Reason::Settling, message, next: Next::At(due) })
}

fn start<I: Intent>(world: &World<I>, name: String, digest: Digest, inputs: &[Usable]) -> Create {
    let object = world.object.as_ref();
    let mut meta = pod::child_meta(
        object,
        name,
        [
            (labels::OPERATOR, world.operator.clone()),
            (labels::INTENT, world.key().name),
            (labels::INTENT_KIND, World::<I>::kind()),
            (labels::DIGEST, digest.short(63).to_owned()),
        ],
    );
    if let Some(request) = world.annotation(labels::RUN_REQUESTED_AT) {
        meta.annotations
            .get_or_insert_default()
            .insert(labels::RUN_REQUESTED_AT.to_owned(), request.to_owned());
    }
    let lineage = Lineage {
        input_digest: digest,
        semantics_version: I::SEMANTICS,
        inputs: inputs.iter().map(|input| input.input.clone()).collect(),
        roots: chain::roots(inputs),
    };
    let run = I::run(world, meta, lineage, execution(world), inputs);
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
pub(super) fn execution<I: Intent>(world: &World<I>) -> mlop_api::run::Execution {
    let mut execution = I::execution(&world.object);
    execution.retry_requested_at = world.annotation(labels::RETRY_REQUESTED_AT).map(str::to_owned);
    execution
}

/// A run has succeeded: may its result be used, and is it active outside?
fn candidate<I: Intent>(world: &World<I>, run: &Arc<I::Run>, now: Timestamp) -> Step<I> {
    let verdict = I::judge(&world.object, run).map(|fresh| {
        let recorded = world.object.reported().map(|status| status.verdicts.as_slice()).unwrap_or_default();
        recorded
            .iter()
            .find(|v| v.run == fresh.run && v.gates_digest == fresh.gates_digest)
            .cloned()
            .unwrap_or(fresh)
    });
    if let Some(verdict) = verdict.clone().filter(|verdict| !verdict.passed) {
        return Step::Rejected { run: Arc::clone(run), verdict };
    }
    match I::activation(world, run) {
        Activation::None => Step::Publish { run: Arc::clone(run), verdict, revision: None, activation: None },
        Activation::Waiting(message) => hold(Reason::ConnectionNotReady, message, false),
        Activation::Pod { parameters, build } => {
            activate(world, run, verdict, parameters, build.as_ref(), now)
        }
    }
}

fn activate<I: Intent>(
    world: &World<I>,
    run: &Arc<I::Run>,
    verdict: Option<Verdict>,
    parameters: serde_json::Value,
    build: &BuildActivation,
    now: Timestamp,
) -> Step<I> {
    let output = run.reported().and_then(|status| status.output.as_ref()).map(|output| output.digest.clone());
    let target = Digest::of_json(&json!({"output": output, "parameters": parameters}))
        .unwrap_or_else(|_| Digest::of_bytes(b""));
    let status = world.object.reported();
    if status.and_then(|s| s.activation.as_ref()).is_some_and(|active| active.digest == target) {
        return Step::Publish { run: Arc::clone(run), verdict, revision: None, activation: Some(target) };
    }
    let published = status.and_then(|s| s.artifact.as_ref()).map_or(0, |artifact| artifact.revision);
    let stem = format!("{}-{}-a", world.key().name, target.short(8));
    let ours = world
        .pods
        .iter()
        .filter(|pod| pod.name_any().starts_with(&stem))
        .filter(|pod| revision(pod) > published)
        .max_by_key(|pod| revision(pod));
    let Some(pod) = ours else {
        let taken = world.pods.iter().map(|pod| revision(pod)).max().unwrap_or_default();
        return begin(world, build, &stem, published.max(taken) + 1);
    };
    if let Some(beyond) = overtaken(pod, now) {
        return begin(world, build, &stem, beyond + 1);
    }
    let revision = revision(pod);
    let waiting =
        |reason, message, delete, next| Step::Activating { create: None, delete, reason, message, next };
    match outcome::of(pod) {
        Outcome::Succeeded(_) => Step::Publish {
            run: Arc::clone(run),
            verdict,
            revision: Some(revision),
            activation: Some(target),
        },
        Outcome::Running | Outcome::Starting(None) => {
            waiting(Reason::Activating, format!("activating revision {revision}"), None, Next::Change)
        }
        Outcome::Starting(Some((reason, message))) => waiting(reason, message, None, Next::Change),
        Outcome::Failed(ended) => {
            let at =
                outcome::ended_at(pod).and_then(|at| at.checked_add(ACTIVATION_RETRY).ok()).unwrap_or(now);
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
            let next = if delete.is_some() { Next::Change } else { Next::At(at) };
            waiting(ended.failure.reason, message, delete, next)
        }
    }
}

fn begin<I: Intent>(world: &World<I>, build: &BuildActivation, stem: &str, revision: i64) -> Step<I> {
    let mut meta = world.child(format!("{stem}{revision}"), "activation");
    meta.labels.get_or_insert_default().insert(REVISION.to_owned(), revision.to_string());
    let subject = Subject {
        kind: World::<I>::kind(),
        namespace: world.key().namespace,
        name: world.key().name,
        uid: world.object.meta().uid.clone().unwrap_or_default(),
        attempt: 1,
    };
    let create = Create::of(&build(meta, subject, revision), format!("revision {revision} is to be active"));
    Step::Activating {
        create: Some(Box::new(create)),
        delete: None,
        reason: Reason::Activating,
        message: format!("activating revision {revision}"),
        next: Next::Change,
    }
}

/// The revision outside that is ahead of this pod's, once it is clear that no other pod of ours has brought it there:
/// the API server was restored from a backup, or the object was made anew before the outside was cleaned up.
fn overtaken(pod: &PodView, now: Timestamp) -> Option<i64> {
    let Outcome::Failed(ended) = outcome::of(pod) else { return None };
    let settled = outcome::ended_at(pod)?.checked_add(ACTIVATION_RETRY).ok()? <= now;
    ended.failure.superseded_by.filter(|by| settled && *by >= revision(pod))
}

pub(super) fn revision(pod: &PodView) -> i64 {
    pod.labels().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}
