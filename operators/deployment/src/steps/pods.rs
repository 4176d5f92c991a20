//! The Deployments of both versions: which version each has, and how many pods.

use super::Steps;
use crate::{
    model_deployment::{Wanted, find},
    rollout::Pods,
    server,
};
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use mlop_api::{
    labels,
    rollout::{RolloutPhase, RolloutStatus},
};
use mlop_core::{
    children::{
        rollout::{self, Rollout},
        service, template,
    },
    plan::Apply,
    resource::{ApiKind, ChildObject, PodView, object_value},
};
use serde_json::json;
use std::sync::Arc;

/// The stable Deployment that is applied.
pub(super) struct Stable {
    pub(super) apply: Apply,
    /// Identity of its pods.
    pub(super) template: String,
    /// Whether they are those of the wanted version.
    pub(super) is_wanted: bool,
}

pub(super) fn mark_of(deployment: &Deployment) -> Option<&str> {
    deployment.spec.as_ref().and_then(|spec| template::mark_of_spec(&spec.template))
}

fn apply(object: &Deployment, why: &str) -> Apply {
    Apply { kind: ApiKind::of::<Deployment>(), object: object_value(object), why: why.to_owned() }
}

/// The Deployment as it is, with another size.
fn resized(live: &ChildObject, mut meta: ObjectMeta, replicas: Option<i32>, why: &str) -> Apply {
    // Its version stays, and so does the label with that.
    let version = live.labels().get(labels::DIGEST).cloned();
    let labels = meta.labels.get_or_insert_default();
    labels.extend(version.map(|version| (labels::DIGEST.to_owned(), version)));
    let mut object = object_value(&Deployment { metadata: meta, ..Default::default() });
    let mut spec = live.body.get("spec").cloned().unwrap_or_default();
    if let (Some(fields), Some(replicas)) = (spec.as_object_mut(), replicas) {
        fields.insert("replicas".to_owned(), json!(replicas));
    }
    if let Some(fields) = object.as_object_mut() {
        fields.insert("spec".to_owned(), spec);
    }
    Apply { kind: ApiKind::of::<Deployment>(), object, why: why.to_owned() }
}

impl Steps<'_> {
    /// The stable Deployment: of the wanted version if that is the first one or is promoted, else as it is.
    pub(super) fn stable(&self, wanted: Deployment) -> Stable {
        let status = self.observed.object.status.as_ref();
        let live = self.observed.deployment.as_deref();
        let live_template = live.and_then(|live| server::identity(template::mark(live)));
        let wanted_template = server::identity(mark_of(&wanted)).unwrap_or_default().to_owned();
        let served = status.and_then(|status| status.artifact.clone());
        let is_promoted = self.recorded.is_some_and(|recorded| {
            recorded.phase == RolloutPhase::Promoting && recorded.canary.template == wanted_template
        });
        let is_wanted = served.is_none() || is_promoted || live_template == Some(wanted_template.as_str());
        if is_wanted {
            let apply = apply(&wanted, "the version is to be stable");
            return Stable { apply, template: wanted_template, is_wanted };
        }
        let why = "the stable version stays";
        let found = served.and_then(|artifact| find(self.observed, artifact)?.ok());
        let served =
            found.map(|served| self.server.deployment(served.target, &served.artifact, served.store));
        let identity = served.as_ref().and_then(|served| server::identity(mark_of(served)));
        let identity = identity.unwrap_or_default().to_owned();
        match (served, live) {
            (Some(served), None) => Stable { apply: apply(&served, why), template: identity, is_wanted },
            (Some(served), _) if live_template == Some(identity.as_str()) => {
                Stable { apply: apply(&served, why), template: identity, is_wanted }
            }
            // The spec has been edited since.
            (_, Some(live)) => {
                let meta = self.server.meta(server::name(&self.name()));
                let apply = resized(live, meta, self.wanted.target.replicas, why);
                Stable { apply, template: live_template.unwrap_or_default().to_owned(), is_wanted }
            }
            (None, None) => {
                let apply = apply(&wanted, "nothing serves");
                Stable { apply, template: wanted_template, is_wanted: true }
            }
        }
    }

    /// Whether the live stable Deployment serves `template` with all of its pods.
    pub(super) fn runs(&self, template: &str) -> bool {
        self.observed.deployment.as_deref().is_some_and(|live| {
            server::identity(template::mark(live)) == Some(template)
                && rollout::rollout(live) == Rollout::Done
                && rollout::ready_replicas(live) > 0
        })
    }

    /// Number of pods of the new version: its share of the stable ones.
    fn canary_size(&self, status: &RolloutStatus) -> i32 {
        let live = self.observed.deployment.as_deref().and_then(rollout::wanted_replicas);
        let stable = self.wanted.target.replicas.or(live).unwrap_or(1);
        let weight = self.spec.step(status.step).map_or(status.weight, |step| step.weight);
        // Rounded up.
        stable.saturating_mul(weight).saturating_add(99).saturating_div(100).max(1)
    }

    /// The canary Deployment, if it is that of the recorded version.
    pub(super) fn canary(&self, status: &RolloutStatus) -> Option<&ChildObject> {
        let live = self.observed.canary.as_deref()?;
        (live.labels().get(labels::DIGEST) == Some(&status.canary.template)).then_some(live)
    }

    pub(super) fn canary_pods(&self) -> Pods {
        let Some(status) = self.open() else { return Pods::Starting };
        let Some(live) = self.canary(status) else { return Pods::Starting };
        let size = self.canary_size(status);
        match rollout::rollout(live) {
            Rollout::Failed(why) => {
                let trouble = rollout::trouble(live, &self.observed.pods);
                let words = trouble.map(|(reason, words)| format!("; {reason}: {words}")).unwrap_or_default();
                Pods::Failed(format!("{why}{words}"))
            }
            Rollout::Done
                if rollout::wanted_replicas(live) == Some(size) && rollout::ready_replicas(live) >= size =>
            {
                Pods::Ready
            }
            _ => Pods::Starting,
        }
    }

    /// The canary Deployment in the recorded state. Its pods are of one version: those of another one end first. It is kept
    /// without pods between two rollouts.
    pub(super) fn canary_apply(&self) -> Option<Apply> {
        let live = self.observed.canary.as_deref();
        let meta = || self.server.meta(server::canary_name(&self.name()));
        let drained = |live| resized(live, meta(), Some(0), "its version is not rolled out");
        let Some(status) = self.open() else { return live.map(drained) };
        let size = self.canary_size(status);
        let is_known = self.version.as_ref().is_some_and(|it| it.template == status.canary.template);
        let is_free = live.is_none_or(|live| self.canary(status).is_some() || self.is_empty(live));
        match live {
            Some(live) if !is_free => Some(drained(live)),
            _ if is_known => {
                let Wanted { artifact, store, target } = self.wanted;
                let mut deployment = self.server.canary(live, size, target, artifact, store);
                let labels = deployment.metadata.labels.get_or_insert_default();
                labels.insert(labels::DIGEST.to_owned(), status.canary.template.clone());
                Some(apply(&deployment, "the version is rolled out in steps"))
            }
            Some(live) => Some(resized(live, meta(), None, "its input may not be used now")),
            None => None,
        }
    }

    /// Whether the canary Deployment has no pods, not even ones that end.
    fn is_empty(&self, live: &ChildObject) -> bool {
        let selector = service::selector(&server::canary_name(&self.name()));
        let is_of_it =
            |pod: &Arc<PodView>| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
        rollout::rollout(live) != Rollout::Unobserved
            && rollout::wanted_replicas(live) == Some(0)
            && rollout::replicas_of_all(live).unwrap_or_default() == 0
            && !self.observed.pods.iter().any(is_of_it)
    }
}
