//! `PodProfile`: what a platform team adds to the pods of a namespace.
//!
//! The fields have the names and shapes of a pod. Those that nest deeply are taken as they are: Kubernetes checks them when
//! a pod is created.

use crate::{common::label_value, is_default, quantity::Written, status::PolicyStatus};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap};

/// Name of the profile of objects that name none.
pub const DEFAULT: &str = "default";

/// Labels and annotations of a pod that decide what mlop's operators and network policies do with it, or weaken its
/// security. The rules of the kind refuse them, and operators leave them out.
pub fn is_reserved(key: &str) -> bool {
    let is_ours = key.starts_with("mlop.dev/") && key != crate::labels::TRACKING_CLIENT;
    is_ours
        || key == "app.kubernetes.io/managed-by"
        || key.starts_with("container.apparmor.security.beta.kubernetes.io/")
}

/// What a platform team adds to the pods of a namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mlop.dev",
    version = "v1alpha1",
    kind = "PodProfile",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    cel,
    shortname = "pprofile",
    category = "mlop",
    category = "mlop-all",
    doc = "What a platform team adds to the pods that mlop creates in a namespace: placement, service accounts, volumes, variables, limits. Objects name a profile in spec.profile; those that name none have the profile `default`, if there is one.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "metadata.name must be 1 to 40 of a-z, 0-9 and '-', start with a letter and end with a letter or digit"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.headline.reason"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.headline.message")
)]
#[serde(rename_all = "camelCase")]
pub struct PodProfileSpec {
    /// For mlop's own programs: pods that probe, scan, write versions, compute features, register and activate, the servers that mlop runs (online API, Redis, MLflow), and the containers of mlop in pods with user code.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workers: PodFragment,
    /// For pods with user code: trainings and model servers. `container` is for the container with the user code only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: PodFragment,
}

/// A part of a pod, in the shapes of Kubernetes. Values that mlop sets itself are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.container) || !has(self.container.volumeMounts) || self.container.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))", "container.volumeMounts must name volumes of the same section"),
    validation = ("!has(self.container) || !has(self.container.resources) || !has(self.container.resources.claims) || self.container.resources.claims.all(c, has(self.resourceClaims) && self.resourceClaims.exists(r, r.name == c.name))", "container.resources.claims must name resourceClaims of the same section"),
    validation = ("!has(self.nodeSelector) || self.nodeSelector.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$'))", "nodeSelector: keys must be names of labels")
)]
pub struct PodFragment {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata: PodMetadata,
    /// Name of the ServiceAccount. Its token is not mounted; a platform that gives identities to pods finds them by this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Secrets for pulling images, besides those of the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<PullSecret>,
    /// Labels that a node must have, besides those of the object. For the same key the object's value counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = label_value()))]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity to nodes and other pods, as in a Pod: `kubectl explain pod.spec.affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Open>,
    /// Taints that the pod accepts, besides those of the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<PodToleration>,
    /// How pods are spread over the cluster, as in a Pod: `kubectl explain pod.spec.topologySpreadConstraints`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<Open>,
    /// Name of the PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Name of the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub scheduler_name: Option<String>,
    /// Name of the RuntimeClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// Volumes for `container.volumeMounts`. In the pod their names begin with `profile-`, so that they never are those of mlop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub volumes: Vec<ProfileVolume>,
    /// Devices for `container.resources.claims`, as in a Pod: `kubectl explain pod.spec.resourceClaims`. In the pod their names begin with `profile-`. The cluster needs dynamic resource allocation (Kubernetes 1.34 or newer).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub resource_claims: Vec<ProfileClaim>,
    /// For the containers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub container: ContainerFragment,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("!has(self.labels) || self.labels.all(k, (!k.startsWith('mlop.dev/') || k == 'mlop.dev/tracking-client') && k != 'app.kubernetes.io/managed-by')", "labels: mlop.dev/ (but mlop.dev/tracking-client) and app.kubernetes.io/managed-by are set by mlop"),
    validation = ("!has(self.annotations) || self.annotations.all(k, !k.startsWith('mlop.dev/') && !k.startsWith('container.apparmor.security.beta.kubernetes.io/'))", "annotations: mlop.dev/ is set by mlop, and AppArmor stays as Pod Security wants it")
)]
pub struct PodMetadata {
    /// Labels of the pod. Those that mlop sets are kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = label_value()))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod. Those that mlop sets are kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = crate::common::text(4096)))]
    pub annotations: BTreeMap<String, String>,
}

/// A Secret for pulling images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullSecret {
    /// Name of the Secret in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A taint that the pod accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodToleration {
    /// Key of the taint; without it, and with the operator Exists, any taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// Equal compares the value, Exists does not; without it Equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub operator: Option<String>,
    /// Value of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; without it all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub effect: Option<String>,
    /// Seconds until a NoExecute taint evicts the pod; without it never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// A volume. Its kind is one of those that Pod Security *restricted* allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.configMap), has(self.secret), has(self.projected), has(self.downwardAPI), has(self.persistentVolumeClaim), has(self.emptyDir), has(self.csi), has(self.ephemeral)].filter(is, is).size() == 1", "a volume needs exactly one of: configMap, secret, projected, downwardAPI, persistentVolumeClaim, emptyDir, csi, ephemeral"))]
pub struct ProfileVolume {
    /// Name for `container.volumeMounts`.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Files from a ConfigMap: `kubectl explain pod.spec.volumes.configMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<Open>,
    /// Files from a Secret: `kubectl explain pod.spec.volumes.secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Open>,
    /// Files from several sources: `kubectl explain pod.spec.volumes.projected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected: Option<Open>,
    /// Files about the pod: `kubectl explain pod.spec.volumes.downwardAPI`.
    #[serde(default, rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<Open>,
    /// An existing claim: `kubectl explain pod.spec.volumes.persistentVolumeClaim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<Open>,
    /// An empty directory: `kubectl explain pod.spec.volumes.emptyDir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<Open>,
    /// A volume of a CSI driver: `kubectl explain pod.spec.volumes.csi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<Open>,
    /// A volume with the life of the pod: `kubectl explain pod.spec.volumes.ephemeral`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Open>,
}

/// A claim for devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.resourceClaimName) != has(self.resourceClaimTemplateName)", "resourceClaims: a claim needs exactly one of: resourceClaimName, resourceClaimTemplateName"))]
pub struct ProfileClaim {
    /// Name for `container.resources.claims`.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// An existing ResourceClaim, which all pods share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub resource_claim_name: Option<String>,
    /// A ResourceClaimTemplate: each pod has a claim of its own, which is deleted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub resource_claim_template_name: Option<String>,
}

/// A claim that a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimUse {
    /// Name of one of the `resourceClaims`.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// The request of the claim whose devices the container gets; without it all of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub request: Option<String>,
}

/// A part of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerFragment {
    /// Variables, such as those of a proxy. Those that mlop or the object sets are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<Variable>,
    /// Mounts of the volumes of this section. At a path where mlop mounts something, mlop's mount is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volume_mounts: Vec<Mount>,
    /// Resources that the objects do not set themselves, such as limits of CPU, and requests and limits of ephemeral storage.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: ContainerResources,
}

/// A variable of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.value) && has(self.valueFrom))", "env: a variable has a value or valueFrom, not both"))]
pub struct Variable {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[-._A-Za-z][-._A-Za-z0-9]*$"))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where its value is from: `kubectl explain pod.spec.containers.env.valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<Open>,
}

/// A mount of a volume of the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(self.mountPath + '/').startsWith('/mlop/') && !(self.mountPath + '/').startsWith('/run/mlop/')", "volumeMounts: /mlop and /run/mlop are mlop's own"))]
pub struct Mount {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Where it is mounted.
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^/[^:/][^:]*$"))]
    pub mount_path: String,
    /// Path in the volume; without it its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub sub_path: Option<String>,
    /// Nothing may be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("!has(self.limits) || !('memory' in self.limits)", "limits.memory: every object sets it itself (spec.resources.memory)"),
    validation = ("!has(self.requests) || !('memory' in self.requests || 'cpu' in self.requests)", "requests.cpu and requests.memory: every object sets them itself (spec.resources)")
)]
pub struct ContainerResources {
    /// Limits by resource, for example `cpu: 2` or `ephemeral-storage: 10Gi`. A limit below the request of the object is raised to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "quantities")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = quantity()))]
    pub limits: BTreeMap<String, String>,
    /// Requests by resource, for example `ephemeral-storage: 1Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "quantities")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = quantity()))]
    pub requests: BTreeMap<String, String>,
    /// Devices that each container gets: `kubectl explain pod.spec.containers.resources.claims`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub claims: Vec<ClaimUse>,
}

/// Schema of an amount of a resource.
fn quantity() -> Value {
    json!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maxLength": 32,
        "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
    })
}

fn quantities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
    Ok(written.into_iter().map(|(resource, amount)| (resource, amount.into_text())).collect())
}

/// A part of a pod whose fields Kubernetes checks when a pod is created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Open(pub Map<String, Value>);

impl JsonSchema for Open {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Open".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}
