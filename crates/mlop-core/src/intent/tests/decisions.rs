//! Decisions on inputs and runs.

use super::*;
use crate::{
    cause,
    condition::{self, Conditions},
    inputs::InputState,
    testing::{ForecastRun, at, because},
};
use mlop_api::{
    Reason,
    common::Consistency,
    contract::{Cause, condition_type},
    labels,
};
use std::sync::Arc;

#[test]
fn blocked_intent_names_its_reason() {
    check(vec![
        (
            "an input does not exist",
            intent("delay").input(missing("flights")),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "one of two inputs does not exist",
            intent("delay").input(ready("flights")).input(missing("weather")),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "an input has failed",
            intent("delay").input(failed("flights")),
            "Ready=False/UpstreamFailed InputsReady=False/UpstreamFailed UpToDate=Unknown/UpstreamFailed",
        ),
        (
            "a pod of an input waits for a node, which is no failure",
            intent("delay").input(queued(failed("flights"))),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "the intent depends on itself",
            intent("delay").input(ready("flights")).cycle("Forecast delay depends on itself"),
            "Ready=False/DependencyCycle InputsReady=Unknown/DependencyCycle UpToDate=Unknown/DependencyCycle Stalled",
        ),
        (
            "the spec can never work",
            intent("delay").input(ready("flights")).with(|spec| spec.method = "guess".into()),
            "Ready=False/InvalidSpec InputsReady=True/InputsReady UpToDate=Unknown/InvalidSpec Stalled",
        ),
        (
            "the pin names no run",
            intent("delay").input(ready("flights")).with(|spec| spec.pin = Some("delay-1".into())),
            "Ready=False/PinnedRunNotFound InputsReady=Unknown/PinnedRunNotFound UpToDate=Unknown/PinnedRunNotFound \
             Stalled",
        ),
        ("the intent is being deleted", intent("delay").input(ready("flights")).being_deleted(), "quiet"),
    ]);
}

#[test]
fn inputs_of_different_roots_wait_for_each_other() {
    let diverged = || intent("delay").input(descendant("a", 1)).input(descendant("b", 2));
    check(vec![
        (
            "two versions of a root, first reconcile",
            diverged(),
            "Ready=Unknown/InputsDiverged InputsReady=Unknown/InputsDiverged UpToDate=Unknown/InputsDiverged",
        ),
        (
            "any version will do",
            diverged().with(|spec| spec.consistency = Consistency::Any),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run",
        ),
        (
            "both have followed",
            intent("delay").input(descendant("a", 2)).input(descendant("b", 2)),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run",
        ),
    ]);
}

#[test]
fn ready_inputs_start_a_run_unless_paused() {
    let delay = || intent("delay").input(ready("flights"));
    check(vec![
        (
            "nothing holds it up",
            delay(),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run",
        ),
        (
            "an intent without inputs",
            intent("delay"),
            "Ready=Unknown/Running UpToDate=Unknown/Running Reconciling create run",
        ),
        (
            "suspended",
            delay().with(|spec| spec.suspend = true),
            "Ready=Unknown/Suspended InputsReady=True/InputsReady UpToDate=Unknown/Suspended",
        ),
        (
            "manual, without a request",
            delay().manual(),
            "Ready=Unknown/WaitingForTrigger InputsReady=True/InputsReady UpToDate=Unknown/WaitingForTrigger",
        ),
        (
            "manual, requested",
            delay().manual().annotated(labels::RUN_REQUESTED_AT, "1"),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run",
        ),
        (
            "the inputs settle",
            delay().settles(160),
            "Ready=Unknown/Stabilizing InputsReady=True/InputsReady UpToDate=Unknown/Stabilizing requeue 60",
        ),
        (
            "the inputs have settled",
            delay().settles(100),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run",
        ),
    ]);
}

#[test]
fn answered_request_starts_no_second_run() {
    let answered = intent("delay").input(ready("flights")).manual().annotated(labels::RUN_REQUESTED_AT, "1");
    let answered = answered.reconciled().its_run(|run| {
        run.metadata.annotations = Some([(labels::RUN_REQUESTED_AT.to_owned(), "1".to_owned())].into());
        succeeded(run);
    });
    let newer = answered.reconciled().input(version("flights", 2, -1));
    check(vec![(
        "newer inputs after the request was answered",
        newer,
        "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/WaitingForTrigger",
    )]);
}

#[test]
fn run_of_the_inputs_is_followed() {
    let delay = || intent("delay").input(ready("flights"));
    check(vec![
        (
            "it is active, too recent to report after the start",
            delay().its_run(active).reconciled(),
            "quiet requeue 3",
        ),
        (
            "it is active for three seconds",
            delay().its_run(active).at(3),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling",
        ),
        (
            "it is held up",
            delay().its_run(held_up),
            "Ready=Unknown/ImagePull InputsReady=True/InputsReady UpToDate=Unknown/ImagePull Reconciling",
        ),
        (
            "it retries",
            delay().its_run(retrying),
            "Ready=Unknown/Retrying InputsReady=True/InputsReady UpToDate=Unknown/Retrying Reconciling",
        ),
        (
            "it is dead",
            delay().its_run(dead),
            "Ready=False/UserError InputsReady=True/InputsReady UpToDate=Unknown/UserError Stalled",
        ),
        (
            "it has succeeded",
            delay().its_run(succeeded),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        ("its result is published", delay().its_run(succeeded).reconciled(), "quiet"),
    ]);
}

#[test]
fn newer_inputs_start_a_run_after_the_active_one() {
    let published = || intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    let newer = || published().input(version("flights", 2, 10));
    check(vec![
        ("no run is active", newer().at(11), "quiet create run requeue 10"),
        (
            "the run of other inputs is active",
            newer().its_run(active).input(version("flights", 3, 20)).at(21),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Running Reconciling",
        ),
        (
            "the run of other inputs is held up",
            newer().its_run(held_up).input(version("flights", 3, 20)).at(21),
            "quiet delete old requeue 10 then quiet create run requeue 10",
        ),
        (
            "it is held up, and the intent is suspended",
            newer().its_run(held_up).input(version("flights", 3, 20)).with(|spec| spec.suspend = true).at(21),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/ImagePull Reconciling",
        ),
        (
            "an attempt of it was disrupted: it keeps its checkpoints",
            newer().its_run(retrying).input(version("flights", 3, 20)).at(21),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Retrying Reconciling",
        ),
        (
            "an attempt of it was disrupted, and an edit makes it worthless",
            newer()
                .its_run(retrying)
                .input(version("flights", 3, 20))
                .edited(|spec| spec.method = "median".into())
                .at(21),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling delete old \
             then quiet create run requeue 3",
        ),
        (
            "the run of the newer inputs is dead: the artifact stays in use",
            newer().its_run(dead).at(11),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/UserError Stalled",
        ),
        ("the first inputs are back", newer().input(ready("flights")), "quiet"),
        (
            "they are back, and the run of the newer ones works",
            newer().its_run(active).input(ready("flights")).at(21),
            "quiet",
        ),
        (
            "they are back, and it is held up",
            newer().its_run(held_up).input(ready("flights")).at(21),
            "quiet delete old",
        ),
        (
            "they are back, it is held up, and the intent is suspended",
            newer().its_run(held_up).input(ready("flights")).with(|spec| spec.suspend = true).at(21),
            "quiet",
        ),
        (
            "an attempt of it was disrupted: it keeps its checkpoints",
            newer().its_run(retrying).input(ready("flights")).at(21),
            "quiet",
        ),
        (
            "an edit is taken back, and its run is held up",
            published()
                .edited(|spec| spec.method = "median".into())
                .its_run(retrying)
                .edited(|spec| spec.method = "mean".into())
                .at(21),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1 delete old",
        ),
    ]);
}

#[test]
fn upstream_failure_keeps_the_artifact_in_use() {
    let published = || intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    check(vec![
        (
            "newer data of the input has failed",
            published().input(outdated("flights")),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/UpstreamFailed",
        ),
        (
            "newer data of the input wait for a node",
            published().input(queued(outdated("flights"))),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "the input has failed",
            published().input(failed("flights")),
            "Ready=True/Ready InputsReady=False/UpstreamFailed UpToDate=False/UpstreamFailed",
        ),
        (
            "the input is gone",
            published().input(missing("flights")),
            "Ready=True/Ready InputsReady=Unknown/WaitingForInputs UpToDate=False/WaitingForInputs",
        ),
    ]);
}

#[test]
fn artifact_in_use_names_the_cause_upstream() {
    let published = intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    let status = published.input(outdated("flights")).plan().status.unwrap();
    let cause = status.cause.map(|cause| (cause.kind, cause.name, cause.reason));
    let want = ("Dataset".to_owned(), "flights".to_owned(), "SchemaMismatch".to_owned());
    assert_eq!(cause, Some(want));
}

#[test]
fn problem_that_needs_a_person_comes_first() {
    let waiting = || intent("delay").input(queued(failed("flights")));
    let published = intent("delay").input(ready("flights")).input(ready("weather"));
    let published = published.its_run(succeeded).reconciled();
    for (situation, case, wanted) in [
        ("an input waits for a node, another has failed", waiting().input(failed("weather")), "weather"),
        (
            "an input has failed, another waits for a node",
            intent("delay").input(failed("a")).input(queued(failed("b"))),
            "a",
        ),
        ("an input waits for a node, another does not exist", waiting().input(missing("weather")), "delay"),
        ("both have failed", intent("delay").input(failed("a")).input(failed("b")), "a"),
        (
            "newer data of one wait for a node, those of the other have failed",
            published.input(queued(outdated("flights"))).input(outdated("weather")),
            "weather",
        ),
    ] {
        let cause = case.plan().status.unwrap().cause;
        assert_eq!(cause.map(|cause| cause.name).as_deref(), Some(wanted), "{situation}");
    }
}

fn queued(state: InputState) -> InputState {
    because(state, Reason::Unschedulable)
}

/// The controller reports failed reconciles with these reasons. Here the intent itself does, for as long as its run.
#[test]
fn status_of_a_refused_run_is_written_once() {
    for reason in [Reason::QuotaExceeded, Reason::PodRefused, Reason::NameConflict, Reason::ApiError] {
        let case = intent("delay").input(ready("flights")).its_run(refused(reason)).reconciled();
        let conditions = case.status().conditions;
        let reconciling = condition::get(&conditions, condition_type::RECONCILING).map(|c| c.reason.as_str());
        assert_eq!(reconciling, Some(reason.as_str()));
    }
}

#[test]
fn progress_replaces_the_report_of_a_failed_reconcile() {
    let mut failed = intent("delay").input(ready("flights")).its_run(active).reconciled();
    let status = failed.object.status.as_mut().unwrap();
    Conditions::new(&mut status.conditions, 1, at(NOW)).reconciling(Reason::QuotaExceeded, "no room");
    check(vec![(
        "the run was created at last",
        failed.its_run(active),
        "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling",
    )]);
}

#[test]
fn failed_branch_of_a_diamond_is_the_cause() {
    let mut branch = descendant("a", 1);
    let mut object = branch.object.take().map(Arc::unwrap_or_clone).unwrap();
    object.status.cause = outdated("a").object.unwrap().status.cause.clone();
    branch.object = Some(Arc::new(object));
    let diverged = intent("delay").input(branch).input(descendant("b", 2));
    let status = diverged.plan().status.unwrap();
    assert_eq!(status.cause.map(|cause| (cause.kind, cause.name)), Some(("Dataset".into(), "a".into())));
    let ready = condition::get(&status.conditions, "Ready").unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("False", "InputsDiverged"));
    assert!(ready.message.contains("Dataset a: SchemaMismatch: no column x"), "{}", ready.message);
}

#[test]
fn repetition_names_the_failure_before_it() {
    let delay = || intent("delay").input(ready("flights")).at(60);
    let name = delay().run_name();
    let message = |case: Case| {
        let conditions = case.plan().status.unwrap().conditions;
        condition::get(&conditions, "Reconciling").unwrap().message.clone()
    };
    assert_eq!(message(delay().its_run(active)), format!("{name} is running"));
    assert_eq!(
        message(delay().its_run(repeated)),
        format!("{name}: attempt 2 of 3 is under way; attempt 1 failed: UserError: exit code 1")
    );
    let running = "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling";
    check(vec![
        ("the second attempt runs", delay().its_run(repeated), running),
        (
            "it runs for hours, and the failure before it costs no further write",
            delay().its_run(repeated).reconciled().at(9_000),
            "quiet",
        ),
    ]);
}

#[test]
fn work_that_waits_for_a_person_is_a_cause() {
    let delay = || intent("delay").input(ready("flights"));
    for (work, wanted) in [
        (delay().its_run(held_up), Some("ImagePull")),
        (delay().its_run(retrying), None),
        (delay().its_run(active).at(3), None),
    ] {
        let cause = work.plan().status.unwrap().cause;
        assert_eq!(cause.as_ref().map(|cause| cause.reason.as_str()), wanted);
        assert_eq!(
            cause.map(|cause| (cause.kind, cause.name)),
            wanted.map(|_| ("Forecast".to_owned(), "delay".to_owned()))
        );
    }
}

#[test]
fn cause_is_told_beyond_ordinary_work() {
    let delay = || intent("delay").input(ready("flights"));
    let behind = |run: &mut ForecastRun| {
        let files = cause("ObjectStore", "files", Reason::StoreDenied, "the keys are refused");
        run.status.get_or_insert_default().cause = Some(files);
    };
    let activating = || delay().activates().input(ready("flights")).its_run(succeeded).reconciled();
    let rows: [(&str, Option<Cause>, Option<&str>); 9] = [
        (
            "an input does not exist",
            told(&intent("delay").input(missing("flights"))),
            Some("Forecast/WaitingForInputs"),
        ),
        ("an input makes its first version", told(&intent("delay").input(unready("flights"))), None),
        (
            "an input has failed",
            told(&intent("delay").input(failed("flights"))),
            Some("Dataset/SchemaMismatch"),
        ),
        ("the intent is suspended", told(&delay().with(|spec| spec.suspend = true)), None),
        ("its run is under way", told(&delay().its_run(active).at(3)), None),
        (
            "its run waits for a connection that refuses",
            told(&delay().its_run(retrying).its_run(behind)),
            Some("ObjectStore/StoreDenied"),
        ),
        ("its activation is under way", told(&activating().pods(pod_running).at(3)), None),
        ("its activation has failed once", told(&activating().pods(pod_failed(0))), None),
        (
            "its activation has failed three times",
            told(&[11, 40].into_iter().fold(activating().pods(pod_failed(0)), |case, seconds| {
                case.at(seconds).reconciled().pods(pod_failed(seconds))
            })),
            Some("Forecast/OnlineStoreUnreachable"),
        ),
    ];
    for (situation, told, want) in rows {
        let told = told.map(|cause| format!("{}/{}", cause.kind, cause.reason));
        assert_eq!(told.as_deref(), want, "{situation}");
    }
}

/// The cause that the intent tells.
fn told<const ACTIVATES: bool>(case: &Case<ACTIVATES>) -> Option<Cause> {
    case.plan().status.unwrap_or_else(|| case.status()).cause
}

/// An input that has published nothing yet.
fn unready(name: &str) -> InputState {
    let mut state = ready(name);
    let mut object = state.object.take().map(Arc::unwrap_or_clone).unwrap();
    object.status.artifact = None;
    state.object = Some(Arc::new(object));
    state
}

#[test]
fn edit_keeps_ready_only_if_the_artifact_is_still_valid() {
    let published = || intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    check(vec![
        (
            "an edit that changes the result",
            published().edited(|spec| spec.method = "median".into()),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling create run",
        ),
        (
            "an edit of the execution",
            published().edited(|spec| spec.execution.retry.limit = 7),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "suspend while the input is gone",
            published().edited(|spec| spec.suspend = true).input(missing("flights")),
            "Ready=True/Ready InputsReady=Unknown/WaitingForInputs UpToDate=False/WaitingForInputs artifact 1",
        ),
        (
            "an edit while the input is gone",
            published().edited(|spec| spec.method = "median".into()).input(missing("flights")),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=False/WaitingForInputs",
        ),
    ]);
}

#[test]
fn pin_selects_a_run() {
    let first = || intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    let second = || first().input(version("flights", 2, 10)).its_run(succeeded_at(11)).reconciled();
    let pin = first().run_name();
    let newer = |state: fn(&mut crate::testing::ForecastRun)| {
        let case = first().input(version("flights", 2, 10)).its_run(state);
        let pin = case.run_name();
        case.edited(|spec| spec.pin = Some(pin.clone()))
    };
    check(vec![
        (
            "the pinned run has succeeded",
            second().edited(|spec| spec.pin = Some(pin.clone())),
            "Ready=True/Ready InputsReady=True/Pinned UpToDate=True/Pinned artifact 3",
        ),
        (
            "the pin is taken back",
            second().edited(|spec| spec.pin = Some(pin.clone())).reconciled().edited(|spec| spec.pin = None),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 4",
        ),
        (
            "the pinned run is active",
            newer(active).at(21),
            "Ready=Unknown/Running InputsReady=True/Pinned UpToDate=False/Running Reconciling",
        ),
        (
            "the pin names a dead run",
            newer(dead),
            "Ready=False/PinnedRunNotFound InputsReady=Unknown/PinnedRunNotFound UpToDate=False/PinnedRunNotFound \
             Stalled",
        ),
    ]);
}

#[test]
fn pin_selects_a_version_by_its_number() {
    let case = |pin: &str| {
        let first = intent("delay").input(ready("flights")).its_run(registered("1")).reconciled();
        let second = first.input(version("flights", 2, 10)).its_run(registered("2")).reconciled();
        second.edited(|spec| spec.pin = Some(pin.to_owned()))
    };
    let first = intent("delay").input(ready("flights")).run_name();
    let pinned = case("version 1").reconciled();
    assert_eq!(pinned.status().artifact.map(|artifact| artifact.run), Some(first.clone()));
    let kept = case("version 1").with(|spec| spec.history_limit = 0).reconciled();
    assert!(kept.has_run(&first), "a pinned run is kept");
    check(vec![
        (
            "the pin names the number of the run in use",
            case("version 2"),
            "Ready=True/Ready InputsReady=True/Pinned UpToDate=True/Pinned artifact 2",
        ),
        (
            "no version has the number",
            case("version 3"),
            "Ready=False/PinnedRunNotFound InputsReady=Unknown/PinnedRunNotFound UpToDate=False/PinnedRunNotFound \
             Stalled",
        ),
    ]);
}

#[test]
fn pin_by_number_means_the_present_number_of_the_version_in_use() {
    let again = |case: Case, number: &str| {
        let mut case = case;
        let status = case.object.status.as_mut().unwrap();
        status.registered.as_mut().unwrap().version = number.to_owned();
        case
    };
    let pin = |case: Case, pin: &str| case.edited(|spec| spec.pin = Some(pin.to_owned())).reconciled();
    let in_use = |case: &Case| case.status().artifact.map(|artifact| artifact.run);
    let first = intent("delay").input(ready("flights")).its_run(registered("1")).reconciled();
    let name = Some(first.run_name());
    let second = first.input(version("flights", 2, 10)).its_run(registered("2")).reconciled();
    // The first version is in use, and was registered again as version 2.
    let repaired = again(pin(second, "version 1"), "2");
    let pinned = pin(repaired.clone(), "version 2");
    assert_eq!(in_use(&pinned), name);
    assert_eq!(in_use(&again(pinned, "3").reconciled()), name, "a repair chooses no other version");
    assert_ne!(in_use(&pin(again(repaired, "3"), "version 2")), name, "the number of another version");
}

#[test]
fn wrong_pin_lists_the_runs_that_can_be_pinned() {
    let message = |case: Case| {
        let status = case.edited(|spec| spec.pin = Some("version 7".into())).plan().status.unwrap();
        condition::get(&status.conditions, "Ready").unwrap().message.clone()
    };
    let none = intent("delay").input(ready("flights")).its_run(dead);
    assert!(message(none).contains("none has succeeded yet"));
    let mut case = intent("delay").input(ready("flights")).its_run(registered("1"));
    let first = case.run_name();
    assert!(message(case.clone()).ends_with(&format!("choose one of {first} (version 1)")));
    for n in 2..8 {
        case = case.at(n.into()).input(version("flights", n, n.into())).its_run(registered("2"));
    }
    let message = message(case);
    assert!(message.ends_with("(version 2) and 2 more") && !message.contains(&first), "{message}");
}

#[test]
fn request_that_finds_nothing_to_do_is_answered_once() {
    let asked = |case: Case| case.manual().annotated(labels::RUN_REQUESTED_AT, "1");
    let published = || intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    let rows: [(&str, Case, Option<&str>); 6] = [
        (
            "everything is up to date",
            asked(published()),
            Some("is the result for these inputs; change the spec"),
        ),
        ("it was answered", asked(published()).reconciled(), None),
        (
            "newer inputs came after the answer",
            asked(published()).reconciled().input(version("flights", 2, 10)),
            None,
        ),
        ("a run starts", asked(intent("delay").input(ready("flights"))), None),
        (
            "the run has failed",
            asked(intent("delay").input(ready("flights")).its_run(dead)),
            Some("retry-requested-at"),
        ),
        (
            "the gates refuse the result",
            asked(
                intent("delay").input(ready("flights")).with(|spec| spec.gate = Some(9)).its_run(succeeded),
            ),
            Some("the gates refuse"),
        ),
    ];
    for (situation, case, answer) in rows {
        let plan = case.plan();
        let answers: Vec<_> =
            plan.events.iter().filter(|event| event.message.contains("nothing to do")).collect();
        assert_eq!(answers.len(), usize::from(answer.is_some()), "{situation}");
        assert!(
            answers.iter().all(|event| event.message.contains(answer.unwrap())),
            "{situation}: {answers:?}"
        );
    }
    let late = asked(published()).reconciled().input(version("flights", 2, 10));
    assert!(late.plan().creates.is_empty(), "an answered request starts no run later");
}

#[test]
fn gate_decides_whether_a_result_is_used() {
    let gated = |score| {
        intent("delay").input(ready("flights")).with(|spec| spec.gate = Some(5)).its_run(scored(score))
    };
    check(vec![
        (
            "good enough",
            gated(5),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "not good enough",
            gated(4),
            "Ready=False/GateFailed InputsReady=True/InputsReady UpToDate=Unknown/GateFailed",
        ),
        (
            "a lower gate",
            gated(4).reconciled().edited(|spec| spec.gate = Some(4)),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "a higher gate refuses the artifact",
            gated(5).reconciled().edited(|spec| spec.gate = Some(6)),
            "Ready=False/GateFailed InputsReady=True/InputsReady UpToDate=False/GateFailed",
        ),
    ]);
}

#[test]
fn lost_run_of_the_artifact_starts_no_run() {
    let published = intent("delay").input(ready("flights")).its_run(succeeded).reconciled();
    check(vec![("its run was deleted", published.without_runs(), "quiet")]);
}

#[test]
fn run_follows_the_publication_of_its_newest_input() {
    let created = |mut case: Case| {
        case.object.metadata.creation_timestamp = Some(crate::testing::time(NOW - 50));
        case
    };
    let both =
        |seconds| intent("delay").input(version("flights", 1, -30)).input(version("weather", 1, seconds));
    let trained = |case: Case| created(case).its_run(succeeded).reconciled();
    let handover = |case: &Case| {
        let handover = case.plan().creates[0].handover.clone();
        handover.map(|handover| (handover.from, handover.produced_at.as_second() - NOW))
    };
    let dataset = |seconds| Some(("Dataset".to_owned(), seconds));
    let rows = [
        ("both inputs are new", created(both(-20)), dataset(-20)),
        (
            "the inputs are older than the intent",
            created(intent("delay").input(version("flights", 1, -60))),
            None,
        ),
        ("one of them is", created(both(-60)), dataset(-30)),
        ("one has a new version", trained(both(-20)).input(version("flights", 2, -25)), dataset(-25)),
        ("an edit starts the run", trained(both(-20)).edited(|spec| spec.method = "median".into()), None),
    ];
    for (situation, case, want) in rows {
        assert_eq!(handover(&case), want, "{situation}");
    }
}
