//! `FeatureView`: what enters a snapshot's digest, and how a snapshot goes online.
//!
//! A view that is deleted is removed from the online store by a pod, under a finalizer.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, core::object::HasStatus};
use mlop_api::{
    Digest, MEDIA_TABLE, Reason,
    common::{Consistency, Flow, NamedInput, Resources},
    contract::condition_type,
    dataset::ObjectStore,
    features::{FeatureContent, FeatureSnapshot, FeatureSnapshotSpec, FeatureStore, FeatureView},
    labels,
    result::Activated,
    run::{Execution, Lineage},
    status::IntentStatus,
    task::{self, ActivateWork, Online, Redis, Subject, Task, ViewKey, Work},
};
use mlop_core::{
    Blocked, Cache, Key, Plan,
    children::{
        connection, container, pod,
        pod_outcome::{self, Outcome},
    },
    condition,
    inputs::ReadyInput,
    intent::{Activation, Identity, Intent, Observed, Revision},
    plan::{Apply, Create},
    resource::{ApiKind, PodView},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

const FINALIZER: &str = "mlop.dev/online-cleanup";
/// Attempts to clean up before it is given up.
const CLEANUPS: usize = 5;
/// Pause between them.
const CLEANUP_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// How long cleaning up is tried at most, counted from the deletion.
const CLEANUP_PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// How long pods that may serve the view are waited for: longer than one has to end, shorter than people wait.
const WORK_ENDS: SignedDuration = SignedDuration::from_secs(60);

pub struct Connections {
    feature_store: Option<Arc<FeatureStore>>,
    stores: BTreeMap<String, Arc<ObjectStore>>,
}

pub struct ViewIntent {
    pub feature_stores: Arc<Cache<FeatureStore>>,
    pub stores: Arc<Cache<ObjectStore>>,
}

impl Intent for ViewIntent {
    type Resource = FeatureView;
    type Run = FeatureSnapshot;
    type Related = Connections;
    const ACTIVATES: bool = true;

    fn observe(&self, object: &FeatureView) -> Connections {
        let namespace = object.namespace().unwrap_or_default();
        let stores = self.stores.select(&namespace, |_| true);
        Connections {
            feature_store: self.feature_stores.get(&Key::new(namespace, &object.spec.feature_store)),
            stores: stores.into_iter().map(|store| (store.name_any(), store)).collect(),
        }
    }

    fn flow(object: &FeatureView) -> &dyn Flow {
        &object.spec
    }

    fn inputs(object: &FeatureView) -> Vec<NamedInput> {
        object.spec.inputs.clone()
    }

    fn consistency(object: &FeatureView) -> Consistency {
        object.spec.consistency
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<FeatureContent>, Blocked> {
        let spec = &observed.object.spec;
        if let Some(input) = observed.inputs.iter().find(|input| {
            input
                .object
                .as_ref()
                .and_then(|o| o.status.artifact.as_ref())
                .is_some_and(|a| a.media_type != MEDIA_TABLE)
        }) {
            let message = format!(
                "spec.inputs: {} ({} {}) is not a table",
                input.name, input.from.kind, input.from.name
            );
            return Err(Blocked { reason: Reason::InvalidSpec, message, stalled: true });
        }
        Ok(Identity {
            content: FeatureContent::from(spec),
            store: Some(feature_store(observed)?.spec.store.clone()),
            digests: Vec::new(),
            since: None,
        })
    }

    fn execution(object: &FeatureView) -> Execution {
        let spec = &object.spec;
        Execution {
            resources: spec.resources.clone(),
            retry: spec.retry.clone(),
            deadline: Some(spec.deadline),
            ..Execution::default()
        }
    }

    fn run(
        _: &Observed<Self>,
        meta: ObjectMeta,
        identity: &Identity<FeatureContent>,
        lineage: Lineage,
        execution: Execution,
        _: &[ReadyInput],
    ) -> FeatureSnapshot {
        let spec = FeatureSnapshotSpec {
            content: identity.content.clone(),
            lineage,
            store: identity.store.clone().unwrap_or_default(),
            execution,
        };
        FeatureSnapshot { metadata: meta, spec, status: None }
    }

    fn activation(observed: &Observed<Self>, run: &FeatureSnapshot) -> Activation {
        let Ok(feature_store) = feature_store(observed) else {
            return Activation::Waiting(format!(
                "FeatureStore {} does not exist",
                observed.object.spec.feature_store
            ));
        };
        let output = run.status().and_then(|status| status.output.clone());
        let store = output.as_ref().and_then(|output| observed.related.stores.get(&output.store));
        let (Some(output), Some(store)) = (output, store) else {
            return Activation::Waiting(format!("the ObjectStore of {} does not exist", run.name_any()));
        };
        let label = format!("FeatureStore {}", feature_store.name_any());
        let waits_for = connection::waits_for(&label, feature_store.status.as_ref());
        let resources = observed.object.spec.resources.clone();
        let table = task::Input {
            name: "table".to_owned(),
            digest: output.digest,
            media_type: output.media_type,
            store: pod::store(store),
        };
        let (image, store) = (observed.worker_image.clone(), Arc::clone(store));
        let secret = redis_secret(feature_store).map(str::to_owned);
        let online = online(&observed.object, feature_store, &run.spec.content, 0);
        let parameters = online.activation.parameters.clone();
        let build = move |meta, subject, revision: Revision| {
            let (table, mut online) = (table.clone(), online.clone());
            online.activation.revision = revision.get();
            let work = Work::Activate(ActivateWork { table, online });
            let mut container = container::worker(&image, &[], &[&store], &resources);
            with_password(&mut container, secret.as_deref());
            pod::Builder::once(meta)
                .task(&Task { subject, work })
                .keys(&store)
                .password(secret.as_deref())
                .scratch("tmp", Some("8Gi"), false)
                .container(container)
                .build()
        };
        Activation::Pod { parameters, build: Box::new(build), waits_for }
    }

    fn amend(observed: &Observed<Self>, mut plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        let held = observed.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        match (observed.is_being_deleted(), held) {
            (true, true) => clean_up(observed, now),
            (true, false) | (false, true) => plan,
            (false, false) => {
                let finalizer =
                    finalizers(observed, &[FINALIZER], "the online rows are deleted with the view");
                plan.applies.insert(0, finalizer);
                plan
            }
        }
    }
}

fn feature_store(observed: &Observed<ViewIntent>) -> Result<&FeatureStore, Blocked> {
    let name = &observed.object.spec.feature_store;
    observed.related.feature_store.as_deref().ok_or_else(|| Blocked {
        reason: Reason::ConnectionNotReady,
        message: format!("FeatureStore {name} does not exist"),
        stalled: false,
    })
}

/// Whether `view` is served by `feature_store`.
pub fn uses(view: &FeatureView, feature_store: &FeatureStore) -> bool {
    view.spec.feature_store == feature_store.name_any()
}

/// Whether `feature_store` says that it is.
pub fn is_ready(feature_store: &FeatureStore) -> bool {
    let status = feature_store.status.as_ref();
    status.is_some_and(|status| condition::is_true(&status.conditions, condition_type::READY))
}

/// The online form of a snapshot of `view` under `revision`. A feature store that was created again is empty.
pub fn online(
    view: &FeatureView,
    feature_store: &FeatureStore,
    content: &FeatureContent,
    revision: i64,
) -> Online {
    let (FeatureContent { sql: _, entities, timestamp }, ttl) = (content, view.spec.ttl);
    let redis = redis(feature_store);
    let parameters = json!({
        "entities": entities,
        "timestamp": timestamp,
        "ttl": ttl,
        "redis": redis.address,
        "featureStore": feature_store.uid(),
    });
    Online {
        view: view_key(view),
        entities: entities.clone(),
        timestamp: timestamp.clone(),
        ttl_seconds: ttl.map(|span| span.as_secs()),
        redis,
        activation: Activated { revision, parameters: Digest::of_bytes(parameters.to_string().as_bytes()) },
    }
}

fn view_key(view: &FeatureView) -> ViewKey {
    ViewKey { namespace: view.namespace().unwrap_or_default(), name: view.name_any() }
}

/// The online store of `feature_store` as a pod reaches it.
pub fn redis(feature_store: &FeatureStore) -> Redis {
    let connection = &feature_store.spec.redis;
    let address = match &connection.existing {
        Some(existing) => existing.address.clone(),
        None => format!(
            "{}.{}.svc:6379",
            crate::store::redis_name(&feature_store.name_any()),
            feature_store.namespace().unwrap_or_default()
        ),
    };
    Redis { address, password: redis_secret(feature_store).is_some() }
}

/// Name of the Secret with the online store's password.
pub fn redis_secret(feature_store: &FeatureStore) -> Option<&str> {
    let connection = &feature_store.spec.redis;
    let managed = connection.managed.as_ref().map(|managed| managed.secret_name.as_str());
    managed.or_else(|| connection.existing.as_ref().and_then(|existing| existing.secret_name.as_deref()))
}

/// Mounts the online store's password into a container of mlop.
pub fn with_password(container: &mut k8s_openapi::api::core::v1::Container, secret: Option<&str>) {
    if secret.is_some() {
        container.volume_mounts.get_or_insert_default().push(container::mount("redis", labels::REDIS_DIR));
    }
}

fn finalizers(observed: &Observed<ViewIntent>, list: &[&str], why: &str) -> Apply {
    let kind = ApiKind::of::<FeatureView>();
    let meta = &observed.object.metadata;
    let mut metadata = json!({"name": meta.name, "namespace": meta.namespace, "uid": meta.uid});
    if let (false, Some(fields)) = (list.is_empty(), metadata.as_object_mut()) {
        fields.insert("finalizers".to_owned(), json!(list));
    }
    let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata});
    Apply { kind, object, why: why.to_owned() }
}

/// Ends what may still serve the view, removes it from the online store, then lets it go. Given up after some
/// attempts or minutes, and when there is no online store any more, so that deleting never hangs.
fn clean_up(observed: &Observed<ViewIntent>, now: Timestamp) -> Plan<IntentStatus> {
    let release = |why: &str| Plan { applies: vec![finalizers(observed, &[], why)], ..Plan::idle() };
    let role = |pod: &PodView| pod.labels().get(labels::ROLE).cloned().unwrap_or_default();
    let serving = || observed.pods.iter().filter(|pod| matches!(role(pod).as_str(), "run" | "activation"));
    let was_online = observed.object.status.as_ref().is_some_and(|status| status.activation.is_some())
        || !observed.runs.is_empty()
        || serving().next().is_some();
    let Some(feature_store) =
        observed.related.feature_store.as_deref().filter(|store| store.metadata.deletion_timestamp.is_none())
    else {
        return release("the FeatureStore is gone");
    };
    if !was_online {
        return release("nothing of it was online");
    }
    let since = observed.object.metadata.deletion_timestamp.as_ref().map_or(now, |at| at.0);
    let patience = since.checked_add(WORK_ENDS).unwrap_or(now);
    let ended = |pod: &PodView| matches!(pod_outcome::of(pod), Outcome::Succeeded(_) | Outcome::Failed(_));
    if now < patience && serving().any(|pod| !ended(pod)) {
        // The runs make no others: they see that the view is being deleted. They stay to tell that it was online.
        let plan = Plan::idle().requeue_at(patience);
        let pods = serving().filter(|pod| !ended(pod) && pod.metadata.deletion_timestamp.is_none());
        return pods.fold(plan, |plan, pod| plan.delete(pod.as_ref(), "the view is being deleted"));
    }
    let attempts: Vec<_> = observed.pods.iter().filter(|pod| role(pod) == "cleanup").collect();
    if attempts.iter().any(|pod| matches!(pod_outcome::of(pod), Outcome::Succeeded(_))) {
        return release("it is cleaned up");
    }
    let works = attempts.iter().any(|pod| !matches!(pod_outcome::of(pod), Outcome::Failed(_)));
    let over = since.checked_add(CLEANUP_PATIENCE).unwrap_or(now);
    if now >= over || attempts.len() >= CLEANUPS && !works {
        let message = format!(
            "the online store could not be cleaned up; what is left of view {} there is never read again",
            observed.key().name
        );
        return release("cleaning up was given up").event(true, Reason::CleanupAbandoned, message);
    }
    if works {
        return Plan::idle().requeue_at(over);
    }
    let last = attempts.iter().filter_map(|pod| pod_outcome::ended_at(pod)).max();
    let due = last.and_then(|at| at.checked_add(CLEANUP_RETRY).ok()).unwrap_or(now);
    if due > now {
        return Plan::idle().requeue_at(due);
    }
    // A node that goes takes its pods with it: there may be fewer than were made.
    let number = |pod: &&Arc<PodView>| pod.name_any().rsplit('-').next()?.parse::<usize>().ok();
    let highest = attempts.iter().filter_map(number).max().unwrap_or_default();
    let pod = cleanup_pod(observed, feature_store, highest + 1);
    Plan { creates: vec![Create::of(&pod, "the view is being deleted")], ..Plan::idle() }
}

fn cleanup_pod(
    observed: &Observed<ViewIntent>,
    feature_store: &FeatureStore,
    attempt: usize,
) -> k8s_openapi::api::core::v1::Pod {
    let key = observed.key();
    let meta = observed.child(format!("{}-cleanup-{attempt}", key.name), "cleanup");
    let subject = Subject {
        kind: "FeatureView".to_owned(),
        namespace: key.namespace.clone(),
        name: key.name,
        uid: observed.object.uid().unwrap_or_default(),
        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
    };
    let secret = redis_secret(feature_store);
    let work = Work::Deactivate { view: view_key(&observed.object), redis: redis(feature_store) };
    let resources = Resources { cpu: "50m".to_owned(), memory: "128Mi".to_owned(), gpu: 0 };
    let mut container = container::worker(&observed.worker_image, &[], &[], &resources);
    with_password(&mut container, secret);
    pod::Builder::once(meta)
        .task(&Task { subject, work })
        .password(secret)
        .scratch("tmp", Some("64Mi"), false)
        .container(container)
        .build()
}
