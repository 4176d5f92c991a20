//! Plans that the oracles of single moments judge: a mistake there leaves the state at the end as it is wanted.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use mlop_faults::{
    baseline::Baseline,
    plan::{Action, Change, Course, Operation, Plan, Scenario, Work},
};
use serde_json::json;

/// Milliseconds after which the pipeline is at rest.
const AT_REST: u64 = 120_000;

/// The violations of a plan in which users do this, and later put new data into the bucket.
fn violations(at: u64, does: Action) -> Vec<String> {
    let later = Operation { at: at + 60_000, does: Action::Data(1) };
    let plan =
        Plan { scenario: Scenario::Restless, users: vec![Operation { at, does }, later], faults: Vec::new() };
    Baseline::of(plan.scenario).unwrap().judge(&plan).failures
}

#[test]
fn server_is_ready_for_an_edit_only_when_it_runs() {
    let change = Change {
        kind: "ModelDeployment".to_owned(),
        name: "delay".to_owned(),
        spec: json!({"runtime": {"image": "mlserver:2"}}),
    };
    assert_eq!(violations(AT_REST, Action::Change(change)), [""; 0]);
}

#[test]
fn held_up_training_shows_in_its_job() {
    assert_eq!(violations(0, Action::Disturb(Work::Train, Course::ImagePull)), [""; 0]);
}
