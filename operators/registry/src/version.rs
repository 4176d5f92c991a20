//! `ModelVersion`: one pod records the version in the tracking server and moves the alias to it.

use crate::model::{self, ModelIntent};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use mlop_api::{
    MEDIA_TREE,
    contract::condition as kinds,
    registry::{Model, ModelVersion, TrackingServer},
    task::{RegisterWork, Subject, Task, Work},
};
use mlop_core::{
    Key, Store,
    children::pod,
    condition,
    intent::{revision, wants_active},
    run::{Run, RunResource, World},
};
use std::sync::Arc;

pub struct Registering {
    pub servers: Arc<Store<TrackingServer>>,
    pub models: Arc<Store<Model>>,
}

#[derive(Default)]
pub struct Connections {
    server: Option<Arc<TrackingServer>>,
    /// The Model, if it wants its alias moved.
    model: Option<Arc<Model>>,
}

impl Run for Registering {
    type Resource = ModelVersion;
    type Extra = Connections;
    const MEDIA_TYPE: &'static str = MEDIA_TREE;

    fn observe(&self, object: &ModelVersion) -> Self::Extra {
        let key = Key::new(object.namespace().unwrap_or_default(), &object.spec.identity.tracking_server);
        Connections {
            server: self.servers.get(&key),
            model: wants_active::<ModelIntent>(&self.models, object),
        }
    }

    fn attempt(world: &World<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, String> {
        let identity = &world.object.spec.identity;
        let name = &identity.tracking_server;
        let server =
            world.extra.server.as_deref().ok_or_else(|| format!("TrackingServer {name} does not exist"))?;
        let tracking = address(server).ok_or_else(|| format!("TrackingServer {name} is not ready"))?;
        let revision = revision(world.object.as_ref());
        let model = world.extra.model.as_ref().filter(|model| model::is_for(identity, model));
        let alias = model.map(|model| model::alias(model, server, &tracking, revision));
        let model = world.inputs()?.into_iter().next().ok_or("the version has no input")?;
        let store = world.store(&model.store.name)?;
        let work = Work::Register(RegisterWork {
            tracking,
            source_uri: model.store.uri(&format!("trees/{}", model.digest.hex())),
            registered_model: identity.registered_model.clone(),
            experiment: identity.registered_model.clone(),
            metrics: identity.metrics.clone(),
            input_digest: identity.lineage.input_digest.clone(),
            alias,
            model,
        });
        let execution = world.object.execution();
        Ok(pod::Builder::once(meta)
            .task(&Task { subject, work })
            .keys(store)
            .scratch("tmp", Some("64Mi"), false)
            .container(pod::worker(&world.worker_image, &[], &[store], &execution.resources))
            .execution(execution)
            .build())
    }
}

/// Where the server answers, if it is ready.
fn address(server: &TrackingServer) -> Option<String> {
    let status = server.status.as_ref()?;
    condition::is_true(&status.conditions, kinds::READY).then(|| status.address.clone()).flatten()
}
