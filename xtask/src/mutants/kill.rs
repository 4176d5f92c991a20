//! Builds the copy and runs the check that must fail.
use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::copy::Copy;
use super::mutant::{Kill, Target};
use crate::process;

/// A check that takes longer hangs: virtual time does not advance, or does not end.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The outcome of a check.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// The oracle, the test or the time limit that noticed the mistake.
    Killed(String),
    /// The check did not run, such as for a mistake that does not compile any more: it shows nothing.
    Unknown(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("survives"),
            Self::Killed(by) => write!(f, "killed by {by}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Builds the copy as it is now, and runs `kill` on it.
///
/// # Errors
/// When the copy does not compile, or the check runs no test: that proves nothing.
pub fn run(copy: &Copy, kill: &Kill) -> Result<Verdict> {
    let mut command = Command::new(build(copy, kill)?);
    // Backtraces of planned panics would only take time.
    command.current_dir(copy.tree()).env("RUST_BACKTRACE", "0");
    match kill {
        Kill::Plans(args) => {
            // Regressions are not part of the check.
            command.arg("--regressions").arg(copy.target().join("no-regressions"));
            command.arg("--failures").arg(copy.target().join("failures")).args(args);
        }
        Kill::Tests { filters, .. } => {
            command.args(filters);
        }
    }
    let Some((status, said)) = within(TIME_LIMIT, &mut command)? else {
        return Ok(Verdict::Killed(format!("hang: it did not end within {} s", TIME_LIMIT.as_secs())));
    };
    if said.contains("\nrunning 0 tests\n") {
        bail!("`{kill}` runs no test");
    }
    Ok(match (status.success(), kill) {
        (true, _) => Verdict::Holds,
        (false, Kill::Plans(_)) => Verdict::Killed(oracle(&said)),
        (false, Kill::Tests { .. }) => Verdict::Killed(test(&said)),
    })
}

/// Builds the program that `kill` runs.
fn build(copy: &Copy, kill: &Kill) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    let program = match kill {
        Kill::Plans(_) => {
            cargo.args(["build", "--package", "mlop-faults", "--bin", "mlop-faults"]);
            "mlop-faults".to_owned()
        }
        Kill::Tests { package, target, .. } => {
            cargo.args(["test", "--no-run", "--package", package]);
            match target {
                Target::Library => {
                    cargo.arg("--lib");
                    package.replace('-', "_")
                }
                Target::Test(name) => {
                    cargo.args(["--test", name]);
                    name.clone()
                }
            }
        }
    };
    cargo.args([
        "--quiet",
        "--locked",
        "--profile",
        "mutants",
        "--message-format",
        "json-render-diagnostics",
    ]);
    cargo.current_dir(copy.tree()).env("CARGO_TARGET_DIR", copy.target());
    let messages = process::output(&mut cargo)?;
    executable(&messages, &program).with_context(|| format!("cargo did not report the path of {program}"))
}

fn executable(messages: &str, program: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")?.as_str()? == program;
        message.get("executable")?.as_str().filter(|_| is_it).map(PathBuf::from)
    })
}

/// The status and output of `command`, or none if it was killed after `limit`.
fn within(limit: Duration, command: &mut Command) -> Result<Option<(ExitStatus, String)>> {
    let (mut output, input) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let child = command.spawn();
    // The pipe ends when all its writers are gone: the command holds two of them.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (sender, output_text) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.read_to_end(&mut bytes);
        // The receiver is gone after the limit.
        sender.send(read.map(|_| String::from_utf8_lossy(&bytes).into_owned())).ok();
    });
    let output_text = output_text.recv_timeout(limit);
    if output_text.is_err() {
        child.kill().context("cannot kill a check that hangs")?;
    }
    let status = child.wait()?;
    reader.join().ok();
    match output_text {
        Ok(text) => Ok(Some((status, text?))),
        Err(_) => Ok(None),
    }
}

/// The oracle that a failing plan names first.
fn oracle(said: &str) -> String {
    let failure = said.lines().find_map(|line| {
        let without = line.strip_prefix("without faults: ").map(|why| (why, " without faults"));
        let plan = || Some((line.strip_prefix("cargo xtask faults --plan ")?.split_once("# ")?.1, ""));
        without.or_else(plan)
    });
    match failure {
        Some((why, when)) => format!("{}{when}", before_colon(why)),
        // The harness itself panicked, or it ran a single plan.
        None if said.contains("panicked at") => "panic".to_owned(),
        None => before_colon(said.lines().last().unwrap_or_default()).to_owned(),
    }
}

/// The first test that failed.
fn test(said: &str) -> String {
    let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    said.lines().find_map(failed).unwrap_or_else(|| "a test program that ended early".to_owned())
}

fn before_colon(text: &str) -> &str {
    text.split_once(':').map_or(text, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oracle_is_read_from_the_first_failure() {
        let rows = [
            (
                "1 plan\ncargo xtask faults --plan a/0.yaml    # end state: x: y; quiet: z\nthe rest",
                "end state",
            ),
            ("without faults: quiet: patch of jobs", "quiet without faults"),
            ("thread 'main' panicked at x.rs:1:2:\nwhy", "panic"),
            ("trace 01\nexactly once: twice", "exactly once"),
        ];
        for (said, name) in rows {
            assert_eq!(oracle(said), name);
        }
    }

    #[test]
    fn failed_test_is_read_from_the_output() {
        assert_eq!(test("test a ... ok\ntest b::c ... FAILED\n"), "b::c");
        assert_eq!(test("Aborted"), "a test program that ended early");
    }

    #[test]
    fn command_is_killed_when_it_hangs() {
        let ended = within(Duration::from_millis(50), Command::new("sleep").arg("60")).unwrap();
        assert!(ended.is_none());
        let script = "echo out; echo err >&2; exit 3";
        let (status, said) =
            within(Duration::from_secs(60), Command::new("sh").args(["-c", script])).unwrap().unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "out\nerr\n"));
    }

    #[test]
    fn executable_is_read_from_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"x\"},\"executable\":null}\n\
            {\"target\":{\"name\":\"x\"},\"executable\":\"/t/x\"}\n{\"success\":true}";
        assert_eq!(executable(messages, "x"), Some(PathBuf::from("/t/x")));
        assert_eq!(executable(messages, "y"), None);
    }
}
