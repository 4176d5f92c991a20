//! The list of pages in the form that mdBook reads, from the index that people read.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::pages::{Pages, is_page, title};
use crate::text::prose;

/// Each section of `index` is a part, with its pages in their order; the other pages of a listed directory come below its own
/// page. Pages outside of the index's directory come last.
pub(super) fn of(pages: &Pages, index: &Path) -> Result<String> {
    let text = pages.text(index)?;
    let root = index.parent().unwrap_or(Path::new(""));
    let mut summary = Summary { pages, text: String::new(), listed: BTreeSet::from([index.to_owned()]) };
    writeln!(summary.text, "# Summary\n\n[{}]({})\n", title(&text).unwrap_or("Index"), index.display())?;
    let direct: BTreeSet<PathBuf> =
        pages.links_in(index, &text).into_iter().map(|link| link.target).collect();
    for (_, line) in prose(&text) {
        if let Some(section) = line.strip_prefix("## ") {
            writeln!(summary.text, "\n# {section}\n")?;
        }
        for link in pages.links_of_line(index, line) {
            if is_page(&link.target) && link.target.starts_with(root) {
                summary.add(&link.title, &link.target, &direct)?;
            }
        }
    }
    writeln!(summary.text, "\n# In the repository\n")?;
    for page in pages.files.keys().filter(|path| is_page(path)) {
        if !page.starts_with(root) {
            let text = pages.text(page)?;
            summary.add(title(&text).unwrap_or("README"), page, &direct)?;
        }
    }
    Ok(summary.text)
}

struct Summary<'a> {
    pages: &'a Pages,
    text: String,
    listed: BTreeSet<PathBuf>,
}

impl Summary<'_> {
    fn add(&mut self, name: &str, page: &Path, direct: &BTreeSet<PathBuf>) -> Result<()> {
        if !self.listed.insert(page.to_owned()) {
            return Ok(());
        }
        let text = self.pages.text(page)?;
        // A link in the middle of a sentence begins with a small letter.
        let is_title = name.starts_with(char::is_uppercase);
        let name = if is_title { name } else { title(&text).unwrap_or(name) };
        writeln!(self.text, "- [{}]({})", name.replace('`', ""), page.display())?;
        if page.file_name().is_none_or(|name| name != "README.md") {
            return Ok(());
        }
        let below = self.pages.files.keys().filter(|path| is_page(path) && path.parent() == page.parent());
        for other in below.filter(|path| !direct.contains(*path)) {
            if self.listed.insert(other.clone()) {
                let text = self.pages.text(other)?;
                writeln!(self.text, "  - [{}]({})", title(&text).unwrap_or("?"), other.display())?;
            }
        }
        Ok(())
    }
}
