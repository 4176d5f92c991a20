//! Training: `TrainingJob` and its run `TrainingRun`.

use crate::{
    Quantity,
    common::{
        Consistency, Flow, NamedInput, Resources, Retry, Toleration, Trigger, default_history_limit,
        label_value, text,
    },
    defaults::defaults,
    distributed::{Framework, FrameworkName, Size, Workers},
    duration::Span,
    queue::RunQueue,
    run::{Execution, Lineage, RunSpec},
    status::{IntentStatus, RunStatus},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A command that turns inputs into a model (or any directory of files), run again whenever its inputs change.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "TrainingJob",
    namespaced,
    status = "IntentStatus",
    derive = "PartialEq",
    cel,
    shortname = "tjob",
    category = "mlop",
    category = "mlop-all",
    doc = "A command that turns inputs into a model (or any directory of files). It runs again whenever its inputs change.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "UpToDate", type_ = "string", json_path = ".status.conditions[?(@.type=='UpToDate')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.artifact.revision", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.artifact.digest", priority = 1)
)]
#[x_kube(
    validation = ("!has(self.code) || self.code.all(k, k.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$'))", "code: file names must be letters, digits, '_', '.' and '-', and not start with a dot"),
    validation = ("!has(self.code) || self.code.map(k, self.code[k].size()).sum() <= 65536", "code must be at most 65536 characters in all"),
    validation = ("self.command.map(c, c.size()).sum() <= 32768", "command must be at most 32768 characters in all"),
    validation = ("(has(self.code) ? self.code.map(k, bytes(self.code[k]).size()).sum() : 0) + (has(self.hyperparameters) ? self.hyperparameters.map(k, bytes(self.hyperparameters[k]).size()).sum() : 0) + self.command.map(c, bytes(c).size()).sum() <= 122880", "code, command and hyperparameters must be at most 122880 bytes of UTF-8 in all: put larger files into the image"),
    validation = ("!has(self.nodeSelector) || self.nodeSelector.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$'))", "nodeSelector: keys must be names of labels, for example kubernetes.io/arch"),
    validation = ("!has(self.hyperparameters) || self.hyperparameters.all(k, k.matches('^[A-Za-z_][A-Za-z0-9_]*$'))", "hyperparameters: names must be letters, digits and '_', and not start with a digit"),
    validation = ("!has(self.env) || self.env.all(e, !e.name.startsWith('MLOP_'))", "env: names that start with MLOP_ are reserved"),
    validation = ("!has(self.priority) || self.priority == 0 || has(self.queue)", "priority is that in a queue: name one in queue")
)]
#[serde(rename_all = "camelCase")]
pub struct TrainingJobSpec {
    /// Inputs of the command: one directory per input under $MLOP_INPUTS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inputs: Vec<NamedInput>,
    /// Whether inputs from the same root must come from the same version of it.
    #[serde(default)]
    pub consistency: Consistency,
    /// Image that the command runs in.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: String,
    /// Program and arguments, 32768 characters in all; no shell is involved. The files in $MLOP_OUTPUT become the artifact.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Files (name: content) that are put into the working directory; 65536 characters in all. Code, command and hyperparameters together have at most 122880 bytes of UTF-8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = text(65536)))]
    pub code: BTreeMap<String, String>,
    /// Named values for the command, texts all of them: quote numbers, as in c: "1.0". $MLOP_HYPERPARAMETERS is a JSON file of them, and each is $MLOP_HP_<NAME>.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = text(1024)))]
    pub hyperparameters: BTreeMap<String, String>,
    /// Seed for the command's random numbers: $MLOP_SEED.
    #[serde(default)]
    pub seed: i64,
    /// Further environment variables. They do not enter the digest: what changes the result belongs to hyperparameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Several pods that train together. Without it the command runs in one. Not part of the digest: the number of pods may change while a run lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// The framework that connects the pods: its variables are set. Without it, a command finds the others by $MLOP_HOSTS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// Computing resources of the command, of each of its pods.
    #[serde(default = "own_resources::value", deserialize_with = "own_resources::deserialize")]
    #[schemars(schema_with = "own_resources::schema")]
    pub resources: Resources,
    /// Size of the scratch space for inputs, output and /tmp.
    #[serde(default = "default_scratch")]
    #[schemars(length(max = 16), regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti)$"))]
    pub scratch: String,
    /// Size of /dev/shm (memory); without it the runtime's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[1-9][0-9]*(Mi|Gi)$"))]
    pub shared_memory: Option<String>,
    /// Time that the command has after SIGTERM to save a checkpoint, when its pod must go or its deadline has passed. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Span>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = label_value()))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod accepts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Names of Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pull_secrets: Vec<String>,
    /// Attempts and delays when the command fails.
    #[serde(default)]
    pub retry: Retry,
    /// Longest time of one attempt.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// Longest time until a pod starts.
    #[serde(default = "default_start_timeout")]
    pub start_timeout: Span,
    /// How long the last attempt's pod stays for its logs.
    #[serde(default = "default_ttl_after_finished")]
    pub ttl_after_finished: Span,
    /// Name of the TrainingQueue that must admit a run before its first pod is created. Default: none, a run starts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub queue: Option<String>,
    /// Runs of a higher priority are admitted first, among those of namespaces with the same share of the queue.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Name of the ObjectStore that holds output and checkpoints.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: String,
    /// When newer inputs start new work.
    #[serde(default)]
    pub trigger: Trigger,
    /// Use the TrainingRun of this name (`kubectl get trun`) instead of the newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pin: Option<String>,
    /// Start nothing new while true; what runs goes on.
    #[serde(default)]
    pub suspend: bool,
    /// How many finished runs are kept as objects besides the current one. Their bytes stay.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub history_limit: u32,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
}

/// The part of a TrainingJob's spec that determines the outcome of a run. Fields at their default are left out of its
/// JSON form, which enters the input digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrainingContent {
    /// Image that the command runs in.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Program and arguments.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Files (name: content) in the working directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = text(65536)))]
    pub code: BTreeMap<String, String>,
    /// Named values for the command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = text(1024)))]
    pub hyperparameters: BTreeMap<String, String>,
    /// Seed for the command's random numbers.
    #[serde(default)]
    pub seed: i64,
    /// The framework that connects the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<FrameworkName>,
}

impl From<&TrainingJobSpec> for TrainingContent {
    fn from(spec: &TrainingJobSpec) -> Self {
        let TrainingJobSpec {
            image,
            command,
            code,
            hyperparameters,
            seed,
            framework,
            // Enter the input digest beside the content.
            inputs: _,
            store: _,
            // When to start.
            consistency: _,
            trigger: _,
            pin: _,
            suspend: _,
            history_limit: _,
            queue: _,
            priority: _,
            // How the work is carried out.
            workers: _,
            env: _,
            resources: _,
            scratch: _,
            shared_memory: _,
            grace_period: _,
            node_selector: _,
            tolerations: _,
            pull_secrets: _,
            profile: _,
            retry: _,
            deadline: _,
            start_timeout: _,
            ttl_after_finished: _,
        } = spec;
        Self {
            image: image.clone(),
            command: command.clone(),
            code: code.clone(),
            hyperparameters: hyperparameters.clone(),
            seed: *seed,
            framework: framework.as_ref().and_then(Framework::name),
        }
    }
}

/// An environment variable: a value, or a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.value) != has(self.secret)", "env needs exactly one of: value, secret"))]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value, taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// The key of a Secret in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._A-Za-z0-9]+$"))]
    pub key: String,
}
defaults!(own_resources: Resources = Resources::of(Quantity::units(1), Quantity::gibi(2)));

fn default_scratch() -> String {
    "4Gi".to_owned()
}
fn default_deadline() -> Span {
    Span::hours(24)
}
fn default_start_timeout() -> Span {
    Span::minutes(10)
}
fn default_ttl_after_finished() -> Span {
    Span::hours(1)
}

impl Flow for TrainingJobSpec {
    fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }
    fn suspend(&self) -> bool {
        self.suspend
    }
    fn trigger(&self) -> &Trigger {
        &self.trigger
    }
    fn history_limit(&self) -> u32 {
        self.history_limit
    }
    fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}

/// One training. Made by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "TrainingRun",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    cel,
    shortname = "trun",
    category = "mlop-all",
    doc = "One training with fixed inputs, code and parameters. Made by the operator; read it, do not write it.",
    printcolumn(
        name = "Succeeded",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Succeeded')].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.progress.steps"),
    printcolumn(
        name = "Loss",
        type_ = "string",
        json_path = ".status.progress.metrics[?(@.name=='loss')].value"
    ),
    printcolumn(name = "ETA", type_ = "string", json_path = ".status.progress.eta"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.output.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message"),
    printcolumn(name = "Attempts", type_ = "integer", json_path = ".status.attempts", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.output.digest", priority = 1)
)]
pub struct TrainingRunSpec {
    /// The part of the TrainingJob's spec that determines the outcome.
    #[x_kube(validation = ("self == oldSelf", "content is immutable: edit the TrainingJob to get another run"))]
    pub content: TrainingContent,
    /// The inputs, and the digest of everything that determines the outcome.
    #[x_kube(validation = ("self == oldSelf", "lineage is immutable: edit the TrainingJob to get another run"))]
    pub lineage: Lineage,
    /// Name of the ObjectStore that holds output and checkpoints.
    #[schemars(length(max = 63))]
    #[x_kube(validation = ("self == oldSelf", "store is immutable: edit the TrainingJob to get another run"))]
    pub store: String,
    /// How the work is carried out.
    #[serde(default)]
    pub execution: Execution,
    /// Further settings of the user's container: part of the execution, and mirrored with it.
    #[serde(default)]
    pub container: TrainingContainer,
    /// The size of a distributed training: part of the execution, and mirrored with it. Without it the command runs in one pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// The queue that must admit the run before its first attempt; mirrored with the execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<RunQueue>,
}

impl RunSpec for TrainingRunSpec {
    type Content = TrainingContent;
    fn content(&self) -> &TrainingContent {
        &self.content
    }
    fn lineage(&self) -> &Lineage {
        &self.lineage
    }
    fn execution(&self) -> &Execution {
        &self.execution
    }
    fn store(&self) -> &str {
        &self.store
    }
    fn digested_store(&self) -> Option<&str> {
        Some(&self.store)
    }
    fn drop_work(&mut self) {
        let TrainingContent { image: _, command, code, hyperparameters, seed: _, framework: _ } =
            &mut self.content;
        (*command, *code, *hyperparameters) = Default::default();
    }
}

/// Settings of the user's container besides its resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainingContainer {
    /// Environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// Size of the scratch space.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub scratch: Option<String>,
    /// Size of /dev/shm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub shared_memory: Option<String>,
    /// Time between SIGTERM and SIGKILL of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Span>,
}
