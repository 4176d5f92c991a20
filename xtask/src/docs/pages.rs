//! The files of the site: what the index links to, directly or not.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use regex::Regex;

use crate::text::{Tree, normal, prose};

/// Files by their path in the repository.
pub(super) struct Pages {
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    links: Regex,
}

/// A link of a page.
#[derive(Debug, PartialEq)]
pub(super) struct Link {
    pub(super) title: String,
    /// A path of the repository.
    pub(super) target: PathBuf,
}

impl Pages {
    /// `index` and all that can be reached from it. A directory becomes a page that lists its files.
    pub(super) fn reached(tree: &Tree, index: &Path) -> Result<Self> {
        let links = Regex::new(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")?;
        let mut pages = Self { files: BTreeMap::new(), links };
        let mut open = vec![index.to_owned()];
        while let Some(path) = open.pop() {
            if pages.files.contains_key(&path) {
                continue;
            }
            let at = tree.root.join(&path);
            if at.is_dir() {
                let list = path.join("README.md");
                if !pages.files.contains_key(&list) && !tree.root.join(&list).exists() {
                    let (text, files) = listing(tree, &path)?;
                    pages.files.insert(list, text.into_bytes());
                    open.extend(files);
                }
                continue;
            }
            let content = fs::read(&at).with_context(|| format!("cannot read {}", path.display()))?;
            if is_page(&path) {
                let text = String::from_utf8_lossy(&content).into_owned();
                open.extend(pages.links_in(&path, &text).into_iter().map(|link| link.target));
                pages.files.insert(path.clone(), pages.with_lists(tree, &path, &text).into_bytes());
            } else {
                pages.files.insert(path, content);
            }
        }
        Ok(pages)
    }

    pub(super) fn text(&self, page: &Path) -> Result<String> {
        let content = self.files.get(page).with_context(|| format!("there is no page {}", page.display()))?;
        Ok(String::from_utf8_lossy(content).into_owned())
    }

    /// The links of the page `from` to files of the repository, in order.
    pub(super) fn links_in(&self, from: &Path, text: &str) -> Vec<Link> {
        prose(text).flat_map(|(_, line)| self.links_of_line(from, line)).collect()
    }

    pub(super) fn links_of_line(&self, from: &Path, line: &str) -> Vec<Link> {
        let directory = from.parent().unwrap_or(Path::new(""));
        let found = self.links.captures_iter(line).filter_map(|found| {
            let (title, target) = (found.get(1)?.as_str(), found.get(2)?.as_str());
            let here = !target.contains(':') && !in_code(line, found.get(0)?.start());
            here.then(|| Link { title: title.to_owned(), target: normal(&directory.join(target)) })
        });
        found.collect()
    }

    /// `text` with links to the lists of directories instead of to the directories.
    fn with_lists(&self, tree: &Tree, from: &Path, text: &str) -> String {
        let directory = from.parent().unwrap_or(Path::new(""));
        let replaced = self.links.replace_all(text, |found: &regex::Captures<'_>| {
            let part = |index| found.get(index).map_or("", |part| part.as_str());
            let target = normal(&directory.join(part(2)));
            let list = tree.root.join(&target).is_dir();
            let code = found.get(0).is_some_and(|whole| in_code(text, whole.start()));
            let list = if list && !code && !part(2).contains(':') { "/README.md" } else { "" };
            if list.is_empty() {
                return part(0).to_owned();
            }
            format!("[{}]({}{list}{})", part(1), part(2).trim_end_matches('/'), part(3))
        });
        replaced.into_owned()
    }
}

/// Whether the text at `position` is in a code span: a regular expression in a table looks like a link.
fn in_code(text: &str, position: usize) -> bool {
    let line = text.get(..position).and_then(|before| before.lines().next_back()).unwrap_or_default();
    line.matches('`').count() % 2 == 1
}

pub(super) fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The title of a page: its first heading.
pub(super) fn title(text: &str) -> Option<&str> {
    prose(text).find_map(|(_, line)| line.strip_prefix("# "))
}

/// A page with the files of `directory`, and these.
fn listing(tree: &Tree, directory: &Path) -> Result<(String, Vec<PathBuf>)> {
    let files: Vec<PathBuf> =
        tree.files.iter().filter(|file| file.parent() == Some(directory)).cloned().collect();
    let mut text = format!("# {}\n\n", directory.display());
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let page = if is_page(file) { tree.read(file)? } else { String::new() };
        writeln!(text, "- [{}]({name})", title(&page).unwrap_or(&name))?;
    }
    Ok((text, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages { files: BTreeMap::new(), links: Regex::new(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)").unwrap() }
    }

    #[test]
    fn links_are_paths_of_the_repository() {
        let text = "# A\n[b](../b.md#c), [d](https://example.org), [e](#f), [`g`](h.md) `[a-z](i.md)`\n```\n[no](no.md)\n```\n";
        let link = |title: &str, target: &str| Link { title: title.to_owned(), target: target.into() };
        assert_eq!(
            pages().links_in(Path::new("docs/x/a.md"), text),
            [link("b", "docs/b.md"), link("`g`", "docs/x/h.md")]
        );
        assert_eq!(title(text), Some("A"));
    }

    #[test]
    fn links_to_directories_lead_to_their_lists() {
        let tree = Tree { root: PathBuf::from(env!("CARGO_MANIFEST_DIR")), files: Vec::new() };
        let text = "[a](src/) [b](src/main.rs) [c](src/text#x) [d](https://src)";
        let wanted = "[a](src/README.md) [b](src/main.rs) [c](src/text/README.md#x) [d](https://src)";
        assert_eq!(pages().with_lists(&tree, Path::new("x.md"), text), wanted);
    }
}
