//! The decision at each request, event and piece of work whether a fault strikes, and the record of what happened.

use super::{branches::Branches, command::Command, ledger::Ledger, request::OperatorRequest, server::Server};
use crate::{
    plan::{Fault, Injection, Point, WorkId},
    timing::OUTAGE,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// How late an event is, and how far behind a server is.
pub const LATE: Duration = Duration::from_secs(5);
/// An operator notices the loss of its lease within this time: a renewal and a request that is not answered.
const LOSS_NOTICED: Duration = Duration::from_secs(10);
/// How far a clock is off, in seconds.
const CLOCK_ERROR: i64 = 60;

/// The effects of an unusual course of a pod are over after this time: it starts late or slowly, is given up after ten
/// minutes, and the next one starts after a delay.
const COURSE: Duration = Duration::from_secs(900);
/// Foreign changes excuse a status for this time: an operator may not have noticed them.
const NOTICED: Duration = Duration::from_secs(30);

/// Looks at a write that the server has accepted, and returns violations.
pub type Witness = Box<dyn Fn(&OperatorRequest) -> Vec<String> + Send + Sync>;

/// Carries out one plan, or several until they differ.
pub struct Injector {
    pub(super) server: Box<dyn Server>,
    commands: mpsc::UnboundedSender<Command>,
    state: Mutex<State>,
    witness: OnceLock<Witness>,
}

/// An operator and a plural name.
type Source = (String, String);

#[derive(Default)]
struct State {
    branches: Branches,
    counts: BTreeMap<Point, u32>,
    points: Vec<Point>,
    outages: Vec<Outage>,
    /// Their next lists come from a server that is behind.
    stale: BTreeSet<Source>,
    /// Their next watches begin late.
    late: BTreeSet<Source>,
    /// Their next lists hold an object that cannot be decoded.
    undecodable: BTreeSet<Source>,
    revisions: VecDeque<(Instant, u64)>,
    last_fault: Option<Instant>,
    /// The last change that somebody else made to objects or to external systems, or of which operators were kept ignorant.
    last_foreign_change: Option<Instant>,
    ledger: Ledger,
    latency: Duration,
    /// The time at which an operator lost its lease.
    lost_leases: BTreeMap<String, Instant>,
    keeps_deleted: bool,
    /// Names of objects whose requests are never answered.
    hanging: BTreeSet<String>,
}

/// A fault that lasts.
#[derive(Clone)]
pub struct Outage {
    until: Instant,
    pub fault: Fault,
    /// All operators if empty.
    by: String,
    /// All kinds if empty.
    kind: String,
}

impl Outage {
    pub fn until(&self) -> Instant {
        self.until
    }

    fn hits(&self, by: &str, kind: &str, is_write: bool) -> bool {
        self.until > Instant::now()
            && (self.by.is_empty() || self.by == by)
            && (self.kind.is_empty() || self.kind == kind)
            && (is_write || matches!(self.fault, Fault::Partition | Fault::ServerDown))
    }
}

impl Injector {
    pub fn new(
        server: impl Server + 'static,
        plans: impl Into<Branches>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Arc<Self> {
        let mut branches = plans.into();
        let timed = branches.take_timed();
        let state = State { branches, ..Default::default() };
        let injector = Arc::new(Self {
            server: Box::new(server),
            commands,
            state: Mutex::new(state),
            witness: OnceLock::new(),
        });
        timed.into_iter().for_each(|injection| injector.schedule(injection));
        injector
    }

    fn schedule(self: &Arc<Self>, injection: Injection) {
        let Point::Millisecond(at) = injection.at else { return };
        let injector = Arc::clone(self);
        tokio::spawn(async move {
            sleep(Duration::from_millis(at)).await;
            injector.strike(injection.fault, "", "");
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All points that were passed so far, in order.
    pub fn points(&self) -> Vec<Point> {
        self.state().points.clone()
    }

    /// Faults whose point has not come.
    pub fn pending(&self) -> Vec<Injection> {
        self.state().branches.injections().cloned().collect()
    }

    /// The plans that this process carries out.
    pub fn branches(&self) -> Branches {
        self.state().branches.clone()
    }

    /// The end of the last fault.
    pub fn last_fault(&self) -> Option<Instant> {
        let state = self.state();
        state.outages.iter().map(|outage| outage.until).chain(state.last_fault).max()
    }

    pub fn ledger(&self) -> Ledger {
        self.state().ledger.clone()
    }

    /// Lets `witness` look at each accepted write. The first one stays.
    pub fn set_witness(&self, witness: Witness) {
        drop(self.witness.set(witness));
    }

    /// An oracle has found a violation.
    pub fn add_violation(&self, violation: String) {
        self.state().ledger.add_all(vec![violation]);
    }

    /// Somebody else has just changed objects of operators or external systems.
    pub fn note_foreign_change(&self) {
        self.state().last_foreign_change = Some(Instant::now());
    }

    /// Another holder has the operator's lease until the operator writes it again.
    pub fn note_lost_lease(&self, operator: &str) {
        self.state().lost_leases.insert(operator.to_owned(), Instant::now());
    }

    /// The server was restored from a backup.
    pub fn note_restore(&self) {
        self.state().ledger.note_restore();
    }

    /// From now on users do not recreate deleted objects.
    pub fn stop_recreating(&self) {
        self.state().keeps_deleted = true;
    }

    /// Whether users recreate deleted objects.
    pub fn is_recreating(&self) -> bool {
        !self.state().keeps_deleted
    }

    /// Delays each request from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Leaves requests for objects of this name unanswered from now on.
    pub fn hang(&self, name: &str) {
        self.state().hanging.insert(name.to_owned());
    }

    /// The fault that strikes a pod which begins this work.
    pub fn fault_of_work(&self, kind: &str) -> Option<Fault> {
        let fault = self.take_fault(|nth| Point::Work(WorkId { kind: kind.to_owned(), nth }));
        if fault.is_some_and(|fault| fault.course().is_some()) {
            self.extend_faults(COURSE);
        }
        fault
    }

    /// A user creates `object` again after a while.
    pub fn recreate_later(self: &Arc<Self>, object: Value, after: Duration) {
        let injector = Arc::clone(self);
        self.extend_faults(after);
        tokio::spawn(async move {
            sleep(after).await;
            injector.send(Command::Recreate(object));
        });
    }

    /// Counts the point, and takes the fault that is planned for it.
    pub(super) fn take_fault(&self, point: impl Fn(u32) -> Point) -> Option<Fault> {
        let mut state = self.state();
        let count = state.counts.entry(point(0)).or_default();
        *count += 1;
        let point = point(*count);
        let fault = state.branches.part(&point);
        state.points.push(point);
        if let Some(fault) = fault {
            state.last_fault = Some(Instant::now());
            if fault.is_foreign() {
                state.last_foreign_change = state.last_fault;
            }
        }
        fault
    }

    /// Begins a fault that concerns more than one request.
    pub(super) fn strike(self: &Arc<Self>, fault: Fault, by: &str, kind: &str) {
        self.extend_faults(Duration::ZERO);
        let by = by.to_owned();
        let command = match fault {
            Fault::Partition => return self.begin_outage(fault, &by, ""),
            Fault::ServerDown => return self.begin_outage(fault, "", ""),
            Fault::CrashBefore | Fault::CrashAfter => Command::Crash(by),
            Fault::TwoLeaders => {
                self.state().ledger.note_rivals();
                Command::SecondLeader(by)
            }
            Fault::Terminated => Command::Terminate(by),
            Fault::LeaseTaken => Command::TakeLease(by),
            Fault::ClockAhead => Command::Clock(by, CLOCK_ERROR),
            Fault::ClockBehind => Command::Clock(by, -CLOCK_ERROR),
            Fault::Restored => Command::Restore,
            Fault::TypeRemoved => Command::RemoveType(kind.to_owned()),
            Fault::NamespaceEnds => Command::EndNamespace,
            Fault::InputRecreated => Command::RecreateInput,
            Fault::UpstreamFlaps => Command::FlapSource,
            _ => Command::AllCrash,
        };
        self.send(command);
    }

    fn send(&self, command: Command) {
        // The receiver ends with the cluster.
        let _ = self.commands.send(command);
    }

    /// Faults last at least until `after` from now.
    pub(super) fn extend_faults(&self, after: Duration) {
        self.state().last_fault = Some(Instant::now() + after);
    }

    /// Refuses requests from now on: of all operators if `by` is empty, for all kinds if `kind` is empty.
    pub(super) fn begin_outage(&self, fault: Fault, by: &str, kind: &str) {
        let (by, kind) = (by.to_owned(), kind.to_owned());
        self.state().outages.push(Outage { until: Instant::now() + OUTAGE, fault, by, kind });
    }

    pub(super) fn outage(&self, by: &str, kind: &str, is_write: bool) -> Option<Outage> {
        self.state().outages.iter().find(|outage| outage.hits(by, kind, is_write)).cloned()
    }

    /// Counts a request, and returns its delay. None: it is never answered.
    pub(super) fn admit(&self, request: &OperatorRequest) -> Option<Duration> {
        let mut state = self.state();
        // A leader renews its lease for as long as a plan lasts.
        if request.kind != "leases" {
            state.ledger.count_request(&request.by);
        }
        (!state.hanging.contains(&request.name)).then_some(state.latency)
    }

    /// Records a write that the server has answered.
    pub(super) fn record_write(&self, request: &OperatorRequest, code: u16) {
        let revision = self.server.revision();
        let seen = self.witness.get().filter(|_| (200..300).contains(&code));
        let seen = seen.map(|witness| witness(request)).unwrap_or_default();
        let mut state = self.state();
        if state.last_foreign_change.is_none_or(|at| at.elapsed() > NOTICED) {
            state.ledger.add_all(seen);
        }
        state.revisions.push_back((Instant::now(), revision));
        if !(200..300).contains(&code) {
            return;
        }
        state.ledger.check_write(request);
        let is_usurper = state.lost_leases.get(&request.by).is_some_and(|at| at.elapsed() > LOSS_NOTICED);
        if request.kind == "leases" {
            state.lost_leases.remove(&request.by);
        } else if is_usurper {
            state.ledger.add_usurper(request);
        }
    }

    /// A revision that was current some time ago.
    pub(super) fn earlier_revision(&self) -> u64 {
        let state = self.state();
        let old = state.revisions.iter().take_while(|(at, _)| at.elapsed() > LATE * 2).last();
        old.or(state.revisions.front()).map_or(1, |(_, revision)| *revision)
    }

    /// The next list of a kind comes from a server that is behind, and the watch after it begins late.
    pub(super) fn make_stale(&self, by: &str, kind: &str) {
        let mut state = self.state();
        state.stale.insert((by.to_owned(), kind.to_owned()));
        state.late.insert((by.to_owned(), kind.to_owned()));
    }

    pub(super) fn take_stale(&self, by: &str, kind: &str) -> bool {
        self.state().stale.remove(&(by.to_owned(), kind.to_owned()))
    }

    pub(super) fn take_late(&self, by: &str, kind: &str) -> bool {
        self.state().late.remove(&(by.to_owned(), kind.to_owned()))
    }

    /// The next list of a kind holds an object that cannot be decoded.
    pub(super) fn make_undecodable(&self, by: &str, kind: &str) {
        self.state().undecodable.insert((by.to_owned(), kind.to_owned()));
    }

    pub(super) fn take_undecodable(&self, by: &str, kind: &str) -> bool {
        self.state().undecodable.remove(&(by.to_owned(), kind.to_owned()))
    }
}
