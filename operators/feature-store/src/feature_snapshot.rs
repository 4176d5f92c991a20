//! `FeatureSnapshot`: one pod runs the SQL over the inputs, writes a table and serves it online.

use crate::{
    feature_store::is_ready,
    feature_view::FeatureViewIntent,
    online_store::{self, online_in, redis_secret, with_password},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use mlop_api::{
    Digest, MEDIA_TABLE, Reason,
    features::{FeatureContent, FeatureSnapshot, FeatureStore, FeatureView},
    task::{Online, SnapshotWork, Subject, Task, Work},
};
use mlop_core::{
    Blocked, Cache, Key,
    children::{container, pod},
    intent::{Revision, activation_digest, wants_active},
    intent_key,
    run::{Observed, Run, RunResource},
};
use std::sync::Arc;

/// Share of the pod's memory that the query may use before it spills to disk.
const QUERY_PERCENT: u8 = 60;

pub struct FeatureSnapshotRun {
    pub views: Arc<Cache<FeatureView>>,
    pub feature_stores: Arc<Cache<FeatureStore>>,
}

/// The use of a snapshot.
#[derive(Clone, Default)]
pub struct Purpose {
    /// Whether its view is being deleted.
    pub lost: bool,
    pub consumer: Option<Consumer>,
}

/// The view that wants the snapshot served, and the store that serves it.
#[derive(Clone)]
pub struct Consumer {
    pub view: Arc<FeatureView>,
    pub feature_store: Arc<FeatureStore>,
}

impl Run for FeatureSnapshotRun {
    type Resource = FeatureSnapshot;
    type Related = Purpose;
    const MEDIA_TYPE: &'static str = MEDIA_TABLE;

    fn observe(&self, object: &FeatureSnapshot) -> Purpose {
        let namespace = object.namespace().unwrap_or_default();
        let view = intent_key::<FeatureView, _>(object).and_then(|key| self.views.get(&key));
        let lost = view.is_some_and(|view| view.metadata.deletion_timestamp.is_some());
        let consumer = wants_active::<FeatureViewIntent>(&self.views, object).and_then(|view| {
            let feature_store = self.feature_stores.get(&Key::new(namespace, recorded(&view)?))?;
            Some(Consumer { view, feature_store })
        });
        Purpose { lost, consumer }
    }

    fn attempt(observed: &Observed<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, Blocked> {
        if observed.related.lost {
            return Err(Blocked::waiting(Reason::WaitingForDeletion, "the FeatureView is being deleted"));
        }
        let spec = &observed.object.spec;
        let stores = observed.all_stores()?;
        let execution = observed.object.execution();
        let consumer = observed
            .related
            .consumer
            .as_ref()
            .filter(|to| is_ready(&to.feature_store) && is_for(&spec.content, &to.view));
        let online = consumer.map(|to| {
            online_store::online(
                &to.view,
                &to.feature_store,
                &observed.object,
                Revision::of(observed.object.as_ref()).map_or(0, Revision::get),
            )
        });
        let active = consumer.zip(online.as_ref()).and_then(|(to, online)| active(&to.view, online));
        let secret = consumer.and_then(|to| redis_secret(&to.feature_store));
        let mut container = container::worker(&observed.worker_image, &[], &stores, &execution.resources);
        with_password(&mut container, secret);
        let work = Work::Snapshot(SnapshotWork {
            inputs: observed.inputs()?,
            content: spec.content.clone(),
            output: pod::store(observed.store(&spec.store)?),
            memory_bytes: execution.resources.memory.percent(QUERY_PERCENT),
            as_of: online_store::data_time(&observed.object),
            online,
            active,
        });
        let builder = pod::Builder::once(meta)
            .task(&Task { subject, work })
            .password(secret)
            .scratch("tmp", None, false)
            .container(container)
            .execution(execution);
        Ok(stores.into_iter().fold(builder, |builder, store| builder.keys(store)).build())
    }
}

/// The FeatureStore of `view`, once its status says so: nothing is loaded anywhere before.
pub fn recorded(view: &FeatureView) -> Option<&String> {
    view.spec.feature_store.as_ref().filter(|name| online_in(view).contains(name))
}

/// Whether `view` still describes a snapshot of `content`. Otherwise the snapshot must not be served.
fn is_for(content: &FeatureContent, view: &FeatureView) -> bool {
    *content == FeatureContent::from(&view.spec)
}

/// The table that is already served with the parameters of `online`.
fn active(view: &FeatureView, online: &Online) -> Option<Digest> {
    let status = view.status.as_ref()?;
    let table = &status.artifact.as_ref()?.digest;
    let target = activation_digest(table, None, &online.activation.parameters);
    (status.activation.as_ref()?.digest == target).then(|| table.clone())
}
