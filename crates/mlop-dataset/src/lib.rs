//! The dataset worker.
//!
//! | module | does |
//! |---|---|
//! | [`probe`] | checks that the store answers and that its keys read and write |
//! | [`scan`] | lists the objects that match, with their states, as a [`listing`] |
//! | [`version`] | reads exactly the listed objects, validates every row, writes a table |
//!
//! A version depends on its listing and its spec only. The same inputs give the same bytes and so the same digest.

mod glob;
pub mod listing;
pub mod probe;
pub mod scan;
mod text;
pub mod version;

use jiff::Timestamp;
use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::{Task, Work},
};
use mlop_artifact::{patience::Patience, store, worker};

/// Does what `task` says; ages are measured at `now`.
///
/// # Errors
/// See the modules: each error has its documented reason.
pub async fn work(task: Task, now: Timestamp) -> Result<ResultDocument, Failure> {
    match task.work {
        // A probe reports its result at once: the operator repeats it.
        Work::Probe { store, read_only } => {
            let store = store::open(&store)?.with_patience(Patience::NONE);
            if read_only { probe::source(&store).await } else { probe::probe(&store, &task.subject).await }
        }
        Work::Scan(work) => scan::scan(&store::open(&work.source)?, &store::open(&work.output)?, &work).await,
        Work::Version(work) => {
            let (source, output) = (store::open(&work.source)?, store::open(&work.output)?);
            worker::once(&output, &task.subject.uid, async || {
                version::version(&source, &output, *work, now).await
            })
            .await
        }
        _ => Err(Failure::terminal(
            Reason::WorkerFailed,
            "unexpected task: the worker image does not match the operator's version",
        )),
    }
}
