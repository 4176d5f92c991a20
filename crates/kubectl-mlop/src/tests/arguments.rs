//! Commands as users type them: those of the help, of the guide and of explanations are understood.

use super::flights;
use crate::{cli::Arguments, snapshot::ObjectId, why::Explanation};
use clap::{CommandFactory as _, Parser as _};
use mlop_api::Reason;
use serde_json::json;
use std::fs;

/// The arguments of a line such as `  kubectl mlop status -A     everything`; none for other lines.
fn arguments(line: &str) -> Option<Vec<String>> {
    let command = line.trim().split("kubectl mlop ").nth(1)?;
    let end = ["   ", " | ", " > ", " #", "`", ")"].iter().filter_map(|mark| command.find(mark)).min();
    let command = command.get(..end.unwrap_or(command.len()))?;
    Some(["kubectl-mlop"].into_iter().chain(command.split_whitespace()).map(str::to_owned).collect())
}

fn check(line: &str) -> usize {
    let Some(arguments) = arguments(line) else { return 0 };
    if let Err(error) = Arguments::try_parse_from(&arguments) {
        assert!(!error.use_stderr(), "{line}\n{error}");
    }
    1
}

#[test]
fn examples_of_the_help_and_the_guide_are_valid() {
    let mut command = Arguments::command();
    command.clone().debug_assert();
    let mut texts: Vec<String> =
        command.get_subcommands().filter_map(|it| it.get_after_help()).map(ToString::to_string).collect();
    texts.push(command.get_after_help().unwrap().to_string());
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/kubectl-mlop.md");
    let guide = fs::read_to_string(guide).unwrap();
    texts.extend(guide.lines().filter(|line| line.starts_with("    ")).map(str::to_owned));
    let checked: usize = texts.iter().flat_map(|text| text.lines()).map(check).sum();
    assert!(checked > 50, "{checked}");
    command.build();
}

#[test]
fn commands_of_explanations_are_valid_for_each_reason() {
    let id = ObjectId::new("Dataset", "flights");
    for (reason, _) in Reason::ALL {
        let case = flights().fails("Dataset/flights", reason.as_str(), "message");
        let case = case.with("Dataset/flights", json!({"status": {"cause": {"reason": reason.as_str()}}}));
        let snapshot = case.snapshot();
        let explanation = Explanation::of(&snapshot, snapshot.get(&id).unwrap());
        assert!(!explanation.next.is_empty(), "{reason}");
        for command in explanation.next.iter().filter_map(|step| step.command.as_ref()) {
            check(command);
        }
    }
}
