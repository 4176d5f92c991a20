//! The status that explains a step, and the writes that carry it out.

use super::{
    Intent, Observed,
    decide::left_behind,
    history,
    late_result::LateResult,
    request, retention,
    step::{Activating, Findings, Step},
    still_valid::is_still_valid,
};
use crate::{
    Blocked, cause,
    condition::{self, ConditionStatus, Conditions},
    inputs::{self, UpstreamFailure},
    plan::{Action, Delete, Event, Plan},
    run::repetition,
    runtime::error::Error,
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{
    Reason,
    contract::{Cause, condition_type},
    status::{IntentStatus, Verdict},
};
use std::sync::Arc;

/// Progress that is younger is not reported: most runs end earlier, and the write would be superseded at once.
/// Creation times are whole seconds, so this is two to three.
const REPORT_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// The same while an earlier version is in use: nobody waits for the first one.
const REPORT_AFTER_IN_USE: SignedDuration = SignedDuration::from_secs(10);

/// A plan in the making.
pub(super) struct Draft<'a, I: Intent> {
    pub observed: &'a Observed<I>,
    pub status: IntentStatus,
    pub plan: Plan<IntentStatus>,
    pub now: Timestamp,
    /// Name of the dead run of the present inputs. An edit of the execution gives it a new budget.
    pub dead_run: Option<String>,
}

impl<'a, I: Intent> Draft<'a, I> {
    /// A draft that starts from the reported status.
    pub(super) fn new(observed: &'a Observed<I>, now: Timestamp) -> Self {
        let status = observed.status().cloned().unwrap_or_default();
        Self { observed, status, plan: Plan::idle(), now, dead_run: None }
    }

    /// The plan for `step`, with the late result published first.
    pub(super) fn render(
        mut self,
        step: Step<I>,
        late: Option<LateResult<I>>,
        findings: Findings,
    ) -> Plan<IntentStatus> {
        self.status.observed_generation = Some(self.observed.generation());
        self.keep_valid_artifact();
        let has_late_result = late.is_some();
        if let Some(late) = late {
            self.publish_late(late);
        }
        self.report_inputs(&step, &findings);
        self.answer_request(&step);
        let left =
            left_behind(self.observed, &step).and_then(|run| Delete::of(run.as_ref(), "nobody waits for it"));
        self.plan.deletes.extend(left);
        self.report_step(step, &findings);
        if has_late_result {
            // A new run's revision counts from its creation. The late result has a lower one and is published before.
            self.plan.creates.clear();
        }
        self.plan.applies.extend(retention::mirror_execution(self.observed, self.dead_run.as_deref()));
        self.plan.deletes.extend(retention::prune(self.observed, &self.status));
        let before = self.observed.status().cloned().unwrap_or_default();
        self.plan.with_status(self.status, Some(&before))
    }

    /// Moves the artifact to the present generation if the edit of the spec has left it valid.
    fn keep_valid_artifact(&mut self) {
        let generation = self.observed.generation();
        let behind = self.status.artifact.as_mut().filter(|artifact| artifact.generation != Some(generation));
        if let Some(artifact) = behind
            && is_still_valid(self.observed)
        {
            artifact.generation = Some(generation);
        }
    }

    fn report_inputs(&mut self, step: &Step<I>, findings: &Findings) {
        use ConditionStatus::{True, Unknown};
        if self.observed.inputs.is_empty() {
            return;
        }
        let (status, reason, message) = match (step, &findings.inputs) {
            (_, Some(_)) => (True, Reason::InputsReady, "all inputs are ready".to_owned()),
            (Step::Blocked { blocked, upstream }, None) => {
                let status = upstream.as_ref().map_or(Unknown, UpstreamFailure::status);
                let path = upstream.as_ref().map(|upstream| self.path(upstream));
                (status, blocked.reason, path.unwrap_or_else(|| blocked.message.clone()))
            }
            (Step::Diverged { message, .. }, None) => (Unknown, Reason::InputsDiverged, message.clone()),
            (_, None) => (True, Reason::Pinned, "spec.pin names the run in use".to_owned()),
        };
        self.set(condition_type::INPUTS_READY, status, reason, &message);
    }

    /// Answers a request for a run that finds nothing to do, once. It does not start a run later.
    fn answer_request(&mut self, step: &Step<I>) {
        let (Some(request), Some(message)) =
            (request::request(self.observed), request::nothing_to_do(self.observed, step))
        else {
            return;
        };
        if request::open_request(self.observed).is_some() {
            self.publish_event(false, Reason::UpToDate, &message);
        }
        self.status.answered_request = Some(request);
    }

    fn report_step(&mut self, step: Step<I>, findings: &Findings) {
        match step {
            Step::Blocked { blocked, upstream } => self.report_blocked(&blocked, upstream),
            Step::Diverged { message, since } => {
                self.status.cause = findings.upstream.as_ref().map(|upstream| upstream.cause.clone());
                if !self.is_too_recent(since) {
                    let blocked = Blocked::waiting(Reason::InputsDiverged, message);
                    self.report_blocked(&blocked, findings.upstream.clone());
                }
            }
            Step::Paused { reason, message, action } => {
                self.status.cause = None;
                self.set_ready(ConditionStatus::Unknown, reason, &message);
                self.set_outdated(reason, &message);
                self.conditions().settled();
                self.plan.action = action;
            }
            Step::Start(create) => {
                self.status.cause = None;
                let name = create.object.pointer("/metadata/name").and_then(|name| name.as_str());
                let message = format!("starting {}", name.unwrap_or_default());
                self.report_progress(Reason::Running, &message, self.now);
                self.plan.creates.push(*create);
            }
            Step::Supersede(run) => {
                self.status.cause = None;
                let message = format!("{} gives way to a run for the present inputs", run.name_any());
                self.report_progress(Reason::Running, &message, self.now);
                self.plan.deletes.extend(Delete::of(run.as_ref(), "superseded before it made progress"));
            }
            Step::Running { run, held_up, newer_waits } => self.report_running(&run, held_up, newer_waits),
            Step::Dead { run, reason, message } => {
                self.report_dead(&run, reason, &message);
                self.dead_run = Some(run.name_any());
            }
            Step::Rejected { run, verdict } => self.report_rejected(&run, verdict),
            Step::Activating(activating) => self.report_activating(*activating),
            Step::Publish(publication) => {
                self.publish(publication, findings.inputs.as_deref());
                self.report_current(findings);
            }
            Step::Current => self.report_current(findings),
        }
    }

    fn report_blocked(&mut self, blocked: &Blocked, upstream: Option<UpstreamFailure>) {
        let Blocked { reason, message, stalled, .. } = blocked;
        let text = upstream.as_ref().map_or_else(|| message.clone(), |upstream| self.path(upstream));
        let status = match &upstream {
            _ if *stalled => ConditionStatus::False,
            Some(upstream) => upstream.status(),
            None => ConditionStatus::Unknown,
        };
        self.status.cause = upstream.map(|upstream| upstream.cause).or_else(|| self.cause_of(blocked));
        self.set_ready(status, *reason, &text);
        self.set_outdated(*reason, &text);
        if *stalled {
            self.conditions().stalled(*reason, &text);
        } else {
            self.conditions().settled();
        }
    }

    fn report_running(&mut self, run: &Arc<I::Run>, held_up: Option<(Reason, String)>, newer_waits: bool) {
        self.status.cause = run.status().and_then(|status| status.cause.clone());
        let name = run.name_any();
        match held_up {
            Some((reason, message)) => self.show_progress(reason, &format!("{name}: {message}")),
            None => {
                let waits = if newer_waits { "; newer inputs or an edit wait for it" } else { "" };
                let since = run.meta().creation_timestamp.as_ref().map_or(self.now, |at| at.0);
                let doing = repetition(run.as_ref()).map_or_else(
                    || format!("{name} is running"),
                    |repetition| format!("{name}: {repetition}"),
                );
                self.report_progress(Reason::Running, &format!("{doing}{waits}"), since);
            }
        }
    }

    fn report_activating(&mut self, activating: Activating) {
        let Activating { create, delete, blocked, message, since, is_lost, action } = activating;
        let cause = self.cause_of(&blocked);
        self.status.cause = cause.clone();
        self.plan.creates.extend(create);
        self.plan.deletes.extend(delete);
        self.plan.action = action;
        let generation = Some(self.observed.generation());
        let published = self.status.artifact.as_mut().filter(|artifact| artifact.generation == generation);
        if let Some(artifact) = published.filter(|_| is_lost) {
            // Ready comes after the activation: the artifact is right for no generation until it is active again.
            artifact.generation = None;
        }
        if blocked.stalled {
            self.report_blocked(&Blocked { message, ..blocked }, None);
            self.status.cause = cause;
        } else if blocked.reason == Reason::Activating {
            self.report_progress(blocked.reason, &message, since);
        } else {
            self.show_progress(blocked.reason, &message);
        }
    }

    fn report_dead(&mut self, run: &Arc<I::Run>, reason: Reason, message: &str) {
        let cause = self.own_cause(reason, message);
        let text = inputs::path(&self.observed.label(), &cause, None);
        if history::add_dead_letter(&mut self.status, run.as_ref(), reason, message, self.now) {
            history::remember(&mut self.status, run.as_ref(), reason);
            self.publish_event(true, reason, &text);
        }
        self.status.cause = Some(cause);
        self.set_ready(ConditionStatus::False, reason, &text);
        self.set_outdated(reason, &text);
        self.conditions().stalled(reason, &text);
    }

    fn report_rejected(&mut self, run: &Arc<I::Run>, verdict: Verdict) {
        let message = format!("{}: {}", run.name_any(), verdict.message);
        let cause = self.own_cause(Reason::GateFailed, &message);
        let text = inputs::path(&self.observed.label(), &cause, None);
        if history::record_verdict(&mut self.status, verdict) {
            history::remember(&mut self.status, run.as_ref(), Reason::GateFailed);
            self.publish_event(true, Reason::GateFailed, &text);
        }
        self.status.cause = Some(cause);
        self.set_ready(ConditionStatus::False, Reason::GateFailed, &text);
        self.set_outdated(Reason::GateFailed, &text);
        self.conditions().settled();
    }

    /// Reports work that goes on as usual, once it is old enough.
    fn report_progress(&mut self, reason: Reason, message: &str, since: Timestamp) {
        if !self.is_too_recent(since) {
            self.show_progress(reason, message);
        }
    }

    fn show_progress(&mut self, reason: Reason, message: &str) {
        self.set_ready(ConditionStatus::Unknown, reason, message);
        self.set_outdated(reason, message);
        self.conditions().reconciling(reason, message);
    }

    /// Whether this progress is too recent to report. If the status is otherwise accurate, the write is skipped, and
    /// the intent is requeued for the time when the progress becomes worth one.
    fn is_too_recent(&mut self, since: Timestamp) -> bool {
        let before = self.observed.status();
        let generation = Some(self.observed.generation());
        let accurate = before.is_some_and(|status| {
            status.observed_generation == generation
                && condition::get(&status.conditions, condition_type::STALLED).is_none()
                && !Error::is_shown_in(&status.conditions)
                && status.cause == self.status.cause
                && status.artifact == self.status.artifact
        });
        let in_use = self.status.artifact.as_ref().and_then(|artifact| artifact.generation) == generation;
        let delay = if in_use { REPORT_AFTER_IN_USE } else { REPORT_AFTER };
        let due = since.checked_add(delay).unwrap_or(since);
        let too_recent = accurate && self.now < due;
        if too_recent {
            self.plan.action = self.plan.action.or(Action::RequeueAt(due));
            self.status = before.cloned().unwrap_or_default();
        }
        too_recent
    }

    /// Sets `Ready`. It stays True while the artifact is valid for this generation.
    pub(super) fn set_ready(&mut self, status: ConditionStatus, reason: Reason, message: &str) {
        let generation = Some(self.observed.generation());
        match self.status.artifact.as_ref().filter(|artifact| artifact.generation == generation) {
            Some(artifact) => {
                let message = format!("revision {} is in use", artifact.revision);
                self.set(condition_type::READY, ConditionStatus::True, Reason::Ready, &message);
            }
            None => self.set(condition_type::READY, status, reason, message),
        }
    }

    /// Sets `UpToDate` for an artifact that was not made from the newest inputs.
    fn set_outdated(&mut self, reason: Reason, message: &str) {
        let has_artifact = self.status.artifact.is_some();
        let status = if has_artifact { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.set(condition_type::UP_TO_DATE, status, reason, message);
    }

    pub(super) fn set(&mut self, kind: &str, status: ConditionStatus, reason: Reason, message: &str) {
        self.conditions().set(kind, status, reason, message);
    }

    pub(super) fn conditions(&mut self) -> Conditions<'_> {
        Conditions::new(&mut self.status.conditions, self.observed.generation(), self.now)
    }

    pub(super) fn path(&self, upstream: &UpstreamFailure) -> String {
        inputs::path(&self.observed.label(), &upstream.cause, Some(upstream))
    }

    pub(super) fn publish_event(&mut self, warning: bool, reason: Reason, message: &str) {
        self.plan.events.push(Event { warning, reason, message: message.to_owned() });
    }

    fn cause_of(&self, blocked: &Blocked) -> Option<Cause> {
        blocked.cause(&Observed::<I>::kind(), &self.observed.key().name)
    }

    fn own_cause(&self, reason: Reason, message: &str) -> Cause {
        cause(&Observed::<I>::kind(), &self.observed.key().name, reason, message)
    }
}
