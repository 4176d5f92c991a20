//! The operators as processes that die and start again.

use super::objects::NAMESPACE;
use crate::{
    inject::{Connection, Injector},
    timing::SECOND_LEADER,
};
use jiff::SignedDuration;
use mlop_api::operators;
use mlop_core::{
    Clock, Settings, Setup, Tracer, client,
    leader_election::{self, Candidate},
    span::Span,
};
use mlop_sim::Sim;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// The namespace of the leases.
pub const SYSTEM_NAMESPACE: &str = "mlop-system";
/// How long a process takes to start again after its end.
const RESTART: Duration = Duration::from_secs(1);
/// How long a process may take to stop after SIGTERM.
const TERMINATION_GRACE: Duration = Duration::from_secs(30);

/// One operator and its settings.
pub struct Operator {
    pub name: &'static str,
    /// Kinds that may be inputs.
    pub input_kinds: &'static [&'static str],
    install: fn(&mut Setup),
}

impl Operator {
    const fn new(facts: &operators::Operator, install: fn(&mut Setup)) -> Self {
        Self { name: facts.name, input_kinds: facts.inputs, install }
    }
}

/// Every operator. A new one joins here and in the manifest of this crate.
pub const OPERATORS: &[Operator] = &[
    Operator::new(&operators::INGESTION, mlop_ingestion::install),
    Operator::new(&operators::FEATURE_STORE, mlop_feature_store::install),
    Operator::new(&operators::TRAINING, mlop_training::install),
    Operator::new(&operators::REGISTRY, mlop_registry::install),
    Operator::new(&operators::DEPLOYMENT, mlop_deployment::install),
    Operator::new(&operators::QUEUE, mlop_queue::install),
];

/// The running instances of the operators.
pub struct Processes {
    sim: Sim,
    injector: Arc<Injector>,
    /// Without leases operators lead from the start: most faults do not concern elections.
    uses_leases: bool,
    /// Seconds by which an operator's clock is ahead.
    clocks: BTreeMap<&'static str, Arc<AtomicI64>>,
    running: Mutex<BTreeMap<&'static str, Instance>>,
    failures: Mutex<Vec<String>>,
    /// The spans of each process that has run, in the order of their starts.
    spans: Mutex<Vec<(&'static str, mpsc::Receiver<Span>)>>,
}

/// One process of an operator.
struct Instance {
    process: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Processes {
    /// Starts all operators.
    pub fn start_all(sim: Sim, injector: Arc<Injector>, uses_leases: bool) -> Arc<Self> {
        let processes = Arc::new(Self {
            sim,
            injector,
            uses_leases,
            clocks: OPERATORS.iter().map(|operator| (operator.name, Arc::default())).collect(),
            running: Mutex::default(),
            failures: Mutex::default(),
            spans: Mutex::default(),
        });
        OPERATORS.iter().for_each(|operator| processes.start(operator));
        processes
    }

    /// Operators that ended by themselves or did not stop, and why.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// The spans that the operators have exported since the last call, with the operators' names.
    pub fn take_spans(&self) -> Vec<(&'static str, Span)> {
        let mut spans = lock(&self.spans);
        let taken = spans.iter_mut().flat_map(|(operator, queue)| {
            std::iter::from_fn(|| queue.try_recv().ok()).map(|span| (*operator, span)).collect::<Vec<_>>()
        });
        taken.collect()
    }

    pub fn add_failure(&self, failure: String) {
        lock(&self.failures).push(failure);
    }

    /// Sets an operator's clock ahead of the server's.
    pub fn set_clock(&self, operator: &str, seconds: i64) {
        if let Some(clock) = self.clocks.get(operator) {
            clock.store(seconds, Ordering::Relaxed);
        }
    }

    fn start(self: &Arc<Self>, operator: &'static Operator) {
        let instance = self.spawn(operator, operator.name);
        lock(&self.running).insert(operator.name, instance);
    }

    fn spawn(self: &Arc<Self>, operator: &'static Operator, identity: &str) -> Instance {
        let connection = Connection {
            operator: operator.name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            injector: Arc::clone(&self.injector),
        };
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
        let client = client::over(connection, NAMESPACE);
        let (tracer, spans) = Tracer::new();
        lock(&self.spans).push((operator.name, spans));
        let mut setup = Setup::new(client.clone(), settings, Arc::clone(&clock)).with_tracer(tracer);
        (operator.install)(&mut setup);
        let candidate = Candidate {
            client,
            namespace: SYSTEM_NAMESPACE.to_owned(),
            name: operator.name.to_owned(),
            owner: None,
            me: identity.to_owned(),
            clock,
            relist: setup.relist(),
        };
        let (processes, uses_leases) = (Arc::clone(self), self.uses_leases);
        let (leading, is_leading) = watch::channel((!uses_leases).then(Instant::now));
        let (stop, mut stopping) = watch::channel(false);
        let election_stop = stopping.clone();
        let process = tokio::spawn(async move {
            let election = async {
                if uses_leases {
                    leader_election::elect(candidate, leading, election_stop).await;
                } else {
                    leading.closed().await;
                }
            };
            let running = async {
                tokio::select! {
                    biased;
                    ended = setup.run(is_leading) => {
                        let why = ended.err().map(|error| format!("{error:#}")).unwrap_or_default();
                        processes.add_failure(format!("{} ended: {why}", operator.name));
                    }
                    _ = stopping.wait_for(|stop| *stop) => {}
                }
            };
            tokio::join!(running, election);
        });
        Instance { process, stop }
    }

    /// Kills an operator and starts it again.
    pub async fn restart(self: Arc<Self>, operator: &'static Operator) {
        if let Some(instance) = lock(&self.running).remove(operator.name) {
            instance.process.abort();
        }
        sleep(RESTART).await;
        self.start(operator);
    }

    /// Stops an operator and starts it again.
    pub async fn terminate(self: Arc<Self>, operator: &'static Operator) {
        let instance = lock(&self.running).remove(operator.name);
        if let Some(mut instance) = instance {
            instance.stop.send_replace(true);
            if timeout(TERMINATION_GRACE, &mut instance.process).await.is_err() {
                self.add_failure(format!("{} does not stop after SIGTERM", operator.name));
                instance.process.abort();
            }
        }
        self.restart(operator).await;
    }

    /// Runs a second process of an operator that believes that it leads.
    pub async fn run_second(self: Arc<Self>, operator: &'static Operator) {
        let second = self.spawn(operator, "second");
        sleep(SECOND_LEADER).await;
        second.process.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
