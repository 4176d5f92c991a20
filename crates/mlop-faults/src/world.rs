//! The five operators on a simulated API server, each a process that can die, and workers that do their tasks by
//! computing digests.

use crate::{
    inject::{Command, Connection, Injector, OUTAGE, RECREATION},
    plan::{Fault, Injection},
};
use jiff::SignedDuration;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mlop_api::{
    Digest, Reason,
    common::Metric,
    dataset::{self, Dataset},
    deployment, features, kinds, labels, registry,
    result::{Activated, Failure, Registered, ResultDocument},
    task::{ActivateWork, AliasWork, Input, Task, Work},
    training,
};
use mlop_core::{
    Clock, Settings, Setup, client,
    leader_election::{self, Candidate},
};
use mlop_sim::{
    Sim, Snapshot, controllers,
    kubelet::{self, PodOutcome},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Debug,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

pub const NS: &str = "default";
/// How long a process that died takes to be there again.
const RESTART: Duration = Duration::from_secs(1);
/// Time between looks at whether something has changed, and after which a look is taken even so.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Where the leases are.
const LEASES: &str = "mlop-system";
/// How long a process has to stop when it is told to.
const TERMINATION_GRACE: Duration = Duration::from_secs(30);
/// How long two instances believe that they lead.
pub const SECOND_LEADER: Duration = Duration::from_secs(60);
/// How far a restored server goes back, at least.
const BACKUP_EVERY: Duration = Duration::from_secs(10);

/// A cluster with our kinds and nothing else. Schemas take longer to make than to use.
static EMPTY: LazyLock<Snapshot> = LazyLock::new(|| {
    let sim = Sim::new();
    for crd in kinds::all() {
        sim.register_crd(&crd).unwrap();
    }
    let system = Namespace {
        metadata: ObjectMeta { name: Some(LEASES.to_owned()), ..Default::default() },
        ..Default::default()
    };
    sim.create(&system).unwrap();
    sim.snapshot()
});

/// One operator, as it is started.
pub struct Operator {
    pub name: &'static str,
    /// Kinds that may be inputs.
    pub input_kinds: &'static [&'static str],
    install: fn(&mut Setup),
}

pub const OPERATORS: [Operator; 5] = [
    Operator { name: mlop_ingestion::NAME, input_kinds: &[], install: mlop_ingestion::install },
    Operator {
        name: mlop_feature_store::NAME,
        input_kinds: &["Dataset", "FeatureView"],
        install: mlop_feature_store::install,
    },
    Operator {
        name: mlop_training::NAME,
        input_kinds: &["Dataset", "FeatureView", "TrainingJob"],
        install: mlop_training::install,
    },
    Operator { name: mlop_registry::NAME, input_kinds: &["TrainingJob"], install: mlop_registry::install },
    Operator { name: mlop_deployment::NAME, input_kinds: &["Model"], install: mlop_deployment::install },
];

/// What workers find outside the cluster, and how they are to behave.
#[derive(Default)]
pub struct Outside {
    /// What is in the bucket.
    pub bucket: String,
    /// What the training measures.
    pub auc: f64,
    /// Failures that the next pods of a kind of work meet, first one first.
    pub failures: BTreeMap<&'static str, Vec<Failure>>,
    /// Registered versions, in order of their registration.
    pub versions: Vec<Digest>,
    /// Pods that began, by kind of work.
    pub done: BTreeMap<&'static str, u32>,
    /// What pointers outside show, by what they are and whose.
    pub pointers: BTreeMap<String, Pointer>,
    /// How often a pointer moved.
    pub moves: BTreeMap<String, u32>,
    /// There was something in the bucket for a moment that did not stay.
    pub flapped: bool,
    /// The model of this digest never becomes ready.
    pub broken_rollout: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    pub revision: i64,
    /// The table's digest, or the version's number.
    pub content: String,
}

pub struct World {
    pub sim: Sim,
    pub outside: Arc<Mutex<Outside>>,
    pub injector: Arc<Injector>,
    processes: Arc<Processes>,
}

/// The running instances of the operators.
struct Processes {
    sim: Sim,
    injector: Arc<Injector>,
    /// Whether operators hold leases. Without, they lead from the start: most faults do not touch that.
    leases: bool,
    /// Seconds by which an operator's clock is ahead.
    clocks: BTreeMap<&'static str, Arc<AtomicI64>>,
    running: Mutex<BTreeMap<String, Instance>>,
    /// Operators that ended by themselves, which none may.
    ended: Mutex<Vec<String>>,
}

/// One process of an operator.
struct Instance {
    process: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl World {
    /// Starts everything, without faults. Objects of mlop may be created at once.
    pub fn start() -> Self {
        Self::under(Vec::new())
    }

    /// Starts everything under faults.
    pub fn under(faults: Vec<Injection>) -> Self {
        let has = |wanted: &[Fault]| faults.iter().any(|injection| wanted.contains(&injection.fault));
        let restores = has(&[Fault::Restored]);
        let leases = has(&[
            Fault::Restored,
            Fault::Terminated,
            Fault::LeaseTaken,
            Fault::ClockAhead,
            Fault::ClockBehind,
        ]);
        let sim = Sim::new();
        sim.restore(&EMPTY);
        // They would be half of what operators read.
        sim.hide_managed_fields();
        let (commands, orders) = mpsc::unbounded_channel();
        let injector = Injector::new(sim.clone(), faults, commands);
        let outside =
            Arc::new(Mutex::new(Outside { bucket: "january".into(), auc: 0.75, ..Default::default() }));
        let processes = Arc::new(Processes {
            sim: sim.clone(),
            injector: Arc::clone(&injector),
            leases,
            clocks: OPERATORS.iter().map(|operator| (operator.name, Arc::default())).collect(),
            running: Mutex::default(),
            ended: Mutex::default(),
        });
        let world = Self { sim: sim.clone(), outside: Arc::clone(&outside), injector, processes };
        let (pods, injector) = (Arc::clone(&outside), Arc::clone(&world.injector));
        kubelet::spawn(&sim, move |pod| work(pod, &mut lock(&pods), &injector));
        controllers::spawn_jobs(&sim);
        let stuck = Arc::clone(&outside);
        controllers::spawn_workloads(&sim, move |name| {
            let broken = lock(&stuck).broken_rollout && name.ends_with("-mdep");
            (!broken).then_some(Duration::from_secs(2))
        });
        for operator in &OPERATORS {
            world.processes.start(operator);
        }
        tokio::spawn(supervise(Arc::clone(&world.processes), outside, orders, restores));
        world
    }

    /// Creates the objects of a YAML text.
    pub fn apply(&self, yaml: &str) {
        for document in yaml.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(document).unwrap();
            create(&self.sim, value).unwrap();
        }
    }

    /// New data is in the bucket, and somebody asks for a look at it.
    pub fn arrive(&self, data: &str) {
        self.outside().bucket = data.to_owned();
        refresh(&self.sim, data);
    }

    /// The object, which must exist.
    pub fn get<K>(&self, name: &str) -> K
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.sim.get::<K>(NS, name).unwrap_or_else(|| panic!("{} {name} does not exist", K::kind(&())))
    }

    /// Lets virtual time pass until `holds`, at most ten minutes.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        assert!(
            self.within(Duration::from_secs(600), holds).await,
            "not within ten minutes: {what}\n{}",
            self.picture()
        );
    }

    /// Lets virtual time pass until `holds`; false if it did not in time.
    pub async fn within(&self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            let revision = self.sim.revision();
            if holds(self) {
                return true;
            }
            let look_again = Instant::now() + LOOK_AGAIN;
            while self.sim.revision() == revision && Instant::now() < look_again {
                if Instant::now() >= end {
                    return false;
                }
                sleep(LOOK).await;
            }
        }
    }

    /// All intents with their conditions, for a failed test.
    pub fn picture(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.sim.list::<Dataset>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<features::FeatureStore>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<features::FeatureView>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<training::TrainingJob>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(self.sim.list::<registry::Model>().iter().map(|o| format!("{:#?}", o.status)));
        lines.extend(
            self.sim.list::<deployment::ModelDeployment>().iter().map(|o| format!("{:#?}", o.status)),
        );
        lines.join("\n")
    }

    pub fn done(&self, work: &str) -> u32 {
        self.outside().done.get(work).copied().unwrap_or_default()
    }

    pub fn outside(&self) -> MutexGuard<'_, Outside> {
        lock(&self.outside)
    }

    /// Operators that ended by themselves, and why.
    pub fn ended(&self) -> Vec<String> {
        lock(&self.processes.ended).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates an object of a user's in our namespace.
///
/// # Errors
/// What the server answers.
pub fn create(sim: &Sim, mut value: Value) -> Result<(), String> {
    fn as_kind<K>(sim: &Sim, value: Value) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let object: K = serde_json::from_value(value).map_err(|error| error.to_string())?;
        sim.create(&object).map(drop).map_err(|status| status.message.clone())
    }
    value["metadata"]["namespace"] = NS.into();
    match value["kind"].as_str().unwrap_or_default() {
        "ObjectStore" => as_kind::<dataset::ObjectStore>(sim, value),
        "Dataset" => as_kind::<Dataset>(sim, value),
        "FeatureStore" => as_kind::<features::FeatureStore>(sim, value),
        "FeatureView" => as_kind::<features::FeatureView>(sim, value),
        "TrainingJob" => as_kind::<training::TrainingJob>(sim, value),
        "TrackingServer" => as_kind::<registry::TrackingServer>(sim, value),
        "Model" => as_kind::<registry::Model>(sim, value),
        "ModelDeployment" => as_kind::<deployment::ModelDeployment>(sim, value),
        other => Err(format!("{other} is no kind of users")),
    }
}

impl Processes {
    fn start(self: &Arc<Self>, operator: &'static Operator) {
        let instance = self.spawn(operator, operator.name);
        lock(&self.running).insert(operator.name.to_owned(), instance);
    }

    fn spawn(self: &Arc<Self>, operator: &'static Operator, me: &str) -> Instance {
        let connection =
            Connection { operator: operator.name.to_owned(), injector: Arc::clone(&self.injector) };
        let (sim, ahead) = (self.sim.clone(), Arc::clone(&self.clocks[operator.name]));
        let clock: Clock =
            Arc::new(move || sim.now() + SignedDuration::from_secs(ahead.load(Ordering::Relaxed)));
        let kinds =
            operator.input_kinds.iter().map(|kind| format!("{kind}.v1alpha1.mlop.dev").parse().unwrap());
        let settings = Settings {
            operator: operator.name.to_owned(),
            namespaces: Vec::new(),
            input_kinds: kinds.collect(),
            worker_image: "worker:test".to_owned(),
        };
        let client = client::over(connection, NS);
        let mut setup = Setup::new(client.clone(), settings, Arc::clone(&clock));
        (operator.install)(&mut setup);
        let candidate = Candidate {
            client,
            namespace: LEASES.to_owned(),
            name: operator.name.to_owned(),
            me: me.to_owned(),
            clock,
            relist: setup.relist(),
        };
        let (processes, leases) = (Arc::clone(self), self.leases);
        let (leading, is_leading) = watch::channel(!leases);
        let (stop, mut stopping) = watch::channel(false);
        let told = stopping.clone();
        let process = tokio::spawn(async move {
            let election = async {
                if leases {
                    leader_election::elect(candidate, leading, told).await;
                } else {
                    leading.closed().await;
                }
            };
            let running = async {
                tokio::select! {
                    biased;
                    ended = setup.run(is_leading) => {
                        let why = ended.err().map(|error| format!("{error:#}")).unwrap_or_default();
                        lock(&processes.ended).push(format!("{} ended: {why}", operator.name));
                    }
                    _ = stopping.wait_for(|stop| *stop) => {}
                }
            };
            tokio::join!(running, election);
        });
        Instance { process, stop }
    }

    async fn restart(self: Arc<Self>, operator: &'static Operator) {
        if let Some(instance) = lock(&self.running).remove(operator.name) {
            instance.process.abort();
        }
        sleep(RESTART).await;
        self.start(operator);
    }

    /// Tells the operator to stop, and starts it again when it has.
    async fn terminate(self: Arc<Self>, operator: &'static Operator) {
        let instance = lock(&self.running).remove(operator.name);
        if let Some(mut instance) = instance {
            instance.stop.send_replace(true);
            if timeout(TERMINATION_GRACE, &mut instance.process).await.is_err() {
                lock(&self.ended).push(format!("{} does not stop when it is told to", operator.name));
                instance.process.abort();
            }
        }
        self.restart(operator).await;
    }

    /// A second process that believes that it leads.
    async fn second(self: Arc<Self>, operator: &'static Operator) {
        let second = self.spawn(operator, "second");
        sleep(SECOND_LEADER).await;
        second.process.abort();
    }
}

fn named(name: &str) -> impl Iterator<Item = &'static Operator> + '_ {
    OPERATORS.iter().filter(move |operator| operator.name == name)
}

/// Does what the plan orders, until the world ends.
async fn supervise(
    processes: Arc<Processes>,
    outside: Arc<Mutex<Outside>>,
    mut orders: mpsc::UnboundedReceiver<Command>,
    restores: bool,
) {
    let sim = processes.sim.clone();
    let mut backups = VecDeque::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = sleep(BACKUP_EVERY), if restores => {
                backups.push_back(sim.snapshot());
                if backups.len() > 2 {
                    backups.pop_front();
                }
                continue;
            }
        };
        match order {
            None => return,
            Some(Command::Crash(name)) => {
                named(&name)
                    .for_each(|operator| drop(tokio::spawn(Arc::clone(&processes).restart(operator))));
            }
            Some(Command::AllCrash) => OPERATORS
                .iter()
                .for_each(|operator| drop(tokio::spawn(Arc::clone(&processes).restart(operator)))),
            Some(Command::SecondLeader(name)) => {
                named(&name).for_each(|operator| drop(tokio::spawn(Arc::clone(&processes).second(operator))));
            }
            Some(Command::Terminate(name)) => {
                named(&name)
                    .for_each(|operator| drop(tokio::spawn(Arc::clone(&processes).terminate(operator))));
            }
            Some(Command::TakeLease(name)) => {
                let _ = sim.edit::<Lease>(LEASES, &name, |lease| {
                    lease.spec.get_or_insert_default().holder_identity = Some("somebody".to_owned());
                });
                processes.injector.lost_its_lease(&name);
            }
            Some(Command::Clock(name, ahead)) => {
                for (_, clock) in processes.clocks.iter().filter(|(operator, _)| **operator == name) {
                    clock.store(ahead, Ordering::Relaxed);
                    let clock = Arc::clone(clock);
                    tokio::spawn(async move {
                        sleep(OUTAGE).await;
                        clock.store(0, Ordering::Relaxed);
                    });
                }
            }
            Some(Command::RemoveType(plural)) => remove_type(&sim, &processes.injector, &plural),
            Some(Command::EndNamespace) => {
                let _ = sim.terminate_namespace(NS);
            }
            Some(Command::Restore) => {
                if let Some(backup) = backups.pop_front() {
                    processes.injector.restored();
                    restore(&sim, &processes.injector, &backup);
                }
            }
            Some(Command::RecreateInput) => recreate_input(&sim, &processes.injector),
            Some(Command::Recreate(_)) if !processes.injector.wants_back() => {}
            Some(Command::Recreate(object)) => {
                // Somebody may have been faster, or the namespace is gone with all that was in it.
                if let Err(error) = create(&sim, anew(object))
                    && !error.contains("already exists")
                    && !error.contains("namespaces")
                {
                    lock(&processes.ended).push(format!("the user could not create it anew: {error}"));
                }
            }
            Some(Command::FlapSource) => {
                let (before, outside) = (lock(&outside).bucket.clone(), Arc::clone(&outside));
                lock(&outside).bucket = format!("{before} with a mistake");
                lock(&outside).flapped = true;
                refresh(&sim, "flapping");
                let sim = sim.clone();
                tokio::spawn(async move {
                    sleep(OUTAGE).await;
                    let mut outside = lock(&outside);
                    if outside.bucket.ends_with(" with a mistake") {
                        outside.bucket = before;
                    }
                    drop(outside);
                    refresh(&sim, "flapped");
                });
            }
        }
    }
}

/// Restores a backup. What it lacks is brought back by those who want it: types, and objects of users.
fn restore(sim: &Sim, injector: &Arc<Injector>, backup: &Snapshot) {
    let all = || USERS_KINDS.iter().flat_map(|kind| manifests(sim, kind));
    let id = |object: &Value| (object["kind"].to_string(), object["metadata"]["name"].to_string());
    let before: Vec<Value> = all().collect();
    sim.restore(backup);
    let kept: BTreeSet<_> = all().map(|object| id(&object)).collect();
    for object in before.into_iter().filter(|object| !kept.contains(&id(object))) {
        injector.recreate_later(object, OUTAGE + RECREATION);
    }
    let sim = sim.clone();
    tokio::spawn(async move {
        sleep(OUTAGE).await;
        for crd in kinds::all() {
            // Most are there.
            let _ = sim.register_crd(&crd);
        }
    });
}

fn recreate_input(sim: &Sim, injector: &Arc<Injector>) {
    let Some(object) = manifests(sim, "Dataset").into_iter().next() else { return };
    if sim.delete::<Dataset>(NS, "flights").is_ok() {
        injector.recreate_later(object, RECREATION);
    }
}

/// Removes a custom kind with its objects, or if it is none of ours, that of TrainingJobs.
fn remove_type(sim: &Sim, injector: &Arc<Injector>, plural: &str) {
    let crds = kinds::all();
    let crd = crds.iter().find(|crd| crd.spec.names.plural == plural);
    let Some(crd) = crd.or(crds.iter().find(|crd| crd.spec.names.plural == "trainingjobs")) else { return };
    let objects = manifests(sim, &crd.spec.names.kind);
    if sim.remove_crd(&crd.spec.names.plural, &crd.spec.group).is_err() {
        return;
    }
    let (sim, crd, later) = (sim.clone(), crd.clone(), OUTAGE);
    for object in objects {
        injector.recreate_later(object, later + Duration::from_secs(1));
    }
    tokio::spawn(async move {
        sleep(later).await;
        // It may be back already, if it was removed twice.
        let _ = sim.register_crd(&crd);
    });
}

/// The kinds that users write.
const USERS_KINDS: [&str; 8] = [
    "ObjectStore",
    "Dataset",
    "FeatureStore",
    "FeatureView",
    "TrainingJob",
    "TrackingServer",
    "Model",
    "ModelDeployment",
];

/// The objects of a kind that users write.
fn manifests(sim: &Sim, kind: &str) -> Vec<Value> {
    fn of<K>(sim: &Sim) -> Vec<Value>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        sim.list::<K>().iter().filter_map(|object| serde_json::to_value(object).ok()).collect()
    }
    match kind {
        "ObjectStore" => of::<dataset::ObjectStore>(sim),
        "Dataset" => of::<Dataset>(sim),
        "FeatureStore" => of::<features::FeatureStore>(sim),
        "FeatureView" => of::<features::FeatureView>(sim),
        "TrainingJob" => of::<training::TrainingJob>(sim),
        "TrackingServer" => of::<registry::TrackingServer>(sim),
        "Model" => of::<registry::Model>(sim),
        "ModelDeployment" => of::<deployment::ModelDeployment>(sim),
        _ => Vec::new(),
    }
}

/// What a user applies who has the object's manifest.
fn anew(object: Value) -> Value {
    let meta = &object["metadata"];
    serde_json::json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
        "metadata": {"name": meta["name"], "annotations": meta["annotations"]},
    })
}

/// A user asks for a look at the source.
pub fn refresh(sim: &Sim, request: &str) {
    // It may be away at the moment; then its re-creation looks by itself.
    let _ = sim.edit::<Dataset>(NS, "flights", |dataset| {
        let annotations = dataset.metadata.annotations.get_or_insert_default();
        annotations.insert(labels::REFRESH_REQUESTED_AT.to_owned(), request.to_owned());
    });
}

/// What becomes of a pod, and with it outside.
pub fn work(pod: &k8s_openapi::api::core::v1::Pod, outside: &mut Outside, injector: &Injector) -> PodOutcome {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(labels::TASK));
    let Some(task) = text.and_then(|text| serde_json::from_str::<Task>(text).ok()) else {
        return PodOutcome::run_forever();
    };
    let (name, seconds) = match &task.work {
        Work::Probe { .. } => ("probe", 1),
        Work::Scan(_) => ("scan", 1),
        Work::Version(_) => ("version", 2),
        Work::Snapshot(_) => ("snapshot", 2),
        Work::Activate(_) => ("activate", 1),
        Work::Deactivate { .. } => ("deactivate", 1),
        Work::Train(_) => ("train", 30),
        Work::Register(_) => ("register", 1),
        Work::Alias(_) => ("alias", 1),
        Work::Serve { .. } => return PodOutcome::run_forever(),
    };
    let mut ended = end(name, outside, injector, |outside| result(&task.work, outside));
    if let Ended::Reported(made) = &mut ended
        && let Some((name, next, activation)) = activation(&task.work, made)
    {
        match end(name, outside, injector, |outside| result(&next, outside)) {
            Ended::Reported(active) if active.error.is_none() => made.activated = Some(activation),
            Ended::Reported(_) => {}
            killed => ended = killed,
        }
    }
    let outcome = match ended {
        Ended::Killed => PodOutcome::fail(137, "Error", ""),
        Ended::OutOfMemory => PodOutcome::fail(137, "OOMKilled", "").in_container("user"),
        Ended::Reported(document) => match &document.error {
            Some(_) => PodOutcome::fail(1, "Error", document.to_message()).in_container("worker"),
            None => PodOutcome::succeed(document.to_message()).in_container("worker"),
        },
    };
    outcome.starting_after(Duration::from_millis(500)).running_for(Duration::from_secs(seconds))
}

enum Ended {
    Killed,
    OutOfMemory,
    Reported(Box<ResultDocument>),
}

/// How a piece of work ends.
fn end(
    name: &'static str,
    outside: &mut Outside,
    injector: &Injector,
    result: impl FnOnce(&mut Outside) -> ResultDocument,
) -> Ended {
    *outside.done.entry(name).or_default() += 1;
    let failed = |failure| Ended::Reported(Box::new(ResultDocument::failed(failure)));
    match injector.work(name) {
        Some(Fault::KilledBefore) => return Ended::Killed,
        Some(Fault::KilledAfter) => {
            result(outside);
            return Ended::Killed;
        }
        Some(Fault::StoreUnreachable) => {
            return failed(Failure::transient(Reason::StoreUnreachable, "the store does not answer"));
        }
        _ => {}
    }
    let failures = outside.failures.entry(name).or_default();
    if failures.is_empty() {
        return Ended::Reported(Box::new(result(outside)));
    }
    let failure = failures.remove(0);
    if failure.reason == Reason::OutOfMemory { Ended::OutOfMemory } else { failed(failure) }
}

/// What a pod does after its work: the activation of what it made.
fn activation(work: &Work, made: &ResultDocument) -> Option<(&'static str, Work, Activated)> {
    let digest = made.digest.clone()?;
    match work {
        Work::Snapshot(work) if work.active.as_ref() != Some(&digest) => {
            let online = work.online.clone()?;
            let (media_type, store) = (String::new(), work.output.clone());
            let table = Input { name: String::new(), digest, media_type, store };
            let activation = online.activation.clone();
            Some(("activate", Work::Activate(ActivateWork { table, online }), activation))
        }
        Work::Register(work) => {
            let (alias, registered) = (work.alias.clone()?, made.registered.clone()?);
            let activation = alias.activation.clone();
            let (tracking, version) = (work.tracking.clone(), registered.version);
            let work = AliasWork { tracking, registered_model: registered.model, version, alias };
            Some(("alias", Work::Alias(work), activation))
        }
        _ => None,
    }
}

fn result(work: &Work, outside: &mut Outside) -> ResultDocument {
    let made = |from: &dyn Debug| Some(Digest::of_bytes(format!("{from:?}").as_bytes()));
    match work {
        Work::Scan(_) => ResultDocument {
            digest: made(&outside.bucket),
            summary: Some(format!("saw {}", outside.bucket)),
            ..Default::default()
        },
        Work::Version(work) => ResultDocument {
            digest: made(&(&work.listing, &work.columns)),
            summary: Some("10 rows".into()),
            ..Default::default()
        },
        Work::Snapshot(work) => {
            let inputs: Vec<_> = work.inputs.iter().map(|input| &input.digest).collect();
            ResultDocument {
                digest: made(&(inputs, &work.sql)),
                summary: Some("10 rows".into()),
                ..Default::default()
            }
        }
        Work::Train(work) => ResultDocument {
            digest: made(&work.provenance),
            metrics: vec![Metric::new("auc", outside.auc)],
            summary: Some(format!("auc={}", outside.auc)),
            ..Default::default()
        },
        Work::Register(work) => {
            let known = outside.versions.iter().position(|digest| *digest == work.input_digest);
            let index = known.unwrap_or_else(|| {
                outside.versions.push(work.input_digest.clone());
                outside.versions.len() - 1
            });
            ResultDocument {
                digest: Some(work.model.digest.clone()),
                metrics: work.metrics.clone(),
                summary: Some(format!("version {}", index + 1)),
                registered: Some(Registered {
                    model: work.registered_model.clone(),
                    version: (index + 1).to_string(),
                    run_id: "r".into(),
                }),
                ..Default::default()
            }
        }
        Work::Activate(ActivateWork { table, online }) => {
            outside.point(format!("view {}", online.view.name), &online.activation, table.digest.to_string())
        }
        Work::Alias(AliasWork { alias, version, .. }) => {
            outside.point(format!("alias {} {}", alias.name, alias.owner), &alias.activation, version.clone())
        }
        Work::Deactivate { view, .. } => {
            outside.pointers.remove(&format!("view {}", view.name));
            ResultDocument::default()
        }
        _ => ResultDocument::default(),
    }
}

impl Outside {
    /// Moves a pointer, but never back.
    fn point(&mut self, name: String, to: &Activated, content: String) -> ResultDocument {
        let now = self.pointers.entry(name.clone()).or_default();
        let same = to.revision == now.revision && content == now.content;
        if to.revision <= now.revision && !same {
            let message = format!("revision {} is active already", now.revision);
            return ResultDocument::failed(Failure::superseded(Some(now.revision), message));
        }
        if !same {
            *now = Pointer { revision: to.revision, content };
            *self.moves.entry(name).or_default() += 1;
        }
        ResultDocument::default()
    }
}
