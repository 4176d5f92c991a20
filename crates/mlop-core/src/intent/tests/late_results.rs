//! Decisions on results of inputs that are no longer the newest.

use super::*;

#[test]
fn late_result_is_published_before_the_newest_inputs() {
    let published = || intent("delay").input(ready("flights")).its_run(succeeded).at(1).reconciled();
    let late = |ended| published().input(version("flights", 2, 10)).its_run(succeeded_at(ended));
    check(vec![
        (
            "newer inputs came while it ran",
            late(30).input(version("flights", 3, 20)).at(31),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Running Reconciling artifact 2 \
             then quiet create run requeue 10",
        ),
        (
            "it ended before the newer inputs came: it was decided on then",
            late(15).input(version("flights", 3, 20)).at(31),
            "quiet create run requeue 10",
        ),
        (
            "the spec was edited while it ran",
            late(30).input(version("flights", 3, 20)).edited(|spec| spec.method = "median".into()).at(31),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling create run",
        ),
        (
            "the pin does not follow it",
            late(30).input(version("flights", 3, 20)).edited(|spec| spec.pin = Some("none".into())).at(31),
            "Ready=False/PinnedRunNotFound InputsReady=Unknown/PinnedRunNotFound UpToDate=False/PinnedRunNotFound \
             Stalled",
        ),
    ]);
}

#[test]
fn run_starts_after_the_late_result_is_published() {
    let published = intent("delay").input(ready("flights")).its_run(succeeded).at(1).reconciled();
    let late = published.input(version("flights", 2, 10)).its_run(succeeded_at(30));
    let late = late.input(version("flights", 3, 20)).at(31);
    let plan = late.plan();
    let next = late.carried_out(&plan).plan();
    assert_eq!((plan.creates.len(), next.creates.len()), (0, 1), "{next:#?}");
}

#[test]
fn activated_late_result_of_an_earlier_spec_is_published() {
    let published =
        || intent("delay").activates().input(ready("flights")).its_run(activated).at(1).reconciled();
    let late = || published().input(version("flights", 2, 10)).its_run(activated_at(30));
    check(vec![
        (
            "the result of the present spec",
            late().input(version("flights", 3, 20)).at(31),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/Running Reconciling artifact 2 \
             then quiet create run requeue 10",
        ),
        (
            "the result of an earlier spec is valid for no generation",
            late().input(version("flights", 3, 20)).edited(|spec| spec.method = "median".into()).at(31),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling artifact 2 invalid \
             then quiet create run requeue 3",
        ),
    ]);
}
