//! What users do to a chain: each action is one merge patch of one object, decided without a client.

use crate::{
    names,
    output::clean,
    references,
    snapshot::{Object, ObjectId, Snapshot},
    state::State,
    versions::{self, Version, Versions},
};
use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use mlop_api::{kinds::Class, labels, rollout::RolloutPhase};
use serde::Serialize;
use serde_json::{Value, json};

/// A decided action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    #[serde(flatten)]
    pub object: ObjectId,
    /// The merge patch; none if the object is as it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<Value>,
    /// What was done, and what happens next.
    pub says: Vec<String>,
}

impl Change {
    fn nothing(object: &Object, text: impl Into<String>) -> Self {
        Self { object: object.id.clone(), patch: None, says: vec![text.into()] }
    }

    fn of(object: &Object, patch: Value, says: impl IntoIterator<Item = String>) -> Self {
        Self { object: object.id.clone(), patch: Some(patch), says: says.into_iter().collect() }
    }
}

/// Publishes an earlier run. `run` is its name, or its version number in the registry.
///
/// # Errors
/// No such run of the object has succeeded.
pub fn pin(snapshot: &Snapshot, name: &str, run: &str) -> Result<Change> {
    let number = run.strip_prefix("version ").unwrap_or(run);
    let is_meant = |version: &Version| version.run == run || version.number.as_deref() == Some(number);
    let all: Vec<(&Object, Versions)> = owners(snapshot, name)?;
    let found: Vec<_> = all
        .iter()
        .filter_map(|(owner, versions)| {
            Some((*owner, versions, versions.versions.iter().find(|it| is_meant(it))?))
        })
        .collect();
    match found.as_slice() {
        [(owner, versions, version)] => pin_to(snapshot, owner, versions, version),
        [] => {
            let lists: Vec<_> = all.iter().map(|(owner, versions)| usable(owner, versions)).collect();
            bail!("{name} has no run {run:?}; {}", lists.join("; "))
        }
        _ => bail!(
            "{run:?} is a version of several objects: name the run, as `kubectl mlop versions {name}` lists it"
        ),
    }
}

/// Pins the version before the one in use.
///
/// # Errors
/// There is none.
pub fn rollback(snapshot: &Snapshot, name: &str) -> Result<Change> {
    // Of several objects with the name the ModelDeployment counts: its model goes back.
    let owners = owners(snapshot, name)?;
    let (owner, versions) = owners.first().with_context(|| format!("{name} has no versions"))?;
    match versions.before() {
        Some(version) => pin_to(snapshot, owner, versions, version),
        None => bail!(
            "{} has no usable version that is older than the one in use; {}",
            owner.id,
            usable(owner, versions)
        ),
    }
}

/// Follows the inputs again.
///
/// # Errors
/// There is no such object.
pub fn unpin(snapshot: &Snapshot, name: &str) -> Result<Change> {
    let object = names::single(snapshot, name, "unpin", |object| object.text("pin").is_some())?;
    Ok(match object.text("pin") {
        None => Change::nothing(object, format!("{} is not pinned: nothing to do", object.id)),
        Some(pin) => Change::of(
            object,
            json!({"spec": {"pin": null}}),
            [
                format!("{} is no longer pinned to {pin}", object.id),
                "it uses the newest run that fits its inputs; if there is none, a run starts".to_owned(),
                follow(snapshot, &object.id),
            ],
        ),
    })
}

/// Stops new work, or allows it again.
///
/// # Errors
/// There is no such object, or it cannot be suspended.
pub fn suspend(snapshot: &Snapshot, name: &str, suspend: bool) -> Result<Change> {
    let command = if suspend { "suspend" } else { "resume" };
    let fits = |object: &Object| object.class == Class::Intent && object.is_suspended() != suspend;
    let object = names::single(snapshot, name, command, fits)?;
    if object.class != Class::Intent {
        bail!("{} cannot be suspended: only intents can, such as a Dataset or a TrainingJob", object.id);
    }
    let patch = json!({"spec": {"suspend": suspend}});
    Ok(match (suspend, object.is_suspended()) {
        (true, true) => Change::nothing(object, format!("{} is suspended already", object.id)),
        (false, false) => Change::nothing(object, format!("{} is not suspended: nothing to do", object.id)),
        (true, false) => Change::of(
            object,
            patch,
            [
                format!("{} is suspended: nothing new starts, and what is in use stays", object.id),
                match snapshot.active_run(&object.id) {
                    Some(run) => {
                        format!("{} goes on; {} ends it", run.id.name, typed(snapshot, "cancel", &object.id))
                    }
                    None => format!("{} goes on", typed(snapshot, "resume", &object.id)),
                },
            ],
        ),
        (false, true) => Change::of(
            object,
            patch,
            [format!("{} is resumed: it follows its inputs again", object.id), follow(snapshot, &object.id)],
        ),
    })
}

/// Tries again what has failed.
///
/// # Errors
/// There is no such object, or its kind has nothing to retry.
pub fn retry(snapshot: &Snapshot, name: &str) -> Result<Change> {
    let is_own = |object: &Object| {
        object
            .status
            .cause
            .as_ref()
            .is_none_or(|cause| (&cause.kind, &cause.name) == (&object.id.kind, &object.id.name))
    };
    let fits = |object: &Object| can_retry(object) && State::of(object).is_problem() && is_own(object);
    let object = names::single(snapshot, name, "retry", fits)?;
    if !can_retry(object) {
        bail!(
            "{} has no work to retry; kinds with runs and connections have. {} names the object to retry",
            object.id,
            typed(snapshot, "why", &object.id)
        );
    }
    let next = match (object.class, State::of(object).is_problem()) {
        (Class::Connection, _) => "the connection is checked again",
        _ if !object.has_runs() => "the version that was rolled back is rolled out in steps again",
        (_, true) => "the present inputs get a new budget of attempts; their numbers go on",
        (_, false) => {
            "nothing of it has failed for good, so no run starts; what it has in an external system is checked again"
        }
    };
    Ok(Change::of(
        object,
        annotation(labels::RETRY_REQUESTED_AT, snapshot.now),
        [format!("{}: retry requested", object.id), next.to_owned(), follow(snapshot, &object.id)],
    ))
}

/// Ends the active run, or takes the version back that is rolled out in steps.
///
/// # Errors
/// No run is active, and nothing is rolled out in steps.
pub fn cancel(snapshot: &Snapshot, name: &str) -> Result<Change> {
    let is_active = |object: &Object| snapshot.active_run(&object.id).is_some() || stepping(object).is_some();
    let object = names::single(snapshot, name, "cancel", is_active)?;
    if let Some(version) = stepping(object) {
        return Ok(Change::of(
            object,
            annotation(labels::CANCEL_REQUESTED_AT, snapshot.now),
            [
                format!("{}: the end of the rollout of {version} is requested", object.id),
                format!(
                    "its share goes back to the stable version; {} rolls it out again",
                    typed(snapshot, "retry", &object.id)
                ),
                follow(snapshot, &object.id),
            ],
        ));
    }
    let intent = object.intent().and_then(|intent| snapshot.get(&intent)).unwrap_or(object);
    let Some(run) = snapshot.active_run(&intent.id) else {
        bail!("{} has no active run: there is nothing to cancel", intent.id);
    };
    Ok(Change::of(
        intent,
        annotation(labels::CANCEL_REQUESTED_AT, snapshot.now),
        [
            format!("{}: the end of {} is requested", intent.id, run.id.name),
            "its command gets SIGTERM and its grace period; a checkpoint that it saves is kept".to_owned(),
            format!("{} goes on from there", typed(snapshot, "retry", &intent.id)),
        ],
    ))
}

/// Takes the version for good that is rolled out in steps, without the rest of its steps.
///
/// # Errors
/// Nothing is rolled out in steps.
pub fn promote(snapshot: &Snapshot, name: &str) -> Result<Change> {
    let object = names::single(snapshot, name, "promote", |object| stepping(object).is_some())?;
    let Some(version) = stepping(object) else {
        bail!("{} rolls no version out in steps: there is nothing to promote", object.id);
    };
    Ok(Change::of(
        object,
        annotation(labels::PROMOTE_REQUESTED_AT, snapshot.now),
        [
            format!("{}: the promotion of {version} is requested", object.id),
            "the stable pods are replaced by its own, without the rest of its steps".to_owned(),
            follow(snapshot, &object.id),
        ],
    ))
}

/// The version that an object rolls out in steps.
fn stepping(object: &Object) -> Option<String> {
    let rollout = object.status.rollout.as_ref()?;
    (rollout.phase == RolloutPhase::Progressing).then(|| clean(&rollout.canary.words()))
}

/// Looks at the source of a Dataset now.
///
/// # Errors
/// The object has no source.
pub fn refresh(snapshot: &Snapshot, name: &str) -> Result<Change> {
    let has_source = |object: &Object| object.class == Class::Intent && object.spec.get("source").is_some();
    let object = names::single(snapshot, name, "refresh", has_source)?;
    if !has_source(object) {
        let advice = match object.class {
            Class::Connection => format!("{} checks it again", typed(snapshot, "retry", &object.id)),
            _ => "it follows its inputs by itself".to_owned(),
        };
        bail!("{} has no source to look at; {advice}", object.id);
    }
    Ok(Change::of(
        object,
        annotation(labels::REFRESH_REQUESTED_AT, snapshot.now),
        [
            format!("{}: a scan of the source is requested", object.id),
            "if the files have changed, a new version is written, and everything downstream follows"
                .to_owned(),
            follow(snapshot, &object.id),
        ],
    ))
}

/// Starts a run on the present inputs, also with `trigger.mode: manual`.
///
/// # Errors
/// The object has no runs.
pub fn run(snapshot: &Snapshot, name: &str) -> Result<Change> {
    let waits = |object: &Object| {
        object.has_runs() && object.spec.pointer("/trigger/mode").and_then(Value::as_str) == Some("manual")
    };
    let object = names::single(snapshot, name, "run", waits)?;
    if !object.has_runs() {
        bail!("{} has no runs; intents such as a TrainingJob have", object.id);
    }
    Ok(Change::of(
        object,
        annotation(labels::RUN_REQUESTED_AT, snapshot.now),
        [
            format!("{}: a run on the present inputs is requested", object.id),
            format!(
                "if their result exists already, nothing starts, and {} says so",
                typed(snapshot, "events", &object.id)
            ),
            follow(snapshot, &object.id),
        ],
    ))
}

fn can_retry(object: &Object) -> bool {
    let rollout = object.status.rollout.as_ref();
    let is_rolled_back = rollout.is_some_and(|rollout| rollout.phase == RolloutPhase::RolledBack);
    object.has_runs() || object.class == Class::Connection || is_rolled_back
}

/// The intents with versions that `name` may mean.
fn owners<'a>(snapshot: &'a Snapshot, name: &str) -> Result<Vec<(&'a Object, Versions)>> {
    let mut found: Vec<(&Object, Versions)> = Vec::new();
    for object in names::candidates(snapshot, name)? {
        let Some(owner) = versions::owner(snapshot, object) else { continue };
        if !found.iter().any(|(known, _)| known.id == owner.id) {
            found.push((owner, Versions::of(snapshot, owner)));
        }
    }
    Ok(found)
}

fn pin_to(snapshot: &Snapshot, owner: &Object, versions: &Versions, version: &Version) -> Result<Change> {
    let run = &version.run;
    match version.state {
        State::Ready => {}
        State::Blocked => bail!(
            "the gates of {} refuse {run}; edit spec.gates first, or {}",
            owner.id,
            usable(owner, versions)
        ),
        _ => bail!("{run} has not succeeded ({}); {}", version.reason, usable(owner, versions)),
    }
    if owner.text("pin") == Some(run) {
        return Ok(Change::nothing(owner, format!("{} is pinned to {run} already", owner.id)));
    }
    let number = version.number.as_ref().map(|number| format!(" (version {number})")).unwrap_or_default();
    let downstream = downstream(snapshot, &owner.id);
    let follows = match downstream.as_slice() {
        [] => "nothing follows it".to_owned(),
        ids => format!(
            "{} follow{}",
            names::listed(&ids.iter().collect::<Vec<_>>()),
            if ids.len() == 1 { "s" } else { "" }
        ),
    };
    Ok(Change::of(
        owner,
        json!({"spec": {"pin": run}}),
        [
            format!("{} is pinned to {run}{number}", owner.id),
            format!("it publishes that result again, and newer inputs are not followed; {follows}"),
            format!("{} undoes it", typed(snapshot, "unpin", &owner.id)),
            follow(snapshot, &owner.id),
        ],
    ))
}

/// The runs that can be pinned, in words.
fn usable(owner: &Object, versions: &Versions) -> String {
    let named: Vec<_> = versions
        .usable()
        .take(5)
        .map(|version| match &version.number {
            Some(number) => format!("{} (version {number})", version.run),
            None => version.run.clone(),
        })
        .collect();
    match named.as_slice() {
        [] => format!("no run of {} has succeeded yet", owner.id),
        names => format!("{} can be pinned to {}", owner.id, names.join(", ")),
    }
}

/// The intents that follow `id`, directly or around.
fn downstream(snapshot: &Snapshot, id: &ObjectId) -> Vec<ObjectId> {
    let mut found = vec![id.clone()];
    let mut next = 0;
    while let Some(at) = found.get(next).cloned() {
        next += 1;
        for object in snapshot.of_class(Class::Intent) {
            let reads = references::of(&object.spec).iter().any(|it| it.is_input && it.to == at);
            if reads && !found.contains(&object.id) {
                found.push(object.id.clone());
            }
        }
    }
    found.into_iter().skip(1).collect()
}

fn annotation(name: &str, now: Timestamp) -> Value {
    json!({"metadata": {"annotations": {name: now.to_string()}}})
}

fn follow(snapshot: &Snapshot, id: &ObjectId) -> String {
    format!("{} shows how it goes", typed(snapshot, "status --watch", id))
}

/// A command as a user may type it.
fn typed(snapshot: &Snapshot, command: &str, id: &ObjectId) -> String {
    format!("`kubectl mlop -n {} {command} {}`", snapshot.namespace, id.argument())
}
