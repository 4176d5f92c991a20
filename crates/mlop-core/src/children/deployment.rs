//! Deployments.

use super::service::selector;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

/// A Deployment of pods with a [`template`](super::template::template) for its name. A new pod is ready before an old one
/// ends; with `recreate` the old one ends first. Without `replicas` the API server sets one.
pub fn deployment(
    meta: ObjectMeta,
    replicas: impl Into<Option<i32>>,
    template: PodTemplateSpec,
    progress_deadline_seconds: i32,
    recreate: bool,
) -> Deployment {
    let name = meta.name.clone().unwrap_or_default();
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(1)),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    let strategy = if recreate {
        DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
    } else {
        DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: Some(rolling) }
    };
    let spec = DeploymentSpec {
        replicas: replicas.into(),
        selector: LabelSelector { match_labels: Some(selector(&name)), match_expressions: None },
        strategy: Some(strategy),
        progress_deadline_seconds: Some(progress_deadline_seconds),
        revision_history_limit: Some(2),
        template,
        ..Default::default()
    };
    Deployment { metadata: meta, spec: Some(spec), status: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::children::template::template;
    use k8s_openapi::api::core::v1::Pod;

    fn strategy(recreate: bool) -> DeploymentStrategy {
        let meta = ObjectMeta { name: Some("a".into()), ..Default::default() };
        let pods = template("a", None, None, |_, _| Pod::default());
        let deployment = deployment(meta, 2, pods, 60, recreate).spec.unwrap();
        let labels = deployment.template.metadata.unwrap().labels.unwrap();
        assert_eq!(Some(labels), deployment.selector.match_labels, "the selector matches the pods");
        deployment.strategy.unwrap()
    }

    #[test]
    fn new_pod_is_ready_before_an_old_one_ends_unless_recreated() {
        let rolling = strategy(false).rolling_update.unwrap();
        assert_eq!(rolling.max_unavailable, Some(IntOrString::Int(0)));
        let recreate = strategy(true);
        assert_eq!((recreate.type_.as_deref(), recreate.rolling_update), (Some("Recreate"), None));
    }
}
