//! Work of several pods: its size, and the framework that connects them.
//!
//! The framework is part of the content: it decides how the processes find each other, and with that what the command
//! computes. The numbers of pods and processes are part of the execution: a run may go on with others from its checkpoint.

use crate::common::Resources;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pods of a distributed training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// Number of pods, each with the resources of the spec. They start together, and the end of one ends all. Pod 0 leads: its output is the artifact.
    #[schemars(range(min = 1, max = 256))]
    pub replicas: u32,
}

/// The framework that connects the pods of a distributed training. Exactly one is set; there will be more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.pytorch)", "framework needs exactly one of: pytorch"))]
pub struct Framework {
    /// PyTorch: the command is torchrun, or a script that calls torch.distributed.init_process_group with env://.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pytorch: Option<Pytorch>,
}

/// How torchrun starts processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pytorch {
    /// Processes that torchrun starts in each pod. Default: one for each GPU of the pod, and one without GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub processes_per_worker: Option<u32>,
}

/// A framework by its name in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FrameworkName {
    Pytorch,
}

/// The size of a distributed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// Number of pods.
    #[schemars(range(min = 1, max = 256))]
    pub replicas: u32,
    /// Processes of the framework in each pod.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub processes_per_worker: u32,
}

fn one() -> u32 {
    1
}

impl Framework {
    /// Its name; none if the API server has let through an empty object.
    pub fn name(&self) -> Option<FrameworkName> {
        let Self { pytorch } = self;
        pytorch.as_ref().map(|_| FrameworkName::Pytorch)
    }
}

impl Size {
    /// The size that a spec asks for; none for a training in a single pod that no framework connects to others.
    pub fn of(
        workers: Option<&Workers>,
        framework: Option<&Framework>,
        resources: &Resources,
    ) -> Option<Self> {
        let replicas = workers.map(|workers| workers.replicas).or(framework.map(|_| 1))?;
        let pytorch = framework.and_then(|framework| framework.pytorch.as_ref());
        let processes =
            pytorch.map_or(1, |pytorch| pytorch.processes_per_worker.unwrap_or_else(|| resources.gpu.max(1)));
        Some(Self { replicas, processes_per_worker: processes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_follows_workers_framework_and_gpus() {
        let size = |workers: Option<u32>, processes: Option<Option<u32>>, gpu: u32| {
            let workers = workers.map(|replicas| Workers { replicas });
            let framework = processes
                .map(|processes_per_worker| Framework { pytorch: Some(Pytorch { processes_per_worker }) });
            let resources = Resources { gpu, ..Resources::default() };
            Size::of(workers.as_ref(), framework.as_ref(), &resources)
                .map(|size| (size.replicas, size.processes_per_worker))
        };
        assert_eq!(size(None, None, 4), None, "one pod, as ever");
        assert_eq!(size(Some(1), None, 0), Some((1, 1)));
        assert_eq!(size(Some(2), None, 4), Some((2, 1)), "only a framework starts several processes");
        assert_eq!(size(None, Some(None), 0), Some((1, 1)));
        assert_eq!(size(Some(2), Some(None), 4), Some((2, 4)));
        assert_eq!(size(Some(2), Some(Some(3)), 4), Some((2, 3)));
    }
}
