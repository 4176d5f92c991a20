//! The processes of the operators, which a plan can kill and which then restart.

use anyhow::{Context as _, Result, ensure};
use mlop_e2e::control_plane::kubeconfig;
use mlop_faults::cluster::{OPERATORS, Operator};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};

/// The time from the end of a process to its restart.
const RESTART: Duration = Duration::from_secs(1);

/// The directory of the operators' programs: `MLOP_OPERATORS`, or cargo's output directory of this program.
///
/// # Errors
/// Programs are missing; with their names.
pub fn programs() -> Result<PathBuf> {
    let directory = match std::env::var_os("MLOP_OPERATORS") {
        Some(directory) => directory.into(),
        None => std::env::current_exe()?
            .ancestors()
            .nth(2)
            .context("this program has no output directory")?
            .to_owned(),
    };
    let missing: Vec<_> = OPERATORS
        .iter()
        .map(|operator| operator.name)
        .filter(|name| !directory.join(name).is_file())
        .collect();
    ensure!(
        missing.is_empty(),
        "{} not in {}: `cargo xtask faults --real` builds the operators first",
        missing.join(", "),
        directory.display()
    );
    Ok(directory)
}

/// The command line of one process.
pub struct Launch {
    operator: &'static Operator,
    program: PathBuf,
    namespace: String,
    kubeconfig: PathBuf,
    log: PathBuf,
}

impl Launch {
    /// An operator of `namespace` that connects to the API server at `port`. Its files are in `directory`.
    pub fn new(
        operator: &'static Operator,
        programs: &Path,
        directory: &Path,
        namespace: &str,
        port: u16,
    ) -> Result<Self> {
        let path = directory.join(format!("{}.conf", operator.name));
        std::fs::write(&path, kubeconfig(&format!("http://127.0.0.1:{port}"), "none"))?;
        Ok(Self {
            operator,
            program: programs.join(operator.name),
            namespace: namespace.to_owned(),
            kubeconfig: path,
            log: directory.join(format!("{}.log", operator.name)),
        })
    }

    fn start(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let kinds: Vec<_> =
            self.operator.input_kinds.iter().map(|kind| format!("{kind}.v1alpha1.mlop.dev")).collect();
        let mut command = Command::new(&self.program);
        command
            .args(["--namespaces", &self.namespace, "--input-kinds", &kinds.join(",")])
            .args(["--worker-image", "worker:test", "--health-address", "127.0.0.1:0"])
            .args(["--leader-elect", "false"])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }
}

/// The operators that ended by themselves, which is always a failure, with the reason.
pub type Ended = Arc<Mutex<Vec<String>>>;

/// Runs an operator until `tasks` is dropped. A message on the returned channel kills its process.
pub fn run(launch: Launch, ended: &Ended, tasks: &mut JoinSet<()>) -> mpsc::UnboundedSender<()> {
    let (kill, mut kills) = mpsc::unbounded_channel();
    let ended = Arc::clone(ended);
    tasks.spawn(async move {
        let reason = loop {
            match run_once(&launch, &mut kills).await {
                Ok(None) => sleep(RESTART).await,
                Ok(Some(status)) => break format!("{} ended by itself ({status})", launch.operator.name),
                Err(error) => break format!("{error:#}"),
            }
        };
        ended.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
    });
    kill
}

/// Runs one process. Returns its exit status, or `None` if it was killed.
async fn run_once(launch: &Launch, kills: &mut mpsc::UnboundedReceiver<()>) -> Result<Option<ExitStatus>> {
    let mut process = launch.start()?;
    tokio::select! {
        status = process.wait() => Ok(Some(status?)),
        Some(()) = kills.recv() => {
            process.kill().await?;
            Ok(None)
        }
    }
}
