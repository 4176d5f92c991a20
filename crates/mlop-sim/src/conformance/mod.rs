//! A conformance suite for API servers, which runs against the simulator and against a real one.
//!
//! A check that passes on the real server and fails on the simulator shows a defect of the simulator. The suite needs the
//! type of [`crd`], a namespace for itself, a garbage collector, and a cluster in which no other client creates objects in
//! that namespace. Its pods have a node selector that no node matches.

use kube::Client;

mod apply;
mod bench;
mod check;
mod deletion;
mod objects;
mod reads;
mod schemas;
mod watches;
mod widget;

pub use check::Check;
pub use widget::crd;

/// All checks.
pub fn checks() -> Vec<Check> {
    [
        objects::checks(),
        apply::checks(),
        deletion::checks(),
        reads::checks(),
        watches::checks(),
        schemas::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs all checks in `namespace`, one after the other, and returns the failures as `name: reason`.
///
/// The checks do not delete their objects. Delete the namespace afterwards.
pub async fn run(client: &Client, namespace: &str) -> Vec<String> {
    let mut failures = Vec::new();
    for check in checks() {
        failures.extend(check.run(client, namespace).await.err());
    }
    failures
}

/// The number of failures, and one failure per line.
pub fn report(failures: &[String]) -> String {
    format!("{} of {} checks failed:\n{}", failures.len(), checks().len(), failures.join("\n"))
}
