//! Developer tasks: `cargo xtask <task>`. Each task has a module; the other modules are shared by tasks.
mod archive;
mod bench;
mod build;
mod buildah;
mod cache;
mod charts;
mod cluster;
mod demo;
mod docs;
mod engine;
mod faults;
mod generate;
mod images;
mod install;
mod kind_e2e;
mod lanes;
mod mutants;
mod new_operator;
mod observe;
mod paths;
mod process;
mod progress;
mod python;
mod release;
mod sbom;
mod target_directory;
mod test;
mod text;
mod tools;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Developer tasks of mlop",
    after_help = "Begin with `cargo xtask demo`; before a change lands, `cargo xtask test` must pass.\n\
                  Built programs, images and dependencies are cached in ~/.cache/mlop, or where MLOP_CACHE says.\n\
                  More: docs/development/setup.md"
)]
enum Task {
    /// Start, stop or inspect the cluster that the demo and the end-to-end tests use.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Build the container images and load them into the cluster.
    Images(images::Args),
    /// Install or upgrade the operators from the charts and images of this checkout.
    Install(install::Args),
    /// Show the whole chain, from an empty machine to a prediction. The cluster stays up.
    Demo(demo::Args),
    /// Run every check that must pass before a change lands, as CI does.
    Test(test::Args),
    /// Create a kind cluster, install the operators, run the end-to-end tests, and delete the cluster.
    KindE2e(kind_e2e::Args),
    /// Put seeded mistakes into a copy of the operators; a test or a fault plan must notice each.
    Mutants(mutants::Args),
    /// Run the chain under faults at every write and notification, in virtual time or against a real API server.
    Faults(faults::Args),
    /// Measure the operators on a real API server, beside a baseline on the same one.
    Bench(bench::Args),
    /// Ask every query of the dashboards, and make the fault of every alert, with real servers on a real cluster.
    Observe(observe::Args),
    /// Write the files that the code determines: custom resource definitions, RBAC, the reference.
    Generate(generate::Args),
    /// Pack the charts and check the objects that they install.
    Charts(charts::Args),
    /// Build the documents as a site, and check its links.
    Docs,
    /// Make a further operator: a kind and its run, a chart, and a test of it in a chain.
    NewOperator(new_operator::Args),
    /// Write an SBOM (CycloneDX) of the crates in each image.
    Sbom,
    /// Give packages, charts and changelog a new version; prints the changes first.
    Release(release::Args),
}

fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Returning the error would print its backtrace too.
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
        Task::KindE2e(args) => kind_e2e::run(args),
        Task::Mutants(args) => mutants::run(args),
        Task::Faults(args) => faults::run(args),
        Task::Bench(args) => bench::run(args),
        Task::Observe(args) => observe::run(args),
        Task::Generate(args) => generate::run(args),
        Task::Charts(args) => charts::run(args),
        Task::Docs => docs::run(),
        Task::NewOperator(args) => new_operator::run(args),
        Task::Sbom => sbom::run(),
        Task::Release(args) => release::run(args),
    }
}
