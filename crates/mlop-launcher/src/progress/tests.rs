use super::*;

fn progress(lines: &str) -> (tempfile::TempDir, Progress) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::below(dir.path().to_owned());
    std::fs::write(layout.progress(), lines).unwrap();
    (dir, Progress::new(&layout, 2))
}

#[test]
fn last_values_of_all_lines_count() {
    let (_dir, mut progress) = progress(
        "{\"step\": 1, \"of\": 9, \"loss\": 2}\nnonsense\n{\"val_loss\": 3}\n{\"step\": 2, \"loss\": NaN}",
    );
    let report = progress.end().unwrap();
    let metrics = vec![Metric::new("loss", f64::NAN), Metric::new("val_loss", 3.0)];
    let (step, of) = (Some(2), Some(9));
    assert_eq!(report, Report { attempt: 2, step, of, metrics, ..Report::default() });
    assert_eq!(progress.told.iter().collect::<Vec<_>>(), ["a line is ignored: it is not JSON"]);
}

#[test]
fn command_without_reports_has_no_progress() {
    assert_eq!(progress("").1.end(), None);
    assert_eq!(progress("hello\n{}\n").1.end(), None);
}

#[test]
fn hostile_file_is_bounded_in_memory_and_in_the_log() {
    let mut lines = String::new();
    for i in 0..5_000 {
        lines.push_str(&format!("{{\"step\": {i}, \"metric {i}\": {i}, \"text {i}\": \"x\"}}\n"));
    }
    lines.push_str("{\"step\": 7, \"metric 3\": 0}\n");
    let (_dir, mut progress) = progress(&lines);
    let report = progress.end().unwrap();
    assert_eq!((report.step, report.metrics.len(), progress.told.len()), (Some(7), METRICS_MAX, TOLD_MAX));
    assert!(report.metrics.contains(&Metric::new("metric 3", 0.0)));
    assert!(report.to_line().len() <= mlop_api::progress::LINE_BYTES_MAX);
}
