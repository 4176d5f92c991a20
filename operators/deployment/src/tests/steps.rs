//! Rollouts in steps as the children of a ModelDeployment see them.

use super::*;
use mlop_api::{common::Metric, routes::Routes};

/// A ModelDeployment with four pods and two steps, of which version 1 is served.
fn stepwise() -> Case {
    let rollout = json!({"steps": [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}]});
    let edit = |object: &mut ModelDeployment| {
        object.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
        object.spec.target.deployment.as_mut().unwrap().replicas = Some(4);
    };
    delay().edited(edit)
}

/// All pods of a Deployment become ready.
fn up(deployment: &mut Option<Value>) {
    if let Some(deployment) = deployment {
        let wanted = deployment["spec"]["replicas"].clone();
        deployment["status"] = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": wanted,
            "readyReplicas": wanted, "updatedReplicas": wanted, "conditions": rolled_out()});
    }
}

impl Case {
    /// All Deployments are ready.
    fn all_up(mut self) -> Self {
        [&mut self.deployment, &mut self.canary, &mut self.routers].into_iter().for_each(up);
        self
    }

    /// Reconciles until nothing changes, with Deployments that are ready at once.
    fn settled(mut self) -> Self {
        for _ in 0..10 {
            let next = self.reconciled().all_up();
            let state = |case: &Self| {
                let children = [&case.deployment, &case.canary, &case.routers].map(Clone::clone);
                (case.object.status.clone(), children)
            };
            let is_same = state(&next) == state(&self);
            self = next;
            if is_same {
                return self;
            }
        }
        panic!("it does not settle");
    }

    /// The analysis pod that is to be created has ended with these numbers.
    fn answered(mut self, requests: f64, errors: f64) -> Self {
        let plan = self.plan();
        let [create] = &plan.creates[..] else { panic!("{}", children(&self)) };
        let values = [("requests", requests), ("errors", errors), ("p99", 0.01), ("stableRequests", 900.0)];
        let metrics = values.map(|(name, value)| Metric::new(name, value)).into();
        let message = ResultDocument { metrics, ..Default::default() }.to_message();
        let mut pod = create.object.clone();
        pod["metadata"]["uid"] = json!("p");
        pod["status"] = json!({"phase": "Succeeded", "containerStatuses": [{"name": "worker", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed",
            "message": message}}}]});
        self.analyses = vec![pod];
        self
    }

    /// The present step passes.
    fn step_passed(self) -> Self {
        self.answered(100.0, 0.0).reconciled().later(60).settled()
    }

    fn routed(&self) -> Routes {
        let plan = self.plan();
        let map = plan.applies.iter().find(|apply| apply.kind.kind == "ConfigMap").expect("routes");
        serde_json::from_str(map.object["data"]["routes.json"].as_str().unwrap()).unwrap()
    }
}

/// The children in a plan: the new version's share of the requests, the version and size of both Deployments, the pods
/// behind the Service of users, and whether a measurement starts.
fn children(case: &Case) -> String {
    let plan = case.plan();
    let share = case.routed().canary.map_or(0, |canary| canary.weight);
    let deployment = |name: &str| {
        let found = plan
            .applies
            .iter()
            .find(|apply| apply.object["metadata"]["name"] == name && apply.kind.kind == "Deployment");
        found.map_or_else(
            || "none".to_owned(),
            |apply| {
                let spec = &apply.object["spec"];
                let label = spec["template"]["metadata"]["labels"][labels::DIGEST].as_str().unwrap();
                let version = (1..9).find(|version| digest(*version).contains(label)).unwrap_or_default();
                format!("v{version} x{}", spec["replicas"])
            },
        )
    };
    let service = plan
        .applies
        .iter()
        .find(|apply| apply.kind.kind == "Service" && apply.object["metadata"]["name"] == "delay-mdep");
    let behind = service.unwrap().object["spec"]["selector"]["app.kubernetes.io/instance"]
        .as_str()
        .unwrap()
        .to_owned();
    let measures = if plan.creates.is_empty() { "" } else { ", measures" };
    let [stable, canary] = ["delay-mdep", "delay-mdep-canary"].map(deployment);
    format!("{share} % {behind}: stable {stable}, canary {canary}{measures}")
}

#[track_caller]
fn check(rows: Vec<(&str, Case, &str)>) {
    check_table(rows, children);
}

#[test]
fn children_follow_the_recorded_step() {
    let served = || stepwise().settled();
    let next = || served().model(model(2));
    let first = || next().settled();
    let second = || first().step_passed();
    let promoting = || second().answered(100.0, 0.0).reconciled().later(60).reconciled();
    let failed = || first().answered(100.0, 100.0).reconciled();
    let routed = "% delay-mdep-router: stable";
    check(vec![
        ("the first version", stepwise(), "0 % delay-mdep: stable v1 x4, canary none"),
        ("it serves", served(), &format!("0 {routed} v1 x4, canary none")),
        ("a new version, not recorded yet", next(), &format!("0 {routed} v1 x4, canary none")),
        ("it is recorded", next().reconciled(), &format!("0 {routed} v1 x4, canary v2 x1")),
        (
            "its pods are ready, which is not recorded yet",
            next().reconciled().reconciled().all_up(),
            &format!("0 {routed} v1 x4, canary v2 x1"),
        ),
        ("that is recorded", first(), &format!("10 {routed} v1 x4, canary v2 x1, measures")),
        ("the second step", second(), &format!("50 {routed} v1 x4, canary v2 x2, measures")),
        ("all steps have passed", promoting(), &format!("50 {routed} v2 x4, canary v2 x2")),
        ("the stable pods are replaced", promoting().settled(), &format!("0 {routed} v2 x4, canary v2 x0")),
        ("it has failed", failed(), &format!("0 {routed} v1 x4, canary v2 x0")),
        (
            "a newer one while the pods of the failed one end",
            failed().model(model(3)).reconciled(),
            &format!("0 {routed} v1 x4, canary v2 x0"),
        ),
        (
            "they are gone",
            failed().settled().model(model(3)).settled(),
            &format!("10 {routed} v1 x4, canary v3 x1, measures"),
        ),
        (
            "a newer one in the second step",
            second().model(model(3)).reconciled(),
            &format!("0 {routed} v1 x4, canary v2 x0"),
        ),
        (
            "the input is not usable",
            second().unusable(),
            &format!("50 {routed} v1 x4, canary v2 x2, measures"),
        ),
        (
            "an edit of the pods",
            served().edited(|object| object.spec.runtime.image = "mlserver:2".into()).settled(),
            &format!("10 {routed} v1 x4, canary v1 x1, measures"),
        ),
    ]);
}

#[test]
fn conditions_say_how_the_rollout_is() {
    let words = |case: Case| {
        let status = case.reconciled().object.status.unwrap();
        let word = |kind: &str| {
            condition::get(&status.conditions, kind)
                .map(|c| format!("{}/{}", c.status, c.reason))
                .unwrap_or_default()
        };
        format!("{} {} {}", word(READY), word(UP_TO_DATE), word(STALLED)).trim().to_owned()
    };
    let first = || stepwise().settled().model(model(2)).settled();
    let failed = || first().answered(100.0, 100.0).reconciled().settled();
    for (situation, case, want) in [
        ("served", stepwise().settled(), "True/Ready True/UpToDate"),
        ("in a step", first(), "True/Ready False/RollingOut"),
        ("rolled back", failed(), "True/Ready False/RolledBack True/RolledBack"),
        ("the stable version is wanted again", failed().model(model(1)), "True/Ready True/UpToDate"),
        ("promoted", first().step_passed().step_passed(), "True/Ready True/UpToDate"),
        (
            "an edit that fails",
            stepwise()
                .settled()
                .edited(|object| object.spec.runtime.image = "mlserver:2".into())
                .settled()
                .answered(100.0, 100.0)
                .reconciled()
                .settled(),
            "False/RolledBack False/RolledBack True/RolledBack",
        ),
    ] {
        assert_eq!(words(case), want, "{situation}");
    }
    let held_up = json!({"phase": "Pending", "containerStatuses": [{"name": "worker", "image": "i", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}}]});
    let mut case = first();
    let mut pod = case.plan().creates[0].object.clone();
    pod["status"] = held_up;
    case.analyses = vec![pod];
    assert_eq!(words(case), "True/Ready False/ImagePull", "the pod that measures is held up");
}

#[test]
fn finished_rollout_is_at_rest() {
    let first = stepwise().settled().model(model(2)).settled();
    for case in
        [first.clone().step_passed().step_passed(), first.answered(100.0, 100.0).reconciled().settled()]
    {
        let mut later = case.later(100_000);
        let deletes: Vec<_> = later.plan().deletes.into_iter().map(|delete| delete.name).collect();
        assert_eq!(deletes.len(), later.analyses.len(), "the last pod that has measured is deleted");
        later.analyses.clear();
        let plan = later.plan();
        assert_eq!((plan.status, plan.creates.len(), plan.deletes.len()), (None, 0, 0));
        assert_eq!(plan.action, Action::AwaitChange);
    }
}

#[test]
fn each_router_is_told_once_of_each_change_of_its_routes() {
    let router = |name: &str| json!({"metadata": {"name": name, "namespace": NS, "uid": name}});
    let told = |case: &Case| -> Vec<String> {
        let plan = case.plan();
        let pods = plan.applies.iter().filter(|apply| apply.kind.kind == "Pod");
        pods.map(|apply| apply.object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut served = stepwise().settled();
    served.routing = vec![router("a"), router("b")];
    assert_eq!(told(&served), ["a", "b"], "they may have begun before the last change");
    let served = served.reconciled();
    assert_eq!(told(&served), [""; 0]);
    let plan = served.clone().model(model(2)).reconciled().plan();
    assert!(
        plan.applies.iter().all(|apply| apply.kind.kind != "Pod"),
        "no request goes to the new version yet"
    );
    let first = served.model(model(2)).settled();
    let mut weighted = first.clone();
    weighted.routing.push(router("c"));
    weighted.routing[0]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(told(&first), [""; 0]);
    assert_eq!(told(&weighted), ["c"]);
    let kinds: Vec<_> = weighted.plan().applies.into_iter().map(|apply| apply.kind.kind).collect();
    assert_eq!(kinds[..2], ["ConfigMap", "Pod"], "the routes are there when the kubelet looks");
    weighted = weighted.step_passed();
    assert_ne!(weighted.routing[1], first.routing[1], "the weight has changed");
    assert_eq!(
        weighted.routing[1]["metadata"]["annotations"],
        weighted.routing[2]["metadata"]["annotations"]
    );
}

#[test]
fn spec_without_steps_has_no_routers() {
    let mut case = stepwise().settled().edited(|object| object.spec.rollout = None);
    let plan = case.plan();
    let names: Vec<_> = plan.applies.iter().map(|apply| apply.object["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["delay-mdep"; 3]);
    case = case.reconciled();
    assert_eq!(case.object.status.unwrap().rollout, None);
}

#[test]
fn routers_are_those_of_the_golden_files() {
    let plan = stepwise().settled().model(model(2)).settled().plan();
    let known = ["delay-mdep"];
    for apply in &plan.applies {
        let (kind, name) =
            (apply.kind.kind.to_lowercase(), apply.object["metadata"]["name"].as_str().unwrap());
        if kind == "service" || !known.contains(&name) && name != "delay-mdep-canary" {
            let file = format!("../golden/steps/{kind}-{name}.yaml");
            expect_file![file].assert_eq(&golden(&apply.object));
        }
    }
    expect_file!["../golden/steps/pod-analysis.yaml"].assert_eq(&golden(&plan.creates[0].object));
}
