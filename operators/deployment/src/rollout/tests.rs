//! Decisions on rollouts in steps. One row is a situation, and the next state in one line.

use super::*;
use crate::tests::check_table;
use mlop_api::{common::Metric, rollout::Analysis};

/// Seconds after the beginning.
const START: i64 = 1_780_000_000;

fn version(number: u32) -> RolloutVersion {
    RolloutVersion {
        digest: Digest::of_bytes(&number.to_be_bytes()),
        run: format!("delay-{number}"),
        version: Some(number.to_string()),
        template: format!("t{number}"),
    }
}

fn requests(requests: f64, errors: f64) -> ResultDocument {
    let values = [("requests", requests), ("errors", errors), ("p99", 0.01)];
    let metrics = values.map(|(name, value)| Metric::new(name, value)).into();
    ResultDocument { metrics, ..ResultDocument::default() }
}

/// A ModelDeployment whose version 1 is stable, with the steps 10 and 50 of a minute each. Version 2 is wanted.
#[derive(Clone)]
struct Case {
    spec: RolloutSpec,
    status: Option<RolloutStatus>,
    wanted: Option<RolloutVersion>,
    stable: RolloutVersion,
    stable_runs: bool,
    canary: Pods,
    is_routed: bool,
    answer: Option<ResultDocument>,
    requests: Requests<'static>,
    age: i64,
}

fn delay() -> Case {
    let step = |weight| Step { weight, hold: Span::minutes(1) };
    Case {
        spec: RolloutSpec { steps: vec![step(10), step(50)], analysis: Analysis::default(), routers: 2 },
        status: None,
        wanted: Some(version(2)),
        stable: version(1),
        stable_runs: true,
        canary: Pods::Starting,
        is_routed: true,
        answer: None,
        requests: Requests::default(),
        age: 0,
    }
}

impl Case {
    fn next(&self) -> Option<RolloutStatus> {
        let seen = Seen {
            spec: &self.spec,
            wanted: self.wanted.clone(),
            stable: self.stable.clone(),
            stable_runs: self.stable_runs,
            canary: self.canary.clone(),
            is_routed: self.is_routed,
            answer: self.answer.as_ref(),
            requests: self.requests,
            now: Timestamp::from_second(START + self.age).unwrap(),
        };
        next(self.status.as_ref(), &seen)
    }

    /// The next state is recorded. Its measurement has no answer yet.
    fn reconciled(mut self) -> Self {
        let before = self.status.as_ref().map(|status| status.measurements);
        self.status = self.next();
        if self.status.as_ref().map(|status| status.measurements) != before {
            self.answer = None;
        }
        self
    }

    fn later(mut self, seconds: i64) -> Self {
        self.age += seconds;
        self
    }

    fn pods(mut self, canary: Pods) -> Self {
        self.canary = canary;
        self
    }

    fn measured(mut self, answer: ResultDocument) -> Self {
        self.answer = Some(answer);
        self
    }

    fn wanted(mut self, wanted: Option<RolloutVersion>) -> Self {
        self.wanted = wanted;
        self
    }

    fn retry(mut self, request: &'static str) -> Self {
        self.requests.retry = Some(request);
        self
    }

    fn cancel(mut self, request: &'static str) -> Self {
        self.requests.cancel = Some(request);
        self
    }

    fn promote(mut self, request: &'static str) -> Self {
        self.requests.promote = Some(request);
        self
    }

    /// The weight of the first step is in effect.
    fn at_first_step(self) -> Self {
        self.reconciled().pods(Pods::Ready).reconciled()
    }

    /// The present step passes.
    fn passed(self) -> Self {
        self.measured(requests(100.0, 0.0)).reconciled().later(60).reconciled()
    }

    /// All steps have passed.
    fn promoting(self) -> Self {
        self.at_first_step().passed().reconciled().passed()
    }

    /// The stable pods are those of the new version.
    fn promoted(self) -> Self {
        let mut case = self.promoting();
        case.stable = version(2);
        case.stable_runs = true;
        case.reconciled()
    }

    fn rolled_back(self) -> Self {
        self.at_first_step().measured(requests(100.0, 100.0)).reconciled()
    }
}

/// Phase, step, weight and the new version after the decision. A step whose pods start has brackets.
fn summary(case: &Case) -> String {
    let Some(status) = case.next() else { return "none".to_owned() };
    let RolloutStatus { phase, step, weight, canary, since, .. } = &status;
    let step = if since.is_some() { step.to_string() } else { format!("({step})") };
    format!("{phase:?} step {step} weight {weight} of {}", canary.run)
}

#[track_caller]
fn check(rows: Vec<(&str, Case, &str)>) {
    check_table(rows, summary);
}

#[test]
fn rollout_takes_step_after_step() {
    let inconclusive = || requests(49.0, 0.0);
    check(vec![
        ("the stable version is wanted", delay().wanted(Some(version(1))), "none"),
        ("a new version", delay(), "Progressing step (1) weight 0 of delay-2"),
        ("its pods start", delay().reconciled(), "Progressing step (1) weight 0 of delay-2"),
        (
            "its pods are ready",
            delay().reconciled().pods(Pods::Ready),
            "Progressing step 1 weight 10 of delay-2",
        ),
        (
            "its pods are ready, and no router is",
            Case { is_routed: false, ..delay().reconciled().pods(Pods::Ready) },
            "Progressing step (1) weight 0 of delay-2",
        ),
        (
            "measured good before the hold is over",
            delay().at_first_step().measured(requests(100.0, 0.0)).reconciled().later(59),
            "Progressing step 1 weight 10 of delay-2",
        ),
        (
            "no measurement at the end of the hold",
            delay().at_first_step().later(60),
            "Progressing step 1 weight 10 of delay-2",
        ),
        (
            "too few requests until the end of the hold",
            delay().at_first_step().measured(inconclusive()).reconciled().later(60),
            "Progressing step 1 weight 10 of delay-2",
        ),
        (
            "enough requests after the hold",
            delay().at_first_step().later(100).measured(requests(50.0, 0.0)),
            "Progressing step (2) weight 10 of delay-2",
        ),
        (
            "too few requests after enough",
            delay()
                .at_first_step()
                .measured(requests(100.0, 0.0))
                .reconciled()
                .measured(inconclusive())
                .reconciled()
                .later(60),
            "Progressing step 1 weight 10 of delay-2",
        ),
        (
            "the second step",
            delay().at_first_step().passed().reconciled(),
            "Progressing step 2 weight 50 of delay-2",
        ),
        (
            "the answers of the first step prove nothing about the second",
            delay().at_first_step().passed().reconciled().later(60),
            "Progressing step 2 weight 50 of delay-2",
        ),
        ("all steps have passed", delay().promoting(), "Promoting step 2 weight 50 of delay-2"),
        (
            "the stable pods are replaced",
            Case { stable: version(2), stable_runs: false, ..delay().promoting() },
            "Promoting step 2 weight 50 of delay-2",
        ),
        ("they are", delay().promoted(), "Promoted step 2 weight 0 of delay-2"),
    ]);
}

#[test]
fn bad_version_is_rolled_back_and_not_tried_again() {
    let timeout = 60 + 15 * 60;
    let back = "RolledBack step 1 weight 0 of delay-2";
    let failed = Pods::Failed("timed out".to_owned());
    check(vec![
        ("its requests fail", delay().at_first_step().measured(requests(100.0, 6.0)), back),
        ("long after the hold", delay().at_first_step().later(timeout).measured(requests(100.0, 6.0)), back),
        (
            "in the second step",
            delay().at_first_step().passed().reconciled().measured(requests(100.0, 6.0)),
            "RolledBack step 2 weight 0 of delay-2",
        ),
        ("it does not become ready", delay().reconciled().pods(failed.clone()), back),
        ("its pods fail in a step", delay().at_first_step().pods(failed), back),
        ("nothing was measured", delay().at_first_step().later(timeout), back),
        (
            "a second before",
            delay().at_first_step().later(timeout - 1),
            "Progressing step 1 weight 10 of delay-2",
        ),
        (
            "only too few requests were measured",
            delay().at_first_step().measured(requests(1.0, 0.0)).reconciled().later(timeout),
            back,
        ),
        (
            "no numbers were measured",
            delay().at_first_step().measured(ResultDocument::default()).reconciled().later(timeout),
            back,
        ),
        ("an hour later", delay().rolled_back().later(3_600), back),
        ("without a usable input", delay().rolled_back().wanted(None), back),
        ("the stable version is wanted", delay().rolled_back().wanted(Some(version(1))), back),
        (
            "another version",
            delay().rolled_back().wanted(Some(version(3))),
            "Progressing step (1) weight 0 of delay-3",
        ),
        (
            "a retry is requested",
            delay().rolled_back().retry("now"),
            "Progressing step (1) weight 0 of delay-2",
        ),
        ("the request was there before", delay().retry("then").rolled_back(), back),
        (
            "and is taken away",
            {
                let mut case = delay().retry("then").rolled_back();
                case.requests = Requests::default();
                case
            },
            back,
        ),
        (
            "other bounds",
            {
                let mut case = delay().rolled_back();
                case.spec.analysis.max_error_rate = "1".to_owned();
                case
            },
            "Progressing step (1) weight 0 of delay-2",
        ),
    ]);
    let status = delay().rolled_back().status.unwrap();
    assert_eq!(status.message, "version 2 at weight 10: 100 of 100 requests failed; maxErrorRate is 0.05");
    let [past] = &status.history[..] else { panic!("{:?}", status.history) };
    assert_eq!((past.phase, past.run.as_str()), (RolloutPhase::RolledBack, "delay-2"));
}

#[test]
fn rollout_follows_what_is_wanted() {
    let at_second = || delay().at_first_step().passed().reconciled();
    check(vec![
        (
            "a newer version replaces it",
            at_second().wanted(Some(version(3))),
            "Progressing step (1) weight 0 of delay-3",
        ),
        (
            "the stable version is wanted again",
            at_second().wanted(Some(version(1))),
            "Withdrawn step 2 weight 0 of delay-2",
        ),
        (
            "it is wanted again after that",
            at_second().wanted(Some(version(1))).reconciled().wanted(Some(version(2))),
            "Progressing step (1) weight 0 of delay-2",
        ),
        ("the input is not usable", at_second().wanted(None), "Progressing step 2 weight 50 of delay-2"),
        (
            "its requests fail without a usable input",
            at_second().wanted(None).measured(requests(100.0, 100.0)),
            "RolledBack step 2 weight 0 of delay-2",
        ),
        (
            "the input is not usable before the stable pods are replaced",
            delay().promoting().wanted(None),
            "Promoting step 2 weight 50 of delay-2",
        ),
        (
            "a newer one before the stable pods are replaced",
            delay().promoting().wanted(Some(version(3))),
            "Progressing step (1) weight 0 of delay-3",
        ),
        (
            "a newer one while they are",
            Case { stable: version(2), stable_runs: false, ..delay().promoting().wanted(Some(version(3))) },
            "Promoting step 2 weight 50 of delay-2",
        ),
        (
            "a newer one after that",
            delay().promoted().wanted(Some(version(3))),
            "Progressing step (1) weight 0 of delay-3",
        ),
        (
            "the steps are edited",
            {
                let mut case = at_second();
                case.spec.steps.pop();
                case
            },
            "Progressing step (1) weight 0 of delay-2",
        ),
        (
            "other pods for the same model",
            at_second().wanted(Some(RolloutVersion { template: "t2b".to_owned(), ..version(2) })),
            "Progressing step (1) weight 0 of delay-2",
        ),
    ]);
    let replaced = at_second().wanted(Some(version(3))).next().unwrap();
    let past: Vec<_> = replaced.history.iter().map(|past| (past.run.as_str(), past.phase)).collect();
    assert_eq!(past, [("delay-2", RolloutPhase::Withdrawn)]);
}

#[test]
fn user_ends_a_rollout_either_way() {
    let back = "RolledBack step 1 weight 0 of delay-2";
    let going = "Progressing step 1 weight 10 of delay-2";
    let failed = Pods::Failed("timed out".to_owned());
    check(vec![
        ("cancelled in a step", delay().at_first_step().cancel("now"), back),
        ("cancelled while its pods start", delay().reconciled().cancel("now"), back),
        ("an hour after that", delay().at_first_step().cancel("now").reconciled().later(3_600), back),
        (
            "tried again after that",
            delay().at_first_step().cancel("now").reconciled().retry("now").reconciled(),
            "Progressing step 1 weight 10 of delay-2",
        ),
        ("the request is older than the rollout", delay().cancel("then").at_first_step(), going),
        ("another request", delay().cancel("then").at_first_step().cancel("now"), back),
        (
            "too late: the stable pods are being replaced",
            Case { stable: version(2), stable_runs: false, ..delay().promoting().cancel("now") },
            "Promoting step 2 weight 50 of delay-2",
        ),
        (
            "promoted in a step",
            delay().at_first_step().promote("now"),
            "Promoting step 1 weight 10 of delay-2",
        ),
        (
            "promoted while its pods start",
            delay().reconciled().promote("now"),
            "Promoting step 1 weight 0 of delay-2",
        ),
        ("promoted though its pods have failed", delay().at_first_step().promote("now").pods(failed), back),
        ("that request is older, too", delay().promote("then").at_first_step(), going),
        ("both at once", delay().at_first_step().promote("now").cancel("now"), back),
    ]);
    let message = |case: Case| case.next().unwrap().message;
    assert_eq!(
        message(delay().at_first_step().cancel("now")),
        "version 2: cancelled by the annotation mlop.dev/cancel-requested-at"
    );
    assert_eq!(
        message(delay().at_first_step().promote("now")),
        "version 2 is promoted by the annotation mlop.dev/promote-requested-at; the stable pods are replaced by its own"
    );
    let unprintable = delay().cancel("now\u{9b}31m").at_first_step().status.unwrap();
    assert!(unprintable.cancel_requested_at.unwrap().chars().all(|c| c.is_ascii_hexdigit()));
}

#[test]
fn step_without_users_only_holds() {
    let mut blue_green = delay();
    blue_green.spec.steps[0].weight = 0;
    blue_green.spec.steps[1].weight = 100;
    let held = blue_green.at_first_step();
    let status = held.status.clone().unwrap();
    assert!(!is_measuring(&status, &held.spec, Timestamp::from_second(START).unwrap()));
    check(vec![
        ("its pods are ready", held.clone(), "Progressing step 1 weight 0 of delay-2"),
        ("the hold is over", held.clone().later(60), "Progressing step (2) weight 0 of delay-2"),
        (
            "its pods are ready for all users",
            held.later(60).reconciled(),
            "Progressing step 2 weight 100 of delay-2",
        ),
    ]);
}

#[test]
fn finished_rollout_changes_nothing_at_rest() {
    for case in [
        delay().promoted(),
        delay().rolled_back(),
        delay().at_first_step().wanted(Some(version(1))).reconciled(),
    ] {
        let status = case.status.clone().unwrap();
        assert_eq!(due(&status, &case.spec, Timestamp::from_second(START + case.age).unwrap()), None);
        assert_eq!(case.clone().later(86_400).next(), case.status, "{:?}", status.phase);
    }
}

#[test]
fn history_is_bounded() {
    let mut case = delay();
    for number in 2..20 {
        case = case.wanted(Some(version(number))).pods(Pods::Starting).reconciled();
    }
    let history = case.status.unwrap().history;
    assert_eq!((history.len(), history[0].run.as_str()), (HISTORY_MAX, "delay-18"));
}
