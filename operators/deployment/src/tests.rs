//! Decisions on what serves. One row is a situation, and the summary of its plan.

mod steps;

use crate::model_deployment::{Observed, plan};
use expect_test::expect_file;
use jiff::Timestamp;
use mlop_api::{
    Digest, Reason,
    common::ObjectRef,
    contract::condition_type::{READY, RECONCILING, STALLED, UP_TO_DATE},
    deployment::{ModelDeployment, Strategy},
    duration::Span,
    labels,
    result::{Failure, ResultDocument},
    status::DeploymentStatus,
    task::{Task, Work},
};
use mlop_core::{
    Action, Plan, children::profile::Profile, condition, inputs::InputState, resource::ApiKind,
    testing::golden,
};
use serde_json::{Value, json};
use std::sync::Arc;

const NS: &str = "forecasts";

/// A ModelDeployment `delay` of the Model `delay`, whose version 1 is ready.
#[derive(Clone)]
struct Case {
    object: ModelDeployment,
    model: Value,
    deployment: Option<Value>,
    /// The Deployments of the new version and of the routers in a rollout in steps.
    canary: Option<Value>,
    routers: Option<Value>,
    /// Pods of routers.
    routing: Vec<Value>,
    /// Pods that measure.
    analyses: Vec<Value>,
    pods: Vec<Value>,
    launcher: String,
    profile: Profile,
    /// The Secret of the ObjectStore.
    keys: Option<&'static str>,
    /// Seconds since the ModelDeployment was created.
    age: i64,
}

fn delay() -> Case {
    let object = json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": "delay", "namespace": NS, "uid": "u", "generation": 1},
        "spec": {"from": {"kind": "Model", "name": "delay"}, "runtime": {"image": "mlserver:1"},
                 "target": {"deployment": {"replicas": 1}}},
    });
    Case {
        object: serde_json::from_value(object).unwrap(),
        model: model(1),
        deployment: None,
        canary: None,
        routers: None,
        routing: Vec::new(),
        analyses: Vec::new(),
        pods: Vec::new(),
        launcher: "launcher:1".to_owned(),
        profile: Profile::default(),
        keys: None,
        age: 0,
    }
}

/// The condition of a Deployment whose template was rolled out.
fn rolled_out() -> Value {
    json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""}])
}

fn digest(version: u32) -> String {
    Digest::of_bytes(&version.to_be_bytes()).to_string()
}

/// The Model with this version in use.
fn model(version: u32) -> Value {
    let ready = json!({"type": "Ready", "status": "True", "observedGeneration": 1, "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({
        "metadata": {"name": "delay", "namespace": NS, "uid": "m", "generation": 1},
        "spec": {},
        "status": {
            "observedGeneration": 1,
            "conditions": [ready],
            "artifact": {
                "digest": digest(version), "store": "models", "uri": "s3://b/t", "revision": version, "generation": 1,
                "mediaType": mlop_api::MEDIA_TREE, "run": format!("delay-{version}"), "inputDigest": digest(version),
                "inputs": [], "producedAt": "2026-01-01T00:00:00.000000Z",
            },
        },
    })
}

impl Case {
    /// The user edits the spec.
    fn edited(mut self, edit: impl FnOnce(&mut ModelDeployment)) -> Self {
        edit(&mut self.object);
        self.object.metadata.generation = self.object.metadata.generation.map(|generation| generation + 1);
        self
    }

    fn model(mut self, model: Value) -> Self {
        self.model = model;
        self
    }

    /// The Model cannot be used for a moment.
    fn unusable(mut self) -> Self {
        self.model["status"]["conditions"][0]["status"] = json!("Unknown");
        self
    }

    /// The default PodProfile has this section for user code.
    fn profile(self, user: &Value) -> Self {
        let object = json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "PodProfile", "metadata": {"name": "default"},
            "spec": {"user": user}});
        Self { profile: Profile::new(None, Some(&serde_json::from_value(object).unwrap())), ..self }
    }

    fn missing_profile(self) -> Self {
        Self { profile: Profile::new(Some("gpu"), None), ..self }
    }

    fn launcher(mut self, image: &str) -> Self {
        self.launcher = image.to_owned();
        self
    }

    /// The plan is carried out, and all pods of the Deployment become ready.
    fn rolled_out(self) -> Self {
        self.reconciled().up().reconciled()
    }

    /// All pods of the Deployment become ready.
    fn up(mut self) -> Self {
        let deployment = self.deployment.as_mut().expect("a Deployment");
        let wanted = deployment["spec"]["replicas"].clone();
        deployment["status"] = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": wanted,
            "readyReplicas": wanted, "updatedReplicas": wanted, "conditions": rolled_out()});
        self
    }

    fn later(mut self, seconds: i64) -> Self {
        self.age += seconds;
        self
    }

    /// One pod of `version` is ready in a rollout. `ready` counts the pods of all versions.
    fn half_rolled_out(mut self, version: u32, ready: i32) -> Self {
        let labels = json!({labels::DIGEST: digest(version).replace("sha256:", "")[..63]});
        let is_ready =
            json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let pod = json!({"metadata": {"name": "p", "labels": labels}, "status": {"conditions": [is_ready]}});
        self.pods = vec![pod];
        let deployment = self.deployment.as_mut().expect("a Deployment");
        deployment["status"]["readyReplicas"] = json!(ready);
        deployment["status"]["replicas"] = json!(ready);
        self.observed()
    }

    /// The controller of the Deployment has seen its newest change.
    fn observed(mut self) -> Self {
        let deployment = self.deployment.as_mut().expect("a Deployment");
        deployment["status"]["observedGeneration"] = deployment["metadata"]["generation"].clone();
        self
    }

    /// The pod of the Deployment's template has this container status.
    fn pod(self, container: Value) -> Self {
        self.pod_with(json!({"phase": "Running", "containerStatuses": [container]}))
    }

    /// The fetcher in that pod fails again and again.
    fn fetch_fails(self, failure: Failure) -> Self {
        let message = ResultDocument::failed(failure).to_message();
        self.pod_with(json!({"phase": "Pending", "initContainerStatuses": [{"name": "fetch", "image": "i",
            "ready": false, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}}]}))
    }

    /// No node has room for that pod.
    fn unschedulable(self) -> Self {
        self.pod_with(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}))
    }

    /// The rollout has lasted for longer than its deadline.
    fn beyond_the_deadline(mut self) -> Self {
        let deployment = self.deployment.as_mut().expect("a Deployment");
        deployment["status"]["observedGeneration"] = deployment["metadata"]["generation"].clone();
        deployment["status"]["updatedReplicas"] = json!(0);
        deployment["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing."}]);
        self
    }

    /// The pod of the Deployment's template has this status.
    fn pod_with(mut self, status: Value) -> Self {
        let template =
            self.deployment.as_ref().expect("a Deployment")["spec"]["template"]["metadata"].clone();
        let mut metadata = template;
        metadata["name"] = json!("delay-mdep-1");
        metadata["namespace"] = json!(NS);
        self.pods = vec![json!({"metadata": metadata, "status": status})];
        self.observed()
    }

    /// This number of pods is ready.
    fn ready(mut self, replicas: i32) -> Self {
        let deployment = self.deployment.as_mut().expect("a Deployment");
        deployment["status"]["readyReplicas"] = json!(replicas);
        self.observed()
    }

    /// Nothing serves.
    fn down(self) -> Self {
        self.ready(0)
    }

    /// An autoscaler sets the size of the Deployment, which its controller has not seen yet.
    fn resized(mut self, replicas: i32) -> Self {
        let deployment = self.deployment.as_mut().expect("a Deployment");
        deployment["spec"]["replicas"] = json!(replicas);
        let generation = deployment["metadata"]["generation"].as_i64().unwrap_or_default();
        deployment["metadata"]["generation"] = json!(generation + 1);
        self
    }

    /// An autoscaler sets the size of the Deployment, and its pods become ready.
    fn scaled(mut self, replicas: i32) -> Self {
        let deployment = self.deployment.as_mut().expect("a Deployment");
        deployment["spec"]["replicas"] = json!(replicas);
        deployment["status"] = json!({"observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas, "conditions": rolled_out()});
        self.reconciled()
    }

    /// The size of the Deployment that is applied.
    fn applied_replicas(&self) -> Option<i64> {
        let plan = self.plan();
        let deployment = plan.applies.iter().find(|apply| apply.kind.kind == "Deployment")?;
        deployment.object["spec"]["replicas"].as_i64()
    }

    fn plan(&self) -> Plan<DeploymentStatus> {
        let store = json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "ObjectStore",
            "metadata": {"name": "models", "namespace": NS},
            "spec": {"endpoint": "http://s3", "bucket": "b", "secretName": self.keys}});
        let child =
            |object: &Option<Value>| object.clone().map(|it| Arc::new(serde_json::from_value(it).unwrap()));
        let views = |pods: &[Value]| {
            pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap())).collect()
        };
        let from = ObjectRef { api_group: "mlop.dev".into(), kind: "Model".into(), name: "delay".into() };
        let observed = Observed {
            object: Arc::new(self.object.clone()),
            input: InputState {
                name: "model".into(),
                from,
                kind: Some("Model.v1alpha1.mlop.dev".parse::<ApiKind>().unwrap()),
                object: Some(Arc::new(serde_json::from_value(self.model.clone()).unwrap())),
                unavailable: None,
                holds: Vec::new(),
            },
            stores: vec![Arc::new(serde_json::from_value(store).unwrap())],
            pods: views(&self.pods),
            routing: views(&self.routing),
            analyses: views(&self.analyses),
            deployment: child(&self.deployment),
            canary: child(&self.canary),
            routers: child(&self.routers),
            children: Vec::new(),
            profile: self.profile.clone(),
            operator: "mlop-deployment".into(),
            launcher_image: self.launcher.clone(),
        };
        plan(&observed, Timestamp::from_second(1_780_000_000 + self.age).unwrap())
    }

    /// The plan is carried out.
    fn reconciled(&self) -> Self {
        let plan = self.plan();
        let mut next = self.clone();
        if let Some(status) = plan.status {
            next.object.status = Some(status);
        }
        for apply in plan.applies.iter().filter(|apply| apply.kind.kind == "Deployment") {
            let slot = match apply.object["metadata"]["name"].as_str() {
                Some("delay-mdep-canary") => &mut next.canary,
                Some("delay-mdep-router") => &mut next.routers,
                _ => &mut next.deployment,
            };
            let before = slot.clone().unwrap_or_default();
            let mut object = apply.object.clone();
            object["status"] = before["status"].clone();
            if object["spec"]["replicas"].is_null() {
                // The size stays as others have set it. The API server gives a new Deployment one pod.
                let size = before["spec"]["replicas"].as_i64().unwrap_or(1);
                object["spec"]["replicas"] = json!(size);
            }
            let generation = before["metadata"]["generation"].as_i64().unwrap_or_default();
            let changed = i64::from(before["spec"] != object["spec"]);
            if before["spec"]["template"] != object["spec"]["template"] && !before.is_null() {
                object["status"]["updatedReplicas"] = json!(0);
                object["status"]["conditions"] = json!([]);
            }
            object["metadata"]["generation"] = json!(generation + changed);
            *slot = Some(object);
        }
        for apply in plan.applies.iter().filter(|apply| apply.kind.kind == "Pod") {
            let is_it = |pod: &&mut Value| pod["metadata"]["uid"] == apply.object["metadata"]["uid"];
            let pod = next.routing.iter_mut().find(is_it).expect("the pod of a router");
            pod["metadata"]["annotations"] = apply.object["metadata"]["annotations"].clone();
        }
        next
    }

    /// The template of the Deployment that is applied; none if nothing is applied.
    fn applied_template(&self) -> Option<Value> {
        let plan = self.plan();
        let deployment = plan.applies.iter().find(|apply| apply.kind.kind == "Deployment")?;
        deployment.object.pointer("/spec/template").cloned()
    }

    /// The fetcher's image in the Deployment that is applied; none if nothing is applied.
    fn applied_fetcher(&self) -> Option<String> {
        let template = self.applied_template()?;
        template.pointer("/spec/initContainers/0/image")?.as_str().map(str::to_owned)
    }
}

/// `Ready` and `UpToDate` after the plan, the model that the applied Deployment serves, and words of the message.
fn summary(case: &Case) -> String {
    let plan = case.plan();
    let status = plan.status.clone().or_else(|| case.object.status.clone()).unwrap_or_default();
    let word = |kind: &str| {
        condition::get(&status.conditions, kind)
            .map(|c| format!("{}/{}", c.status, c.reason))
            .unwrap_or_default()
    };
    let stalled = condition::get(&status.conditions, STALLED).map_or("", |_| " Stalled");
    let digests = [1, 2].map(|version| digest(version).replace("sha256:", ""));
    let served = plan.applies.iter().find(|apply| apply.kind.kind == "Deployment").map_or_else(
        || "nothing".to_owned(),
        |apply| {
            let labels = &apply.object["spec"]["template"]["metadata"]["labels"];
            let label = labels[labels::DIGEST].as_str().unwrap_or_default();
            let version = digests.iter().position(|digest| digest.starts_with(label)).map_or(0, |at| at + 1);
            format!("version {version}")
        },
    );
    format!("Ready={} UpToDate={}{stalled} applies {served}", word(READY), word(UP_TO_DATE))
}

/// Compares the summary of each situation with the wanted one, and tells all that differ.
#[track_caller]
pub(crate) fn check_table<C>(rows: Vec<(&str, C, &str)>, summary: impl Fn(&C) -> String) {
    let wrong: Vec<_> = rows
        .into_iter()
        .filter_map(|(situation, case, want)| {
            let got = summary(&case);
            (got != want).then(|| format!("{situation}\n  want {want}\n  got  {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[track_caller]
fn check(rows: Vec<(&str, Case, &str)>) {
    check_table(rows, summary);
}

#[test]
fn server_follows_its_profile() {
    let low = json!({"priorityClassName": "low", "container": {"resources": {"limits": {"cpu": "1"}}}});
    let served = || delay().profile(&low).rolled_out();
    check(vec![
        ("the profile has served", served(), "Ready=True/Ready UpToDate=True/UpToDate applies version 1"),
        (
            "the profile is edited",
            served().profile(&json!({"priorityClassName": "high"})),
            "Ready=True/Ready UpToDate=False/RollingOut applies version 1",
        ),
        (
            "the profile is missing before anything serves",
            delay().missing_profile(),
            "Ready=Unknown/ProfileNotFound UpToDate=Unknown/ProfileNotFound applies nothing",
        ),
        (
            "the profile disappears",
            served().missing_profile(),
            "Ready=True/Ready UpToDate=False/ProfileNotFound applies nothing",
        ),
        (
            "the spec names one that is missing",
            served().edited(|object| object.spec.profile = Some("gpu".into())).missing_profile(),
            "Ready=Unknown/ProfileNotFound UpToDate=False/ProfileNotFound applies nothing",
        ),
    ]);
    let plan = served().plan();
    let deployment = plan.applies.iter().find(|apply| apply.kind.kind == "Deployment").unwrap();
    let spec = &deployment.object["spec"]["template"]["spec"];
    assert_eq!(spec["priorityClassName"], "low");
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "1");
    assert!(spec["initContainers"][0]["resources"]["limits"]["cpu"].is_null(), "mlop's own container");
}

#[test]
fn edit_is_ready_only_when_it_serves() {
    let served = || delay().rolled_out();
    check(vec![
        (
            "nothing serves yet",
            delay(),
            "Ready=Unknown/RollingOut UpToDate=Unknown/RollingOut applies version 1",
        ),
        ("version 1 serves", served(), "Ready=True/Ready UpToDate=True/UpToDate applies version 1"),
        (
            "the image is edited",
            served().edited(|object| object.spec.runtime.image = "mlserver:2".into()),
            "Ready=Unknown/RollingOut UpToDate=False/RollingOut applies version 1",
        ),
        (
            "the edited image serves",
            served().edited(|object| object.spec.runtime.image = "mlserver:2".into()).rolled_out(),
            "Ready=True/Ready UpToDate=True/UpToDate applies version 1",
        ),
        (
            "the replicas are edited",
            served().edited(|object| object.spec.target.deployment.as_mut().unwrap().replicas = Some(3)),
            "Ready=True/Ready UpToDate=True/UpToDate applies version 1",
        ),
        (
            "it is suspended: the same pods serve",
            served().edited(|object| object.spec.suspend = true),
            "Ready=True/Ready UpToDate=False/Suspended applies nothing",
        ),
    ]);
}

#[test]
fn rollout_is_neither_undone_nor_hurried_by_its_input() {
    let rolling = || delay().rolled_out().model(model(2)).reconciled();
    check(vec![
        (
            "version 2 is being rolled out",
            rolling(),
            "Ready=True/Ready UpToDate=False/RollingOut applies version 2",
        ),
        (
            "its Model cannot be used for a moment",
            rolling().unusable(),
            "Ready=True/Ready UpToDate=False/WaitingForInputs applies nothing",
        ),
        (
            "the Model of what serves cannot be used",
            delay().rolled_out().unusable(),
            "Ready=True/Ready UpToDate=Unknown/WaitingForInputs applies version 1",
        ),
        (
            "version 2 serves",
            rolling().rolled_out(),
            "Ready=True/Ready UpToDate=True/UpToDate applies version 2",
        ),
    ]);
}

#[test]
fn progress_of_a_rollout_is_reported_when_it_lasts() {
    let rolling = || delay().rolled_out().later(60).model(model(2)).reconciled();
    let starting = json!({"name": "mlserver", "image": "mlserver:1",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}});
    // The write of the status, and the time of the next reconcile.
    let report = |case: &Case| {
        let plan = case.plan();
        let status = plan.status.map_or_else(String::new, |status| {
            let versions = status.serving.iter().map(|v| format!("{}x{}", v.model_version, v.ready_replicas));
            format!(
                "{} of {} pods ",
                versions.collect::<Vec<_>>().join(" "),
                status.replicas.unwrap_or_default()
            )
        });
        match plan.action {
            Action::AwaitChange => status,
            Action::RequeueAt(at) => format!("{status}after {} s", at.as_second() - 1_780_000_060),
        }
    };
    let half = |ready| rolling().later(1).half_rolled_out(2, ready);
    let first = || delay().later(60).reconciled().later(1);
    let rows = [
        ("it begins", delay().rolled_out().later(60).model(model(2)), "delay-1x1 of 1 pods "),
        ("nothing has changed", rolling(), ""),
        ("a pod of version 2 is ready", half(3), "after 10 s"),
        ("it lasts", half(3).later(9), "delay-1x2 delay-2x1 of 3 pods "),
        ("a container has trouble", half(1).pod(starting), "delay-1x1 of 1 pods "),
        ("nothing serves any more", rolling().later(1).down(), "delay-1x0 of 1 pods "),
        ("it ends", half(1).up(), "delay-2x1 of 1 pods "),
        ("the first pod is added", first().up().down(), "after 10 s"),
        ("the first pod is ready", first().half_rolled_out(1, 1), "after 10 s"),
        ("the first pod serves", first().up(), "delay-1x1 of 1 pods "),
    ];
    for (situation, case, want) in rows {
        assert_eq!(report(&case), want, "{situation}");
    }
}

#[test]
fn trouble_of_a_container_is_reported_at_once() {
    let restarted = |reason: &str, message: &str| {
        json!({"name": "mlserver", "image": "i", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": reason, "message": message}}})
    };
    let image = json!({"name": "mlserver", "image": "mlserver:1",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}});
    let no_key = ResultDocument::failed(Failure::terminal(Reason::SecretMissing, "no key"));
    let fetch = json!({"name": "fetch", "image": "i",
        "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": no_key.to_message()}}});
    let starting = || delay().reconciled();
    check(vec![
        (
            "the keys of the store are missing",
            starting().pod(fetch),
            "Ready=False/SecretMissing UpToDate=Unknown/SecretMissing applies version 1",
        ),
        (
            "its image cannot be pulled",
            starting().pod(image.clone()),
            "Ready=False/ImagePull UpToDate=Unknown/ImagePull applies version 1",
        ),
        (
            "it needs more memory",
            starting().pod(restarted("OOMKilled", "")),
            "Ready=False/OutOfMemory UpToDate=Unknown/OutOfMemory applies version 1",
        ),
        (
            "it crashes",
            starting().pod(restarted("Error", "ModuleNotFoundError: sklearn")),
            "Ready=False/WorkerFailed UpToDate=Unknown/WorkerFailed applies version 1",
        ),
        (
            "the pod of an earlier template has trouble",
            starting()
                .pod(image)
                .edited(|object| object.spec.runtime.image = "mlserver:2".into())
                .reconciled(),
            "Ready=Unknown/RollingOut UpToDate=Unknown/RollingOut applies version 1",
        ),
        (
            "what served is down",
            delay().rolled_out().pod(restarted("Error", "killed")).down(),
            "Ready=False/WorkerFailed UpToDate=True/UpToDate applies version 1",
        ),
    ]);
    let mut refused = starting();
    refused.deployment.as_mut().unwrap()["status"] = json!({"observedGeneration": 1, "conditions": [{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"delay-mdep-1\" is forbidden: exceeded quota: q"}]});
    check(vec![(
        "a quota refuses its pods",
        refused.clone(),
        "Ready=False/QuotaExceeded UpToDate=Unknown/QuotaExceeded applies version 1",
    )]);
    let reported = refused.reconciled().plan().status;
    assert!(reported.is_some(), "the reason is that of a failed reconcile: the status is confirmed");
    let plan = starting().pod(restarted("Error", "ModuleNotFoundError: sklearn")).plan();
    let status = plan.status.unwrap();
    let ready = condition::get(&status.conditions, READY).unwrap();
    assert!(ready.message.contains("ModuleNotFoundError: sklearn"), "{}", ready.message);
}

#[test]
fn model_that_cannot_be_fetched_is_reported_by_its_fetcher() {
    let served = || delay().rolled_out();
    for (reason, words) in [
        (Reason::InputCorrupt, "it was deleted or never written"),
        (Reason::StoreDenied, "access denied: credentials are missing or invalid"),
        (Reason::BucketNotFound, "create it or correct spec.bucket"),
    ] {
        let down = served().fetch_fails(Failure::terminal(reason, words)).down();
        let expected = format!("Ready=False/{reason} UpToDate=True/UpToDate applies version 1");
        check(vec![("the only pod was replaced", down.clone(), &expected)]);
        let status = down.plan().status.unwrap();
        let ready = condition::get(&status.conditions, READY).unwrap();
        assert!(ready.message.contains(words), "{}", ready.message);
        assert_eq!(status.serving.iter().map(|serving| serving.ready_replicas).sum::<i32>(), 0);
        assert_eq!(status.summary.as_deref(), Some("delay-1 on 0 of 1 pods"));
        let cured = "Ready=True/Ready UpToDate=True/UpToDate applies version 1";
        check(vec![("the cause is gone", down.reconciled().up(), cured)]);
    }
}

#[test]
fn rollout_without_room_goes_on_when_there_is_some() {
    let rolling = || delay().rolled_out().model(model(2)).reconciled();
    let late = || rolling().unschedulable().beyond_the_deadline();
    check(vec![
        (
            "no node has room for one pod more",
            rolling().unschedulable(),
            "Ready=True/Ready UpToDate=False/Unschedulable applies version 2",
        ),
        (
            "the deadline is over",
            late(),
            "Ready=True/Ready UpToDate=False/RolloutFailed Stalled applies version 2",
        ),
        (
            "there is room again",
            late().reconciled().rolled_out(),
            "Ready=True/Ready UpToDate=True/UpToDate applies version 2",
        ),
    ]);
    let status = late().plan().status.unwrap();
    let told = &condition::get(&status.conditions, UP_TO_DATE).unwrap().message;
    let words = "has timed out progressing; Unschedulable: 0/1 nodes are available: 1 Insufficient cpu";
    assert!(told.ends_with(words), "{told}");
}

#[test]
fn upgrade_of_the_operator_replaces_no_serving_pod() {
    let served = delay().rolled_out().launcher("launcher:2");
    assert_eq!(served.applied_fetcher().as_deref(), Some("launcher:1"));
    let edited = served.clone().edited(|object| object.spec.runtime.image = "mlserver:2".into());
    assert_eq!(edited.applied_fetcher().as_deref(), Some("launcher:2"));
    assert_eq!(served.model(model(2)).applied_fetcher().as_deref(), Some("launcher:2"));
}

#[test]
fn keys_may_be_missing_so_that_the_fetcher_names_them() {
    let is_optional = |case: &Case| {
        let template = case.applied_template().unwrap();
        let volumes = template["spec"]["volumes"].as_array().unwrap();
        let keys = volumes.iter().find(|volume| volume["name"] == "store-models").unwrap();
        keys["projected"]["sources"][0]["secret"]["optional"].as_bool().unwrap()
    };
    let served = Case { keys: Some("s3"), ..delay() }.rolled_out();
    assert!(is_optional(&served));
    // As an earlier release made it.
    let mut first = served;
    let template = &mut first.deployment.as_mut().unwrap()["spec"]["template"];
    let mark = template["metadata"]["annotations"][labels::TEMPLATE].as_str().unwrap();
    template["metadata"]["annotations"][labels::TEMPLATE] = json!(mark.trim_end_matches("-2"));
    assert!(!is_optional(&first), "an upgrade replaces no pod");
    assert!(is_optional(&first.model(model(2))), "the pods of another version are new");
}

/// The size of the Deployment is left to others.
fn autoscaled() -> Case {
    let target = |object: &mut ModelDeployment| {
        object.spec.target.deployment.as_mut().unwrap().replicas = None;
    };
    delay().edited(target)
}

#[test]
fn size_is_left_to_others_when_the_spec_has_none() {
    assert_eq!(autoscaled().applied_replicas(), None, "the API server sets one");
    let scaled = autoscaled().rolled_out().scaled(5);
    assert_eq!(scaled.applied_replicas(), None, "a copy of the size might undo the next one");
    assert_eq!(scaled.clone().model(model(2)).reconciled().applied_replicas(), None, "also in a rollout");
    assert_eq!(delay().rolled_out().scaled(5).applied_replicas(), Some(1), "a size in the spec wins");
    let status = scaled.object.status.clone().unwrap();
    assert_eq!((status.replicas, status.summary.as_deref()), (Some(5), Some("delay-1 on 5 of 5 pods")));
    assert!(status.selector.is_some_and(|selector| selector.contains("=delay-mdep")));
    check(vec![
        ("scaled by others", scaled.clone(), "Ready=True/Ready UpToDate=True/UpToDate applies version 1"),
        (
            "scaled to zero",
            scaled.clone().scaled(0),
            "Ready=False/ScaledToZero UpToDate=True/UpToDate applies version 1",
        ),
        (
            "back from zero",
            scaled.scaled(0).scaled(1),
            "Ready=True/Ready UpToDate=True/UpToDate applies version 1",
        ),
    ]);
}

#[test]
fn size_that_others_set_beside_the_spec_is_put_back_with_an_event() {
    let events = |case: Case| case.plan().events.into_iter().map(|event| event.message).collect::<Vec<_>>();
    let served = || delay().rolled_out();
    let told = events(served().resized(2));
    let words = "the Deployment delay-mdep had been scaled to 2, and spec.target.deployment.replicas is 1: ";
    assert!(told.len() == 1 && told.iter().all(|message| message.starts_with(words)), "{told:?}");
    let edit = |object: &mut ModelDeployment| {
        object.spec.target.deployment.as_mut().unwrap().replicas = Some(3);
    };
    for (situation, case) in [
        ("nobody has changed it", served()),
        ("the user has", served().edited(edit)),
        ("an autoscaler may", autoscaled().rolled_out().resized(2)),
    ] {
        assert_eq!(events(case), Vec::<String>::new(), "{situation}");
    }
}

#[test]
fn number_of_pods_says_nothing_about_the_version() {
    let served = || autoscaled().rolled_out();
    let up_to_date = "Ready=True/Ready UpToDate=True/UpToDate applies version 1";
    let first = autoscaled().reconciled();
    check(vec![
        ("an autoscaler adds pods", served().resized(5), up_to_date),
        ("they start", served().resized(5).observed(), up_to_date),
        ("all but one restart", served().scaled(5).ready(1), up_to_date),
        (
            "all restart",
            served().scaled(5).down(),
            "Ready=False/Starting UpToDate=True/UpToDate applies version 1",
        ),
        (
            "all restart while another version is rolled out",
            served().model(model(2)).reconciled().down(),
            "Ready=Unknown/RollingOut UpToDate=False/RollingOut applies version 2",
        ),
        (
            "one restarts before the first rollout was seen",
            first.up().down(),
            "Ready=Unknown/RollingOut UpToDate=Unknown/RollingOut applies version 1",
        ),
    ]);
    assert!(served().resized(5).plan().status.is_none(), "the next state follows at once");
    let image = json!({"name": "mlserver", "image": "i", "state": {"waiting": {"reason": "ErrImagePull"}}});
    let held_up = |ready| {
        let status = served().scaled(5).ready(ready).pod(image.clone()).reconciled().object.status.unwrap();
        condition::get(&status.conditions, RECONCILING).map(|c| format!("{}: {}", c.reason, c.message))
    };
    assert!(held_up(4).is_some_and(|words| words.starts_with("ImagePull: 4 of 5 pods serve: image i")));
    assert_eq!(held_up(5), None);
}

#[test]
fn model_may_load_until_the_progress_deadline() {
    for deadline in [60, 601, 7_200] {
        let edit = |object: &mut ModelDeployment| {
            object.spec.target.deployment.as_mut().unwrap().progress_deadline = Span::seconds(deadline);
        };
        let template = delay().edited(edit).applied_template().unwrap();
        let server = &template["spec"]["containers"][0];
        let seconds = |probe: &str| {
            let probe = &server[probe];
            assert!(probe["initialDelaySeconds"].is_null(), "{probe}");
            probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap()
        };
        assert!((deadline.into()..=u64::from(deadline) + 10).contains(&seconds("startupProbe")), "{server}");
        assert_eq!(seconds("livenessProbe"), 120, "from its start on");
    }
}

#[test]
fn server_takes_no_settings_from_the_artifact() {
    let path = |object: &mut ModelDeployment| object.spec.runtime.path = "best/model".into();
    let template = delay().edited(path).applied_template().unwrap();
    let server = &template["spec"]["containers"][0];
    let start = server["command"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let mounts_of = |container: &Value| container["volumeMounts"].as_array().unwrap().clone();
    let mounts = mounts_of(server);
    let mount = mounts.iter().find(|mount| mount["mountPath"] == start).expect("a mount of its own");
    assert!(mount["subPath"].is_null());
    let volumes = template["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert!(volume["emptyDir"].is_object(), "{volume}");
    let fetch = mounts_of(&template["spec"]["initContainers"][0]);
    assert!(
        fetch.iter().all(|other| other["name"] != mount["name"]),
        "nothing writes where the server starts"
    );
    let uri =
        server["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "MLSERVER_MODEL_URI");
    let uri = uri.unwrap()["value"].as_str().unwrap();
    assert!(uri.ends_with("/best/model") && !uri.starts_with(start), "{uri}");
    let task = template["metadata"]["annotations"][labels::TASK].as_str().unwrap();
    let task: Task = serde_json::from_str(task).unwrap();
    let Work::Serve { path, .. } = task.work else { panic!("another task: {task:?}") };
    assert_eq!(path.as_deref(), Some("best/model"), "only this part is fetched");
}

#[test]
fn answers_carry_the_digest_as_the_version() {
    let plan = delay().plan();
    let deployment = plan.applies.iter().find(|apply| apply.kind.kind == "Deployment").unwrap();
    let env = deployment.object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let version = env.iter().find(|variable| variable["name"] == "MLSERVER_MODEL_VERSION").unwrap();
    assert!(digest(1).starts_with(&format!("sha256:{}", version["value"].as_str().unwrap())));
}

#[test]
fn recreate_ends_old_pods_first() {
    let recreate = |object: &mut ModelDeployment| {
        object.spec.target.deployment.as_mut().unwrap().strategy = Strategy::Recreate;
    };
    let plan = delay().edited(recreate).plan();
    let deployment = plan.applies.iter().find(|apply| apply.kind.kind == "Deployment").unwrap();
    assert_eq!(deployment.object["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn servers_are_those_of_the_golden_files() {
    let plan = delay().plan();
    for apply in &plan.applies {
        let file = format!("golden/{}.yaml", apply.kind.kind.to_lowercase());
        expect_file![file].assert_eq(&golden(&apply.object));
    }
    assert_eq!(plan.applies.len(), 3);
}

#[test]
fn model_at_the_root_is_served_whole() {
    let template = delay().edited(|object| object.spec.runtime.path = ".".into()).applied_template().unwrap();
    let variables = template["spec"]["containers"][0]["env"].as_array().unwrap();
    let uri = variables.iter().find(|variable| variable["name"] == "MLSERVER_MODEL_URI").unwrap();
    assert_eq!(uri["value"], "/mnt/models");
    let task = template["metadata"]["annotations"][labels::TASK].as_str().unwrap();
    assert!(!task.contains("\"path\""), "the whole tree is fetched: {task}");
}
