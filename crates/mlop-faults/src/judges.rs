//! Judges many plans, in one process for each core.
//!
//! Plans with the same beginning are judged together: each fork is a plan from its first fault on. A process that forks
//! must have one thread, so the cores are used by processes.

use crate::{
    baseline::{Baseline, Verdict},
    inject::STOP,
    plan::Plan,
};
use fork::{Fork, fork, waitpid};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe},
    process,
    sync::{Mutex, PoisonError},
    thread,
};

/// How plans are judged.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Stop at the first failure.
    pub fail_fast: bool,
    /// Judge each plan from its beginning.
    pub alone: bool,
}

/// A verdict on its way from the process that reached it.
#[derive(Serialize, Deserialize)]
struct Report {
    plan: usize,
    verdict: Verdict,
}

/// Judges plans on all cores. Verdicts have the index of their plan, and no end state.
///
/// # Panics
/// When the process has no room for pipes or other processes.
pub fn judge_all(baselines: &[Baseline], plans: &[Plan], manner: Manner) -> BTreeMap<usize, Verdict> {
    let cores = thread::available_parallelism().map_or(1, Into::into);
    let (mut processes, mut reports) = (Vec::new(), Vec::new());
    for groups in shares(plans, cores, manner.alone) {
        let (report, mut reported) = pipe().expect("the process may open a pipe");
        match fork().expect("the machine has room for another process") {
            Fork::Child => {
                drop(report);
                process::exit(judge_groups(baselines, plans, &groups, manner.fail_fast, &mut reported));
            }
            Fork::Parent(child) => {
                processes.push(child);
                reports.push(report);
            }
        }
    }
    let mut verdicts = collect(reports, plans.len());
    for child in processes {
        // The verdicts tell how it ended.
        let _ = waitpid(child);
    }
    let is_whole = !manner.fail_fast || verdicts.values().all(|verdict| verdict.failures.is_empty());
    for plan in (0..plans.len()).filter(|_| is_whole) {
        verdicts.entry(plan).or_insert_with(Verdict::missing);
    }
    verdicts
}

/// The plans of each process, in groups with the same beginning. Plans whose first faults have the same point are in the
/// same process.
fn shares(plans: &[Plan], processes: usize, alone: bool) -> Vec<Vec<Vec<usize>>> {
    let mut places = BTreeMap::new();
    let mut groups = BTreeMap::<_, Vec<usize>>::new();
    for (index, plan) in plans.iter().enumerate() {
        let beginning = plan.beginning().filter(|_| !alone);
        let process = match (&beginning, plan.faults.first()) {
            (Some(_), Some(first)) => {
                let next = places.len();
                *places.entry(&first.at).or_insert(next)
            }
            _ => index,
        };
        let by_itself = beginning.is_none().then_some(index);
        groups.entry((process % processes, plan.scenario, beginning, by_itself)).or_default().push(index);
    }
    let mut shares = vec![Vec::new(); processes];
    for ((process, ..), group) in groups {
        shares[process].push(group);
    }
    shares
}

/// Judges groups of plans, and returns the exit code of the process.
fn judge_groups(
    baselines: &[Baseline],
    plans: &[Plan],
    groups: &[Vec<usize>],
    fail_fast: bool,
    reported: &mut PipeWriter,
) -> i32 {
    for group in groups {
        let members: Vec<&Plan> = group.iter().map(|index| &plans[*index]).collect();
        let scenario = members[0].scenario;
        let Some(baseline) = baselines.iter().find(|baseline| baseline.scenario == scenario) else {
            continue;
        };
        let judged = baseline.judge_together(&members);
        let mut has_failed = false;
        for (member, verdict) in judged.verdicts {
            has_failed |= !verdict.failures.is_empty();
            let report = Report { plan: group[member], verdict };
            let mut line = serde_json::to_string(&report).expect("a verdict is JSON");
            line.push('\n');
            reported.write_all(line.as_bytes()).expect("the first process reads until all others have ended");
        }
        if has_failed && fail_fast {
            return STOP;
        }
        if judged.is_fork {
            break;
        }
    }
    0
}

/// The verdicts of all processes. Failures and the progress are shown at once: the whole report comes after minutes.
fn collect(reports: Vec<PipeReader>, plans: usize) -> BTreeMap<usize, Verdict> {
    let verdicts = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for report in reports {
            scope.spawn(|| {
                for line in BufReader::new(report).lines().map_while(Result::ok) {
                    // A process that was killed may have written a part of a line.
                    let Ok(Report { plan, verdict }) = serde_json::from_str(&line) else { continue };
                    if let Some(failure) = verdict.failures.first() {
                        eprintln!("plan {plan}: {failure}");
                    }
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    verdicts.insert(plan, verdict);
                    if verdicts.len() % 1_000 == 0 {
                        eprintln!("{} of {plans} plans", verdicts.len());
                    }
                }
            });
        }
    });
    verdicts.into_inner().unwrap_or_else(PoisonError::into_inner)
}
