//! PodDisruptionBudgets of servers.

use super::service::selector;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

/// Lets a drain take one pod of the server of this name at a time. A single pod, or one that is not ready, holds up no
/// drain.
pub fn budget(meta: ObjectMeta) -> PodDisruptionBudget {
    let pods = selector(meta.name.as_deref().unwrap_or_default());
    let spec = PodDisruptionBudgetSpec {
        selector: Some(LabelSelector { match_labels: Some(pods), match_expressions: None }),
        max_unavailable: Some(IntOrString::Int(1)),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..Default::default()
    };
    PodDisruptionBudget { metadata: meta, spec: Some(spec), status: None }
}
