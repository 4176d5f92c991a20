//! The demo, as a test: what it shows must stay as it is kept.

use anyhow::Result;
use mlop_e2e::{demo, moments, scratch::Scratch};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_looks_as_it_is_kept_at_six_moments() -> Result<()> {
    Scratch::run("flights", async |scratch| moments::check(&demo::run(scratch).await?.moments)).await
}
