//! Numbers and texts as people read them.

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12345678` as `12.3 MB`.
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1_000.0 {
            break;
        }
        value /= 1_000.0;
        unit = larger;
    }
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

/// `1 row`, `2 rows`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// The beginning of `text`, at most `bytes_max` bytes and whole characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Longest key in a message, in bytes.
const KEY_BYTES_MAX: usize = 80;

/// The end of a key, which differs more between objects than the beginning.
pub fn shorten_key(key: &str) -> &str {
    let mut start = key.len().saturating_sub(KEY_BYTES_MAX);
    while !key.is_char_boundary(start) {
        start += 1;
    }
    key.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_336_776, "1,336,776")] {
            assert_eq!(thousands(number), text);
        }
        for (number, text) in
            [(999, "999 B"), (1_000, "1.0 kB"), (12_345_678, "12.3 MB"), (u64::MAX, "18446744.1 TB")]
        {
            assert_eq!(bytes(number), text);
        }
        assert_eq!((count(1, "row"), count(2, "row")), ("1 row".to_owned(), "2 rows".to_owned()));
    }

    #[test]
    fn cut_keeps_whole_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
