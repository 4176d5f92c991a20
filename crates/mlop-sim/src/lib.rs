//! An in-memory Kubernetes API server for deterministic tests of controllers in virtual time.
//!
//! A controller under test gets a normal `kube::Client`, and the test acts as the user and as the rest of the cluster.
//! With a paused, single-threaded tokio runtime an hour of simulated time passes in milliseconds, and two runs of a test
//! write the same objects with the same uids, resource versions and timestamps.
//!
//! ```
//! use k8s_openapi::api::core::v1::Pod;
//! use kube::api::{Api, PostParams};
//! use mlop_sim::{
//!     Sim,
//!     kubelet::{self, PodOutcome},
//! };
//! use serde_json::json;
//! use std::time::Duration;
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let sim = Sim::new();
//!     // Pods run for an hour of virtual time and then fail.
//!     kubelet::spawn(&sim, |_| {
//!         PodOutcome::fail(137, "OOMKilled", "").running_for(Duration::from_secs(3600))
//!     });
//!
//!     // A controller would do this, through a client whose requests never leave the process.
//!     let pods: Api<Pod> = Api::namespaced(sim.client(), "default");
//!     let pod = json!({"metadata": {"name": "train"},
//!         "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "trainer:1"}]}});
//!     pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
//!
//!     // The test lets time pass, and reads the state directly.
//!     tokio::time::sleep(Duration::from_secs(3700)).await;
//!     let ended: Pod = sim.get("default", "train").ok_or("the pod is gone")?;
//!     assert_eq!(ended.status.and_then(|status| status.phase).as_deref(), Some("Failed"));
//!     assert_eq!(sim.writes().len(), 1); // the requests of clients, without those of the kubelet
//!     Ok(())
//! }
//! ```
//!
//! # Parts
//! - [`Sim`] is the handle of a test: it gives out clients, and reads and writes objects directly. Custom types are
//!   served after [`Sim::register_crd`].
//! - [`Sim::service`] is the `tower` service behind the client, for layers that delay, fail or record requests.
//! - A [`kubelet`] starts and ends pods by a script, and [`controllers`] stand in for those of Jobs, Deployments and
//!   StatefulSets. The garbage collector always runs.
//! - [`Sim::restore`], [`Sim::remove_crd`], [`Sim::terminate_namespace`] and [`Sim::set_quota`] simulate events of a
//!   whole cluster.
//! - [`Sim::writes`] and [`Sim::trace_hash`] record the write requests.
//!
//! The [`conformance`] suite runs against the simulator and against a real API server, and keeps the two alike.
//!
//! # Limits
//! - Authentication, authorization, admission webhooks and policies do not exist: every request is allowed. Quotas are
//!   numbers ([`Sim::set_quota`]) instead of `ResourceQuota` objects.
//! - Built-in kinds have only the defaults in `schema::built_in` and the validation in `schema::validate`. Their unknown
//!   fields are dropped by decoding into the Rust type, even in server-side apply, where the real server refuses them. The
//!   table in `schema::shape` lists which of their lists behave as maps. Services get no addresses.
//! - Strategic merge patches, YAML bodies, `deletecollection`, and subresources other than `status` and `log` are not supported.
//!   A log is what the script of its pod prints, the same for all containers.
//! - Custom types are served in their storage version alone. Formats, `oneOf`, `anyOf`, `allOf` and `not` are not
//!   validated. CEL rules are evaluated as far as the `kube-cel` crate supports them.
//! - CustomResourceDefinitions are not served as objects: tests register types.
//! - Requests are processed at once and in order, without stale reads or delays. Layers around [`Sim::service`] can add
//!   these.
//! - The history is kept until [`Sim::compact`], and `managedFields` are never merged into `ancient-changes`.

#![expect(
    clippy::indexing_slicing,
    reason = "objects are JSON here: reading an absent field gives null, and only decoded objects are written"
)]

mod api;
mod cluster;
pub mod conformance;
mod object;
mod schema;
mod sim;
mod storage;

pub use api::http::{Frames, ResponseBody, Service};
pub use cluster::{controllers, kubelet, snapshot::Snapshot};
pub use sim::Sim;
pub use storage::trace::Write;
