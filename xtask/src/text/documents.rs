//! Every file, directory, heading and test that a document names exists, and the index lists every page.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use regex::Regex;

use super::tree::Tree;

/// Names that stand for files of users or of other places.
const ELSEWHERE: [&str; 1] = ["target/"];

/// Documents whose code spans of four words and more are names of tests.
const RELIABILITY: &str = "docs/reliability";

/// The table of attacks. The last cell of each row names the tests that try it.
const ATTACKS: &str = "docs/operations/attacks.md";

/// The index of the pages in the directories next to it.
const INDEX: &str = "docs/README.md";

/// Each link and path that leads nowhere, each test that does not exist, and each page that no index lists.
pub fn findings(tree: &Tree) -> Result<Vec<String>> {
    let patterns = Patterns::new()?;
    let functions = names(tree, &patterns.function)?;
    let tests = names(tree, &patterns.test_function)?;
    let mut headings = BTreeMap::new();
    for path in tree.with_extension(&["md"]) {
        headings.insert(path, anchors(&tree.read(path)?));
    }
    let mut findings = unlisted(tree, &patterns)?;
    for path in headings.keys() {
        let text = tree.read(path)?;
        for (line, text) in prose(&text) {
            let mut wrong: Vec<String> = Vec::new();
            for link in patterns.links(&patterns.without_code(text)) {
                wrong.extend(broken_link(tree, &headings, path, link));
            }
            let named = patterns.paths(text).filter(|name| !exists(tree, name));
            wrong.extend(named.map(|name| format!("there is no file {name}")));
            if path.starts_with(RELIABILITY) {
                let lost = patterns.tests(text).filter(|name| !functions.contains(*name));
                wrong.extend(lost.map(|name| format!("there is no test {name}")));
            }
            if *path == Path::new(ATTACKS) {
                wrong.extend(patterns.untried(text, &tests));
            }
            findings.extend(wrong.into_iter().map(|what| format!("{}:{line}: {what}", path.display())));
        }
    }
    Ok(findings)
}

struct Patterns {
    link: Regex,
    code: Regex,
    file: Regex,
    test: Regex,
    function: Regex,
    test_function: Regex,
}

impl Patterns {
    fn new() -> Result<Self> {
        Ok(Self {
            link: Regex::new(r"\]\(([^)\s]+)\)")?,
            code: Regex::new(r"`([^`]+)`")?,
            // A Rust file, a document, or something below a directory of the repository's root.
            file: Regex::new(
                r"^((crates|operators|charts|docs|e2e|fuzz|policies|xtask)/[\w./-]*|[\w./-]+\.(rs|md))$",
            )?,
            test: Regex::new(r"^[a-z0-9]+(_[a-z0-9]+){3,}$")?,
            function: Regex::new(r"\bfn ([a-z0-9_]+)\(")?,
            test_function: Regex::new(
                r"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn ([a-z0-9_]+)\(",
            )?,
        })
    }

    fn links<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let links = self.link.captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str()));
        links.filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
    }

    /// A regular expression in a table looks like a link.
    fn without_code<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.code.replace_all(text, "")
    }

    fn paths<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let elsewhere = |name: &str| ELSEWHERE.iter().any(|prefix| name.starts_with(prefix));
        self.quoted(text).filter(move |name| self.file.is_match(name) && !elsewhere(name))
    }

    fn tests<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.quoted(text).filter(|name| self.test.is_match(name))
    }

    /// The problem of a row of the table of attacks, if it names no test, or something that is none.
    fn untried(&self, line: &str, tests: &BTreeSet<String>) -> Option<String> {
        let row = line.strip_prefix('|')?.trim_end().trim_end_matches('|');
        let last = row.rsplit('|').next()?;
        let is_heading = last.trim() == "tests" || last.chars().all(|c| matches!(c, '-' | ' '));
        let mut named = self.quoted(last).peekable();
        if named.peek().is_none() && !is_heading {
            return Some("the attack names no test".to_owned());
        }
        named.find(|name| !tests.contains(*name)).map(|name| format!("there is no test {name}"))
    }

    fn quoted<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.code.captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str()))
    }
}

/// The names of all functions of the repository that `function` finds.
fn names(tree: &Tree, function: &Regex) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for path in tree.with_extension(&["rs"]) {
        let text = tree.read(path)?;
        let found = function.captures_iter(&text);
        names.extend(found.filter_map(|found| Some(found.get(1)?.as_str().to_owned())));
    }
    Ok(names)
}

/// The lines outside of code blocks, with their numbers.
pub fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            return None;
        }
        (!in_block).then_some((index + 1, line))
    })
}

/// The pages of `docs/` that neither the index nor an index of their directory links to, by name or by directory.
fn unlisted(tree: &Tree, patterns: &Patterns) -> Result<Vec<String>> {
    let index = Path::new(INDEX);
    let mut listed = BTreeSet::new();
    for path in tree.with_extension(&["md"]).filter(|path| path.ends_with("README.md")) {
        let directory = path.parent().unwrap_or(Path::new(""));
        let text = tree.read(path)?;
        listed.extend(patterns.links(&text).map(|link| normal(&directory.join(link))));
    }
    let root = index.parent().unwrap_or(Path::new(""));
    let pages = tree.with_extension(&["md"]).filter(|path| path.starts_with(root) && *path != index);
    let unlisted = pages.filter(|page| !page.ancestors().any(|part| part != root && listed.contains(part)));
    Ok(unlisted.map(|page| format!("{INDEX} does not list {}", page.display())).collect())
}

/// Why `link` in the document `from` is broken; none if it is not.
fn broken_link(
    tree: &Tree,
    headings: &BTreeMap<&Path, Vec<String>>,
    from: &Path,
    link: &str,
) -> Option<String> {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() {
        from.to_owned()
    } else {
        normal(&from.parent().unwrap_or(Path::new("")).join(file))
    };
    if target != from && !tree.root.join(&target).exists() {
        return Some(format!("the link {link} leads nowhere"));
    }
    let anchors = headings.get(target.as_path())?;
    let anchor = anchor?;
    (!anchors.iter().any(|found| found == anchor))
        .then(|| format!("{} has no heading #{anchor}", target.display()))
}

/// Whether `name` is a path of the repository, or the end of one.
fn exists(tree: &Tree, name: &str) -> bool {
    let name = Path::new(name);
    tree.root.join(name).exists() || tree.files.iter().any(|file| file.ends_with(name))
}

/// `path` without `.` and `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The anchors of a document's headings, as Git hosts make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.trim())
    });
    headings.map(anchor).collect()
}

fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_are_found_outside_of_code_blocks() {
        let patterns = Patterns::new().unwrap();
        let text = "See [a](docs/a.md#b) and [c](https://example.org), `crates/x/`, `step.rs`, `train.py`,\
                    `[a-z](b)`, [`d`](e.rs).\n\
                    ```\n[no](no.md)\n```\n";
        let lines: Vec<_> = prose(text).collect();
        assert_eq!(lines.len(), 1);
        let text = patterns.without_code(lines[0].1);
        assert_eq!(patterns.links(&text).collect::<Vec<_>>(), ["docs/a.md#b", "e.rs"]);
        assert_eq!(patterns.paths(lines[0].1).collect::<Vec<_>>(), ["crates/x/", "step.rs"]);
        let tests = patterns.tests("`a_pin_selects_a_run`, `object_store`, a_word_without_quotes");
        assert_eq!(tests.collect::<Vec<_>>(), ["a_pin_selects_a_run"]);
    }

    #[test]
    fn attack_without_a_test_is_found() {
        let patterns = Patterns::new().unwrap();
        let source = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn keys_stay() {}\n#[test]\nfn a_b() {}\nfn helper() {}";
        let found = patterns.test_function.captures_iter(source);
        let tests: BTreeSet<_> = found.map(|found| found[1].to_owned()).collect();
        let rows = [
            ("| attack | tests |", None),
            ("|---|---|", None),
            ("| a \\| b `helper` | `keys_stay`, `a_b` |", None),
            ("| a | none |", Some("the attack names no test")),
            ("| a | `keys_stay`, `helper` |", Some("there is no test helper")),
            ("no row", None),
        ];
        for (line, want) in rows {
            assert_eq!(patterns.untried(line, &tests).as_deref(), want, "{line}");
        }
    }

    #[test]
    fn anchors_are_those_of_git_hosts() {
        let text = "# The idea, in one `word`\n```\n# not a heading\n```\n## (a) Name things\n";
        assert_eq!(anchors(text), ["the-idea-in-one-word", "a-name-things"]);
    }

    #[test]
    fn links_are_resolved_from_their_document() {
        let tree = Tree { root: PathBuf::from(env!("CARGO_MANIFEST_DIR")), files: Vec::new() };
        let from = Path::new("src/text/x.md");
        let headings = BTreeMap::from([(from, vec!["here".to_owned()])]);
        let rows = [
            ("../main.rs", None),
            ("#here", None),
            ("#there", Some("src/text/x.md has no heading #there")),
            ("../../no.rs", Some("the link ../../no.rs leads nowhere")),
        ];
        for (link, wanted) in rows {
            let found = broken_link(&tree, &headings, from, link);
            assert_eq!(found.as_deref(), wanted, "{link}");
        }
    }
}
