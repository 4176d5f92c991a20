//! One plan for every write, every notification and every piece of work of a run without faults.

use crate::{
    oracle,
    plan::{Fault, Injection, Plan, Point},
    scenario::{self, Scenario},
    users,
    world::World,
};
use k8s_openapi::api::core::v1::Pod;
use mlop_api::labels;
use serde_json::Value;
use std::{collections::BTreeMap, future::Future, time::Duration};
use tokio::time::{Instant, sleep};

/// How long nothing may be written after everything has settled.
const QUIET: Duration = Duration::from_secs(90);
/// Time to settle after the last goal and the last fault: clean-up of earlier activations, late passes, the longest
/// pause that faults of 20 s can lead to.
const SETTLE: Duration = Duration::from_secs(90);
/// After this time the pods of finished runs are gone.
const LOGS_KEPT: Duration = Duration::from_secs(3_700);
/// Requests of one operator in one run; a run without faults makes a few hundred.
pub const REQUESTS_MAX: u64 = 4_000;

/// A run without faults: where faults can strike, and what must come of it.
pub struct Reference {
    pub scenario: Scenario,
    pub points: Vec<Point>,
    end: Value,
    published: Value,
    digests: Value,
    done: BTreeMap<&'static str, u32>,
    moves: BTreeMap<String, u32>,
    created: BTreeMap<(String, String), u32>,
}

/// What came of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Violations, each beginning with its oracle's name; none: it holds.
    pub failures: Vec<String>,
    pub trace: u64,
    /// Faults whose point never came: the plan does not fit the code any more.
    pub unused: usize,
    /// Where everything stood in the end, if something does not hold.
    pub end: Value,
}

/// Runs something in its own virtual time.
pub fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime without input and output").block_on(future)
}

impl Reference {
    /// Plays the scenario without faults.
    ///
    /// # Errors
    /// What does not hold even so.
    pub fn of(scenario: Scenario) -> Result<Self, String> {
        in_virtual_time(async {
            let world = World::start();
            scenario.play(&world, &[], None).await?;
            let points = world.injector.points();
            sleep(LOGS_KEPT).await;
            let writes = writes(&world);
            sleep(Duration::from_secs(3_600)).await;
            let more = writes_since(&world, writes);
            if let Some(write) = more.first() {
                return Err(format!("quiet: {write} within an hour in which nothing changed"));
            }
            let mut failures = invariants(&world);
            failures.extend(idle_writes(&world));
            if let Some(failure) = failures.first() {
                return Err(failure.clone());
            }
            let outside = world.outside();
            if scenario == Scenario::NewData {
                for work in users::WORKS.map(users::Work::name) {
                    let pods = outside.done.get(work).copied().unwrap_or_default();
                    if pods != 2 {
                        return Err(format!(
                            "exactly once: {pods} pods of {work} for two states of the data"
                        ));
                    }
                }
            }
            if let Some(pod) = ended_runs_pod(&world) {
                return Err(format!("nothing leaked: the pod {pod} of an ended run is there after hours"));
            }
            Ok(Self {
                scenario,
                points,
                end: oracle::end_state(&world),
                published: oracle::published_state(&world),
                digests: oracle::digests(&world),
                done: outside.done.clone(),
                moves: by_kind(&outside.moves),
                created: world.injector.ledger().created,
            })
        })
    }

    /// Every plan with one fault, but for points that `earlier` comes to in the same way.
    pub fn plans(&self, earlier: Option<&Self>) -> Vec<Plan> {
        let same = earlier.map_or(0, |earlier| {
            self.points.iter().zip(&earlier.points).take_while(|(ours, theirs)| ours == theirs).count()
        });
        let mut plans = Vec::new();
        for point in self.points.iter().skip(same) {
            plans.extend(self.faults_at(point).into_iter().map(|fault| Plan {
                scenario: self.scenario,
                users: Vec::new(),
                faults: vec![Injection { at: point.clone(), fault }],
            }));
        }
        plans
    }

    /// What can go wrong at a point.
    pub fn faults_at(&self, point: &Point) -> Vec<Fault> {
        match point {
            Point::Write(write) => Fault::AT_WRITES
                .iter()
                .chain(Fault::OF_THE_WORLD)
                .copied()
                .filter(|fault| fits(*fault, &write.verb, &write.kind))
                .filter(|fault| !(self.scenario.needs(&write.kind) && fault.deletes()))
                .collect(),
            Point::Notification(_) => Fault::AT_NOTIFICATIONS.to_vec(),
            Point::Work(_) => Fault::AT_WORK.to_vec(),
            Point::Millisecond(_) => Vec::new(),
        }
    }

    /// Carries a plan out and judges it.
    pub fn judge(&self, plan: &Plan) -> Verdict {
        in_virtual_time(async {
            let world = World::under(plan.faults.clone());
            let played = if plan.has(&[Fault::NamespaceEnds]) {
                self.scenario.play_until_the_namespace_ends(&world, &plan.users, &self.digests).await
            } else {
                self.scenario.play(&world, &plan.users, Some(&self.digests)).await
            };
            settle(&world).await;
            let mut failures = Vec::from_iter(played.err());
            let before = writes(&world);
            sleep(QUIET).await;
            let late = writes_since(&world, before);
            failures.extend(late.first().map(|write| format!("quiet: {write} after everything had settled")));
            failures.extend(invariants(&world));
            failures.extend(self.compare(plan, &world));
            let end = if failures.is_empty() { Value::Null } else { oracle::end_state(&world) };
            Verdict { failures, trace: world.sim.trace_hash(), unused: world.injector.pending().len(), end }
        })
    }

    fn compare(&self, plan: &Plan, world: &World) -> Vec<String> {
        let mut failures = Vec::new();
        let ends = |faults: &[Injection]| {
            faults.iter().filter(|injection| injection.fault == Fault::NamespaceEnds).count()
        };
        let namespace_ended = ends(&plan.faults) > ends(&world.injector.pending());
        if self.scenario.leaves_nothing() || namespace_ended {
            let left = scenario::leftovers(world);
            if !left.is_empty() {
                failures.push(format!("nothing leaked: {} left", left.join(", ")));
            }
            return failures;
        }
        let restless = self.scenario == Scenario::Restless || plan.has(&[Fault::UpstreamFlaps]);
        let changed = restless || plan.faults.iter().any(|injection| injection.fault.changes_objects());
        let difference = if restless {
            oracle::difference(&self.digests, &oracle::digests(world))
        } else if changed {
            oracle::difference(&self.published, &oracle::published_state(world))
        } else {
            oracle::difference(&self.end, &oracle::end_state(world))
        };
        failures.extend(difference.map(|difference| format!("end state: {difference}")));
        // Of two leaders that see different inputs each undoes the other's work while both last.
        let quarrel = plan.has(&[Fault::TwoLeaders]) && plan.has(Fault::AT_NOTIFICATIONS);
        if changed || quarrel {
            return failures;
        }
        // What a process has written itself it sees, however old the cache; the next process does not.
        let forgotten = plan.has(&[Fault::TimeTravel]) && plan.has(&[Fault::CrashBefore, Fault::Terminated]);
        if !forgotten && !plan.faults.iter().any(|injection| injection.fault.loses_answers()) {
            failures.extend(idle_writes(world).into_iter().next());
        }
        let outside = world.outside();
        if outside.done != self.done {
            failures
                .push(format!("exactly once: pods by work {:?} instead of {:?}", outside.done, self.done));
        }
        if by_kind(&outside.moves) != self.moves {
            failures.push(format!(
                "exactly once: pointers moved {:?} instead of {:?}",
                outside.moves, self.moves
            ));
        }
        failures.extend(unusual(&self.created, &world.injector.ledger().created));
        failures
    }
}

/// The first object, by kind and name, that was created another number of times than usual.
pub fn unusual(
    usual: &BTreeMap<(String, String), u32>,
    created: &BTreeMap<(String, String), u32>,
) -> Option<String> {
    let mut created = created.iter().filter(|(object, _)| !stands_in(object));
    let (object, times) = created.find(|(object, times)| usual.get(*object) != Some(*times))?;
    let usual = usual.get(object).copied().unwrap_or_default();
    Some(format!("creations: {object:?} {times} times instead of {usual}"))
}

/// Whether it is a pod that activates and does nothing else. Whether one is needed depends on whether what it needs was
/// there when the run's pod started.
fn stands_in((kind, name): &(String, String)) -> bool {
    kind == "pods" && name.rsplit_once("-a").is_some_and(|(_, number)| number.parse::<u32>().is_ok())
}

/// A pod of a run that has ended. The last attempt's stays for its logs for a while.
fn ended_runs_pod(world: &World) -> Option<String> {
    let pods = world.sim.list::<Pod>();
    let of_run = |pod: &&Pod| {
        let is_run = pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(labels::RUN));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        is_run && matches!(phase, Some("Succeeded" | "Failed"))
    };
    pods.iter().find(of_run).and_then(|pod| pod.metadata.name.clone())
}

/// Names without uids.
fn by_kind(moves: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut sum = BTreeMap::new();
    for (name, count) in moves {
        let stem: Vec<&str> = name.split(' ').take(2).collect();
        *sum.entry(stem.join(" ")).or_default() += count;
    }
    sum
}

/// Faults that would have no meaning there.
pub fn fits(fault: Fault, verb: &str, kind: &str) -> bool {
    match fault {
        Fault::NameTaken | Fault::QuotaExceeded => verb == "create",
        Fault::Deleted => verb != "create",
        // Nobody would notice the loss or the edit of a message.
        Fault::AnswerOvertaken => verb == "create" && kind != "events",
        Fault::ChildDeleted | Fault::ChildEdited => verb != "delete" && kind != "events",
        Fault::Restored | Fault::InputRecreated | Fault::UpstreamFlaps | Fault::AllCrash => kind != "events",
        _ => true,
    }
}

/// Waits until the last fault is over and its consequences too.
async fn settle(world: &World) {
    if let Some(end) = world.injector.last_fault() {
        let rest = end.saturating_duration_since(Instant::now());
        sleep(rest).await;
    }
    sleep(SETTLE).await;
}

fn writes(world: &World) -> usize {
    world.sim.writes().len()
}

fn writes_since(world: &World, before: usize) -> Vec<String> {
    let counts =
        |write: &&mlop_sim::Write| write.field_manager != "somebody" && !write.resource.starts_with("leases");
    let all = world.sim.writes();
    let late = all.iter().skip(before).filter(counts);
    late.map(|w| format!("{} of {} {} {}", w.verb, w.resource, w.name, w.subresource)).collect()
}

/// Writes that changed nothing. With faults there are some: a write whose answer was lost is made again.
fn idle_writes(world: &World) -> Vec<String> {
    let all = world.sim.writes();
    let idle = all.iter().filter(|write| write.code < 300 && !write.changed);
    idle.map(|w| format!("quiet: {} of {} {} {} changed nothing", w.verb, w.resource, w.name, w.subresource))
        .collect()
}

/// What must hold after any plan.
fn invariants(world: &World) -> Vec<String> {
    let ledger = world.injector.ledger();
    let mut failures = ledger.violations.clone();
    failures.extend(world.ended().into_iter().map(|what| format!("process truth: {what}")));
    for (by, requests) in ledger.requests {
        if requests > REQUESTS_MAX {
            failures.push(format!("bounded pressure: {by} made {requests} requests"));
        }
    }
    failures.extend(oracle::outside(world, &world.outside()));
    failures
}

/// The smallest plan that still fails, by leaving out one fault or deed after the other.
pub fn shrink(reference: &Reference, plan: &Plan) -> Plan {
    let mut smallest = plan.clone();
    let mut index = 0;
    while index < smallest.faults.len() + smallest.users.len() {
        let mut smaller = smallest.clone();
        match index.checked_sub(smallest.faults.len()) {
            None => drop(smaller.faults.remove(index)),
            Some(index) => drop(smaller.users.remove(index)),
        }
        if reference.judge(&smaller).failures.is_empty() {
            index += 1;
        } else {
            smallest = smaller;
        }
    }
    smallest
}
