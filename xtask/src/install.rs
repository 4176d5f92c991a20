//! `cargo xtask install`: the operators into the cluster, from the charts and the images of this checkout.
use anyhow::Result;

use crate::cluster::{Choice, Cluster, Kubectl};
use crate::progress::{Outcome, Steps};
use crate::{charts, paths, process};

/// Namespace of the operators.
const NAMESPACE: &str = "mlop-system";
/// It enforces Pod Security *restricted*: the operators need no more than the pods that they create.
const RESTRICTED: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: mlop-system
  labels: {pod-security.kubernetes.io/enforce: restricted}
";
/// What `cargo xtask images` names its images, and the operators that are installed on request.
const VALUES: [&str; 3] = ["global.image.registry=mlop.local", "global.image.tag=dev", "queues.enabled=true"];

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Then run the charts' own test.
    #[arg(long)]
    test: bool,
    /// Values of the chart `mlop`, as helm takes them. Without this they are as the chart has them.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let cluster = args.choice.cluster()?;
    let mut steps = Steps::new(if args.test { 4 } else { 3 });
    steps.run("charts", charts::pack)?;
    steps.run("operators", || upgrade(cluster.as_ref(), "mlop", &args.set))?;
    steps.run("ready", || restart(cluster.as_ref()))?;
    if args.test {
        steps.run("helm test", || test(cluster.as_ref()))?;
    }
    Ok(())
}

fn test(cluster: &dyn Cluster) -> Result<Outcome> {
    let mut command = charts::helm("test")?;
    command.args(["mlop", "--namespace", NAMESPACE]).env("KUBECONFIG", cluster.kubeconfig()?);
    process::run(&mut command)?;
    Ok(Outcome::Done)
}

fn upgrade(cluster: &dyn Cluster, chart: &str, values: &[String]) -> Result<Outcome> {
    Kubectl::new(cluster.kubeconfig()?).apply(RESTRICTED)?;
    let directory = paths::repository().join("charts").join(chart);
    let mut command = charts::helm("upgrade")?;
    command.args(["--install", chart]).arg(&directory).args(["--namespace", NAMESPACE]);
    for value in VALUES.into_iter().chain(values.iter().map(String::as_str)) {
        command.args(["--set", value]);
    }
    process::run(command.env("KUBECONFIG", cluster.kubeconfig()?))?;
    Ok(Outcome::Done)
}

/// Restarts every operator: its image may have changed under the same name.
fn restart(cluster: &dyn Cluster) -> Result<Outcome> {
    let kubectl = Kubectl::new(cluster.kubeconfig()?);
    process::run(&mut kubectl.command(&["-n", NAMESPACE, "rollout", "restart", "deployment"])?)?;
    let names =
        process::output(&mut kubectl.command(&["-n", NAMESPACE, "get", "deployment", "-o", "name"])?)?;
    for name in names.lines() {
        kubectl.wait_for_rollout(NAMESPACE, name)?;
    }
    Ok(Outcome::Done)
}
