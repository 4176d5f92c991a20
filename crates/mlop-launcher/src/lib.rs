//! What runs in the pod of a training, around the user's command.
//!
//! The user's command must neither see keys nor be able to forge a result. So it has a container of its own, and this
//! program is on both sides of the wall:
//!
//! | command | container | does |
//! |---|---|---|
//! | `copy DEST` | init | puts this program where the user's container finds it |
//! | `fetch` | init, with keys | inputs, code, parameters and the newest checkpoint onto the disk ([`fetch`]) |
//! | `run -- CMD ARGS...` | the user's, without keys | starts the command and says how it ended ([`run`]) |
//! | `agent` | `worker`, with keys | uploads checkpoints and the output, writes the result ([`agent`]) |
//!
//! `fetch` and `run` begin with the [`preflight`].
//!
//! The two sides share the volume [`Layout`] and speak over one connection of a socket in it ([`protocol`]). It is made
//! before the command starts, so the command can never be the one that the agent listens to.
//!
//! # The contract with a user's command
//! - `$MLOP_INPUTS/<name>/`: a table as `part-*.parquet`, a tree as its files. Read-only.
//! - `$MLOP_HYPERPARAMETERS`, a JSON object of strings; each is also `$MLOP_HP_<NAME>` in upper case. `$MLOP_SEED`.
//! - `$MLOP_OUTPUT`: the files that are here when the command ends with 0 are the artifact. A link that stays inside
//!   counts as its target. Entries that cannot be part of a tree, such as a socket or a dangling link, are skipped and
//!   named in summary and manifest. `metrics.json` in it, a flat object of numbers, becomes the metrics.
//! - `$MLOP_CHECKPOINT`: files and directories with a step in their name (`500`, `checkpoint-500`, `epoch=1.ckpt`), or
//!   without one. The newest is saved once it no longer changes for ten seconds, has a newer one, or the command has ended
//!   by itself; the newest saved one is there again in the next attempt. Names that begin with a dot or contain `tmp` or
//!   `partial` are not looked at. When an attempt fails without progress, the next one gets the checkpoint before.
//! - `$MLOP_PROGRESS`: lines that are appended to this file, each a flat JSON object of numbers, are the progress ([`progress`]).
//! - Its image's own working directory, or one with the files of `code`.
//! - SIGTERM when the pod must go, with time to save. It goes to the command's main process.

pub mod agent;
pub mod checkpoint;
pub mod fetch;
mod layout;
pub mod metrics;
pub mod preflight;
pub mod progress;
pub mod protocol;
mod publish;
pub mod run;
mod tail;
mod words;

pub use layout::Layout;

use jiff::Timestamp;
use mlop_api::{Reason, result::Failure};
use std::{io, path::Path};

/// The present time, for what people read: nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "no decision depends on it")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The failure behind an error of a local file, met while `doing` (`writing`) something to `path`.
pub(crate) fn local(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let advice = if error.kind() == io::ErrorKind::StorageFull { "; raise spec.scratch" } else { "" };
    Failure::transient(Reason::WorkerFailed, format!("{doing} {}: {error}{advice}", path.display()))
}
