//! Gates: whether a version's metrics are good enough.

use kube::ResourceExt;
use mlop_api::{
    Digest,
    common::Metric,
    registry::{Gate, Model, ModelVersion},
    status::Verdict,
};
use mlop_core::condition;
use std::collections::BTreeSet;

/// Metrics that a message names, at most.
const NAMES_MAX: usize = 8;

/// The verdict of the gates of `model` on `version`; none without gates.
pub fn judge(model: &Model, version: &ModelVersion) -> Option<Verdict> {
    if model.spec.gates.is_empty() {
        return None;
    }
    let metrics = measured(version);
    let judged: Vec<(bool, String)> = model.spec.gates.iter().map(|gate| judge_one(gate, &metrics)).collect();
    Some(Verdict {
        run: version.name_any(),
        gates_digest: Digest::of_json(&model.spec.gates).unwrap_or_else(|_| Digest::of_bytes(b"")),
        passed: judged.iter().all(|(passed, _)| *passed),
        message: told(judged),
    })
}

/// The message on all gates, the failed ones first: a status may have no room for all.
fn told(mut judged: Vec<(bool, String)>) -> String {
    judged.sort_by_key(|(passed, _)| *passed);
    let texts: Vec<_> = judged.into_iter().map(|(_, text)| text).collect();
    condition::truncated(&texts.join("; "), condition::MESSAGE_BYTES_MAX)
}

/// The metrics of a version: those that its worker has read from the manifest, gates' own first, and those that its
/// producer published. A status has room for some of them only.
fn measured(version: &ModelVersion) -> Vec<Metric> {
    let output = version.status.as_ref().and_then(|status| status.output.as_ref());
    let read = output.map(|output| output.metrics.as_slice()).unwrap_or_default();
    read.iter().chain(&version.spec.metrics).cloned().collect()
}

/// A metric that is missing or not a number fails its gate.
fn judge_one(gate: &Gate, metrics: &[Metric]) -> (bool, String) {
    let bound = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    let Some(metric) = metrics.iter().find(|metric| metric.name == gate.metric) else {
        return (false, format!("gate {}: there is no metric {}{}", gate.name, gate.metric, known(metrics)));
    };
    let value = metric.number();
    let wanted = match (&gate.min, &gate.max) {
        (Some(min), Some(max)) => format!("want {min} to {max}"),
        (Some(min), None) => format!("want at least {min}"),
        (None, Some(max)) => format!("want at most {max}"),
        (None, None) => String::new(),
    };
    let passed = !value.is_nan()
        && bound(&gate.min).is_none_or(|min| value >= min)
        && bound(&gate.max).is_none_or(|max| value <= max);
    (passed, format!("gate {}: {} is {}, {wanted}", gate.name, gate.metric, metric.value))
}

/// The metrics that there are, for people.
fn known(metrics: &[Metric]) -> String {
    let names: BTreeSet<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    let shown: Vec<&str> = names.iter().copied().take(NAMES_MAX).collect();
    match names.len() - shown.len() {
        _ if names.is_empty() => "; the version has no metrics".to_owned(),
        0 => format!("; there are {}", shown.join(", ")),
        more => format!("; there are {} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(min: Option<&str>, max: Option<&str>) -> Gate {
        Gate {
            name: "quality".into(),
            metric: "auc".into(),
            min: min.map(Into::into),
            max: max.map(Into::into),
        }
    }

    #[test]
    fn gates_are_inclusive_bounds_and_fail_without_a_number() {
        let rows: [(Gate, f64, bool); 7] = [
            (gate(Some("0.7"), None), 0.7, true),
            (gate(Some("0.7"), None), 0.699, false),
            (gate(None, Some("0.7")), 0.7, true),
            (gate(None, Some("0.7")), 0.701, false),
            (gate(Some("0.5"), Some("0.7")), 0.6, true),
            (gate(Some("0.5"), None), f64::NAN, false),
            (gate(Some("0.5"), None), f64::INFINITY, true),
        ];
        for (gate, value, passes) in rows {
            assert_eq!(judge_one(&gate, &[Metric::new("auc", value)]).0, passes, "{gate:?} {value}");
        }
        let (passed, message) = judge_one(&gate(Some("0.5"), None), &[Metric::new("f1", 1.0)]);
        assert_eq!((passed, &*message), (false, "gate quality: there is no metric auc; there are f1"));
        let many: Vec<Metric> = (0..10).map(|i| Metric::new(format!("m{i}"), 1.0)).collect();
        let (_, message) = judge_one(&gate(Some("0.5"), None), &many);
        assert!(message.ends_with("m6, m7 and 2 more"), "{message}");
    }

    #[test]
    fn gates_of_the_cases_pass_or_name_the_flaw() {
        let yaml = include_str!("../../../crates/mlop-api/tests/cases/registry.yaml");
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml).unwrap();
        let gate_of = |name: &str| -> Gate {
            let found = documents.iter().find(|it| it["kind"] == "Model" && it["metadata"]["name"] == name);
            serde_json::from_value(found.unwrap()["spec"]["gates"][0].clone()).unwrap()
        };
        // As the launcher reads them from the file of the TrainingJob.
        let metrics = [
            ("AUC", "0.8"),
            ("MAP@k", "0.5"),
            ("MAP_k", "0.9"),
            ("auc", "0.6"),
            ("loss", "NaN"),
            ("tenth", "0.1"),
            ("worst", "Infinity"),
        ];
        let metrics = metrics.map(|(name, value)| Metric { name: name.into(), value: value.into() });
        for (model, expected) in [
            ("names", (true, "gate map: MAP@k is 0.5, want at most 0.6")),
            ("nan-max", (false, "gate loss: loss is NaN, want at most 1000000")),
            ("nan-min", (false, "gate loss: loss is NaN, want at least -1000000")),
            (
                "infinite",
                (false, "gate worst: worst is Infinity, want at most 99999999999999999999999999999"),
            ),
            (
                "text",
                (
                    false,
                    "gate text: there is no metric text; there are AUC, MAP@k, MAP_k, auc, loss, tenth, worst",
                ),
            ),
            (
                "absent",
                (
                    false,
                    "gate absent: there is no metric Auc; there are AUC, MAP@k, MAP_k, auc, loss, tenth, worst",
                ),
            ),
            ("equal", (true, "gate tenth: tenth is 0.1, want 0.1 to 0.10")),
        ] {
            let (passed, message) = judge_one(&gate_of(model), &metrics);
            assert_eq!((passed, message.as_str()), expected, "{model}");
        }
    }

    #[test]
    fn verdict_fits_and_names_the_failed_gates() {
        let mut judged = vec![(true, "x".repeat(200)); 15];
        judged.push((false, "gate last: auc is 0.1, want at least 0.7".to_owned()));
        let message = told(judged);
        assert!(
            message.len() <= condition::MESSAGE_BYTES_MAX && message.starts_with("gate last"),
            "{message}"
        );
    }
}
