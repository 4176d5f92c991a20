use super::*;
use crate::testing::{self, ForecastRun, NOW, at};
use mlop_api::status::RunStatus;

/// The lines of the metrics that begin with one of `names`, sorted.
fn lines(metrics: &Metrics, names: &[&str]) -> Vec<String> {
    let text = metrics.render();
    let is_wanted = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let mut lines: Vec<String> = text.lines().filter(is_wanted).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn run(state: impl FnOnce(&mut ForecastRun)) -> ForecastRun {
    let mut run = ForecastRun::new("delay-1", Default::default());
    run.metadata.namespace = Some("ns".to_owned());
    run.metadata.generation = Some(1);
    run.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(NOW - 90)));
    state(&mut run);
    run
}

/// Each status is written over the one before it.
fn counted(states: &[ForecastRun]) -> Metrics {
    let metrics = Metrics::default();
    let mut before: Option<&RunStatus> = None;
    for state in states {
        let after = state.status.as_ref().unwrap();
        metrics.count_status("ForecastRun", &state.metadata, before, after);
        before = Some(after);
    }
    metrics
}

#[test]
fn run_counts_its_attempts_and_its_end_once() {
    let metrics =
        counted(&[run(testing::repeated), run(testing::repeated), run(testing::dead), run(testing::dead)]);
    assert_eq!(
        lines(
            &metrics,
            &["mlop_attempts_total", "mlop_condition", "mlop_run_seconds_count", "mlop_run_seconds_sum"]
        ),
        [
            r#"mlop_attempts_total{kind="ForecastRun",result="UserError"} 3"#,
            r#"mlop_condition_transitions_total{kind="ForecastRun",condition="Succeeded",status="False",reason="UserError"} 1"#,
            r#"mlop_condition_transitions_total{kind="ForecastRun",condition="Succeeded",status="Unknown",reason="Running"} 1"#,
            r#"mlop_run_seconds_count{kind="ForecastRun",result="UserError"} 1"#,
            r#"mlop_run_seconds_sum{kind="ForecastRun",result="UserError"} 90.0"#,
        ]
    );
}

#[test]
fn attempt_after_a_failure_counts_as_a_success() {
    let metrics = counted(&[run(testing::repeated), {
        let mut done = run(testing::repeated);
        testing::succeeded(&mut done);
        done.status.as_mut().unwrap().attempts = 2;
        done
    }]);
    assert_eq!(
        lines(&metrics, &["mlop_attempts_total"]),
        [
            r#"mlop_attempts_total{kind="ForecastRun",result="Succeeded"} 1"#,
            r#"mlop_attempts_total{kind="ForecastRun",result="UserError"} 1"#,
        ]
    );
}

#[test]
fn hand_offs_are_counted_by_edge() {
    let metrics = Metrics::default();
    let handover = |seconds| Handover { from: "Dataset".to_owned(), produced_at: at(NOW - seconds) };
    // The clock of the operator upstream may be ahead.
    for seconds in [2, 3, -1] {
        metrics.handed_over(&handover(seconds), "TrainingRun", at(NOW));
    }
    assert_eq!(
        lines(&metrics, &["mlop_hand_off_seconds_count", "mlop_hand_off_seconds_sum"]),
        [
            r#"mlop_hand_off_seconds_count{from="Dataset",to="TrainingRun"} 3"#,
            r#"mlop_hand_off_seconds_sum{from="Dataset",to="TrainingRun"} 5.0"#,
        ]
    );
}

#[test]
fn objects_are_counted_as_they_are_now() {
    let (metrics, cache) = (Metrics::default(), Arc::new(Cache::default()));
    metrics.count_objects("ForecastRun".to_owned(), Arc::clone(&cache));
    let objects = || lines(&metrics, &["mlop_objects{", "mlop_dead_letters{"]);
    let count = |status: &str, reason: &str| {
        format!(
            r#"mlop_objects{{kind="ForecastRun",condition="Succeeded",status="{status}",reason="{reason}"}} 1"#
        )
    };
    let dead_letters = r#"mlop_dead_letters{kind="ForecastRun"} 0"#.to_owned();
    cache.put(run(testing::repeated));
    assert_eq!(objects(), [dead_letters.clone(), count("Unknown", "Running")]);
    cache.put({
        let mut later = run(testing::succeeded);
        later.metadata.resource_version = Some("9".to_owned());
        later
    });
    assert_eq!(objects(), [dead_letters, count("True", "Succeeded")], "no state of the past");
}
