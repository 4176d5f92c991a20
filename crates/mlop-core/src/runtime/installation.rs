//! The check of an installation: the operator's Deployment is ready, one of its processes leads, and its kinds are served.
//!
//! The chart's test runs it. It needs two objects of the operator's namespace, and discovery, which everyone may read.

use anyhow::{Context as _, bail};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::{Api, Client};
use mlop_api::{GROUP, VERSION, operators::Operator};
use std::time::Duration;
use tokio::time::Instant;

/// Time that an operator may need to start: its image is pulled, and an earlier process's lease expires.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_secs(1);
const NOT_FOUND: u16 = 404;

/// What the check reads.
#[derive(Default)]
struct Observed {
    deployment: Option<Deployment>,
    lease: Option<Lease>,
    /// The kinds that the API server serves.
    kinds: Vec<String>,
}

/// Waits until `operator`, whose Deployment and lease are in `namespace`, works.
///
/// # Errors
/// Everything that is missing in the end, or why the API server cannot be asked.
pub(crate) async fn check(client: &Client, operator: &Operator, namespace: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let problems = problems(&observe(client, operator, namespace).await?, operator);
        if problems.is_empty() {
            tracing::info!(kinds = ?operator.kinds, "the operator is ready and leads, and its kinds are served");
            return Ok(());
        }
        if begin.elapsed() >= PATIENCE {
            bail!("{}", problems.join("; "));
        }
        tracing::info!(?problems, "waiting");
        tokio::time::sleep(POLL).await;
    }
}

async fn observe(client: &Client, operator: &Operator, namespace: &str) -> anyhow::Result<Observed> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let kinds = match client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.kind).collect(),
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Vec::new(),
        Err(error) => return Err(error).context("cannot list the kinds that the API server serves"),
    };
    Ok(Observed {
        deployment: deployments.get_opt(operator.name).await.context("cannot read the Deployment")?,
        lease: leases.get_opt(operator.name).await.context("cannot read the lease")?,
        kinds,
    })
}

fn problems(observed: &Observed, operator: &Operator) -> Vec<String> {
    let name = operator.name;
    let mut problems = Vec::new();
    match &observed.deployment {
        None => problems.push(format!("Deployment {name} does not exist: install its chart")),
        Some(deployment) => problems.extend(not_rolled_out(deployment, name)),
    }
    let holder = observed.lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
    if holder.unwrap_or_default().is_empty() {
        problems.push(format!("no process holds the lease {name}: see the logs of the Deployment"));
    }
    let missing: Vec<&str> =
        operator.kinds.iter().copied().filter(|kind| !observed.kinds.iter().any(|k| k == kind)).collect();
    if !missing.is_empty() {
        problems.push(format!("the API server does not serve {}: install mlop-crds", missing.join(", ")));
    }
    problems
}

/// Why not all pods of a Deployment are ready with its present template; none if they are.
fn not_rolled_out(deployment: &Deployment, name: &str) -> Option<String> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < deployment.metadata.generation.unwrap_or_default() {
        return Some(format!("the newest change of Deployment {name} has not been observed yet"));
    }
    let (updated, ready) =
        (status.updated_replicas.unwrap_or_default(), status.ready_replicas.unwrap_or_default());
    if wanted == 0 {
        return Some(format!("Deployment {name} is scaled to 0 replicas"));
    }
    (updated < wanted || ready < wanted).then(|| {
        format!("Deployment {name}: {updated} of {wanted} pods are up to date, {ready} of {wanted} are ready")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::operators::TRAINING;
    use serde_json::{Value, json};

    fn observed(deployment: &Value, holder: &Value, kinds: &[&str]) -> Observed {
        Observed {
            deployment: serde_json::from_value(deployment.clone()).unwrap(),
            lease: serde_json::from_value(json!({"metadata": {}, "spec": {"holderIdentity": holder}}))
                .unwrap(),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        }
    }

    #[test]
    fn installation_works_when_the_operator_is_ready_leads_and_its_kinds_are_served() {
        let deployment = |replicas, observed, updated, ready| {
            json!({
                "metadata": {"generation": 2}, "spec": {"replicas": replicas, "selector": {}, "template": {}},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "readyReplicas": ready},
            })
        };
        let both = ["TrainingJob", "TrainingRun", "TrainingJob"];
        let rows: [(&str, Observed, &[&str]); 9] = [
            ("all is well", observed(&deployment(1, 2, 1, 1), &json!("pod-1"), &both), &[]),
            ("two replicas", observed(&deployment(2, 2, 2, 2), &json!("pod-1"), &both), &[]),
            (
                "the old template is ready",
                observed(&deployment(1, 1, 1, 1), &json!("pod-1"), &both),
                &["the newest change of Deployment mlop-training has not been observed yet"],
            ),
            (
                "an old pod is ready",
                observed(&deployment(1, 2, 0, 1), &json!("pod-1"), &both),
                &["Deployment mlop-training: 0 of 1 pods are up to date, 1 of 1 are ready"],
            ),
            (
                "one of two is ready",
                observed(&deployment(2, 2, 2, 1), &json!("pod-1"), &both),
                &["Deployment mlop-training: 2 of 2 pods are up to date, 1 of 2 are ready"],
            ),
            (
                "scaled to nothing",
                observed(&deployment(0, 2, 0, 0), &json!("pod-1"), &both),
                &["Deployment mlop-training is scaled to 0 replicas"],
            ),
            (
                "nobody leads",
                observed(&deployment(1, 2, 1, 1), &json!(""), &both),
                &["no process holds the lease mlop-training: see the logs of the Deployment"],
            ),
            (
                "a kind is missing",
                observed(&deployment(1, 2, 1, 1), &json!("pod-1"), &["TrainingJob"]),
                &["the API server does not serve TrainingRun: install mlop-crds"],
            ),
            (
                "nothing is there",
                Observed::default(),
                &[
                    "Deployment mlop-training does not exist: install its chart",
                    "no process holds the lease mlop-training: see the logs of the Deployment",
                    "the API server does not serve TrainingJob, TrainingRun: install mlop-crds",
                ],
            ),
        ];
        for (situation, observed, wanted) in rows {
            assert_eq!(problems(&observed, &TRAINING), wanted, "{situation}");
        }
    }
}
