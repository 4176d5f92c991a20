//! `cargo xtask release`: one version in the packages, the charts and the changelog.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache, paths, process};

const MANIFEST: &str = "Cargo.toml";
const CHANGELOG: &str = "CHANGELOG.md";
const LOCKS: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];
/// The section of the changelog that a release gives its version.
const UNRELEASED: &str = "## Unreleased";

#[derive(clap::Args)]
#[command(
    after_help = "Without --write it prints the changes as a diff. The steps of a release: docs/development/release.md"
)]
pub struct Args {
    /// The new version, as in 0.2.0.
    version: Version,
    /// Change the files; commit them as one change and tag it.
    #[arg(long)]
    write: bool,
}

/// Three numbers, compared one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u32; 3]);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        numbers.map(Self).ok_or_else(|| format!("{text} is not a version: want three numbers, as in 0.2.0"))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

pub fn run(args: &Args) -> Result<()> {
    let current = current(&read(MANIFEST)?)?;
    ensure!(args.version > current, "{} is not newer than the present version {current}", args.version);
    let files = changes(current, args.version)?;
    for (path, text) in &files {
        if args.write {
            fs::write(at(path), text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("wrote {}", path.display());
        } else {
            print!("{}", diff(path, text)?);
        }
    }
    if !args.write {
        println!("\nnothing is written; with --write it is");
    }
    Ok(())
}

/// The new texts of the files that change.
fn changes(current: Version, new: Version) -> Result<BTreeMap<PathBuf, String>> {
    let today = process::output(Command::new("date").args(["-u", "+%F"]))?;
    let mut files = BTreeMap::new();
    files.insert(MANIFEST.into(), manifest(&read(MANIFEST)?, current, new));
    files.insert(CHANGELOG.into(), changelog(&read(CHANGELOG)?, new, &today)?);
    for lock in LOCKS {
        files.insert(lock.into(), lockfile(&read(lock)?, current, new));
    }
    for path in cache::files(&at(Path::new("charts")))? {
        if path.file_name().is_some_and(|name| name == "Chart.yaml") {
            let path = path.strip_prefix(paths::repository())?.to_owned();
            let text = chart(&read(&path)?, current, new);
            files.insert(path, text);
        }
    }
    Ok(files)
}

fn current(manifest: &str) -> Result<Version> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let version = line.context("Cargo.toml has no line `version = \"...\"`")?;
    version.parse().map_err(anyhow::Error::msg)
}

fn manifest(text: &str, current: Version, new: Version) -> String {
    text.replacen(&format!("\nversion = \"{current}\"\n"), &format!("\nversion = \"{new}\"\n"), 1)
}

/// The packages of this repository are those without a source.
fn lockfile(text: &str, current: Version, new: Version) -> String {
    let (old, new) = (format!("\nversion = \"{current}\""), format!("\nversion = \"{new}\""));
    let packages = text.split("\n\n").map(|package| {
        let own = package.contains("[[package]]") && !package.contains("\nsource = ");
        if own { package.replacen(&old, &new, 1) } else { package.to_owned() }
    });
    packages.collect::<Vec<_>>().join("\n\n")
}

/// Its own version and those of the charts that it depends on.
fn chart(text: &str, current: Version, new: Version) -> String {
    let mut changed = String::new();
    for line in text.lines() {
        let version = ["version:", "appVersion:"].iter().any(|key| line.trim_start().starts_with(key));
        let line =
            if version { line.replace(&current.to_string(), &new.to_string()) } else { line.to_owned() };
        writeln!(changed, "{line}").ok();
    }
    changed
}

fn changelog(text: &str, new: Version, today: &str) -> Result<String> {
    let (before, after) =
        text.split_once(UNRELEASED).with_context(|| format!("{CHANGELOG} has no section `{UNRELEASED}`"))?;
    let section = after.split("\n## ").next().unwrap_or_default();
    if !section.lines().any(|line| line.starts_with("- ")) {
        bail!("{CHANGELOG}: the section `{UNRELEASED}` has no entry: there is nothing to release");
    }
    Ok(format!("{before}{UNRELEASED}\n\n## {new} ({today}){after}"))
}

fn diff(path: &Path, text: &str) -> Result<String> {
    let new = std::env::temp_dir().join(format!("xtask-release-{}", std::process::id()));
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    let labels = [format!("a/{}", path.display()), format!("b/{}", path.display())];
    let mut diff = Command::new("diff");
    diff.arg("-u").args(labels.iter().flat_map(|label| ["--label", label])).arg(at(path)).arg(&new);
    // It fails when the files differ.
    let output = diff.output().context("cannot start diff")?;
    fs::remove_file(&new)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(at(path)).with_context(|| format!("cannot read {}", path.display()))
}

fn at(path: &Path) -> PathBuf {
    paths::repository().join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Version = Version([0, 1, 0]);
    const NEW: Version = Version([0, 2, 0]);

    #[test]
    fn versions_are_three_numbers_in_order() {
        assert!("0.10.0".parse::<Version>().unwrap() > "0.9.9".parse().unwrap());
        for wrong in ["1.0", "v1.0.0", "1.0.0-rc.1", "1.0.0.0"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn own_packages_change_and_others_stay() {
        let lock = "version = 4\n\n[[package]]\nname = \"mlop-a\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"b\"\n\
                    version = \"0.1.0\"\nsource = \"registry\"\n\n[[package]]\nname = \"mlop-c\"\nversion = \"0.1.0\"\n\
                    dependencies = [\n \"b\",\n]\n";
        let changed = lockfile(lock, OLD, NEW);
        assert_eq!(changed.matches("0.2.0").count(), 2, "{changed}");
        assert!(changed.contains("name = \"b\"\nversion = \"0.1.0\""), "{changed}");
    }

    #[test]
    fn chart_and_its_dependencies_change_together() {
        let text =
            "name: a\nversion: 0.1.0\nappVersion: 0.1.0\ndependencies:\n  - name: b\n    version: 0.1.0\n";
        assert_eq!(chart(text, OLD, NEW), text.replace("0.1.0", "0.2.0"));
    }

    #[test]
    fn unreleased_entries_get_the_version() {
        let text = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n";
        let changed = changelog(text, NEW, "2026-12-01").unwrap();
        assert!(
            changed.contains("## Unreleased\n\n## 0.2.0 (2026-12-01)\n\n### Added\n\n- A thing."),
            "{changed}"
        );
        assert!(changelog(&changed, NEW, "2026-12-01").is_err(), "nothing new");
    }
}
