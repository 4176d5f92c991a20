//! What of the words of running pods enters the status, and when.

use super::{Case, run, user_error};
use crate::testing::{self, ForecastRunSpec, NOW, Situation, check};
use mlop_api::{
    Digest,
    common::Metric,
    duration::Span,
    progress::{Checkpoint, Report},
    result::{Failure, ResultDocument},
};

fn report(attempt: u32, step: u64) -> Report {
    let metrics = vec![Metric::new("loss", 0.5)];
    Report { attempt, step: Some(step), of: Some(100), metrics, eta_seconds: Some(60), ..Report::default() }
}

fn running() -> Case<false> {
    run().reconciled().pod(testing::running()).at(20).reconciled()
}

/// Step 10 was written 20 seconds after [`NOW`].
fn written() -> Case<false> {
    running().hearing(report(1, 10), 30).reconciled()
}

fn success(progress: Report) -> ResultDocument {
    ResultDocument {
        digest: Some(Digest::of_bytes(b"x")),
        progress: Some(progress),
        ..ResultDocument::default()
    }
}

fn failed(failure: Failure, progress: Option<Report>) -> ResultDocument {
    ResultDocument { progress, ..ResultDocument::failed(failure) }
}

/// The step that the status shows, and of which attempt.
fn shown(case: &Case<false>) -> Option<(u32, u64)> {
    case.status().progress.map(|progress| (progress.attempt, progress.step.unwrap_or_default()))
}

#[test]
fn progress_is_written_at_most_every_fifteen_seconds() {
    check(vec![
        ("the pod says nothing", running(), "quiet"),
        ("the first report", running().hearing(report(1, 10), 30), "Unknown/Running 0 attempts requeue 10"),
        ("nothing new", written().at(60).hearing(report(1, 10), 65), "quiet requeue 5"),
        ("news too soon", written().at(34).hearing(report(1, 11), 65), "quiet requeue 1"),
        (
            "news in time",
            written().at(35).hearing(report(1, 11), 65),
            "Unknown/Running 0 attempts requeue 30",
        ),
        (
            "only the estimate is new",
            {
                let late = Report { eta_seconds: Some(50), ..report(1, 10) };
                written().at(35).hearing(late, 65)
            },
            "Unknown/Running 0 attempts requeue 30",
        ),
        ("the pod of another attempt", running().hearing(report(2, 10), 30), "quiet requeue 10"),
        ("a step back", written().at(35).hearing(report(1, 3), 65), "Unknown/Running 0 attempts requeue 30"),
        (
            "nothing but an empty report",
            running().hearing(Report { attempt: 1, ..Report::default() }, 30),
            "quiet requeue 10",
        ),
    ]);
    let progress = written().status().progress.unwrap();
    assert_eq!((progress.steps.as_deref(), progress.eta), (Some("10/100"), Some(Span::seconds(60))));
    assert_eq!(progress.at.get(), testing::at(NOW + 20));
    let series = written().at(35).hearing(report(1, 11), 65).reconciled().status().series;
    assert_eq!((series[0].name.as_str(), series[0].points.as_str()), ("loss", "10:0.5 11:0.5"));
}

#[test]
fn news_of_the_attempt_take_its_progress_along() {
    // The report that it runs is due at 10 seconds.
    let early = run().reconciled().pod(testing::running()).at(9).hearing(report(1, 1), 25);
    let case = early.clone().at(10);
    check(vec![
        ("it runs for nine seconds", early, "quiet requeue 1"),
        ("it runs for ten seconds", case.clone(), "Unknown/Running 0 attempts requeue 15"),
    ]);
    assert_eq!(shown(&case.reconciled()), Some((1, 1)));
}

#[test]
fn last_report_of_an_attempt_is_final() {
    let ended = written().at(22).pod(testing::terminated(&success(report(1, 100)), NOW + 22)).reconciled();
    assert_eq!(shown(&ended), Some((1, 100)), "the end is not delayed");
    assert_eq!(ended.status().progress.unwrap().eta, None);
    assert_eq!(ended.status().series[0].points, "10:0.5 100:0.5");
    check(vec![("a late report", ended.at(60).hearing(report(1, 90), 65), "quiet requeue 3562")]);
    let silent =
        written().at(22).pod(testing::terminated(&success(Report::default()), NOW + 22)).reconciled();
    assert_eq!(shown(&silent), Some((1, 10)), "it has told nothing since");
}

#[test]
fn next_attempt_has_progress_of_its_own() {
    let retried = |progress| {
        written().at(22).pod(testing::terminated(&failed(user_error(), progress), NOW + 22)).reconciled()
    };
    assert_eq!(shown(&retried(Some(report(1, 12)))), None);
    assert_eq!(shown(&retried(None)), None);
    let next = retried(Some(report(1, 12))).at(60).reconciled().pod(testing::running());
    let next = next.hearing(report(2, 11), 75).at(80).reconciled();
    assert_eq!(shown(&next), Some((2, 11)));
    assert_eq!(next.status().series[0].points, "10:0.5 11:0.5", "it has gone back to a checkpoint");
    let terminal = Failure::terminal(mlop_api::Reason::UserError, "no such file");
    let dead = written().at(22).pod(testing::terminated(&failed(terminal, Some(report(1, 12))), NOW + 22));
    let dead = dead.reconciled();
    assert_eq!(shown(&dead), Some((1, 12)), "no attempt follows");
    let edit = |spec: &mut ForecastRunSpec| spec.execution.deadline = Some(Span::hours(2));
    let again = dead.at(100).edited(edit).reconciled().pod(testing::running()).at(130).reconciled();
    assert_eq!(shown(&again), None, "a new budget");
}

#[test]
fn checkpoint_shows_its_place_until_the_run_has_succeeded() {
    let saved = Checkpoint { sequence: Some(3), step: Some(40), ..Checkpoint::default() };
    let lie = Checkpoint { uri: Some("s3://elsewhere".into()), ..saved.clone() };
    let told = Report { checkpoint: Some(lie), ..report(1, 41) };
    let case = running().hearing(told.clone(), 30).reconciled();
    let checkpoint = case.status().last_checkpoint.unwrap();
    let uid = case.object.metadata.uid.clone().unwrap();
    assert_eq!(checkpoint.uri, Some(format!("s3://b/checkpoints/{uid}/3/")));
    assert_eq!((checkpoint.number(), checkpoint.sequence), (Some(40), Some(3)));
    let result = ResultDocument { checkpoint: Some(saved.clone()), ..success(report(1, 100)) };
    let done = case.at(40).pod(testing::terminated(&result, NOW + 40)).reconciled();
    assert_eq!(done.status().last_checkpoint, Some(saved), "the worker has removed it");
}

#[test]
fn progress_of_a_cancelled_run_is_written_once() {
    let cancel = |spec: &mut ForecastRunSpec| spec.execution.cancel_requested_at = Some("1".into());
    let cancelled = written().at(22).edited(cancel).reconciled();
    let mut ended = cancelled.clone().at(30);
    let last = Report { eta_seconds: None, ..report(1, 12) };
    let result = failed(Failure::transient(mlop_api::Reason::UserError, "ended by SIGTERM"), Some(last));
    ended.pods.push(testing::pod_of("delay-1-1", 1, testing::terminated(&result, NOW + 25)));
    check(vec![("its pod has ended", ended.clone(), "False/Cancelled Stalled 1 attempts requeue 3592")]);
    let ended = ended.reconciled();
    check(vec![("again", ended.clone().at(60), "quiet requeue 3562")]);
    assert_eq!((shown(&ended), ended.status().progress.unwrap().eta), (Some((1, 12)), None));
    assert_eq!(cancelled.status().progress.unwrap().eta, None, "it ends");
}
