//! Does the mounted task.

use crate::{
    activate,
    online::{
        connection::{Server, Tls},
        load::View,
        mark::{Probe, mark_key, probe},
    },
    snapshot,
    stack::with_room,
};
use mlop_api::{
    Digest, Reason, labels,
    result::{Failure, ResultDocument},
    task::{Redis, Task, Work},
};
use mlop_artifact::{
    environment,
    secret::MountedSecret,
    store,
    worker::{activated, once},
};
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    path::PathBuf,
    time::Duration,
};

/// Longest wait for Redis: deleting a view's rows may take it a while.
const REDIS_TIMEOUT: Duration = Duration::from_secs(30);

/// Does `task` and returns its result.
///
/// # Errors
/// Those of the work; `WorkerFailed` for work that is not this worker's.
pub async fn work(task: Task) -> Result<ResultDocument, Failure> {
    match task.work {
        Work::Snapshot(work) => {
            let output = store::open(&work.output)?;
            let compute = async || {
                let scratch = scratch()?;
                let computed = with_room(|| snapshot::run(&work, &output, store::open, &scratch));
                computed.unwrap_or_else(|error| {
                    Err(Failure::transient(Reason::WorkerFailed, format!("starting a thread: {error}")))
                })
            };
            let result = once(&output, &task.subject.uid, compute).await?;
            match (&work.online, result.digest.clone()) {
                (Some(online), Some(table)) if work.active.as_ref() != Some(&table) => {
                    let activate = async {
                        activate::run(online, &table, &output, server(&online.redis), &scratch()?).await
                    };
                    Ok(activated(result, &online.activation, activate).await)
                }
                _ => Ok(result),
            }
        }
        Work::Activate(work) => {
            let store = store::open(&work.table.store)?;
            let (online, table) = (&work.online, &work.table.digest);
            activate::run(online, table, &store, server(&online.redis), &scratch()?).await
        }
        Work::Deactivate { view, redis, left } => {
            let mut view = View::open(server(&redis), view).await?;
            let summary = match left {
                None => view.remove().await.map(|()| "removed")?,
                Some(left) if view.leave(&left).await? => "removed",
                Some(_) => "kept: another revision or FeatureStore has this Redis",
            };
            Ok(ResultDocument { summary: Some(summary.to_owned()), ..ResultDocument::default() })
        }
        Work::ProbeOnline { namespace, name, redis, seen } => {
            if redis.password {
                // A password with white space at its ends would be refused with words that do not name it.
                MountedSecret::new(format!("FeatureStore {name}"), environment::redis_dir())
                    .required("password")?;
            }
            // Random, so that a store that came back empty does not get the mark that it had.
            let random = RandomState::new().hash_one(task.subject.attempt);
            let fresh = Digest::of_bytes(format!("{} {random}", task.subject.uid).as_bytes());
            probe(&server(&redis), &Probe { key: mark_key(&namespace, &name), fresh, seen }).await
        }
        _ => Err(Failure::terminal(
            Reason::WorkerFailed,
            "unexpected task: the worker image does not match the operator's version",
        )),
    }
}

/// An empty directory for one piece of work. The volume has room for the files of one.
fn scratch() -> Result<PathBuf, Failure> {
    let directory = std::env::temp_dir().join("mlop");
    let removed = match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    removed.and_then(|()| fs::create_dir_all(&directory)).map_err(|error| {
        Failure::transient(Reason::WorkerFailed, format!("emptying {}: {error}", directory.display()))
    })?;
    Ok(directory)
}

fn server(redis: &Redis) -> Server {
    Server {
        address: redis.address.clone(),
        user: redis.user.clone(),
        password_file: redis.password.then(|| environment::redis_dir().join("password")),
        tls: redis.tls.then(|| Tls { ca_file: Some(environment::redis_dir().join(labels::CA_CERTIFICATE)) }),
        cluster: redis.cluster,
        response_timeout: REDIS_TIMEOUT,
    }
}
