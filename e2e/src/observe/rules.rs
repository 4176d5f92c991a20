//! The alerts of the chart, for Prometheus.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::time::Duration;

const RULES: &str = include_str!("../../../charts/mlop-monitoring/files/rules.yaml");

/// How long a fault lasts before its alert fires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durations {
    /// As users get them.
    AsShipped,
    /// At most this long.
    AtMost(Duration),
}

/// A rule file.
pub(super) fn with(durations: Durations) -> Result<Value> {
    let mut rules: Value = serde_saphyr::from_str(RULES).context("cannot read the chart's rules")?;
    let Durations::AtMost(limit) = durations else { return Ok(rules) };
    for rule in each(&mut rules) {
        let Some(wait) = rule.get_mut("for") else { continue };
        let shipped = wait.as_str().and_then(seconds).with_context(|| format!("`for: {wait}`"))?;
        *wait = json!(format!("{}s", shipped.min(limit.as_secs())));
    }
    Ok(rules)
}

/// Names of the alerts with the duration that users get.
pub(super) fn shipped() -> Result<Vec<(String, String)>> {
    let mut rules: Value = serde_saphyr::from_str(RULES).context("cannot read the chart's rules")?;
    let text = |rule: &Value, key: &str| rule.get(key).and_then(Value::as_str).unwrap_or("0s").to_owned();
    Ok(each(&mut rules).map(|rule| (text(rule, "alert"), text(rule, "for"))).collect())
}

fn each(rules: &mut Value) -> impl Iterator<Item = &mut Value> {
    rules
        .get_mut("groups")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(|group| group.get_mut("rules").and_then(Value::as_array_mut))
        .flatten()
}

/// A duration of Prometheus with one unit.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shortened_and_never_lengthened() {
        let mut rules = with(Durations::AtMost(Duration::from_secs(150))).unwrap();
        let waits: Vec<_> = each(&mut rules).map(|rule| rule["for"].clone()).collect();
        assert_eq!(waits.len(), shipped().unwrap().len());
        assert!(waits.contains(&json!("120s")) && waits.contains(&json!("150s")), "{waits:?}");
        assert!(!waits.contains(&json!("10m")), "{waits:?}");
    }

    #[test]
    fn durations_of_prometheus_are_read() {
        assert_eq!(
            ["30s", "2m", "6h", "1d", "m", ""].map(seconds),
            [Some(30), Some(120), Some(21600), None, None, None]
        );
    }
}
