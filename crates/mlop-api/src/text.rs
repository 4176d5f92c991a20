//! Text from outside on its way into an API object.
//!
//! Keys, cells, answers of servers and the last lines of a command may hold any character. A status is sent to the API
//! server as YAML, which refuses some of them, and a refused status is never written: so every text from outside passes
//! through [`printable`].

use std::{borrow::Cow, fmt::Write};

/// `text` with each character that YAML refuses, or that a terminal would act on, written as an escape such as
/// `\u{7f}`. Tabs and line feeds stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_printable(char) {
            escaped.push(char);
        } else {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "{}", char.escape_unicode());
        }
    }
    Cow::Owned(escaped)
}

/// Replaces `text` by its [`printable`] form.
pub fn make_printable(text: &mut String) {
    if let Cow::Owned(escaped) = printable(text) {
        *text = escaped;
    }
}

/// `text` as a part of a sentence: without white space around it and full stops at its end.
pub fn clause(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

/// `text` in one line: its lines without indentation, separated by bars. Empty lines are dropped.
pub fn single_line(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Cow::Owned(lines.join(" | "))
}

/// The last words of a program: the last line of `output`, which tells most, then the lines before it that fit into
/// `bytes_max` bytes, for example `KeyError: 'x' (after: Traceback … | y = row['x'])`. Messages are shortened at
/// their end. Lines that only mark a place in the line above are left out.
pub fn last_words(output: &str, bytes_max: usize) -> String {
    let tells = |line: &&str| !line.trim_matches(['^', '~', ' ']).is_empty();
    let mut lines = output.lines().map(str::trim).filter(tells).rev().map(printable);
    let mut words = lines.next().unwrap_or_default().into_owned();
    words.truncate(words.floor_char_boundary(bytes_max));
    let (mut before, mut bytes) = (Vec::new(), words.len() + " (after: )".len());
    for line in lines {
        bytes += line.len() + " | ".len();
        if bytes > bytes_max {
            break;
        }
        before.push(line);
    }
    if !before.is_empty() {
        before.reverse();
        words = format!("{words} (after: {})", before.join(" | "));
    }
    words
}

/// Whether YAML takes `char` as it is, and a terminal shows it in place.
const fn is_printable(char: char) -> bool {
    match char {
        '\t' | '\n' | ' '..='~' => true,
        // C0, DEL and C1, among them NEL.
        '\0'..='\u{9f}' => false,
        // Line and paragraph separators, marks of direction, the byte order mark.
        '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => false,
        // Noncharacters.
        '\u{fdd0}'..='\u{fdef}' => false,
        other => (other as u32) & 0xfffe != 0xfffe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "a\tb\nc", "Tromsø €", "日本", "👍🏽", "\u{fffd}"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn last_words_begin_with_the_last_line() {
        let traceback = "epoch 1\nTraceback (most recent call last):\n  File \"train.py\", line 4, in <module>\n    \
                         y = row['x']\n        ~~~^^^^^\nKeyError: 'x'\n";
        for (output, bytes_max, words) in [
            ("", 99, ""),
            ("\n ^^^ \n", 99, ""),
            ("one\n", 99, "one"),
            ("lone\u{7f} line", 99, "lone\\u{7f} line"),
            ("ab\nääää", 3, "ä"),
            (traceback, 12, "KeyError: 'x"),
            (traceback, 13, "KeyError: 'x'"),
            (traceback, 42, "KeyError: 'x' (after: y = row['x'])"),
            (
                traceback,
                999,
                "KeyError: 'x' (after: epoch 1 | Traceback (most recent call last): | \
                 File \"train.py\", line 4, in <module> | y = row['x'])",
            ),
        ] {
            assert_eq!(last_words(output, bytes_max), words, "{bytes_max}");
        }
    }

    #[test]
    fn clause_has_no_full_stop() {
        for (text, clause) in [("a. b.", "a. b"), (" a ", "a"), ("a. ", "a"), ("", ""), ("v1.2", "v1.2")] {
            assert_eq!(super::clause(text), clause, "{text:?}");
        }
    }

    #[test]
    fn single_line_joins_lines_by_bars() {
        for (text, line) in [("a", "a"), ("a\n\n  b\n", "a | b"), ("\n", ""), ("a\r\nb", "a | b")] {
            assert_eq!(single_line(text), line);
        }
    }

    #[test]
    fn scalar_values_become_yaml_that_reads_back() {
        for char in '\0'..=char::MAX {
            let text = printable(char.encode_utf8(&mut [0; 4])).into_owned();
            let is_yaml = text.chars().all(|char| {
                matches!(char, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
            });
            assert!(is_yaml && !text.is_empty(), "{:?}", char);
            assert!(text == char.to_string() || text.starts_with("\\u{"), "{:?}", char);
        }
    }

    #[test]
    fn characters_that_yaml_or_a_terminal_minds_are_escaped() {
        assert_eq!(printable("a\u{7f}b\u{1b}[31m\r\0"), "a\\u{7f}b\\u{1b}[31m\\u{d}\\u{0}");
        assert_eq!(printable("\u{202e}x\u{ffff}"), "\\u{202e}x\\u{ffff}");
        let mut text = "\u{85}".to_owned();
        make_printable(&mut text);
        assert_eq!(text, "\\u{85}");
    }
}
