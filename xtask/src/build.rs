//! Cargo with one profile, one target and one target directory, and always for the whole workspace: tests, images,
//! end-to-end tests and fault plans then share one compilation of each dependency.
use std::env::{self, consts::ARCH};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{paths, process, target_directory};

/// The profile of everything that is not published.
pub const PROFILE: &str = "e2e";
/// The profile of programs whose speed is measured, or that run for long.
pub const FAST: &str = "fast";

/// `cargo <verb>` of the workspace. Choose targets by `--bin`, `--test` and the like, never by `--package`: another choice
/// of packages gives their dependencies other features and compiles them again.
pub fn cargo(verb: &str) -> Result<Command> {
    let mut command = shared(verb)?;
    command.arg("--workspace").args(["--profile", PROFILE]);
    Ok(command)
}

/// `cargo run` of a program of the workspace, whose arguments may follow.
pub fn run(program: &str, profile: &str) -> Result<Command> {
    let mut command = shared("run")?;
    command.args(["--quiet", "--profile", profile, "--bin", program, "--"]);
    Ok(command)
}

/// `cargo <verb>` with another profile or for some packages, in the same target directory.
pub fn shared(verb: &str) -> Result<Command> {
    let mut command = process::cargo();
    command.arg(verb).current_dir(paths::repository());
    environment(&mut command)?;
    Ok(command)
}

/// A task as a person would start it.
pub fn task(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(args);
    environment(&mut command)?;
    Ok(command)
}

/// Where cargo builds, and for which target.
pub fn environment(command: &mut Command) -> Result<()> {
    // An error says why; the stack of a program that waits for others adds nothing.
    command.env("RUST_BACKTRACE", "0");
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        command.env("CARGO_TARGET_DIR", target_directory::of(&paths::cache()?, paths::repository())?);
    }
    if let Some(target) = target() {
        let variable = target.to_uppercase().replace('-', "_");
        command.env("CARGO_BUILD_TARGET", target);
        command.env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), "-C target-feature=+crt-static");
    }
    if in_ci() {
        // Nobody edits there: the files for the next incremental build are only large.
        command.env("CARGO_INCREMENTAL", "0");
    }
    Ok(())
}

/// The target of programs that need no shared library; none where cargo has to take its own.
fn target() -> Option<String> {
    cfg!(all(target_os = "linux", target_env = "gnu")).then(|| format!("{ARCH}-unknown-linux-gnu"))
}

/// # Errors
/// On a system whose programs cannot run in a container.
pub fn check_images_can_be_built() -> Result<()> {
    target()
        .map(drop)
        .context("images are built on Linux with glibc; build them there, or use a cluster that has them")
}

/// Whether this is a run of CI.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}
