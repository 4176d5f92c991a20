//! Patches with a head: what is broken, and what must fail because of it.
//!
//! ```text
//! # The uid of the owner is not compared: a child of a deleted object is taken for one's own.
//! # kill: --seeds 0 --scenario newData --fault inputRecreated --fail-fast
//! diff --git a/crates/mlop-core/src/execute.rs b/crates/mlop-core/src/execute.rs
//! ```
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A mistake that can be put into the code.
pub struct Mutant {
    /// The patch's file name without its extension.
    pub name: String,
    pub patch: PathBuf,
    /// What is broken, in words.
    pub what: String,
    pub kill: Kill,
}

/// What must fail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kill {
    /// Arguments of `mlop-faults`.
    Plans(Vec<String>),
    /// Tests of one target of a package whose names contain one of `filters`, or all.
    Tests { package: String, target: Target, filters: Vec<String> },
}

/// Where tests are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Library,
    /// One of the package's `tests`.
    Test(String),
}

/// All mutants of a folder, by name.
pub fn all(folder: &Path) -> Result<Vec<Mutant>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut mutants = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            mutants.push(read(path)?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn read(patch: PathBuf) -> Result<Mutant> {
    let text = fs::read_to_string(&patch).with_context(|| format!("cannot read {}", patch.display()))?;
    let (what, kill) = head(&text).with_context(|| format!("the head of {}", patch.display()))?;
    let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Mutant { name, patch, what, kill })
}

/// The comment lines above the diff.
fn head(text: &str) -> Result<(String, Kill)> {
    let (mut what, mut kills) = (Vec::new(), Vec::new());
    for line in text.lines().map_while(|line| line.strip_prefix('#')) {
        match line.trim().strip_prefix("kill:") {
            Some(words) => kills.push(kill(words)?),
            None => what.push(line.trim()),
        }
    }
    let what = what.join(" ");
    if what.is_empty() {
        bail!("it does not say what is broken: begin with a line `# <what>`");
    }
    match kills.pop() {
        Some(kill) if kills.is_empty() => Ok((what, kill)),
        _ => bail!("want one line `# kill: <arguments of mlop-faults>`"),
    }
}

fn kill(words: &str) -> Result<Kill> {
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let tests = |package: &String, target, filters: &[String]| {
        Ok(Kill::Tests { package: package.clone(), target, filters: filters.to_vec() })
    };
    match words.as_slice() {
        [] => bail!("`kill:` names nothing that must fail"),
        [cargo, test, p, package, option, target, filters @ ..]
            if [cargo, test, p, option] == ["cargo", "test", "-p", "--test"] =>
        {
            tests(package, Target::Test(target.clone()), filters)
        }
        [cargo, test, p, package, option, filters @ ..]
            if [cargo, test, p, option] == ["cargo", "test", "-p", "--lib"] =>
        {
            tests(package, Target::Library, filters)
        }
        [cargo, ..] if cargo == "cargo" => {
            bail!("want `kill: cargo test -p <package> --test <target> [<name>...]`, or `--lib` for a target")
        }
        _ => Ok(Kill::Plans(words)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library => f.write_str("--lib"),
            Self::Test(name) => write!(f, "--test {name}"),
        }
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plans(args) => write!(f, "mlop-faults {}", args.join(" ")),
            Self::Tests { package, target, filters } => {
                write!(f, "cargo test -p {package} {target}")?;
                filters.iter().try_for_each(|filter| write!(f, " {filter}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_is_broken_and_what_must_fail() {
        let text =
            "# The uid is\n# not compared.\n# kill: --seeds 0  --fail-fast\ndiff --git a/x b/x\n# kill: no\n";
        let (what, kill) = head(text).unwrap();
        assert_eq!(what, "The uid is not compared.");
        assert_eq!(kill, Kill::Plans(vec!["--seeds".into(), "0".into(), "--fail-fast".into()]));
        assert_eq!(kill.to_string(), "mlop-faults --seeds 0 --fail-fast");
    }

    #[test]
    fn tests_are_named_as_cargo_names_them() {
        for line in [
            "cargo test -p mlop-core --test model",
            "cargo test -p mlop-faults --test chain a_pin",
            "cargo test -p mlop-core --lib a_list",
        ] {
            let parsed = kill(line).unwrap();
            assert!(matches!(parsed, Kill::Tests { .. }));
            assert_eq!(parsed.to_string(), line);
        }
    }

    #[test]
    fn a_head_that_lacks_something_says_what() {
        let rows = [
            ("# kill: --seeds 0\n", "what is broken"),
            ("# broken\ndiff", "want one line"),
            ("# broken\n# kill: a\n# kill: b\n", "want one line"),
            ("# broken\n# kill:\n", "names nothing"),
            ("# broken\n# kill: cargo test --workspace\n", "want `kill: cargo test -p"),
        ];
        for (text, wanted) in rows {
            let error = head(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
