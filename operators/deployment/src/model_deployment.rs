//! `ModelDeployment`: which artifact is served.
//!
//! A blocked input, or a new version that does not become ready, changes only the status: the served version stays.

use crate::{
    router,
    server::{self, Server},
    status::Draft,
    steps, trace,
};
use jiff::Timestamp;
use kube::ResourceExt;
use mlop_api::{
    Artifact,
    common::NamedInput,
    dataset::ObjectStore,
    deployment::{DeploymentTarget, ModelDeployment},
    labels,
    status::DeploymentStatus,
};
use mlop_core::{
    Blocked, Cache, Context, Error, Index, Key, Plan, Reconciler,
    children::{
        connection,
        owned::{Child, ChildCaches},
        profile::Profile,
        profiles::Profiles,
        rollout::{self, Rollout},
    },
    inputs::{self, BlockedInput, InputState, Inputs, ReadyInput},
    resource::{ChildObject, PodView},
    span::Span,
};
use std::sync::Arc;

pub struct ModelDeploymentReconciler {
    pub inputs: Inputs,
    pub stores: Arc<Cache<ObjectStore>>,
    /// By the name of the ModelDeployment.
    pub pods: Index<PodView>,
    pub deployments: Arc<Cache<ChildObject>>,
    pub children: ChildCaches,
    pub profiles: Profiles,
}

impl Reconciler for ModelDeploymentReconciler {
    type Resource = ModelDeployment;
    type Status = DeploymentStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<ModelDeployment>) -> Result<Observed, Error> {
        let key = Key::of(&object.metadata);
        let input = NamedInput { name: "model".to_owned(), from: object.spec.from.clone() };
        let all = self.pods.get(&key.namespace, &key.name);
        let pods = |role: &str| {
            let has_role = |pod: &&Arc<PodView>| pod.labels().get(labels::ROLE).is_some_and(|it| it == role);
            all.iter().filter(has_role).cloned().collect::<Vec<_>>()
        };
        let deployment = |name| self.deployments.get(&Key::new(&key.namespace, name));
        let input = self.inputs.state(&key.namespace, &input);
        let published = input.object.as_ref().and_then(|object| object.status.artifact.as_ref());
        let served = object.status.as_ref().and_then(|status| status.artifact.as_ref());
        let stores = published.into_iter().chain(served).map(|artifact| artifact.store.as_str());
        Ok(Observed {
            stores: self.stores.named(&key.namespace, stores).into_values().collect(),
            input,
            pods: pods(labels::SERVING),
            routing: pods(labels::ROUTING),
            analyses: pods(steps::ANALYSIS),
            deployment: deployment(server::name(&key.name)),
            canary: deployment(server::canary_name(&key.name)),
            routers: deployment(router::name(&key.name)),
            children: self.children.of(&object.metadata),
            profile: self.profiles.of(&key.namespace, object.spec.profile.as_deref()),
            operator: cx.settings.operator.clone(),
            launcher_image: cx.settings.worker_image.clone(),
            object,
        })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus> {
        plan(observed, now)
    }

    fn spans(observed: &Observed, planned: Option<&DeploymentStatus>, now: Timestamp) -> Vec<Span> {
        trace::rollout(&observed.object, planned, now).into_iter().collect()
    }
}

pub struct Observed {
    pub object: Arc<ModelDeployment>,
    pub input: InputState,
    /// The ObjectStores of the published and the served artifact.
    pub stores: Vec<Arc<ObjectStore>>,
    /// Pods that serve.
    pub pods: Vec<Arc<PodView>>,
    /// Pods of routers.
    pub routing: Vec<Arc<PodView>>,
    /// Pods that measure.
    pub analyses: Vec<Arc<PodView>>,
    pub deployment: Option<Arc<ChildObject>>,
    /// The Deployment of the new version in a rollout in steps.
    pub canary: Option<Arc<ChildObject>>,
    pub routers: Option<Arc<ChildObject>>,
    pub children: Vec<Child>,
    /// The profile of its pods.
    pub profile: Profile,
    pub operator: String,
    pub launcher_image: String,
}

impl Observed {
    pub(crate) fn server(&self) -> Server<'_> {
        Server {
            object: &self.object,
            observed: self.deployment.as_deref(),
            profile: &self.profile,
            operator: &self.operator,
            launcher_image: &self.launcher_image,
        }
    }
}

/// The artifact to serve now.
pub(crate) struct Wanted<'a> {
    pub artifact: Artifact,
    pub store: &'a ObjectStore,
    pub target: &'a DeploymentTarget,
}

pub fn plan(observed: &Observed, now: Timestamp) -> Plan<DeploymentStatus> {
    let object = observed.object.as_ref();
    if object.metadata.deletion_timestamp.is_some() {
        return Plan::idle();
    }
    let mut draft = Draft::new(object, observed.deployment.as_deref(), &observed.pods, now);
    draft.canary = observed.canary.as_deref();
    if is_kept(observed) {
        draft.keep_artifact();
    }
    let input = inputs::gate(&observed.input);
    draft.input(&input);
    let mut plan = Plan::idle();
    match (wanted(observed, input.as_ref().ok()), observed.profile.check()) {
        (Some(_), Err(blocked)) => draft.wait(&blocked),
        (Some(Ok(wanted)), _) if !object.spec.suspend => {
            plan = match &object.spec.rollout {
                Some(spec) => steps::serve(observed, spec, &mut draft, &wanted, &input, now),
                None => serve(observed, &mut draft, &wanted, &input),
            };
        }
        (Some(Err(missing)), _) => draft.wait(&missing),
        _ => draft.idle(&input),
    }
    draft.list_serving(&input);
    let due = draft.due();
    plan.events.extend(draft.events);
    let before = object.status.clone().unwrap_or_default();
    match due {
        Some(later) if later > now => plan.requeue_at(later).with_status(before.clone(), Some(&before)),
        _ => plan.with_status(draft.status, Some(&before)),
    }
}

/// Whether the edit of the spec has left the pods of the served artifact as they are. Their number may change.
fn is_kept(observed: &Observed) -> bool {
    let artifact = observed.object.status.as_ref().and_then(|status| status.artifact.clone());
    let (Some(artifact), Some(child)) = (artifact, &observed.deployment) else { return false };
    if artifact.generation == Some(observed.object.metadata.generation.unwrap_or_default()) {
        return false;
    }
    let Some(Ok(wanted)) = find(observed, artifact) else { return false };
    let deployment = observed.server().deployment(wanted.target, &wanted.artifact, wanted.store);
    server::has_template(child, &deployment) && rollout::rollout(child) == Rollout::Done
}

/// The artifact of the ready input, or without one the served artifact. None: there is nothing to apply.
///
/// A rollout of a later artifact stays as it is without a ready input.
fn wanted<'a>(observed: &'a Observed, input: Option<&ReadyInput>) -> Option<Result<Wanted<'a>, Blocked>> {
    let served = || {
        let artifact = observed.object.status.as_ref()?.artifact.clone()?;
        let shown = observed.deployment.as_deref().and_then(server::model_digest);
        shown.is_none_or(|digest| digest == artifact.digest.short(63)).then_some(artifact)
    };
    let artifact = input.map(|input| input.artifact.clone()).or_else(served)?;
    find(observed, artifact)
}

pub(crate) fn find(observed: &Observed, artifact: Artifact) -> Option<Result<Wanted<'_>, Blocked>> {
    let store = observed.stores.iter().find(|store| store.name_any() == artifact.store);
    let target = observed.object.spec.target.deployment.as_ref()?;
    Some(match store {
        Some(store) => Ok(Wanted { store, artifact, target }),
        None => Err(connection::missing::<ObjectStore>(&artifact.store)),
    })
}

/// Applies the server of `wanted`, and reports its rollout.
fn serve(
    observed: &Observed,
    draft: &mut Draft<'_>,
    wanted: &Wanted<'_>,
    input: &Result<ReadyInput, BlockedInput>,
) -> Plan<DeploymentStatus> {
    let why = format!("{} is to be served", wanted.artifact.run);
    let server = observed.server();
    draft.status.rollout = None;
    report(observed, &server, draft, wanted, input);
    let deployment = server.deployment(wanted.target, &wanted.artifact, wanted.store);
    let plan = Plan::idle().apply(&server.service(), why.clone()).apply(&deployment, why.clone());
    steps::remove(observed, plan.apply(&server.budget(), why))
}

/// Reports the rollout of `wanted` to the Deployment that has the name of the ModelDeployment.
pub(crate) fn report(
    observed: &Observed,
    server: &Server<'_>,
    draft: &mut Draft<'_>,
    wanted: &Wanted<'_>,
    input: &Result<ReadyInput, BlockedInput>,
) {
    let deployment = server.deployment(wanted.target, &wanted.artifact, wanted.store);
    let is_applied = |child: &&ChildObject| server::has_template(child, &deployment);
    let applied = observed.deployment.as_deref().filter(is_applied);
    match applied.map(|child| (rollout::rollout(child), rollout::ready_replicas(child))) {
        Some((Rollout::Done, 1..)) => draft.served(&wanted.artifact, input),
        Some((Rollout::Done, _)) => draft.scaled_to_zero(input),
        Some((Rollout::Down(detail), _)) if draft.is_published(&wanted.artifact) => {
            draft.down(&wanted.artifact, &detail, input);
        }
        // Its state is known in a moment. Until then the conditions are those of before the change.
        Some((Rollout::Unobserved, _)) => {}
        Some((Rollout::Failed(message), _)) => draft.failed(&wanted.artifact, &message),
        Some(_) => draft.rolling(&wanted.artifact, draft.trouble()),
        None => draft.rolling(&wanted.artifact, None),
    }
    if let Some(replicas) = wanted.target.replicas.filter(|_| draft.is_published(&wanted.artifact)) {
        applied.into_iter().for_each(|child| draft.size_put_back(child, replicas));
    }
}
