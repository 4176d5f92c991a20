//! Decisions on bringing a result to the external system.

use super::*;

/// The pin on the first of two versions, of which the second is published and active.
fn rolled_back() -> Case<true> {
    let first = intent("delay").activates().input(ready("flights")).its_run(activated).reconciled();
    let pin = first.run_name();
    let second = first.input(version("flights", 2, 10)).its_run(activated_at(11)).at(12).reconciled();
    second.edited(|spec| spec.pin = Some(pin.clone()))
}

#[test]
fn result_is_published_once_it_is_active() {
    let delay = || intent("delay").activates().input(ready("flights"));
    check(vec![
        (
            "the run's pod has activated it",
            delay().its_run(activated),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "the run's pod has not: a pod of its own does",
            delay().its_run(succeeded),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=Unknown/Activating Reconciling \
             create pod 2",
        ),
        (
            "the connection is not ready",
            delay().its_run(succeeded).not_connected("FeatureStore f is not ready"),
            "Ready=Unknown/ConnectionNotReady InputsReady=True/InputsReady UpToDate=Unknown/ConnectionNotReady",
        ),
        ("it is published and active", delay().its_run(activated).reconciled(), "quiet"),
        (
            "an edit of the execution while the connection is not ready",
            delay()
                .its_run(activated)
                .reconciled()
                .edited(|spec| spec.execution.retry.limit = 7)
                .not_connected("FeatureStore f is not ready"),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
    ]);
}

#[test]
fn activation_pod_is_followed() {
    check(vec![
        (
            "it starts, too recent to report",
            rolled_back(),
            "Ready=Unknown/Activating InputsReady=True/Pinned UpToDate=False/Activating Reconciling create pod 3",
        ),
        (
            "it has succeeded",
            rolled_back().reconciled().pods(pod_succeeded),
            "Ready=True/Ready InputsReady=True/Pinned UpToDate=True/Pinned artifact 3",
        ),
        (
            "its image cannot be pulled",
            rolled_back().reconciled().pods(pod_held_up),
            "Ready=Unknown/ImagePull InputsReady=True/Pinned UpToDate=False/ImagePull Reconciling requeue 600",
        ),
        (
            "it has failed just now",
            rolled_back().reconciled().pods(pod_failed(12)),
            "Ready=Unknown/OnlineStoreUnreachable InputsReady=True/Pinned UpToDate=False/OnlineStoreUnreachable \
             Reconciling requeue 10",
        ),
        (
            "its backoff is over",
            rolled_back().reconciled().pods(pod_failed(12)).at(24),
            "Ready=Unknown/OnlineStoreUnreachable InputsReady=True/Pinned UpToDate=False/OnlineStoreUnreachable \
             Reconciling create pod 3 delete pod 3",
        ),
        (
            "the second attempt runs",
            rolled_back().reconciled().pods(pod_failed(12)).at(24).reconciled().pods(pod_running),
            "quiet requeue 3660",
        ),
        (
            "its worker has refused it",
            rolled_back().reconciled().pods(pod_refused),
            "Ready=False/TrackingRefused InputsReady=True/Pinned UpToDate=False/TrackingRefused Stalled requeue 10",
        ),
        (
            "an edit retries what was refused",
            rolled_back().reconciled().pods(pod_refused).reconciled().edited(|spec| spec.history_limit = 9),
            "Ready=Unknown/TrackingRefused InputsReady=True/Pinned UpToDate=False/TrackingRefused Reconciling \
             create pod 3 delete pod 3",
        ),
        (
            "it never starts",
            rolled_back().reconciled().pods(pod_held_up).at(612),
            "Ready=Unknown/ImagePull InputsReady=True/Pinned UpToDate=False/ImagePull Reconciling requeue 10",
        ),
        (
            "another image is wanted before it has started",
            rolled_back().reconciled().pods(pod_held_up).image("worker:2"),
            "quiet create pod 3 delete pod 3 requeue 3",
        ),
        (
            "the connection is not ready when the next attempt is due",
            rolled_back()
                .reconciled()
                .pods(pod_failed(12))
                .at(24)
                .not_connected("FeatureStore f is not ready"),
            "Ready=Unknown/ConnectionNotReady InputsReady=Unknown/ConnectionNotReady \
             UpToDate=False/ConnectionNotReady",
        ),
    ]);
}

#[test]
fn suspended_intent_still_activates_what_it_has() {
    let suspended = |case: Case<true>| case.with(|spec| spec.suspend = true);
    let published = || intent("delay").activates().input(ready("flights")).its_run(activated).reconciled();
    check(vec![
        (
            "a run has ended",
            suspended(intent("delay").activates().input(ready("flights")).its_run(succeeded)),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=Unknown/Activating Reconciling \
             create pod 2",
        ),
        (
            "the attempt before failed, and its backoff is over",
            suspended(rolled_back()).reconciled().pods(pod_failed(12)).at(24),
            "Ready=Unknown/OnlineStoreUnreachable InputsReady=True/Pinned UpToDate=False/OnlineStoreUnreachable \
             Reconciling create pod 3 delete pod 3",
        ),
        ("its result is active", suspended(published()), "quiet"),
        (
            "newer inputs wait",
            suspended(published()).input(version("flights", 2, 10)),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Suspended",
        ),
    ]);
}

#[test]
fn activation_reports_how_the_registry_knows_the_result() {
    let number = |case: &Case<true>| case.status().registered.map(|registered| registered.version);
    let pinned = rolled_back().reconciled().pods(pod_registered("7")).reconciled();
    assert_eq!(number(&pinned).as_deref(), Some("7"));
    let edited = pinned.edited(|spec| spec.history_limit = 9).reconciled();
    assert_eq!(number(&edited).as_deref(), Some("7"), "an edit that activates nothing keeps it");
}

#[test]
fn higher_external_revision_is_overtaken() {
    let case = rolled_back().reconciled().pods(pod_superseded(9)).at(30);
    let plan = case.plan();
    assert_eq!(case.summary(&plan), "quiet create pod 10 requeue 3");
}

#[test]
fn pin_taken_back_restores_the_published_activation() {
    let undone = rolled_back().reconciled().edited(|spec| spec.pin = None);
    check(vec![
        (
            "the pin's pod may have been activated",
            undone.clone(),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Activating Reconciling artifact 2 create pod 4",
        ),
        (
            "the inputs are gone meanwhile",
            undone.clone().input(missing("flights")),
            "Ready=True/Ready InputsReady=True/Pinned UpToDate=False/Activating Reconciling artifact 2 create pod 4",
        ),
        (
            "the worker has refused the pin's pod: nothing was moved",
            undone.pods(pod_refused).input(missing("flights")),
            "Ready=True/Ready InputsReady=Unknown/WaitingForInputs UpToDate=False/WaitingForInputs artifact 2",
        ),
    ]);
}

#[test]
fn other_parameters_activate_again() {
    let active = intent("delay").activates().input(ready("flights")).its_run(activated).reconciled();
    let again = "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling create pod 2";
    let waits = "Ready=Unknown/ConnectionNotReady InputsReady=True/InputsReady UpToDate=False/ConnectionNotReady \
                 Reconciling artifact 1 invalid";
    let mut unrecorded = active.clone();
    unrecorded.object.status.as_mut().unwrap().activation = None;
    check(vec![
        ("another alias", active.clone().edited(|spec| spec.alias = "challenger".into()), again),
        (
            "the external system has lost the result",
            active.clone().emptied(),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling \
             artifact 1 invalid create pod 2",
        ),
        ("it has, and its connection is not ready", active.emptied().not_connected("no answer"), waits),
        (
            "its record is gone, as after a restore",
            unrecorded.clone(),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling \
             artifact 1 invalid create pod 2",
        ),
        ("it is, and its connection is not ready", unrecorded.not_connected("no answer"), waits),
    ]);
}

#[test]
fn run_is_started_again_when_a_later_revision_was_given_out() {
    let gone = rolled_back().reconciled().edited(|spec| spec.pin = None).without_runs();
    let plan = gone.plan();
    assert_eq!(plan.creates.len(), 1, "{plan:#?}");
    assert_eq!(plan.creates[0].kind.kind, "ForecastRun");
}

#[test]
fn run_is_not_superseded_when_it_may_be_active_already() {
    let published = intent("delay").activates().input(ready("flights")).its_run(activated).reconciled();
    let retried = published.input(version("flights", 2, 10)).its_run(retrying);
    check(vec![(
        "an attempt has run already",
        retried.input(version("flights", 3, 20)).at(21),
        "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Retrying Reconciling",
    )]);
}
