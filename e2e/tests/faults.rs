//! Fault plans against a real kube-apiserver and the operators' real programs: the layer that carries them out is the
//! simulator's ([`mlop_faults::inject`]), in a proxy between each process and the server, and a crash is a SIGKILL.
//!
//! `cargo xtask faults --real` builds what this needs, and starts it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test bed fails as tests do"
)]

#[path = "faults/control_plane.rs"]
mod control_plane;
#[path = "faults/judge.rs"]
mod judge;
#[path = "faults/kubelet.rs"]
mod kubelet;
#[path = "faults/processes.rs"]
mod processes;
#[path = "faults/proxy.rs"]
mod proxy;
#[path = "faults/world.rs"]
mod world;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use control_plane::{ControlPlane, repository};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use judge::{Bench, Reference, Verdict};
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

/// Tries fault plans on a real API server and real processes: one for every write of a run without faults.
#[derive(Parser)]
#[command(bin_name = "cargo xtask faults --real --")]
struct Args {
    /// All faults at every write, notification and piece of work. That takes hours.
    #[arg(long)]
    all: bool,
    /// These faults, wherever they can be.
    #[arg(long, value_name = "FAULT", num_args = 1.., conflicts_with = "all")]
    fault: Vec<String>,
    /// Of the plans only every n-th.
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
    /// Plans at the same time, each in a namespace with five processes.
    #[arg(long, default_value_t = 6, value_name = "N")]
    worlds: usize,
    /// Carry only this plan out.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "fault", "every"])]
    plan: Option<PathBuf>,
    /// Where failing plans and the logs of their operators are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/faults-real")]
    failures: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let run = async {
        std::env::set_current_dir(repository())?;
        tokio::select! {
            ended = run(&args) => ended,
            // What was started ends with us only if we end by ourselves.
            signal = told_to_stop() => signal,
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

async fn told_to_stop() -> Result<()> {
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
    println!("an API server after {:.1} s", begin.elapsed().as_secs_f64());
    let bench = Bench { plane, programs, failures: args.failures.clone() };
    let reference = bench.reference().await?;
    println!("two runs without faults after {:.1} s", begin.elapsed().as_secs_f64());
    let plans = plans(args, &reference)?;
    println!("{} plans", plans.len());
    let verdicts: Vec<Verdict> = stream::iter(plans.iter().enumerate())
        .map(|(index, plan)| judge(&bench, &reference, index, plan))
        .buffered(args.worlds.max(1))
        .try_collect()
        .await?;
    let judged = plans.iter().zip(&verdicts).map(|(plan, verdict)| (plan, !verdict.failures.is_empty()));
    println!("{} in {:.1} min", judged.collect::<Table>(), begin.elapsed().as_secs_f64() / 60.0);
    let unused = verdicts.iter().filter(|verdict| verdict.unused).count();
    if unused > 0 {
        println!("{unused} did not come to their fault: what is counted differs a little from run to run");
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.failures.is_empty()).count();
    ensure!(failed == 0, "{failed} of {} plans failed", plans.len());
    Ok(())
}

fn plans(args: &Args, reference: &Reference) -> Result<Vec<Plan>> {
    if let Some(file) = &args.plan {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let plan = Plan::from_yaml(&text).with_context(|| file.display().to_string())?;
        let possible = |injection: &Injection| judge::faults().any(|fault| fault == injection.fault);
        ensure!(
            plan.scenario == Scenario::NewData && plan.faults.iter().all(possible),
            "{}: only in virtual time",
            file.display()
        );
        return Ok(vec![plan]);
    }
    let all: Vec<Fault> = judge::faults().collect();
    let named = |name: &String| {
        let found = all.iter().find(|fault| fault.to_string() == *name).copied();
        found.with_context(|| format!("no fault {name}; there are {}", names(&all)))
    };
    let plans = if args.all {
        reference.plans_with(&all)
    } else if args.fault.is_empty() {
        reference.plans()
    } else {
        reference.plans_with(&args.fault.iter().map(named).collect::<Result<Vec<_>>>()?)
    };
    Ok(plans.into_iter().step_by(args.every.max(1)).collect())
}

fn names(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join(", ")
}

/// Judges a plan, and if it fails keeps what one needs to see why, and says how to run it again.
async fn judge(bench: &Bench, reference: &Reference, index: usize, plan: &Plan) -> Result<Verdict> {
    let (name, begin) = (format!("plan-{index}"), Instant::now());
    let verdict = bench.judge(reference, plan, &name).await.with_context(|| plan.to_yaml())?;
    let seconds = begin.elapsed().as_secs_f64();
    if verdict.failures.is_empty() {
        println!("{name} holds, {seconds:.1} s");
        return Ok(verdict);
    }
    let file = bench.keep(&name)?.join("plan.yaml");
    fs::write(&file, plan.to_yaml())?;
    println!("{name} fails, {seconds:.1} s: {}", verdict.failures.join("; "));
    println!("{}", plan.to_yaml());
    println!("cargo xtask faults --real --plan {}    # with the operators' logs beside it", file.display());
    Ok(verdict)
}
