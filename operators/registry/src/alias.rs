//! The alias of a Model: which Model has it, and the pod that gives it to a version.

use crate::{
    model_intent::ModelIntent,
    registration::{self, Registration},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{
    Digest, Reason,
    common::Resources,
    dataset::ObjectStore,
    registry::{Model, ModelContent, ModelVersion, TrackingServer},
    result::Activated,
    task::{Alias, AliasWork, Subject, Task, Work},
};
use mlop_core::{
    Blocked, Index, Key,
    children::{container, pod},
    intent::Observed,
};
use serde_json::json;
use std::{cmp::Reverse, sync::Arc};

/// Place of all Models whose alias another one has.
const TAKEN: &str = "taken";

/// The alias of `model` under `revision` in `server`, whose address is `tracking`.
///
/// Its parameters hold the uid of the server: one that was created again has no aliases.
pub fn alias(model: &Model, server: &TrackingServer, tracking: &str, revision: i64) -> Alias {
    let name = model.spec.alias.clone();
    let parameters = json!({"alias": name, "server": server.uid(), "tracking": tracking});
    Alias {
        name,
        namespace: model.namespace().unwrap_or_default(),
        owner: model.uid().unwrap_or_default(),
        activation: Activated { revision, parameters: Digest::of_bytes(parameters.to_string().as_bytes()) },
    }
}

/// The values by which Models that compete for an alias are found: the alias, and whether another Model has it.
pub fn places(model: &Model) -> Vec<String> {
    let conditions = model.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_taken = conditions.iter().any(|c| c.reason == Reason::AliasTaken.as_str());
    [Some(place(model)), is_taken.then(|| TAKEN.to_owned())].into_iter().flatten().collect()
}

/// The Models whose alias a change of `model` may give or take.
pub fn rivals(by_place: &Index<Model>, model: &Model) -> Vec<Key> {
    let namespace = model.namespace().unwrap_or_default();
    let mut keys = by_place.keys(&namespace, &place(model));
    keys.extend(by_place.keys(&namespace, TAKEN));
    keys
}

/// The other Model of the namespace that has the alias of `model`, or comes before it.
pub fn holder(by_place: &Index<Model>, model: &Model) -> Option<Arc<Model>> {
    let others = by_place.get(&model.namespace().unwrap_or_default(), &place(model)).into_iter();
    let others = others.filter(|other| other.metadata.deletion_timestamp.is_none());
    others.filter(|other| rank(other) < rank(model)).min_by_key(|other| rank(other))
}

/// The alias with its registered model and its server.
fn place(model: &Model) -> String {
    let ModelContent { tracking_server, registered_model } = ModelContent::from(model);
    json!([tracking_server, registered_model, model.spec.alias]).to_string()
}

/// The order of Models that ask for one alias: the one that has it comes first, then the older one.
fn rank(model: &Model) -> (Reverse<bool>, Option<jiff::Timestamp>, Option<String>) {
    let content = ModelContent::from(model);
    let registered = model.status.as_ref().and_then(|status| status.registered.as_ref());
    let has_it = registered.is_some_and(|registered| {
        registered.name == content.registered_model
            && registered.registry == content.tracking_server
            && registered.alias.as_ref() == Some(&model.spec.alias)
    });
    (Reverse(has_it), model.creation_timestamp().map(|at| at.0), model.uid())
}

/// The problem of a Model whose alias the Model `holder` has.
pub fn taken(model: &Model, holder: &str) -> Blocked {
    let registered = ModelContent::from(model).registered_model;
    let message = format!(
        "Model {holder} has the alias {} of {registered} in TrackingServer {}; set spec.alias or \
         spec.registeredModel to a name of its own",
        model.spec.alias, model.spec.tracking_server
    );
    Blocked::stalled(Reason::AliasTaken, message)
}

/// The pod that gives the alias of a Model to one of its versions, or checks it.
#[derive(Clone)]
pub struct AliasPod {
    pub server: Arc<TrackingServer>,
    pub work: AliasWork,
    /// The store of the artifact, for registering it again.
    store: Option<Arc<ObjectStore>>,
    image: String,
}

impl AliasPod {
    /// The pod for `version`.
    ///
    /// # Errors
    /// The missing object or field, in words.
    pub fn of(observed: &Observed<ModelIntent>, version: &ModelVersion) -> Result<Self, String> {
        let model = observed.object.as_ref();
        let registered = version.status().and_then(|status| status.output.as_ref()?.registered.clone());
        let registered =
            registered.ok_or_else(|| format!("{} does not say how it is registered", version.name_any()))?;
        let address = |server: &Arc<TrackingServer>| server.status.as_ref()?.address.clone();
        let server = observed.related.server.clone();
        let (server, tracking) = server
            .and_then(|server| Some((Arc::clone(&server), address(&server)?)))
            .ok_or_else(|| format!("TrackingServer {} has no address yet", model.spec.tracking_server))?;
        let store =
            observed.related.stores.get(version.spec.lineage.inputs.first().map_or("", |it| &it.store));
        let register = store.and_then(|store| {
            let gates = registration::gated_metrics(model);
            let registration = Registration { version, server: &server, tracking: &tracking, gates };
            Some(Box::new(registration.work(pod::store(store))?))
        });
        let work = AliasWork {
            alias: alias(model, &server, &tracking, 0),
            tracking,
            credentials: server.secret_name().is_some(),
            registered_model: registered.name,
            version: registered.version,
            run: version.name_any(),
            check: false,
            register,
        };
        Ok(Self { server, work, store: store.cloned(), image: observed.worker_image.clone() })
    }

    /// The pod of `subject` that acts under `revision`.
    pub fn build(&self, meta: ObjectMeta, subject: Subject, revision: i64) -> Pod {
        let mut work = self.work.clone();
        work.alias.activation.revision = revision;
        let secret = self.server.secret_name();
        let resources = Resources::small(64);
        let stores: Vec<&ObjectStore> = self.store.iter().map(AsRef::as_ref).collect();
        let mut worker = container::worker(&self.image, &[], &stores, &resources);
        worker.volume_mounts.get_or_insert_default().extend(container::tracking_mount(secret));
        let builder = pod::Builder::once(meta).task(&Task { subject, work: Work::Alias(work) });
        let builder = stores.into_iter().fold(builder, pod::Builder::keys);
        builder.tracking(secret).scratch("tmp", Some("64Mi"), false).container(worker).build()
    }
}

/// The subject of a pod that works for `model`.
pub fn subject(model: &Model) -> Subject {
    Subject {
        kind: Model::kind(&()).into_owned(),
        namespace: model.namespace().unwrap_or_default(),
        name: model.name_any(),
        uid: model.uid().unwrap_or_default(),
        attempt: 1,
    }
}
