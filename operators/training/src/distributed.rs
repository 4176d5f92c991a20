//! What the pods of a distributed training know of each other: their environment.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};
use mlop_api::{
    distributed::{FrameworkName, Size},
    labels,
    training::TrainingRun,
};
use mlop_core::run;

/// The port of the leader at which the processes of PyTorch meet, as torchrun has it.
const PYTORCH_PORT: &str = "29500";

/// The variables of a framework. A user may set others.
pub fn of_framework(run: &TrainingRun, attempt: u32) -> Vec<EnvVar> {
    match (&run.spec.size, run.spec.content.framework) {
        (Some(size), Some(FrameworkName::Pytorch)) => pytorch(size, run::host(run, attempt, 0)),
        _ => Vec::new(),
    }
}

/// The variables of every distributed training.
pub fn of_every_kind(run: &TrainingRun, attempt: u32) -> Vec<EnvVar> {
    let Some(size) = &run.spec.size else { return Vec::new() };
    let hosts: Vec<_> = (0..size.replicas).map(|rank| run::host(run, attempt, rank)).collect();
    vec![
        rank("MLOP_RANK"),
        value("MLOP_WORLD_SIZE", size.replicas),
        value("MLOP_LEADER", run::host(run, attempt, 0)),
        value("MLOP_HOSTS", hosts.join(",")),
    ]
}

/// torchrun reads each of its options from `PET_<OPTION>`. Without a backend of its own, it meets at the leader under the
/// ranks of the pods, so that rank 0 of the training is in pod 0. The backend c10d would give ranks by chance.
///
/// A script that torchrun does not start finds what `env://` reads, if each pod has one process.
fn pytorch(size: &Size, leader: String) -> Vec<EnvVar> {
    let mut all = vec![
        value("PET_NNODES", size.replicas),
        rank("PET_NODE_RANK"),
        value("PET_NPROC_PER_NODE", size.processes_per_worker),
        value("PET_MASTER_ADDR", &leader),
        value("PET_MASTER_PORT", PYTORCH_PORT),
    ];
    if size.processes_per_worker == 1 {
        all.extend([
            value("WORLD_SIZE", size.replicas),
            rank("RANK"),
            value("MASTER_ADDR", &leader),
            value("MASTER_PORT", PYTORCH_PORT),
        ]);
    }
    all
}

fn value(name: &str, value: impl ToString) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_string()), value_from: None }
}

/// The rank of the pod.
fn rank(name: &str) -> EnvVar {
    let field = format!("metadata.labels['{}']", labels::RANK);
    let field = ObjectFieldSelector { field_path: field, api_version: None };
    let from = EnvVarSource { field_ref: Some(field), ..Default::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(from) }
}
