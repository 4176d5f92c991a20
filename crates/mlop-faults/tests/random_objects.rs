//! Random custom resources of every kind that users write, through admission to all operators.
//!
//! `MLOP_RANDOM_OBJECTS` says how many there are of each kind; an optimised build has time for 10,000.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test bed fails as tests do")]

use mlop_faults::generate;

fn check(kind: &str, admitted_percent: usize) {
    let count = std::env::var("MLOP_RANDOM_OBJECTS").map_or(250, |text| text.parse().unwrap());
    let report = generate::check(kind, count, 1).unwrap();
    println!("{kind}: {} of {} were admitted", report.admitted, report.generated);
    assert!(
        report.problems.is_empty(),
        "{} problems, the first: {:#?}",
        report.problems.len(),
        &report.problems[..report.problems.len().min(5)]
    );
    assert_eq!(report.generated, count);
    assert!(report.admitted * 100 >= count * admitted_percent, "only {} were admitted", report.admitted);
}

macro_rules! kinds {
    ($($test:ident: $kind:literal, $percent:literal;)+) => {
        $(#[test] fn $test() { check($kind, $percent); })+

        #[test]
        fn every_kind_has_its_test() {
            assert!(generate::names().eq([$($kind),+]));
        }
    };
}
kinds! {
    object_stores: "ObjectStore", 40;
    datasets: "Dataset", 40;
    feature_stores: "FeatureStore", 40;
    feature_views: "FeatureView", 40;
    training_jobs: "TrainingJob", 40;
    tracking_servers: "TrackingServer", 40;
    models: "Model", 40;
    model_deployments: "ModelDeployment", 40;
}

#[test]
fn the_same_seed_makes_the_same_objects() {
    let admitted = |seed| generate::check("Dataset", 200, seed).unwrap().admitted;
    assert_eq!(admitted(7), admitted(7));
}
