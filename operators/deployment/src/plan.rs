//! What is served, and what the status says about it.
//!
//! What serves goes on serving: an input that may not be used any more, or a new version that does not become ready,
//! changes nothing but the status.

use crate::server;
use jiff::Timestamp;
use kube::ResourceExt;
use mlop_api::{
    Artifact, Reason,
    contract::{Cause, condition_type},
    dataset::ObjectStore,
    deployment::{DeploymentTarget, ModelDeployment},
    labels,
    status::{DeploymentStatus, Serving},
};
use mlop_core::{
    Plan,
    children::{
        pod_outcome,
        rollout::{self, Rollout},
    },
    condition::{self, ConditionStatus, Conditions},
    inputs::{self, BlockedInput, InputState, ReadyInput, UpstreamFailure},
    resource::{ChildObject, PodView},
};
use std::sync::Arc;

pub struct Observed {
    pub object: Arc<ModelDeployment>,
    pub input: InputState,
    pub stores: Vec<Arc<ObjectStore>>,
    /// Pods that serve.
    pub pods: Vec<Arc<PodView>>,
    pub deployment: Option<Arc<ChildObject>>,
    pub operator: String,
    pub launcher_image: String,
}

impl Observed {
    fn ready_replicas(&self) -> i32 {
        self.deployment.as_deref().map_or(0, rollout::ready_replicas)
    }
}

/// What is to be served now.
struct Wanted<'a> {
    artifact: Artifact,
    store: &'a ObjectStore,
    target: &'a DeploymentTarget,
}

pub fn plan(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus> {
    let object = observed.object.as_ref();
    if object.metadata.deletion_timestamp.is_some() {
        return Plan::idle();
    }
    let before = object.status.clone().unwrap_or_default();
    let mut draft = Draft { observed, status: before.clone(), plan: Plan::idle(), now };
    draft.status.observed_generation = Some(draft.generation());
    draft.keep_valid_artifact();
    let input = inputs::gate(&observed.input);
    draft.input(&input);
    match wanted(observed, input.as_ref().ok()) {
        Some(Ok(wanted)) if !object.spec.suspend => draft.serve(&wanted, &input),
        Some(Err(missing)) => {
            draft.hold(ConditionStatus::Unknown, Reason::ConnectionNotReady, &missing, None)
        }
        _ => draft.idle(&input),
    }
    draft.plan.status = (draft.status != before).then_some(draft.status);
    draft.plan
}

/// The artifact of the ready input. Without one it is the served artifact, unless a later one is being rolled out: a
/// rollout is neither undone nor hurried by an input. None: there is nothing to apply.
fn wanted<'a>(observed: &'a Observed, input: Option<&ReadyInput>) -> Option<Result<Wanted<'a>, String>> {
    let served = || {
        let artifact = observed.object.status.as_ref()?.artifact.clone()?;
        let shown = observed.deployment.as_deref().and_then(server::model_digest);
        shown.is_none_or(|digest| digest == artifact.digest.short(63)).then_some(artifact)
    };
    let artifact = input.map(|input| input.artifact.clone()).or_else(served)?;
    find(observed, artifact)
}

fn find(observed: &Observed, artifact: Artifact) -> Option<Result<Wanted<'_>, String>> {
    let store = observed.stores.iter().find(|store| store.name_any() == artifact.store);
    let target = observed.object.spec.target.deployment.as_ref()?;
    Some(match store {
        Some(store) => Ok(Wanted { store, artifact, target }),
        None => Err(format!("ObjectStore {} does not exist", artifact.store)),
    })
}

struct Draft<'a> {
    observed: &'a Observed,
    status: DeploymentStatus,
    plan: Plan<DeploymentStatus>,
    now: Timestamp,
}

impl Draft<'_> {
    fn generation(&self) -> i64 {
        self.observed.object.metadata.generation.unwrap_or_default()
    }

    fn label(&self) -> String {
        format!("ModelDeployment {}", self.observed.object.name_any())
    }

    /// Moves the served artifact to the present generation if the edit of the spec has left its Deployment as it is.
    fn keep_valid_artifact(&mut self) {
        let generation = Some(self.generation());
        let (Some(artifact), Some(child)) = (&self.status.artifact, &self.observed.deployment) else {
            return;
        };
        if artifact.generation == generation {
            return;
        }
        let Some(Ok(wanted)) = find(self.observed, artifact.clone()) else { return };
        let deployment = server::deployment(self.observed, wanted.target, &wanted.artifact, wanted.store);
        let is_served = server::is_applied(child, &deployment) && rollout::rollout(child) == Rollout::Done;
        if let Some(artifact) = self.status.artifact.as_mut().filter(|_| is_served) {
            artifact.generation = generation;
        }
    }

    fn conditions(&mut self) -> Conditions<'_> {
        let generation = self.generation();
        Conditions::new(&mut self.status.conditions, generation, self.now)
    }

    fn path(&self, upstream: &UpstreamFailure) -> String {
        inputs::path(&self.label(), &upstream.cause, Some(upstream))
    }

    fn input(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        match input {
            Ok(_) => self.conditions().set(
                condition_type::INPUTS_READY,
                ConditionStatus::True,
                Reason::InputsReady,
                "the model is usable",
            ),
            Err(problem) => {
                let is = if problem.upstream.is_some() {
                    ConditionStatus::False
                } else {
                    ConditionStatus::Unknown
                };
                let text = problem
                    .upstream
                    .as_ref()
                    .map_or_else(|| problem.blocked.message.clone(), |upstream| self.path(upstream));
                self.conditions().set(condition_type::INPUTS_READY, is, problem.blocked.reason, &text);
            }
        }
    }

    fn serve(&mut self, wanted: &Wanted<'_>, input: &Result<ReadyInput, BlockedInput>) {
        let why = format!("{} is to be served", wanted.artifact.run);
        let deployment = server::deployment(self.observed, wanted.target, &wanted.artifact, wanted.store);
        let is_applied = |child: &&ChildObject| server::is_applied(child, &deployment);
        let applied = self.observed.deployment.as_deref().filter(is_applied);
        let plan = std::mem::replace(&mut self.plan, Plan::idle());
        self.plan = plan.apply(&server::service(self.observed), why.clone()).apply(&deployment, why);
        let ready = self.observed.ready_replicas();
        match applied.map(rollout::rollout) {
            Some(Rollout::Done) if ready > 0 => self.served(wanted, ready, input),
            Some(Rollout::Failed(message)) => self.failed(&wanted.artifact, &message),
            _ => self.rolling(wanted),
        }
    }

    /// All pods serve what is wanted.
    fn served(&mut self, wanted: &Wanted<'_>, ready: i32, input: &Result<ReadyInput, BlockedInput>) {
        let generation = self.generation();
        let before = self.status.artifact.take();
        let changed = before.as_ref().is_none_or(|artifact| artifact.digest != wanted.artifact.digest);
        let revision = before.as_ref().map_or(0, |artifact| artifact.revision) + i64::from(changed);
        let version = match input {
            Ok(usable) => usable.registered.as_ref().map(|registered| registered.version.clone()),
            Err(_) => self.status.serving.first().and_then(|serving| serving.version.clone()),
        };
        let model_version = match (input, self.status.serving.first()) {
            (Err(_), Some(serving)) => serving.model_version.clone(),
            _ => wanted.artifact.run.clone(),
        };
        let (parents, ancestors) = match input {
            Ok(usable) => {
                (vec![usable.input.record.clone()], inputs::ancestors(std::slice::from_ref(usable)))
            }
            Err(_) => before
                .as_ref()
                .map(|known| (known.inputs.clone(), known.ancestors.clone()))
                .unwrap_or_default(),
        };
        self.status.artifact = Some(Artifact {
            revision,
            generation: Some(generation),
            inputs: parents,
            ancestors,
            run: model_version.clone(),
            produced_at: before
                .filter(|_| !changed)
                .map_or_else(|| format!("{:.6}", self.now), |artifact| artifact.produced_at),
            ..wanted.artifact.clone()
        });
        let what =
            version.as_ref().map_or_else(|| model_version.clone(), |version| format!("version {version}"));
        self.status.summary = Some(format!("{what} on {ready} of {} pods", wanted.target.replicas));
        self.status.serving = vec![Serving {
            digest: wanted.artifact.digest.clone(),
            model_version,
            version,
            ready_replicas: ready,
        }];
        let object = self.observed.object.as_ref();
        self.status.url = Some(format!(
            "http://{}.{}.svc:{}/v2/models/{}/infer",
            server::name(&object.name_any()),
            object.namespace().unwrap_or_default(),
            server::PORT,
            server::model_name(self.observed),
        ));
        self.conditions().set(
            condition_type::READY,
            ConditionStatus::True,
            Reason::Ready,
            &format!("{what} is served"),
        );
        self.conditions().settled();
        if changed {
            let message = format!("{what} is served ({})", wanted.artifact.digest);
            self.plan.events.push(mlop_core::plan::Event { warning: false, reason: Reason::Ready, message });
        }
        self.up_to_date(input);
    }

    /// What serves is right; is it the newest?
    fn up_to_date(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        let upstream = match input {
            Ok(usable) => usable.upstream.as_ref(),
            Err(problem) => problem.upstream.as_ref(),
        };
        self.status.cause = upstream.map(|upstream| upstream.cause.clone());
        match (upstream, input) {
            (Some(upstream), _) => {
                let text = self.path(upstream);
                self.conditions().set(
                    condition_type::UP_TO_DATE,
                    ConditionStatus::False,
                    Reason::UpstreamFailed,
                    &text,
                );
            }
            (None, Ok(_)) => self.conditions().set(
                condition_type::UP_TO_DATE,
                ConditionStatus::True,
                Reason::UpToDate,
                "the newest usable version is served",
            ),
            (None, Err(problem)) => self.conditions().set(
                condition_type::UP_TO_DATE,
                ConditionStatus::Unknown,
                problem.blocked.reason,
                &problem.blocked.message,
            ),
        }
    }

    /// Ready goes by what is served for this spec, whatever is under way.
    fn ready(&mut self, is: ConditionStatus, reason: Reason, message: &str) {
        let generation = self.generation();
        let ready = self.observed.ready_replicas();
        match self
            .status
            .artifact
            .as_ref()
            .filter(|artifact| artifact.generation == Some(generation) && ready > 0)
        {
            Some(artifact) => {
                let message = format!("{} is served", artifact.run);
                self.conditions().set(condition_type::READY, ConditionStatus::True, Reason::Ready, &message);
            }
            None => self.conditions().set(condition_type::READY, is, reason, message),
        }
        for serving in &mut self.status.serving {
            serving.ready_replicas = ready;
        }
    }

    fn rolling(&mut self, wanted: &Wanted<'_>) {
        let trouble = self.trouble();
        let is_down = trouble.is_some() && self.observed.ready_replicas() == 0;
        let (reason, message) = trouble
            .unwrap_or_else(|| (Reason::RollingOut, format!("{} is being rolled out", wanted.artifact.run)));
        self.status.cause = None;
        self.ready(if is_down { ConditionStatus::False } else { ConditionStatus::Unknown }, reason, &message);
        let is =
            if self.status.artifact.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.conditions().set(condition_type::UP_TO_DATE, is, reason, &message);
        self.conditions().reconciling(reason, &message);
    }

    /// What keeps a pod of the observed template from serving, in the words of its containers.
    fn trouble(&self) -> Option<(Reason, String)> {
        let template = self.observed.deployment.as_deref().and_then(server::template_digest)?;
        let is_current =
            |pod: &&Arc<PodView>| pod.annotations().get(labels::TEMPLATE).is_some_and(|at| at == template);
        self.observed.pods.iter().filter(is_current).find_map(|pod| pod_outcome::trouble(pod))
    }

    fn failed(&mut self, artifact: &Artifact, message: &str) {
        let words = self.trouble().map_or_else(
            || "see the logs of its pods".to_owned(),
            |(reason, message)| format!("{reason}: {message}"),
        );
        let message = format!("{} did not become ready: {message}; {words}", artifact.run);
        let cause = Cause {
            kind: "ModelDeployment".to_owned(),
            name: self.observed.object.name_any(),
            reason: Reason::RolloutFailed.to_string(),
            message: condition::truncated(&message, condition::MESSAGE_BYTES_MAX),
        };
        let text = inputs::path(&self.label(), &cause, None);
        if self.status.cause.as_ref() != Some(&cause) {
            let note = mlop_core::plan::Event {
                warning: true,
                reason: Reason::RolloutFailed,
                message: text.clone(),
            };
            self.plan.events.push(note);
        }
        self.status.cause = Some(cause);
        self.ready(ConditionStatus::False, Reason::RolloutFailed, &text);
        self.conditions().set(
            condition_type::UP_TO_DATE,
            ConditionStatus::False,
            Reason::RolloutFailed,
            &text,
        );
        self.conditions().stalled(Reason::RolloutFailed, &text);
    }

    fn hold(&mut self, is: ConditionStatus, reason: Reason, message: &str, cause: Option<Cause>) {
        self.status.cause = cause;
        self.ready(is, reason, message);
        let shown =
            if self.status.artifact.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.conditions().set(condition_type::UP_TO_DATE, shown, reason, message);
        self.conditions().settled();
    }

    /// Nothing is to be changed: suspended, or there is nothing to serve yet.
    fn idle(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        match input {
            Ok(_) => self.hold(
                ConditionStatus::Unknown,
                Reason::Suspended,
                "spec.suspend is true: what is served stays",
                None,
            ),
            Err(problem) => {
                let text = problem
                    .upstream
                    .as_ref()
                    .map_or_else(|| problem.blocked.message.clone(), |upstream| self.path(upstream));
                let is = if problem.upstream.is_some() {
                    ConditionStatus::False
                } else {
                    ConditionStatus::Unknown
                };
                let cause = problem.upstream.as_ref().map(|upstream| upstream.cause.clone());
                self.hold(is, problem.blocked.reason, &text, cause);
            }
        }
    }
}
