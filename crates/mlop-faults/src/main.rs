//! Runs fault plans in parallel and in virtual time. `cargo xtask faults` starts it.

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
    baseline::{Baseline, Verdict},
    judges::{Manner, judge_all},
    plan::{Plan, Scenario},
    random,
    report::Table,
};
use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// A plan is mostly small pieces of JSON.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the whole chain under faults: one plan for every write, notification and piece of work, and random plans.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Number of random plans, with seeds from 0.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Run only every n-th of the plans with one fault.
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
    /// Run only plans of these scenarios.
    #[arg(long, value_name = "SCENARIO")]
    scenario: Vec<String>,
    /// Run only plans with these faults, and no random plans. Regressions are always run.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<String>,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Run each plan from its beginning, which takes longer. The verdicts are the same.
    #[arg(long)]
    alone: bool,
    /// Run only this plan, twice, and print its outcome.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "every"])]
    plan: Option<PathBuf>,
    /// Directory for failing plans.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/faults")]
    failures: PathBuf,
    /// Directory of plans that failed once.
    #[arg(long, value_name = "DIRECTORY", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions"))]
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
    let baselines = baselines(args)?;
    let mut plans = regressions(&args.regressions)?;
    plans.retain(|plan| baseline(&baselines, plan).is_some());
    let wanted = |plan: &Plan| {
        args.fault.is_empty() || plan.faults.iter().all(|i| args.fault.contains(&i.fault.to_string()))
    };
    // Without operations of users, `Restless` equals `NewData`.
    let fixed = baselines.iter().filter(|baseline| baseline.scenario != Scenario::Restless);
    for (index, baseline) in fixed.enumerate() {
        let earlier = baselines.first().filter(|_| index > 0);
        plans.extend(baseline.plans(earlier).into_iter().filter(wanted).step_by(args.every.max(1)));
    }
    let single = plans.len();
    if args.fault.is_empty() && baselines.iter().any(|baseline| baseline.scenario == Scenario::Restless) {
        plans.extend(random::single_actions().into_iter().step_by(args.every.max(1)));
    }
    let actions = plans.len() - single;
    if args.fault.is_empty() {
        plans.extend((0..args.seeds).map(|seed| random::plan(&baselines, seed)));
    }
    let random = plans.len() - single - actions;
    println!("{single} plans with one fault, {actions} with one action of users, {random} random plans");
    let verdicts = judge_all(&baselines, &plans, Manner { fail_fast: args.fail_fast, alone: args.alone });
    let failed = report(args, &baselines, &plans, &verdicts)?;
    let judged = verdicts.iter().map(|(index, verdict)| (&plans[*index], !verdict.failures.is_empty()));
    println!("{}", judged.collect::<Table>());
    println!("digest of all traces and failures: {:016x}", digest(&verdicts));
    if failed > 0 {
        bail!("{failed} of {} plans failed", verdicts.len());
    }
    Ok(())
}

fn baselines(args: &Args) -> Result<Vec<Baseline>> {
    let name = |scenario: &Scenario| serde_json::to_string(scenario).unwrap_or_default().replace('"', "");
    let chosen = Scenario::ALL
        .into_iter()
        .filter(|scenario| args.scenario.is_empty() || args.scenario.contains(&name(scenario)));
    let baselines: Result<Vec<_>, String> = chosen.map(Baseline::of).collect();
    let baselines = baselines.map_err(|why| anyhow::anyhow!("without faults: {why}"))?;
    if baselines.is_empty() {
        bail!("no such scenario; there are {}", Scenario::ALL.map(|s| name(&s)).join(", "));
    }
    Ok(baselines)
}

fn regressions(directory: &Path) -> Result<Vec<Plan>> {
    let mut files: Vec<_> = match fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context(directory.display().to_string()),
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
    let baseline = Baseline::of(plan.scenario).map_err(anyhow::Error::msg)?;
    let (first, second) = (baseline.judge(&plan), baseline.judge(&plan));
    if first != second {
        bail!("not deterministic: first {first:?}\nthen {second:?}");
    }
    println!("trace {:016x}", first.trace);
    if first.unused > 0 {
        println!("{} of its faults did not strike: the run does not pass their points", first.unused);
    }
    if !first.failures.is_empty() {
        println!("{:#}", first.end);
        bail!("{}", first.failures.join("\n"));
    }
    println!("the plan holds");
    Ok(())
}

fn baseline<'a>(baselines: &'a [Baseline], plan: &Plan) -> Option<&'a Baseline> {
    baselines.iter().find(|baseline| baseline.scenario == plan.scenario)
}

/// A digest of what all plans did: equal for equal code, however the plans were judged.
fn digest(verdicts: &BTreeMap<usize, Verdict>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (plan, verdict) in verdicts {
        (plan, verdict.trace, verdict.unused, &verdict.failures).hash(&mut hasher);
    }
    hasher.finish()
}

/// Writes the shrunk failing plans, and prints the command that runs each again.
fn report(
    args: &Args,
    baselines: &[Baseline],
    plans: &[Plan],
    verdicts: &BTreeMap<usize, Verdict>,
) -> Result<usize> {
    let mut failed = 0;
    for (index, verdict) in verdicts.iter().filter(|(_, verdict)| !verdict.failures.is_empty()) {
        failed += 1;
        let plan = &plans[*index];
        let plan = match baseline(baselines, plan) {
            Some(baseline) if plan.faults.len() + plan.users.len() > 1 => baseline.shrink(plan),
            _ => plan.clone(),
        };
        fs::create_dir_all(&args.failures)?;
        let file = args.failures.join(format!("{index}.yaml"));
        fs::write(&file, plan.to_yaml())?;
        println!("cargo xtask faults --plan {}    # {}", file.display(), verdict.failures.join("; "));
    }
    Ok(failed)
}
