//! Every link of the site leads to a file of it, and to a place on the page.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use regex::Regex;

use crate::cache;
use crate::progress::Outcome;
use crate::text::normal;

/// It is shown under any address, so its links are absolute.
const NOT_FOUND: &str = "404.html";

pub(super) fn check(site: &Path) -> Result<Outcome> {
    let (link, place) = (Regex::new(r#"\bhref="([^"]*)""#)?, Regex::new(r#"\bid="([^"]*)""#)?);
    let mut links = Vec::new();
    let mut places: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for path in cache::files(site)? {
        let page = path.strip_prefix(site)?.to_owned();
        if path.extension().is_none_or(|extension| extension != "html") {
            places.insert(page, BTreeSet::new());
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found = |pattern: &Regex| -> Vec<String> {
            pattern.captures_iter(&text).filter_map(|it| Some(it.get(1)?.as_str().to_owned())).collect()
        };
        if page != Path::new(NOT_FOUND) {
            links.extend(found(&link).into_iter().map(|link| (page.clone(), link)));
        }
        places.insert(page, found(&place).into_iter().collect());
    }
    ensure!(!links.is_empty(), "the site has no link");
    let broken: BTreeSet<String> =
        links.iter().filter_map(|(page, link)| broken(&places, page, link)).collect();
    if !broken.is_empty() {
        bail!("{} links of the site lead nowhere:\n{}", broken.len(), Vec::from_iter(broken).join("\n"));
    }
    Ok(Outcome::Done)
}

/// What is wrong with a link of a page; none if it leads somewhere, or out of the site.
fn broken(places: &BTreeMap<PathBuf, BTreeSet<String>>, page: &Path, link: &str) -> Option<String> {
    if link.contains(':') || link.is_empty() {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { normal(&page.parent()?.join(file)) };
    let Some(ids) = places.get(&target) else {
        return Some(format!("{}: there is no {}", page.display(), target.display()));
    };
    let known = anchor.is_empty() || ids.contains(anchor);
    (!known).then(|| format!("{}: {} has no #{anchor}", page.display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_from_their_page() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let places =
            BTreeMap::from([(PathBuf::from("a/b.html"), ids(&["c"])), (PathBuf::from("d.yaml"), ids(&[]))]);
        for (link, wanted) in [
            ("#c", None),
            ("../a/b.html#c", None),
            ("../d.yaml", None),
            ("https://example.org/#x", None),
            ("#x", Some("a/b.html: a/b.html has no #x")),
            ("e.html", Some("a/b.html: there is no a/e.html")),
        ] {
            assert_eq!(broken(&places, Path::new("a/b.html"), link).as_deref(), wanted, "{link}");
        }
    }
}
