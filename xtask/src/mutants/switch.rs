//! The sources with all mistakes in them, of which a process makes at most one: the one that its environment names. One
//! build then serves all mutants.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::mutant::Mutant;
use super::source;

/// The variable that names the mistake to make.
pub const VARIABLE: &str = "MLOP_MUTANT";

/// A function, and the mistakes in its body.
struct Function<'a> {
    body: Range<usize>,
    mistakes: Vec<(&'a Mutant, Range<usize>)>,
}

/// The files below `root` that `mutants` change, by their paths, with a switch in each function.
///
/// # Errors
/// With every mutant that has no place: a renamed function breaks several.
pub fn sources(mutants: &[Mutant], root: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut packages: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        packages.entry(&mutant.package).or_default().push(mutant);
    }
    let mut problems = Vec::new();
    for (package, mutants) in packages {
        let texts = source::files(root, package)?;
        let mut functions: BTreeMap<String, Vec<Function<'_>>> = BTreeMap::new();
        for mutant in mutants {
            match mutant.place(&texts) {
                Ok(place) => {
                    let functions = functions.entry(place.path).or_default();
                    match functions.iter_mut().find(|function| function.body == place.body) {
                        Some(function) => function.mistakes.push((mutant, place.text)),
                        None => functions
                            .push(Function { body: place.body, mistakes: vec![(mutant, place.text)] }),
                    }
                }
                Err(problem) => problems.push(format!("{problem:#}")),
            }
        }
        for (path, text) in texts {
            if let Some(functions) = functions.remove(&path) {
                let switched = switched(&text, functions).with_context(|| path.clone())?;
                files.insert(path, switched);
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(files)
}

/// The text of a file whose functions choose among their bodies.
fn switched(text: &str, mut functions: Vec<Function<'_>>) -> Result<String> {
    functions.sort_by_key(|function| function.body.start);
    let mut pairs = functions.iter().zip(functions.iter().skip(1));
    if pairs.any(|(outer, inner)| inner.body.start < outer.body.end) {
        bail!("a function with a mistake lies within another one that has one");
    }
    let mut after = text.to_owned();
    for function in functions.iter().rev() {
        after.replace_range(function.body.clone(), &alternatives(text, function)?);
    }
    Ok(after)
}

/// The body that chooses: one copy for each mistake, and the right one.
fn alternatives(text: &str, function: &Function<'_>) -> Result<String> {
    let right = text.get(function.body.clone()).context("a body ends within a character")?;
    let mut chosen = format!(
        "{{\n    static MUTANT: std::sync::LazyLock<Option<String>> =\n        std::sync::LazyLock::new(|| \
         std::env::var({VARIABLE:?}).ok());\n    match MUTANT.as_deref() {{\n"
    );
    for (mutant, range) in &function.mistakes {
        let mut wrong = right.to_owned();
        let (start, end) = (range.start - function.body.start, range.end - function.body.start);
        wrong.replace_range(start..end, mutant.with.trim_end());
        writeln!(chosen, "        Some({:?}) => {wrong}", mutant.name)?;
    }
    write!(chosen, "        _ => {right}\n    }}\n}}")?;
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::mutant;

    fn written(mutants: &str, source: &str) -> Result<BTreeMap<String, String>> {
        let root =
            std::env::temp_dir().join(format!("xtask-switch-{}-{}", std::process::id(), mutants.len()));
        std::fs::create_dir_all(root.join("crates/a")).unwrap();
        std::fs::write(root.join("crates/a/lib.rs"), source).unwrap();
        let written = sources(&mutant::parse(mutants).unwrap(), &root);
        std::fs::remove_dir_all(root).unwrap();
        written
    }

    fn mutant(name: &str, item: &str, replace: &str) -> String {
        format!(
            "- {{name: {name}, mistake: x, killed_by: plans x, package: crates/a, item: fn {item}, \
             replace: '{replace}', with: wrong}}\n"
        )
    }

    #[test]
    fn function_chooses_among_its_bodies() {
        let source = "fn one() { right(1) }\nfn two() -> u8 { 2 }\nfn three() { 3 }\n";
        let mutants =
            [mutant("a", "one", "right"), mutant("b", "one", "1"), mutant("c", "three", "3")].concat();
        let text = written(&mutants, source).unwrap().remove("crates/a/lib.rs").unwrap();
        for body in [
            "Some(\"a\") => { wrong(1) }",
            "Some(\"b\") => { right(wrong) }",
            "_ => { right(1) }",
            "fn two() -> u8 { 2 }",
            "Some(\"c\") => { wrong }",
            "_ => { 3 }",
        ] {
            assert_eq!(text.matches(body).count(), 1, "{body} in {text}");
        }
    }

    #[test]
    fn every_mutant_without_a_place_is_named() {
        let source = "fn one() { fn two() { 2 } two() }\n";
        let lost = [mutant("a", "one", "3"), mutant("b", "four", "4")].concat();
        let said = written(&lost, source).unwrap_err().to_string();
        assert!(said.contains("mutant a") && said.contains("mutant b"), "{said}");
        let nested = [mutant("a", "one", "two() }"), mutant("b", "two", "2")].concat();
        assert!(format!("{:#}", written(&nested, source).unwrap_err()).contains("lies within another"));
    }
}
