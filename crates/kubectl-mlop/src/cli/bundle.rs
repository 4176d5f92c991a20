//! `kubectl mlop support-bundle`: a file for somebody who helps.

use super::screen::Screen;
use crate::{
    bundle,
    cluster::{Cluster, Place},
};
use anyhow::{Context as _, Result};
use clap::Args;
use mlop_api::text::printable;
use std::{
    fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, process::ExitCode,
};

pub(super) const HELP: &str = "\
It has the objects of mlop in the namespace with their statuses, Events, pods, the output of the newest attempts and of
servers, and the operators with their output if you may read it. It has no Secrets. Values of variables, commands,
annotations, code and hyperparameters are removed, and so is what looks like a password or a key. The output of your own
commands is in it: read it before you send it.

Examples:
  kubectl mlop support-bundle
  kubectl mlop support-bundle -n flights -o flights.tar.gz";

#[derive(Debug, Args)]
pub(super) struct SupportBundle {
    /// The file to write; without it mlop-support-NAMESPACE-TIME.tar.gz.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl SupportBundle {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let cluster = Cluster::connect(place).await?;
        let now = screen.now();
        let material = cluster.material(now).await?;
        let files = bundle::files(&material)?;
        let name = format!("mlop-support-{}-{}", cluster.namespace(), now.strftime("%Y%m%dT%H%M%SZ"));
        let packed = bundle::archive(&files, &name, now)?;
        let path = self.output.unwrap_or_else(|| format!("{name}.tar.gz").into());
        let shown = path.display();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot create {shown}; -o chooses another file"))?;
        file.write_all(&packed).with_context(|| format!("cannot write {shown}"))?;
        for failure in &material.failures {
            eprintln!("not in it: {}", printable(failure));
        }
        screen.print(&format!(
            "{shown}: {} files, {} kB; the output of your commands is in it, read it before you send it\n",
            files.len(),
            packed.len().div_ceil(1_000)
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
