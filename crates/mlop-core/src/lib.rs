//! The library that every mlop operator is built on.
//!
//! An operator is a set of controllers, one per kind. Reconciling an object is always the same four steps
//! ([`Reconciler`]):
//!
//! 1. *observe* reads the object and everything related to it, mostly from caches ([`Cache`]);
//! 2. *plan* decides. It is a pure function without a client or a clock, and its result is data ([`Plan`]);
//! 3. *execute* carries out the plan in a fixed order. It is the only writer;
//! 4. *report* adds what went wrong to the status.
//!
//! Most kinds belong to one of two classes and need no plan of their own: an [`intent`] turns inputs into runs and
//! publishes their results, and a [`run`] turns itself into pods and reads their results.
//!
//! # Example
//!
//! A decision is data, so a test needs no API server. This one reports an ObjectStore as ready, creates a ConfigMap that
//! is deleted with it, and looks again after a minute:
//!
//! ```
//! use jiff::{SignedDuration, Timestamp};
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use mlop_api::{Reason, contract::condition_type::READY, dataset::ObjectStore, status::ConnectionStatus};
//! use mlop_core::{
//!     Action, Plan,
//!     children::meta::child_meta,
//!     condition::{ConditionStatus, Conditions},
//! };
//!
//! fn plan(store: &ObjectStore, now: Timestamp) -> Plan<ConnectionStatus> {
//!     let mut status = store.status.clone().unwrap_or_default();
//!     let generation = store.metadata.generation.unwrap_or_default();
//!     Conditions::new(&mut status.conditions, generation, now)
//!         .set(READY, ConditionStatus::True, Reason::Ready, "the bucket exists");
//!     let map = ConfigMap { metadata: child_meta(store, "files-info".to_owned(), []), ..Default::default() };
//!     Plan::report(status)
//!         .create(&map, "the store has no ConfigMap yet")
//!         .requeue_at(now + SignedDuration::from_mins(1))
//! }
//!
//! let store: ObjectStore = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "mlop.dev/v1alpha1",
//!     "kind": "ObjectStore",
//!     "metadata": {"name": "files", "namespace": "default", "uid": "1", "generation": 1},
//!     "spec": {"endpoint": "https://s3.example.com", "bucket": "files"},
//! }))?;
//! let plan = plan(&store, Timestamp::UNIX_EPOCH);
//! assert_eq!(plan.creates[0].object["metadata"]["ownerReferences"][0]["uid"], "1");
//! assert_eq!(plan.action, Action::RequeueAt(Timestamp::from_second(60)?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An operator
//!
//! [`main`] connects to the cluster, elects a leader, answers probes and runs what `install` sets up. An `install` reads
//! as the list of its controllers and of the changes that enqueue their objects:
//!
//! ```text
//! pub fn install(setup: &mut Setup) {
//!     let stores = setup.watch::<ObjectStore>();
//!     let pods = setup.watch_own::<PodView>();
//!     setup
//!         .intent(DatasetIntent { stores: Arc::clone(&stores) })
//!         .owns(&pods)
//!         .enqueue_on(&stores, stores_of);
//!     setup.runs(DatasetVersionRun);
//! }
//! ```

#![warn(unreachable_pub)]

mod blocked;
pub mod children;
pub mod condition;
pub mod errand;
mod headline;
pub mod inputs;
pub mod intent;
mod operator;
pub mod plan;
pub mod resource;
pub mod run;
mod runtime;
pub mod span;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use blocked::{Blocked, Origin, cause};
pub use operator::main;
pub use plan::{Action, Plan};
pub use resource::Cached;
pub use runtime::{
    cache::Cache,
    client,
    context::{Clock, Context, Settings},
    controller::Reconciler,
    error::Error,
    index::Index,
    leader_election,
    setup::Setup,
    tracer::Tracer,
    triggers::{Controls, by_intent, intent_key},
    workqueue::Key,
};
