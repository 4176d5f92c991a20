//! `kubectl mlop`: see the library.

use clap::Parser as _;
use jiff::Timestamp;
use kubectl_mlop::cli;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    cli::main(cli::Arguments::parse(), now).await
}

#[allow(clippy::disallowed_methods, reason = "the one place where this program reads the clock")]
fn now() -> Timestamp {
    Timestamp::now()
}
