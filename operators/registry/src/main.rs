//! Runs the registry operator.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(mlop_registry::NAME, mlop_registry::install).await
}
