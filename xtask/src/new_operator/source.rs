//! Changes of sources that are more than other names.
use anyhow::{Context as _, Result};

use super::names::Names;

/// Appended to the development dependencies of the operator, which end its manifest.
pub const TEST_DEPENDENCIES: &str = "mlop-sim.workspace = true\nmlop-training.workspace = true\n\
                                     tokio = { workspace = true, features = [\"time\", \"test-util\"] }\n";
/// How the training operator hands its content to the launcher.
pub const CONTENT: &str = "content: content.clone(),";
/// How a copy of it does: the launcher's task has the type of training.
pub const CONVERTED: &str = "content: content.into(),";

/// Types of the training module that another module uses instead of having them twice.
const SHARED: [&str; 2] = ["EnvVar", "SecretKey"];

/// A change of one file for a new operator.
type Edit = fn(&str, &Names) -> Result<String>;

/// The lists that name every operator and kind.
pub const EDITS: [(&str, Edit); 9] = [
    ("Cargo.toml", workspace),
    ("crates/mlop-faults/Cargo.toml", fault_dependencies),
    ("crates/mlop-faults/src/cluster/processes.rs", faulty_operators),
    ("docs/README.md", index),
    ("crates/mlop-api/src/lib.rs", library),
    ("crates/mlop-api/src/kinds.rs", kinds),
    ("crates/mlop-api/src/operators.rs", operators),
    ("charts/mlop/Chart.yaml", chart),
    ("charts/mlop/values.schema.json", values_schema),
];

/// The module of the kinds, from that of training.
pub fn kind(training: &str, names: &Names) -> Result<String> {
    let mut text = names.rename(training);
    for name in SHARED {
        text = without_type(&text, name)?;
    }
    let import = "    status::{IntentStatus, RunStatus},\n";
    let shared = format!("{import}    training::{{EnvVar, TrainingContent}},\n");
    let text = replaced(&text, import, &shared)?;
    let kind = &names.kind;
    Ok(format!(
        "{text}\n/// The launcher's task for this content.\n\
         impl From<&{kind}Content> for TrainingContent {{\n    fn from(content: &{kind}Content) -> Self {{\n        \
         let {kind}Content {{ image, command, code, hyperparameters, seed, framework }} = content.clone();\n        \
         Self {{ image, command, code, hyperparameters, seed, framework }}\n    }}\n}}\n"
    ))
}

/// A file of the operator, from that of training with other names.
pub fn operator(text: &str, names: &Names) -> String {
    let snake = &names.snake;
    text.replace(CONTENT, CONVERTED)
        .replace(&format!("{snake}::EnvVar"), "mlop_api::training::EnvVar")
        .replace(&format!("{snake}::{{self, "), &format!("{snake}::{{"))
}

/// `text` without the type `name`, its comments and attributes.
fn without_type(text: &str, name: &str) -> Result<String> {
    let start = text.find(&format!("pub struct {name} {{")).with_context(|| format!("no type {name}"))?;
    let (before, after) = text.split_at(start);
    let begin = before.rfind("\n\n").context("a type stands after an empty line")?;
    let end = after.find("\n}\n").context("a type ends with a brace")?;
    let before = before.get(..begin).unwrap_or_default();
    Ok(format!("{before}\n{}", after.get(end + "\n}\n".len()..).unwrap_or_default()))
}

fn workspace(text: &str, names: &Names) -> Result<String> {
    let line = "mlop-training = { path = \"operators/training\" }\n";
    after(text, line, &names.rename(line))
}

fn library(text: &str, names: &Names) -> Result<String> {
    after(text, "pub mod training;\n", &format!("pub mod {};\n", names.snake))
}

fn kinds(text: &str, names: &Names) -> Result<String> {
    let import = "    training::{TrainingJob, TrainingRun},\n";
    let text = after(text, import, &names.rename(import))?;
    let text = after(&text, "    visitor.visit::<TrainingJob>();\n", &visit(&names.kind))?;
    after(&text, "    visitor.visit::<TrainingRun>();\n", &visit(&format!("{}Run", names.kind)))
}

fn visit(kind: &str) -> String {
    format!("    visitor.visit::<{kind}>();\n")
}

/// The facts of the operator are those of training until its author changes them.
fn operators(text: &str, names: &Names) -> Result<String> {
    let head = "pub const TRAINING: Operator = Operator {\n";
    let start = text.find(head).context("no constant TRAINING")?;
    let body = text.get(start..).unwrap_or_default();
    let end = body.find("\n};\n").context("the constant TRAINING has no end")? + "\n};\n".len();
    let constant = body.get(..end).unwrap_or_default();
    let copy = names.rename(constant).replacen("inputs: &[", "inputs: &[\"TrainingJob\", ", 1);
    let copy = copy.replace(
        &format!("\"TrainingJob\", \"Dataset\", \"FeatureView\", \"{}\"", names.kind),
        "\"Dataset\", \"FeatureView\", \"TrainingJob\"",
    );
    let text = after(text, constant, &format!("\n/// Runs the commands of {}s.\n{copy}", names.kind))?;
    let text = replaced(&text, "&TRAINING, ", &format!("&TRAINING, &{}, ", names.constant))?;
    // The list's length.
    let (before, length) = text.split_once("[&Operator; ").context("no list of operators")?;
    let (number, rest) = length.split_once(']').context("no length of the list")?;
    let number: usize = number.parse().context("the length of the list")?;
    Ok(format!("{before}[&Operator; {}]{rest}", number + 1))
}

fn fault_dependencies(text: &str, names: &Names) -> Result<String> {
    let line = "mlop-training.workspace = true\n";
    after(text, line, &names.rename(line))
}

fn faulty_operators(text: &str, names: &Names) -> Result<String> {
    let line = "    Operator::new(&operators::TRAINING, mlop_training::install),\n";
    after(text, line, &names.rename(line))
}

fn index(text: &str, names: &Names) -> Result<String> {
    let line =
        text.lines().find(|line| line.starts_with("| [TrainingJob]")).context("no row of TrainingJob")?;
    let line = format!("{line}\n");
    after(text, &line, &names.rename(&line))
}

fn chart(text: &str, names: &Names) -> Result<String> {
    let start = text.find("  - name: mlop-training\n").context("no dependency on mlop-training")?;
    let entry: String = text.get(start..).unwrap_or_default().split_inclusive('\n').take(3).collect();
    after(text, &entry, &names.rename(&entry))
}

fn values_schema(text: &str, names: &Names) -> Result<String> {
    let line =
        text.lines().find(|line| line.contains("\"mlop-training\"")).context("no value mlop-training")?;
    let line = format!("{line}\n");
    after(text, &line, &names.rename(&line))
}

/// `text` with `added` after the line or lines `anchor`.
fn after(text: &str, anchor: &str, added: &str) -> Result<String> {
    replaced(text, anchor, &format!("{anchor}{added}"))
}

fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    let place = text.find(from).with_context(|| format!("no `{}`", from.trim()))?;
    let (before, rest) = text.split_at(place);
    Ok(format!("{before}{to}{}", rest.get(from.len()..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_removed_with_its_comment() {
        let text = "use a;\n\n/// Kept.\npub struct A {\n    x: u8,\n}\n\n/// Gone.\n#[derive(B)]\npub struct C {\n    y: u8,\n}\n\nfn d() {}\n";
        let left = without_type(text, "C").unwrap();
        assert!(left.contains("Kept") && left.contains("fn d()"), "{left}");
        assert!(!left.contains("Gone") && !left.contains("struct C"), "{left}");
        assert!(without_type(text, "E").is_err());
    }

    #[test]
    fn operator_follows_training_in_the_list() {
        let text = "pub const TRAINING: Operator = Operator {\n    kinds: &[\"TrainingJob\", \"TrainingRun\"],\n    \
                    inputs: &[\"Dataset\", \"FeatureView\", \"TrainingJob\"],\n};\n\n\
                    pub const ALL: [&Operator; 2] = [&TRAINING, &REGISTRY];\n";
        let edited = operators(text, &Names::new("demo-stage").unwrap()).unwrap();
        assert!(edited.contains("kinds: &[\"DemoStage\", \"DemoStageRun\"]"), "{edited}");
        assert_eq!(
            edited.matches("inputs: &[\"Dataset\", \"FeatureView\", \"TrainingJob\"]").count(),
            2,
            "{edited}"
        );
        assert!(edited.contains("ALL: [&Operator; 3] = [&TRAINING, &DEMO_STAGE, &REGISTRY]"), "{edited}");
    }
}
