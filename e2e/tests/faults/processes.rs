//! The operators' real programs, each killed and started again as a plan wants it.

use crate::control_plane::kubeconfig;
use anyhow::{Context as _, Result, ensure};
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

/// How long a process that died takes to be there again.
const RESTART: Duration = Duration::from_secs(1);

/// Where the operators' programs are: `MLOP_OPERATORS`, else where cargo puts what it builds beside this one.
///
/// # Errors
/// Names the programs that are missing.
pub fn programs() -> Result<PathBuf> {
    let folder = match std::env::var_os("MLOP_OPERATORS") {
        Some(folder) => folder.into(),
        None => std::env::current_exe()?.ancestors().nth(2).context("this program is nowhere")?.to_owned(),
    };
    let missing: Vec<_> =
        OPERATORS.iter().map(|operator| operator.name).filter(|name| !folder.join(name).is_file()).collect();
    ensure!(
        missing.is_empty(),
        "{} not in {}: `cargo xtask faults --real` builds the operators first",
        missing.join(", "),
        folder.display()
    );
    Ok(folder)
}

/// What one process is started with.
pub struct Launch {
    operator: &'static Operator,
    program: PathBuf,
    namespace: String,
    kubeconfig: PathBuf,
    log: PathBuf,
}

impl Launch {
    /// An operator of `namespace` that finds the API server at `port`. Its files are in `folder`.
    pub fn new(
        operator: &'static Operator,
        programs: &Path,
        folder: &Path,
        namespace: &str,
        port: u16,
    ) -> Result<Self> {
        let path = folder.join(format!("{}.conf", operator.name));
        std::fs::write(&path, kubeconfig(&format!("http://127.0.0.1:{port}"), "none"))?;
        Ok(Self {
            operator,
            program: programs.join(operator.name),
            namespace: namespace.to_owned(),
            kubeconfig: path,
            log: folder.join(format!("{}.log", operator.name)),
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

/// Why operators ended by themselves, which none may.
pub type Ended = Arc<Mutex<Vec<String>>>;

/// Runs an operator as long as `tasks` lasts. Whatever comes through the channel that is returned kills it.
pub fn run(launch: Launch, ended: &Ended, tasks: &mut JoinSet<()>) -> mpsc::UnboundedSender<()> {
    let (kill, mut kills) = mpsc::unbounded_channel();
    let ended = Arc::clone(ended);
    tasks.spawn(async move {
        let why = loop {
            match until_it_dies(&launch, &mut kills).await {
                Ok(None) => sleep(RESTART).await,
                Ok(Some(status)) => break format!("{} ended by itself ({status})", launch.operator.name),
                Err(error) => break format!("{error:#}"),
            }
        };
        ended.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    });
    kill
}

/// How it ended, if nobody killed it.
async fn until_it_dies(
    launch: &Launch,
    kills: &mut mpsc::UnboundedReceiver<()>,
) -> Result<Option<ExitStatus>> {
    let mut process = launch.start()?;
    tokio::select! {
        status = process.wait() => Ok(Some(status?)),
        Some(()) = kills.recv() => {
            process.kill().await?;
            Ok(None)
        }
    }
}
