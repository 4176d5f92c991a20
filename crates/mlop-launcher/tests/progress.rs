//! Progress that a command reports, through its whole attempt.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::common::Metric;
use support::Run;

#[tokio::test]
async fn last_progress_is_part_of_the_result_and_the_series_is_stored() {
    let run = Run::new();
    let script = r#"for step in 1 2 3; do echo "{\"step\": $step, \"of\": 3, \"loss\": 0.$step}" >> $MLOP_PROGRESS; done
        echo oops >> $MLOP_PROGRESS; echo 1 > $MLOP_OUTPUT/model"#;
    let (document, _) = run.attempt(script).await;
    let progress = document.progress.unwrap();
    assert_eq!((progress.attempt, progress.step, progress.of), (1, Some(3), Some(3)));
    assert_eq!((progress.metrics, progress.eta_seconds), (vec![Metric::new("loss", 0.3)], None));
    let series = run.store.get("series/uid-1/1.ndjson", 1 << 20).await.unwrap();
    let series = String::from_utf8(series.to_vec()).unwrap();
    assert_eq!(series.lines().count(), 3, "{series}");
    assert!(series.lines().last().unwrap().contains(r#""loss":0.3,"step":3"#), "{series}");
}

#[tokio::test]
async fn failed_attempt_reports_its_progress() {
    let run = Run::new();
    let script = r#"printf '{"step": 7}' >> $MLOP_PROGRESS; exit 3"#;
    let (document, _) = run.attempt(script).await;
    assert!(document.error.is_some());
    assert_eq!(document.progress.and_then(|progress| progress.step), Some(7));
}

#[tokio::test]
async fn command_without_progress_stores_no_series() {
    let run = Run::new();
    let (document, _) = run.attempt("echo 1 > $MLOP_OUTPUT/model").await;
    assert_eq!(document.progress, None);
    assert!(!run.keys().await.iter().any(|key| key.starts_with("series/")));
}

#[tokio::test]
async fn progress_that_leads_elsewhere_is_not_read() {
    let run = Run::new();
    let script = r#"echo '{"step": 9}' > /tmp/mlop-elsewhere-$$; ln -s /tmp/mlop-elsewhere-$$ $MLOP_PROGRESS
        echo 1 > $MLOP_OUTPUT/model"#;
    let (document, _) = run.attempt(script).await;
    assert_eq!((document.error, document.progress), (None, None));
}
