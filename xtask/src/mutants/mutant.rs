//! Mutants as data: a mistake, where it is put in, and the check that must fail because of it.
//!
//! ```yaml
//! - name: status-without-uid
//!   mistake: A status is written without its object's uid.
//!   killed_by: cargo test -p mlop-core --lib execute::
//!   package: crates/mlop-core
//!   item: fn report
//!   replace: '"uid": subject.meta.uid'
//!   with: '"uid": None::<String>'
//! ```
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{source, switch};

/// A mistake that can be put into the code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Unique among all mutants.
    pub name: String,
    /// The mistake in words, and what users would see of it.
    pub mistake: String,
    pub killed_by: Kill,
    /// The directory of the package whose `src` is searched, from the root of the repository.
    pub package: String,
    /// A function by its bare name, as in `fn plan`. Its file may change.
    item: String,
    /// Text that occurs once in items of that name. White space does not count.
    replace: String,
    pub with: String,
}

/// The check that must fail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Kill {
    /// Tests of one target of a package whose names contain one of `filters`, or all.
    Tests { package: String, target: Target, filters: Vec<String> },
    /// Arguments of `mlop-faults`.
    Plans(Vec<String>),
}

/// Where tests are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Library,
    /// One of the package's `tests`.
    Test(String),
}

/// Where a mistake belongs.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, from the root of the repository.
    pub path: String,
    /// The body of the function, with its braces.
    pub body: Range<usize>,
    /// The text that the mistake replaces.
    pub text: Range<usize>,
}

/// All mutants of a directory: those that a near test kills first, then by name.
pub fn all(directory: &Path) -> Result<Vec<Mutant>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut mutants = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        mutants.extend(parse(&text).with_context(|| format!("invalid mutants in {}", path.display()))?);
    }
    mutants.sort_by(|a, b| (&a.killed_by, &a.name).cmp(&(&b.killed_by, &b.name)));
    let mut names = BTreeSet::new();
    if let Some(twice) = mutants.iter().find(|mutant| !names.insert(&mutant.name)) {
        bail!("two mutants have the name {}", twice.name);
    }
    Ok(mutants)
}

/// Checks that each mutant fits the sources below `root` and that its tests exist.
///
/// # Errors
/// With all mutants that do not: a renamed function breaks several.
pub fn check(mutants: &[Mutant], root: &Path) -> Result<()> {
    let problems = mutants
        .iter()
        .flat_map(|mutant| mutant.check_tests(root).err())
        .chain(switch::sources(mutants, root).err());
    let problems: Vec<String> = problems.map(|error| format!("{error:#}")).collect();
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

pub fn parse(text: &str) -> Result<Vec<Mutant>> {
    Ok(serde_saphyr::from_str(text)?)
}

impl Mutant {
    /// Where the mistake belongs in `sources`, the files of its package.
    ///
    /// # Errors
    /// When the text does not occur exactly once in functions of the name, or not in a body that has alternatives.
    pub fn place(&self, sources: &[(String, String)]) -> Result<Place> {
        let mut places = Vec::new();
        for (path, text) in sources {
            for item in source::items(text, &self.item) {
                for found in source::occurrences(text, item.clone(), &self.replace) {
                    places.push((path, text, item.clone(), found));
                }
            }
        }
        match places.pop() {
            Some((path, text, item, found)) if places.is_empty() => {
                let context = || format!("mutant {}: `{}`", self.name, self.item);
                let body = source::body(text, item).with_context(context)?;
                ensure!(body.start < found.start, "mutant {}: its text is not in the body", self.name);
                Ok(Place { path: path.clone(), body, text: found })
            }
            Some(_) => bail!(
                "mutant {}: `{}` of {} holds its text {} times: lengthen `replace`",
                self.name,
                self.item,
                self.package,
                places.len() + 1
            ),
            None => bail!("mutant {}: {}", self.name, self.loss(sources)),
        }
    }

    /// Why no item holds the text, and where it may be now.
    fn loss(&self, sources: &[(String, String)]) -> String {
        if sources.iter().any(|(_, text)| !source::items(text, &self.item).is_empty()) {
            return format!("`{}` of {} does not hold its text", self.item, self.package);
        }
        let elsewhere = sources.iter().find_map(|(path, text)| {
            let found = source::occurrences(text, 0..text.len(), &self.replace).into_iter().next()?;
            Some(format!(": `{}` in {path} holds its text", source::item_at(text, found.start)?))
        });
        format!("{} has no `{}`{}", self.package, self.item, elsewhere.unwrap_or_default())
    }

    /// Whether the tests that must fail exist, as far as the text tells.
    ///
    /// # Errors
    /// When no source of the package holds the last part of a filter.
    fn check_tests(&self, root: &Path) -> Result<()> {
        let Kill::Tests { package, filters, .. } = &self.killed_by else { return Ok(()) };
        ensure!(!filters.is_empty(), "mutant {}: name the tests that fail", self.name);
        let directory = source::directory(root, package)?;
        let sources = source::files(root, &directory)?;
        for filter in filters {
            let part = filter.trim_end_matches("::").rsplit("::").next().unwrap_or_default();
            let names =
                |(path, text): &(String, String)| path.contains(part) || text.contains(&format!("fn {part}"));
            ensure!(sources.iter().any(names), "mutant {}: {package} has no test {filter}", self.name);
        }
        Ok(())
    }
}

impl TryFrom<String> for Kill {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let tests = |package: &str, target, filters: &[&str]| Self::Tests {
            package: package.to_owned(),
            target,
            filters: owned(filters),
        };
        match words.as_slice() {
            ["cargo", "test", "-p", package, "--test", target, filters @ ..] => {
                Ok(tests(package, Target::Test((*target).to_owned()), filters))
            }
            ["cargo", "test", "-p", package, "--lib", filters @ ..] => {
                Ok(tests(package, Target::Library, filters))
            }
            ["plans", arguments @ ..] if !arguments.is_empty() => Ok(Self::Plans(owned(arguments))),
            _ => bail!(
                "want `cargo test -p <package> --lib <name>...`, `cargo test -p <package> --test <target> <name>...` \
                 or `plans <arguments of mlop-faults>` instead of {text:?}"
            ),
        }
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
            Self::Plans(arguments) => write!(f, "plans {}", arguments.join(" ")),
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
    use crate::paths;

    #[test]
    fn mutants_fit_the_sources() {
        let root = paths::repository();
        check(&all(&root.join(super::super::MUTANTS)).unwrap(), root).unwrap();
    }

    #[test]
    fn kill_is_written_as_it_is_read() {
        for line in [
            "cargo test -p mlop-core --test model",
            "cargo test -p mlop-faults --test chain pin",
            "cargo test -p mlop-core --lib list",
            "plans --seeds 0 --fail-fast",
        ] {
            assert_eq!(Kill::try_from(line.to_owned()).unwrap().to_string(), line);
        }
    }

    #[test]
    fn kill_is_refused_when_it_names_no_check() {
        for line in ["", "plans", "cargo test --workspace", "--seeds 0"] {
            let error = Kill::try_from(line.to_owned()).unwrap_err().to_string();
            assert!(error.contains("want `cargo test -p"), "{line}: {error}");
        }
    }

    #[test]
    fn mutant_is_refused_when_a_field_is_missing_or_unknown() {
        let whole = "- {name: a, mistake: b, killed_by: plans --seeds 0, package: c, item: fn d, replace: e, with: f}";
        assert_eq!(parse(whole).unwrap().len(), 1);
        for part in ["name: a, ", "killed_by: plans --seeds 0, "] {
            assert!(parse(&whole.replace(part, "")).is_err(), "{part}");
        }
        assert!(parse(&whole.replace("with: f", "with: f, line: 3")).is_err());
    }
}
