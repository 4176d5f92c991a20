//! The facts about each operator in the values of its chart, and the schema of the values, which is the same for all.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mlop_api::kinds;
use mlop_api::operators::{self, Operator};

use super::files::Files;
use crate::paths;

/// Schema of an operator chart's values.
const SCHEMA: &str = include_str!("values.schema.json");

pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for operator in operators::ALL {
        let path = PathBuf::from(format!("charts/{}/values.yaml", operator.name));
        let values = fs::read_to_string(paths::repository().join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(path, with_facts(&values, operator));
        files.insert(format!("charts/{}/values.schema.json", operator.name).into(), SCHEMA.to_owned());
    }
    Ok(files)
}

/// The values with the operator's images and input kinds. All other values and comments stay.
fn with_facts(values: &str, operator: &Operator) -> String {
    let mut text = String::new();
    let mut section = "";
    for line in values.lines() {
        if !line.starts_with([' ', '#']) {
            section = line.split(':').next().unwrap_or_default();
        }
        match (section, line) {
            ("inputKinds", line) if line.starts_with("inputKinds:") => text += &input_kinds(operator),
            ("inputKinds", line) if line.starts_with("  - ") => {}
            ("image", line) if is_repository(line) => text += &repository(operator.name),
            ("worker", line) if is_repository(line) => text += &repository(operator.worker),
            (_, line) => text += &format!("{line}\n"),
        }
    }
    text
}

fn is_repository(line: &str) -> bool {
    line.starts_with("  repository:")
}

fn repository(name: &str) -> String {
    format!("  repository: {name}\n")
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
    use mlop_api::operators::{INGESTION, REGISTRY};

    #[test]
    fn values_keep_all_but_the_facts() {
        let values = |image, worker, inputs| {
            format!(
                "image:\n  # A comment.\n  registry: r\n  repository: {image}\n\
                worker:\n  repository: {worker}\n# Inputs.\ninputKinds:{inputs}\n\nreplicas: 1\n"
            )
        };
        let other = "\n  - {kind: Other, group: example.com, version: v1, plural: others}";
        let jobs = "\n  - {kind: TrainingJob, group: mlop.dev, version: v1alpha1, plural: trainingjobs}";
        let ingestion = values("mlop-ingestion", "mlop-dataset", " []");
        let registry = values("mlop-registry", "mlop-registrar", jobs);
        for before in [&values("x", "y", other), &ingestion, &registry] {
            assert_eq!(with_facts(before, &INGESTION), ingestion);
            assert_eq!(with_facts(before, &REGISTRY), registry);
        }
    }
}
