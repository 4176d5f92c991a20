//! The values of the operators' charts and their schema. They are the same for all but for the facts about each operator.

use mlop_api::kinds;
use mlop_api::operators::{self, Operator};

use super::files::Files;

/// Values of an operator's chart.
const VALUES: &str = include_str!("values.yaml");
/// Schema of an operator chart's values.
const SCHEMA: &str = include_str!("values.schema.json");

pub fn files() -> Files {
    let charts = operators::ALL.into_iter().flat_map(|operator| {
        let file = |name| format!("charts/{}/{name}", operator.name).into();
        [(file("values.yaml"), with_facts(VALUES, operator)), (file("values.schema.json"), schema(operator))]
    });
    charts.collect()
}

/// The schema, in which an operator that creates no pods needs no worker.
fn schema(operator: &Operator) -> String {
    let is_needed = operator.worker.is_some();
    if is_needed { SCHEMA.to_owned() } else { SCHEMA.replace("\"image\", \"worker\", ", "\"image\", ") }
}

/// The values with the operator's images and input kinds.
fn with_facts(values: &str, operator: &Operator) -> String {
    let values = values.replace("@IMAGE@", operator.name);
    let values = match operator.worker {
        Some(worker) => values.replace("@WORKER@", worker),
        None => without_worker(&values),
    };
    values.replace("inputKinds: []\n", &input_kinds(operator))
}

/// The values of an operator that creates no pods.
fn without_worker(values: &str) -> String {
    let is_of_worker = |line: &str| {
        line.contains("@WORKER@")
            || line == "worker:"
            || line.starts_with("# Image that this operator's pods")
    };
    let mut lines = values.lines().peekable();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if !is_of_worker(line) {
            kept.push_str(line);
            kept.push('\n');
        } else if line.contains("@WORKER@") {
            // Its digest.
            lines.next_if(|line| line.trim_start().starts_with("digest:"));
        }
    }
    kept
}

fn input_kinds(operator: &Operator) -> String {
    if operator.inputs.is_empty() {
        return "inputKinds: []\n".to_owned();
    }
    let (group, version) = (mlop_api::GROUP, mlop_api::VERSION);
    let row = |kind: &&str| {
        let plural = kinds::plural(kind);
        format!("  - {{kind: {kind}, group: {group}, version: {version}, plural: {plural}}}\n")
    };
    format!("inputKinds:\n{}", operator.inputs.iter().map(row).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::operators::{INGESTION, QUEUE, REGISTRY};

    #[test]
    fn values_have_the_facts_of_the_operator() {
        let template =
            "image:\n  repository: @IMAGE@\nworker:\n  repository: @WORKER@\ninputKinds: []\nreplicas: 1\n";
        let values = |image, worker, inputs| {
            format!(
                "image:\n  repository: {image}\nworker:\n  repository: {worker}\ninputKinds:{inputs}\nreplicas: 1\n"
            )
        };
        let jobs = "\n  - {kind: TrainingJob, group: mlop.dev, version: v1alpha1, plural: trainingjobs}";
        assert_eq!(with_facts(template, &INGESTION), values("mlop-ingestion", "mlop-dataset", " []"));
        let without = "image:\n  repository: mlop-queue\ninputKinds: []\nreplicas: 1\n";
        assert_eq!(with_facts(template, &QUEUE), without);
        assert!(schema(&REGISTRY).contains("\"worker\", ") && !schema(&QUEUE).contains("\"worker\", "));
        assert_eq!(with_facts(template, &REGISTRY), values("mlop-registry", "mlop-registrar", jobs));
    }
}
