//! TrainingQueues: their usage, the runs that they have admitted, and those that wait, in their order.

use crate::{
    age,
    output::{Table, clean},
    status::Width,
};
use anyhow::{Result, bail};
use jiff::Timestamp;
use kube::ResourceExt as _;
use mlop_api::{
    Time,
    queue::{QueueUsage, ResourceAmount, TrainingQueue},
};
use serde::Serialize;

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    pub name: String,
    /// Whether its operator has seen it.
    pub is_seen: bool,
    pub usage: Vec<QueueUsage>,
    pub admitted: u32,
    pub pending: u32,
    /// The admitted runs, then the first of those that wait.
    pub runs: Vec<Run>,
}

/// A run of a queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub namespace: String,
    pub name: String,
    /// From 1; none if it is admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<Time>,
    /// What an admitted run asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceAmount>,
}

/// All queues, or the one of this name.
///
/// # Errors
/// There is no such queue.
pub fn of(queues: &[TrainingQueue], name: Option<&str>) -> Result<Vec<Queue>> {
    let name = name.map(|name| name.split_once('/').map_or(name, |(_, name)| name));
    let wanted = |queue: &&TrainingQueue| name.is_none_or(|name| queue.name_any() == name);
    let found: Vec<_> = queues.iter().filter(wanted).map(queue).collect();
    if let Some(name) = name.filter(|_| found.is_empty()) {
        let names: Vec<_> = queues.iter().map(|queue| queue.name_any()).collect();
        let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        bail!("there is no TrainingQueue {name}; TrainingQueues of the cluster: {known}");
    }
    Ok(found)
}

fn queue(queue: &TrainingQueue) -> Queue {
    let status = queue.status.clone().unwrap_or_default();
    let admitted = status.reservations.into_iter().map(|kept| Run {
        namespace: kept.namespace,
        name: kept.run,
        position: None,
        admitted_at: Some(kept.at),
        resources: kept.resources,
    });
    let waiting = (1..).zip(status.waiting).map(|(position, run)| Run {
        namespace: run.namespace,
        name: run.run,
        position: Some(position),
        admitted_at: None,
        resources: Vec::new(),
    });
    Queue {
        name: queue.name_any(),
        is_seen: status.observed_generation.is_some(),
        usage: status.usage,
        admitted: status.admitted,
        pending: status.pending,
        runs: admitted.chain(waiting).collect(),
    }
}

/// The queues for a terminal. The wide form has what admitted runs ask for.
pub fn text(queues: &[Queue], width: Width, now: Timestamp) -> String {
    if queues.is_empty() {
        return "the cluster has no TrainingQueues\n".to_owned();
    }
    let texts: Vec<_> = queues.iter().map(|queue| of_queue(queue, width, now)).collect();
    texts.join("\n")
}

fn of_queue(queue: &Queue, width: Width, now: Timestamp) -> String {
    let name = clean(&queue.name);
    if !queue.is_seen {
        return format!("TrainingQueue/{name}: not seen yet; is the chart mlop-queue installed?\n");
    }
    let mut usage = Table::default();
    usage.text(format!("TrainingQueue/{name}: {} admitted, {} waiting", queue.admitted, queue.pending));
    usage.row(["RESOURCE", "USED", "QUOTA"].map(Into::into).into());
    for resource in &queue.usage {
        let (used, quota) = (resource.used.to_string(), resource.quota.to_string());
        usage.row(vec![resource.name.as_str().into(), used.into(), quota.into()]);
    }
    if queue.runs.is_empty() {
        return usage.render();
    }
    let mut header = vec!["POSITION", "NAMESPACE", "RUN", "ADMITTED"];
    header.extend((width == Width::Wide).then_some("ASKS FOR"));
    let mut runs = Table::with_header(&header);
    for run in &queue.runs {
        let position = run.position.map_or_else(|| "-".to_owned(), |position| position.to_string());
        let admitted = run.admitted_at.map(|at| format!("{} ago", age::since(now, at.get())));
        let asks = run.resources.iter().map(|amount| format!("{} {}", amount.quantity, amount.name));
        let mut row = vec![
            position.into(),
            run.namespace.as_str().into(),
            run.name.as_str().into(),
            admitted.unwrap_or_else(|| "no".to_owned()).into(),
        ];
        if width == Width::Wide {
            row.push(asks.collect::<Vec<_>>().join(", ").into());
        }
        runs.row(row);
    }
    let left = queue.pending.saturating_sub(u32::try_from(waiting(queue)).unwrap_or(u32::MAX));
    if left > 0 {
        runs.text(format!("{left} more wait behind them"));
    }
    format!("{}\n{}", usage.render(), runs.render())
}

fn waiting(queue: &Queue) -> usize {
    queue.runs.iter().filter(|run| run.position.is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-11-21T10:05:00Z";

    fn queues() -> Vec<TrainingQueue> {
        let resources =
            json!([{"name": "nvidia.com/gpu", "quantity": "2"}, {"name": "cpu", "quantity": "500m"}]);
        let queue = |name: &str, status: serde_json::Value| {
            json!({
                "apiVersion": "mlop.dev/v1alpha1", "kind": "TrainingQueue", "metadata": {"name": name},
                "spec": {"resources": [{"name": "nvidia.com/gpu", "quota": "2"}]}, "status": status,
            })
        };
        let time = "2026-11-21T10:00:00.000000Z";
        let full = json!({
            "observedGeneration": 1, "admitted": 1, "pending": 3,
            "usage": [{"name": "nvidia.com/gpu", "used": "2", "quota": "2"}],
            "reservations": [{
                "namespace": "team-a", "run": "delay-0123", "uid": "u", "version": "7", "since": time, "at": time,
                "resources": resources,
            }],
            "waiting": [{"namespace": "team-b", "run": "churn-4567"}, {"namespace": "team-a", "run": "delay-89ab"}],
        });
        let all = json!([queue("gpu", full), queue("new", json!({}))]);
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn queue_shows_usage_and_runs_in_their_order() {
        let found = of(&queues(), None).unwrap();
        let want = "\
TrainingQueue/gpu: 1 admitted, 3 waiting
RESOURCE         USED   QUOTA
nvidia.com/gpu   2      2

POSITION   NAMESPACE   RUN          ADMITTED   ASKS FOR
-          team-a      delay-0123   5m ago     2 nvidia.com/gpu, 500m cpu
1          team-b      churn-4567   no
2          team-a      delay-89ab   no
1 more wait behind them

TrainingQueue/new: not seen yet; is the chart mlop-queue installed?
";
        assert_eq!(text(&found, Width::Wide, NOW.parse().unwrap()), want);
        assert_eq!(text(&[], Width::Normal, NOW.parse().unwrap()), "the cluster has no TrainingQueues\n");
    }

    #[test]
    fn queue_is_found_by_its_name() {
        let names = |name: Option<&str>| match of(&queues(), name) {
            Ok(found) => found.into_iter().map(|queue| queue.name).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(names(None), "gpu new");
        assert_eq!(names(Some("gpu")), "gpu");
        assert_eq!(names(Some("tqueue/gpu")), "gpu");
        assert_eq!(
            names(Some("cpu")),
            "there is no TrainingQueue cpu; TrainingQueues of the cluster: gpu, new"
        );
    }
}
