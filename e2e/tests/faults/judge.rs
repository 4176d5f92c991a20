//! Which plans there are for a real server, and what must hold of each.

use crate::{
    control_plane::ControlPlane,
    world::{World, is_write},
};
use anyhow::{Context as _, Result, bail, ensure};
use mlop_faults::{
    check::{
        end_state::{difference, end_state, published_state},
        unusual_creation, wrong_pointers,
    },
    plan::{Fault, Injection, Plan, Point, Scenario, stable},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

/// How long nothing may be written after everything has settled.
const QUIET: Duration = Duration::from_secs(3);

/// Faults at writes that an operator gets over within seconds.
const QUICK: &[Fault] = &[
    Fault::CrashAfter,
    Fault::CrashBefore,
    Fault::AnswerLost,
    Fault::Conflict,
    Fault::TooManyRequests,
    Fault::InternalError,
    Fault::Unavailable,
    Fault::Timeout,
    Fault::TimeoutAfterCommit,
    Fault::Invalid,
    Fault::ChildEdited,
    Fault::ChildDeleted,
    Fault::AnswerOvertaken,
    Fault::NoAnswer,
    Fault::AllCrash,
];
/// Those that last for 20 s and more.
const SLOW: &[Fault] = &[
    Fault::Partition,
    Fault::ServerDown,
    Fault::Forbidden,
    Fault::QuotaExceeded,
    Fault::NameTaken,
    Fault::Deleted,
];
/// Faults at notifications. A watch that stays silent would last until the server ends it, after minutes.
const OF_WATCHES: &[Fault] =
    &[Fault::Delayed, Fault::Skipped, Fault::Duplicated, Fault::Reset, Fault::Gone, Fault::TimeTravel];

/// All faults that a real server and real processes can have.
pub fn faults() -> impl Iterator<Item = Fault> {
    [QUICK, SLOW, OF_WATCHES, Fault::AT_WORK].into_iter().flatten().copied()
}

/// What can go wrong at a point.
fn faults_at(point: &Point) -> Vec<Fault> {
    match point {
        Point::Write(write) => {
            let all = QUICK.iter().chain(SLOW).copied();
            all.filter(|fault| fault.fits(&write.verb, &write.kind)).collect()
        }
        Point::Notification(_) => OF_WATCHES.to_vec(),
        Point::Work(_) => Fault::AT_WORK.to_vec(),
        Point::Millisecond(_) => Vec::new(),
    }
}

/// A run without faults.
pub struct Reference {
    /// What every such run comes to.
    pub points: Vec<Point>,
    end: Value,
    published: Value,
    done: BTreeMap<&'static str, u32>,
    created: BTreeMap<(String, String), u32>,
}

/// What came of a plan.
pub struct Verdict {
    /// Violations, each beginning with its oracle's name; none: it holds.
    pub failures: Vec<String>,
    /// Whether the fault's point never came.
    pub unused: bool,
}

/// Where everything stands in the end.
struct Outcome {
    points: Vec<Point>,
    end: Value,
    published: Value,
    done: BTreeMap<&'static str, u32>,
    created: BTreeMap<(String, String), u32>,
    /// Where something else is active than is published.
    outside: Vec<String>,
}

/// Where plans are carried out.
pub struct Bench {
    pub plane: ControlPlane,
    /// Folder of the operators' programs.
    pub programs: PathBuf,
    /// Folder for the logs of what failed.
    pub failures: PathBuf,
}

impl Bench {
    /// Plays the scenario twice at the same time without faults.
    ///
    /// # Errors
    /// What does not hold even so.
    pub async fn reference(&self) -> Result<Reference> {
        let (first, second) = tokio::try_join!(self.without_faults("first"), self.without_faults("second"))?;
        if let Some(difference) = difference(&first.end, &second.end) {
            bail!("two runs without faults end differently: {difference}");
        }
        ensure!(first.done == second.done, "exactly once: {:?}, then {:?}", first.done, second.done);
        let common: BTreeSet<_> = second.points.iter().collect();
        let points = first.points.into_iter().filter(|point| common.contains(point)).collect();
        let Outcome { end, published, done, created, .. } = first;
        Ok(Reference { points, end, published, done, created })
    }

    async fn without_faults(&self, name: &str) -> Result<Outcome> {
        let world = World::start(&self.plane, &self.programs, name, Vec::new()).await?;
        let (outcome, mut failures) = (outcome(&world).await, invariants(&world));
        match &outcome {
            Ok(outcome) => failures.extend(outcome.outside.iter().cloned()),
            Err(error) => failures.push(format!("{error:#}")),
        }
        if !failures.is_empty() {
            let logs = self.keep(name)?;
            bail!("without any fault: {}\nlogs are in {}", failures.join("; "), logs.display());
        }
        outcome
    }

    /// Carries a plan out in the namespace `name`, and judges it.
    ///
    /// # Errors
    /// When it could not be carried out.
    pub async fn judge(&self, reference: &Reference, plan: &Plan, name: &str) -> Result<Verdict> {
        let world = World::start(&self.plane, &self.programs, name, plan.faults.clone()).await?;
        let mut failures = match outcome(&world).await {
            Ok(outcome) => reference.compare(plan, &outcome),
            Err(error) => vec![format!("stable reconciliation: {error:#}")],
        };
        failures.extend(invariants(&world));
        Ok(Verdict { failures, unused: !world.injector.pending().is_empty() })
    }

    /// Keeps the logs of the operators of the namespace `name`; where.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn keep(&self, name: &str) -> Result<PathBuf> {
        let kept = self.failures.join(name);
        fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
        for entry in fs::read_dir(self.plane.folder().join(name))? {
            let file = entry?.path();
            fs::copy(&file, kept.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(kept)
    }
}

async fn outcome(world: &World) -> Result<Outcome> {
    world.play().await?;
    world.settle(QUIET).await?;
    let (objects, outside) = (world.objects().await?, world.outside());
    Ok(Outcome {
        points: world.injector.points(),
        end: end_state(&objects),
        published: published_state(&objects),
        done: outside.started.clone(),
        created: by_stable_name(world.injector.ledger().created),
        outside: wrong_pointers(&objects, &outside),
    })
}

/// Names of pods hold uids.
fn by_stable_name(created: BTreeMap<(String, String), u32>) -> BTreeMap<(String, String), u32> {
    let mut sum = BTreeMap::new();
    for ((kind, name), times) in created {
        *sum.entry((kind, stable(&name))).or_default() += times;
    }
    sum
}

/// What must hold after any plan.
fn invariants(world: &World) -> Vec<String> {
    let mut failures = world.injector.ledger().failures();
    failures.extend(world.ended().into_iter().map(|what| format!("process truth: {what}")));
    failures
}

impl Reference {
    /// One plan for every write, with one fault after the other.
    pub fn plans(&self) -> Vec<Plan> {
        let mut turn = QUICK.iter().cycle();
        let writes = self.points.iter().filter(|point| is_write(point));
        let plan = |point: &Point| {
            let fitting = faults_at(point);
            // Some fault fits everywhere, so one turn finds it.
            let fault = turn.by_ref().take(QUICK.len()).find(|fault| fitting.contains(fault))?;
            Some(Self::plan(point, *fault))
        };
        writes.filter_map(plan).collect()
    }

    /// A plan for every point at which one of `faults` can be, and for each of them.
    pub fn plans_with(&self, faults: &[Fault]) -> Vec<Plan> {
        let at = |point| {
            let fitting = faults_at(point).into_iter().filter(|fault| faults.contains(fault));
            fitting.map(|fault| Self::plan(point, fault)).collect::<Vec<_>>()
        };
        self.points.iter().flat_map(at).collect()
    }

    fn plan(point: &Point, fault: Fault) -> Plan {
        let faults = vec![Injection { at: point.clone(), fault }];
        Plan { scenario: Scenario::NewData, users: Vec::new(), faults }
    }

    fn compare(&self, plan: &Plan, outcome: &Outcome) -> Vec<String> {
        let mut failures = outcome.outside.clone();
        let changed = plan.faults.iter().any(|injection| injection.fault.changes_objects());
        if changed {
            let found = difference(&self.published, &outcome.published);
            failures.extend(found.map(|difference| format!("end state: {difference}")));
            return failures;
        }
        let found = difference(&self.end, &outcome.end);
        failures.extend(found.map(|difference| format!("end state: {difference}")));
        if outcome.done != self.done {
            let (found, wanted) = (&outcome.done, &self.done);
            failures.push(format!("exactly once: pods by work {found:?} instead of {wanted:?}"));
        }
        failures.extend(unusual_creation(&self.created, &outcome.created));
        failures
    }
}
