//! A small in-memory Kubernetes API server for deterministic tests in virtual time.
//!
//! ```
//! # use k8s_openapi::api::core::v1::ConfigMap;
//! # use kube::api::{Api, PostParams};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sim = mlop_sim::Sim::new();
//! let api: Api<ConfigMap> = Api::namespaced(sim.client(), "default");
//! let object = serde_json::from_value(serde_json::json!({"metadata": {"name": "a"}}))?;
//! api.create(&PostParams::default(), &object).await?;
//! assert!(sim.get::<ConfigMap>("default", "a").is_some());
//! # Ok(())
//! # }
//! ```
//!
//! [`Sim::client`] gives a `kube::Client` whose requests never leave the process; [`Sim::service`] is the `tower`
//! service behind it, for tests that put layers around it. Custom types are served after [`Sim::register_crd`].
//! A [`kubelet`] ends pods by a script, [`controllers`] stand in for those of Jobs, Deployments and StatefulSets, and
//! the garbage collector always runs. What can happen to a whole cluster is there too: [`Sim::restore`] of an old
//! backup, [`Sim::remove_crd`], [`Sim::terminate_namespace`], [`Sim::set_quota`].
//!
//! Everything is decided by the order of requests and by tokio's time: with a paused, single-threaded runtime two runs
//! of one test write the same objects with the same uids, versions and timestamps ([`Sim::trace_hash`]).
//!
//! How near it is to the real server is measured, not claimed: [`conformance`] runs against both.
//!
//! # What it does not do
//! - Authentication, authorization, admission webhooks and policies: everything is allowed. Quotas are
//!   numbers ([`Sim::set_quota`]), not `ResourceQuota` objects.
//! - Defaults and validation of built-in kinds beyond those in `builtin` and `validate`. Their unknown fields are dropped
//!   by decoding into the Rust type, in server-side apply too, where the real server refuses them; which of their lists
//!   are maps is a table in `shape`. Services get no addresses.
//! - Strategic merge patches, YAML bodies, `deletecollection`, subresources other than `status`.
//! - More than one version of a custom type: the storage version is the one that is served. Formats, `oneOf`, `anyOf`,
//!   `allOf` and `not` are not validated; CEL rules are, as far as the `kube-cel` crate knows them.
//! - Serving CustomResourceDefinitions as objects: types are registered by the test.
//! - Conflicts between replicas of the server, stale reads, delays: a request is answered at once and in order. Faults
//!   belong into a layer around [`Sim::service`].
//! - Limits: history is kept until [`Sim::compact`], and `managedFields` never merge into `ancient-changes`.

#![expect(
    clippy::indexing_slicing,
    reason = "objects are JSON here: reading a field that is not there gives null, and writing happens to decoded objects"
)]

mod admission;
mod apply;
mod background;
mod builtin;
mod clock;
pub mod conformance;
pub mod controllers;
mod delete;
mod disasters;
mod fields;
mod gc;
mod http;
mod identity;
pub mod kubelet;
mod news;
mod object;
mod patch;
mod quota;
mod read;
mod resource;
mod rules;
mod schema;
mod select;
mod server;
mod shape;
mod sim;
mod status;
mod store;
mod stored;
mod trace;
mod url;
mod validate;
mod watch;

pub use disasters::Snapshot;
pub use http::{Frames, ResponseBody, Service};
pub use sim::Sim;
pub use trace::Write;
