//! `cargo test` and its results.
use std::process::Command;

use anyhow::{Result, bail};

use super::report::Report;
use crate::{build, process};

/// Lines of a failed test's output that are repeated at the end.
const LAST_LINES: usize = 40;

/// Runs `cargo test`, shows its output, and adds up its results.
pub fn run(
    what: &[&str],
    harness: &[&str],
    prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Report> {
    let mut command = cargo_test(what, harness)?;
    prepare(&mut command)?;
    let mut results = Results::default();
    let ended = process::echo(&mut command, |line| results.line(line));
    let report = results.report;
    match ended {
        Err(error) if report.failed == 0 => {
            bail!("cargo test {} ended before its tests did: {error:#}", what.join(" "))
        }
        _ => Ok(report),
    }
}

/// How many tests there are, without running them.
pub fn listed(what: &[&str]) -> Result<usize> {
    let list = process::output(&mut cargo_test(what, &["--list", "--format=terse"])?)?;
    Ok(list.lines().filter(|line| line.ends_with(": test")).count())
}

fn cargo_test(what: &[&str], harness: &[&str]) -> Result<Command> {
    let mut command = build::cargo("test")?;
    // All of them run, also after one has failed.
    command.args(["--quiet", "--no-fail-fast"]).args(what).arg("--").args(harness);
    Ok(command)
}

/// The results of several test programs, read line by line.
#[derive(Default)]
struct Results {
    report: Report,
    /// Lines of the program that runs.
    lines: Vec<String>,
}

impl Results {
    fn line(&mut self, line: &str) {
        self.lines.push(line.to_owned());
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let failed = number_before(result, " failed");
        self.report.passed += number_before(result, " passed");
        self.report.failed += failed;
        let lines = std::mem::take(&mut self.lines);
        if failed > 0 {
            self.report.output.extend(lines.into_iter().rev().take(LAST_LINES).rev());
        }
    }
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_only_failures_are_repeated() {
        let mut results = Results::default();
        for line in [
            "....",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "failures:",
            "    data::a_test",
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            results.line(line);
        }
        assert_eq!((results.report.passed, results.report.failed), (16, 3));
        assert_eq!(results.report.output.first().map(String::as_str), Some("failures:"));
        assert_eq!(number_before("nothing of the kind", " passed"), 0);
    }
}
