//! `FeatureView`: the digest and the run of a snapshot, and its activation in the online store.

use crate::{
    feature_view_cleanup::{Cleanup, FINALIZER, finalizers},
    online_store::{online, online_in, redis_secret, with_password},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, core::object::HasStatus};
use mlop_api::{
    MEDIA_TABLE, Reason,
    common::{Consistency, Flow, NamedInput},
    dataset::ObjectStore,
    features::{FeatureContent, FeatureSnapshot, FeatureSnapshotSpec, FeatureStore, FeatureView},
    run::{Execution, Lineage},
    status::IntentStatus,
    task::{self, ActivateWork, Task, Work},
};
use mlop_core::{
    Blocked, Cache, Plan,
    children::{connection, container, pod},
    inputs::ReadyInput,
    intent::{Activation, Identity, Intent, Observed, Revision},
};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Clone)]
pub struct Connections {
    /// The FeatureStores that the view names or may be online in, by name.
    pub feature_stores: BTreeMap<String, Arc<FeatureStore>>,
    /// The ObjectStores of the snapshots by name.
    pub stores: BTreeMap<String, Arc<ObjectStore>>,
}

pub struct FeatureViewIntent {
    pub feature_stores: Arc<Cache<FeatureStore>>,
    pub stores: Arc<Cache<ObjectStore>>,
}

impl Intent for FeatureViewIntent {
    type Resource = FeatureView;
    type Run = FeatureSnapshot;
    type Related = Connections;
    const ACTIVATES: bool = true;

    fn observe(&self, object: &FeatureView, runs: &[Arc<FeatureSnapshot>]) -> Connections {
        let namespace = object.namespace().unwrap_or_default();
        let stores = runs.iter().map(|run| run.spec.store.as_str());
        let feature_stores = feature_stores_of(object);
        Connections {
            stores: self.stores.named(&namespace, stores),
            feature_stores: self.feature_stores.named(&namespace, feature_stores.iter().map(String::as_str)),
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
            return Err(Blocked::stalled(Reason::InvalidSpec, message));
        }
        Ok(Identity {
            content: FeatureContent::from(spec),
            store: Some(match &spec.store {
                Some(store) => store.clone(),
                None => feature_store(observed)?.spec.store.clone(),
            }),
            digests: Vec::new(),
            since: None,
        })
    }

    fn execution(object: &FeatureView) -> Execution {
        Execution::of(&object.spec.resources, &object.spec.retry, Some(object.spec.deadline))
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
        if observed.object.spec.feature_store.is_none() {
            return Activation::None;
        }
        let feature_store = match feature_store(observed) {
            Ok(feature_store) => feature_store,
            Err(blocked) => return Activation::Blocked(blocked),
        };
        let output = run.status().and_then(|status| status.output.clone());
        let store = output.as_ref().and_then(|output| observed.related.stores.get(&output.store));
        let (Some(output), Some(store)) = (output, store) else {
            return Activation::waiting(format!("the ObjectStore of {} does not exist", run.name_any()));
        };
        let waits_for = connection::ready(feature_store).and_then(|_| connection::ready(&**store)).err();
        let resources = observed.object.spec.resources.clone();
        let table = task::Input {
            name: "table".to_owned(),
            digest: output.digest,
            media_type: output.media_type,
            store: pod::store(store),
        };
        let (image, store) = (observed.worker_image.clone(), Arc::clone(store));
        let secret = redis_secret(feature_store).map(str::to_owned);
        let online = online(&observed.object, feature_store, run, 0);
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
                .scratch("tmp", None, false)
                .container(container)
                .build()
        };
        Activation::Pod { parameters, build: Box::new(build), waits_for }
    }

    fn amend(observed: &Observed<Self>, mut plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        let held = observed.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        match (observed.is_being_deleted(), held) {
            (true, true) => cleanup(observed).clean_up(now),
            (true, false) => plan,
            (false, true) => cleanup(observed).follow_spec(plan, now),
            (false, false) => {
                let finalizer =
                    finalizers(&observed.object, &[FINALIZER], "the online rows are deleted with the view");
                plan.applies.insert(0, finalizer);
                cleanup(observed).follow_spec(plan, now)
            }
        }
    }
}

fn cleanup(observed: &Observed<FeatureViewIntent>) -> Cleanup<'_> {
    Cleanup {
        view: &observed.object,
        feature_stores: &observed.related.feature_stores,
        next_revision: observed.next_revision(),
        pods: &observed.pods,
        profile: &observed.profile,
        operator: &observed.operator,
        worker_image: &observed.worker_image,
    }
}

fn feature_store(observed: &Observed<FeatureViewIntent>) -> Result<&FeatureStore, Blocked> {
    let name = observed.object.spec.feature_store.as_deref().unwrap_or_default();
    observed
        .related
        .feature_stores
        .get(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| connection::missing::<FeatureStore>(name))
}

/// The FeatureStores that `view` names or may be online in.
pub fn feature_stores_of(view: &FeatureView) -> Vec<String> {
    view.spec.feature_store.iter().chain(online_in(view)).cloned().collect()
}
