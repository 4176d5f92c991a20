//! Runs the ingestion operator.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(mlop_ingestion::NAME, mlop_ingestion::install).await
}
