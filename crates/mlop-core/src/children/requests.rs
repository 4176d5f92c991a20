//! What a pod requests of a node, as the scheduler counts it.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource,
};
use mlop_api::Quantity;
use std::collections::BTreeMap;

/// Amounts in billionths, by the name of the resource.
type Amounts = BTreeMap<String, i128>;

/// The requests of a pod: those of its containers together, or of an init container that needs more. Init containers that
/// go on running count with both.
pub(crate) fn of(spec: &PodSpec) -> Amounts {
    let (mut together, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let goes_on = container.restart_policy.as_deref() == Some("Always");
        let own = requests(container);
        if goes_on {
            add(&mut together, &own);
        }
        let mut now = together.clone();
        if !goes_on {
            add(&mut now, &own);
        }
        raise(&mut peak, now);
    }
    spec.containers.iter().for_each(|container| add(&mut together, &requests(container)));
    raise(&mut together, peak);
    if let Some(overhead) = &spec.overhead {
        add(&mut together, &amounts(overhead));
    }
    together.retain(|_, amount| *amount > 0);
    together
}

/// What a container requests. A limit without a request is one.
fn requests(container: &Container) -> Amounts {
    let Some(resources) = &container.resources else { return Amounts::new() };
    let mut all = resources.limits.as_ref().map(amounts).unwrap_or_default();
    all.extend(resources.requests.as_ref().map(amounts).unwrap_or_default());
    all
}

fn amounts(all: &BTreeMap<String, resource::Quantity>) -> Amounts {
    let read = |quantity: &resource::Quantity| quantity.0.parse::<Quantity>().map_or(0, |q| q.billionths());
    all.iter().map(|(name, quantity)| (name.clone(), read(quantity))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.entry(name.clone()).or_default();
        *total = total.saturating_add(*amount);
    }
}

fn raise(least: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let known = least.entry(name).or_default();
        *known = (*known).max(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn words(spec: &Value) -> String {
        let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        let words =
            of(&spec).into_iter().map(|(name, amount)| format!("{name} {}", Quantity::of_billionths(amount)));
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn requests_are_those_that_the_scheduler_counts() {
        let container = |requests: Value| json!({"name": "c", "resources": {"requests": requests}});
        let init = |requests: Value, policy: Option<&str>| json!({"name": "i", "restartPolicy": policy, "resources": {"requests": requests}});
        let rows = [
            ("none", json!({"containers": [{"name": "c"}]}), ""),
            (
                "all containers",
                json!({"containers": [container(json!({"cpu": "1", "memory": "1Gi"})), container(json!({"cpu": "500m"}))]}),
                "cpu 1500m, memory 1Gi",
            ),
            (
                "a limit without a request",
                json!({"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]}),
                "nvidia.com/gpu 2",
            ),
            (
                "an init container that needs more",
                json!({"initContainers": [init(json!({"cpu": "3"}), None)], "containers": [container(json!({"cpu": "1"}))]}),
                "cpu 3",
            ),
            (
                "an init container that goes on",
                json!({"initContainers": [init(json!({"cpu": "3"}), Some("Always")), init(json!({"cpu": "2"}), None)], "containers": [container(json!({"cpu": "1"}))]}),
                "cpu 5",
            ),
            (
                "an overhead",
                json!({"overhead": {"cpu": "250m"}, "containers": [container(json!({"cpu": "1"}))]}),
                "cpu 1250m",
            ),
        ];
        for (situation, spec, want) in rows {
            assert_eq!(words(&spec), want, "{situation}");
        }
    }
}
