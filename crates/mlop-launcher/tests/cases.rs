//! Programs as people have them, each with its right outcome.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{
    Reason,
    result::ResultDocument,
    training::{TrainingContent, TrainingJob},
};
use mlop_artifact::manifest::{self, TreeManifest};
use serde_json::{Value, json};
use std::{fs, process::Output};
use support::{Run, failure};

const TRAININGS: &str = include_str!("../../mlop-api/tests/cases/training.yaml");
const REGISTRY: &str = include_str!("../../mlop-api/tests/cases/registry.yaml");

/// A run of the TrainingJob `name`.
fn run_of(yaml: &str, name: &str) -> Run {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let found =
        documents.into_iter().find(|it| it["kind"] == "TrainingJob" && it["metadata"]["name"] == name);
    let job: TrainingJob = serde_json::from_value(found.unwrap()).unwrap();
    let mut run = Run::new();
    run.work.content = TrainingContent::from(&job.spec);
    run
}

/// The command of `run`. The programs are written for an image in which Python has another name.
fn command(run: &Run) -> Vec<&str> {
    run.work.content.command.iter().map(|word| if word == "python" { "python3" } else { word }).collect()
}

/// One attempt in a pod of its own: the result, and the output of the launcher's process.
async fn attempt(run: &Run) -> (ResultDocument, Output) {
    run.pod().await.attempt(&command(run)).await
}

async fn tree(run: &Run, document: &ResultDocument) -> TreeManifest {
    assert_eq!(document.error, None);
    manifest::read(&run.store, document.digest.as_ref().unwrap()).await.unwrap()
}

fn files(tree: &TreeManifest) -> Vec<&str> {
    tree.files.iter().map(|file| file.path.as_str()).collect()
}

#[tokio::test]
async fn b21_programs_that_do_not_start() {
    let run = run_of(TRAININGS, "b21-program");
    let (document, _) = attempt(&run).await;
    let told = failure(&document);
    assert_eq!((told.reason, told.retryable), (Reason::UserError, false));
    let words = format!("the command {} cannot be started", run.work.content.command[0]);
    assert!(told.message.contains(&words), "{}", told.message);
    let (document, launcher) = attempt(&run_of(TRAININGS, "b21-crlf")).await;
    let told = failure(&document);
    assert_eq!(told.reason, Reason::UserError);
    let said = String::from_utf8(launcher.stderr).unwrap();
    assert!(!said.trim().is_empty() && told.message.contains(said.trim()), "{}: {said}", told.message);
}

#[tokio::test]
async fn b24_everything_that_a_directory_can_hold() {
    let usual = ["hard.bin", "latest.bin", "v1/model.bin"];
    for (case, more, skipped) in [
        ("good", None, None),
        ("broken", None, Some("broken")),
        ("directory", Some("latest/model.bin"), None),
        ("outside", None, Some("passwd")),
        ("socket", None, Some("socket")),
        ("name", None, Some("caf")),
    ] {
        let mut run = run_of(TRAININGS, "b24-links");
        run.work.content.hyperparameters.insert("case".to_owned(), case.to_owned());
        let (document, _) = attempt(&run).await;
        let tree = tree(&run, &document).await;
        let mut expected: Vec<_> = usual.into_iter().chain(more).collect();
        expected.sort_unstable();
        assert_eq!(files(&tree), expected, "{case}");
        let size = |path: &str| tree.files.iter().find(|file| file.path == path).unwrap().bytes;
        assert_eq!((size("hard.bin"), size("latest.bin")), (5, 5), "the content of links is kept");
        assert_eq!(tree.skipped.len(), usize::from(skipped.is_some()), "{case}: {:?}", tree.skipped);
        let told = document.notes.join("; ");
        assert!(skipped.is_none_or(|path| told.contains(path)), "{case}: {told}");
    }
}

#[tokio::test]
async fn b24_half_an_output_is_not_published() {
    let mut run = run_of(TRAININGS, "b24-half");
    for number in 1..=3 {
        run.subject.attempt = number;
        let (document, launcher) = attempt(&run).await;
        assert_eq!(launcher.stdout, b"found []\n", "nothing of the attempt before");
        if number < 3 {
            assert_eq!(failure(&document).reason, Reason::UserError);
            assert_eq!(run.keys().await, [""; 0]);
        } else {
            assert_eq!(files(&tree(&run, &document).await), ["part-3.bin"]);
        }
    }
}

#[tokio::test]
async fn b25_values_arrive_as_they_are_written() {
    let mut run = run_of(TRAININGS, "b25");
    let more = [("none", "null"), ("number", "1e3"), ("flag", "true"), ("blank", "")];
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    run.work.content.hyperparameters.extend(more);
    let pod = run.pod().await;
    let (document, _) = pod.attempt(&command(&run)).await;
    tree(&run, &document).await;
    let seen: Value =
        serde_json::from_slice(&fs::read(pod.layout.output().join("seen.json")).unwrap()).unwrap();
    let content = &run.work.content;
    assert_eq!(seen["argv"], json!(content.command[2..]));
    assert_eq!(seen["file"], json!(content.hyperparameters));
    assert_eq!(seen["env"]["MLOP_HP_PRICE"], content.hyperparameters["price"]);
    assert_eq!(seen["env"]["MLOP_HP_QUOTE"], content.hyperparameters["quote"]);
}

#[tokio::test]
async fn b29_metrics_keep_their_names_and_digits() {
    let run = run_of(REGISTRY, "metrics");
    let (document, _) = attempt(&run).await;
    let tree = tree(&run, &document).await;
    let metrics: Vec<_> = tree.metrics.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
    let expected = [
        ("..", "2"),
        ("/", "1"),
        ("AUC", "0.8"),
        ("MAP@k", "0.5"),
        ("MAP_k", "0.9"),
        ("auc", "0.6"),
        ("big", "12345678901234567890"),
        ("f1, macro", "0.7"),
        ("loss", "NaN"),
        ("small", "5e-324"),
        ("tenth", "0.1"),
        ("timing(s)/gen", "1.5"),
        ("worst", "Infinity"),
        ("ünï", "3"),
    ];
    assert_eq!(metrics, expected);
    let told = document.notes.join("; ");
    for ignored in ["\"nested\" (an object)", "\"ok\" (a boolean)", "\"text\" (a text)"] {
        assert!(told.contains(ignored), "{ignored}: {told}");
    }
    assert_eq!(tree.provenance.seed, i64::MIN);
    assert_eq!(tree.provenance.hyperparameters, run.work.content.hyperparameters);
}

#[tokio::test]
async fn b34_files_of_metrics_that_are_none() {
    let begin = "import os
out = os.environ['MLOP_OUTPUT']
write = lambda data: open(out + '/metrics.json', 'wb').write(data)
open(out + '/weights', 'w').write('1')
";
    for (python, metrics, told) in [
        ("write(b'\\xef\\xbb\\xbf{\"auc\": 0.5}')", 1, ""),
        ("write('{\"auc\": 0.5}'.encode('utf-16'))", 0, "not UTF-8"),
        ("write(b'[{\"auc\": 0.5}]')", 0, "a list"),
        ("write(b'{' + b' ' * (2 << 20) + b'}')", 0, "2097154 bytes"),
        ("write(b'{\"auc\": 1e400, \"f1\": 0.5}')", 1, "out of range"),
        ("write(b'')", 0, "not JSON"),
        ("pass", 0, ""),
        ("os.mkdir(out + '/metrics.json')", 0, ""),
    ] {
        let mut run = run_of(REGISTRY, "metrics");
        run.work.content.code.insert("main.py".to_owned(), format!("{begin}{python}\n"));
        let (document, _) = attempt(&run).await;
        assert_eq!(tree(&run, &document).await.metrics.len(), metrics, "{python}");
        let notes = document.notes.join("; ");
        assert!(notes.contains(told) && (told.is_empty() == notes.is_empty()), "{python}: {notes}");
    }
}
