//! Requests of tasks to the API server.
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{paths, process};

/// How often a starting API server is asked, and the time between.
const ATTEMPTS: usize = 120;
const PAUSE: Duration = Duration::from_secs(1);

/// The time for pods to become ready on a machine that does other work too.
const ROLLOUT: &str = "--timeout=600s";

/// The built kubectl with the configuration of one cluster.
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(paths::bin()?.join("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        Ok(command)
    }

    pub fn answers(&self) -> bool {
        self.command(&["get", "--raw", "/readyz", "--request-timeout=5s"])
            .and_then(|mut c| process::run(&mut c))
            .is_ok()
    }

    /// Waits until the API server answers.
    pub fn wait_for_server(&self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.answers() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        bail!(
            "the API server of {} does not answer, though its node runs: recreate the cluster with \
             `cargo xtask cluster down` and `cargo xtask cluster up`",
            self.kubeconfig.display()
        )
    }

    /// Distinguishes this cluster from earlier and later ones of the same name.
    pub fn cluster_uid(&self) -> Result<String> {
        process::output(&mut self.command(&[
            "get",
            "namespace",
            "kube-system",
            "-o",
            "jsonpath={.metadata.uid}",
        ])?)
    }

    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut command = self.command(&["apply", "--server-side", "--force-conflicts", "-f", "-"])?;
        process::feed(&mut command, manifests)
    }

    /// Waits until all pods of a Deployment, such as `deployment/minio`, are ready. The error has the pods.
    pub fn wait_for_rollout(&self, namespace: &str, name: &str) -> Result<()> {
        let args = ["-n", namespace, "rollout", "status", name, ROLLOUT];
        process::run(&mut self.command(&args)?).with_context(|| {
            let pods =
                self.command(&["-n", namespace, "get", "pods"]).and_then(|mut c| process::output(&mut c));
            format!(
                "{name} in {namespace} is not ready:\n{}",
                pods.unwrap_or_else(|error| format!("{error:#}"))
            )
        })
    }
}
