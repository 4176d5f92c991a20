//! Runs the deployment operator.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(mlop_deployment::NAME, mlop_deployment::install).await
}
