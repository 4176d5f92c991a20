//! The run of a scenario without faults, and its comparison with runs under a plan.

use crate::{
    check::{
        self, end_state,
        end_state::{difference, digests, published_state},
        unusual_creation, write_since, writes,
    },
    cluster::Cluster,
    inject::{Branch, Branches},
    plan::{Fault, Injection, Plan, Point, Scenario, Work},
    scenario::{leftovers, play, play_until_namespace_ends},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, future::Future, time::Duration};
use tokio::time::{Instant, sleep};

/// No operator may write for this time after everything has settled.
const QUIET: Duration = Duration::from_secs(90);
/// Time to settle after the last goal and the last fault: the clean-up of earlier activations, late reconciles, and the
/// longest backoff after faults of 20 s.
const SETTLE: Duration = Duration::from_secs(90);
/// Probes that a fault has held up have been repeated after this time.
const PROBES_END: Duration = Duration::from_secs(1_200);
/// The pods of finished runs are gone after this time.
const LOGS_KEPT: Duration = Duration::from_secs(3_700);
/// No operator may write for this time after a run without faults.
const IDLE: Duration = Duration::from_secs(3_600);

/// A run without faults: the points where faults can strike, and the wanted outcome.
pub struct Baseline {
    pub scenario: Scenario,
    pub points: Vec<Point>,
    end: Value,
    published: Value,
    digests: Value,
    started: BTreeMap<&'static str, u32>,
    moves: BTreeMap<String, u32>,
    created: BTreeMap<(String, String), u32>,
}

/// The outcome of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Violations, each beginning with its oracle's name. None: the plan holds.
    pub failures: Vec<String>,
    pub trace: u64,
    /// Faults whose point never came: the plan does not fit today's code.
    pub unused: usize,
    /// The state of all objects, if there are violations.
    #[serde(skip)]
    pub end: Value,
}

impl Verdict {
    /// That of a plan whose process died.
    pub fn missing() -> Self {
        let failures = vec!["process truth: the harness died with this plan".to_owned()];
        Self { failures, trace: 0, unused: 0, end: Value::Null }
    }
}

/// The outcome of plans with the same beginning.
#[derive(Default)]
pub struct Judged {
    /// The verdicts of the plans that ended in this process, with their numbers. The others ended in forks of it.
    pub verdicts: Vec<(usize, Verdict)>,
    /// Whether this process is a fork of the one that began.
    pub is_fork: bool,
}

/// Runs a future in its own virtual time.
pub fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime without input and output").block_on(future)
}

impl Baseline {
    /// Plays the scenario without faults.
    ///
    /// # Errors
    /// The first violation.
    pub fn of(scenario: Scenario) -> Result<Self, String> {
        in_virtual_time(async {
            let cluster = Cluster::start();
            check::watch(&cluster);
            play(scenario, &cluster, &[], None).await?;
            let points = cluster.injector.points();
            sleep(LOGS_KEPT).await;
            let before = writes(&cluster);
            sleep(IDLE).await;
            if let Some(write) = write_since(&cluster, before) {
                return Err(format!("quiet: {write} within an hour in which nothing changed"));
            }
            let violation = check::violations(&cluster).into_iter().chain(check::idle_write(&cluster)).next();
            if let Some(violation) = violation {
                return Err(violation);
            }
            if let Some(pod) = check::pod_of_ended_run(&cluster) {
                return Err(format!("nothing leaked: the pod {pod} of an ended run exists after hours"));
            }
            let external = cluster.external();
            let wrong =
                Work::ALL.map(Work::name).into_iter().find(|work| external.started.get(work) != Some(&2));
            if let Some(work) = wrong.filter(|_| scenario == Scenario::NewData) {
                let pods = external.started.get(work).copied().unwrap_or_default();
                return Err(format!("exactly once: {pods} pods of {work} for two states of the data"));
            }
            Ok(Self {
                scenario,
                points,
                end: end_state::end_state(&cluster.sim),
                published: published_state(&cluster.sim),
                digests: digests(&cluster.sim),
                started: external.started.clone(),
                moves: by_kind(&external.moves),
                created: cluster.injector.ledger().created,
            })
        })
    }

    /// Every plan with one fault, except at the points that it shares with `earlier`, and at those of operators that work in
    /// this scenario as in that.
    pub fn plans(&self, earlier: Option<&Self>) -> Vec<Plan> {
        let shared = earlier.map_or(0, |earlier| {
            self.points.iter().zip(&earlier.points).take_while(|(ours, theirs)| ours == theirs).count()
        });
        let mut plans = Vec::new();
        let operators = self.scenario.operators();
        let is_new =
            |point: &&Point| operators.is_empty() || operators.iter().any(|operator| point.is_of(operator));
        for point in self.points.iter().skip(shared).filter(is_new) {
            plans.extend(self.faults_at(point).into_iter().map(|fault| Plan {
                scenario: self.scenario,
                users: Vec::new(),
                faults: vec![Injection { at: point.clone(), fault }],
            }));
        }
        plans
    }

    /// The faults that can strike at a point.
    pub fn faults_at(&self, point: &Point) -> Vec<Fault> {
        match point {
            Point::Write(write) => Fault::AT_WRITES
                .iter()
                .chain(Fault::OF_THE_CLUSTER)
                .copied()
                .filter(|fault| fault.fits(&write.verb, &write.kind))
                .filter(|fault| !self.scenario.excludes(*fault, &write.kind))
                .collect(),
            Point::Notification(_) => Fault::AT_NOTIFICATIONS.to_vec(),
            Point::Work(_) => [Fault::AT_WORK, Fault::AT_PODS].concat(),
            Point::Millisecond(_) => Vec::new(),
        }
    }

    /// Carries out a plan and checks the outcome.
    pub fn judge(&self, plan: &Plan) -> Verdict {
        let judged = self.judge_together(&[plan]);
        judged.verdicts.into_iter().map(|(_, verdict)| verdict).next().unwrap_or_else(Verdict::missing)
    }

    /// Carries out plans with the same [beginning](Plan::beginning) and checks their outcome. Where they differ, the process
    /// forks: it must have one thread.
    pub fn judge_together(&self, plans: &[&Plan]) -> Judged {
        let Some(first) = plans.first() else { return Judged::default() };
        in_virtual_time(async {
            let cluster = Cluster::under(Branches::new(plans.iter().map(|plan| plan.faults.clone())));
            check::watch(&cluster);
            let played = if first.has(&[Fault::NamespaceEnds]) {
                play_until_namespace_ends(self.scenario, &cluster, &first.users, &self.digests).await
            } else {
                play(self.scenario, &cluster, &first.users, Some(&self.digests)).await
            };
            settle(&cluster).await;
            let mut failures = Vec::from_iter(played.err());
            let (before, settled) = (writes(&cluster), Instant::now());
            sleep(QUIET).await;
            let is_quiet = cluster.injector.last_fault().is_none_or(|struck| struck <= settled);
            let late = write_since(&cluster, before).filter(|_| is_quiet);
            if !is_quiet {
                settle(&cluster).await;
            }
            failures.extend(late.map(|write| format!("quiet: {write} after everything had settled")));
            failures.extend(check::violations(&cluster));
            let branches = cluster.injector.branches();
            let verdict = |branch: &Branch| {
                let plan = plans[branch.plan];
                (branch.plan, self.verdict(plan, &branch.pending, failures.clone(), &cluster))
            };
            let verdicts = branches.plans().iter().map(verdict).collect();
            Judged { verdicts, is_fork: branches.is_fork() }
        })
    }

    fn verdict(
        &self,
        plan: &Plan,
        pending: &[Injection],
        mut failures: Vec<String>,
        cluster: &Cluster,
    ) -> Verdict {
        failures.extend(self.compare(plan, pending, cluster));
        let end = if failures.is_empty() { Value::Null } else { end_state::end_state(&cluster.sim) };
        Verdict { failures, trace: cluster.sim.trace_hash(), unused: pending.len(), end }
    }

    fn compare(&self, plan: &Plan, pending: &[Injection], cluster: &Cluster) -> Vec<String> {
        let ends = |faults: &[Injection]| {
            faults.iter().filter(|injection| injection.fault == Fault::NamespaceEnds).count()
        };
        let namespace_ended = ends(&plan.faults) > ends(pending);
        if self.scenario.leaves_nothing() || namespace_ended {
            let left = leftovers(cluster);
            let failure = format!("nothing leaked: {} left", left.join(", "));
            return if left.is_empty() { Vec::new() } else { vec![failure] };
        }
        let is_restless = self.scenario == Scenario::Restless || plan.has(&[Fault::UpstreamFlaps]);
        let changes_objects =
            is_restless || plan.faults.iter().any(|injection| injection.fault.changes_objects());
        let difference = if is_restless {
            difference(&self.digests, &digests(&cluster.sim))
        } else if changes_objects {
            difference(&self.published, &published_state(&cluster.sim))
        } else {
            difference(&self.end, &end_state::end_state(&cluster.sim))
        };
        let mut failures: Vec<String> =
            difference.map(|difference| format!("end state: {difference}")).into_iter().collect();
        // Two leaders that see different inputs undo each other's work while both last.
        let has_quarrel = plan.has(&[Fault::TwoLeaders]) && plan.has(Fault::AT_NOTIFICATIONS);
        if !changes_objects && !has_quarrel {
            failures.extend(self.compare_work(plan, cluster));
        }
        failures
    }

    /// Faults that change no object cost no work and no write.
    fn compare_work(&self, plan: &Plan, cluster: &Cluster) -> Vec<String> {
        let mut failures = Vec::new();
        // A process knows its own writes, however stale the cache. The next process does not.
        let forgets = plan.has(&[Fault::TimeTravel]) && plan.has(&[Fault::CrashBefore, Fault::Terminated]);
        if !forgets && !plan.faults.iter().any(|injection| injection.fault.loses_answers()) {
            failures.extend(check::idle_write(cluster));
        }
        let external = cluster.external();
        let (found, wanted) = (counted(&external.started), counted(&self.started));
        if found != wanted {
            failures.push(format!("exactly once: pods by work {found:?} instead of {wanted:?}"));
        }
        if by_kind(&external.moves) != self.moves {
            let (found, wanted) = (&external.moves, &self.moves);
            failures.push(format!("exactly once: pointers moved {found:?} instead of {wanted:?}"));
        }
        failures.extend(unusual_creation(&self.created, &cluster.injector.ledger().created));
        failures
    }

    /// The smallest plan that still fails, by leaving out one fault or operation after the other.
    pub fn shrink(&self, plan: &Plan) -> Plan {
        let mut smallest = plan.clone();
        let mut index = 0;
        while index < smallest.faults.len() + smallest.users.len() {
            let mut smaller = smallest.clone();
            match index.checked_sub(smallest.faults.len()) {
                None => drop(smaller.faults.remove(index)),
                Some(index) => drop(smaller.users.remove(index)),
            }
            if self.judge(&smaller).failures.is_empty() {
                index += 1;
            } else {
                smallest = smaller;
            }
        }
        smallest
    }
}

/// The pods by work, without probes, checks and measurements: their number depends on the time that a plan takes.
pub fn counted(started: &BTreeMap<&'static str, u32>) -> BTreeMap<&'static str, u32> {
    started
        .iter()
        .filter(|(work, _)| !matches!(**work, "probe" | "check" | "analyze"))
        .map(|(work, pods)| (*work, *pods))
        .collect()
}

/// Sums of moves by kind and name of the pointer, without its owner's uid.
fn by_kind(moves: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut sums = BTreeMap::new();
    for (name, count) in moves {
        let stem: Vec<&str> = name.split(' ').take(2).collect();
        *sums.entry(stem.join(" ")).or_default() += count;
    }
    sums
}

/// Waits until the last fault and its consequences are over. Connections are probed for as long as they exist, so a fault
/// can strike while this waits.
async fn settle(cluster: &Cluster) {
    loop {
        let last = cluster.injector.last_fault();
        if let Some(end) = last {
            sleep(end.saturating_duration_since(Instant::now())).await;
        }
        sleep(SETTLE).await;
        // A probe that is held up is repeated after its deadline. If that takes longer, the end state tells.
        cluster.within(PROBES_END, |cluster| !check::is_probing(cluster)).await;
        if cluster.injector.last_fault() == last {
            return;
        }
    }
}
