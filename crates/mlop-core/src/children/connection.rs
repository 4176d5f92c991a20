//! Connections (ObjectStore, FeatureStore, TrackingServer): whether work that needs one may start, and the status of
//! one that runs its own servers.

use crate::{
    Blocked, Origin,
    children::{
        owned::{self, Child},
        rollout::{self, Rollout},
        template,
    },
    condition::{self, ConditionStatus, Conditions},
    plan::Plan,
    resource::{ChildObject, PodView},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{
    Reason,
    contract::{Cause, condition_type},
    dataset::ObjectStore,
    status::ConnectionStatus,
};
use std::{collections::BTreeMap, sync::Arc};

/// A server of the connection.
pub struct Server<'a> {
    pub name: &'a str,
    /// Its Deployment or StatefulSet; none before it is created.
    pub child: Option<&'a ChildObject>,
    /// The pod template that the present spec asks for. The live one may be that of an earlier spec.
    pub template: Option<PodTemplateSpec>,
    /// Pods of the connection. Those that are not of this server are ignored.
    pub pods: &'a [Arc<PodView>],
}

/// The reason that a server is not ready.
struct Problem {
    is: ConditionStatus,
    reason: Reason,
    message: String,
    /// Only a change by a user helps.
    stalled: bool,
}

impl Server<'_> {
    /// Whether it serves as the present spec asks for. `was_ready`: the connection did. A change that the server's
    /// controller has not seen yet, such as of its size, takes nothing away.
    pub fn is_ready(&self, was_ready: bool) -> bool {
        match self.applied().map(rollout::rollout) {
            Some(Rollout::Done) => true,
            Some(Rollout::Unobserved) => was_ready,
            _ => false,
        }
    }

    /// Its Deployment or StatefulSet, once that has the template of the present spec.
    fn applied(&self) -> Option<&ChildObject> {
        let wanted = self.template.as_ref().and_then(template::mark_of_spec);
        self.child.filter(|child| template::mark(child) == wanted)
    }

    /// The reason that a pod of it does not serve, if anything unusual prevents it.
    fn trouble(&self) -> Option<(Reason, String)> {
        rollout::trouble(self.applied()?, self.pods)
    }

    fn problem(&self) -> Problem {
        let name = self.name;
        let progress = match self.applied().map(rollout::rollout) {
            Some(Rollout::Failed(message)) => {
                let words = self.trouble().map_or_else(
                    || "see its pods".to_owned(),
                    |(reason, message)| format!("{reason}: {message}"),
                );
                let message = format!("{name} does not become ready: {message}; {words}");
                let (is, reason) = (ConditionStatus::False, Reason::RolloutFailed);
                return Problem { is, reason, message, stalled: true };
            }
            Some(Rollout::Progressing(detail) | Rollout::Down(detail)) => format!(": {detail}"),
            _ => String::new(),
        };
        let serves = self.child.is_some_and(|child| rollout::ready_replicas(child) > 0);
        let (is, reason, message) = match self.trouble() {
            Some((reason, words)) => {
                let is = if serves { ConditionStatus::Unknown } else { ConditionStatus::False };
                (is, reason, format!("{name}: {words}"))
            }
            None => (ConditionStatus::Unknown, Reason::Starting, format!("{name} is starting{progress}")),
        };
        Problem { is, reason, message, stalled: false }
    }
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
    // A server with trouble says more than one that waits for it.
    let was_ready = was_ready(meta, before);
    let open: Vec<_> = servers.iter().filter(|server| !server.is_ready(was_ready)).collect();
    let named = open.iter().find(|server| server.trouble().is_some()).or(open.first());
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    match named.map(|server| server.problem()) {
        None => {
            let message = "all servers are ready";
            conditions.set(condition_type::READY, ConditionStatus::True, Reason::Ready, message);
            conditions.settled();
        }
        Some(Problem { is, reason, message, stalled }) => {
            conditions.set(condition_type::READY, is, reason, &message);
            if stalled {
                conditions.stalled(reason, &message);
            } else {
                conditions.reconciling(reason, &message);
            }
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
    let was_ready = was_ready(meta, before);
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    if !was_ready {
        conditions.set(condition_type::READY, ConditionStatus::Unknown, *reason, message);
    }
    if *stalled {
        conditions.stalled(*reason, message);
    } else {
        conditions.reconciling(*reason, message);
    }
    Plan::report(status)
}

/// Whether the connection was ready with its present spec.
pub fn was_ready(meta: &ObjectMeta, before: Option<&ConnectionStatus>) -> bool {
    let conditions = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = condition::get(conditions, condition_type::READY);
    ready.is_some_and(|c| {
        c.status == "True" && c.observed_generation == Some(meta.generation.unwrap_or_default())
    })
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

/// Since when work may write its output to `store`.
///
/// # Errors
/// When it is read-only, or not ready.
pub fn writable(store: &ObjectStore) -> Result<Timestamp, Blocked> {
    if store.spec.read_only {
        let name = store.name_any();
        let message =
            format!("ObjectStore {name} has spec.readOnly: name another one in spec.store for the output");
        return Err(Blocked::stalled(Reason::InvalidSpec, message));
    }
    ready(store)
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
    use mlop_api::labels;
    use serde_json::{Value, json};

    /// A Deployment of two pods with the template `mark`, of which `ready` are ready.
    fn child(mark: &str, ready: i64, conditions: &Value) -> ChildObject {
        let template = json!({"metadata": {"annotations": {labels::TEMPLATE: mark}}});
        let status = json!({"updatedReplicas": ready, "readyReplicas": ready, "replicas": 2, "conditions": conditions});
        serde_json::from_value(json!({"spec": {"replicas": 2, "template": template}, "status": status}))
            .unwrap()
    }

    /// A template with the mark of `child`.
    fn template_of(child: &ChildObject) -> PodTemplateSpec {
        let annotations = json!({labels::TEMPLATE: template::mark(child)});
        serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
    }

    /// A pod with the template `mark` whose image cannot be pulled.
    fn pod(mark: &str) -> Arc<PodView> {
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
        let container = json!({"name": "redis", "image": "redsi:8", "state": waiting});
        let metadata = json!({"name": "p", "annotations": {labels::TEMPLATE: mark}});
        let pod =
            json!({"metadata": metadata, "status": {"phase": "Pending", "containerStatuses": [container]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// The conditions in words, and the message, after the servers a, b, ... were reported twice.
    fn reported(children: &[Option<ChildObject>], pods: &[Arc<PodView>]) -> (String, String) {
        let names = ["a", "b"].into_iter().zip(children);
        let servers = names.map(|(name, child)| Server {
            name,
            child: child.as_ref(),
            template: child.as_ref().map(template_of),
            pods,
        });
        let servers: Vec<_> = servers.collect();
        let meta = ObjectMeta { generation: Some(2), ..Default::default() };
        let at = |second| Timestamp::from_second(second).unwrap();
        let report = |before: Option<&ConnectionStatus>, second| {
            let plan = report(Plan::idle(), &meta, before, "http://a".to_owned(), &servers, at(second));
            plan.status.unwrap()
        };
        let status = report(None, 1);
        assert_eq!(report(Some(&status), 9), status, "the second reconcile changes nothing");
        assert_eq!((status.observed_generation, status.address.as_deref()), (Some(2), Some("http://a")));
        let kinds = [condition_type::READY, condition_type::RECONCILING, condition_type::STALLED];
        let words = kinds.iter().filter_map(|kind| get(&status.conditions, kind));
        let words = words.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect::<Vec<_>>();
        (words.join(" "), get(&status.conditions, condition_type::READY).unwrap().message.clone())
    }

    #[test]
    fn change_of_the_size_takes_no_readiness_away() {
        let mut resized = child("1", 2, &json!([]));
        resized.metadata.generation = Some(2);
        let server =
            Server { name: "a", child: Some(&resized), template: Some(template_of(&resized)), pods: &[] };
        let meta = |generation| ObjectMeta { generation: Some(generation), ..Default::default() };
        let ready = report(Plan::idle(), &meta(1), None, String::new(), &[], Timestamp::UNIX_EPOCH).status;
        assert!(server.is_ready(was_ready(&meta(1), ready.as_ref())));
        assert!(!server.is_ready(was_ready(&meta(2), ready.as_ref())), "the spec was edited");
        assert!(!server.is_ready(was_ready(&meta(1), None)), "it is new");
    }

    #[test]
    fn server_of_an_earlier_spec_is_not_ready() {
        let live = child("1", 2, &json!([]));
        let wanted = template_of(&child("2", 0, &json!([])));
        let server = Server { name: "a", child: Some(&live), template: Some(wanted), pods: &[pod("1")] };
        assert!(!server.is_ready(false));
        let meta = ObjectMeta { generation: Some(2), ..Default::default() };
        let plan = report(Plan::idle(), &meta, None, String::new(), &[server], Timestamp::UNIX_EPOCH);
        let ready = plan.status.unwrap().conditions.into_iter().find(|c| c.type_ == condition_type::READY);
        let ready = ready.unwrap();
        assert_eq!((ready.status.as_str(), ready.message.as_str()), ("Unknown", "a is starting"));
    }

    #[test]
    fn connection_is_ready_when_all_servers_are() {
        let late =
            json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out."}]);
        let refused = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}]);
        let server = |ready| Some(child("1", ready, &json!([])));
        let starting = "Ready=Unknown/Starting Reconciling=True/Starting";
        let pull = "image redsi:8 of container redis: not found";
        let rows = [
            ("no servers", vec![], vec![], "Ready=True/Ready", "all servers are ready"),
            (
                "all ready",
                vec![server(2), server(2)],
                vec![pod("1")],
                "Ready=True/Ready",
                "all servers are ready",
            ),
            ("one not created", vec![server(2), None], vec![], starting, "b is starting"),
            ("one starting", vec![server(0), server(2)], vec![], starting, "a is starting: 0 of 2 pods"),
            (
                "its pod has trouble",
                vec![server(0)],
                vec![pod("1")],
                "Ready=False/ImagePull Reconciling=True/ImagePull",
                pull,
            ),
            (
                "another pod of it serves",
                vec![server(1)],
                vec![pod("1")],
                "Ready=Unknown/ImagePull Reconciling=True/ImagePull",
                pull,
            ),
            (
                "a pod of an earlier template has trouble",
                vec![server(0)],
                vec![pod("0")],
                starting,
                "0 of 2 pods",
            ),
            (
                "the second has trouble, the first waits for it",
                vec![server(0), Some(child("2", 0, &json!([])))],
                vec![pod("2")],
                "Ready=False/ImagePull Reconciling=True/ImagePull",
                "b: image",
            ),
            (
                "a quota refuses its pods",
                vec![Some(child("1", 0, &refused))],
                vec![],
                "Ready=False/QuotaExceeded Reconciling=True/QuotaExceeded",
                "a: exceeded quota: q",
            ),
            (
                "one failed",
                vec![server(2), Some(child("2", 0, &late))],
                vec![pod("1")],
                "Ready=False/RolloutFailed Stalled=True/RolloutFailed",
                "b does not become ready: timed out; see its pods",
            ),
            (
                "its pod had trouble until the deadline",
                vec![Some(child("1", 0, &late))],
                vec![pod("1")],
                "Ready=False/RolloutFailed Stalled=True/RolloutFailed",
                "timed out; ImagePull: image redsi:8",
            ),
        ];
        for (situation, children, pods, want, words) in rows {
            let (conditions, message) = reported(&children, &pods);
            assert_eq!(conditions, want, "{situation}");
            assert!(message.contains(words), "{situation}: {message}");
        }
    }
}
