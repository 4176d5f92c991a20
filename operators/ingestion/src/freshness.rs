//! The age of the version in use. A source that nobody fills any more makes no other version, so only time can tell.

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Reason,
    contract::condition_type,
    dataset::{Dataset, NEWEST},
    status::IntentStatus,
};
use mlop_core::{
    Blocked, Plan,
    condition::{self, ConditionStatus, Conditions},
};

/// Adds to `plan` that the version in use has become older than `rules.freshness` allows, or when it will.
pub fn judge(dataset: &Dataset, plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
    let before = dataset.status.clone().unwrap_or_default();
    let status = plan.status.clone().unwrap_or_else(|| before.clone());
    let Some(end) = end(dataset, &status) else { return plan };
    if now < end {
        return plan.requeue_at(end);
    }
    let status = stale(dataset, status, &before, now);
    plan.with_status(status, Some(&before))
}

/// When the version in use becomes too old; none without the rule, while its pin is a user's wish, and while the status
/// has something else to say.
fn end(dataset: &Dataset, status: &IntentStatus) -> Option<Timestamp> {
    let freshness = dataset.spec.rules.freshness.as_ref().filter(|_| dataset.spec.pin.is_none())?;
    if !condition::is_true(&status.conditions, condition_type::UP_TO_DATE) {
        return None;
    }
    let newest = status.metrics.iter().find(|metric| metric.name == NEWEST)?;
    let newest = Timestamp::from_second(newest.number() as i64).ok()?;
    let age = SignedDuration::from_secs(i64::try_from(freshness.max_age.as_secs()).ok()?);
    newest.checked_add(age).ok()
}

fn stale(dataset: &Dataset, mut status: IntentStatus, before: &IntentStatus, now: Timestamp) -> IntentStatus {
    let age = dataset.spec.rules.freshness.as_ref().map(|freshness| freshness.max_age.to_string());
    let message = format!(
        "the newest row in use is older than rules.freshness.maxAge {}, and the source has no newer one: look at what \
         fills it",
        age.unwrap_or_default()
    );
    let blocked = Blocked::waiting(Reason::RuleViolated, message);
    status.cause = blocked.cause(&Dataset::kind(&()), &dataset.name_any());
    // The transition time is that of the reported condition and not of the plan's.
    status.conditions.retain(|c| c.type_ != condition_type::UP_TO_DATE);
    status.conditions.extend(condition::get(&before.conditions, condition_type::UP_TO_DATE).cloned());
    let generation = dataset.metadata.generation.unwrap_or_default();
    Conditions::new(&mut status.conditions, generation, now).set(
        condition_type::UP_TO_DATE,
        ConditionStatus::False,
        blocked.reason,
        &blocked.message,
    );
    status
}
