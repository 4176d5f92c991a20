//! Installations of the charts with Helm.

use anyhow::{Context as _, Result, ensure};
use mlop_e2e::stage::OPERATORS;
use tokio::process::Command;

/// The umbrella chart of this checkout.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/mlop");

/// A release of the charts.
pub struct Release {
    pub name: &'static str,
    pub namespace: &'static str,
}

impl Release {
    /// The release that `cargo xtask install` makes.
    pub const FIRST: Self = Self { name: "mlop", namespace: OPERATORS };

    pub async fn install(&self, values: &[&str]) -> Result<()> {
        let images = ["global.image.registry=mlop.local", "global.image.tag=dev"];
        self.helm(&["install", "--create-namespace", "--wait"], &[&images, values].concat()).await
    }

    pub async fn upgrade(&self, values: &[&str]) -> Result<()> {
        self.helm(&["upgrade", "--reset-then-reuse-values", "--wait"], values).await
    }

    async fn helm(&self, verb: &[&str], values: &[&str]) -> Result<()> {
        let set = values.iter().flat_map(|value| ["--set", value]);
        let arguments: Vec<&str> = verb.iter().copied().chain([self.name, CHART]).chain(set).collect();
        self.run(&arguments).await
    }

    /// Takes back the last upgrade.
    pub async fn roll_back(&self) -> Result<()> {
        self.run(&["rollback", self.name, "--wait"]).await
    }

    pub async fn uninstall(&self) -> Result<()> {
        self.run(&["uninstall", self.name, "--wait"]).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut helm = Command::new("helm");
        let output = helm.args(arguments).args(["--namespace", self.namespace]).output().await;
        let output = output.context("cannot start helm: is it on the PATH?")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {error}", arguments.join(" "));
        Ok(())
    }
}
