//! Runs the training operator.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(mlop_training::NAME, mlop_training::install).await
}
