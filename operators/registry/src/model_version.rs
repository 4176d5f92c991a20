//! `ModelVersion`: one pod records the version in the tracking server and moves the alias to it.

use crate::{
    alias,
    model_intent::{self, ModelIntent},
    registration::{Registration, gated_metrics},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use mlop_api::{
    MEDIA_TREE, Reason, labels,
    registry::{Model, ModelVersion, TrackingServer},
    task::{RegisterWork, Subject, Task, Work},
};
use mlop_core::{
    Blocked, Cache, Index, Key,
    children::{
        connection::{self, Connection},
        container, pod,
    },
    intent::{Revision, wants_active},
    run::{Observed, Run, RunResource},
};
use std::sync::Arc;

pub struct ModelVersionRun {
    pub servers: Arc<Cache<TrackingServer>>,
    pub models: Arc<Cache<Model>>,
    /// Models by the alias that they ask for.
    pub by_place: Arc<Index<Model>>,
}

#[derive(Clone, Default)]
pub struct Connections {
    pub server: Option<Arc<TrackingServer>>,
    /// The Model, if the alias is to move to this version.
    pub model: Option<Arc<Model>>,
    /// Metrics that the Model's gates ask for.
    pub gates: Vec<String>,
    /// Whether the Model's gates let this version be used, in words.
    pub verdict: Option<(bool, String)>,
}

impl Run for ModelVersionRun {
    type Resource = ModelVersion;
    type Related = Connections;
    const MEDIA_TYPE: &'static str = MEDIA_TREE;

    fn observe(&self, object: &ModelVersion) -> Self::Related {
        let key = Key::new(object.namespace().unwrap_or_default(), &object.spec.content.tracking_server);
        let intent = object.labels().get(labels::INTENT);
        let intent =
            intent.and_then(|name| self.models.get(&Key::new(object.namespace().unwrap_or_default(), name)));
        Connections {
            server: self.servers.get(&key),
            model: wants_active::<ModelIntent>(&self.models, object)
                .filter(|model| alias::holder(&self.by_place, model).is_none()),
            gates: intent.as_deref().map(gated_metrics).unwrap_or_default(),
            verdict: intent.as_deref().and_then(|model| acceptance(model, object)),
        }
    }

    fn verdict(observed: &Observed<Self>) -> Option<(bool, String)> {
        observed.related.verdict.clone()
    }

    fn connections(observed: &Observed<Self>) -> Vec<&dyn Connection> {
        observed.related.server.as_deref().map(|server| server as &dyn Connection).into_iter().collect()
    }

    fn attempt(observed: &Observed<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, Blocked> {
        let spec = &observed.object.spec;
        let name = &spec.content.tracking_server;
        let missing = || connection::missing::<TrackingServer>(name);
        let server = observed.related.server.as_deref().ok_or_else(missing)?;
        let no_address = || {
            let message = format!("TrackingServer {name} has no address yet");
            Blocked::waiting(Reason::ConnectionNotReady, message)
        };
        let address = server.status.as_ref().and_then(|status| status.address.clone());
        let tracking = address.ok_or_else(no_address)?;
        let revision = Revision::of(observed.object.as_ref()).map_or(0, Revision::get);
        let model =
            observed.related.model.as_ref().filter(|model| model_intent::is_for(&spec.content, model));
        let alias = model.map(|model| alias::alias(model, server, &tracking, revision));
        let input = spec.lineage.inputs.first().map_or("", |input| &input.store);
        let store = observed.store(input)?;
        let gates = observed.related.gates.clone();
        let registration = Registration { version: &observed.object, server, tracking: &tracking, gates };
        let work = registration
            .work(pod::store(store))
            .ok_or_else(|| Blocked::stalled(Reason::InvalidSpec, "the version has no input"))?;
        let work = Work::Register(RegisterWork { alias, ..work });
        let execution = observed.object.execution();
        let mut worker = container::worker(&observed.worker_image, &[], &[store], &execution.resources);
        worker.volume_mounts.get_or_insert_default().extend(container::tracking_mount(server.secret_name()));
        Ok(pod::Builder::once(meta)
            .task(&Task { subject, work })
            .keys(store)
            .tracking(server.secret_name())
            .scratch("tmp", Some("64Mi"), false)
            .container(worker)
            .execution(execution)
            .build())
    }
}

/// The TrackingServer that `version` is registered in.
pub fn servers_of(version: &ModelVersion) -> Vec<String> {
    vec![version.spec.content.tracking_server.clone()]
}

/// The Model whose gates judge `version`.
pub fn models_of(version: &ModelVersion) -> Vec<String> {
    version.labels().get(labels::INTENT).into_iter().cloned().collect()
}

/// Whether the gates of `model` let `version` be used, in words; none while they have not judged it.
fn acceptance(model: &Model, version: &ModelVersion) -> Option<(bool, String)> {
    if model.spec.gates.is_empty() {
        return Some((true, "the Model has no gates".to_owned()));
    }
    let verdicts = model.status.as_ref().map(|status| status.verdicts.as_slice()).unwrap_or_default();
    let verdict = verdicts.iter().find(|verdict| Some(&verdict.run) == version.metadata.name.as_ref())?;
    Some((verdict.passed, verdict.message.clone()))
}
