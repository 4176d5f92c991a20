//! Running other programs, with errors that say what was run and what it said last.
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Lines of a failed program's output that its error shows.
const LAST_LINES: usize = 30;

/// Runs `command` without showing its output, unless it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What `command` printed to its standard output, without surrounding white space.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| not_started(command))?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs `command` with `input` as its standard input.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| not_started(command))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why by its status.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().with_context(|| not_started(command))?;
    check(command, &output)
}

/// Runs `command` with its output shown as it comes.
pub fn show(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Cargo as a person would start it. `cargo run` tells xtask about xtask in variables that build scripts watch: with them,
/// ring and all that depends on it would be compiled again.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let own =
            ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if own {
            command.env_remove(name);
        }
    }
    command
}

/// Whether `program` can be found on the `PATH`.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn check(command: &Command, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let last =
        lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).fold(String::new(), |mut text, line| {
            write!(text, "\n  {line}").ok();
            text
        });
    bail!("{} failed ({}){last}", line(command), output.status)
}

fn not_started(command: &Command) -> String {
    format!("cannot start {}: is it installed and on the PATH?", line(command))
}

fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let words: Vec<_> = words.into_iter().map(OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}
