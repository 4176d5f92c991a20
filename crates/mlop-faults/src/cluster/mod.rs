//! A cluster in virtual time: the simulated API server, the operators as processes that can die, and workers that
//! compute digests in place of data.

mod courses;
mod credentials;
mod external;
mod mlflow;
mod needs;
mod object_stores;
mod objects;
mod pointer;
mod processes;
mod progress;
mod supervisor;
mod workers;

pub use courses::change as course;
pub use credentials::Credentials;
pub use external::{ExternalSystems, FAULTY, view_pointer};
pub use mlflow::RegisteredModel;
pub use objects::{
    NAMESPACE, annotate, apply, change, create, create_in, documents, list_kind, refresh, retry,
};
pub use pointer::Pointer;
pub use processes::{OPERATORS, Operator};
pub use workers::work;

use crate::{
    inject::{Branches, Injector},
    plan::Fault,
};
use futures::future::join_all;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use mlop_api::{
    dataset::Dataset,
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    kinds,
    registry::Model,
    training::TrainingJob,
};
use mlop_core::span::Span;
use mlop_sim::{Sim, Snapshot, controllers, kubelet};
use processes::{Processes, SYSTEM_NAMESPACE};
use serde::de::DeserializeOwned;
use std::{
    collections::VecDeque,
    fmt::Debug,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use supervisor::Supervisor;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

/// A condition is tested at most this often.
const LOOK: Duration = Duration::from_millis(100);
/// A condition is tested after this time though no object has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long [`Cluster::until`] waits.
const UNTIL: Duration = Duration::from_secs(600);
/// How long the Deployment of a model takes to become ready.
const ROLLOUT: Duration = Duration::from_secs(2);

/// A cluster with the kinds of mlop and no objects, kept because its schemas take long to make.
static EMPTY: LazyLock<Snapshot> = LazyLock::new(|| {
    let sim = Sim::new();
    for crd in kinds::all() {
        sim.register_crd(&crd).unwrap();
    }
    let system = Namespace {
        metadata: ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..Default::default() },
        ..Default::default()
    };
    sim.create(&system).unwrap();
    sim.snapshot()
});

/// The operators on a simulated API server, with external systems.
pub struct Cluster {
    pub sim: Sim,
    pub injector: Arc<Injector>,
    external: Arc<Mutex<ExternalSystems>>,
    processes: Arc<Processes>,
}

impl Cluster {
    /// Starts everything, without faults. Objects of mlop may be created at once.
    pub fn start() -> Self {
        Self::under(Vec::new())
    }

    /// Starts everything under the faults of one plan, or of several with the same beginning.
    pub fn under(plans: impl Into<Branches>) -> Self {
        let plans = plans.into();
        let makes_backups = plans.has(Fault::WITH_BACKUPS);
        let uses_leases = plans.has(Fault::WITH_LEASES);
        let sim = Sim::new();
        sim.restore(&EMPTY);
        // They are half of the bytes that operators read.
        sim.hide_managed_fields();
        let (commands, received) = mpsc::unbounded_channel();
        let injector = Injector::new(sim.clone(), plans, commands);
        let external = Arc::<Mutex<ExternalSystems>>::default();
        start_controllers(&sim, &external, &injector);
        let processes = Processes::start_all(sim.clone(), Arc::clone(&injector), uses_leases);
        let supervisor = Supervisor {
            sim: sim.clone(),
            injector: Arc::clone(&injector),
            processes: Arc::clone(&processes),
            external: Arc::clone(&external),
            backups: VecDeque::new(),
        };
        tokio::spawn(supervisor.run(received, makes_backups));
        Self { sim, injector, external, processes }
    }

    /// Creates the objects of a YAML text.
    pub fn apply(&self, yaml: &str) {
        for manifest in documents(yaml) {
            create(&self.sim, manifest).unwrap();
        }
    }

    /// Puts new data into the bucket and requests a refresh.
    pub fn put_data(&self, data: &str) {
        self.external().bucket = data.to_owned();
        refresh(&self.sim, data);
    }

    /// The object, which must exist.
    pub fn get<K>(&self, name: &str) -> K
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.sim.get::<K>(NAMESPACE, name).unwrap_or_else(|| panic!("{} {name} does not exist", K::kind(&())))
    }

    /// Advances virtual time until `holds`, at most ten minutes.
    pub async fn until(&self, goal: &str, holds: impl Fn(&Self) -> bool) {
        assert!(
            self.within(UNTIL, holds).await,
            "not within {} s: {goal}\n{}",
            UNTIL.as_secs(),
            self.statuses()
        );
    }

    /// Advances virtual time until `holds`. False if it does not within `limit`.
    pub async fn within(&self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            let revision = self.sim.revision();
            if holds(self) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            let look_again = end.min(Instant::now() + LOOK_AGAIN);
            if timeout_at(look_again, self.sim.changed_since(revision)).await.is_ok() {
                // Most changes come with others.
                sleep(LOOK).await;
            }
        }
    }

    /// The statuses of all intents, for the message of a failed test.
    fn statuses(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.sim.list::<Dataset>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<FeatureStore>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<FeatureView>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<TrainingJob>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<Model>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<ModelDeployment>().iter().map(|o| format!("{:#?}", o.status)));
        lines.join("\n")
    }

    /// Number of pods of this work that began.
    pub fn started(&self, work: &str) -> u32 {
        self.external().started.get(work).copied().unwrap_or_default()
    }

    pub fn external(&self) -> MutexGuard<'_, ExternalSystems> {
        lock(&self.external)
    }

    /// The external systems, for those who outlive a call.
    pub fn shared_external(&self) -> Arc<Mutex<ExternalSystems>> {
        Arc::clone(&self.external)
    }

    /// The spans that the operators have exported since the last call, with the operators' names.
    pub fn take_spans(&self) -> Vec<(&'static str, Span)> {
        self.processes.take_spans()
    }

    /// Kills all operators and starts them again.
    pub async fn restart_operators(&self) {
        join_all(OPERATORS.iter().map(|operator| Arc::clone(&self.processes).restart(operator))).await;
    }

    /// Operators that ended by themselves or did not stop, and why.
    pub fn failures(&self) -> Vec<String> {
        self.processes.failures()
    }
}

fn start_controllers(sim: &Sim, external: &Arc<Mutex<ExternalSystems>>, injector: &Arc<Injector>) {
    let (systems, injector) = (Arc::clone(external), Arc::clone(injector));
    kubelet::spawn(sim, move |pod| work(pod, &mut lock(&systems), &injector));
    controllers::spawn_jobs(sim);
    let systems = Arc::clone(external);
    controllers::spawn_workloads(sim, move |name| {
        let is_broken = lock(&systems).broken_rollout && name.ends_with("-mdep");
        (!is_broken).then_some(ROLLOUT)
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
