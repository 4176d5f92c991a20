//! Attempts whose preflight has failed: what they cost, and the nodes that the next ones avoid.
//!
//! A GPU or a disk that is not fit is the node's fault. No attempt starts there for some time: a preference would not do,
//! since a node with a broken GPU is idle, has the image, and attracts every pod. After that time the node counts again,
//! so that a run waits for its only node, and goes on when it is mended. Until then the scheduler's words are reported.
//!
//! A store that does not answer is seldom the fault of one node, so other nodes are only preferred.

use super::{Run, outcome::Pods, plan::Draft};
use crate::{
    children::pod_outcome::{self, Ended, Outcome},
    condition,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm,
};
use mlop_api::{
    Reason,
    preflight::{AVOIDED_MAX, AvoidedNode, Check},
};

/// Attempts in a row that the GPU or the disk of a node may end before one counts against the budget.
const FREE: u32 = 3;
/// How long a node is avoided: more than a cluster takes to add another one.
const AVOIDED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// The greatest weight of a preference.
const WEIGHT: i32 = 100;

/// The nodes that an attempt avoids which starts at `now`.
#[derive(Clone, Copy)]
pub(super) struct Avoiding<'a> {
    pub nodes: &'a [AvoidedNode],
    pub now: Timestamp,
}

impl<'a> Avoiding<'a> {
    /// The nodes on which no pod may start.
    pub(super) fn strictly(self) -> impl Iterator<Item = &'a AvoidedNode> {
        self.all().filter(|node| node.check != Check::Store)
    }

    /// When the first of these may be used again.
    pub(super) fn next_end(self) -> Option<Timestamp> {
        self.strictly().filter_map(end).min()
    }

    fn all(self) -> impl Iterator<Item = &'a AvoidedNode> {
        self.nodes.iter().filter(move |node| end(node).is_some_and(|end| self.now < end))
    }

    /// Keeps the pod off these nodes, besides what its affinity asks for.
    pub(super) fn apply(self, spec: &mut PodSpec) {
        let (strict, soft): (Vec<_>, Vec<_>) = self.all().partition(|node| node.check != Check::Store);
        if strict.is_empty() && soft.is_empty() {
            return;
        }
        let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
        if !strict.is_empty() {
            let required = &mut affinity.required_during_scheduling_ignored_during_execution;
            let terms = &mut required.get_or_insert_default().node_selector_terms;
            if terms.is_empty() {
                terms.push(NodeSelectorTerm::default());
            }
            // A node has to match one of them.
            for term in terms {
                term.match_fields.get_or_insert_default().extend(strict.iter().map(|node| not(node)));
            }
        }
        if !soft.is_empty() {
            let preference = NodeSelectorTerm {
                match_fields: Some(soft.iter().map(|node| not(node)).collect()),
                ..Default::default()
            };
            let preferred = &mut affinity.preferred_during_scheduling_ignored_during_execution;
            preferred.get_or_insert_default().push(PreferredSchedulingTerm { preference, weight: WEIGHT });
        }
    }
}

/// Another node than this one. A requirement on a field has one value.
fn not(node: &AvoidedNode) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![node.name.clone()]),
    }
}

/// When a node counts again.
fn end(node: &AvoidedNode) -> Option<Timestamp> {
    node.at.get().checked_add(AVOIDED_FOR).ok()
}

/// The nodes that are avoided after checks have failed at `at`: the newest first, each once.
fn avoided(before: Vec<AvoidedNode>, failed: &[(String, Check)], at: Timestamp) -> Vec<AvoidedNode> {
    let new =
        failed.iter().map(|(name, check)| AvoidedNode { name: name.clone(), check: *check, at: at.into() });
    let mut all: Vec<AvoidedNode> = new.collect();
    let counts = |node: &AvoidedNode| {
        end(node).is_some_and(|end| at < end) && failed.iter().all(|(name, _)| *name != node.name)
    };
    all.extend(before.into_iter().filter(counts));
    all.truncate(AVOIDED_MAX);
    all
}

/// The nodes of `pods` whose preflight has failed, by their names.
fn failed(pods: &Pods<'_>) -> Vec<(String, Check)> {
    let checks = pods.iter().filter_map(|pod| match pod_outcome::of(pod) {
        Outcome::Failed(Ended { failure, .. }) if failure.reason == Reason::PreflightFailed => {
            Some((pod.spec.node_name.clone()?, failure.preflight?))
        }
        _ => None,
    });
    let mut all: Vec<_> = checks.collect();
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

impl<R: Run> Draft<'_, R> {
    pub(super) fn avoiding(&self) -> Avoiding<'_> {
        Avoiding { nodes: &self.status.avoided_nodes, now: self.now }
    }

    /// The nodes that no pod may use until `end` or longer, for the end of a message.
    pub(super) fn avoided_until(&self, end: Timestamp) -> String {
        let names: Vec<_> = self.avoiding().strictly().map(|node| node.name.as_str()).collect();
        format!("; avoided until {}: {}", condition::whole_second(end), names.join(", "))
    }

    /// Records the nodes where the preflight of `pods` has failed.
    pub(super) fn avoid_nodes(&mut self, pods: &Pods<'_>) {
        let before = std::mem::take(&mut self.status.avoided_nodes);
        self.status.avoided_nodes = avoided(before, &failed(pods), self.now);
    }

    /// Whether the attempt that ended so costs nothing of the budget. Every store that is away counts as a disruption; the
    /// faults of nodes do a few times, since the work itself may ask for what no node has.
    pub(super) fn weigh_preflight(&mut self, ended: &mut Ended) {
        let check = ended.failure.preflight.filter(|_| ended.failure.reason == Reason::PreflightFailed);
        match check {
            None => self.status.preflight_failures = 0,
            Some(Check::Store) => ended.disrupted = true,
            Some(Check::Gpu | Check::Disk) => {
                ended.disrupted = self.status.preflight_failures < FREE;
                self.status.preflight_failures = self.status.preflight_failures.saturating_add(1);
            }
        }
        ended.failure.retryable |= check.is_some();
    }

    /// Forgets the failed preflights: whatever they were about may have been mended.
    pub(super) fn forget_preflights(&mut self) {
        self.status.preflight_failures = 0;
        self.status.avoided_nodes.clear();
    }
}
