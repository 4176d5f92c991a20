//! Developer tasks: `cargo xtask <what a person does>`. One module per task, the rest is what they share.
mod archive;
mod cache;
mod cluster;
mod images;
mod paths;
mod process;
mod progress;
mod tools;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of mlop")]
enum Task {
    /// Start, stop or inspect the cluster that the end-to-end tests use.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Build the container images and load them into the cluster.
    Images(images::Args),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Cluster(command) => cluster::run(&command),
        Task::Images(args) => images::run(&args),
    }
}
