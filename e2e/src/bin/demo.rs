//! The flights pipeline, for people: `cargo xtask demo` starts it in a cluster that has the operators.

use anyhow::Result;
use mlop_e2e::{demo, scratch::Scratch};

const NEXT: &str = "
It stays up. Things to try (first: eval \"$(cargo xtask cluster env)\"):
  kubectl -n flights get mlop                          what there is, and whether it is ready
  kubectl -n flights get mlop-all,pods                 with every run and its pods
  kubectl -n flights describe mdep delay               why, when something is not
  kubectl explain trainingjob.spec                     the reference
  kubectl -n flights patch dset flights --type merge -p '{\"spec\":{\"pin\":\"<name of a DatasetVersion>\"}}'
                                                       back to an earlier version: features, model and alias follow
  cargo xtask cluster down                             the end";

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = Scratch::open("flights").await?;
    demo::run(&scratch).await?;
    println!("{NEXT}");
    Ok(())
}
