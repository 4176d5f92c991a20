//! `TrainingRun`: a pod, or several that work together, in which the user's command runs between the fetcher and the agent of mlop.
//!
//! The command holds no keys of a store and cannot forge a result.

use crate::distributed;
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, EnvVarSource, Pod, SecretKeySelector, SecurityContext, VolumeMount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mlop_api::{
    MEDIA_TREE, Quantity,
    common::Resources,
    contract::Ancestor,
    dataset::ObjectStore,
    duration::Span,
    labels,
    preflight::Needs,
    queue::TrainingQueue,
    task::{Subject, Task, TrainWork, Work},
    training::{self, TrainingRun, TrainingRunSpec},
};
use mlop_core::{
    Blocked, Cache, Key,
    children::{
        container::{self, literal, mount, writable},
        pod,
    },
    run::{Observed, Queue, Run},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Time of the command between SIGTERM and SIGKILL, unless the run says otherwise.
const GRACE: Span = Span::seconds(30);
/// Longest time of the command between SIGTERM and SIGKILL, in seconds.
const GRACE_SECONDS_MAX: u64 = 3_600;
/// Least time between the agent's deadline and the pod's, in seconds. Images are pulled before the agent's time begins; after
/// it the command saves a checkpoint, or the agent publishes the finished output.
const DEADLINE_MARGIN_SECONDS: i64 = 900;

pub struct TrainingRunRun {
    pub queues: Arc<Cache<TrainingQueue>>,
}

impl Run for TrainingRunRun {
    type Resource = TrainingRun;
    /// The queue of the run, if it exists.
    type Related = Option<Arc<TrainingQueue>>;
    const MEDIA_TYPE: &'static str = MEDIA_TREE;
    const JOB: bool = true;
    const SPEAKS: bool = true;

    fn observe(&self, run: &TrainingRun) -> Option<Arc<TrainingQueue>> {
        self.queues.get(&Key::new("", &run.spec.queue.as_ref()?.name))
    }

    fn queue(observed: &Observed<Self>) -> Option<Queue<'_>> {
        let wanted = observed.object.spec.queue.as_ref()?;
        Some(Queue { wanted, found: observed.related.as_deref() })
    }

    fn replicas(run: &TrainingRun) -> Option<u32> {
        run.spec.size.as_ref().map(|size| size.replicas)
    }

    fn editable(run: &TrainingRun) -> Value {
        let mut editable = serde_json::to_value(&run.spec.container).unwrap_or_default();
        if let Some(fields) = editable.as_object_mut() {
            fields.insert("size".to_owned(), json!(run.spec.size));
        }
        editable
    }

    fn attempt(observed: &Observed<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, Blocked> {
        let run = observed.object.as_ref();
        let stores = observed.all_stores()?;
        let attempt = subject.attempt;
        let task = Task { work: Work::Train(work(observed)?), subject };
        let scratch = run.spec.container.scratch.as_deref();
        let builder = pod::Builder::once(meta)
            .task(&task)
            .scratch("bin", Some("64Mi"), false)
            .scratch("inputs", scratch, false)
            .scratch("mlop", scratch, false)
            .scratch("tmp", Some("1Gi"), false)
            .scratch("user-tmp", scratch, false)
            .init(copy(observed))
            .init(fetch(observed, &stores))
            .container(user(run, attempt))
            .container(agent(observed, &stores))
            .execution(&run.spec.execution)
            .grace(grace_seconds(run).cast_signed());
        let builder = stores.iter().fold(builder, |builder, store| builder.keys(store));
        let builder = match &run.spec.container.shared_memory {
            Some(size) => builder.scratch("shm", Some(size), true),
            None => builder,
        };
        let mut pod = builder.build();
        if let Some(spec) = &mut pod.spec {
            spec.active_deadline_seconds =
                spec.active_deadline_seconds.map(|deadline| deadline + deadline_margin(run));
        }
        Ok(pod)
    }
}

/// Time between SIGTERM and SIGKILL of the pod in seconds: after the command has saved a checkpoint, the agent uploads it.
fn grace_seconds(run: &TrainingRun) -> u64 {
    2 * run.spec.container.grace_period.unwrap_or(GRACE).as_secs().min(GRACE_SECONDS_MAX)
}

/// Time between the agent's deadline and the pod's, in seconds.
fn deadline_margin(run: &TrainingRun) -> i64 {
    DEADLINE_MARGIN_SECONDS.max(2 * grace_seconds(run).cast_signed())
}

fn work(observed: &Observed<TrainingRunRun>) -> Result<TrainWork, Blocked> {
    let TrainingRunSpec { content, lineage, store, execution, container: _, size, queue: _ } =
        &observed.object.spec;
    Ok(TrainWork {
        inputs: observed.inputs()?,
        output: pod::store(observed.store(store)?),
        content: content.clone(),
        input_digest: lineage.input_digest.clone(),
        ancestors: lineage.ancestors.iter().map(Ancestor::identity).collect(),
        deadline_seconds: execution.deadline.map(|span| span.as_secs()),
        grace_seconds: Some(grace_seconds(&observed.object)),
        size: size.clone(),
        needs: Needs { scratch_bytes: scratch_bytes(&observed.object) },
    })
}

/// The disk that the work may need. A run of an earlier release may have no limit.
fn scratch_bytes(run: &TrainingRun) -> u64 {
    let size = run.spec.container.scratch.as_deref().and_then(|size| size.parse::<Quantity>().ok());
    size.map_or(0, |size| size.percent(100))
}

fn ours(
    observed: &Observed<TrainingRunRun>,
    name: &str,
    args: &[&str],
    stores: &[&ObjectStore],
    mounts: &[VolumeMount],
) -> Container {
    let mut container = container::worker(&observed.worker_image, args, stores, &Resources::small(256));
    container.name = name.to_owned();
    container.volume_mounts.get_or_insert_default().extend_from_slice(mounts);
    container
}

fn copy(observed: &Observed<TrainingRunRun>) -> Container {
    ours(
        observed,
        labels::COPY_CONTAINER,
        &["copy", "/mlop/bin/mlop-launcher"],
        &[],
        &[writable("bin", "/mlop/bin")],
    )
}

fn fetch(observed: &Observed<TrainingRunRun>, stores: &[&ObjectStore]) -> Container {
    ours(
        observed,
        labels::FETCH_CONTAINER,
        &["fetch"],
        stores,
        &[writable("mlop", "/mlop"), writable("inputs", "/mlop/inputs")],
    )
}

fn agent(observed: &Observed<TrainingRunRun>, stores: &[&ObjectStore]) -> Container {
    ours(observed, labels::WORKER_CONTAINER, &["agent"], stores, &[writable("mlop", "/mlop")])
}

fn user(run: &TrainingRun, attempt: u32) -> Container {
    let content = &run.spec.content;
    let gpus = run.spec.execution.resources.gpu;
    let launcher = ["/mlop/bin/mlop-launcher", "run"].map(str::to_owned).into_iter();
    let launcher = launcher.chain((gpus > 0).then(|| format!("--gpus={gpus}"))).chain(["--".to_owned()]);
    let mut mounts = vec![
        mount("bin", "/mlop/bin"),
        mount("inputs", "/mlop/inputs"),
        writable("mlop", "/mlop"),
        writable("user-tmp", "/tmp"),
    ];
    if run.spec.container.shared_memory.is_some() {
        mounts.push(writable("shm", "/dev/shm"));
    }
    Container {
        name: labels::USER_CONTAINER.to_owned(),
        image: Some(content.image.clone()),
        command: Some(launcher.chain(content.command.iter().map(|arg| literal(arg))).collect()),
        env: Some(environment(run, attempt)),
        volume_mounts: Some(mounts),
        resources: Some(container::requirements(&run.spec.execution.resources)),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(false),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn environment(run: &TrainingRun, attempt: u32) -> Vec<EnvVar> {
    // Users may set these three: libraries look for a name where /etc/passwd has none for this user.
    let defaults = [("HOME", "/tmp"), ("USER", "mlop"), ("LOGNAME", "mlop")];
    let defaults = defaults.map(|(name, text)| value(name, text.to_owned())).into_iter();
    let users = &run.spec.container.env;
    let defaults = defaults
        .chain(distributed::of_framework(run, attempt))
        .filter(|default| users.iter().all(|variable| variable.name != default.name));
    let ours = [
        value("MLOP_INPUTS", "/mlop/inputs".to_owned()),
        value("MLOP_OUTPUT", "/mlop/output".to_owned()),
        value("MLOP_HYPERPARAMETERS", "/mlop/hyperparameters.json".to_owned()),
        value("MLOP_CHECKPOINT", "/mlop/checkpoint".to_owned()),
        value("MLOP_PROGRESS", "/mlop/progress.jsonl".to_owned()),
        value("MLOP_SEED", run.spec.content.seed.to_string()),
        value("MLOP_ATTEMPT", attempt.to_string()),
    ];
    let ours = ours.into_iter().chain(distributed::of_every_kind(run, attempt));
    defaults.chain(users.iter().map(variable)).chain(ours).collect()
}

/// A variable with this value.
fn value(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn variable(variable: &training::EnvVar) -> EnvVar {
    let from = variable.secret.as_ref().map(|secret| EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: secret.name.clone(),
            key: secret.key.clone(),
            optional: None,
        }),
        ..Default::default()
    });
    EnvVar { name: variable.name.clone(), value: variable.value.as_deref().map(literal), value_from: from }
}
