//! The rules, checked without the code under test: from live objects and from the true output of each stage.

use crate::{
    cluster::{Cluster, Node, owner},
    stage::{self, STAGES, Shape},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mlop_api::{
    Digest,
    features::{FeatureSnapshot, FeatureView},
    run::RunInput,
    status::IntentStatus,
};
use mlop_core::resource::InputObject;

/// The rules of the design that a step can break.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Rule {
    Gate,
    Convergence,
    OneAtATime,
    OnlyNewDigests,
    EqualOutputStops,
    RevisionGrows,
    NothingIsLost,
    Suspended,
    Retention,
}

pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn is(conditions: &[Condition], kind: &str, status: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition.status == status)
}

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    Open,
    HeldUp,
    Succeeded,
    Dead,
}

pub fn stands(run: &FeatureSnapshot) -> Stands {
    let conditions = run.status.as_ref().map_or(&[][..], |status| &status.conditions);
    match condition(conditions, "Succeeded") {
        Some(c) if c.status == "True" => Stands::Succeeded,
        Some(c) if c.status == "False" && c.observed_generation == run.metadata.generation => Stands::Dead,
        Some(c) if c.status == "Unknown" => Stands::HeldUp,
        _ => Stands::Open,
    }
}

/// The digest of an input that is valid for its present spec.
pub fn usable(object: Option<&InputObject>) -> Option<&Digest> {
    let object = object?;
    let generation = object.metadata.generation;
    let ready = condition(&object.status.conditions, "Ready")?;
    let artifact = object.status.artifact.as_ref()?;
    let holds = object.metadata.deletion_timestamp.is_none()
        && object.status.observed_generation == generation
        && ready.status == "True"
        && ready.observed_generation == generation
        && artifact.generation == generation;
    holds.then_some(&artifact.digest)
}

/// The rule that the start of `run` breaks, given the object in its controller's cache.
pub fn start(
    shape: Shape,
    live: &[Option<&InputObject>],
    node: &Node,
    seen: &FeatureView,
    run: &FeatureSnapshot,
    stage: usize,
) -> Option<Rule> {
    let lineage = &run.spec.lineage;
    let right = |(input, object): (&RunInput, &Option<&InputObject>)| {
        usable(*object) == Some(&input.record.digest)
            && object.is_some_and(|o| o.metadata.uid.as_deref() == Some(input.record.uid.as_str()))
    };
    if lineage.inputs.len() != live.len() || !lineage.inputs.iter().zip(live).all(right) {
        return Some(Rule::Gate);
    }
    let digests: Vec<&Digest> = lineage.inputs.iter().map(|input| &input.record.digest).collect();
    if stage == 2 && !one_version(shape, &digests) {
        return Some(Rule::Convergence);
    }
    if seen.spec.suspend {
        return Some(Rule::Suspended);
    }
    let active = |known: &FeatureSnapshot| matches!(stands(known), Stands::Open | Stands::HeldUp);
    if node.runs.iter().any(|known| owner(known) == owner(run) && active(known)) {
        return Some(Rule::OneAtATime);
    }
    let artifact = seen.status.as_ref().and_then(|status| status.artifact.as_ref());
    let made = artifact.is_some_and(|artifact| artifact.input_digest == lineage.input_digest);
    if made || node.runs.iter().any(|known| same_work(known, run)) {
        return Some(Rule::OnlyNewDigests);
    }
    None
}

fn same_work(a: &FeatureSnapshot, b: &FeatureSnapshot) -> bool {
    a.spec.content.sql == b.spec.content.sql && digests(a).eq(digests(b))
}

/// The digests of a run's inputs.
pub fn digests(run: &FeatureSnapshot) -> impl Iterator<Item = &Digest> {
    run.spec.lineage.inputs.iter().map(|input| &input.record.digest)
}

/// Whether both inputs of the third stage descend from one version of the source.
fn one_version(shape: Shape, inputs: &[&Digest]) -> bool {
    let sqls = ["1", "2"];
    let makes = |version: u8| {
        let source = stage::source_digest(version);
        let firsts: Vec<Digest> =
            sqls.iter().map(|sql| stage::output(0, sql, [&source].into_iter())).collect();
        let below = match shape {
            Shape::Diamond => vec![source],
            Shape::Nested => firsts.clone(),
        };
        let mut seconds =
            below.iter().flat_map(|from| sqls.map(|sql| stage::output(1, sql, [from].into_iter())));
        firsts.contains(inputs[0]) && seconds.any(|second| second == *inputs[1])
    };
    (1..=3).any(makes)
}

/// The rule that the new status of an object breaks.
pub fn report(before: Option<&IntentStatus>, after: &IntentStatus) -> Option<Rule> {
    let before = before.and_then(|status| status.artifact.as_ref())?;
    let Some(after) = after.artifact.as_ref() else { return Some(Rule::NothingIsLost) };
    let same = after.digest == before.digest;
    if same && (after.revision, &after.produced_at) != (before.revision, &before.produced_at) {
        return Some(Rule::EqualOutputStops);
    }
    (!same && after.revision != before.revision + 1).then_some(Rule::RevisionGrows)
}

/// Ready is True only for the artifact of its observed generation.
pub fn ready_is_right(node: &Node) -> bool {
    let Some(view) = &node.live else { return true };
    let Some(status) = view.status.as_ref() else { return true };
    let Some(ready) = condition(&status.conditions, "Ready").filter(|c| c.status == "True") else {
        return true;
    };
    let Some(artifact) = &status.artifact else { return false };
    if ready.observed_generation != artifact.generation {
        return false;
    }
    if artifact.generation != view.metadata.generation {
        return true;
    }
    match (&view.spec.pin, node.run(&artifact.run)) {
        (Some(pin), _) => *pin == artifact.run,
        (None, Some(run)) => run.spec.content.sql == view.spec.sql,
        (None, None) => true,
    }
}

/// A reader of only `observedGeneration` and the status of Ready, such as kstatus, is not misled either.
pub fn ready_is_of_now(node: &Node) -> bool {
    let Some(view) = &node.live else { return true };
    let Some(status) = view.status.as_ref() else { return true };
    let claims =
        status.observed_generation == view.metadata.generation && is(&status.conditions, "Ready", "True");
    !claims || status.artifact.as_ref().and_then(|artifact| artifact.generation) == view.metadata.generation
}

/// At rest, every stage is made from the newest inputs or reports why not.
///
/// # Errors
/// The first stage that is wrong or reports nothing.
pub fn rest(cluster: &Cluster, inputs: &[Vec<Option<&InputObject>>]) -> Result<(), String> {
    for (stage, node) in cluster.stages.iter().enumerate() {
        at_rest(stage, node, &inputs[stage]).map_err(|wrong| format!("{}: {wrong}", STAGES[stage]))?;
    }
    let undisturbed = !cluster.source.failing
        && cluster.stages.iter().all(|node| {
            let spec = node.live.as_ref().map(|view| &view.spec);
            spec.is_some_and(|spec| spec.pin.is_none() && !spec.suspend)
                && node.runs.iter().all(|run| stands(run) != Stands::Dead)
        });
    let all = cluster.stages.iter().all(|node| is(conditions(node), "UpToDate", "True"));
    if undisturbed && !all {
        return Err("nothing blocks the chain, but a stage is not up to date".to_owned());
    }
    Ok(())
}

fn conditions(node: &Node) -> &[Condition] {
    let status = node.live.as_ref().and_then(|view| view.status.as_ref());
    status.map_or(&[], |status| &status.conditions)
}

fn at_rest(stage: usize, node: &Node, inputs: &[Option<&InputObject>]) -> Result<(), String> {
    let view = node.live.as_ref().ok_or("it does not exist")?;
    let status = view.status.as_ref().ok_or("it has no status")?;
    let generation = view.metadata.generation;
    if status.observed_generation != generation {
        return Err("its last edit was not observed".to_owned());
    }
    let current = is(&status.conditions, "UpToDate", "True");
    let is_reported = condition(&status.conditions, "UpToDate").is_some_and(|c| !c.message.is_empty());
    let artifact = status.artifact.as_ref();
    let ready = is(&status.conditions, "Ready", "True")
        && artifact.is_some_and(|artifact| artifact.generation == generation);
    if let Some(pin) = &view.spec.pin {
        let followed = ready && artifact.is_some_and(|artifact| artifact.run == *pin);
        // The user pinned a run at the moment when it was pruned.
        let reports_gone = !ready && node.run(pin).is_none() && is(&status.conditions, "Stalled", "True");
        return if followed || reports_gone {
            Ok(())
        } else {
            Err(format!("{pin} is pinned and not in use"))
        };
    }
    let digests: Option<Vec<&Digest>> = inputs.iter().map(|object| usable(*object)).collect();
    let Some(digests) = digests.filter(|_| shared_roots(inputs)) else {
        let cause = inputs.iter().flatten().find(|o| usable(Some(o)).is_none() && o.status.cause.is_some());
        return match cause {
            Some(input) if status.cause != input.status.cause => {
                Err(format!("its cause is {:?}, its input's is {:?}", status.cause, input.status.cause))
            }
            _ if current || !is_reported => Err("it waits for its inputs without reporting it".to_owned()),
            _ => Ok(()),
        };
    };
    let wanted = |run: &FeatureSnapshot| {
        run.spec.content.sql == view.spec.sql && self::digests(run).eq(digests.iter().copied())
    };
    if node.runs.iter().any(|run| wanted(run) && stands(run) == Stands::Dead) {
        let ours = status.cause.as_ref().is_some_and(|cause| cause.name == STAGES[stage]);
        let stalled = is(&status.conditions, "Stalled", "True");
        return if !current && ours && stalled {
            Ok(())
        } else {
            Err("its failure is not reported".to_owned())
        };
    }
    let truth = stage::output(stage, &view.spec.sql, digests.iter().copied());
    let right = ready && artifact.is_some_and(|artifact| artifact.digest == truth);
    if right && (current || inputs.iter().flatten().any(|input| input.status.cause.is_some())) {
        return Ok(());
    }
    if view.spec.suspend && !current && is_reported {
        return Ok(());
    }
    Err(format!("its inputs are ready: it should publish {truth}"))
}

/// Whether inputs that share a root have it at the same digest.
fn shared_roots(inputs: &[Option<&InputObject>]) -> bool {
    let artifacts = inputs.iter().flatten().filter_map(|object| object.status.artifact.as_ref());
    let ancestors: Vec<_> = artifacts.flat_map(|artifact| &artifact.ancestors).collect();
    ancestors.iter().all(|a| ancestors.iter().all(|b| a.name != b.name || a.digest == b.digest))
}
