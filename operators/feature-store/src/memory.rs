//! Shares of a pod's memory.

/// The bytes of a `share` of the memory that `quantity` names. The schema has checked its form.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a positive number of bytes"
)]
pub fn share(quantity: &str, share: f64) -> u64 {
    let split = quantity.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(split);
    let factor = match unit {
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => 1.0,
    };
    (number.parse::<f64>().unwrap_or_default() * factor * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_counted_in_bytes() {
        for (quantity, bytes) in [("1000", 600), ("1Gi", 644_245_094), ("1.5G", 900_000_000)] {
            assert_eq!(share(quantity, 0.6), bytes, "{quantity}");
        }
    }
}
