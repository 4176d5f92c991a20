//! The next step of an errand.

use super::{Answer, Decision, Errand, PodState, State};
use crate::{
    children::{
        meta, pod,
        pod_outcome::{self, Outcome},
    },
    plan::{Action, Create, Delete},
    resource::PodView,
    runtime::backoff,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest,
    common::Retry,
    labels,
    result::Failure,
    task::{Subject, Task, Work},
};
use std::sync::Arc;

/// Longest request that is written into a pod as it is.
const REQUEST_BYTES_MAX: usize = 1024;

/// A pod of the present question and its state.
struct Seen<'a> {
    pod: &'a Arc<PodView>,
    state: PodState,
    /// When time alone changes the state.
    action: Action,
}

impl Seen<'_> {
    fn attempt(&self) -> u32 {
        attempt(self.pod)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.pod.annotations().get(name).map(String::as_str)
    }

    fn is_active(&self) -> bool {
        matches!(self.state, PodState::Starting(_) | PodState::Running)
    }
}

/// The pod that is wanted: which round it belongs to, and the digest of its template.
struct Wanted {
    round: String,
    template: Digest,
}

/// The attempt that starts next.
struct Next {
    /// Name of the round's first pod.
    stem: String,
    attempt: u32,
    after: Option<Failure>,
}

impl<K: Resource<DynamicType = ()>> Errand<'_, K> {
    /// Decides the next step of the errand. `build` adds volumes and the container to a pod for `work`.
    pub fn decide(
        &self,
        work: Work,
        build: impl Fn(pod::Builder) -> pod::Builder,
        now: Timestamp,
    ) -> Decision {
        let waits_for = self.waits_for.clone().or_else(|| self.profile.check().err());
        if let Some(blocked) = waits_for.clone().filter(|_| self.pods.is_empty()) {
            return Decision::of(State::Blocked(blocked));
        }
        let build = |meta: ObjectMeta, attempt| {
            let task = Task { subject: self.subject(attempt), work: work.clone() };
            self.limits.bound(self.profile.complete(build(pod::Builder::once(meta).task(&task)).build()))
        };
        let wanted = Wanted { round: self.round(now), template: template(&build(ObjectMeta::default(), 0)) };
        let (seen, mut deletes) = self.look(now);
        let answer = newest(&seen, |state| matches!(state, PodState::Succeeded(_)));
        let failure = newest(&seen, |state| matches!(state, PodState::Failed { .. }));
        let ended = seen.iter().filter(|seen| !seen.is_active());
        let kept = [answer, failure].map(|kept| kept.map(|seen| seen.pod.name_any()));
        let old = ended.filter(|seen| !kept.contains(&Some(seen.pod.name_any())));
        deletes.extend(old.filter_map(|seen| Delete::of(seen.pod.as_ref(), "a newer one has ended")));
        let mut decision = Decision { answer: self.answer(), deletes, ..Decision::of(State::Answered) };
        let last = answer.into_iter().chain(failure).max_by_key(|seen| age(seen.pod));
        let Some(next) = self.next(&seen, last, &wanted, &mut decision, now) else { return decision };
        if let Some(blocked) = waits_for {
            decision.state = State::Blocked(blocked);
            return decision;
        }
        let mut meta = self.meta(&next, &wanted);
        meta.labels.get_or_insert_default().insert(labels::ATTEMPT.to_owned(), next.attempt.to_string());
        let why = if next.attempt == 1 { "it is due" } else { "the attempt before has failed" };
        decision.create = Some(Create::of(&build(meta, next.attempt), why));
        decision.state = State::Active { attempt: next.attempt, held_up: None, last: next.after };
        decision
    }

    /// The newest answer to the present question.
    pub fn answer(&self) -> Option<Answer> {
        let answers = self.present().filter_map(|pod| match pod_outcome::of(pod) {
            Outcome::Succeeded(result) => Some((age(pod), *result, pod_outcome::ended_at(pod))),
            _ => None,
        });
        let (_, result, at) = answers.max_by(|(a, ..), (b, ..)| a.cmp(b))?;
        Some(Answer { result, at })
    }

    /// The attempt that starts now. None sets the decision's state: a pod is on its way, or none is due.
    fn next(
        &self,
        seen: &[Seen<'_>],
        last: Option<&Seen<'_>>,
        wanted: &Wanted,
        decision: &mut Decision,
        now: Timestamp,
    ) -> Option<Next> {
        let after = last.and_then(Seen::failure);
        let first = || Next { stem: self.stem(wanted), attempt: 1, after: after.clone() };
        let is_wanted = |seen: &Seen<'_>| seen.annotation(labels::TEMPLATE) == Some(wanted.template.as_str());
        if let Some(active) = newest(seen, |state| matches!(state, PodState::Starting(_) | PodState::Running))
        {
            if matches!(active.state, PodState::Starting(_)) && !is_wanted(active) {
                decision
                    .deletes
                    .extend(Delete::of(active.pod.as_ref(), "it has not started, and another is wanted"));
                return Some(Next { after: active.failure_before(), ..first() });
            }
            decision.action = active.action;
            decision.state = active.active_state();
            return None;
        }
        let Some(last) = last else { return Some(first()) };
        let made_for = last.annotation(labels::MADE_FOR).unwrap_or_default();
        match &last.state {
            // A request that was withdrawn has the name of its pod taken: the failure since then is repeated.
            PodState::Failed { failure, disrupted, at }
                if is_wanted(last) && (same_request(made_for, &wanted.round) || self.is_taken(wanted)) =>
            {
                let attempt = last.attempt();
                let due = at.checked_add(pause(attempt, *disrupted, &self.seed())).unwrap_or(*at);
                if now < due {
                    decision.action = Action::RequeueAt(due);
                    let (failure, disrupted) = (failure.clone(), after.is_none());
                    decision.state = State::Failed { attempt, failure, disrupted, next: due };
                    return None;
                }
                // An overdue pod has not ended by itself.
                decision.deletes.extend(Delete::of(last.pod.as_ref(), "the next attempt replaces it"));
                let stem = last.stem();
                Some(Next { stem, attempt: attempt.saturating_add(1), after })
            }
            PodState::Succeeded(_) if made_for == wanted.round => {
                decision.action = self.slot_end(now).map_or(Action::AwaitChange, Action::RequeueAt);
                None
            }
            state => {
                // A pod that is given up would otherwise start one day, next to its successors.
                if matches!(state, PodState::Failed { .. }) && !has_ended(last.pod) {
                    let given_up = Delete::of(last.pod.as_ref(), "it was given up, and another is due");
                    decision.deletes.extend(given_up);
                }
                Some(first())
            }
        }
    }

    /// The pods of this question, and the removal of those of other questions.
    fn look(&self, now: Timestamp) -> (Vec<Seen<'_>>, Vec<Delete>) {
        let seen = self.present().map(|pod| {
            let (state, action) = self.limits.state(pod, now);
            Seen { pod, state, action }
        });
        let earlier = self.pods.iter().filter(|pod| self.is_mine(pod) && !self.asks_the_same(pod));
        let earlier = earlier.filter_map(|pod| Delete::of(pod.as_ref(), "it was for an earlier spec"));
        (seen.collect(), earlier.collect())
    }

    /// The pods of the present question.
    fn present(&self) -> impl Iterator<Item = &Arc<PodView>> {
        self.pods.iter().filter(|pod| self.is_mine(pod) && self.asks_the_same(pod))
    }

    /// Whether the pod has the role and belongs to this owner, not to an earlier one of the same name.
    fn is_mine(&self, pod: &PodView) -> bool {
        let is_owned =
            pod.owner_references().iter().any(|owner| Some(&owner.uid) == self.owner.meta().uid.as_ref());
        is_owned && pod.labels().get(labels::ROLE).is_some_and(|role| role == self.role)
    }

    fn asks_the_same(&self, pod: &PodView) -> bool {
        pod.labels().get(labels::DIGEST).is_some_and(|digest| digest == self.question.short(63))
    }

    fn meta(&self, next: &Next, wanted: &Wanted) -> ObjectMeta {
        let name = match next.attempt {
            1 => next.stem.clone(),
            attempt => format!("{}-{attempt}", next.stem),
        };
        let labels = meta::child_labels(self.owner, self.operator, self.role);
        let mut meta = meta::child_meta(self.owner, name, labels);
        let labels = meta.labels.get_or_insert_default();
        labels.insert(labels::DIGEST.to_owned(), self.question.short(63).to_owned());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::MADE_FOR.to_owned(), wanted.round.clone());
        annotations.insert(labels::TEMPLATE.to_owned(), wanted.template.to_string());
        if let Some(failure) = &next.after {
            remember_failure(&mut meta, failure);
        }
        meta
    }

    /// The subject of an attempt. Attempt 0 stands for all attempts of owners of this name.
    fn subject(&self, attempt: u32) -> Subject {
        let meta = self.owner.meta();
        let uid = if attempt == 0 { None } else { meta.uid.clone() };
        Subject {
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            attempt,
        }
    }

    /// Namespace and name of the owner, to spread its pods in time.
    fn seed(&self) -> String {
        let meta = self.owner.meta();
        [&meta.namespace, &meta.name].map(|part| part.as_deref().unwrap_or_default()).join("/")
    }

    /// `<owner>-<role>-<slot>-<4 hex>`: the suffix tells questions, requests and templates in one slot apart.
    fn stem(&self, wanted: &Wanted) -> String {
        let slot = wanted.round.split(' ').next().unwrap_or_default();
        let parts = [self.question.as_str(), &wanted.round, wanted.template.as_str()].join(" ");
        let owner = self.owner.meta().name.as_deref().unwrap_or_default();
        format!("{owner}-{}-{slot}-{}", self.role, Digest::of_bytes(parts.as_bytes()).short(8))
    }

    /// Whether a pod has the name of the round's first pod.
    fn is_taken(&self, wanted: &Wanted) -> bool {
        let stem = self.stem(wanted);
        self.present().any(|pod| pod.name_any() == stem)
    }

    /// The time slot and the request that a pod that starts at `now` answers.
    fn round(&self, now: Timestamp) -> String {
        let slot = self.interval.map_or(0, |interval| self.slot(interval, now));
        let request = self.request.as_deref().unwrap_or_default();
        // A pod has room for all of its annotations only if none is as long as a user's may be.
        if request.len() > REQUEST_BYTES_MAX {
            return format!("{slot} {}", Digest::of_bytes(request.as_bytes()));
        }
        format!("{slot} {request}")
    }

    /// Slots of different owners begin at different times, so that their pods do not start all at once.
    fn slot(&self, interval: SignedDuration, at: Timestamp) -> i64 {
        let length = interval.as_secs().max(1);
        at.as_second().saturating_add(self.offset(length)).div_euclid(length)
    }

    fn offset(&self, length: i64) -> i64 {
        let hash =
            u64::from_str_radix(Digest::of_bytes(self.seed().as_bytes()).short(12), 16).unwrap_or_default();
        i64::try_from(hash).unwrap_or_default().rem_euclid(length)
    }

    fn slot_end(&self, now: Timestamp) -> Option<Timestamp> {
        let interval = self.interval?;
        let length = interval.as_secs().max(1);
        let next = self.slot(interval, now).saturating_add(1).saturating_mul(length);
        Timestamp::from_second(next.saturating_sub(self.offset(length))).ok()
    }
}

impl Seen<'_> {
    fn active_state(&self) -> State {
        let held_up = match &self.state {
            PodState::Starting(held_up) => held_up.clone(),
            _ => None,
        };
        State::Active { attempt: self.attempt(), held_up, last: self.failure_before() }
    }

    /// The failure of the work that the next attempt follows. A disruption is none.
    fn failure(&self) -> Option<Failure> {
        match &self.state {
            PodState::Failed { failure, disrupted: false, .. } => Some(failure.clone()),
            PodState::Failed { disrupted: true, .. } | PodState::Starting(_) => self.failure_before(),
            PodState::Succeeded(_) | PodState::Running => None,
        }
    }

    fn failure_before(&self) -> Option<Failure> {
        failure_before(self.pod)
    }

    /// The name of its round's first pod.
    fn stem(&self) -> String {
        let name = self.pod.name_any();
        let suffix = format!("-{}", self.attempt());
        match self.attempt() {
            1 => name,
            _ => name.strip_suffix(&suffix).unwrap_or(&name).to_owned(),
        }
    }
}

fn newest<'a>(seen: &'a [Seen<'a>], is: impl Fn(&PodState) -> bool) -> Option<&'a Seen<'a>> {
    seen.iter().filter(|seen| is(&seen.state)).max_by_key(|seen| age(seen.pod))
}

/// The delay after `attempt` has failed.
pub(crate) fn pause(attempt: u32, disrupted: bool, seed: &str) -> SignedDuration {
    let delay = if disrupted {
        backoff::disruption_delay(attempt, seed)
    } else {
        backoff::attempt_delay(&Retry::default(), attempt, seed)
    };
    SignedDuration::try_from(delay).unwrap_or(SignedDuration::ZERO)
}

/// The failure of the attempt before the pod's.
pub(crate) fn failure_before(pod: &PodView) -> Option<Failure> {
    serde_json::from_str(pod.annotations().get(labels::LAST_FAILURE)?).ok()
}

/// Writes the annotation that [`failure_before`] reads.
pub(crate) fn remember_failure(meta: &mut ObjectMeta, failure: &Failure) {
    if let Ok(text) = serde_json::to_string(failure) {
        meta.annotations.get_or_insert_default().insert(labels::LAST_FAILURE.to_owned(), text);
    }
}

/// Whether the containers of a pod have ended, not only the time that they may take.
fn has_ended(pod: &PodView) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// The number of a pod's attempt.
pub(crate) fn attempt(pod: &PodView) -> u32 {
    pod.labels().get(labels::ATTEMPT).and_then(|attempt| attempt.parse().ok()).unwrap_or(1)
}

/// Orders pods by their creation. The attempt orders those of one second.
fn age(pod: &PodView) -> (Option<Timestamp>, u32, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, attempt(pod), pod.name_any())
}

/// Whether two rounds answer the same request, perhaps in different slots.
fn same_request(a: &str, b: &str) -> bool {
    a.split_once(' ').map(|(_, request)| request) == b.split_once(' ').map(|(_, request)| request)
}

/// The digest of a pod without its name and labels.
pub(crate) fn template(pod: &Pod) -> Digest {
    Digest::of_json(&(&pod.spec, pod.annotations())).unwrap_or_else(|_| Digest::of_bytes(b""))
}
