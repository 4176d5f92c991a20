//! Rollouts in steps, as `kubectl mlop rollout` shows them.

use super::{Case, flights};
use crate::{actions, rollout};
use expect_test::expect_file;
use serde_json::{Value, json};

fn version(number: u32) -> Value {
    let digest = format!("sha256:{}", number.to_string().repeat(64));
    json!({"digest": digest, "run": format!("delay-{number}"), "version": number.to_string(), "template": "t"})
}

/// Version 3 is in its first step.
pub(super) fn in_first_step() -> Case {
    let last = json!({"step": 1, "verdict": "Inconclusive", "requests": 12, "errors": 0, "p99": "0.0120",
        "stableRequests": 108, "message": "12 requests in 30 s; minRequests is 50", "at": "2026-11-29T12:38:30.000000Z"});
    let digest = version(2)["digest"].clone();
    let past = json!({"run": "delay-2", "version": "2", "digest": digest, "phase": "Promoted",
        "message": "version 2 is stable", "at": "2026-11-29T10:10:00.000000Z"});
    flights().with(
        "ModelDeployment/delay",
        json!({
            "spec": {"rollout": {"steps": [{"weight": 10, "hold": "5m"}, {"weight": 50, "hold": "1h"}]}},
            "status": {"rollout": {
                "phase": "Progressing", "step": 1, "weight": 10, "stable": version(2), "canary": version(3), "attempt": "a",
                "since": "2026-11-29T12:28:00.000000Z", "measurements": 3, "lastMeasurement": last,
                "message": "step 1 of 2: version 3 answers 10 % of the requests", "history": [past],
            }},
        }),
    )
}

/// Version 3 was rolled back.
fn rolled_back() -> Case {
    let message = "version 3 at weight 10: 41 of 120 requests failed; maxErrorRate is 0.05";
    let digest = version(3)["digest"].clone();
    let past = json!({"run": "delay-3", "version": "3", "digest": digest, "phase": "RolledBack",
        "message": message, "at": "2026-11-29T12:30:00.000000Z"});
    in_first_step().with(
        "ModelDeployment/delay",
        json!({"status": {"rollout": {"phase": "RolledBack", "weight": 0, "message": message, "history": [past],
            "lastMeasurement": null, "since": "2026-11-29T12:30:00.000000Z"}}}),
    )
}

#[test]
fn rollout_shows_step_measurement_and_history() {
    let text = |case: Case| {
        let snapshot = case.snapshot();
        rollout::text(&rollout::of(&snapshot, "delay").unwrap(), snapshot.now)
    };
    expect_file!["golden/rollout.txt"].assert_eq(&[text(in_first_step()), text(rolled_back())].join("\n\n"));
}

#[test]
fn rollout_is_refused_without_steps() {
    let error = |name: &str| rollout::of(&flights().snapshot(), name).unwrap_err().to_string();
    assert_eq!(error("delay"), "ModelDeployment/delay is rolled out without steps: it has no spec.rollout");
    assert_eq!(error("flights"), "Dataset/flights has no rollout: want a ModelDeployment");
}

#[test]
fn version_that_was_rolled_back_can_be_tried_again() {
    let change = actions::retry(&rolled_back().snapshot(), "mdep/delay").unwrap();
    assert!(change.says.iter().any(|line| line.contains("rolled out in steps again")), "{:?}", change.says);
    assert!(actions::retry(&in_first_step().snapshot(), "mdep/delay").is_err(), "it is under way");
}

#[test]
fn rollout_under_way_is_ended_either_way() {
    let patch = |change: anyhow::Result<actions::Change>| {
        change.unwrap().patch.unwrap()["metadata"]["annotations"].clone()
    };
    let at = "2026-11-29T12:40:00Z";
    let snapshot = in_first_step().snapshot();
    assert_eq!(patch(actions::promote(&snapshot, "delay")), json!({"mlop.dev/promote-requested-at": at}));
    assert_eq!(patch(actions::cancel(&snapshot, "delay")), json!({"mlop.dev/cancel-requested-at": at}));
    let refused = actions::promote(&rolled_back().snapshot(), "mdep/delay").unwrap_err().to_string();
    assert_eq!(refused, "ModelDeployment/delay rolls no version out in steps: there is nothing to promote");
}
