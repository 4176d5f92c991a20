//! What to do about each reason: the commands that a user may type next.

use super::model::{Retry, Root, Step};
use crate::{
    age, names,
    references::{self, Reference},
    snapshot::{ObjectId, Snapshot},
};
use mlop_api::Reason;

/// A command of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    /// Edit the object where it began.
    Edit,
    /// Read the output of its pods.
    Logs,
    /// Follow the output of its pods.
    Follow,
    Events,
    Retry,
    Refresh,
    Resume,
    Unpin,
    Run,
    /// List the runs that can be pinned.
    Versions,
    /// Watch the chain.
    Watch,
    /// Look at the operator.
    Operator,
}

/// Reasons, the field that is looked at when the message names none, what to do, and the commands for it.
type Advice = (&'static [Reason], Option<&'static str>, &'static str, &'static [Do]);

const ADVICE: [Advice; 53] = {
    use Do::{Edit, Events, Follow, Logs, Operator, Refresh, Resume, Retry, Run, Unpin, Versions, Watch};
    use Reason::*;
    [
        (&[Ready, InputsReady, UpToDate, Succeeded, Repaired], None, "nothing to do", &[]),
        (&[Pending], None, "wait; if it stays, see whether the operator runs", &[Watch, Operator]),
        (&[WaitingForInputs], None, "apply the input that the message names, or wait for it", &[Watch]),
        (
            &[InputsDiverged],
            None,
            "wait a moment; if it stays, an input is pinned, suspended or stuck",
            &[Watch],
        ),
        (&[Scanning, Running, Activating], None, "wait: the work goes on", &[Follow, Watch]),
        (&[RollingOut, Probing, Starting, Stabilizing], None, "wait: it goes on by itself", &[Watch, Events]),
        (&[Retrying], None, "wait for the next attempt, or see why the last one failed", &[Logs, Watch]),
        (&[ScaledToZero], Some("spec.target.deployment.replicas"), "scale it up", &[Edit]),
        (&[Suspended], Some("spec.suspend"), "resume it", &[Resume]),
        (&[WaitingForTrigger], Some("spec.trigger.mode"), "start a run for the inputs of now", &[Run]),
        (&[Pinned], Some("spec.pin"), "remove the pin to follow the inputs", &[Unpin]),
        (&[WaitingForDeletion], None, "look for a finalizer on the object that is deleted", &[Events]),
        (
            &[Unschedulable],
            Some("spec.resources"),
            "make room on a node, or ask for less; the pod waits meanwhile",
            &[Edit, Events],
        ),
        (&[Queued], Some("spec.queue"), "wait: `kubectl mlop queue` shows the order", &[Watch]),
        (
            &[QueueNotFound],
            Some("spec.queue"),
            "name a queue that exists, or ask the platform team to create it",
            &[Edit],
        ),
        (&[QueueRefused], Some("spec.queue"), "ask for less, or name another queue", &[Edit]),
        (&[Cancelled], None, "go on with the run, from its newest checkpoint if it saved one", &[Retry]),
        (&[GateFailed], Some("spec.gates"), "improve the model, or edit the gates", &[Edit, Versions]),
        (
            &[InvalidSpec, DependencyCycle, InputKindUnknown],
            None,
            "correct the field that the message names",
            &[Edit],
        ),
        (&[QueryInvalid], Some("spec.sql"), "correct the SQL", &[Edit]),
        (
            &[PinnedRunNotFound],
            Some("spec.pin"),
            "pin one of the runs that have succeeded",
            &[Versions, Unpin],
        ),
        (&[NameConflict], None, "rename one of the two objects", &[Events]),
        (
            &[ProfileNotFound, ProfileInvalid],
            Some("spec.profile"),
            "create or correct the PodProfile",
            &[Edit],
        ),
        (&[ConnectionNotReady], None, "apply or correct the connection that the message names", &[Edit]),
        (&[SchemaMismatch], Some("spec.columns"), "correct the files, or the columns", &[Edit, Refresh]),
        (
            &[QuarantineBudgetExceeded],
            Some("spec.quarantine"),
            "correct the files, or allow more rejected rows",
            &[Edit, Refresh],
        ),
        (&[RuleViolated], Some("spec.rules"), "correct the files, or the rules", &[Edit, Refresh]),
        (
            &[SourceEmpty],
            Some("spec.source.objects"),
            "upload a file, or correct prefix and include",
            &[Refresh, Edit],
        ),
        (&[SourceChanged], None, "wait: the source is scanned again", &[Watch, Retry]),
        (&[ScanFailing], None, "look at the ObjectStore of the source", &[Logs, Refresh]),
        (&[InputCorrupt], None, "restore the objects in the bucket, then retry", &[Retry]),
        (&[OutOfMemory], Some("spec.resources.memory"), "raise the memory", &[Edit, Logs]),
        (&[OutOfDisk], Some("spec.scratch"), "raise the disk space", &[Edit, Logs]),
        (
            &[PreflightFailed],
            None,
            "repair or cordon the node that the message names, or correct what the work asks for, then retry",
            &[Events, Retry],
        ),
        (&[Evicted, PodLost], None, "wait: it is tried again, and costs no attempt", &[Watch, Events]),
        (&[ImagePull], None, "correct the image, its registry or pullSecrets", &[Edit, Events]),
        (
            &[UserError],
            Some("spec.command"),
            "see what the command printed, correct it, or retry",
            &[Logs, Edit, Retry],
        ),
        (
            &[DeadlineExceeded],
            Some("spec.deadline"),
            "raise the deadline, or save checkpoints",
            &[Edit, Logs, Retry],
        ),
        (&[StartTimeout], None, "see what keeps the pod from starting, then retry", &[Events, Retry]),
        (&[QuotaExceeded], Some("spec.resources"), "raise the quota, or ask for less", &[Edit, Events]),
        (
            &[PodRefused, ChildRefused],
            None,
            "the message has the words of who refused it; correct the spec or the policy",
            &[Edit, Events],
        ),
        (&[SecretMissing], None, "create the Secret that the message names, or correct its name", &[Edit]),
        (&[ResultMissing, WorkerFailed], None, "see what the worker printed, then retry", &[Logs, Retry]),
        (&[UpstreamFailed], None, "look at the object upstream that the message names", &[Watch]),
        (
            &[StoreUnreachable, StoreDenied, BucketNotFound],
            None,
            "correct endpoint, bucket or keys of the ObjectStore",
            &[Edit, Retry],
        ),
        (
            &[TrackingUnreachable, TrackingRefused, TrackingDenied],
            None,
            "correct address or login of the TrackingServer",
            &[Edit, Retry],
        ),
        (&[OnlineStoreUnreachable], None, "correct address or password of Redis", &[Edit, Retry]),
        (&[AliasTaken], Some("spec.alias"), "choose another alias or registeredModel", &[Edit]),
        (&[ActivationSuperseded], None, "nothing to do: a newer revision is in use", &[]),
        (
            &[RolloutFailed],
            None,
            "see what the new pods print; the version before goes on serving",
            &[Logs, Events],
        ),
        (
            &[RolledBack],
            Some("spec.rollout.analysis"),
            "see the numbers in the message; the version before goes on serving, and a newer one is tried again",
            &[Edit, Retry],
        ),
        (&[CleanupAbandoned], None, "delete what is left outside by hand", &[Events]),
        (&[ApiError, Panicked], None, "see the log of the operator", &[Operator]),
    ]
};

fn for_reason(reason: Reason) -> Option<&'static Advice> {
    ADVICE.iter().find(|(reasons, ..)| reasons.contains(&reason))
}

/// The field to look at for a reason whose message names none.
pub(super) fn field(reason: &str) -> Option<String> {
    let (_, field, ..) = for_reason(reason.parse().ok()?)?;
    field.map(str::to_owned)
}

/// Whether the reason is a user's wish: nothing goes on until the wish ends.
pub(super) fn is_wish(reason: &str) -> bool {
    let wishes = [
        Reason::Suspended,
        Reason::WaitingForTrigger,
        Reason::Pinned,
        Reason::Cancelled,
        Reason::ScaledToZero,
    ];
    reason.parse().is_ok_and(|reason: Reason| wishes.contains(&reason))
}

/// What to do about `root`, seen from `asked`.
pub(super) fn steps(snapshot: &Snapshot, asked: &ObjectId, root: &Root) -> Vec<Step> {
    let namespace = &snapshot.namespace;
    let Some(reason) = root.reason.parse::<Reason>().ok() else { return Vec::new() };
    if let Some(missing) = missing(snapshot, root) {
        return steps_to_missing(snapshot, root, &missing);
    }
    let Some((_, _, text, commands)) = for_reason(reason) else { return Vec::new() };
    let target = root.object.argument();
    let command = |chosen: &Do| match chosen {
        Do::Edit => format!("kubectl -n {namespace} edit {target}"),
        Do::Logs => format!("kubectl mlop -n {namespace} logs {target}"),
        Do::Follow => format!("kubectl mlop -n {namespace} logs -f {target}"),
        Do::Events => format!("kubectl mlop -n {namespace} events {target}"),
        Do::Retry => format!("kubectl mlop -n {namespace} retry {target}"),
        Do::Refresh => format!("kubectl mlop -n {namespace} refresh {target}"),
        Do::Resume => format!("kubectl mlop -n {namespace} resume {target}"),
        Do::Unpin => format!("kubectl mlop -n {namespace} unpin {target}"),
        Do::Run => format!("kubectl mlop -n {namespace} run {target}"),
        Do::Versions => format!("kubectl mlop -n {namespace} versions {target}"),
        Do::Watch => format!("kubectl mlop -n {namespace} status --watch {}", asked.argument()),
        Do::Operator => {
            let operator =
                mlop_api::operators::of(&root.object.kind).map_or("mlop", |operator| operator.name);
            format!("kubectl -n mlop-system logs deployment/{operator}")
        }
    };
    let is_refreshed = root.object.kind == "Dataset";
    let repeated = root.retry.map(|retry| step_to_retry(snapshot, retry, command(&Do::Retry)));
    let fits = |chosen: &&Do| match **chosen {
        Do::Refresh => is_refreshed,
        Do::Retry => repeated.is_none(),
        _ => true,
    };
    let mut steps: Vec<Step> = commands
        .iter()
        .filter(fits)
        .map(|chosen| Step { text: String::new(), command: Some(command(chosen)) })
        .collect();
    match steps.first_mut() {
        Some(first) => (*text).clone_into(&mut first.text),
        None => steps.push(Step { text: (*text).to_owned(), command: None }),
    }
    steps.extend(repeated);
    steps
}

/// The step after the correction, of work that is repeated by itself.
fn step_to_retry(snapshot: &Snapshot, retry: Retry, command: String) -> Step {
    let text = match retry {
        Retry::Running => "then retry, if the attempt that is running fails too".to_owned(),
        Retry::At(at) if at > snapshot.now => {
            format!("then retry; by itself it is tried again in {} (at {at})", age::since(at, snapshot.now))
        }
        Retry::At(_) => "then retry; by itself it is tried again now".to_owned(),
    };
    Step { text, command: Some(command) }
}

/// What to do about an object that does not exist.
fn steps_to_missing(snapshot: &Snapshot, root: &Root, missing: &Missing) -> Vec<Step> {
    let namespace = &snapshot.namespace;
    let Missing { id, field } = missing;
    let similar = names::similar(snapshot, id);
    let apply = Step {
        text: format!("apply {id}, which does not exist"),
        command: Some(format!("kubectl -n {namespace} apply -f FILE")),
    };
    let Some(field) = field.as_ref().filter(|_| !similar.is_empty()) else { return vec![apply] };
    let correct = Step {
        text: format!("there is no {id}; if {field} means {}, correct it", names::listed(&similar)),
        command: Some(format!("kubectl -n {namespace} edit {}", root.object.argument())),
    };
    vec![correct, Step { text: format!("or {}", apply.text), ..apply }]
}

/// An object that does not exist, and the field that names it.
struct Missing {
    id: ObjectId,
    field: Option<String>,
}

/// The object that the root waits for because it does not exist, or the root itself.
fn missing(snapshot: &Snapshot, root: &Root) -> Option<Missing> {
    let Some(object) = snapshot.get(&root.object) else {
        return Some(Missing { id: root.object.clone(), field: None });
    };
    let waits = [Reason::WaitingForInputs, Reason::ConnectionNotReady, Reason::ProfileNotFound];
    if !root.reason.parse().is_ok_and(|reason: Reason| waits.contains(&reason)) {
        return None;
    }
    let references = references::of(&object.spec).into_iter().filter(|reference| reference.is_ours);
    let is_named = |to: &ObjectId| root.message.as_ref().is_some_and(|message| message.contains(&to.name));
    let mut absent = references.filter(|it| snapshot.get(&it.to).is_none() && is_named(&it.to));
    absent.next().map(|Reference { to, field, .. }| Missing { id: to, field: Some(field) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_advice_once() {
        for (reason, _) in Reason::ALL {
            let rows = ADVICE.iter().filter(|(reasons, ..)| reasons.contains(reason)).count();
            assert_eq!(rows, 1, "{reason}");
        }
    }
}
