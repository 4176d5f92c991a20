//! An operator's process: its start, its memory and its CPU time.

use crate::control_plane::{ControlPlane, last_lines};
use anyhow::{Context as _, Result, bail, ensure};
use mlop_api::operators::Operator;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::{Instant, sleep},
};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The time limit for one step of an operator.
const LIMIT: Duration = Duration::from_secs(1800);
/// Clock ticks of `/proc` per second, on every Linux platform.
const TICKS: f64 = 100.0;

/// A running operator. Dropping it kills its process.
pub struct Process {
    child: Child,
    address: String,
    started: Instant,
    log: PathBuf,
}

/// The resources that a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory in MiB.
    pub memory: f64,
    /// Largest resident memory in MiB.
    pub memory_max: f64,
    /// CPU time in seconds, of user and system.
    pub cpu: f64,
}

impl Process {
    /// Starts the program of `operator` in `programs` for one namespace, or for all.
    ///
    /// # Errors
    /// The program does not start.
    pub async fn start(
        operator: &Operator,
        programs: &Path,
        server: &ControlPlane,
        namespace: Option<&str>,
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let log = server.directory().join(format!("{}.log", operator.name));
        let kinds: Vec<_> = operator.inputs.iter().map(|kind| format!("{kind}.v1alpha1.mlop.dev")).collect();
        let file = File::create(&log)?;
        let program = programs.join(operator.name);
        let child = Command::new(&program)
            .args(["--namespaces", namespace.unwrap_or_default(), "--input-kinds", &kinds.join(",")])
            .args(["--worker-image", "worker:test", "--health-address", &format!("127.0.0.1:{port}")])
            .args(["--leader-elect", "false", "--log-level", "warn"])
            .env("KUBECONFIG", server.kubeconfig_of(operator))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, address: format!("http://127.0.0.1:{port}"), started: Instant::now(), log })
    }

    /// Waits until `/readyz` answers 200, and returns the time since the start.
    ///
    /// # Errors
    /// The process has ended, or the time limit has passed.
    pub async fn ready(&mut self) -> Result<Duration> {
        loop {
            let answer = reqwest::get(format!("{}/readyz", self.address)).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(self.started.elapsed());
            }
            self.check()?;
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until at least `reconciles` have ended since the start and no object waits for one. Returns the time since
    /// the start.
    ///
    /// # Errors
    /// The process has ended, or the time limit has passed.
    pub async fn settled(&mut self, reconciles: f64) -> Result<Duration> {
        loop {
            let metrics = self.metrics().await?;
            let total = |name: &str| metrics.get(name).copied().unwrap_or_default();
            if total("mlop_reconcile_total") >= reconciles && total("mlop_workqueue_depth") < 1.0 {
                return Ok(self.started.elapsed());
            }
            self.check()?;
            sleep(POLL_INTERVAL).await;
        }
    }

    /// The metrics by name, summed over their labels.
    ///
    /// # Errors
    /// The process does not answer.
    pub async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let text = reqwest::get(format!("{}/metrics", self.address)).await?.text().await?;
        let mut metrics = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let name = name.split('{').next().unwrap_or_default().to_owned();
            *metrics.entry(name).or_insert(0.0) += value.parse::<f64>().unwrap_or_default();
        }
        Ok(metrics)
    }

    /// The resources used since the start.
    ///
    /// # Errors
    /// The process has ended.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.child.id().context("the operator has ended")?)
    }

    /// Kills the process.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the operator has ended ({status}):\n{}", last_lines(&self.log));
        }
        ensure!(self.started.elapsed() < LIMIT, "the operator takes too long:\n{}", last_lines(&self.log));
        Ok(())
    }
}

/// The resources that the process `id` has used.
///
/// # Errors
/// There is no such process.
pub(super) fn usage(id: u32) -> Result<Usage> {
    let directory = Path::new("/proc").join(id.to_string());
    let status = fs::read_to_string(directory.join("status"))?;
    let kibibytes = |field: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {field} in /proc"))?.parse::<f64>()? / 1024.0)
    };
    let stat = fs::read_to_string(directory.join("stat"))?;
    // The name of the program, in parentheses, may contain spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> {
        Ok(fields.get(field).context("no CPU time in /proc")?.parse::<f64>()?)
    };
    Ok(Usage {
        memory: kibibytes("VmRSS")?,
        memory_max: kibibytes("VmHWM")?,
        cpu: (ticks(11)? + ticks(12)?) / TICKS,
    })
}
