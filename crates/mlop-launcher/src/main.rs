//! Runs the launcher or one of its companions: see the library.

use clap::{Parser, Subcommand};
use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::{Task, Work},
};
use mlop_artifact::{store, worker};
use mlop_launcher::{Layout, agent::Agent, fetch, run};
use mlop_router::serve;
use std::{
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// The variable with the rank of a pod.
const RANK: &str = "JOB_COMPLETION_INDEX";

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Copy this program to DEST.
    Copy { dest: PathBuf },
    /// Download the task's inputs and code.
    Fetch,
    /// Run a command and report how it ended.
    Run {
        /// GPUs that the container asks for.
        #[arg(long, default_value_t)]
        gpus: u32,
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Watch over the command, upload its output, write the result.
    Agent,
    /// Share requests out among the versions of a model.
    Route(serve::Options),
    /// Count the requests that routers answer in an interval.
    Analyze,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Role::Copy { dest } => copied(&dest),
        Role::Fetch => worker::run("mlop-fetch", fetch),
        Role::Run { gpus, command } => launched(&command, gpus),
        Role::Agent => worker::run_until_told("mlop-agent", agent),
        Role::Route(options) => routed(options),
        Role::Analyze => worker::run("mlop-analyze", analyze),
    }
}

fn copied(dest: &Path) -> ExitCode {
    let copy = || -> io::Result<()> {
        std::fs::copy(std::env::current_exe()?, dest)?;
        std::fs::set_permissions(dest, std::fs::Permissions::from_mode(0o755))
    };
    match copy() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mlop: copying to {}: {error}", dest.display());
            ExitCode::FAILURE
        }
    }
}

fn launched(command: &[OsString], gpus: u32) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run::run(&Layout::from_environment(), command, gpus));
            runtime.shutdown_background();
            code.into()
        }
        Err(error) => {
            eprintln!("mlop: no runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

fn routed(options: serve::Options) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    match route(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot route");
            ExitCode::FAILURE
        }
    }
}

// One thread: the work for a request is small, and so stays the memory.
#[tokio::main(flavor = "current_thread")]
async fn route(options: serve::Options) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
        tracing::info!("stopping");
    };
    serve::run(options, stop).await
}

async fn analyze(task: Task) -> Result<ResultDocument, Failure> {
    match &task.work {
        Work::Analyze(work) => Ok(mlop_router::analyze::analyze(work).await),
        other => Err(foreign(other)),
    }
}

async fn fetch(task: Task) -> Result<ResultDocument, Failure> {
    match &task.work {
        Work::Train(work) => {
            fetch::training(&Layout::from_environment(), &task.subject, work, &store::open).await
        }
        Work::Serve { model, directory, path } => {
            fetch::serving(model, Path::new(directory), path.as_deref(), &store::open).await
        }
        other => Err(foreign(other)),
    }
}

async fn agent(task: Task) -> ResultDocument {
    let work = match &task.work {
        Work::Train(work) => work,
        other => return ResultDocument::failed(foreign(other)),
    };
    let store = match store::open(&work.output) {
        Ok(store) => store,
        Err(failure) => return ResultDocument::failed(failure),
    };
    let (told, leaving) = watch::channel(false);
    tokio::spawn(async move {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
                told.send_replace(true);
            }
            Err(error) => tracing::error!(%error, "SIGTERM cannot be handled"),
        }
    });
    let layout = Layout::from_environment();
    Agent { layout: &layout, subject: &task.subject, work, store: &store, rank: rank(), leaving }
        .train()
        .await
}

/// The rank of this pod, which the Job controller tells each container of an Indexed Job.
fn rank() -> u32 {
    std::env::var(RANK).ok().and_then(|rank| rank.parse().ok()).unwrap_or_default()
}

fn foreign(work: &Work) -> Failure {
    Failure::terminal(Reason::WorkerFailed, format!("mlop-launcher does not do this work: {work:?}"))
}
