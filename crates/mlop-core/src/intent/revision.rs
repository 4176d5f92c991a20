//! Revisions: the numbers under which results are activated. The highest one wins in the external system.

use super::{Intent, Observed};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::labels;
use std::fmt;

/// The number of one activation, from 1. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(i64);

impl Revision {
    /// The first revision of an intent.
    pub const FIRST: Self = Self(1);

    /// The revision with this number; none below 1.
    pub fn new(number: i64) -> Option<Self> {
        (number >= Self::FIRST.0).then_some(Self(number))
    }

    /// The revision that a run or an activation pod carries as a label. Without one it must not activate anything.
    pub fn of<K: Resource>(object: &K) -> Option<Self> {
        let labels = object.meta().labels.as_ref()?;
        Self::new(labels.get(labels::REVISION)?.parse().ok()?)
    }

    /// Its number.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The revision after `last`.
    pub(super) fn after(last: Option<Self>) -> Self {
        last.map_or(Self::FIRST, |Self(number)| Self(number.saturating_add(1)))
    }

    /// Writes the label that [`of`](Self::of) reads.
    pub(super) fn label(self, meta: &mut ObjectMeta) {
        meta.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), self.to_string());
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<I: Intent> Observed<I> {
    /// The highest revision that is published or recorded as active.
    pub(super) fn published_revision(&self) -> Option<Revision> {
        let status = self.object.status()?;
        let published = status.artifact.as_ref().and_then(|artifact| Revision::new(artifact.revision));
        published.max(status.activation.as_ref().and_then(|active| Revision::new(active.revision)))
    }

    /// The highest revision of all activation pods and of all runs but `run`. It may be active now or become active.
    pub(super) fn highest_other_revision(&self, run: &I::Run) -> Option<Revision> {
        let others = self.runs.iter().filter(|other| other.name_any() != run.name_any());
        self.pod_revision().max(others.filter_map(|other| Revision::of(other.as_ref())).max())
    }

    /// A revision above all that were given out.
    pub fn next_revision(&self) -> Revision {
        Revision::after(self.published_revision().max(self.highest_given_out()))
    }

    /// Whether no run and no pod carries a revision above the published one.
    pub(super) fn is_published_last(&self) -> bool {
        self.highest_given_out() <= self.published_revision()
    }

    fn highest_given_out(&self) -> Option<Revision> {
        self.pod_revision().max(self.runs.iter().filter_map(|run| Revision::of(run.as_ref())).max())
    }

    fn pod_revision(&self) -> Option<Revision> {
        self.pods.iter().filter_map(|pod| Revision::of(pod.as_ref())).max()
    }
}
