//! Random texts.

use fastrand::Rng;
use regex_syntax::hir::{Hir, HirKind};

/// Appends a text that `pattern` matches, unless it looks around. Repetitions are at most `longest` above their minimum.
pub fn matching(rng: &mut Rng, pattern: &Hir, longest: u32, text: &mut String) {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => {
            let ranges: Vec<(u32, u32)> = match class {
                regex_syntax::hir::Class::Unicode(class) => {
                    class.iter().map(|range| (range.start() as u32, range.end() as u32)).collect()
                }
                regex_syntax::hir::Class::Bytes(class) => {
                    class.iter().map(|range| (range.start().into(), range.end().into())).collect()
                }
            };
            let Some((start, end)) = rng.choice(ranges) else { return };
            text.extend(char::from_u32(rng.u32(start..=end)));
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.unwrap_or(u32::MAX).min(repetition.min.saturating_add(longest));
            for _ in 0..rng.u32(repetition.min..=max) {
                matching(rng, &repetition.sub, longest, text);
            }
        }
        HirKind::Capture(capture) => matching(rng, &capture.sub, longest, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| matching(rng, part, longest, text)),
        HirKind::Alternation(parts) => {
            if let Some(part) = rng.choice(parts) {
                matching(rng, part, longest, text);
            }
        }
    }
}

/// Any text of at most `max` characters.
pub fn any(rng: &mut Rng, max: usize) -> String {
    const SAMPLES: [&str; 14] = [
        "a",
        "name",
        "in/2024/",
        "SELECT * FROM flights",
        "(",
        "[a-z",
        "**/*.csv.gz",
        "../../etc/passwd",
        "grün 日本 🚀",
        "e\u{301}\u{202e}",
        "a\u{0}b",
        "line\nline\r\n",
        "9223372036854775808",
        "NaN",
    ];
    let text: String = match rng.u8(..20) {
        0 => String::new(),
        1 => "x".repeat(max),
        2 => "ü".repeat(max),
        _ => SAMPLES[rng.usize(..SAMPLES.len())].to_owned(),
    };
    text.chars().take(max).collect()
}
