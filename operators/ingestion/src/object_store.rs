//! `ObjectStore`: a pod checks that the bucket exists and can be read and written.

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason,
    common::Resources,
    contract::condition_type,
    dataset::ObjectStore,
    labels,
    status::ConnectionStatus,
    task::{Subject, Task, Work},
};
use mlop_core::{
    Blocked, Context, Error, Index, Key, Plan, Reconciler,
    children::{
        container, meta, pod,
        pod_outcome::{self, Outcome},
    },
    condition::{self, ConditionStatus, Conditions},
    resource::PodView,
};
use std::{collections::BTreeMap, sync::Arc};

/// Pause before a failed probe is repeated.
const RETRY: SignedDuration = SignedDuration::from_secs(15);
const CHECKED: &str = "the bucket can be read and written";

/// The ObjectStores of a namespace by name.
pub type Stores = BTreeMap<String, Arc<ObjectStore>>;

pub struct ObjectStoreReconciler {
    /// By the name of the ObjectStore.
    pub pods: Index<PodView>,
}

pub struct Observed {
    object: Arc<ObjectStore>,
    probe: String,
    pods: Vec<Arc<PodView>>,
    operator: String,
    worker_image: String,
}

impl Reconciler for ObjectStoreReconciler {
    type Resource = ObjectStore;
    type Status = ConnectionStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<ObjectStore>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        let digest = Digest::of_json(&(&object.spec, object.annotations().get(labels::RETRY_REQUESTED_AT)));
        let suffix = digest.map(|digest| digest.short(8).to_owned()).unwrap_or_default();
        Ok(Observed {
            pods: self.pods.get(&key.namespace, &key.name),
            probe: format!("{}-probe-{suffix}", key.name),
            operator: cx.settings.operator.clone(),
            worker_image: cx.settings.worker_image.clone(),
            object,
        })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<ConnectionStatus> {
        if observed.object.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        let others = observed.pods.iter().filter(|pod| pod.name_any() != observed.probe);
        let plan =
            others.fold(Plan::idle(), |plan, pod| plan.delete(pod.as_ref(), "it probed an earlier spec"));
        match observed.pods.iter().find(|pod| pod.name_any() == observed.probe) {
            Some(pod) => follow(observed, pod, plan, now),
            None if observed.is_checked() => {
                report(observed, plan, ConditionStatus::True, Reason::Ready, CHECKED, now)
            }
            None => Plan {
                creates: vec![observed.create()],
                ..report(
                    observed,
                    plan,
                    ConditionStatus::Unknown,
                    Reason::Probing,
                    "the bucket is being tried",
                    now,
                )
            },
        }
    }
}

impl Observed {
    fn is_checked(&self) -> bool {
        let generation = self.object.metadata.generation;
        self.object.status.as_ref().is_some_and(|status| {
            condition::get(&status.conditions, condition_type::READY)
                .is_some_and(|c| c.status == "True" && c.observed_generation == generation)
        })
    }

    fn create(&self) -> mlop_core::plan::Create {
        let key = Key::of(&self.object.metadata);
        let meta = meta::child_meta(
            self.object.as_ref(),
            self.probe.clone(),
            meta::child_labels(self.object.as_ref(), &self.operator, "probe"),
        );
        let uid = self.object.uid().unwrap_or_default();
        let subject = Subject {
            kind: ObjectStore::kind(&()).into_owned(),
            namespace: key.namespace,
            name: key.name,
            uid,
            attempt: 1,
        };
        let task = Task { subject, work: Work::Probe { store: pod::store(&self.object) } };
        let resources = Resources { cpu: "50m".to_owned(), memory: "64Mi".to_owned(), gpu: 0 };
        let pod = pod::Builder::once(meta)
            .task(&task)
            .keys(&self.object)
            .scratch("tmp", Some("64Mi"), false)
            .container(container::worker(&self.worker_image, &[], &[&self.object], &resources))
            .build();
        mlop_core::plan::Create::of(&pod, "the store is new or was edited")
    }
}

fn follow(
    observed: &Observed,
    pod: &PodView,
    plan: Plan<ConnectionStatus>,
    now: Timestamp,
) -> Plan<ConnectionStatus> {
    match pod_outcome::of(pod) {
        Outcome::Running | Outcome::Starting(None) => plan,
        Outcome::Starting(Some((reason, message))) => {
            report(observed, plan, ConditionStatus::Unknown, reason, &message, now)
        }
        Outcome::Succeeded(_) => {
            let plan = report(observed, plan, ConditionStatus::True, Reason::Ready, CHECKED, now);
            plan.delete(pod, "the probe has succeeded")
        }
        Outcome::Failed(ended) => {
            let due = pod_outcome::ended_at(pod).and_then(|at| at.checked_add(RETRY).ok()).unwrap_or(now);
            let plan = report(
                observed,
                plan,
                ConditionStatus::False,
                ended.failure.reason,
                &ended.failure.message,
                now,
            );
            if due <= now { plan.delete(pod, "the probe is repeated") } else { plan.requeue_at(due) }
        }
    }
}

fn report(
    observed: &Observed,
    plan: Plan<ConnectionStatus>,
    is: ConditionStatus,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Plan<ConnectionStatus> {
    let mut status = observed.object.status.clone().unwrap_or_default();
    let generation = observed.object.metadata.generation.unwrap_or_default();
    status.observed_generation = Some(generation);
    status.address = Some(observed.object.spec.endpoint.clone());
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    conditions.set(condition_type::READY, is, reason, message);
    match is {
        ConditionStatus::True => conditions.settled(),
        ConditionStatus::Unknown | ConditionStatus::False => conditions.reconciling(reason, message),
    }
    Plan { status: Some(status), ..plan }
}

/// The ObjectStore `name`, unless its last check has failed.
pub fn usable_store<'a>(stores: &'a Stores, name: &str) -> Result<&'a ObjectStore, Blocked> {
    let hold = |message| Blocked { reason: Reason::ConnectionNotReady, message, stalled: false };
    let store = stores.get(name).ok_or_else(|| hold(format!("ObjectStore {name} does not exist")))?;
    let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match condition::get(conditions, condition_type::READY) {
        Some(c) if c.status == "False" => {
            Err(hold(format!("ObjectStore {name} is not ready: {}: {}", c.reason, c.message)))
        }
        _ => Ok(store),
    }
}
