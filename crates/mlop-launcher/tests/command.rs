//! The launcher and the agent over a real socket, around real processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{Reason, preflight::Check, task::Provenance};
use mlop_artifact::manifest::{self, TreeManifest};
use rustix::process::Signal;
use std::{os::unix::fs::PermissionsExt, time::Duration};
use support::{Pod, Run, ended, failure, signal};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
};

#[tokio::test]
async fn output_of_the_command_becomes_the_artifact() {
    let run = Run::new();
    let script = r#"
        mkdir "$MLOP_OUTPUT/model" && cat train.py > "$MLOP_OUTPUT/model/weights"
        echo "{\"auc\": 0.71, \"loss\": NaN, \"per_class\": {}, \"lr\": $MLOP_HP_LEARNING_RATE}" > "$MLOP_OUTPUT/metrics.json"
        echo trained"#;
    let (document, launcher) = run.attempt(script).await;
    assert_eq!(document.error, None);
    assert_eq!((launcher.status.code(), launcher.stdout), (Some(0), b"trained\n".to_vec()));
    let metrics: Vec<_> = document.metrics.iter().map(|m| (m.name.as_str(), m.value.as_str())).collect();
    assert_eq!(metrics, [("auc", "0.71"), ("loss", "NaN"), ("lr", "0.1")]);
    let summary = document.summary.unwrap();
    assert!(summary.starts_with("auc=0.71, loss=NaN, lr=0.1, 2 files, "), "{summary}");
    assert!(document.notes[0].contains("\"per_class\" (an object)"), "{:?}", document.notes);

    let tree: TreeManifest = manifest::read(&run.store, &document.digest.unwrap()).await.unwrap();
    let files: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["metrics.json", "model/weights"]);
    assert_eq!(tree.provenance, Provenance::from(&run.work));
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let run = Run::new();
    let pod = run.pod().await;
    let script = r#"for a; do printf '%s\n' "$a"; done > "$MLOP_OUTPUT/arguments""#;
    let arguments = ["$(MLOP_SEED)", "--help", "-", "a  b", "", "*", "`id`", "é\"'\\"];
    let (document, _) = pod.attempt(&[&["sh", "-c", script, "sh"], &arguments[..]].concat()).await;
    assert_eq!(document.error, None);
    let seen = std::fs::read_to_string(pod.layout.output().join("arguments")).unwrap();
    assert_eq!(seen, arguments.map(|argument| format!("{argument}\n")).concat());
}

#[tokio::test]
async fn hyperparameter_has_no_variable_when_its_case_decides() {
    let mut run = Run::new();
    let both = [("rate", "1"), ("RATE", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    run.work.content.hyperparameters.extend(both);
    let script = r#"echo "${MLOP_HP_RATE-none} $MLOP_HP_LEARNING_RATE"; cp "$MLOP_HYPERPARAMETERS" "$MLOP_OUTPUT/all""#;
    let (document, launcher) = run.attempt(script).await;
    assert_eq!((document.error, launcher.stdout), (None, b"none 0.1\n".to_vec()));
    let told = String::from_utf8(launcher.stderr).unwrap();
    assert!(told.contains("MLOP_HP_RATE is not set"), "{told}");
}

#[tokio::test]
async fn failure_has_the_last_lines() {
    let script = "for i in $(seq 30); do echo line-$i >&2; done; echo bad value >&2; exit 3";
    let (document, launcher) = Run::new().attempt(script).await;
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::UserError, true));
    assert!(failure.message.starts_with("exit code 3: bad value (after: line-12 | "), "{}", failure.message);
    assert!(failure.message.ends_with(" | line-30)"), "{}", failure.message);
    assert_eq!(launcher.status.code(), Some(3));
}

#[tokio::test]
async fn both_streams_are_quoted_and_passed_on() {
    let (document, launcher) = Run::new().attempt("echo out; echo err >&2; exit 1").await;
    let message = failure(&document).message;
    assert!(message.contains("out") && message.contains("err"), "{message}");
    assert_eq!((launcher.stdout.as_slice(), launcher.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
}

#[tokio::test]
async fn missing_command_is_named() {
    let run = Run::new();
    let (document, launcher) = run.pod().await.attempt(&["no-such-program", "x"]).await;
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::UserError, false));
    assert!(
        failure.message.contains("the command no-such-program cannot be started: No such file"),
        "{}",
        failure.message
    );
    assert_eq!(launcher.status.code(), Some(127));

    let pod = run.pod().await;
    std::fs::set_permissions(pod.layout.work().join("train.py"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    let (document, launcher) = pod.attempt(&["./train.py"]).await;
    assert!(support::failure(&document).message.contains("Permission denied"));
    assert_eq!(launcher.status.code(), Some(126));
}

#[tokio::test]
async fn command_starts_only_on_working_gpus() {
    // It is the first on the path, whatever this machine has.
    let programs = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let rows = [
        ("echo 'GPU 0: A100 (UUID: GPU-1)'", &["--gpus=2"][..], None, Some(0)),
        ("echo 'no driver'; exit 9", &["--gpus=2"], Some(Check::Gpu), Some(124)),
        ("echo 'no driver'; exit 9", &[], None, Some(0)),
    ];
    for (program, options, check, code) in rows {
        let file = programs.path().join("nvidia-smi");
        std::fs::write(&file, format!("#!/bin/sh\n{program}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = Run::new();
        let pod = run.pod().await;
        let mut launcher = pod.launcher(options, &["sh", "-c", "echo 1 > $MLOP_OUTPUT/model"]);
        let launcher = launcher.env("PATH", &path).spawn().unwrap();
        let document = pod.agent().await;
        assert_eq!(ended(launcher).await.status.code(), code, "{program} {options:?}");
        assert_eq!(pod.layout.output().join("model").exists(), check.is_none(), "{program} {options:?}");
        let failure = document.error.clone();
        assert_eq!(failure.as_ref().and_then(|failure| failure.preflight), check, "{document:?}");
        let words = failure.map(|failure| failure.message).unwrap_or_default();
        assert_eq!(
            words.contains("nvidia-smi -L ended with exit status: 9: no driver"),
            check.is_some(),
            "{words}"
        );
    }
}

#[tokio::test]
async fn deadline_counts_from_the_first_container() {
    let mut run = Run::new();
    run.work.deadline_seconds = Some(3_600);
    let pod = run.pod().await;
    let started = std::fs::File::options().write(true).open(pod.layout.started()).unwrap();
    let earlier = started.metadata().unwrap().modified().unwrap() - Duration::from_secs(3_598);
    started.set_modified(earlier).unwrap();
    let (document, _) = pod.attempt(&["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]).await;
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::DeadlineExceeded, false), "{}", failure.message);
}

#[tokio::test]
async fn killed_command_is_a_user_error() {
    let (document, launcher) = Run::new().attempt("kill -9 $$").await;
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::UserError, true));
    assert!(failure.message.contains("signal 9"), "{}", failure.message);
    assert_eq!(launcher.status.code(), Some(137));
}

#[tokio::test]
async fn killed_launcher_is_a_lost_container() {
    let run = Run::new();
    let pod = run.pod().await;
    let mut launcher = pod.launch(&["sh", "-c", "echo $$ > ../started; exec sleep 60"]);
    let (document, ()) = tokio::join!(pod.agent(), async {
        pod.made("started").await;
        launcher.kill().await.unwrap();
    });
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::PodLost, true), "{}", failure.message);
    // In a pod it ends with its container.
    let orphan = std::fs::read_to_string(pod.path("started")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(orphan).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn empty_output_is_an_error() {
    let (document, _) = Run::new().attempt("mkdir $MLOP_OUTPUT/empty").await;
    let failure = failure(&document);
    assert_eq!(failure.reason, Reason::UserError);
    assert!(failure.message.contains("left nothing in $MLOP_OUTPUT"), "{}", failure.message);
}

#[tokio::test]
async fn links_out_of_the_output_are_never_followed() {
    let run = Run::new();
    for script in ["ln -s /etc/hostname $MLOP_OUTPUT/key", "rm -r $MLOP_OUTPUT; ln -s /etc $MLOP_OUTPUT"] {
        let (document, _) = run.attempt(script).await;
        assert!(document.error.is_some(), "{script}");
    }
    assert_eq!(run.keys().await, [""; 0]);
}

#[tokio::test]
async fn odd_entries_are_skipped_and_named() {
    let run = Run::new();
    let script = r#"
        cd "$MLOP_OUTPUT"; mkdir v3; echo w > v3/weights; ln -s v3 latest; ln -s "$MLOP_OUTPUT/v3/weights" model
        ln -s gone broken; ln -s /etc/hostname out; mkfifo pipe"#;
    let (document, _) = run.attempt(script).await;
    assert_eq!(document.error, None);
    let tree: TreeManifest = manifest::read(&run.store, &document.digest.unwrap()).await.unwrap();
    let files: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["latest/weights", "model", "v3/weights"]);
    let skipped: Vec<_> = tree.skipped.iter().map(|skipped| skipped.path.as_str()).collect();
    assert_eq!(skipped, ["broken", "out", "pipe"]);
    let skipped = "skipped: \"broken\" is a link that leads to nothing, \"out\"";
    assert!(document.notes[0].contains(skipped), "{:?}", document.notes);
}

#[tokio::test]
async fn finished_output_survives_a_store_that_is_away() {
    for refuses in [false, true] {
        let (run, outage) = Run::with_outage();
        let pod = run.pod().await;
        let script =
            "echo w > $MLOP_OUTPUT/model; touch ../started; while [ ! -e ../go ]; do sleep 0.01; done";
        let launcher = pod.launch(&["sh", "-c", script]);
        let (document, ()) = tokio::join!(pod.agent(), async {
            pod.made("started").await;
            if refuses {
                outage.refuse(20)
            } else {
                outage.leave_unanswered(20)
            }
            std::fs::write(pod.path("go"), "").unwrap();
        });
        assert_eq!((document.error, outage.left()), (None, 0));
        assert_eq!(ended(launcher).await.status.code(), Some(0));
        let keys = run.keys().await;
        assert!(keys.contains(&"results/uid-1.json".to_owned()), "{keys:?}");
    }
}

#[tokio::test]
async fn working_directory_stays_when_there_is_no_code() {
    let mut run = Run::new();
    run.work.content.code.clear();
    let (document, launcher) = run.attempt("pwd; echo 1 > $MLOP_OUTPUT/model").await;
    assert_eq!(document.error, None);
    let directory = format!("{}\n", std::env::current_dir().unwrap().display());
    assert_eq!(String::from_utf8(launcher.stdout).unwrap(), directory);
}

#[tokio::test]
async fn sigterm_goes_to_the_main_process_only() {
    let run = Run::new();
    let pod = run.pod().await;
    // A loader that dies of SIGTERM would make the main process fail while it saves.
    let script = r#"sleep 60 & loader=$!
        trap 'kill -0 $loader && mkdir -p $MLOP_CHECKPOINT/5 && echo s > $MLOP_CHECKPOINT/5/state; exit 0' TERM
        touch ../started; while :; do sleep 0.1; done"#;
    let launcher = pod.launch(&["bash", "-c", script]);
    let (document, ()) = tokio::join!(pod.agent(), async {
        pod.made("started").await;
        pod.leave();
        signal(&launcher, Signal::TERM);
    });
    assert_eq!(document.checkpoint.and_then(|saved| saved.step), Some(5));
    ended(launcher).await;
}

#[tokio::test]
async fn program_below_a_shell_may_save_too() {
    let run = Run::new();
    let pod = run.pod().await;
    let program =
        "trap 'echo s > $MLOP_CHECKPOINT/6; exit 0' TERM; touch ../started; while :; do sleep 0.1; done";
    let launcher = pod.launch(&["sh", "-c", "bash -c \"$1\"; true", "sh", program]);
    let (document, ()) = tokio::join!(pod.agent(), async {
        pod.made("started").await;
        pod.leave();
        signal(&launcher, Signal::TERM);
    });
    assert_eq!(document.checkpoint.and_then(|saved| saved.step), Some(6));
    ended(launcher).await;
}

#[tokio::test]
async fn finished_run_is_only_reported_again() {
    let run = Run::new();
    let (first, _) = run.attempt("echo 1 > $MLOP_OUTPUT/model").await;
    let pod = run.pod().await;
    let launcher = pod.launch(&["sh", "-c", "touch ../started"]);
    assert_eq!(ended(launcher).await.status.code(), Some(0));
    assert_eq!(pod.agent().await, first);
    assert!(!pod.path("started").exists());
}

#[tokio::test]
async fn command_may_save_when_its_deadline_is_over() {
    let mut run = Run::new();
    run.work.deadline_seconds = Some(1);
    let script = "trap 'echo s > $MLOP_CHECKPOINT/4; echo saved; exit 0' TERM; while :; do sleep 0.1; done";
    let (document, _) = run.attempt(script).await;
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::DeadlineExceeded, true));
    assert!(failure.message.ends_with("saved"), "{}", failure.message);
    assert_eq!(document.checkpoint.and_then(|saved| saved.step), Some(4));
}

#[tokio::test]
async fn checkpoint_is_saved_when_the_pod_must_go() {
    let run = Run::new();
    let pod = run.pod().await;
    let script =
        "trap 'echo s > $MLOP_CHECKPOINT/7; exit 0' TERM; touch ../started; while :; do sleep 0.1; done";
    let launcher = pod.launch(&["sh", "-c", script]);
    let (document, ()) = tokio::join!(pod.agent(), async {
        pod.made("started").await;
        pod.leave();
        signal(&launcher, Signal::TERM);
    });
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.retryable), (Reason::PodLost, true), "{}", failure.message);
    assert_eq!(document.checkpoint.and_then(|saved| saved.step), Some(7));
    assert_eq!(ended(launcher).await.status.code(), Some(0));
}

#[tokio::test]
async fn command_is_ended_when_its_agent_is_gone() {
    let run = Run::new();
    let pod = run.pod().await;
    let agent = UnixListener::bind(pod.layout.socket()).unwrap();
    let launcher = pod.launch(&["sh", "-c", "touch ../started; exec sleep 60"]);
    let (connection, _) = agent.accept().await.unwrap();
    pod.made("started").await;
    drop(connection);
    assert_eq!(ended(launcher).await.status.code(), Some(128 + 15));
}

#[tokio::test]
async fn orphans_of_the_command_do_not_delay_the_report() {
    let (document, _) = Run::new().attempt("echo 1 > $MLOP_OUTPUT/model; sleep 300 & exit 0").await;
    assert_eq!(document.error, None);
}

#[tokio::test]
async fn nonsense_from_the_other_side_is_no_result() {
    let run = Run::new();
    let long = vec![b'x'; 1 << 20];
    for nonsense in [b"{\"end\":{\"exitCode\":\"0\"}}\n".as_slice(), b"\xff\n", &long] {
        let pod = Pod::new(&run);
        pod.fetch().await.unwrap();
        let (document, ()) = tokio::join!(pod.agent(), async {
            pod.made("run/agent.sock").await;
            let mut launcher = loop {
                match UnixStream::connect(pod.layout.socket()).await {
                    Ok(launcher) => break launcher,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            // The agent may have turned away in the middle.
            let _refused = launcher.write_all(nonsense).await;
        });
        assert_eq!(failure(&document).reason, Reason::PodLost);
    }
}
