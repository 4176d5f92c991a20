//! Runs the registrar: one task, one result.

use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::{AliasWork, Input, Task, Work},
};
use mlop_artifact::{environment, manifest, store, worker};
use mlop_registrar::{alias, mlflow::Mlflow, probe, register, restore, transport::Http};
use std::process::ExitCode;

fn main() -> ExitCode {
    worker::run("mlop-registrar", perform)
}

async fn perform(task: Task) -> Result<ResultDocument, Failure> {
    match &task.work {
        Work::Register(work) => {
            let store = store::open(&work.model.store)?;
            let mlflow = connect(&work.tracking, work.credentials)?;
            let result = worker::once(&store, &task.subject.uid, async || {
                let tree = manifest::read_summary(&store, &work.model.digest).await?;
                register::register(&mlflow, &task.subject, work, &tree, milliseconds).await
            })
            .await?;
            let (Some(alias), Some(registered)) = (&work.alias, &result.registered) else {
                return Ok(result);
            };
            let move_it = AliasWork {
                tracking: work.tracking.clone(),
                credentials: work.credentials,
                registered_model: registered.name.clone(),
                version: registered.version.clone(),
                run: task.subject.name.clone(),
                alias: alias.clone(),
                check: false,
                register: None,
            };
            Ok(worker::activated(result, &alias.activation, alias::activate(&mlflow, &move_it)).await)
        }
        Work::Alias(work) => {
            let mlflow = connect(&work.tracking, work.credentials)?;
            let read = async |model: &Input| {
                manifest::read_summary(&store::open(&model.store)?, &model.digest).await
            };
            restore::activate(&mlflow, &task.subject, work, read, milliseconds).await
        }
        Work::ProbeTracking { tracking, credentials } => {
            probe::probe(&connect(tracking, *credentials)?).await
        }
        other => {
            let message = format!("mlop-registrar does not do this work: {other:?}");
            Err(Failure::terminal(Reason::WorkerFailed, message))
        }
    }
}

fn connect(tracking: &str, has_secret: bool) -> Result<Mlflow<Http>, Failure> {
    let secret = environment::tracking_dir();
    Ok(Mlflow::new(Http::new(tracking, has_secret.then_some(secret.as_path()))?))
}

#[allow(clippy::disallowed_methods, reason = "the one place where this worker reads the clock")]
fn milliseconds() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
