//! Fault plans against a real kube-apiserver and the operators' real programs.
//!
//! The fault layer of the simulator ([`mlop_faults::inject`]) runs in a proxy between each process and the server, and a
//! crash is a SIGKILL. `cargo xtask faults --real` builds the programs and starts this test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test bed fails as tests do"
)]

mod kubelet;
mod namespace;
mod processes;
mod proxy;
mod trial;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mlop_e2e::control_plane::{ControlPlane, repository};
use mlop_faults::{
    plan::{Fault, Injection, Plan, Scenario},
    report::Table,
};
use std::{fs, path::PathBuf, process::ExitCode};
use tokio::{
    signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    },
    time::Instant,
};
use trial::{Baseline, Bench, Verdict};

/// Tests fault plans on a real API server with real processes: one plan for every write of a run without faults.
#[derive(Parser)]
#[command(bin_name = "cargo xtask faults --real --")]
struct Args {
    /// Test all faults at every write, notification and piece of work. This takes hours.
    #[arg(long)]
    all: bool,
    /// Test these faults at every point where they are possible.
    #[arg(long, value_name = "FAULT", num_args = 1.., conflicts_with = "all")]
    fault: Vec<String>,
    /// Test only every n-th plan.
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
    /// Number of concurrent plans, each in a namespace with five processes.
    #[arg(long, default_value_t = 6, value_name = "N")]
    parallel: usize,
    /// Test only this plan.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "fault", "every"])]
    plan: Option<PathBuf>,
    /// Directory for failing plans and the logs of their operators.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/faults-real")]
    failures: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let run = async {
        std::env::set_current_dir(repository())?;
        tokio::select! {
            ended = run(&args) => ended,
            // Child processes are killed only if this process ends by itself.
            signal = interrupted() => signal,
        }
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Fails when the process is asked to stop.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = ctrl_c() => {}
    }
    bail!("interrupted")
}

async fn run(args: &Args) -> Result<()> {
    let begin = Instant::now();
    let programs = processes::programs()?;
    let plane = ControlPlane::start().await?;
    println!("the API server is ready after {:.1} s", begin.elapsed().as_secs_f64());
    let bench = Bench { plane, programs, failures: args.failures.clone() };
    let baseline = bench.baseline().await?;
    println!("two runs without faults after {:.1} s", begin.elapsed().as_secs_f64());
    let plans = plans(args, &baseline)?;
    println!("{} plans", plans.len());
    let verdicts: Vec<Verdict> = stream::iter(plans.iter().enumerate())
        .map(|(index, plan)| judge(&bench, &baseline, index, plan))
        .buffered(args.parallel.max(1))
        .try_collect()
        .await?;
    let results = plans.iter().zip(&verdicts).map(|(plan, verdict)| (plan, !verdict.failures.is_empty()));
    println!("{} in {:.1} min", results.collect::<Table>(), begin.elapsed().as_secs_f64() / 60.0);
    let unused = verdicts.iter().filter(|verdict| verdict.unused).count();
    if unused > 0 {
        println!("{unused} plans did not reach their fault, because counts vary slightly between runs");
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.failures.is_empty()).count();
    ensure!(failed == 0, "{failed} of {} plans failed", plans.len());
    Ok(())
}

fn plans(args: &Args, baseline: &Baseline) -> Result<Vec<Plan>> {
    if let Some(file) = &args.plan {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let plan = Plan::from_yaml(&text).with_context(|| file.display().to_string())?;
        let possible = |injection: &Injection| trial::faults().any(|fault| fault == injection.fault);
        ensure!(
            plan.scenario == Scenario::NewData && plan.faults.iter().all(possible),
            "{}: this plan is possible only in virtual time",
            file.display()
        );
        return Ok(vec![plan]);
    }
    let all: Vec<Fault> = trial::faults().collect();
    let named = |name: &String| {
        let found = all.iter().find(|fault| fault.to_string() == *name).copied();
        found.with_context(|| format!("unknown fault {name}; available: {}", names(&all)))
    };
    let plans = if args.all {
        baseline.plans_with(&all)
    } else if args.fault.is_empty() {
        baseline.plans()
    } else {
        baseline.plans_with(&args.fault.iter().map(named).collect::<Result<Vec<_>>>()?)
    };
    Ok(plans.into_iter().step_by(args.every.max(1)).collect())
}

fn names(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join(", ")
}

/// Tests a plan. After a failure, keeps the plan and the logs, and prints the command that repeats it.
async fn judge(bench: &Bench, baseline: &Baseline, index: usize, plan: &Plan) -> Result<Verdict> {
    let (name, begin) = (format!("plan-{index}"), Instant::now());
    let verdict = bench.judge(baseline, plan, &name).await.with_context(|| plan.to_yaml())?;
    let seconds = begin.elapsed().as_secs_f64();
    if verdict.failures.is_empty() {
        println!("{name} passed, {seconds:.1} s");
        return Ok(verdict);
    }
    let file = bench.keep_logs(&name)?.join("plan.yaml");
    fs::write(&file, plan.to_yaml())?;
    println!("{name} failed, {seconds:.1} s: {}", verdict.failures.join("; "));
    println!("{}", plan.to_yaml());
    println!(
        "cargo xtask faults --real --plan {}    # the operators' logs are in the same directory",
        file.display()
    );
    Ok(verdict)
}
