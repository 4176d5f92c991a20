//! Other programs: errors have the command line and the last lines of the output.
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Lines of a failed program's output that its error shows.
const LAST_LINES: usize = 30;

/// Runs `command` without showing its output, unless it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The standard output of `command`, without surrounding white space.
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

/// Runs `command`, shows its output line by line, and gives each line to `see`. The error has the last lines.
pub fn echo(command: &mut Command, see: impl FnMut(&str)) -> Result<()> {
    stream(command, "", |_| (), see)
}

/// Like [`echo`]; `prefix` marks each line that is shown, and `started` gets the process.
pub fn stream(
    command: &mut Command,
    prefix: &str,
    started: impl FnOnce(u32),
    mut see: impl FnMut(&str),
) -> Result<()> {
    let (output, input) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let child = command.spawn();
    // The pipe ends when all its writers are gone: the command holds two of them.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.with_context(|| not_started(command))?;
    started(child.id());
    let mut last = VecDeque::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        eprintln!("{prefix}{line}");
        see(&line);
        last.push_back(line);
        if last.len() > LAST_LINES {
            last.pop_front();
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let last = last.iter().fold(String::new(), |text, line| text + "\n  " + line);
        bail!("{} failed ({status}){last}", line(command));
    }
    Ok(())
}

/// Cargo without the variables that `cargo run` sets for xtask. Build scripts watch them: ring and its dependents would
/// be compiled again.
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
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_has_the_last_lines_of_a_failed_program() {
        let mut lines = 0;
        let script = "for i in $(seq 40); do echo line $i; done; echo why >&2; exit 3";
        let error = echo(Command::new("sh").args(["-c", script]), |_| lines += 1).unwrap_err().to_string();
        assert_eq!(lines, 41);
        assert!(error.ends_with("\n  line 40\n  why") && !error.contains("line 10\n"), "{error}");
    }

    #[test]
    fn error_names_a_missing_program() {
        let error = echo(&mut Command::new("no-such-program"), |_| ()).unwrap_err();
        assert!(error.to_string().contains("no-such-program"));
    }
}
