//! The dataset worker.
//!
//! | module | does |
//! |---|---|
//! | [`probe`] | is the store there, and do our keys read and write? |
//! | [`scan`] | which objects match, in which state? The answer is the [`listing`] |
//! | [`version`] | reads exactly the listed objects, validates every row, writes a table |
//!
//! A version depends on its listing and its spec only: the same ones give the same bytes and so the same digest.

mod glob;
pub mod listing;
pub mod probe;
pub mod scan;
mod text;
pub mod version;

use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::{Task, Work},
};
use mlop_artifact::{store, worker};

/// Does what `task` says.
///
/// # Errors
/// Each with its documented reason; see the modules.
pub async fn work(task: Task) -> Result<ResultDocument, Failure> {
    match task.work {
        Work::Probe { store } => probe::probe(&store::open(&store)?, &task.subject).await,
        Work::Scan(work) => scan::scan(&store::open(&work.source)?, &store::open(&work.output)?, &work).await,
        Work::Version(work) => {
            let (source, output) = (store::open(&work.source)?, store::open(&work.output)?);
            worker::once(&output, &task.subject.uid, async || version::version(&source, &output, work).await)
                .await
        }
        _ => Err(Failure::terminal(
            Reason::WorkerFailed,
            "mlop-dataset does not do this kind of work; the operator's images are mixed up",
        )),
    }
}
