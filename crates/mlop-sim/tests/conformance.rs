//! The conformance suite on the simulator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use k8s_openapi::api::core::v1::Namespace;
use mlop_sim::{Sim, conformance};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn simulator_conforms() {
    let sim = Sim::new();
    sim.register_crd(&conformance::crd().unwrap()).unwrap();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "conformance"}})).unwrap();
    sim.create(&namespace).unwrap();
    let failures = conformance::run(&sim.client(), "conformance").await;
    assert!(failures.is_empty(), "{}", conformance::report(&failures));
}
