//! The demo as a test, compared with the golden files.

use anyhow::Result;
use mlop_e2e::{demo, golden, namespace::TestNamespace};

#[tokio::test(flavor = "multi_thread")]
async fn demo_output_matches_the_golden_files() -> Result<()> {
    TestNamespace::run("flights", async |ns| golden::check(&demo::run(ns).await?.captures)).await
}
