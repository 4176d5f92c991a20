//! A training pod in a temporary directory: the launcher is the real program, the store is in memory.

#![allow(dead_code, reason = "each test file uses its part")]

use mlop_api::{
    Digest,
    preflight::Needs,
    result::{Failure, ResultDocument},
    task::{Store, Subject, TrainWork},
    training::TrainingContent,
};
use mlop_artifact::{
    patience::Patience,
    store::{ObjectStoreHandle, Outage},
};
use mlop_launcher::{Layout, agent::Agent, fetch};
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// No test takes this long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What outlives a pod: the run and the store.
pub struct Run {
    pub store: ObjectStoreHandle,
    pub subject: Subject,
    pub work: TrainWork,
}

impl Run {
    pub fn new() -> Self {
        let store = ObjectStoreHandle::in_memory("models");
        let work = TrainWork {
            inputs: Vec::new(),
            output: store.store().clone(),
            content: TrainingContent {
                code: [("train.py".to_owned(), "print(1)".to_owned())].into(),
                hyperparameters: [("learning_rate".to_owned(), "0.1".to_owned())].into(),
                seed: 42,
                ..TrainingContent::default()
            },
            input_digest: Digest::of_bytes(b"i"),
            ancestors: Vec::new(),
            deadline_seconds: None,
            grace_seconds: None,
            size: None,
            needs: Needs::default(),
        };
        let subject = Subject {
            kind: "TrainingRun".into(),
            namespace: "demo".into(),
            name: "delay-0123456789ab".into(),
            uid: "uid-1".into(),
            attempt: 1,
        };
        Self { store, subject, work }
    }

    /// A run whose store can go away, and is asked again at once.
    pub fn with_outage() -> (Self, Outage) {
        let (run, outage, moment) = (Self::new(), Outage::default(), Duration::from_millis(1));
        let patience = Patience { total: PATIENCE, shortest: moment, longest: moment };
        let store = run.store.behind(&outage).with_patience(patience);
        (Self { store, ..run }, outage)
    }

    pub async fn keys(&self) -> Vec<String> {
        use futures::TryStreamExt;
        let mut keys: Vec<String> =
            self.store.list("").map_ok(|entry| entry.key).try_collect().await.unwrap();
        keys.sort();
        keys
    }

    /// A pod of this run, its inputs fetched.
    pub async fn pod(&self) -> Pod<'_> {
        let pod = Pod::new(self);
        pod.fetch().await.unwrap();
        pod
    }

    /// A whole attempt of a shell script: its result, and the output of the launcher's process.
    pub async fn attempt(&self, script: &str) -> (ResultDocument, Output) {
        let pod = self.pod().await;
        pod.attempt(&["sh", "-c", script]).await
    }
}

pub struct Pod<'a> {
    run: &'a Run,
    pub directory: TempDir,
    pub layout: Layout,
    /// The pod's rank among those of a distributed training.
    pub rank: u32,
    leaving: watch::Sender<bool>,
}

impl<'a> Pod<'a> {
    pub fn new(run: &'a Run) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::below(directory.path().to_owned());
        Self { run, directory, layout, rank: 0, leaving: watch::channel(false).0 }
    }

    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub async fn fetch(&self) -> Result<ResultDocument, Failure> {
        let open = |_: &Store| Ok(self.run.store.clone());
        fetch::training(&self.layout, &self.run.subject, &self.run.work, &open).await
    }

    pub fn launch(&self, command: &[&str]) -> Child {
        self.launcher(&[], command).spawn().unwrap()
    }

    /// The launcher with these options.
    pub fn launcher(&self, options: &[&str], command: &[&str]) -> Command {
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_mlop-launcher"));
        launcher
            .arg("run")
            .args(options)
            .arg("--")
            .args(command)
            .env("MLOP_ROOT", self.directory.path())
            .env("MLOP_OUTPUT", self.layout.output())
            .env("MLOP_CHECKPOINT", self.layout.checkpoint())
            .env("MLOP_PROGRESS", self.layout.progress())
            .env("MLOP_HYPERPARAMETERS", self.layout.hyperparameters())
            .env("MLOP_ATTEMPT", self.run.subject.attempt.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        launcher
    }

    pub async fn agent(&self) -> ResultDocument {
        let agent = Agent {
            layout: &self.layout,
            subject: &self.run.subject,
            work: &self.run.work,
            store: &self.run.store,
            rank: self.rank,
            leaving: self.leaving.subscribe(),
        };
        timeout(PATIENCE, agent.train()).await.expect("the agent ends")
    }

    /// As SIGTERM tells the agent.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    pub async fn attempt(&self, command: &[&str]) -> (ResultDocument, Output) {
        let launcher = self.launch(command);
        let document = self.agent().await;
        (document, ended(launcher).await)
    }

    /// Waits until the command has made a file.
    pub async fn made(&self, relative: &str) {
        let file = self.path(relative);
        let looked = timeout(PATIENCE, async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        looked.await.unwrap_or_else(|_| panic!("{relative} never appeared"));
    }
}

pub async fn ended(launcher: Child) -> Output {
    timeout(PATIENCE, launcher.wait_with_output()).await.expect("the launcher ends").unwrap()
}

pub fn signal(launcher: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(launcher.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[track_caller]
pub fn failure(document: &ResultDocument) -> Failure {
    document.error.clone().unwrap_or_else(|| panic!("it succeeded: {document:?}"))
}
