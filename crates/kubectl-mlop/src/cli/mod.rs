//! The arguments of `kubectl mlop`, and what each command prints.

mod act;
mod bundle;
mod check;
mod format;
mod init;
mod plot;
mod pods;
mod read;
mod screen;
mod serve;

use crate::cluster::Place;
use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use mlop_api::text::printable;
use screen::Screen;
use std::{io, path::PathBuf, process::ExitCode};

const EXAMPLES: &str = "\
Names:
  NAME is a name, or KIND/NAME: delay, model/delay, tjob/delay. Kinds have their full, plural or short names.
  Where one name has several kinds, commands that read take the one furthest downstream.

Examples:
  kubectl mlop status                      the chain, with what is in use and what is waited for
  kubectl mlop status --watch delay        the chain of delay, live
  kubectl mlop why delay                   where the problem began, and the next command
  kubectl mlop trace delay                 from what is served back to source objects, image, code and seed
  kubectl mlop plot delay                  the loss of the training
  kubectl mlop rollback delay              serve the version before
  kubectl mlop predict delay -f rows.csv   predictions of what is served
  kubectl mlop init rows.csv               a commented pipeline for a file of your own
  kubectl mlop check pipeline.yaml         mistakes in a file, before it is applied
  kubectl mlop support-bundle              one file for somebody who helps, without secrets

Exit status: 0 success; 1 an error, or mistakes that check has found; 2 wrong arguments;
3 not ready (status and why with --exit-code).";

/// Chains of mlop in a namespace: their state, its causes, their origin, and the next step.
#[derive(Debug, Parser)]
#[command(name = "kubectl-mlop", bin_name = "kubectl mlop", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Namespace; without it that of the context.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig; without it the current one.
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,
    /// Kubeconfig; without it that of KUBECONFIG or of the home directory.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The chain as a tree: the versions in use, the runs under way, the reasons to wait.
    #[command(after_help = read::STATUS_HELP)]
    Status(read::Status),
    /// Where a problem or a wait began, since when, and the next command.
    #[command(after_help = read::WHY_HELP)]
    Why(read::Why),
    /// The origin of an artifact: digest by digest back to source objects, image, code, parameters and seed.
    #[command(after_help = read::TRACE_HELP)]
    Trace(read::Trace),
    /// The runs of an object: which one is in use, and which can be pinned.
    #[command(
        after_help = "Examples:\n  kubectl mlop versions model/delay\n  kubectl mlop pin model/delay 2"
    )]
    Versions(read::Versions),
    /// The rollout in steps of a ModelDeployment: its step, its last measurement, and the ends of earlier rollouts.
    #[command(
        after_help = "Examples:\n  kubectl mlop rollout delay\n  kubectl mlop rollout delay -o json\n  kubectl mlop retry mdep/delay      try a version again that was rolled back"
    )]
    Rollout(read::Rollout),
    /// TrainingQueues: their usage, the runs that they have admitted, and those that wait, in their order.
    #[command(
        after_help = "Examples:\n  kubectl mlop queue\n  kubectl mlop queue gpu -o wide\n  kubectl mlop queue gpu -o json"
    )]
    Queue(read::Queue),
    /// The differences between two runs: content, inputs, metrics.
    #[command(after_help = read::DIFF_HELP)]
    Diff(read::Diff),
    /// The course of a training's metrics.
    #[command(after_help = plot::HELP)]
    Plot(plot::Curves),
    /// Publish an earlier run again; everything downstream follows.
    #[command(after_help = act::PIN_HELP)]
    Pin(act::Pin),
    /// Follow the inputs again.
    Unpin(act::Target),
    /// Pin the version before the one in use. Of a ModelDeployment: that of its model.
    #[command(
        after_help = "Examples:\n  kubectl mlop rollback delay          the model that delay serves\n  kubectl mlop unpin model/delay       undo it"
    )]
    Rollback(act::Target),
    /// Try again what has failed, or check a connection again.
    Retry(act::Target),
    /// End the active run; its checkpoint is kept. Of a ModelDeployment: take the version back that is rolled out in steps.
    #[command(visible_alias = "abort")]
    Cancel(act::Target),
    /// Take the version for good that is rolled out in steps, without the rest of its steps.
    Promote(act::Target),
    /// Look at the source of a Dataset now.
    Refresh(act::Target),
    /// Start a run on the present inputs, also with `trigger.mode: manual`.
    Run(act::Target),
    /// Start nothing new; the version in use and the active run go on.
    Suspend(act::Target),
    /// Undo suspend.
    Resume(act::Target),
    /// Inputs whose attempts are used up.
    #[command(
        after_help = "Examples:\n  kubectl mlop dead-letters\n  kubectl mlop dead-letters --replay     retry those that are the present inputs"
    )]
    DeadLetters(act::DeadLetters),
    /// The output of a run's newest attempt, of a server, or of a check.
    #[command(after_help = pods::LOGS_HELP)]
    Logs(pods::Logs),
    /// The Events of an object, of its runs and of their pods.
    Events(pods::Events),
    /// A prediction of a ModelDeployment, through a port-forward. Without values: the inputs that the model expects.
    #[command(after_help = serve::PREDICT_HELP)]
    Predict(serve::Predict),
    /// The online features of entities, through a port-forward.
    #[command(after_help = serve::FEATURES_HELP)]
    GetFeatures(serve::GetFeatures),
    /// A commented pipeline for a CSV file, on standard output.
    #[command(after_help = init::HELP)]
    Init(init::Init),
    /// Mistakes in files, without a cluster: schemas, rules, references.
    #[command(after_help = check::HELP)]
    Check(check::Check),
    /// Objects, statuses, Events and logs of the namespace in one file, without secrets.
    #[command(after_help = bundle::HELP)]
    SupportBundle(bundle::SupportBundle),
    /// A script for a shell that completes commands and options.
    #[command(after_help = "Example:\n  source <(kubectl mlop completions bash)")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Runs the command, and reports how it ended.
pub async fn main(arguments: Arguments, now: fn() -> Timestamp) -> ExitCode {
    let screen = Screen::new(now);
    match run(arguments, &screen).await {
        Ok(code) => code,
        // The reader has seen enough, as in `| head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(cause)
}

async fn run(arguments: Arguments, screen: &Screen) -> Result<ExitCode> {
    let Arguments { namespace, context, kubeconfig, command } = arguments;
    let place = Place { kubeconfig, context, namespace, all_namespaces: false };
    match command {
        Command::Status(command) => command.run(place, screen).await,
        Command::Why(command) => command.run(&place, screen).await,
        Command::Trace(command) => command.run(&place, screen).await,
        Command::Versions(command) => command.run(&place, screen).await,
        Command::Rollout(command) => command.run(&place, screen).await,
        Command::Queue(command) => command.run(&place, screen).await,
        Command::Diff(command) => command.run(&place, screen).await,
        Command::Plot(command) => command.run(&place, screen).await,
        Command::Pin(command) => command.run(&place, screen).await,
        Command::Unpin(target) => target.run(&place, screen, crate::actions::unpin).await,
        Command::Rollback(target) => target.run(&place, screen, crate::actions::rollback).await,
        Command::Retry(target) => target.run(&place, screen, crate::actions::retry).await,
        Command::Cancel(target) => target.run(&place, screen, crate::actions::cancel).await,
        Command::Promote(target) => target.run(&place, screen, crate::actions::promote).await,
        Command::Refresh(target) => target.run(&place, screen, crate::actions::refresh).await,
        Command::Run(target) => target.run(&place, screen, crate::actions::run).await,
        Command::Suspend(target) => {
            target.run(&place, screen, |snapshot, name| crate::actions::suspend(snapshot, name, true)).await
        }
        Command::Resume(target) => {
            target.run(&place, screen, |snapshot, name| crate::actions::suspend(snapshot, name, false)).await
        }
        Command::DeadLetters(command) => command.run(place, screen).await,
        Command::Logs(command) => command.run(&place, screen).await,
        Command::Events(command) => command.run(&place, screen).await,
        Command::Predict(command) => command.run(&place, screen).await,
        Command::GetFeatures(command) => command.run(&place, screen).await,
        Command::Init(command) => command.run(screen).await,
        Command::Check(command) => command.run(screen),
        Command::SupportBundle(command) => command.run(&place, screen).await,
        Command::Completions { shell } => completions(shell, screen),
    }
}

fn completions(shell: Shell, screen: &Screen) -> Result<ExitCode> {
    let mut script = Vec::new();
    // kubectl runs a plugin by the name of its file, and that is the name to complete.
    let mut command = Arguments::command().bin_name("kubectl-mlop");
    clap_complete::generate(shell, &mut command, "kubectl-mlop", &mut script);
    screen.print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
