//! The outcome of an attempt: one, however many pods it has.
//!
//! The pods of a distributed attempt start together. The first to fail is the cause, whatever the others say when they
//! fall with it. The attempt has succeeded when its leader, the pod of rank 0, has published.

use super::RunResource;
use crate::{
    children::pod_outcome::{self, Ended, Outcome as PodOutcome},
    resource::{JobView, PodView},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mlop_api::{Reason, duration::Span, labels, result::ResultDocument};

/// The pods of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Pods<'a> {
    /// How many there are to be.
    size: u32,
    /// In the order of their ranks.
    pods: Vec<&'a PodView>,
    job: Option<&'a JobView>,
}

/// The outcome of an attempt.
#[derive(Clone, Debug)]
pub(super) enum Outcome<'a> {
    /// Its pods have not all started.
    Starting {
        /// How many have.
        started: u32,
        /// The first that has not; none if the Job controller has not created it.
        waits: Option<&'a PodView>,
        /// What holds it up, if anything unusual does.
        held_up: Option<(Reason, String)>,
        /// When the others no longer wait for it; none while nobody waits.
        until: Option<Timestamp>,
    },
    /// The leader, which says what the attempt does.
    Running(&'a PodView),
    Succeeded(Box<ResultDocument>),
    /// A part has not started in time after the first.
    Late {
        ended: Ended,
        at: Timestamp,
    },
    Failed {
        ended: Ended,
        at: Timestamp,
    },
}

impl<'a> Pods<'a> {
    /// Those of `pods` that are there, of an attempt of `size` pods, whose Job is `job`.
    pub(super) fn new(mut pods: Vec<&'a PodView>, size: u32, job: Option<&'a JobView>) -> Self {
        pods.sort_by_key(|pod| rank(pod));
        Self { size, pods, job }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// The pod whose result is that of the attempt.
    pub(super) fn leader(&self) -> Option<&'a PodView> {
        self.iter().find(|pod| rank(pod) == 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a PodView> {
        self.pods.iter().copied()
    }

    /// The pods whose containers may still run at `now`.
    pub(super) fn running(&self, now: Timestamp) -> impl Iterator<Item = &'a PodView> {
        self.iter().filter(move |pod| is_running(pod, now))
    }

    /// When the next deleted pod counts as lost, after `now`.
    pub(super) fn next_loss(&self, now: Timestamp) -> Option<Timestamp> {
        self.pods.iter().filter_map(|pod| pod_outcome::lost_at(pod)).filter(|at| *at > now).min()
    }

    /// The outcome at `now`, if a part may start at most `start_timeout` after the first.
    pub(super) fn outcome(&self, start_timeout: Span, now: Timestamp) -> Outcome<'a> {
        let leader = self.leader();
        if let Some(PodOutcome::Succeeded(result)) = leader.map(pod_outcome::of) {
            return Outcome::Succeeded(result);
        }
        if let Some((ended, at)) = self.failure(now) {
            return Outcome::Failed { ended, at };
        }
        match (self.waiting(start_timeout, now), leader) {
            (Some(waiting), _) => waiting,
            (None, Some(leader)) => Outcome::Running(leader),
            // The Job controller has seen its end, and is about to end the Job.
            (None, None) => Outcome::Starting { started: self.size, waits: None, held_up: None, until: None },
        }
    }

    /// Why the attempt has failed, and when, if one of its pods has.
    fn failure(&self, now: Timestamp) -> Option<(Ended, Timestamp)> {
        // What a leader publishes needs the others no more.
        let publishes = self.leader().is_some_and(pod_outcome::publishes);
        let count = |pod: &&&PodView| !publishes || rank(pod) == 0;
        let counted = || self.pods.iter().filter(count);
        let failed: Vec<_> = counted().filter_map(|pod| Some((*pod, failed(pod, now)?))).collect();
        let at = failed.iter().map(|(_, (_, at))| *at).min()?;
        // A pod that is asked to go takes time to save a checkpoint, while the others notice at once that it is gone.
        let going = counted().filter_map(|pod| Some((*pod, pod_outcome::going(pod)?)));
        let failed = failed.into_iter().map(|(pod, (ended, _))| (pod, ended));
        let (pod, mut ended) = failed.chain(going).min_by_key(|(pod, ended)| {
            let began = pod_outcome::trouble_began(pod).unwrap_or(at);
            let is_symptom = ended.failure.reason == Reason::UserError;
            (began, !ended.disrupted, is_symptom, rank(pod))
        })?;
        if self.size > 1 {
            ended.failure.message = format!("{}: {}", self.name(rank(pod)), ended.failure.message);
            // The others have no checkpoints of their own.
            ended.checkpoint = self.leader().and_then(pod_outcome::checkpoint).map(Box::new);
            ended.progress = self.leader().and_then(pod_outcome::progress).map(Box::new);
        }
        Some((ended, at))
    }

    /// The state of an attempt that waits for some of its pods to start.
    fn waiting(&self, start_timeout: Span, now: Timestamp) -> Option<Outcome<'a>> {
        let found = |wanted: u32| self.iter().find(|pod| rank(pod) == wanted);
        let has_started = |pod: &PodView| !matches!(pod_outcome::of(pod), PodOutcome::Starting(_));
        let indexes = |list: fn(&JobView) -> Option<&String>| self.job.and_then(list);
        let completed = indexes(|job| job.status.completed_indexes.as_ref());
        let is_late = |rank: &u32| match found(*rank) {
            Some(pod) => !has_started(pod),
            None => !completed.is_some_and(|list| contains(list, *rank)),
        };
        let late = (0..self.size).find(is_late)?;
        let waits = found(late);
        let failed = indexes(|job| job.status.failed_indexes.as_ref());
        if waits.is_none() && failed.is_some_and(|list| contains(list, late)) {
            let message = format!("{}: its pod has failed and is gone", self.name(late));
            let ended = Ended::disrupted(Reason::PodLost, message);
            return Some(Outcome::Failed { ended, at: now });
        }
        let held_up = match waits.map(pod_outcome::of) {
            Some(PodOutcome::Starting(held_up)) => held_up,
            _ => None,
        };
        let started: Vec<_> = self.iter().filter(|pod| has_started(pod)).collect();
        let first = started.iter().filter_map(|pod| pod_outcome::start_clock(pod)).min();
        let seconds = i64::try_from(start_timeout.as_secs()).unwrap_or(i64::MAX);
        let until = first.and_then(|first| first.checked_add(SignedDuration::from_secs(seconds)).ok());
        if let Some(at) = until.filter(|until| *until <= now) {
            let (reason, why) = match waits {
                Some(pod) => pod_outcome::delay(pod, held_up),
                None => (Reason::StartTimeout, "the Job controller has not created its pod".to_owned()),
            };
            let message =
                format!("{} did not start within {start_timeout} after the first: {why}", self.name(late));
            return Some(Outcome::Late { ended: Ended::disrupted(reason, message), at });
        }
        let started = u32::try_from(started.len()).unwrap_or(u32::MAX);
        Some(Outcome::Starting { started, waits, held_up, until })
    }

    fn name(&self, rank: u32) -> String {
        format!("worker {rank} of {}", self.size)
    }
}

/// The rank of a pod among those of its attempt.
pub(super) fn rank(pod: &PodView) -> u32 {
    pod.labels().get(labels::RANK).and_then(|rank| rank.parse().ok()).unwrap_or_default()
}

/// Whether a list of the Job controller, such as `0,3-5`, has this index.
fn contains(list: &str, index: u32) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parsed = first.parse().ok().zip(last.parse().ok());
        parsed.is_some_and(|(first, last): (u32, u32)| (first..=last).contains(&index))
    })
}

/// Whether `pod` leads the attempt of `run` that is under way, and its containers run.
pub(super) fn speaks<R: RunResource>(pod: &PodView, run: &R) -> bool {
    let attempts = run.status().map_or(0, |status| status.attempts);
    let is_of_attempt = pod.labels().get(labels::ATTEMPT).and_then(|number| number.parse().ok())
        == Some(attempts.saturating_add(1));
    is_of_attempt
        && rank(pod) == 0
        && pod.metadata.deletion_timestamp.is_none()
        && !super::has_succeeded(run)
        && pod_outcome::of(pod) == PodOutcome::Running
}

/// Whether the containers of `pod` may still run at `now`.
pub(super) fn is_running(pod: &PodView, now: Timestamp) -> bool {
    pod_outcome::of(pod) == PodOutcome::Running && pod_outcome::lost_at(pod).is_none_or(|at| now < at)
}

/// How and when a pod has failed.
fn failed(pod: &PodView, now: Timestamp) -> Option<(Ended, Timestamp)> {
    if let Some(at) = pod_outcome::lost_at(pod).filter(|at| *at <= now) {
        return Some((pod_outcome::lost(), at));
    }
    match pod_outcome::of(pod) {
        PodOutcome::Failed(ended) => Some((ended, pod_outcome::ended_at(pod).unwrap_or(now))),
        _ => None,
    }
}
