//! Runs: one attempt after the other until one succeeds or the budget of attempts is used up.
//!
//! An attempt is a Pod, or a Job with one pod or several. A kind supplies the pod ([`Run::attempt`]), and how many of it
//! work together ([`Run::replicas`]). [`plan`] decides the rest without a client or a clock:
//!
//! 1. A run that has succeeded keeps its last pod for its logs, then prunes it (`prune`).
//! 2. An edit of the execution, or a request to retry, renews the budget of attempts (`budget`).
//! 3. A run whose budget is used up, or whose failure repeats with the same inputs, is stalled (`result`).
//! 4. The next attempt starts once the connections that it needs are ready, its backoff is over, the other objects
//!    that it needs exist (`attempt`), and its queue has admitted it, if it is for one (`queue`).
//! 5. The pods of an attempt are followed until they end (`follow`). Their outcome is one (`outcome`); it becomes the output
//!    or the failure (`result`). A pod that is not fit for the work where it is makes the next attempts avoid its node
//!    (`preflight`).
//!
//! While a worker runs, the end of its log may be read in the background (`listen`); its report enters the status
//! (`progress`).
//!
//! Attempts are numbered from 1, and numbers never restart: the name of the pod contains the number, so an attempt
//! cannot start twice.
//!
//! # Example
//!
//! A kind of run whose attempts write to the run's ObjectStore. An attempt that needs a missing store is blocked, and the
//! run reports why:
//!
//! ```
//! use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
//! use mlop_api::{
//!     MEDIA_TABLE,
//!     dataset::DatasetVersion,
//!     task::{Subject, Task, Work},
//! };
//! use mlop_core::{
//!     Blocked,
//!     children::{container, pod},
//!     run::{Observed, Run, RunResource},
//! };
//!
//! struct VersionRun;
//!
//! impl Run for VersionRun {
//!     type Resource = DatasetVersion;
//!     type Related = ();
//!     const MEDIA_TYPE: &'static str = MEDIA_TABLE;
//!
//!     fn attempt(observed: &Observed<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, Blocked> {
//!         let run = observed.object.as_ref();
//!         let store = observed.store(run.store())?;
//!         let work = Work::Probe { store: pod::store(store), read_only: false };
//!         let resources = &run.execution().resources;
//!         Ok(pod::Builder::once(meta)
//!             .task(&Task { subject, work })
//!             .keys(store)
//!             .scratch("tmp", Some("1Gi"), false)
//!             .container(container::worker(&observed.worker_image, &[], &[store], resources))
//!             .execution(run.execution())
//!             .build())
//!     }
//! }
//!
//! // An attempt is a pod. With JOB, it would be a Job around the pod.
//! assert!(!VersionRun::JOB);
//! ```

mod attempt;
mod budget;
mod cancel;
mod follow;
mod listen;
mod network;
mod observed;
mod outcome;
mod plan;
mod preflight;
mod progress;
mod prune;
mod queue;
mod reconciler;
mod refusal;
mod result;
mod state;
#[cfg(test)]
mod tests;
mod trace;

use crate::{Blocked, children::connection::Connection, condition};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource,
    core::{
        NamespaceResourceScope,
        object::{HasSpec, HasStatus},
    },
};
use mlop_api::{
    contract::condition_type,
    kinds::Kind,
    run::{Execution, Lineage, RunSpec},
    status::RunStatus,
    task::Subject,
};
use serde_json::Value;

pub use listen::Heard;
pub use network::host;
pub use observed::Observed;
pub use plan::plan;
pub use queue::Queue;
pub use reconciler::Runs;
pub use state::{RunState, repetition, run_state};
pub use trace::trace_id;

/// A kind of run.
pub trait RunResource:
    Kind
    + Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasSpec<Spec: RunSpec>
    + HasStatus<Status = RunStatus>
{
    fn lineage(&self) -> &Lineage {
        self.spec().lineage()
    }
    fn execution(&self) -> &Execution {
        self.spec().execution()
    }
    /// Name of the ObjectStore that receives the output.
    fn store(&self) -> &str {
        self.spec().store()
    }
}

impl<K> RunResource for K where
    K: Kind
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasSpec<Spec: RunSpec>
        + HasStatus<Status = RunStatus>
{
}

fn has_succeeded<R: RunResource>(run: &R) -> bool {
    run.status().is_some_and(|status| condition::is_true(&status.conditions, condition_type::SUCCEEDED))
}

/// Drops from a succeeded run the parts that only its attempts need, such as the user's code. Caches keep most runs in
/// this state.
pub(crate) fn project<R: RunResource>(run: &mut R) {
    if has_succeeded(run) {
        run.spec_mut().drop_work();
    }
}

/// The part of an intent's spec that determines the output of its runs of kind `R`.
pub type Content<R> = <<R as HasSpec>::Spec as RunSpec>::Content;

/// A kind of run: its pods and their results. The course of attempts is common to all kinds.
pub trait Run: Send + Sync + 'static {
    type Resource: RunResource;
    /// Related objects besides ObjectStores.
    type Related: Send + Default;

    /// Media type of the output.
    const MEDIA_TYPE: &'static str;
    /// Whether an attempt is a Job around the pod.
    const JOB: bool = false;

    /// Whether the worker of an attempt prints its progress into its log, which is then read while it runs.
    const SPEAKS: bool = false;

    /// Number of pods of an attempt that work together under an Indexed Job, with stable names; none for a single pod.
    fn replicas(_run: &Self::Resource) -> Option<u32> {
        None
    }

    /// Reads the related objects of `object` from caches.
    fn observe(&self, _object: &Self::Resource) -> Self::Related {
        Self::Related::default()
    }

    /// The connections that an attempt needs besides ObjectStores. None starts before they are ready.
    fn connections(_observed: &Observed<Self>) -> Vec<&dyn Connection>
    where
        Self: Sized,
    {
        Vec::new()
    }

    /// The queue that must admit the run before its attempts; none if they start at once.
    fn queue(_observed: &Observed<Self>) -> Option<Queue<'_>>
    where
        Self: Sized,
    {
        None
    }

    /// Editable fields of the run's spec besides its execution. An edit of them gives a new budget of attempts, as an
    /// edit of the execution does.
    fn editable(_run: &Self::Resource) -> Value {
        Value::Null
    }

    /// Whether the gates of its intent let its result be used, in words; none while they have not judged it.
    fn verdict(_observed: &Observed<Self>) -> Option<(bool, String)>
    where
        Self: Sized,
    {
        None
    }

    /// The pod of attempt `subject.attempt`. `meta` has its name, owner and labels.
    ///
    /// # Errors
    /// When an object that the attempt needs is missing or not ready.
    fn attempt(observed: &Observed<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, Blocked>
    where
        Self: Sized;
}
