//! Phrases that the style guide bans, from `docs/development/banned-phrases.txt`.
use std::path::Path;

use anyhow::{Context as _, Result};
use regex::Regex;

use super::tree::Tree;

const LIST: &str = "docs/development/banned-phrases.txt";
/// Files that may quote banned phrases: the style guide, and the names of tools and other projects' files.
const QUOTING: [&str; 2] = [LIST, "docs/development/style.md"];
/// Files that people write.
const TEXTS: [&str; 9] = ["rs", "md", "yaml", "yml", "toml", "sh", "py", "txt", "tpl"];
/// Directories whose files are data or other people's.
const FOREIGN: [&str; 3] = ["fuzz/corpus", "e2e/cluster/tools", "fixtures"];

struct Phrase {
    pattern: Regex,
    reason: String,
}

/// Each place with a banned phrase, and what to write instead.
pub fn findings(tree: &Tree) -> Result<Vec<String>> {
    let phrases = parse(&tree.read(Path::new(LIST))?)?;
    let mut findings = Vec::new();
    for path in tree.with_extension(&TEXTS).filter(|path| is_checked(path)) {
        // A test's input may be no text.
        let Ok(text) = tree.read(path) else { continue };
        for (line, found, reason) in search(&phrases, &text) {
            findings.push(format!("{}:{line}: \"{found}\": {reason}", path.display()));
        }
    }
    Ok(findings)
}

fn is_checked(path: &Path) -> bool {
    let text = path.to_string_lossy();
    !QUOTING.contains(&&*text) && !FOREIGN.iter().any(|directory| text.contains(directory))
}

/// One regular expression a line, two spaces, `#` and the reason.
fn parse(list: &str) -> Result<Vec<Phrase>> {
    let lines = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (pattern, reason) =
                line.split_once("  ").with_context(|| format!("{LIST}: no reason: {line}"))?;
            let pattern =
                Regex::new(&format!("(?i){}", pattern.trim())).with_context(|| format!("{LIST}: {line}"))?;
            Ok(Phrase { pattern, reason: reason.trim_start_matches([' ', '#']).to_owned() })
        })
        .collect()
}

/// Line, phrase and reason of each place.
fn search<'a>(phrases: &'a [Phrase], text: &'a str) -> impl Iterator<Item = (usize, &'a str, &'a str)> {
    let lines = text.lines().enumerate();
    lines.flat_map(|(index, line)| {
        let found = |phrase: &'a Phrase| Some((phrase.pattern.find(line)?.as_str(), &*phrase.reason));
        phrases.iter().filter_map(found).map(move |(found, reason)| (index + 1, found, reason))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_with_line_and_reason() {
        let phrases = parse("# comment\n\n\\bwrong\\b     # \"right\"\nmixed  # name it\n").unwrap();
        let text = "A Wrong word\nwrongly\nmixed wrong";
        let found: Vec<_> = search(&phrases, text).collect();
        assert_eq!(found, [(1, "Wrong", "\"right\""), (3, "wrong", "\"right\""), (3, "mixed", "name it")]);
    }

    #[test]
    fn list_needs_a_reason_for_each_phrase() {
        assert!(parse("wrong").is_err());
        assert!(parse("(  # not a regular expression").is_err());
    }

    #[test]
    fn quotes_and_foreign_files_are_not_checked() {
        let rows = [("docs/README.md", true), (LIST, false), ("crates/x/tests/fixtures/a.yaml", false)];
        for (path, wanted) in rows {
            assert_eq!(is_checked(Path::new(path)), wanted, "{path}");
        }
    }
}
