//! Trials of fault plans on a real server: the plans, and the checks of their outcomes.

use crate::namespace::{OperatorNamespace, is_write};
use anyhow::{Context as _, Result, bail, ensure};
use mlop_e2e::control_plane::ControlPlane;
use mlop_faults::{
    baseline::counted,
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

/// The time without writes after which a namespace has settled.
const QUIET: Duration = Duration::from_secs(3);

/// Faults at writes from which an operator recovers in seconds.
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
/// Faults at writes that last for 20 s and more.
const SLOW: &[Fault] = &[
    Fault::Partition,
    Fault::ServerDown,
    Fault::Forbidden,
    Fault::QuotaExceeded,
    Fault::NameTaken,
    Fault::Deleted,
];
/// Faults at notifications. A silent watch is not among them, because it lasts for minutes until the server ends it.
const OF_WATCHES: &[Fault] =
    &[Fault::Delayed, Fault::Skipped, Fault::Duplicated, Fault::Reset, Fault::Gone, Fault::TimeTravel];

/// All faults that are possible with a real server and real processes.
pub fn faults() -> impl Iterator<Item = Fault> {
    [QUICK, SLOW, OF_WATCHES, Fault::AT_WORK].into_iter().flatten().copied()
}

/// The possible faults at a point.
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

/// The outcome of runs without faults.
pub struct Baseline {
    /// The points that all runs without faults reach.
    pub points: Vec<Point>,
    end: Value,
    published: Value,
    done: BTreeMap<&'static str, u32>,
    created: BTreeMap<(String, String), u32>,
}

/// The result of a plan.
pub struct Verdict {
    /// Violations, each beginning with the name of its oracle. None if the plan passed.
    pub failures: Vec<String>,
    /// Whether the point of the fault was never reached.
    pub unused: bool,
}

/// The state at the end of a run.
struct Outcome {
    points: Vec<Point>,
    end: Value,
    published: Value,
    done: BTreeMap<&'static str, u32>,
    created: BTreeMap<(String, String), u32>,
    /// Differences between the external systems and the published artifacts.
    outside: Vec<String>,
}

/// The environment of all plans.
pub struct Bench {
    pub plane: ControlPlane,
    /// The directory of the operators' programs.
    pub programs: PathBuf,
    /// The directory for the logs of failed plans.
    pub failures: PathBuf,
}

impl Bench {
    /// Runs the scenario twice concurrently without faults.
    ///
    /// # Errors
    /// A run violates an oracle, or the two runs differ.
    pub async fn baseline(&self) -> Result<Baseline> {
        let (first, second) = tokio::try_join!(self.without_faults("first"), self.without_faults("second"))?;
        if let Some(difference) = difference(&first.end, &second.end) {
            bail!("two runs without faults end differently: {difference}");
        }
        ensure!(
            first.done == second.done,
            "exactly once: {:?} in the first run, {:?} in the second",
            first.done,
            second.done
        );
        let common: BTreeSet<_> = second.points.iter().collect();
        let points = first.points.into_iter().filter(|point| common.contains(point)).collect();
        let Outcome { end, published, done, created, .. } = first;
        Ok(Baseline { points, end, published, done, created })
    }

    async fn without_faults(&self, name: &str) -> Result<Outcome> {
        let namespace = OperatorNamespace::start(&self.plane, &self.programs, name, Vec::new()).await?;
        let (outcome, mut failures) = (outcome(&namespace).await, invariants(&namespace));
        match &outcome {
            Ok(outcome) => failures.extend(outcome.outside.iter().cloned()),
            Err(error) => failures.push(format!("{error:#}")),
        }
        if !failures.is_empty() {
            let logs = self.keep_logs(name)?;
            bail!("without any fault: {}\nlogs are in {}", failures.join("; "), logs.display());
        }
        outcome
    }

    /// Runs a plan in the namespace `name`, and checks its outcome.
    ///
    /// # Errors
    /// The plan could not be run.
    pub async fn judge(&self, baseline: &Baseline, plan: &Plan, name: &str) -> Result<Verdict> {
        let namespace =
            OperatorNamespace::start(&self.plane, &self.programs, name, plan.faults.clone()).await?;
        let mut failures = match outcome(&namespace).await {
            Ok(outcome) => baseline.compare(plan, &outcome),
            Err(error) => vec![format!("stable reconciliation: {error:#}")],
        };
        failures.extend(invariants(&namespace));
        Ok(Verdict { failures, unused: !namespace.injector.pending().is_empty() })
    }

    /// Copies the logs of the operators in the namespace `name`, and returns their directory.
    ///
    /// # Errors
    /// Files cannot be written.
    pub fn keep_logs(&self, name: &str) -> Result<PathBuf> {
        let kept = self.failures.join(name);
        fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
        for entry in fs::read_dir(self.plane.directory().join(name))? {
            let file = entry?.path();
            fs::copy(&file, kept.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(kept)
    }
}

async fn outcome(namespace: &OperatorNamespace) -> Result<Outcome> {
    namespace.play().await?;
    namespace.settle(QUIET).await?;
    let (objects, outside) = (namespace.objects().await?, namespace.outside());
    Ok(Outcome {
        points: namespace.injector.points(),
        end: end_state(&objects),
        published: published_state(&objects),
        done: counted(&outside.started),
        created: by_stable_name(namespace.injector.ledger().created),
        outside: wrong_pointers(&objects, &outside),
    })
}

/// Sums by names without uids, which the names of pods contain.
fn by_stable_name(created: BTreeMap<(String, String), u32>) -> BTreeMap<(String, String), u32> {
    let mut sum = BTreeMap::new();
    for ((kind, name), times) in created {
        *sum.entry((kind, stable(&name))).or_default() += times;
    }
    sum
}

/// The violations of invariants that hold for every plan.
fn invariants(namespace: &OperatorNamespace) -> Vec<String> {
    let mut failures = namespace.injector.ledger().failures();
    failures.extend(namespace.ended().into_iter().map(|reason| format!("process truth: {reason}")));
    failures
}

impl Baseline {
    /// One plan per write. The faults rotate.
    pub fn plans(&self) -> Vec<Plan> {
        let mut turn = QUICK.iter().cycle();
        let writes = self.points.iter().filter(|point| is_write(point));
        let plan = |point: &Point| {
            let fitting = faults_at(point);
            // Some fault fits every write, so one rotation finds it.
            let fault = turn.by_ref().take(QUICK.len()).find(|fault| fitting.contains(fault))?;
            Some(Self::plan(point, *fault))
        };
        writes.filter_map(plan).collect()
    }

    /// One plan per point and per fault of `faults` that is possible there.
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
