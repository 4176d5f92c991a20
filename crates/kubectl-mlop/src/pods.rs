//! The pod and container whose output `kubectl mlop logs` shows.

use crate::snapshot::{Object, Snapshot};
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use mlop_api::{kinds::Class, labels, text::printable};
use std::cmp::Reverse;

/// Label selector of the pods that work for `object`.
pub fn selector(object: &Object) -> String {
    let (name, kind) = match object.class {
        Class::Run => (labels::RUN, labels::RUN_KIND),
        _ => (labels::INTENT, labels::INTENT_KIND),
    };
    format!("{name}={},{kind}={}", object.id.name, object.id.kind)
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub pod: String,
    pub container: String,
    /// The others of the pod.
    pub others: Vec<String>,
}

/// Chooses from the pods of `object`: the newest attempt of its newest run, a server, or the newest small pod.
/// `container` is `user`, `worker` or the name of a container.
///
/// # Errors
/// No pod is left, or it has no such container.
pub fn choose(snapshot: &Snapshot, object: &Object, pods: &[Pod], container: Option<&str>) -> Result<Choice> {
    let runs = snapshot.runs_of(&object.id);
    let newest_run = runs.first().map(|run| run.id.name.as_str());
    let Some(pod) = pods.iter().max_by_key(|pod| rank(pod, newest_run)) else {
        return Err(gone(runs.first().copied().unwrap_or(object), object));
    };
    let spec = pod.spec.as_ref();
    let names = |containers: &[Container]| containers.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    let main = spec.map(|spec| names(&spec.containers)).unwrap_or_default();
    let before = spec.and_then(|spec| spec.init_containers.as_deref()).map(names).unwrap_or_default();
    let all = [before, main.clone()].concat();
    let users = [labels::USER_CONTAINER, labels::SERVER_CONTAINER];
    let of_user = all.iter().find(|name| users.contains(&name.as_str()));
    let wanted = match container {
        None => of_user.or(main.first()),
        Some("user") => of_user,
        Some(name) => all.iter().find(|found| *found == name),
    };
    let pod = pod.name_any();
    match wanted {
        Some(wanted) => {
            let others = all.iter().filter(|name| *name != wanted).cloned().collect();
            Ok(Choice { pod, container: wanted.clone(), others })
        }
        None => {
            bail!("pod {pod} has no container {:?}; it has {}", container.unwrap_or_default(), all.join(", "))
        }
    }
}

/// Later pods are preferred; those of the newest run, and servers, to small ones.
fn rank(pod: &Pod, newest_run: Option<&str>) -> impl Ord {
    let label = |name: &str| pod.labels().get(name).map(String::as_str);
    let is_run = label(labels::RUN).is_some_and(|run| newest_run.is_none_or(|newest| newest == run));
    let is_server = label(labels::ROLE) == Some(labels::SERVING);
    let attempt: u32 = label(labels::ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
    (is_run || is_server, attempt, created, Reverse(pod.name_any()))
}

fn gone(run: &Object, object: &Object) -> anyhow::Error {
    let last = run.status.failure.as_ref().map(|failure| {
        format!(
            "\nattempt {} of {} ended with {}: {}",
            failure.attempt,
            run.id.name,
            failure.reason,
            printable(&failure.message)
        )
    });
    anyhow::anyhow!(
        "no pod of {} is left: those of runs are deleted after spec.ttlAfterFinished, those of checks at once{}",
        object.id,
        last.unwrap_or_default()
    )
}
