//! The program of `cargo xtask demo`: runs the flights pipeline in a cluster with the operators.

use anyhow::Result;
use mlop_e2e::{demo, namespace::TestNamespace};

const NEXT: &str = "
The pipeline stays up. Things to try (first: eval \"$(cargo xtask cluster env)\"):
  kubectl -n flights get mlop                          all resources, and whether they are ready
  kubectl -n flights get mlop-all,pods                 with every run and its pods
  kubectl -n flights describe mdep delay               why something is not ready
  kubectl explain trainingjob.spec                     the reference
  kubectl -n flights patch dset flights --type merge -p '{\"spec\":{\"pin\":\"<name of a DatasetVersion>\"}}'
                                                       rolls back to an earlier version: features, model and alias follow
  cargo xtask cluster down                             stops the cluster";

#[tokio::main]
async fn main() -> Result<()> {
    let ns = TestNamespace::open("flights").await?;
    demo::run(&ns).await?;
    println!("{NEXT}");
    Ok(())
}
