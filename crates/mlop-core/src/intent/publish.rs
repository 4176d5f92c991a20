//! From a step to a plan: the status that explains it, and what has to be written for it.

use super::{
    Intent, Observed, RunState, revision, run_state,
    step::{Findings, Late, Step, execution, is_right},
};
use crate::{
    condition::{self, ConditionStatus, Conditions},
    inputs::{self, ReadyInput, UpstreamFailure},
    plan::{Action, Apply, Plan},
    resource::ApiKind,
    run::RunResource,
    runtime::controller::Reports,
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Artifact, Reason,
    contract::{Cause, condition_type},
    status::{ActivationRecord, DeadLetter, HistoryEntry, IntentStatus, Verdict},
};
use serde_json::json;
use std::sync::Arc;

/// A run that ends within this time is not worth a write that says it is under way. Creation times are whole
/// seconds, so this is two to three.
const PROGRESS_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// The same while an earlier version is in use: nobody waits for the first.
const PROGRESS_AFTER_IN_USE: SignedDuration = SignedDuration::from_secs(10);
const HISTORY_MAX: usize = 5;
const DEAD_LETTERS_MAX: usize = 5;
const VERDICTS_MAX: usize = 10;

pub(super) fn render<I: Intent>(
    observed: &Observed<I>,
    step: Step<I>,
    late: Option<Late<I>>,
    findings: Findings,
    now: Timestamp,
) -> Plan<IntentStatus> {
    let before = observed.object.reported().cloned().unwrap_or_default();
    let mut draft = Draft { observed, status: before.clone(), plan: Plan::idle(), now, wanted: None };
    draft.status.observed_generation = Some(observed.generation());
    draft.keep_up();
    let came_late = late.map(|late| draft.take(late)).is_some();
    draft.inputs(&step, &findings);
    draft.step(step, &findings);
    if came_late {
        // The number of a new run counts from its creation on. What has an earlier one is published before.
        draft.plan.creates.clear();
    }
    draft.mirror_execution();
    draft.retire();
    draft.finish(&before)
}

struct Draft<'a, I: Intent> {
    observed: &'a Observed<I>,
    status: IntentStatus,
    plan: Plan<IntentStatus>,
    now: Timestamp,
    /// The dead run that the present inputs want: the one that a new budget is for.
    wanted: Option<String>,
}

impl<I: Intent> Draft<'_, I> {
    fn set(&mut self, kind: &str, is: ConditionStatus, reason: Reason, message: &str) {
        Conditions::new(&mut self.status.conditions, self.observed.generation(), self.now)
            .set(kind, is, reason, message);
    }

    /// Ready stays True while the artifact is right for this spec; otherwise it says why it is not.
    fn ready(&mut self, is: ConditionStatus, reason: Reason, message: &str) {
        let generation = self.observed.generation();
        match self.status.artifact.as_ref().filter(|artifact| artifact.generation == generation) {
            Some(artifact) => {
                let message = format!("revision {} is in use", artifact.revision);
                self.set(condition_type::READY, ConditionStatus::True, Reason::Ready, &message);
            }
            None => self.set(condition_type::READY, is, reason, message),
        }
    }

    fn reconciling(&mut self, reason: Reason, message: &str) {
        Conditions::new(&mut self.status.conditions, self.observed.generation(), self.now)
            .reconciling(reason, message);
    }

    fn stalled(&mut self, reason: Reason, message: &str) {
        Conditions::new(&mut self.status.conditions, self.observed.generation(), self.now)
            .stalled(reason, message);
    }

    fn settled(&mut self) {
        Conditions::new(&mut self.status.conditions, self.observed.generation(), self.now).settled();
    }

    /// An edit that leaves what is published right.
    fn keep_up(&mut self) {
        let generation = self.observed.generation();
        let behind = self.status.artifact.as_mut().filter(|artifact| artifact.generation != generation);
        if let Some(artifact) = behind
            && is_right(self.observed)
        {
            artifact.generation = generation;
        }
    }

    fn inputs(&mut self, step: &Step<I>, findings: &Findings) {
        if self.observed.inputs.is_empty() {
            return;
        }
        match (step, &findings.inputs) {
            (_, Some(_)) => self.set(
                condition_type::INPUTS_READY,
                ConditionStatus::True,
                Reason::InputsReady,
                "all inputs are usable",
            ),
            (Step::Blocked { reason, message, upstream, .. }, None) => {
                let is = if upstream.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
                let text = upstream.as_ref().map_or_else(|| message.clone(), |t| self.path(t));
                self.set(condition_type::INPUTS_READY, is, *reason, &text);
            }
            (Step::Diverged { message, .. }, None) => {
                self.set(
                    condition_type::INPUTS_READY,
                    ConditionStatus::Unknown,
                    Reason::InputsDiverged,
                    message,
                );
            }
            (_, None) => self.set(
                condition_type::INPUTS_READY,
                ConditionStatus::True,
                Reason::Pinned,
                "spec.pin says what is used",
            ),
        }
    }

    fn path(&self, upstream: &UpstreamFailure) -> String {
        inputs::path(&self.observed.label(), &upstream.cause, Some(upstream))
    }

    /// Marks what is published as not made from the newest inputs, and why.
    fn outdated(&mut self, reason: Reason, message: &str) {
        let is =
            if self.status.artifact.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.set(condition_type::UP_TO_DATE, is, reason, message);
    }

    fn step(&mut self, step: Step<I>, findings: &Findings) {
        match step {
            Step::Blocked { reason, message, stalled, upstream } => {
                self.hold(reason, &message, stalled, upstream)
            }
            Step::Diverged { message, since } => {
                self.status.cause = None;
                if !self.is_quick(since) {
                    self.hold(Reason::InputsDiverged, &message, false, None);
                }
            }
            Step::Pause { reason, message, next } => {
                self.status.cause = None;
                self.ready(ConditionStatus::Unknown, reason, &message);
                self.outdated(reason, &message);
                self.settled();
                self.plan.action = next;
            }
            Step::Start(create) => {
                self.status.cause = None;
                let message = format!(
                    "starting {}",
                    create.object.pointer("/metadata/name").and_then(|v| v.as_str()).unwrap_or_default()
                );
                self.progress(Reason::Running, &message, self.now);
                self.plan.creates.push(*create);
            }
            Step::Supersede(run) => {
                self.status.cause = None;
                let message = format!("{} gives way to a run for what is wanted now", run.name_any());
                self.progress(Reason::Running, &message, self.now);
                let plan = std::mem::replace(&mut self.plan, Plan::idle());
                self.plan =
                    plan.delete(run.as_ref(), "what it was for has changed, and it had not got anywhere");
            }
            Step::Busy { run, held_up, newer_waits } => self.busy(&run, held_up, newer_waits),
            Step::Dead { run, reason, message } => {
                self.dead(&run, reason, &message);
                self.wanted = Some(run.name_any());
            }
            Step::Rejected { run, verdict } => self.rejected(&run, verdict),
            Step::Activating { create, delete, reason, message, since, next } => {
                self.status.cause = None;
                self.plan.creates.extend(create.map(|create| *create));
                self.plan.deletes.extend(delete);
                self.plan.action = next;
                if reason == Reason::Activating {
                    self.progress(reason, &message, since);
                } else {
                    self.show_progress(reason, &message);
                }
            }
            Step::Publish { run, verdict, revision, activation } => {
                self.publish(&run, verdict, revision, activation, findings.inputs.as_deref());
                self.current(findings);
            }
            Step::Current => self.current(findings),
        }
    }

    fn hold(&mut self, reason: Reason, message: &str, stalled: bool, upstream: Option<UpstreamFailure>) {
        let text = upstream.as_ref().map_or_else(|| message.to_owned(), |t| self.path(t));
        let is =
            if stalled || upstream.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.status.cause = match (upstream, stalled) {
            (Some(upstream), _) => Some(upstream.cause),
            (None, true) => Some(self.own_cause(reason, message)),
            (None, false) => None,
        };
        self.ready(is, reason, &text);
        self.outdated(reason, &text);
        if stalled { self.stalled(reason, &text) } else { self.settled() }
    }

    fn own_cause(&self, reason: Reason, message: &str) -> Cause {
        Cause {
            kind: Observed::<I>::kind(),
            name: self.observed.key().name,
            reason: reason.to_string(),
            message: condition::truncated(message, condition::MESSAGE_BYTES_MAX),
        }
    }

    fn busy(&mut self, run: &Arc<I::Run>, held_up: Option<(Reason, String)>, newer_waits: bool) {
        self.status.cause = None;
        let name = run.name_any();
        match held_up {
            Some((reason, message)) => self.show_progress(reason, &format!("{name}: {message}")),
            None => {
                let message = if newer_waits {
                    format!("{name} is under way; newer inputs come after it")
                } else {
                    format!("{name} is under way")
                };
                let since = run.meta().creation_timestamp.as_ref().map_or(self.now, |t| t.0);
                self.progress(Reason::Running, &message, since);
            }
        }
    }

    fn show_progress(&mut self, reason: Reason, message: &str) {
        self.ready(ConditionStatus::Unknown, reason, message);
        self.outdated(reason, message);
        self.reconciling(reason, message);
    }

    fn progress(&mut self, reason: Reason, message: &str, since: Timestamp) {
        if !self.is_quick(since) {
            self.show_progress(reason, message);
        }
    }

    /// Whether things go on as usual, and have not for long: that is not worth a write unless the status tells of
    /// something else that is no longer true, or is written anyway. They are looked at again when it is.
    fn is_quick(&mut self, since: Timestamp) -> bool {
        let before = self.observed.object.reported();
        let generation = Some(self.observed.generation());
        let seen = before.is_some_and(|status| {
            status.observed_generation == generation
                && condition::get(&status.conditions, condition_type::STALLED).is_none()
                && status.cause == self.status.cause
                && status.artifact == self.status.artifact
        });
        let in_use = self.status.artifact.as_ref().map(|artifact| artifact.generation) == generation;
        let patience = if in_use { PROGRESS_AFTER_IN_USE } else { PROGRESS_AFTER };
        let shown_at = since.checked_add(patience).unwrap_or(since);
        let quick = seen && self.now < shown_at;
        if quick {
            self.plan.action = self.plan.action.or(Action::RequeueAt(shown_at));
            self.status = before.cloned().unwrap_or_default();
        }
        quick
    }

    fn dead(&mut self, run: &Arc<I::Run>, reason: Reason, message: &str) {
        let cause = self.own_cause(reason, message);
        let text = inputs::path(&self.observed.label(), &cause, None);
        let input_digest = run.lineage().input_digest.clone();
        let attempts = run.reported().map_or(0, |status| status.attempts);
        let known =
            self.status.dead_letters.iter().any(|d| d.input_digest == input_digest && d.attempts == attempts);
        if !known {
            let failure = run.reported().and_then(|status| status.failure.as_ref());
            self.status.dead_letters.retain(|d| d.input_digest != input_digest);
            self.status.dead_letters.insert(
                0,
                DeadLetter {
                    run: run.name_any(),
                    input_digest,
                    reason: reason.to_string(),
                    message: condition::truncated(message, condition::MESSAGE_BYTES_MAX),
                    attempts,
                    at: failure.map_or_else(|| self.now.to_string(), |failure| failure.at.clone()),
                },
            );
            self.status.dead_letters.truncate(DEAD_LETTERS_MAX);
            self.remember(run, reason.as_str());
            self.note(true, reason, &text);
        }
        self.status.cause = Some(cause);
        self.ready(ConditionStatus::False, reason, &text);
        self.outdated(reason, &text);
        self.stalled(reason, &text);
    }

    fn rejected(&mut self, run: &Arc<I::Run>, verdict: Verdict) {
        let message = format!("{}: {}", run.name_any(), verdict.message);
        let cause = self.own_cause(Reason::GateFailed, &message);
        let text = inputs::path(&self.observed.label(), &cause, None);
        if self.record(verdict) {
            self.remember(run, Reason::GateFailed.as_str());
            self.note(true, Reason::GateFailed, &text);
        }
        self.status.cause = Some(cause);
        self.ready(ConditionStatus::False, Reason::GateFailed, &text);
        self.outdated(Reason::GateFailed, &text);
        self.settled();
    }

    /// Keeps a verdict; true when it is new.
    fn record(&mut self, verdict: Verdict) -> bool {
        if self.status.verdicts.contains(&verdict) {
            return false;
        }
        self.status.verdicts.insert(0, verdict);
        self.status.verdicts.truncate(VERDICTS_MAX);
        true
    }

    /// Takes over a result that came late. If it is not what the present spec makes, it is not marked as such.
    fn take(&mut self, late: Late<I>) {
        let Late { run, verdict, activation, of_this_spec } = late;
        let revision = activation.as_ref().map(|active| active.revision);
        self.publish(&run, verdict, revision, activation, None);
        if let Some(artifact) = self.status.artifact.as_mut().filter(|_| !of_this_spec) {
            artifact.generation -= 1;
        }
    }

    /// Takes the run's result as the artifact. An equal digest keeps its revision and time unless it is activated anew;
    /// its parents are those of now: `inputs`, or the run's own.
    fn publish(
        &mut self,
        run: &Arc<I::Run>,
        verdict: Option<Verdict>,
        revision: Option<i64>,
        activation: Option<ActivationRecord>,
        inputs: Option<&[ReadyInput]>,
    ) {
        if let Some(verdict) = verdict {
            self.record(verdict);
        }
        if activation.is_some() {
            self.status.activation = activation;
        }
        let Some(output) = run.reported().and_then(|status| status.output.clone()) else { return };
        let lineage = run.lineage();
        let before = self.status.artifact.take();
        let same = before.as_ref().filter(|artifact| artifact.digest == output.digest);
        let next = before.as_ref().map_or(0, |artifact| artifact.revision) + 1;
        let changed = same.is_none() || revision.is_some();
        let inputs = match inputs {
            Some(inputs) => inputs.iter().map(|input| input.input.record.clone()).collect(),
            None => lineage.inputs.iter().map(|input| input.record.clone()).collect(),
        };
        self.status.artifact = Some(Artifact {
            revision: revision.unwrap_or(same.map_or(next, |artifact| artifact.revision)),
            produced_at: match same.filter(|_| revision.is_none()) {
                Some(artifact) => artifact.produced_at.clone(),
                None => microseconds(self.now),
            },
            digest: output.digest,
            store: output.store,
            uri: output.uri,
            media_type: output.media_type,
            schema_digest: output.schema_digest,
            generation: self.observed.generation(),
            input_digest: lineage.input_digest.clone(),
            run: run.name_any(),
            inputs,
            roots: lineage.roots.clone(),
        });
        self.status.summary = output.summary.clone();
        self.status.metrics = output.metrics;
        self.status.registered = output.registered;
        self.status.dead_letters.retain(|d| d.input_digest != lineage.input_digest);
        if before.as_ref().is_none_or(|artifact| artifact.run != run.name_any()) {
            self.remember(run, Reason::Succeeded.as_str());
        }
        if changed {
            let artifact = self.status.artifact.as_ref();
            let text = artifact.map(|a| {
                format!(
                    "revision {} is in use: {} ({})",
                    a.revision,
                    output.summary.unwrap_or_default(),
                    a.digest
                )
            });
            self.note(false, Reason::Ready, &text.unwrap_or_default());
        }
    }

    /// The artifact is what the spec and the inputs of now make.
    fn current(&mut self, findings: &Findings) {
        let generation = self.observed.generation();
        if let Some(artifact) = &mut self.status.artifact {
            artifact.generation = generation;
            if let Some(inputs) = &findings.inputs {
                artifact.inputs = inputs.iter().map(|input| input.input.record.clone()).collect();
                artifact.roots = inputs::roots(inputs);
            }
        }
        self.ready(ConditionStatus::Unknown, Reason::Pending, "");
        self.settled();
        if I::flow(&self.observed.object).pin().is_some() {
            self.status.cause = None;
            self.set(
                condition_type::UP_TO_DATE,
                ConditionStatus::True,
                Reason::Pinned,
                "spec.pin says which run is used",
            );
        } else if let Some(upstream) = &findings.upstream {
            let text = self.path(upstream);
            self.status.cause = Some(upstream.cause.clone());
            self.set(condition_type::UP_TO_DATE, ConditionStatus::False, Reason::UpstreamFailed, &text);
        } else {
            self.status.cause = None;
            self.set(
                condition_type::UP_TO_DATE,
                ConditionStatus::True,
                Reason::UpToDate,
                "made from the newest inputs",
            );
        }
    }

    fn remember(&mut self, run: &Arc<I::Run>, outcome: &str) {
        let status = run.reported();
        let created = run.meta().creation_timestamp.as_ref().map(|t| t.0);
        let ended: Option<Timestamp> =
            status.and_then(|s| s.finished_at.as_deref()).and_then(|at| at.parse().ok());
        let entry = HistoryEntry {
            run: run.name_any(),
            input_digest: run.lineage().input_digest.clone(),
            digest: status.and_then(|s| s.output.as_ref()).map(|output| output.digest.clone()),
            outcome: outcome.to_owned(),
            attempts: status.map_or(0, |s| s.attempts),
            duration_seconds: match (created, ended) {
                (Some(from), Some(to)) => to.duration_since(from).as_secs().max(0),
                _ => 0,
            },
        };
        self.status.history.retain(|known| known.run != entry.run || known.outcome != entry.outcome);
        self.status.history.insert(0, entry);
        self.status.history.truncate(HISTORY_MAX);
    }

    fn note(&mut self, warning: bool, reason: Reason, message: &str) {
        self.plan.events.push(crate::plan::Event { warning, reason, message: message.to_owned() });
    }

    /// Brings the intent's execution into the run that is active or wanted again. Runs that died for earlier inputs
    /// stay dead.
    fn mirror_execution(&mut self) {
        let wanted = execution(self.observed);
        for run in &self.observed.runs {
            let open = match run_state(run.as_ref()) {
                RunState::Active(_) => run.meta().deletion_timestamp.is_none(),
                RunState::Dead(..) => self.wanted.as_deref() == Some(&run.name_any()),
                RunState::Succeeded => false,
            };
            if !open || I::is_mirrored(run, &wanted, &self.observed.object) {
                continue;
            }
            let kind = ApiKind::of::<I::Run>();
            let object = json!({
                "apiVersion": kind.api_version(),
                "kind": kind.kind,
                "metadata": {"name": run.name_any(), "namespace": run.namespace(), "uid": run.uid()},
                "spec": I::execution_patch(&wanted, &self.observed.object),
            });
            self.plan.applies.push(Apply {
                kind,
                object,
                why: "the execution was edited or a retry was asked for".to_owned(),
            });
        }
    }

    /// Deletes what is not needed any more: runs beyond `spec.keep`, and pods of earlier activations. Bytes stay.
    fn retire(&mut self) {
        let current = self.status.artifact.as_ref();
        let flow = I::flow(&self.observed.object);
        let mut finished: Vec<_> = self
            .observed
            .runs
            .iter()
            .filter(|run| !matches!(run_state(run.as_ref()), RunState::Active(_)))
            .collect();
        finished
            .sort_by_key(|run| std::cmp::Reverse((run.meta().creation_timestamp.clone(), run.name_any())));
        // The newest may wait for its activation, and one that was rejected would be made again.
        let newest = finished.first().map(|run| run.name_any());
        let spared = |run: &Arc<I::Run>| {
            let name = run.name_any();
            newest.as_ref() == Some(&name)
                || current.is_some_and(|artifact| artifact.run == name)
                || flow.pin() == Some(&name)
                || self.status.dead_letters.first().is_some_and(|dead| dead.run == name)
                || run.meta().deletion_timestamp.is_some()
        };
        let old: Vec<_> =
            finished.into_iter().filter(|run| !spared(run)).skip(flow.keep() as usize).cloned().collect();
        let active = self.status.activation.as_ref().map_or(0, |activation| activation.revision);
        let done: Vec<_> = self
            .observed
            .pods
            .iter()
            .filter(|pod| (1..active).contains(&revision(pod.as_ref())))
            .cloned()
            .collect();
        let mut plan = std::mem::replace(&mut self.plan, Plan::idle());
        for run in old {
            plan = plan.delete(run.as_ref(), "spec.keep");
        }
        for pod in done {
            plan = plan.delete(pod.as_ref(), "a later revision is active");
        }
        self.plan = plan;
    }

    fn finish(mut self, before: &IntentStatus) -> Plan<IntentStatus> {
        if &self.status != before {
            self.plan.status = Some(self.status);
        }
        self.plan
    }
}

/// RFC 3339 with exactly six decimals, so that times sort as text.
pub(crate) fn microseconds(at: Timestamp) -> String {
    format!("{at:.6}")
}
