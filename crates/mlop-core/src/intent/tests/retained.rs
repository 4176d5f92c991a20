//! Retention, history and the execution that runs mirror.

use super::*;
use mlop_api::{labels, run::REQUEST_CHARS_MAX};

/// An intent that has published `versions` versions of its input, one after the other.
fn published(versions: u32) -> Case {
    (1..=versions).fold(intent("delay").with(|spec| spec.history_limit = 2), |case, number| {
        let second = i64::from(number) * 10;
        let case = case.input(version("flights", number, second)).at(second);
        case.its_run(succeeded_at(second + 1)).at(second + 2).reconciled()
    })
}

#[test]
fn finished_runs_above_the_history_limit_are_pruned() {
    assert_eq!(published(2).runs_left(), 2);
    assert_eq!(published(3).runs_left(), 3, "the current run does not count");
    assert_eq!(published(6).runs_left(), 3);
}

#[test]
fn pinned_run_and_newest_dead_letter_are_kept() {
    let pin = published(1).run_name();
    let pinned = published(1).with(|spec| spec.pin = Some(pin.clone()));
    let pinned = (2..=6).fold(pinned, |case, number| {
        let second = i64::from(number) * 10;
        case.input(version("flights", number, second)).at(second).its_run(succeeded_at(second)).reconciled()
    });
    assert!(pinned.has_run(&pin));
    let died = published(1).input(version("flights", 2, 20)).at(20).its_run(dead).reconciled();
    let letter = died.run_name();
    let later = (3..=8).fold(died, |case, number| {
        let second = i64::from(number) * 10;
        case.input(version("flights", number, second)).at(second).its_run(succeeded_at(second)).reconciled()
    });
    assert!(later.has_run(&letter));
}

#[test]
fn pods_of_earlier_activations_are_pruned() {
    let first = intent("delay").activates().input(ready("flights")).its_run(succeeded).reconciled();
    let active = first.pods(pod_succeeded).reconciled();
    let edited = active.edited(|spec| spec.alias = "challenger".into()).reconciled();
    let replaced = edited.pods(pod_succeeded).reconciled();
    assert_eq!(replaced.pods_left(), ["3"]);
}

#[test]
fn history_lists_the_last_runs_and_dead_letters_their_inputs() {
    let died = published(6).input(version("flights", 7, 70)).at(70).its_run(dead).reconciled();
    let status = died.status();
    let outcomes: Vec<_> = status.history.iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!(outcomes, ["UserError", "Succeeded", "Succeeded", "Succeeded", "Succeeded"]);
    assert_eq!(status.dead_letters.len(), 1);
    assert_eq!(status.dead_letters[0].attempts, 3);
    let back = died.its_run(succeeded_at(80)).at(81).reconciled();
    assert!(back.status().dead_letters.is_empty(), "a success replays the letter");
}

#[test]
fn execution_is_mirrored_into_the_open_run_only() {
    let delay = || intent("delay").input(ready("flights"));
    let retried = |case: Case| case.annotated(labels::RETRY_REQUESTED_AT, "1");
    let applies = |case: Case| case.plan().applies.len();
    assert_eq!(applies(retried(delay().its_run(active).reconciled())), 1);
    assert_eq!(applies(retried(delay().its_run(dead).reconciled())), 1);
    assert_eq!(applies(retried(delay().its_run(succeeded).reconciled())), 0);
    let old = delay().its_run(dead).reconciled().input(version("flights", 2, 10)).its_run(succeeded);
    assert_eq!(applies(retried(old.reconciled())), 0, "a dead run of earlier inputs stays dead");
}

#[test]
fn request_that_no_field_holds_becomes_its_digest() {
    let execution = |request: &str| {
        let case = intent("delay").input(ready("flights"));
        let case = case.annotated(labels::RETRY_REQUESTED_AT, request);
        case.annotated(labels::CANCEL_REQUESTED_AT, request).run().spec.execution
    };
    let longest = "\u{fc}".repeat(REQUEST_CHARS_MAX);
    for request in ["", "now", &longest] {
        assert_eq!(execution(request).retry_requested_at.as_deref(), Some(request));
    }
    let unprintable = execution("now\u{9b}31m");
    assert_ne!(unprintable.cancel_requested_at, execution("now\u{9b}32m").cancel_requested_at);
    assert!(unprintable.cancel_requested_at.unwrap().chars().all(|c| c.is_ascii_hexdigit()));
    let (one, other) = (execution(&format!("{longest}1")), execution(&format!("{longest}2")));
    for request in [one.retry_requested_at.as_ref(), one.cancel_requested_at.as_ref()] {
        assert!(request.unwrap().chars().count() <= REQUEST_CHARS_MAX, "{request:?}");
    }
    assert_ne!(one.retry_requested_at, other.retry_requested_at, "another request is told from it");
}
