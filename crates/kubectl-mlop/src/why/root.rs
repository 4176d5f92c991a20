//! The search for the object where a problem or a wait began.

use super::{
    advice, causes,
    model::{Problem, Retry, Root},
};
use crate::{
    references,
    snapshot::{Object, ObjectId, Snapshot},
    state::{State, is_queued},
    status,
};
use jiff::Timestamp;
use mlop_api::{
    Reason,
    contract::{Cause, condition_type as condition},
    kinds::Class,
    text::printable,
};
use regex::Regex;
use std::sync::LazyLock;

/// A path of a field in a message, such as `spec.resources.memory`.
static FIELD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\bspec(\.[A-Za-z][A-Za-z0-9-]*(\[[^\]\s]*\])?)+").ok());

/// The time of the next attempt of a run, a probe or a scan in a message of `Stalled` or `Reconciling`.
static NEXT_ATTEMPT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(attempt \d+( of \d+)? failed: .*; the next one starts|; it is retried) at (?<time>\d{4}-\S+Z)",
    )
    .ok()
});

/// What a message says of a running attempt of a probe, a scan or a run that is not the first.
const REPEATED: [&str; 2] = ["the attempt before failed: ", "; those before it failed: "];

/// The root, and the way to it.
pub(super) struct Found {
    pub path: Vec<ObjectId>,
    pub root: Root,
    /// Other problems upstream.
    pub others: Vec<Problem>,
}

/// The root of the state of `object`; none if it is as it should be.
pub(super) fn of(snapshot: &Snapshot, object: &Object) -> Option<Found> {
    let intent = object.intent().and_then(|intent| snapshot.get(&intent));
    let causes = causes::upstream(snapshot, intent.unwrap_or(object));
    if let Some(recorded) = &object.status.cause {
        // The operators record one cause. Another one may need a person while that one ends by itself.
        let urgent = causes.first().filter(|first| is_queued(&recorded.reason) && !is_queued(&first.reason));
        let cause = urgent.unwrap_or(recorded);
        let others = causes.iter().filter(|other| causes::id(other) != causes::id(cause));
        return Some(Found {
            others: others.map(Problem::from).collect(),
            ..problem(snapshot, object, cause)
        });
    }
    match State::of(object) {
        State::Ready => {
            let path = unsettled(snapshot, object, vec![object.id.clone()])?;
            let at = snapshot.get(path.last()?)?;
            Some(follow(snapshot, at, path))
        }
        _ => Some(wait(snapshot, object, vec![object.id.clone()])),
    }
}

/// The operators copy the cause downstream: no search is needed, except for the way to it.
fn problem(snapshot: &Snapshot, object: &Object, cause: &Cause) -> Found {
    let id = ObjectId::new(&cause.kind, &cause.name);
    let start = object.intent().unwrap_or_else(|| object.id.clone());
    let mut path = references::path(snapshot, &start, &id).unwrap_or_else(|| vec![start.clone(), id.clone()]);
    path.dedup();
    if start != object.id {
        path.insert(0, object.id.clone());
    }
    let at = snapshot.get(&id);
    // Of a connection it is the pod of a probe that fails, which has no fields of its own.
    let is_probe = at.is_some_and(|at| at.class == Class::Connection);
    let failed_run = at.and_then(|at| failed_run(snapshot, at));
    let root = Root {
        is_problem: !is_queued(&cause.reason),
        meaning: meaning(&cause.reason),
        field: field(&cause.message).or_else(|| advice::field(&cause.reason).filter(|_| !is_probe)),
        since: at.and_then(|at| since(at, &cause.reason)),
        retry: at.and_then(retry),
        run: failed_run.map(described_run),
        reason: cause.reason.clone(),
        message: Some(printable(&cause.message).into_owned()),
        object: id,
    };
    Found { path, root, others: Vec::new() }
}

/// Follows the inputs that are not ready, or that are behind, to the one that works or waits by itself.
fn wait(snapshot: &Snapshot, object: &Object, path: Vec<ObjectId>) -> Found {
    let inputs = references::present_inputs(snapshot, object);
    let waits_for_inputs = matches!(
        status::reason(object).0.parse::<Reason>(),
        Ok(Reason::WaitingForInputs
            | Reason::InputsDiverged
            | Reason::UpstreamFailed
            | Reason::ConnectionNotReady)
    );
    let is_open = |input: &&&Object| State::of(input) != State::Ready && !path.contains(&input.id);
    let unready = |input: &&&Object| !State::of(input).is_usable() && !path.contains(&input.id);
    let next = inputs.iter().find(unready).or_else(|| inputs.iter().find(is_open));
    let connection = || {
        let references = references::of(&object.spec).into_iter().filter(|reference| !reference.is_input);
        let connections = references.filter_map(|reference| snapshot.get(&reference.to));
        connections.into_iter().find(|it| State::of(it) != State::Ready && !path.contains(&it.id))
    };
    let next = next.copied().or_else(connection).filter(|_| waits_for_inputs);
    if let Some(next) = next {
        let path = [path.as_slice(), std::slice::from_ref(&next.id)].concat();
        return follow(snapshot, next, path);
    }
    Found { root: here(snapshot, object), path, others: Vec::new() }
}

/// Goes on from `next`, the end of `path`.
fn follow(snapshot: &Snapshot, next: &Object, path: Vec<ObjectId>) -> Found {
    let Some(cause) = &next.status.cause else { return wait(snapshot, next, path) };
    let found = problem(snapshot, next, cause);
    let rest = found.path.into_iter().skip(1);
    Found { path: path.into_iter().chain(rest).collect(), ..found }
}

/// The way from an object to the nearest one upstream that is not up to date. What comes of it will reach the object, unless
/// it is pinned.
fn unsettled(snapshot: &Snapshot, object: &Object, path: Vec<ObjectId>) -> Option<Vec<ObjectId>> {
    let is_pinned =
        object.condition(condition::UP_TO_DATE).is_some_and(|it| it.reason == Reason::Pinned.as_str());
    if is_pinned || object.class != Class::Intent {
        return None;
    }
    let inputs = references::present_inputs(snapshot, object);
    let inputs = inputs.into_iter().filter(|input| !path.contains(&input.id));
    let ways = inputs.map(|input| (input, [path.as_slice(), std::slice::from_ref(&input.id)].concat()));
    let ways: Vec<_> = ways.collect();
    let near = ways.iter().find(|(input, _)| State::of(input) != State::Ready).map(|(_, way)| way.clone());
    near.or_else(|| ways.into_iter().find_map(|(input, way)| unsettled(snapshot, input, way)))
}

/// The object waits or works by itself, or has a problem that is no cause for others.
fn here(snapshot: &Snapshot, object: &Object) -> Root {
    let (reason, message) = status::reason(object);
    let full = object
        .status
        .conditions
        .iter()
        .find(|condition| condition.reason == reason && !condition.message.is_empty())
        .map(|condition| printable(&condition.message).into_owned());
    let message = full.or(message);
    let run = snapshot.active_run(&object.id);
    Root {
        object: object.id.clone(),
        is_problem: State::of(object).is_problem(),
        meaning: meaning(&reason),
        field: message.as_deref().and_then(field),
        since: since(object, &reason).max(run.and_then(Object::created_at)).or_else(|| first_seen(object)),
        retry: retry(object),
        run: run.map(described_run),
        message,
        reason,
    }
}

/// The newest run, if it has failed or its result was refused.
fn failed_run<'a>(snapshot: &'a Snapshot, intent: &Object) -> Option<&'a Object> {
    let newest = snapshot.runs_of(&intent.id).into_iter().next()?;
    let in_use = intent.status.artifact.as_ref().map(|artifact| artifact.run.as_str());
    (State::of(newest).is_problem() && in_use != Some(newest.id.name.as_str())).then_some(newest)
}

fn described_run(run: &Object) -> String {
    let name = &run.id.name;
    let attempts = run.status.attempts;
    match run.is_active_run() {
        true => format!("{name}, attempt {}", attempts.saturating_add(1)),
        false if attempts == 1 => format!("{name}, 1 attempt"),
        false => format!("{name}, {attempts} attempts"),
    }
}

/// The documentation of a reason.
fn meaning(reason: &str) -> Option<String> {
    let reason: Reason = reason.parse().ok()?;
    let (_, doc) = Reason::ALL.iter().find(|(known, _)| *known == reason)?;
    Some(doc.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn field(message: &str) -> Option<String> {
    Some(FIELD.as_ref()?.find(message)?.as_str().to_owned())
}

/// When an object was created that no controller has looked at.
fn first_seen(object: &Object) -> Option<Timestamp> {
    object.created_at().filter(|_| object.status.observed_generation.is_none())
}

/// The next attempt of work of `object` that is repeated by itself.
fn retry(object: &Object) -> Option<Retry> {
    let active =
        [condition::STALLED, condition::RECONCILING].into_iter().filter_map(|it| object.condition(it));
    let mut messages = active.filter(|it| it.status == "True").map(|it| it.message.as_str());
    if messages.clone().any(|message| REPEATED.iter().any(|words| message.contains(words))) {
        return Some(Retry::Running);
    }
    let time = |message: &str| NEXT_ATTEMPT.as_ref()?.captures(message)?.name("time")?.as_str().parse().ok();
    messages.find_map(time).map(Retry::At)
}

/// When the object began to report `reason`.
fn since(object: &Object, reason: &str) -> Option<Timestamp> {
    // While work is repeated, other conditions change with each attempt.
    let failed = object.main_condition().filter(|it| it.status == "False" && it.reason == reason);
    if let Some(failed) = failed {
        return Some(failed.last_transition_time.0);
    }
    let negative = |kind: &str| matches!(kind, condition::STALLED | condition::RECONCILING);
    let conditions = object.status.conditions.iter();
    let telling = conditions.filter(|it| it.reason == reason && (it.status != "True" || negative(&it.type_)));
    // A transition is a change of the status, so the reason came with the last one or later.
    let mut times: Vec<_> = telling.map(|condition| condition.last_transition_time.0).collect();
    times.sort();
    if retry(object).is_some() { times.first().copied() } else { times.last().copied() }
}
