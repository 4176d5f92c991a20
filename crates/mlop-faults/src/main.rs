//! Runs fault plans, in parallel and in virtual time. `cargo xtask faults` starts it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test bed fails as tests do"
)]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use mlop_faults::{
    explore::{Reference, Verdict, shrink},
    plan::Plan,
    random,
    scenario::Scenario,
    table::Table,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A plan is mostly small pieces of JSON.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tries the whole chain under faults: one plan for every write, notification and piece of work, and random ones.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Random plans, by seeds from 0.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Of the plans with one fault only every n-th.
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
    /// Only plans of these scenarios.
    #[arg(long, value_name = "SCENARIO")]
    scenario: Vec<String>,
    /// Of the plans with one fault only these, and no random ones. Regressions are always tried.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<String>,
    /// End at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Carry only this plan out, twice, and say what came of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "every"])]
    plan: Option<PathBuf>,
    /// Where failing plans are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/faults")]
    failures: PathBuf,
    /// Folder of plans that failed once.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions"))]
    regressions: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(file) = &args.plan {
        return one(file);
    }
    let known = regressions(&args.regressions)?;
    let references = references(args)?;
    let mut plans: Vec<Plan> = known;
    let wanted = |plan: &Plan| {
        args.fault.is_empty() || plan.faults.iter().all(|i| args.fault.contains(&i.fault.to_string()))
    };
    // Restless users are for random plans: without them it is the same as new data.
    let fixed = references.iter().filter(|reference| reference.scenario != Scenario::Restless);
    for (index, reference) in fixed.enumerate() {
        let earlier = references.first().filter(|_| index > 0);
        plans.extend(reference.plans(earlier).into_iter().filter(wanted).step_by(args.every.max(1)));
    }
    let single = plans.len();
    if args.fault.is_empty() {
        plans.extend((0..args.seeds).map(|seed| random::plan(&references, seed)));
    }
    println!("{single} plans with one fault, {} random ones", plans.len() - single);
    let verdicts = judge_all(&references, &plans, args.fail_fast);
    let failed = report(args, &references, &plans, &verdicts)?;
    let judged = verdicts.iter().map(|(index, verdict)| (&plans[*index], !verdict.failures.is_empty()));
    println!("{}", judged.collect::<Table>());
    if failed > 0 {
        bail!("{failed} of {} plans failed", verdicts.len());
    }
    Ok(())
}

fn references(args: &Args) -> Result<Vec<Reference>> {
    let name = |scenario: &Scenario| serde_json::to_string(scenario).unwrap_or_default().replace('"', "");
    let chosen = Scenario::ALL
        .into_iter()
        .filter(|scenario| args.scenario.is_empty() || args.scenario.contains(&name(scenario)));
    let references: Result<Vec<_>, String> = chosen.map(Reference::of).collect();
    let references = references.map_err(|why| anyhow::anyhow!("without any fault: {why}"))?;
    if references.is_empty() {
        bail!("no such scenario; there are {}", Scenario::ALL.map(|s| name(&s)).join(", "));
    }
    Ok(references)
}

fn regressions(folder: &Path) -> Result<Vec<Plan>> {
    let mut files: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context(folder.display().to_string()),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Plan> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Plan::from_yaml(&text).with_context(|| file.display().to_string())
}

fn one(file: &Path) -> Result<()> {
    let plan = read(file)?;
    let reference = Reference::of(plan.scenario).map_err(anyhow::Error::msg)?;
    let (first, second) = (reference.judge(&plan), reference.judge(&plan));
    if first != second {
        bail!("not deterministic: {first:?}\nthen {second:?}");
    }
    println!("trace {:016x}", first.trace);
    if first.unused > 0 {
        println!("{} of its faults never struck: the run does not come to these points", first.unused);
    }
    if !first.failures.is_empty() {
        println!("{:#}", first.end);
        bail!("{}", first.failures.join("\n"));
    }
    println!("everything holds");
    Ok(())
}

fn reference<'a>(references: &'a [Reference], plan: &Plan) -> Option<&'a Reference> {
    references.iter().find(|reference| reference.scenario == plan.scenario)
}

/// Judges plans on all cores; the verdicts are in the order of the plans.
fn judge_all(references: &[Reference], plans: &[Plan], fail_fast: bool) -> BTreeMap<usize, Verdict> {
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(index) else { return };
                    let Some(reference) = reference(references, plan) else { continue };
                    let verdict = reference.judge(plan);
                    if fail_fast && !verdict.failures.is_empty() {
                        next.store(plans.len(), Ordering::Relaxed);
                    }
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    verdicts.insert(index, verdict);
                    if verdicts.len() % 1_000 == 0 {
                        eprintln!("{} of {} plans", verdicts.len(), plans.len());
                    }
                }
            });
        }
    });
    verdicts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Writes failing plans, as small as they get, and says how to run each again.
fn report(
    args: &Args,
    references: &[Reference],
    plans: &[Plan],
    verdicts: &BTreeMap<usize, Verdict>,
) -> Result<usize> {
    let mut failed = 0;
    for (index, verdict) in verdicts.iter().filter(|(_, verdict)| !verdict.failures.is_empty()) {
        failed += 1;
        let plan = &plans[*index];
        let plan = match reference(references, plan) {
            Some(reference) if plan.faults.len() + plan.users.len() > 1 => shrink(reference, plan),
            _ => plan.clone(),
        };
        fs::create_dir_all(&args.failures)?;
        let file = args.failures.join(format!("{index}.yaml"));
        fs::write(&file, plan.to_yaml())?;
        println!("cargo xtask faults --plan {}    # {}", file.display(), verdict.failures.join("; "));
    }
    Ok(failed)
}
