//! Runs the feature-store operator.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(mlop_feature_store::NAME, mlop_feature_store::install).await
}
