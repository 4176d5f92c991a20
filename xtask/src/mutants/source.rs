//! Functions in Rust sources, found by name. The sources are those that rustfmt leaves behind.
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cache;

/// The Rust sources of a package below `root`, by their paths from there.
pub fn files(root: &Path, package: &str) -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    for path in cache::files(&root.join(package))? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push((path, text));
        }
    }
    Ok(sources)
}

/// The directory of a package of this name, from `root`.
pub fn directory(root: &Path, package: &str) -> Result<String> {
    let stem = package.strip_prefix("mlop-").unwrap_or(package);
    let candidates = [format!("crates/{package}"), format!("operators/{stem}"), package.to_owned()];
    match candidates.into_iter().find(|path| root.join(path).join("Cargo.toml").is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no package {package}"),
    }
}

/// The ranges of all functions with a body that are declared as `item`, which is `fn <name>`.
pub fn items(text: &str, item: &str) -> Vec<Range<usize>> {
    if !text.contains(item) {
        return Vec::new();
    }
    let code = blanked(text);
    let is_word = |at: usize| code.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let starts = positions(&code, item.as_bytes());
    let whole = starts.filter(|start| !is_word(start.wrapping_sub(1)) && !is_word(start + item.len()));
    whole.filter_map(|start| Some(start..end(&code, start)?)).collect()
}

/// The body of the function at `item`, with its braces.
///
/// # Errors
/// When its body cannot be one of several alternatives, which are chosen when it is called.
pub fn body(text: &str, item: Range<usize>) -> Result<Range<usize>> {
    let code = blanked(text);
    let head = code.get(item.clone()).unwrap_or_default();
    let Some(start) = head.iter().position(|byte| *byte == b'{') else { bail!("it has no body") };
    let line = text.get(..item.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
    if line.contains("const ") {
        bail!("a `const fn` cannot choose between bodies");
    }
    // Parameters may be closures of any type.
    let mut depth = 0_i32;
    let signature = head.iter().take(start).filter(|byte| {
        depth += i32::from(**byte == b'(') - i32::from(**byte == b')');
        depth == 0
    });
    let signature: Vec<u8> = signature.copied().collect();
    let result = positions(&signature, b"->").next().unwrap_or(signature.len());
    if positions(signature.get(result..).unwrap_or_default(), b"impl ").next().is_some() {
        bail!("the bodies of a function that returns `impl` have different types");
    }
    Ok(item.start + start..item.end)
}

/// The innermost function around a position, as `fn <name>`.
pub fn item_at(text: &str, at: usize) -> Option<String> {
    let code = blanked(text);
    let starts: Vec<usize> = positions(&code, b"fn ").filter(|start| *start < at).collect();
    let start = starts.into_iter().rev().find(|start| end(&code, *start).is_some_and(|end| end > at))?;
    let name = text.get(start..)?.split(['(', '<']).next()?;
    Some(name.to_owned())
}

/// Where `wanted` occurs in a range of `text`, white space aside.
pub fn occurrences(text: &str, range: Range<usize>, wanted: &str) -> Vec<Range<usize>> {
    let wanted: Vec<u8> = wanted.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = text.as_bytes().get(range.clone()).unwrap_or_default();
    let (places, dense): (Vec<usize>, Vec<u8>) =
        (range.start..).zip(bytes.iter().copied()).filter(|(_, byte)| !byte.is_ascii_whitespace()).unzip();
    let found = positions(&dense, &wanted);
    found
        .filter_map(|at| {
            Some(*places.get(at)?..places.get(at + wanted.len().checked_sub(1)?)?.checked_add(1)?)
        })
        .collect()
}

fn positions(code: &[u8], wanted: &[u8]) -> impl Iterator<Item = usize> {
    code.windows(wanted.len().max(1)).enumerate().filter(move |(_, part)| *part == wanted).map(|(at, _)| at)
}

/// Where the function that begins at `start` ends. None without a body.
fn end(code: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut braces) = (0_usize, 0_usize);
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            b';' if depth == 0 && braces == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The code without its comments, texts and characters: a space for each of their bytes.
fn blanked(text: &str) -> Vec<u8> {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        let length = blank(rest);
        if let Some(part) = code.get_mut(at..at + length.unwrap_or_default()) {
            part.fill(b' ');
        }
        at += length.unwrap_or(1).max(1);
    }
    code
}

/// The length of the comment, text or character that `rest` begins with.
fn blank(rest: &[u8]) -> Option<usize> {
    let until = |begin: usize, end: &[u8]| {
        let rest = rest.get(begin..).unwrap_or_default();
        positions(rest, end).next().map_or(begin + rest.len(), |at| begin + at + end.len())
    };
    match rest {
        [b'/', b'/', ..] => Some(until(2, b"\n") - 1),
        [b'/', b'*', ..] => Some(until(2, b"*/")),
        [b'"', ..] => Some(text_length(rest)),
        [b'r', b'"', ..] => Some(until(2, b"\"")),
        [b'r', b'#', b'"', ..] => Some(until(3, b"\"#")),
        [b'\'', b'\\', _, ..] => Some(until(3, b"'")),
        [b'\'', _, b'\'', ..] => Some(3),
        _ => None,
    }
}

/// The length of the text that `rest` begins with, quotes included.
fn text_length(rest: &[u8]) -> usize {
    let mut escaped = true;
    let end = rest.iter().position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(rest.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
/// fn plan() { in a comment }
const LIMIT: [u8; 2] = [1; 2];
trait Runs {
    fn plan(&self) -> u8;
}
impl Runs for A {
    fn plan(&self) -> u8 {
        let text = "}\"}"; // }
        let brace = '{';
        if self.is_done::<'a'>() { 1 } else { 2 }
    }
}
fn plan_all() {
    first(
        second,
    )
}
const fn two() -> u8 { 2 }
fn many(of: impl Fn() -> u8) -> impl Iterator { all() }
fn each(of: impl Fn() -> u8, to: impl Copy) -> u8 { of() }
"#;

    fn texts(item: &str) -> Vec<&'static str> {
        items(SOURCE, item).into_iter().map(|range| &SOURCE[range]).collect()
    }

    #[test]
    fn items_are_found_by_their_whole_names() {
        let plan = texts("fn plan");
        assert!(plan.len() == 1 && plan[0].ends_with("else { 2 }\n    }"), "{plan:?}");
        assert!(texts("fn plan_all")[0].ends_with(")\n}"));
        assert!(texts("fn first").is_empty());
    }

    #[test]
    fn body_is_found_where_it_can_be_one_of_several() {
        let body =
            |item: &str| body(SOURCE, items(SOURCE, item).remove(0)).map_err(|error| error.to_string());
        let text = &SOURCE[body("fn plan_all").unwrap()];
        assert!(text.starts_with("{\n    first(") && text.ends_with('}'), "{text}");
        assert_eq!(&SOURCE[body("fn each").unwrap()], "{ of() }");
        assert!(body("fn two").unwrap_err().contains("const fn"));
        assert!(body("fn many").unwrap_err().contains("impl"));
    }

    #[test]
    fn occurrences_do_not_depend_on_white_space() {
        let ranges = occurrences(SOURCE, 0..SOURCE.len(), "first(second,)");
        assert_eq!(ranges.len(), 1);
        assert_eq!(&SOURCE[ranges[0].clone()], "first(\n        second,\n    )");
        assert_eq!(item_at(SOURCE, ranges[0].start).as_deref(), Some("fn plan_all"));
        assert!(occurrences(SOURCE, 0..10, "first").is_empty());
    }
}
