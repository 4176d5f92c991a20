//! Kubernetes quantities, by value.

/// Whether two Kubernetes quantities are the same amount: `1000m` is `1`, and `1024Mi` is `1Gi`.
pub(crate) fn is_same_amount(one: &str, other: &str) -> bool {
    one == other || amount(one).is_some_and(|one| Some(one) == amount(other))
}

/// The amount in billionths, which is the finest that the API server stores.
pub(crate) fn amount(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (scale, exponent): (i128, i32) = match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    let scaled = digits.checked_mul(scale)?;
    if shift >= 0 {
        scaled.checked_mul(power)
    } else {
        // The API server rounds up.
        Some(scaled.checked_add(power - 1)?.div_euclid(power))
    }
}
