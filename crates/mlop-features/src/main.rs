//! Runs the features worker, or with `serve` the online API.

use clap::{Parser, Subcommand};
use mlop_features::{serve, worker};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Computes and loads features (the mounted task), or serves them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// Serve the online API.
    Serve(serve::Options),
}

fn main() -> ExitCode {
    let Some(Mode::Serve(options)) = Arguments::parse().mode else {
        return mlop_artifact::worker::run("mlop-features", worker::work);
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

// One thread: the work between two waits for Redis is small, and so stays the memory.
#[tokio::main(flavor = "current_thread")]
async fn serve(options: serve::Options) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
        tracing::info!("stopping");
    };
    #[allow(clippy::disallowed_methods, reason = "a main is where the clock is read")]
    let clock = jiff::Timestamp::now;
    serve::run(options, clock, stop).await
}
