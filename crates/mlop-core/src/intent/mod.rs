//! What every intent does: from inputs to a run, from the run's result to the artifact that others may use.
//!
//! A kind says what enters the digest ([`Intent::identity`]), what its run looks like ([`Intent::run`]) and, if its
//! result is projected to somewhere outside, how ([`Intent::activation`]). Everything else is here: the gate, the
//! trigger, pin and suspend, activation before publication, dead letters, history and retention.
//!
//! Each activation has a number, the revision, and outside the highest wins. A run gets one when it is created: its pod
//! activates what it has made if the intent wants that when the pod starts ([`wants_active`]). In all other cases (a
//! pin, other parameters, an online store that was away) a pod does it that does nothing else, with the next number.

mod publish;
mod step;

use crate::{
    Blocked,
    children::pod,
    condition,
    inputs::{InputState, ReadyInput},
    resource::PodView,
    run::RunResource,
    runtime::{
        cache::{Cache, Cached},
        controller::Reports,
        triggers::intent_key,
        workqueue::Key,
    },
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason,
    common::{Consistency, Flow, NamedInput, ObjectRef},
    contract::condition_type,
    labels,
    result::Registered,
    run::{Execution, Lineage},
    status::{IntentStatus, Verdict},
    task::Subject,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub use step::plan;

/// A kind of intent that makes runs.
pub trait Intent: Sized + Send + Sync + 'static {
    type Resource: Cached + Resource<DynamicType = ()> + Reports<Status = IntentStatus>;
    type Run: RunResource;
    /// What else its decisions depend on, read from caches.
    type Related: Send + Sync;

    /// Version of the meaning of [`identity`](Self::identity). Raising it never triggers by itself: an artifact is
    /// current if its recorded version gives the same digest.
    const SEMANTICS: u32 = 1;
    /// Whether its results are projected to the outside, by [`activation`](Self::activation).
    const ACTIVATES: bool = false;

    fn flow(object: &Self::Resource) -> &dyn Flow;

    /// The artifacts it consumes.
    fn inputs(object: &Self::Resource) -> Vec<NamedInput>;

    fn consistency(_object: &Self::Resource) -> Consistency {
        Consistency::Same
    }

    /// What determines the output besides the inputs, with fields at their default left out; or why that is not known
    /// yet. Never names, times, or settings of the execution.
    ///
    /// # Errors
    /// What has to be there or to be corrected first.
    fn identity(observed: &Observed<Self>) -> Result<Identity, Blocked>;

    /// The inputs of a run that are not resources, as [`identity`](Self::identity) has them.
    fn digests(_run: &Self::Run) -> Vec<(String, Digest)> {
        Vec::new()
    }

    /// How its runs are carried out.
    fn execution(object: &Self::Resource) -> Execution;

    /// The run for these inputs. `meta` names it, and `lineage` and `execution` belong into its spec.
    fn run(
        observed: &Observed<Self>,
        meta: ObjectMeta,
        lineage: Lineage,
        execution: Execution,
        inputs: &[ReadyInput],
    ) -> Self::Run;

    /// The merge patch that brings `execution` into an existing run.
    fn execution_patch(execution: &Execution, _object: &Self::Resource) -> Value {
        json!({"execution": execution})
    }

    /// Whether an existing run is carried out as the intent asks for now.
    fn is_mirrored(run: &Self::Run, execution: &Execution, _object: &Self::Resource) -> bool {
        run.execution() == execution
    }

    /// May the result of a successful run be used? None: without condition.
    fn judge(_object: &Self::Resource, _run: &Self::Run) -> Option<Verdict> {
        None
    }

    /// How a result is projected to the outside before it is published.
    fn activation(_world: &Observed<Self>, _run: &Self::Run) -> Activation {
        Activation::None
    }
}

/// What enters the digest.
pub struct Identity {
    /// The part of the spec that affects the output.
    pub spec: Value,
    /// Inputs that are not resources: the listing of a source.
    pub digests: Vec<(String, Digest)>,
    /// When the newest of them came to be, if that is known.
    pub since: Option<Timestamp>,
}

/// Makes the pod that brings a revision outside; name, owner and labels are given.
pub type BuildActivation = dyn Fn(ObjectMeta, Subject, i64) -> Pod;

/// How a result reaches the outside.
pub enum Activation {
    /// There is nothing outside.
    None,
    /// A pod does it, if the run's own has not. `parameters` is the digest of everything that it depends on besides the
    /// artifact: a change activates anew.
    Pod { parameters: Digest, build: Box<BuildActivation> },
    /// What it needs is not there yet.
    Waiting(String),
}

/// What an intent's decision depends on.
pub struct Observed<I: Intent> {
    pub object: Arc<I::Resource>,
    pub inputs: Vec<InputState>,
    /// All runs of this intent.
    pub runs: Vec<Arc<I::Run>>,
    /// Pods of this intent and of its runs.
    pub pods: Vec<Arc<PodView>>,
    /// How it depends on itself, if it does.
    pub cycle: Option<String>,
    pub operator: String,
    pub worker_image: String,
    pub related: I::Related,
}

impl<I: Intent> Observed<I> {
    pub fn key(&self) -> Key {
        Key::of(self.object.meta())
    }

    pub fn kind() -> String {
        I::Resource::kind(&()).into_owned()
    }

    /// `Dataset flights`
    pub fn label(&self) -> String {
        format!("{} {}", Self::kind(), self.key().name)
    }

    pub fn generation(&self) -> i64 {
        self.object.meta().generation.unwrap_or_default()
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.object.annotations().get(name).map(String::as_str)
    }

    /// Metadata of a child that is not a run.
    pub fn child(&self, name: String, role: &str) -> ObjectMeta {
        pod::child_meta(
            self.object.as_ref(),
            name,
            [
                (labels::OPERATOR, self.operator.clone()),
                (labels::ROLE, role.to_owned()),
                (labels::INTENT, self.key().name),
                (labels::INTENT_KIND, Self::kind()),
            ],
        )
    }

    fn run_named(&self, name: &str) -> Option<&Arc<I::Run>> {
        self.runs.iter().find(|run| run.meta().name.as_deref() == Some(name))
    }
}

/// The parts of a observed that all intents read in the same way.
pub struct Sources<I: Intent> {
    pub inputs: crate::inputs::Inputs,
    pub runs: Arc<crate::runtime::cache::Cache<I::Run>>,
    pub pods: Arc<crate::runtime::cache::Cache<PodView>>,
}

impl<I: Intent> Sources<I> {
    /// Reads the caches for `object`.
    pub fn observed(&self, cx: &crate::Context, object: Arc<I::Resource>, extra: I::Related) -> Observed<I> {
        let key = Key::of(object.meta());
        let kind = Observed::<I>::kind();
        let belongs = |meta: &ObjectMeta| {
            let label =
                |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
            label(labels::INTENT) == Some(&key.name) && label(labels::INTENT_KIND) == Some(&kind)
        };
        let wanted = I::inputs(&object);
        let references = crate::inputs::references(&wanted);
        let start = ObjectRef {
            api_group: I::Resource::group(&()).into_owned(),
            kind: kind.clone(),
            name: key.name.clone(),
        };
        Observed {
            inputs: wanted.iter().map(|input| self.inputs.state(&key.namespace, input)).collect(),
            runs: self.runs.select(&key.namespace, |run| belongs(run.meta())),
            pods: self.pods.select(&key.namespace, |pod| belongs(pod.meta())),
            cycle: crate::inputs::cycle(&start, &references, |from| self.inputs.lookup(&key.namespace, from)),
            operator: cx.settings.operator.clone(),
            worker_image: cx.settings.worker_image.clone(),
            object,
            related: extra,
        }
    }
}

/// The number under which a run or an activation pod may activate what it makes; 0: it may not.
pub fn revision<K: Resource>(object: &K) -> i64 {
    let labels = object.meta().labels.as_ref();
    labels.and_then(|all| all.get(labels::REVISION)).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The intent that `run` is for, if it wants the result of an attempt that starts now to be activated by its pod.
pub fn wants_active<I: Intent>(intents: &Cache<I::Resource>, run: &I::Run) -> Option<Arc<I::Resource>> {
    let intent = intents.get(intent_key(run, &Observed::<I>::kind()).first()?)?;
    let ours = run.owner_references().iter().any(|owner| Some(&owner.uid) == intent.meta().uid.as_ref());
    let wanted = revision(run) > 0
        && intent.meta().deletion_timestamp.is_none()
        && I::flow(&intent).pin().is_none()
        && I::judge(&intent, run).is_none_or(|verdict| verdict.passed);
    (ours && wanted).then_some(intent)
}

/// Identity of an activation: of what, and how.
pub fn activation_digest(output: &Digest, registered: Option<&Registered>, parameters: &Digest) -> Digest {
    Digest::of_json(&json!({"output": output, "registered": registered, "parameters": parameters}))
        .unwrap_or_else(|_| Digest::of_bytes(b""))
}

/// How a run stands, as its intent sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    Active(Option<(Reason, String)>),
    Succeeded,
    Dead(Reason, String),
}

/// Reads a run's conditions; a failure of an earlier spec does not count.
pub fn run_state<R: RunResource>(run: &R) -> RunState {
    let conditions = run.reported().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let Some(succeeded) = condition::get(conditions, condition_type::SUCCEEDED) else {
        return RunState::Active(None);
    };
    let reason =
        Reason::ALL.iter().map(|(reason, _)| *reason).find(|reason| reason.as_str() == succeeded.reason);
    let reason = reason.unwrap_or(Reason::WorkerFailed);
    match succeeded.status.as_str() {
        "True" => RunState::Succeeded,
        "False" if succeeded.observed_generation == run.meta().generation => {
            RunState::Dead(reason, succeeded.message.clone())
        }
        "Unknown" if !matches!(reason, Reason::Pending | Reason::Running) => {
            RunState::Active(Some((reason, succeeded.message.clone())))
        }
        _ => RunState::Active(None),
    }
}

/// `value` without what says nothing: null, false, empty texts, lists and objects. A field that is added later with
/// such a default leaves earlier digests as they are.
pub fn significant(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(key, value)| (key, significant(value)));
            Value::Object(kept.filter(|(_, value)| !is_insignificant(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(significant).collect()),
        other => other,
    }
}

fn is_insignificant(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
