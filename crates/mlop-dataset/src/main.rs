//! Runs the dataset worker.

use clap::Parser;
use std::process::ExitCode;

/// Does one piece of work for mlop's ingestion operator: probes an ObjectStore, scans the source of a Dataset, or
/// writes a DatasetVersion. What to do is in task.json in MLOP_TASK_DIR (/run/mlop/task); the result is written to
/// MLOP_TERMINATION_LOG (/dev/termination-log). Keys are files in MLOP_STORES_DIR (/run/mlop/stores).
#[derive(Parser)]
#[command(name = "mlop-dataset", version)]
struct Args {}

#[allow(clippy::disallowed_methods, reason = "the one place where this worker reads the clock")]
fn main() -> ExitCode {
    let Args {} = Args::parse();
    let now = jiff::Timestamp::now();
    mlop_artifact::worker::run("mlop-dataset", move |task| mlop_dataset::work(task, now))
}
