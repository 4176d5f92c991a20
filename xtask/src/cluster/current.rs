//! The cluster of the kubeconfig. It belongs to its administrator: nothing is installed, loaded or removed.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::kubectl::Kubectl;
use super::provider::{Cluster, Provider, state};
use crate::progress::{Outcome, Steps};
use crate::tools::{self, HELM, KUBECTL};

pub struct Current;

impl Cluster for Current {
    fn provider(&self) -> Provider {
        Provider::Current
    }

    fn missing(&self) -> Vec<String> {
        match self.kubeconfig() {
            Ok(path) if path.exists() => Vec::new(),
            Ok(path) => vec![format!("there is no kubeconfig {}", path.display())],
            Err(error) => vec![error.to_string()],
        }
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("KUBECONFIG") {
            return Ok(path.into());
        }
        Ok(std::env::home_dir().context("no home directory: set KUBECONFIG")?.join(".kube/config"))
    }

    fn audit_log(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    fn build(&self) -> Result<()> {
        Steps::new(1).run("programs", || tools::provide(&[&KUBECTL, &HELM]))
    }

    fn up(&self) -> Result<()> {
        self.build()?;
        Steps::new(1).run("API server", || {
            if !Kubectl::new(self.kubeconfig()?).answers() {
                bail!("the cluster of {} does not answer", self.kubeconfig()?.display());
            }
            Ok(Outcome::Present)
        })
    }

    fn down(&self) -> Result<()> {
        Ok(())
    }

    fn images(&self) -> Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
    }

    fn loaded(&self) -> Result<PathBuf> {
        state(Provider::Current)
    }

    fn import(&self, archive: &Path) -> Result<()> {
        bail!(
            "images can't be loaded into a cluster that xtask did not make: push {} to a registry it can reach",
            archive.display()
        )
    }

    fn export_logs(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}
