//! Tables of situations: one row is a situation, built fluently, and the summary of its plan.

use super::created;
use crate::{
    plan::{Action, Plan},
    runtime::controller::recovered,
};
use jiff::Timestamp;
use kube::{Resource, core::object::HasStatus};
use mlop_api::status::Conditioned;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The state that a decision depends on.
pub trait Situation: Sized {
    type Status: Debug;

    /// The decision, without a status that is the present one.
    fn plan(&self) -> Plan<Self::Status>;

    /// The situation after the API server has carried out `plan`.
    #[must_use]
    fn carried_out(&self, plan: &Plan<Self::Status>) -> Self;

    /// The plan in one line: the conditions, the writes, and the delay of the next reconcile in seconds.
    /// `quiet` means that the status is left as it is.
    fn summary(&self, plan: &Plan<Self::Status>) -> String;

    /// Carries out plans until one is quiet.
    ///
    /// # Panics
    /// When the tenth is not.
    #[must_use]
    fn reconciled(self) -> Self {
        let mut case = self;
        for _ in 0..10 {
            let plan = case.plan();
            if plan.is_quiet() {
                return case;
            }
            case = case.carried_out(&plan);
        }
        panic!("reconciling does not end: {:#?}", case.plan());
    }
}

/// Checks that every row has its summary, and that its second reconcile is quiet. A row whose plan needs another step
/// says so with `then`, and reconciling it must end.
///
/// # Panics
/// With the rows that differ.
#[track_caller]
pub fn check<S: Situation>(rows: Vec<(&'static str, S, &'static str)>) {
    let mut wrong = String::new();
    for (situation, case, want) in rows {
        let plan = case.plan();
        let next = case.carried_out(&plan);
        let second = next.plan();
        let mut got = case.summary(&plan);
        if !second.is_quiet() {
            got.push_str(&format!(" then {}", next.summary(&second)));
            let _ends = next.carried_out(&second).reconciled();
        }
        if got != want {
            wrong.push_str(&format!("{situation}\n  want {want}\n  got  {got}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The plan with the status that the controller writes for it; none if that is the present one.
pub fn as_written<K>(object: &K, mut plan: Plan<K::Status>, now: Timestamp) -> Plan<K::Status>
where
    K: Resource + HasStatus<Status: Conditioned + Clone + PartialEq>,
{
    let status = plan.status.take().or_else(|| recovered(object, now));
    plan.status = status.filter(|status| Some(status) != object.status());
    plan
}

/// The delay of the next reconcile after the second `now`.
pub(super) fn requeue<S>(plan: &Plan<S>, now: i64) -> Option<String> {
    match plan.action {
        Action::RequeueAt(due) => Some(format!("requeue {}", due.as_second() - now)),
        Action::AwaitChange => None,
    }
}

/// The created objects of `kind`, or with `None` those of all kinds but Pods and Jobs.
pub(super) fn created_of<S, K: DeserializeOwned>(
    plan: &Plan<S>,
    kind: Option<&str>,
    at: Timestamp,
) -> Vec<K> {
    let is_wanted = |created: &str| kind.map_or(!matches!(created, "Pod" | "Job"), |kind| created == kind);
    let creates = plan.creates.iter().filter(|create| is_wanted(&create.kind.kind));
    creates.map(|create| created(create.object.clone(), at)).collect()
}
