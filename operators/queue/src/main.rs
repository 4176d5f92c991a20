//! Runs the queue operator.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(mlop_queue::NAME, mlop_queue::install).await
}
