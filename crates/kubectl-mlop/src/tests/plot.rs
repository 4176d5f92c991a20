//! Curves of trainings.

use super::{Case, flights};
use crate::plot::{Plot, html, text};
use expect_test::expect_file;
use serde_json::json;

fn training() -> Case {
    let run = flights().run_of("TrainingJob/delay");
    let loss: Vec<_> = (1..=64).map(|step| format!("{}:{:.4}", step * 10, 2.0 / f64::from(step))).collect();
    let series = json!([
        {"name": "loss", "points": loss.join(" ")},
        {"name": "a<b>\u{1b}", "points": "5:0.5"},
        {"name": "flat", "points": "1:3 2:3"},
    ]);
    let progress = json!({"attempt": 1, "steps": "640/1000", "at": "2026-11-29T12:29:00.000000Z"});
    flights().with(&format!("TrainingRun/{run}"), json!({"status": {"series": series, "progress": progress}}))
}

#[test]
fn curves_of_a_run_are_charts() {
    let plot = Plot::of(&training().snapshot(), "tjob/delay", None).unwrap();
    expect_file!["golden/plot.txt"].assert_eq(&text(&plot));
    expect_file!["golden/plot.html"].assert_eq(&html(&plot));
    let one = Plot::of(&training().snapshot(), &plot.run, Some("flat")).unwrap();
    assert_eq!(one.curves.len(), 1);
}

#[test]
fn plot_without_points_says_what_to_do() {
    let snapshot = training().snapshot();
    let absent = Plot::of(&snapshot, "tjob/delay", Some("auc")).unwrap_err().to_string();
    assert!(absent.ends_with("it has: loss, a<b>\\u{1b}, flat"), "{absent}");
    let silent = Plot::of(&flights().snapshot(), "tjob/delay", None).unwrap_err().to_string();
    assert!(silent.contains("$MLOP_PROGRESS"), "{silent}");
}

#[test]
fn any_points_are_plotted() {
    for points in ["", "x", "1:NaN", "1:1e308 2:-1e308", "18446744073709551615:1 0:2", "5:0", ": :", "1:inf"]
    {
        let run = flights().run_of("TrainingJob/delay");
        let series = json!([{"name": "loss", "points": points}]);
        let case = flights().with(&format!("TrainingRun/{run}"), json!({"status": {"series": series}}));
        if let Ok(plot) = Plot::of(&case.snapshot(), "tjob/delay", None) {
            assert!(text(&plot).contains('└') && html(&plot).contains("<svg"), "{points}");
        }
    }
}
