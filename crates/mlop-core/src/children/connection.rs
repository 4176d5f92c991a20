//! Connections (ObjectStore, FeatureStore, TrackingServer): whether work that needs one may start, and the status of
//! one that runs its own servers.

use crate::{
    Blocked, Origin,
    children::{
        owned::{self, Child},
        rollout::Rollout,
    },
    condition::{self, ConditionStatus, Conditions},
    plan::Plan,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{
    Reason,
    contract::{Cause, condition_type},
    status::ConnectionStatus,
};
use std::{collections::BTreeMap, sync::Arc};

/// A server of the connection.
pub struct Server<'a> {
    pub name: &'a str,
    /// State of its rollout; none before it is created.
    pub rollout: Option<Rollout>,
}

/// Adds to `plan` the status of a connection that is served at `address` once all `servers` are ready.
pub fn report(
    plan: Plan<ConnectionStatus>,
    meta: &ObjectMeta,
    before: Option<&ConnectionStatus>,
    address: String,
    servers: &[Server<'_>],
    now: Timestamp,
) -> Plan<ConnectionStatus> {
    let generation = meta.generation.unwrap_or_default();
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = Some(generation);
    status.address = Some(address);
    let open = servers.iter().find(|server| server.rollout != Some(Rollout::Done));
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    match open.map(|server| (server.name, &server.rollout)) {
        None => {
            conditions.set(
                condition_type::READY,
                ConditionStatus::True,
                Reason::Ready,
                "all servers are ready",
            );
            conditions.settled();
        }
        Some((name, Some(Rollout::Failed(message)))) => {
            let message = format!("{name} does not become ready: {message}; see its pods");
            conditions.set(condition_type::READY, ConditionStatus::False, Reason::RolloutFailed, &message);
            conditions.stalled(Reason::RolloutFailed, &message);
        }
        Some((name, rollout)) => {
            let detail = match rollout {
                Some(Rollout::Progressing(detail)) => format!(": {detail}"),
                _ => String::new(),
            };
            let message = format!("{name} is starting{detail}");
            conditions.set(condition_type::READY, ConditionStatus::Unknown, Reason::Starting, &message);
            conditions.reconciling(Reason::Starting, &message);
        }
    }
    Plan { status: Some(status), ..plan }
}

/// The status of a connection whose servers and probes cannot be made as its spec wants them. The present servers stay,
/// and so does a `Ready` of this spec.
pub fn report_blocked(
    meta: &ObjectMeta,
    before: Option<&ConnectionStatus>,
    blocked: &Blocked,
    now: Timestamp,
) -> Plan<ConnectionStatus> {
    let Blocked { reason, message, stalled, .. } = blocked;
    let generation = meta.generation.unwrap_or_default();
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = Some(generation);
    let ready = condition::get(&status.conditions, condition_type::READY);
    let is_ready = ready.is_some_and(|c| c.status == "True" && c.observed_generation == Some(generation));
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    if !is_ready {
        conditions.set(condition_type::READY, ConditionStatus::Unknown, *reason, message);
    }
    if *stalled {
        conditions.stalled(*reason, message);
    } else {
        conditions.reconciling(*reason, message);
    }
    Plan::report(status)
}

/// Adds to `plan` the deletion of `children` that the spec no longer wants, once the wanted ones are ready.
pub fn prune(plan: Plan<ConnectionStatus>, children: &[Child]) -> Plan<ConnectionStatus> {
    let conditions = plan.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    if condition::is_true(conditions, condition_type::READY) { owned::prune(plan, children) } else { plan }
}

/// A connection of any kind.
pub trait Connection {
    /// Kind and name, such as `ObjectStore` and `files`.
    fn address(&self) -> (String, String);
    /// The status that was written last.
    fn reported(&self) -> Option<&ConnectionStatus>;
}

impl<K> Connection for K
where
    K: Resource<DynamicType = ()> + HasStatus<Status = ConnectionStatus>,
{
    fn address(&self) -> (String, String) {
        (K::kind(&()).into_owned(), self.name_any())
    }

    fn reported(&self) -> Option<&ConnectionStatus> {
        self.status()
    }
}

/// The connection `name` among `all`.
///
/// # Errors
/// When it does not exist.
pub fn named<'a, K>(all: &'a BTreeMap<String, Arc<K>>, name: &str) -> Result<&'a K, Blocked>
where
    K: Resource<DynamicType = ()>,
{
    all.get(name).map(AsRef::as_ref).ok_or_else(|| missing::<K>(name))
}

/// The connection `name` of kind `K` does not exist.
pub fn missing<K: Resource<DynamicType = ()>>(name: &str) -> Blocked {
    Blocked::waiting(Reason::ConnectionNotReady, format!("{} {name} does not exist", K::kind(&())))
}

/// Since when work that needs `connection` may start.
///
/// # Errors
/// When it is not ready, with its own reason and message.
pub fn ready(connection: &(impl Connection + ?Sized)) -> Result<Timestamp, Blocked> {
    let (kind, name) = connection.address();
    let conditions = connection.reported().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let waiting = |message| Blocked::waiting(Reason::ConnectionNotReady, message);
    match condition::get(conditions, condition_type::READY) {
        Some(ready) if ready.status == "True" => Ok(ready.last_transition_time.0),
        Some(Condition { reason, message, .. }) => {
            let cause = Cause {
                kind: kind.clone(),
                name: name.clone(),
                reason: reason.clone(),
                message: message.clone(),
            };
            Err(waiting(format!("{kind} {name} is not ready: {reason}: {message}")).behind(cause))
        }
        None => {
            Err(Blocked { origin: Origin::Ordinary, ..waiting(format!("{kind} {name} is not ready yet")) })
        }
    }
}

/// Whether work fails for `reason` because a connection is away, or refuses: its keys, its bucket, its Secret.
pub(crate) fn has_failed(reason: Reason) -> bool {
    use Reason::{
        BucketNotFound, OnlineStoreUnreachable, SecretMissing, StoreDenied, StoreUnreachable, TrackingDenied,
        TrackingUnreachable,
    };
    matches!(
        reason,
        StoreUnreachable
            | StoreDenied
            | BucketNotFound
            | TrackingUnreachable
            | TrackingDenied
            | OnlineStoreUnreachable
            | SecretMissing
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::get;

    fn server(name: &str, rollout: Option<Rollout>) -> Server<'_> {
        Server { name, rollout }
    }

    /// The conditions in words after `servers` were reported twice.
    fn reported(servers: &[Server<'_>]) -> String {
        let meta = ObjectMeta { generation: Some(2), ..Default::default() };
        let at = |second| Timestamp::from_second(second).unwrap();
        let report = |before: Option<&ConnectionStatus>, second| {
            let plan = report(Plan::idle(), &meta, before, "http://a".to_owned(), servers, at(second));
            plan.status.unwrap()
        };
        let status = report(None, 1);
        assert_eq!(report(Some(&status), 9), status, "the second reconcile changes nothing");
        assert_eq!((status.observed_generation, status.address.as_deref()), (Some(2), Some("http://a")));
        let kinds = [condition_type::READY, condition_type::RECONCILING, condition_type::STALLED];
        let words = kinds.iter().filter_map(|kind| get(&status.conditions, kind));
        words.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn connection_is_ready_when_all_servers_are() {
        let failed = || Some(Rollout::Failed("timed out".into()));
        let starting = || Some(Rollout::Progressing("0 of 1 pods".into()));
        let done = || Some(Rollout::Done);
        let rows = [
            ("no servers", vec![], "Ready=True/Ready"),
            ("all ready", vec![server("a", done()), server("b", done())], "Ready=True/Ready"),
            (
                "one not created",
                vec![server("a", done()), server("b", None)],
                "Ready=Unknown/Starting Reconciling=True/Starting",
            ),
            (
                "one starting",
                vec![server("a", starting()), server("b", done())],
                "Ready=Unknown/Starting Reconciling=True/Starting",
            ),
            (
                "one failed",
                vec![server("a", done()), server("b", failed())],
                "Ready=False/RolloutFailed Stalled=True/RolloutFailed",
            ),
        ];
        for (situation, servers, want) in rows {
            assert_eq!(reported(&servers), want, "{situation}");
        }
    }
}
