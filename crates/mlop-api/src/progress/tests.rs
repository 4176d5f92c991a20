use super::*;
use serde_json::{from_value, json};

fn report(step: u64, loss: f64) -> Report {
    Report {
        attempt: 1,
        step: Some(step),
        of: Some(1_000),
        metrics: vec![Metric::new("loss", loss)],
        ..Report::default()
    }
}

#[test]
fn line_reads_back_from_the_end_of_a_log() {
    let line = report(120, 0.41).to_line();
    assert_eq!(
        line,
        r#"{"mlopProgress":{"attempt":1,"step":120,"of":1000,"metrics":[{"name":"loss","value":"0.41"}]}}"#
    );
    let log = format!(
        "{}\n{line}\n{{\"level\":\"INFO\",\"message\":\"checkpoint saved\"}}\n",
        report(1, 9.0).to_line()
    );
    assert_eq!(Report::last_of(&log), Some(report(120, 0.41)));
}

#[test]
fn other_lines_are_no_reports() {
    let long = format!("{{\"mlopProgress\":{{\"step\":1,\"x\":\"{}\"}}}}", "x".repeat(LINE_BYTES_MAX));
    for line in [
        "",
        "step 3",
        "{\"mlopProgress\":",
        "{\"mlopProgress\":{\"step\":-1}}",
        "{\"mlopProgress\":{\"step\":1e99}}",
        "{\"mlopProgress\":null}",
        "{\"message\":\"x\",\"mlopProgress\":{\"step\":1}}",
        " {\"mlopProgress\":{\"step\":1}}",
        &long,
    ] {
        assert_eq!(Report::last_of(line), None, "{line}");
    }
}

#[test]
fn report_is_cut_to_the_limits_of_a_status() {
    let metric = |name: &str, value: &str| Metric { name: name.to_owned(), value: value.to_owned() };
    let mut hostile = report(u64::MAX, 0.5);
    hostile.metrics = vec![
        metric("a\u{7f}", "NaN"),
        metric(&"n".repeat(NAME_CHARS_MAX + 1), "1"),
        metric("", "1"),
        metric("text", "four"),
        metric("v", &"1".repeat(VALUE_CHARS_MAX + 1)),
    ];
    hostile.metrics.extend((0..40).map(|i| metric(&format!("{i} {}", "é".repeat(50)), "1.5")));
    let line = hostile.to_line();
    assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
    let read = Report::last_of(&line).unwrap();
    assert_eq!((read.step, read.of), (None, Some(1_000)));
    assert_eq!(read.metrics[0], metric("a\\u{7f}", "NaN"));
    assert!(read.metrics[1].name.starts_with("0 é"), "{read:?}");
    assert!(hostile.fitted().metrics.len() <= METRICS_MAX);
}

#[test]
fn progress_shows_a_report() {
    let at = Time::from(jiff::Timestamp::UNIX_EPOCH);
    let told = Report { eta_seconds: Some(754), epoch: Some(3), ..report(120, 0.41) };
    let progress = Progress::of(&told, at);
    assert!(progress.shows(&told) && !progress.shows(&report(120, 0.41)));
    assert_eq!(
        json!(progress),
        json!({
            "attempt": 1, "step": 120, "of": 1_000, "steps": "120/1000", "epoch": 3, "eta": "13m",
            "metrics": [{"name": "loss", "value": "0.41"}], "at": "1970-01-01T00:00:00.000000Z",
        })
    );
    let unknown = Progress::of(&Report { of: None, ..report(7, 1.0) }, at);
    assert_eq!((unknown.steps.as_deref(), unknown.eta), (Some("7"), None));
}

#[test]
fn times_left_have_a_readable_unit() {
    for (seconds, shown) in [
        (0, None),
        (1, Some("1s")),
        (599, Some("599s")),
        (600, Some("10m")),
        (35_999, Some("600m")),
        (36_000, Some("10h")),
        (u64::MAX, None),
    ] {
        assert_eq!(rounded(seconds).map(|span| span.to_string()).as_deref(), shown, "{seconds}");
    }
}

#[test]
fn curve_is_thinned_evenly_and_keeps_its_ends() {
    let mut series = Vec::new();
    for step in 0..10_000 {
        extend(&mut series, &report(step, 1.0 / f64::from(u32::try_from(step).unwrap() + 1)));
    }
    let points = series[0].parsed();
    assert_eq!((points.len(), points[0], points[POINTS_MAX - 1].0), (POINTS_MAX, (0, 1.0), 9_999));
    let widest = points.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap();
    assert!(widest <= 4 * 10_000 / 64, "{widest}: {points:?}");
    assert!(series[0].points.len() <= 2_048);
}

#[test]
fn curve_goes_back_with_an_attempt_that_starts_from_a_checkpoint() {
    let mut series = Vec::new();
    for (step, loss) in [(10, 3.0), (20, 2.0), (30, 1.0), (20, 2.5)] {
        extend(&mut series, &report(step, loss));
    }
    assert_eq!(series, [Series { name: "loss".into(), points: "10:3 20:2.5".into() }]);
}

#[test]
fn few_metrics_have_curves_and_the_loss_is_one_of_them() {
    let metrics = ["a", "b", "c", "d", "loss"].map(|name| Metric::new(name, 0.5)).to_vec();
    let mut series = Vec::new();
    extend(
        &mut series,
        &Report { step: None, epoch: Some(2), metrics: metrics.clone(), ..Report::default() },
    );
    let names: Vec<_> = series.iter().map(|curve| curve.name.as_str()).collect();
    assert_eq!((names, series[0].points.as_str()), (vec!["loss", "a", "b", "c"], "2:0.5"));
    extend(&mut series, &Report { metrics, ..Report::default() });
    assert_eq!(series[0].points, "2:0.5", "without a step or an epoch there is no place for it");
    extend(&mut series, &report(3, f64::NAN));
    assert_eq!(series[0].points, "2:0.5");
}

#[test]
fn largest_curve_fits_the_schema() {
    let points: Vec<_> = (0..64).map(|i| (STEP_MAX - 64 + i, -1.234_567e-300)).collect();
    assert!(Series::of("x", &points).points.len() <= 2_048);
}

#[test]
fn values_of_curves_are_short() {
    for (value, text) in [
        (0.0, "0"),
        (0.25, "0.25"),
        (2.345_678, "2.3457"),
        (1e-5, "1.000e-5"),
        (123_456.789, "123456.789"),
        (1e9, "1.000e9"),
    ] {
        assert_eq!(short(value), text);
    }
}

#[test]
fn checkpoint_of_an_earlier_release_is_a_number() {
    let number: Checkpoint = from_value(json!(5)).unwrap();
    assert_eq!((number.number(), json!(number)), (Some(5), json!({"sequence": 5})));
    let whole = json!({"sequence": 2, "size": 10});
    let read: Checkpoint = from_value(whole.clone()).unwrap();
    assert_eq!((read.number(), json!(read)), (Some(2), whole));
}
