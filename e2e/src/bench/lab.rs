//! Workers as processes of this machine, beside a real S3 server on loopback. Each program is measured from its start to
//! its end, with the processes that it has started.

use crate::control_plane::{free_ports, on_the_path};
use anyhow::{Context as _, Result, anyhow, ensure};
use mlop_api::{
    Digest,
    dataset::DatasetContent,
    labels,
    preflight::Needs,
    result::ResultDocument,
    task::{ScanWork, Store, Subject, Task, TrainWork, VersionWork, Work},
};
use object_store::{
    ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use wait4::{ResUse, Wait4 as _};

const ID: &str = "mlop-bench";
const SECRET: &str = "mlop-bench-secret";
const REGION: &str = "us-east-1";
/// The bucket of sources, and the one of artifacts.
pub(super) const BUCKETS: [&str; 2] = ["raw", "mlop"];
/// The time limit for the start of the server.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two looks at the memory of a program.
const MEMORY_INTERVAL: Duration = Duration::from_millis(1);

/// A directory, and an S3 server with empty buckets. Dropping it ends the server and deletes all files.
pub(super) struct Lab {
    server: Child,
    endpoint: String,
    directory: TempDir,
    programs: PathBuf,
}

/// What a program has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub seconds: f64,
    /// CPU time of user and system.
    pub cpu_seconds: f64,
    /// Largest resident memory of one process in MiB.
    pub memory: f64,
}

impl Cost {
    pub(super) fn to_json(self) -> Value {
        json!({"seconds": self.seconds, "cpuSeconds": self.cpu_seconds, "memoryMiB": self.memory})
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.3} s {:8.3} CPU s {:6.0} MiB", self.seconds, self.cpu_seconds, self.memory)
    }
}

impl Lab {
    /// Starts the server. `programs` is the directory of the workers' programs.
    ///
    /// # Errors
    /// `minio` is not on the PATH or does not start.
    pub(super) async fn start(programs: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        for bucket in BUCKETS {
            // To MinIO, a bucket is a directory.
            fs::create_dir_all(directory.path().join("s3").join(bucket))?;
            let keys = directory.path().join("stores").join(bucket);
            fs::create_dir_all(&keys)?;
            fs::write(keys.join(labels::ACCESS_KEY_ID), ID)?;
            fs::write(keys.join(labels::SECRET_ACCESS_KEY), SECRET)?;
        }
        let [port] = free_ports().await?;
        let server = Command::new(on_the_path("minio")?)
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
            .arg(directory.path().join("s3"))
            .envs([("MINIO_ROOT_USER", ID), ("MINIO_ROOT_PASSWORD", SECRET), ("MINIO_BROWSER", "off")])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start minio")?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let lab = Self { server, endpoint, directory, programs: programs.to_owned() };
        let end = Instant::now() + START_LIMIT;
        while let Err(error) = lab.bucket(BUCKETS[0])?.put(&Key::from("started"), "".into()).await {
            ensure!(Instant::now() < end, "minio does not answer: {error}");
            sleep(POLL_INTERVAL).await;
        }
        Ok(lab)
    }

    /// A new empty directory.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.path().join(name);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    pub(super) fn bucket(&self, name: &str) -> Result<AmazonS3> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_bucket_name(name)
            .with_region(REGION);
        Ok(builder.with_access_key_id(ID).with_secret_access_key(SECRET).build()?)
    }

    /// A bucket as tasks name it.
    pub(super) fn store(&self, bucket: &str) -> Store {
        Store {
            name: bucket.to_owned(),
            endpoint: self.endpoint.clone(),
            region: REGION.to_owned(),
            bucket: bucket.to_owned(),
            credentials: true,
            ..Store::default()
        }
    }

    /// Creates an object.
    pub(super) async fn put(&self, bucket: &str, key: &str, content: Vec<u8>) -> Result<()> {
        self.bucket(bucket)?.put(&Key::from(key), content.into()).await?;
        Ok(())
    }

    /// One of mlop's programs.
    pub(super) fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// A worker, as its operator would start it for `work`. `name` is that of the run.
    pub(super) fn worker(&self, program: &str, name: &str, kind: &str, work: Work) -> Result<Command> {
        let directory = self.directory(name)?;
        let subject = Subject {
            kind: kind.to_owned(),
            namespace: "bench".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            attempt: 1,
        };
        fs::write(directory.join("task.json"), serde_json::to_vec(&Task { subject, work })?)?;
        let mut command = self.program(program);
        command
            .env("MLOP_TASK_DIR", &directory)
            .env("MLOP_STORES_DIR", self.directory.path().join("stores"))
            .env("MLOP_TERMINATION_LOG", directory.join("result.json"))
            .env("MLOP_ROOT", &directory)
            // Workers empty their scratch directory.
            .env("TMPDIR", &directory)
            .env("RUST_LOG", "warn");
        Ok(command)
    }

    /// The worker of the DatasetVersion `name` from the objects under `prefix`, which are scanned first.
    pub(super) async fn version_worker(
        &self,
        name: &str,
        prefix: &str,
        content: DatasetContent,
    ) -> Result<Command> {
        let [source, output] = BUCKETS.map(|bucket| self.store(bucket));
        let prefix = prefix.to_owned();
        let scan = ScanWork { source: source.clone(), prefix, include: Vec::new(), output: output.clone() };
        let scanned = format!("scan-{name}");
        measure(self.worker("mlop-dataset", &scanned, "Dataset", Work::Scan(scan))?).await?;
        let listing = self.result(&scanned)?.digest.context("the scan reports no digest")?;
        let work = VersionWork { source, listing, content, previous_rows: None, output };
        self.worker("mlop-dataset", name, "DatasetVersion", Work::Version(Box::new(work)))
    }

    /// Makes the version `name`, and returns its result.
    pub(super) async fn version(
        &self,
        name: &str,
        prefix: &str,
        content: DatasetContent,
    ) -> Result<ResultDocument> {
        measure(self.version_worker(name, prefix, content).await?).await?;
        self.result(name)
    }

    /// A container of the training `name`, which has no inputs: the launcher with these arguments.
    pub(super) fn training(&self, name: &str, role: &[&str]) -> Result<Command> {
        let [_, store] = BUCKETS;
        let work = TrainWork {
            inputs: Vec::new(),
            output: self.store(store),
            content: serde_json::from_value(json!({"image": "none", "command": ["none"]}))?,
            input_digest: Digest::of_bytes(name.as_bytes()),
            ancestors: Vec::new(),
            deadline_seconds: None,
            grace_seconds: None,
            size: None,
            needs: Needs::default(),
        };
        let mut command = self.worker("mlop-launcher", name, "TrainingRun", Work::Train(work))?;
        command.args(role);
        Ok(command)
    }

    /// The result that the worker of the run `name` has reported.
    pub(super) fn result(&self, name: &str) -> Result<ResultDocument> {
        let file = self.directory.path().join(name).join("result.json");
        let message = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        ResultDocument::from_message(&message).map_err(|why| anyhow!("{}: {why}", file.display()))
    }

    /// A script of a baseline, with the Python of `MLOP_BENCH_PYTHON`. boto3 finds the server and its keys.
    pub(super) fn python(&self, script: &str) -> Result<Command> {
        let mut command = interpreter("MLOP_BENCH_PYTHON", script)?;
        command.envs([
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_DEFAULT_REGION", REGION),
        ]);
        Ok(command)
    }
}

/// A script, with the Python that the environment variable `python` names.
///
/// # Errors
/// The variable is not set.
pub(super) fn interpreter(python: &str, script: &str) -> Result<Command> {
    let program = std::env::var_os(python).with_context(|| {
        format!("{python} names no Python with the baselines; `cargo xtask bench` sets it")
    })?;
    let mut command = Command::new(program);
    command.args(["-c", script]);
    Ok(command)
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It does not start, or fails.
pub(super) async fn measure(mut command: Command) -> Result<Cost> {
    let name = command.get_program().display().to_string();
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {name}"))?;
    let (used, kibibytes) = spawn_blocking(move || watch(child)).await??;
    ensure!(used.status.success(), "{name}: {}", used.status);
    Ok(Cost {
        seconds: begin.elapsed().as_secs_f64(),
        cpu_seconds: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        memory: kibibytes as f64 / 1024.0,
    })
}

/// Waits for the end. The memory is the last that `/proc` has shown: the kernel's own figure of an ended process includes
/// that of the program that started it.
fn watch(mut child: Child) -> io::Result<(ResUse, u64)> {
    let status = format!("/proc/{}/status", child.id());
    let mut kibibytes = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let shown = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kibibytes = shown.unwrap_or(kibibytes);
        if let Some(used) = child.try_wait4()? {
            return Ok((used, kibibytes));
        }
        std::thread::sleep(MEMORY_INTERVAL);
    }
}
