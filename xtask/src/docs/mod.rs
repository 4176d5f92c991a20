//! `cargo xtask docs`: the documents as a site, with every link checked. The index is the only list of pages.
mod pages;
mod site;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::progress::{Outcome, Steps};
use crate::text::Tree;
use crate::{cache, paths, process, tools};
use pages::Pages;

const MDBOOK: (&str, &str) = ("mdbook", "0.5.4");
/// The index, from which the list of pages is made.
const INDEX: &str = "docs/README.md";
const SETTINGS: &str = "docs/book.toml";

pub fn run() -> Result<()> {
    let mut steps = Steps::new(3);
    steps.run("pages", || collect(&book()))?;
    steps.run("site", || build(&book(), &site()))?;
    steps.run("links", || site::check(&site()))?;
    println!("{}", site().join("index.html").display());
    Ok(())
}

fn book() -> PathBuf {
    paths::repository().join("target/book")
}

fn site() -> PathBuf {
    paths::repository().join("target/site")
}

/// The index, everything that can be reached from it, and the list of pages, where mdBook looks for them.
fn collect(book: &Path) -> Result<Outcome> {
    cache::remove(book)?;
    let tree = Tree::of_checkout()?;
    let pages = Pages::reached(&tree, Path::new(INDEX))?;
    for (path, content) in &pages.files {
        write(&book.join("src").join(path), content)?;
    }
    let summary = summary::of(&pages, Path::new(INDEX))?;
    write(&book.join("src/SUMMARY.md"), summary.as_bytes())?;
    write(&book.join("book.toml"), tree.read(Path::new(SETTINGS))?.as_bytes())?;
    Ok(Outcome::Done)
}

fn build(book: &Path, site: &Path) -> Result<Outcome> {
    let mdbook = tools::cargo_tool(MDBOOK)?;
    cache::remove(site)?;
    process::run(Command::new(mdbook).arg("build").arg("--dest-dir").arg(site).arg(book))?;
    // mdBook copies the first page, whose links would be wrong here.
    let first = Path::new(INDEX).with_extension("html");
    let redirect = format!("<meta http-equiv=\"refresh\" content=\"0; url={}\">\n", first.display());
    write(&site.join("index.html"), redirect.as_bytes())?;
    Ok(Outcome::Done)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, content));
    written.with_context(|| format!("cannot write {}", path.display()))
}
