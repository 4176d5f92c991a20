use super::*;
use mlop_api::status::IntentStatus;

/// A condition in short: `Type Status Reason message`.
fn condition(text: &str) -> Condition {
    let mut words = text.splitn(4, ' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    Condition {
        type_: next(),
        status: next(),
        reason: next(),
        message: next(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

fn shown(conditions: &[&str], notes: &[&str]) -> (String, String) {
    let conditions: Vec<_> = conditions.iter().map(|text| condition(text)).collect();
    let notes: Vec<_> = notes.iter().map(|note| (*note).to_owned()).collect();
    let Headline { reason, message } = headline("Model m", &conditions, &notes).unwrap();
    (reason, message.unwrap_or_default())
}

const READY: &str = "Ready True Ready revision 1 is in use";
const INPUTS: &str = "InputsReady True InputsReady all inputs are ready";
const UP_TO_DATE: &str = "UpToDate True UpToDate made from the newest inputs";

#[test]
fn headline_is_the_first_condition_that_is_not_as_it_should_be() {
    // Situation, conditions, notes, REASON, MESSAGE.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a str, &'a str);
    let rows: [Row<'_>; 15] = [
        ("all is well", &[READY, INPUTS, UP_TO_DATE], &[], "Ready", ""),
        (
            "all is well, with a note",
            &[READY, UP_TO_DATE],
            &["1 row rejected", "x"],
            "Ready",
            "1 row rejected",
        ),
        (
            "the newest version is refused",
            &[READY, INPUTS, "UpToDate False GateFailed Model m: GateFailed: m-2: gate q: auc is 0.5"],
            &["note"],
            "GateFailed",
            "m-2: gate q: auc is 0.5",
        ),
        (
            "a failure upstream leaves the version in use",
            &[READY, "UpToDate False UpstreamFailed Model m <- TrainingJob t: UserError: exit code 1"],
            &[],
            "UpstreamFailed",
            "TrainingJob t: UserError: exit code 1",
        ),
        (
            "the spec failed",
            &[
                "Ready False UserError Model m: UserError: exit code 1",
                "UpToDate False UserError x",
                "Stalled True UserError y",
            ],
            &[],
            "UserError",
            "exit code 1",
        ),
        (
            "a queued run",
            &["Ready Unknown Unschedulable m-1: 0/1 nodes"],
            &[],
            "Unschedulable",
            "m-1: 0/1 nodes",
        ),
        (
            "a stuck rollout behind a version that serves",
            &[READY, "UpToDate False Unschedulable 0/1 nodes", "Reconciling True Unschedulable 0/1 nodes"],
            &[],
            "Unschedulable",
            "0/1 nodes",
        ),
        (
            "a scan that fails",
            &[READY, INPUTS, "UpToDate Unknown ScanFailing no such bucket"],
            &[],
            "ScanFailing",
            "no such bucket",
        ),
        (
            "a reconcile that fails",
            &[READY, UP_TO_DATE, "Reconciling True ApiError cannot write"],
            &[],
            "ApiError",
            "cannot write",
        ),
        (
            "a reconcile that cannot succeed",
            &[READY, UP_TO_DATE, "Stalled True NotPermitted forbidden"],
            &[],
            "NotPermitted",
            "forbidden",
        ),
        (
            "suspended",
            &[READY, "UpToDate False Suspended spec.suspend is true"],
            &[],
            "Suspended",
            "spec.suspend is true",
        ),
        ("pinned", &[READY, "UpToDate True Pinned version 1 is pinned"], &[], "Ready", "version 1 is pinned"),
        ("a finished run", &["Succeeded True Succeeded 5 rows"], &[], "Succeeded", ""),
        (
            "a finished run that the gates refuse",
            &["Succeeded True Succeeded version 2", "Accepted False GateFailed gate q: auc is 0.5"],
            &[],
            "GateFailed",
            "gate q: auc is 0.5",
        ),
        (
            "an object that no controller has seen",
            &["Ready Unknown Pending Waiting for the controller"],
            &[],
            "Pending",
            "",
        ),
    ];
    for (situation, conditions, notes, reason, message) in rows {
        assert_eq!(shown(conditions, notes), (reason.to_owned(), message.to_owned()), "{situation}");
    }
    assert_eq!(headline("Model m", &[], &[]), None);
}

#[test]
fn headline_is_one_short_line() {
    let long = format!("Ready False UserError Model m: UserError: exit code 1\n  {}", "é".repeat(500));
    let (_, message) = shown(&[&long], &[]);
    assert!(message.starts_with("exit code 1 | é") && message.ends_with('…'), "{message}");
    assert!(message.len() <= MESSAGE_BYTES_MAX, "{}", message.len());
}

#[test]
fn headline_has_the_message_that_is_left_out_in_its_condition() {
    let long = format!("Model m: UserError: {}", "x".repeat(150));
    let texts = ["Ready True Ready", "UpToDate False UserError", "Stalled True UserError"];
    let mut conditions: Vec<_> = texts.iter().map(|text| condition(text)).collect();
    conditions[1..].iter_mut().for_each(|condition| condition.message.clone_from(&long));
    let mut status = IntentStatus { conditions, ..IntentStatus::default() };
    for time in ["first", "second"] {
        present("Model m", &mut status);
        let message = status.headline.clone().unwrap().message.unwrap();
        assert_eq!(message, "x".repeat(150), "{time}");
        assert_eq!(status.conditions[2].message.len(), REPEATED_BYTES_MAX, "{time}");
    }
}

#[test]
fn long_message_stays_in_its_first_condition() {
    let long = "x".repeat(450);
    let texts = ["Ready False UserError", "UpToDate False UserError", "Stalled True UserError"];
    let conditions = texts.iter().map(|text| condition(&format!("{text} {long}"))).collect();
    let mut status = IntentStatus { conditions, ..IntentStatus::default() };
    present("Model m", &mut status);
    let lengths: Vec<_> = status.conditions.iter().map(|c| c.message.len()).collect();
    assert_eq!(lengths, [450, REPEATED_BYTES_MAX, REPEATED_BYTES_MAX]);
    let again = status.clone();
    present("Model m", &mut status);
    assert_eq!(status, again, "a presented status stays as it is");
}

#[test]
fn date_leaves_times_that_are_set() {
    let mut list = [condition("Ready True Ready"), condition("UpToDate True UpToDate")];
    list[1].last_transition_time = Time(Timestamp::from_second(5).unwrap());
    date(&mut list, Timestamp::from_second(9).unwrap());
    assert_eq!(list.map(|c| c.last_transition_time.0.as_second()), [9, 5]);
}
