//! `ObjectStore`: a pod checks that the bucket exists and can be read and written.

use jiff::{SignedDuration, Timestamp};
use mlop_api::{
    Digest,
    common::Resources,
    dataset::{ObjectStore, ObjectStoreSpec},
    status::ConnectionStatus,
    task::Work,
};
use mlop_core::{
    Context, Error, Index, Key, Plan, Reconciler,
    children::{container, pod, profile::Profile, profiles::Profiles},
    errand::{Decision, Errand, report_connection},
    resource::PodView,
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Longest time of a probe: requests to a store that does not answer are repeated for a while.
const DEADLINE: SignedDuration = SignedDuration::from_mins(5);
/// What a probe that succeeded has shown.
fn checked(spec: &ObjectStoreSpec) -> &'static str {
    if spec.read_only { "the bucket can be read" } else { "the bucket can be read and written" }
}

/// The ObjectStores of a namespace by name.
pub type Stores = BTreeMap<String, Arc<ObjectStore>>;

pub struct ObjectStoreReconciler {
    /// By the name of the ObjectStore.
    pub pods: Index<PodView>,
    pub profiles: Profiles,
}

pub struct Observed {
    pub object: Arc<ObjectStore>,
    pub pods: Vec<Arc<PodView>>,
    pub profile: Profile,
    pub operator: String,
    pub worker_image: String,
}

impl Reconciler for ObjectStoreReconciler {
    type Resource = ObjectStore;
    type Status = ConnectionStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<ObjectStore>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        Ok(Observed {
            pods: self.pods.get(&key.namespace, &key.name),
            profile: self.profiles.of(&key.namespace, object.spec.profile.as_deref()),
            operator: cx.settings.operator.clone(),
            worker_image: cx.settings.worker_image.clone(),
            object,
        })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ConnectionStatus> {
        let store = observed.object.as_ref();
        if store.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        let decision = observed.probe(now);
        let address = store.spec.endpoint.clone();
        let ready = checked(&store.spec);
        let plan = report_connection(store, store.status.as_ref(), address, &decision, ready, now);
        decision.carry_out(plan)
    }
}

impl Observed {
    fn probe(&self, now: Timestamp) -> Decision {
        let store = self.object.as_ref();
        // An edit of the profile is no reason to probe again.
        let question = Digest::of(&json!(ObjectStoreSpec { profile: None, ..store.spec.clone() }));
        let errand = Errand::probe(store, &self.operator, &self.pods, question, DEADLINE, &self.profile);
        let resources = Resources::small(64);
        let build = |builder: pod::Builder| {
            builder.keys(store).scratch("tmp", Some("64Mi"), false).container(container::worker(
                &self.worker_image,
                &[],
                &[store],
                &resources,
            ))
        };
        let work = Work::Probe { store: pod::store(store), read_only: store.spec.read_only };
        errand.decide(work, build, now).naming_secret(store.spec.secret_name.as_deref())
    }
}
