//! Paths that come from a manifest or from user code, before they touch a store or a disk.

use mlop_api::{Reason, result::Failure};

/// Longest path in bytes; an S3 key may have 1,024, its prefix included.
pub const PATH_BYTES_MAX: usize = 768;

/// Refuses every path that could lead out of the directory it is meant for, or that cannot be a key.
///
/// # Errors
/// [`Reason::InputCorrupt`], terminal, with the path's defect.
pub fn safe(path: &str) -> Result<(), Failure> {
    check(path).map_err(|flaw| {
        let shown: String = path.chars().take(100).collect();
        Failure::terminal(Reason::InputCorrupt, format!("the path {shown:?} {flaw}"))
    })
}

/// As [`safe`], with the flaw alone.
///
/// # Errors
/// The flaw as a predicate: "is too long".
pub fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("is too long");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has a control character or a backslash");
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("has an empty, '.' or '..' segment");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_safe() {
        for path in ["a", "model/weights.bin", "..a/b..", "ü/日本 x.json", ".hidden"] {
            safe(path).unwrap();
        }
    }

    #[test]
    fn paths_that_could_escape_are_refused() {
        let long = "x".repeat(PATH_BYTES_MAX + 1);
        for path in
            ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "a\\..\\b", "a\0b", "a\nb", &long]
        {
            assert_eq!(safe(path).unwrap_err().reason, Reason::InputCorrupt, "{path:?}");
        }
    }
}
