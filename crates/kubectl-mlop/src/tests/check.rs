//! Files as `kubectl mlop check` sees them.

use crate::check::{documents, findings};
use expect_test::expect_file;
use std::{fs, path::Path};

/// The findings, one a line.
fn checked(text: &str) -> String {
    findings(&documents("f.yaml", text).unwrap()).iter().map(|finding| format!("{finding}\n")).collect()
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn shipped_pipelines_have_no_findings_besides_secrets() {
    for name in ["flights.yaml", "visits.yaml"] {
        let text = fs::read_to_string(repository().join("e2e/pipelines").join(name)).unwrap();
        let found: Vec<_> =
            findings(&documents(name, &text).unwrap()).into_iter().filter(|it| it.is_error).collect();
        assert_eq!(found, [], "{name}");
    }
    let flights = fs::read_to_string(repository().join("e2e/pipelines/flights.yaml")).unwrap();
    assert_eq!(checked(&flights), "");
}

#[test]
fn mistakes_of_a_file_are_named_with_their_fields() {
    expect_file!["golden/check.txt"].assert_eq(&checked(include_str!("cases/mistakes.yaml")));
}

#[test]
fn objects_that_the_kinds_accept_are_accepted() {
    let directory = repository().join("crates/mlop-api/tests/accepted");
    for entry in fs::read_dir(directory).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let errors: Vec<_> = findings(&documents("f", &text).unwrap())
            .into_iter()
            .filter(|finding| finding.is_error)
            .collect();
        assert_eq!(errors, [], "{text}");
    }
}

#[test]
fn text_that_is_not_yaml_is_an_error() {
    assert!(documents("f.yaml", "a: [").is_err());
    assert_eq!(
        checked("a: 1"),
        "f.yaml: error: /(without a name): not a Kubernetes object: apiVersion or kind is missing\n"
    );
}
