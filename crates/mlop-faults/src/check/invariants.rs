//! Invariants that hold after any plan. A violation begins with the name of its oracle.

use super::end_state::Objects;
use crate::cluster::{Cluster, ExternalSystems, Pointer, view_pointer};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, core::object::HasStatus};
use mlop_api::{
    contract::condition_type,
    dataset::ObjectStore,
    features::{FeatureStore, FeatureView},
    labels,
    registry::{Model, TrackingServer},
    status::ConnectionStatus,
    task::ViewKey,
};
use mlop_core::condition;
use mlop_sim::Write;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// All violations so far.
pub fn violations(cluster: &Cluster) -> Vec<String> {
    let mut failures = cluster.injector.ledger().failures();
    failures.extend(cluster.failures().into_iter().map(|failure| format!("process truth: {failure}")));
    let external = cluster.external();
    failures.extend(external.object_stores.misses.iter().map(|miss| format!("lost content: {miss}")));
    failures.extend(wrong_pointers(&cluster.sim, &external));
    failures
}

/// Pointers of the external systems that differ from the published activations, once everything has settled.
pub fn wrong_pointers(objects: &impl Objects, external: &ExternalSystems) -> Vec<String> {
    let (views, stores) = (objects.list::<FeatureView>(), objects.list::<FeatureStore>());
    let wrong = views.iter().flat_map(|view| wrong_rows(view, &stores, external).unwrap_or_default());
    wrong.chain(wrong_aliases(objects, external)).collect()
}

/// The pointers of `view` that differ from its published activation, and those in stores that it does not record.
fn wrong_rows(
    view: &FeatureView,
    stores: &[FeatureStore],
    external: &ExternalSystems,
) -> Option<Vec<String>> {
    let (status, meta) = (view.status.as_ref()?, &view.metadata);
    let key = ViewKey { namespace: meta.namespace.clone()?, name: meta.name.clone()? };
    let of_namespace = stores.iter().filter(|store| store.metadata.namespace == meta.namespace);
    let places = of_namespace.filter_map(|store| {
        let address = &store.spec.redis.existing.as_ref()?.address;
        Some((store.metadata.name.clone()?, view_pointer(address, &key)))
    });
    let places: BTreeMap<String, String> = places.collect();
    let present = places.get(view.spec.feature_store.as_ref()?)?;
    let (content, revision) =
        (status.artifact.as_ref()?.digest.to_string(), status.activation.as_ref()?.revision);
    let wanted = Pointer { revision, content };
    let found = external.pointers.get(present).cloned().unwrap_or_default();
    let wrong = (found != wanted).then(|| format!("outside: {present} is {found:?} instead of {wanted:?}"));
    let forgotten = places.iter().filter_map(|(store, pointer)| {
        let rows = external.pointers.get(pointer).filter(|rows| !rows.content.is_empty())?;
        let is_known = pointer == present || status.online_in.contains(store);
        (!is_known).then(|| format!("outside: {pointer} is {rows:?}, and the view does not record {store}"))
    });
    Some(wrong.into_iter().chain(forgotten).collect())
}

/// Aliases in MLflow that differ from the published activations of Models.
fn wrong_aliases(objects: &impl Objects, external: &ExternalSystems) -> Vec<String> {
    let (models, servers) = (objects.list::<Model>(), objects.list::<TrackingServer>());
    let is_of = |model: &Model, server: &ObjectMeta| {
        server.name.as_ref() == Some(&model.spec.tracking_server)
            && server.namespace == model.metadata.namespace
    };
    let wrong = models.iter().filter_map(|model| {
        let status = model.status.as_ref()?;
        let (registered, activation) = (status.registered.as_ref()?, status.activation.as_ref()?);
        let server = servers.iter().find(|server| is_of(model, &server.metadata))?;
        let address = server.status.as_ref()?.address.as_ref()?;
        let alias = registered.alias.clone()?;
        let wanted = Pointer { revision: activation.revision, content: registered.version.clone() };
        let found = external.mlflow.get(address).and_then(|server| server.get(&registered.name));
        let claim = found.and_then(|it| it.claims.get(&(alias.clone(), model.metadata.uid.clone()?)));
        let shown = found.and_then(|it| it.aliases.get(&alias));
        let is_right = claim == Some(&wanted) && shown == Some(&wanted.content);
        (!is_right)
            .then(|| format!("outside: alias {alias} is {claim:?} and {shown:?} instead of {wanted:?}"))
    });
    wrong.collect()
}

/// Number of writes so far.
pub fn writes(cluster: &Cluster) -> usize {
    cluster.sim.writes().len()
}

/// The first write of an operator after `before` writes. Probes are repeated for as long as a connection exists.
pub fn write_since(cluster: &Cluster, before: usize) -> Option<String> {
    let is_operators =
        |write: &&Write| write.field_manager != "somebody" && !write.resource.starts_with("leases");
    let is_expected = |write: &&Write| !is_check(&write.resource, &write.name);
    let writes = cluster.sim.writes();
    let write = writes.iter().skip(before).filter(is_expected).find(is_operators)?;
    Some(format!("{} of {} {} {}", write.verb, write.resource, write.name, write.subresource))
}

/// The first write that changed nothing. With faults there are some: a write whose answer was lost is repeated.
pub fn idle_write(cluster: &Cluster) -> Option<String> {
    let writes = cluster.sim.writes();
    let write = writes.iter().find(|write| write.code < 300 && !write.changed)?;
    let Write { verb, resource, name, subresource, .. } = write;
    Some(format!("quiet: {verb} of {resource} {name} {subresource} changed nothing"))
}

/// A pod of a run that has ended. The last attempt's pod stays for its logs for a while.
pub fn pod_of_ended_run(cluster: &Cluster) -> Option<String> {
    let pods = cluster.sim.list::<Pod>();
    let is_of_ended_run = |pod: &&Pod| {
        let is_of_run = pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(labels::RUN));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        is_of_run && matches!(phase, Some("Succeeded" | "Failed"))
    };
    pods.iter().find(is_of_ended_run).and_then(|pod| pod.metadata.name.clone())
}

/// Whether a connection is being probed, or its probe has failed.
pub fn is_probing(cluster: &Cluster) -> bool {
    fn is_reconciling<K>(cluster: &Cluster) -> bool
    where
        K: Resource<DynamicType = ()> + HasStatus<Status = ConnectionStatus> + DeserializeOwned,
    {
        let is_open = |connection: &K| {
            connection
                .status()
                .is_some_and(|status| condition::is_true(&status.conditions, condition_type::RECONCILING))
        };
        cluster.sim.list::<K>().iter().any(is_open)
    }
    let is_at_work = |pod: &Pod| {
        let is_probe = pod.metadata.name.as_ref().is_some_and(|name| name.contains("-probe-"));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        is_probe && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    cluster.sim.list::<Pod>().iter().any(is_at_work)
        || is_reconciling::<ObjectStore>(cluster)
        || is_reconciling::<FeatureStore>(cluster)
        || is_reconciling::<TrackingServer>(cluster)
}

/// The first object, by kind and name, whose number of creations differs from that of a run without faults.
pub fn unusual_creation(
    usual: &BTreeMap<(String, String), u32>,
    created: &BTreeMap<(String, String), u32>,
) -> Option<String> {
    let mut created = created.iter().filter(|(object, _)| !is_errand_pod(object));
    let (object, times) = created.find(|(object, times)| usual.get(*object) != Some(*times))?;
    let usual = usual.get(object).copied().unwrap_or_default();
    Some(format!("creations: {object:?} {times} times instead of {usual}"))
}

/// Whether the object is a pod that checks an activation, probes a connection or measures a rollout. Their number depends
/// on the time that a plan takes.
fn is_check(resource: &str, name: &str) -> bool {
    let roles = ["-check-", "-probe-", "-analysis-"];
    resource.starts_with("pods") && roles.iter().any(|role| name.contains(role))
}

/// Whether the object is a pod that only activates, which is created when an external system is away while the run's pod
/// starts, a pod that checks an activation, or one that removes a view, whose name has the revisions that were given out.
fn is_errand_pod((kind, name): &(String, String)) -> bool {
    let number = |rest: &str| rest.split('-').all(|number| number.parse::<u32>().is_ok());
    let is_numbered = || name.rsplit_once("-a").is_some_and(|(_, rest)| number(rest));
    is_check(kind, name) || (kind == "pods" && (is_numbered() || name.contains("-cleanup-")))
}
