//! Developer tasks: `cargo xtask <what a person does>`. One module per task, the rest is what they share.
mod archive;
mod build;
mod cache;
mod charts;
mod cluster;
mod demo;
mod engine;
mod faults;
mod generate;
mod images;
mod install;
mod lanes;
mod mutants;
mod paths;
mod process;
mod progress;
mod test;
mod text;
mod tools;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of mlop")]
enum Task {
    /// Start, stop or inspect the cluster that the end-to-end tests use.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Build the container images and load them into the cluster.
    Images(images::Args),
    /// Install the operators from the charts and images of this checkout.
    Install(install::Args),
    /// From nothing to a prediction: cluster, images, operators, the flights pipeline. It stays up.
    Demo(demo::Args),
    /// Check everything that must hold before a change lands.
    Test(test::Args),
    /// Put seeded mistakes into a copy of the operators and show that a fault plan or a test notices each.
    Mutants(mutants::Args),
    /// Try the whole chain under faults, in virtual time or (`--real`) against a real API server and real processes: every
    /// write, every notification, thousands of seeds.
    Faults(faults::Args),
    /// Write the files that the code determines: custom resource definitions, roles, the reference.
    Generate(generate::Args),
    /// Pack the charts and check what they install.
    Charts,
}

fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Without the stack that an error returned from here would bring along.
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    match task {
        Task::Cluster(command) => cluster::run(command),
        Task::Images(args) => images::run(args),
        Task::Install(args) => install::run(args),
        Task::Demo(args) => demo::run(args),
        Task::Test(args) => test::run(args),
        Task::Mutants(args) => mutants::run(args),
        Task::Faults(args) => faults::run(args),
        Task::Generate(args) => generate::run(args),
        Task::Charts => charts::run(),
    }
}
