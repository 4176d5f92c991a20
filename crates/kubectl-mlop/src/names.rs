//! The objects that a user means by `NAME` or `KIND/NAME`.

use crate::{
    kinds::{self, KindInfo},
    snapshot::{Object, ObjectId, Snapshot},
};
use anyhow::{Result, anyhow, bail};
use mlop_api::kinds::Class;
use std::cmp::Reverse;

/// Names that an error lists at most.
const LISTED_MAX: usize = 8;

/// The objects that `text` may mean, the most downstream first. At least one.
///
/// # Errors
/// There is none, with the names that are there; or the kind is unknown.
pub fn candidates<'a>(snapshot: &'a Snapshot, text: &str) -> Result<Vec<&'a Object>> {
    let (kind, name) = parsed(text)?;
    let is_meant =
        |object: &&Object| object.id.name == name && kind.is_none_or(|kind| kind.kind == object.id.kind);
    let mut found: Vec<_> = snapshot.objects.iter().filter(is_meant).collect();
    if found.is_empty() {
        return Err(missing(snapshot, kind, name));
    }
    found.sort_by_key(|object| Reverse((class_order(object.class), kinds::stage(&object.id.kind))));
    Ok(found)
}

/// The one object that `text` means.
///
/// # Errors
/// There is none, or the name has several kinds, of which `command` needs one.
pub fn single<'a>(
    snapshot: &'a Snapshot,
    text: &str,
    command: &str,
    is_fit: impl Fn(&Object) -> bool,
) -> Result<&'a Object> {
    let all = candidates(snapshot, text)?;
    let fit: Vec<_> = all.iter().copied().filter(|object| is_fit(object)).collect();
    match (fit.as_slice(), all.as_slice()) {
        ([object], _) | ([], [object]) => Ok(*object),
        ([], several) | (several, _) => {
            let names: Vec<_> = several.iter().map(|object| object.id.to_string()).collect();
            let example = several.first().map(|object| object.id.argument()).unwrap_or_default();
            bail!(
                "{text} may be {}: add the kind, as in `kubectl mlop {command} {example}`",
                names.join(" or ")
            )
        }
    }
}

/// The kind, if one is given, and the name.
fn parsed(text: &str) -> Result<(Option<&'static KindInfo>, &str)> {
    let Some((kind, name)) = text.split_once('/') else { return Ok((None, text)) };
    match kinds::called(kind) {
        Some(kind) => Ok((Some(kind), name)),
        None => {
            let kinds: Vec<_> =
                kinds::all().iter().map(|info| format!("{} ({})", info.kind, info.short_name())).collect();
            bail!("{kind:?} is not a kind of mlop; there are {}", kinds.join(", "))
        }
    }
}

/// Intents come before connections and runs.
const fn class_order(class: Class) -> u8 {
    match class {
        Class::Policy => 0,
        Class::Run => 1,
        Class::Connection => 2,
        Class::Intent => 3,
    }
}

fn missing(snapshot: &Snapshot, kind: Option<&KindInfo>, name: &str) -> anyhow::Error {
    let namespace = &snapshot.namespace;
    let label = kind.map_or("object", |kind| kind.kind.as_str());
    let what = format!("there is no {label} {name:?} in namespace {namespace}");
    let is_of_kind = |object: &&Object| match kind {
        Some(kind) => object.id.kind == kind.kind,
        None => object.class != Class::Run,
    };
    let there: Vec<&Object> = snapshot.objects.iter().filter(is_of_kind).collect();
    let similar: Vec<&ObjectId> =
        there.iter().map(|object| &object.id).filter(|id| is_similar(&id.name, name)).collect();
    if !similar.is_empty() {
        return anyhow!("{what}; similar: {}", listed(&similar));
    }
    if snapshot.objects.is_empty() {
        return anyhow!(
            "{what}, which has no objects of mlop; `kubectl mlop status -A` shows all namespaces, -n chooses one"
        );
    }
    let there: Vec<&ObjectId> = there.iter().map(|object| &object.id).collect();
    if there.is_empty() { anyhow!("{what}") } else { anyhow!("{what}; there are {}", listed(&there)) }
}

/// The objects of the kind of `missing` whose names are like its name.
pub fn similar<'a>(snapshot: &'a Snapshot, missing: &ObjectId) -> Vec<&'a ObjectId> {
    let ids = snapshot.objects.iter().map(|object| &object.id);
    ids.filter(|id| id.kind == missing.kind && is_similar(&id.name, &missing.name)).collect()
}

/// Whether `known` may be meant by `name`: one contains the other, or few letters differ.
pub(crate) fn is_similar(known: &str, name: &str) -> bool {
    let contains = known.contains(name) || name.contains(known);
    let limit = match name.len() {
        0..2 => 0,
        length => (length.saturating_add(1) / 4).max(1),
    };
    (contains && known.len().min(name.len()) > 2) || distance(known, name) <= limit
}

/// Names of objects in one line, not too many.
pub fn listed(ids: &[impl ToString]) -> String {
    let mut names: Vec<_> = ids.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    match ids.len().saturating_sub(LISTED_MAX) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    names.join(", ")
}

/// Levenshtein's distance.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            left = (left + 1).min(above + 1).min(diagonal + usize::from(ca != *cb));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_share_most_letters() {
        for (known, name) in
            [("species", "speceis"), ("delay", "dely"), ("visits", "visits-2026"), ("at", "t")]
        {
            assert_eq!(is_similar(known, name), known != "at", "{known} {name}");
        }
        for (known, name) in [("code", "nope"), ("v", "y"), ("dep_delay", "y"), ("dep_delay", "arr_delay")] {
            assert!(!is_similar(known, name), "{known} {name}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, want) in
            [("", "", 0), ("delay", "delay", 0), ("dely", "delay", 1), ("", "abc", 3), ("model", "mode", 1)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
            assert_eq!(distance(b, a), want, "{b} {a}");
        }
    }
}
