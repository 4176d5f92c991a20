//! Plans that share their beginning end as they do alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

/// The digest that the harness prints for some plans of every kind.
fn digest(manner: &[&str]) -> String {
    let failures = env!("CARGO_TARGET_TMPDIR");
    let arguments = ["--scenario", "newData", "--every", "400", "--seeds", "12", "--failures", failures];
    let output =
        Command::new(env!("CARGO_BIN_EXE_mlop-faults")).args(arguments).args(manner).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines()
        .find(|line| line.starts_with("digest of all"))
        .expect("the harness prints a digest")
        .to_owned()
}

#[test]
fn plans_end_alike_together_and_alone() {
    assert_eq!(digest(&[]), digest(&["--alone"]));
}
