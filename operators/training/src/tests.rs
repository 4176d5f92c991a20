//! Decisions on trainings. One row is a situation, and the summary of its plan.

use crate::{training_job::TrainingJobIntent, training_run::TrainingRunRun};
use expect_test::expect_file;
use mlop_api::{
    Quantity, Reason,
    distributed::{Framework, Pytorch, Size, Workers},
    labels,
    preflight::{AvoidedNode, Check},
    profile::PodProfile,
    result::{Failure, ResultDocument},
    training::{self, TrainingJobSpec, TrainingRunSpec},
};
use mlop_core::testing::{
    IntentCase, NOW, RunCase, Situation, active, at, check, dead, failed, golden, held_up, missing, object,
    pod_of, ready, running, succeeded, terminated, version,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn spec() -> Value {
    json!({
        "inputs": [{"name": "flights", "from": {"kind": "Dataset", "name": "flights"}}],
        "image": "trainer:1",
        "command": ["python", "train.py"],
        "store": "files",
    })
}

/// The TrainingJob `delay`, whose Dataset is ready.
fn job() -> IntentCase<TrainingJobIntent> {
    IntentCase::new("delay", &spec(), ()).observes(ready("flights"))
}

/// As [`job`], with a published model.
fn trained() -> IntentCase<TrainingJobIntent> {
    job().its_run(succeeded).reconciled()
}

/// The run `delay-1` of a TrainingJob.
fn run_of(job: &IntentCase<TrainingJobIntent>) -> RunCase<TrainingRunRun> {
    let mut run = job.run();
    run.metadata.name = Some("delay-1".into());
    RunCase::of(run)
}

fn run() -> RunCase<TrainingRunRun> {
    run_of(&job())
}

/// As [`job`], with two pods that PyTorch connects.
fn pair() -> IntentCase<TrainingJobIntent> {
    job().with(|spec| {
        spec.workers = Some(Workers { replicas: 2 });
        spec.framework = Some(pytorch(None));
    })
}

fn pytorch(processes_per_worker: Option<u32>) -> Framework {
    Framework { pytorch: Some(Pytorch { processes_per_worker }) }
}

fn variable(name: &str, value: &str) -> training::EnvVar {
    training::EnvVar { name: name.into(), value: Some(value.into()), secret: None }
}

#[test]
fn training_starts_when_its_inputs_are_ready() {
    let starts =
        "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run";
    check(vec![
        ("the Dataset is ready", job(), starts),
        (
            "a job without inputs",
            IntentCase::<TrainingJobIntent>::new("delay", &spec(), ()).with(|spec| spec.inputs.clear()),
            "Ready=Unknown/Running UpToDate=Unknown/Running Reconciling create run",
        ),
        (
            "the Dataset does not exist",
            job().observes(missing("flights")),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "the Dataset has failed",
            job().observes(failed("flights")),
            "Ready=False/UpstreamFailed InputsReady=False/UpstreamFailed UpToDate=Unknown/UpstreamFailed",
        ),
        (
            "the job is suspended",
            job().with(|spec| spec.suspend = true),
            "Ready=Unknown/Suspended InputsReady=True/InputsReady UpToDate=Unknown/Suspended",
        ),
        ("the job is being deleted", job().being_deleted(), "quiet"),
        (
            "its run has succeeded",
            job().its_run(succeeded),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "its run is dead",
            job().its_run(dead),
            "Ready=False/UserError InputsReady=True/InputsReady UpToDate=Unknown/UserError Stalled",
        ),
        ("newer data", trained().observes(version("flights", 2, 10)).at(11), "quiet create run requeue 10"),
    ]);
}

#[test]
fn edit_of_the_content_trains_again() {
    let again =
        "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling create run";
    type Edit = fn(&mut TrainingJobSpec);
    let edits: [(&str, Edit); 7] = [
        ("the image", |spec| spec.image = "trainer:2".into()),
        ("the command", |spec| spec.command.push("--fast".into())),
        ("the code", |spec| spec.code.insert("train.py".into(), "pass".into()).map_or((), drop)),
        ("a hyperparameter", |spec| spec.hyperparameters.insert("depth".into(), "3".into()).map_or((), drop)),
        ("the seed", |spec| spec.seed = 7),
        ("the store", |spec| spec.store = "models".into()),
        ("the framework", |spec| spec.framework = Some(pytorch(None))),
    ];
    check(edits.into_iter().map(|(field, edit)| (field, trained().edited(edit), again)).collect());
}

#[test]
fn edit_of_the_execution_trains_nothing_again() {
    let kept = "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1";
    check(vec![
        ("the memory", trained().edited(|spec| spec.resources.memory = Quantity::gibi(9)), kept),
        ("the scratch size", trained().edited(|spec| spec.scratch = "9Gi".into()), kept),
        ("a variable", trained().edited(|spec| spec.env.push(variable("A", "1"))), kept),
        (
            "the profile",
            trained().edited(|spec| spec.profile = Some("gpu".into())).profiled(gpu_profile()),
            kept,
        ),
        ("the budget of attempts", trained().edited(|spec| spec.retry.limit = 9), kept),
        ("the number of pods", trained().edited(|spec| spec.workers = Some(Workers { replicas: 2 })), kept),
        (
            "the number of processes",
            pair().its_run(succeeded).reconciled().edited(|spec| spec.framework = Some(pytorch(Some(4)))),
            kept,
        ),
    ]);
}

#[test]
fn edit_of_the_execution_is_mirrored_into_the_active_run() {
    let training = || job().its_run(active).reconciled();
    let is_mirrored = |case: IntentCase<TrainingJobIntent>| case.summary(&case.plan()).contains("apply run");
    assert!(!is_mirrored(training()));
    assert!(is_mirrored(training().edited(|spec| spec.resources.memory = Quantity::gibi(9))));
    assert!(is_mirrored(training().edited(|spec| spec.env.push(variable("A", "1")))));
    assert!(is_mirrored(training().edited(|spec| spec.shared_memory = Some("1Gi".into()))));
    assert!(is_mirrored(training().edited(|spec| spec.profile = Some("gpu".into()))));
    assert!(is_mirrored(training().edited(|spec| spec.workers = Some(Workers { replicas: 2 }))));
    assert!(is_mirrored(training().annotated(labels::RETRY_REQUESTED_AT, "1")));
    assert!(
        !is_mirrored(trained().edited(|spec| spec.env.push(variable("A", "1")))),
        "a run that has succeeded"
    );
}

#[test]
fn attempt_is_a_job_that_is_followed() {
    let started = || run().reconciled();
    let ended = |failure| terminated(&ResultDocument::failed(failure), NOW);
    let with_pod = |status| {
        let mut case = started();
        case.pods.push(pod_of("delay-1-1", 1, status));
        case
    };
    check(vec![
        ("nothing holds it up", run(), "quiet create Job delay-1-1"),
        ("its ObjectStore does not exist", run().without_stores(), "Unknown/ConnectionNotReady 0 attempts"),
        ("it runs", with_pod(running()), "quiet requeue 10"),
        ("its image cannot be pulled", with_pod(held_up()), "Unknown/ImagePull 0 attempts requeue 600"),
        (
            "the command fails",
            with_pod(ended(Failure::transient(Reason::UserError, "exit code 1"))),
            "Unknown/Retrying 1 attempts event UserError requeue 10",
        ),
        (
            "a failure that repeating cannot help",
            with_pod(ended(Failure::terminal(Reason::InvalidSpec, "no such input"))),
            "False/InvalidSpec Stalled 1 attempts event InvalidSpec requeue 3600",
        ),
    ]);
    let stuck = with_pod(ended(Failure::terminal(Reason::InvalidSpec, "no such input"))).reconciled();
    let edited = stuck.edited(|spec| spec.container.env.push(variable("A", "1"))).plan();
    assert_eq!(edited.creates.len(), 1, "an edit of the container renews the budget: {edited:#?}");
}

/// A profile for GPUs whose user code must not have the identity of mlop's programs.
fn gpu_profile() -> PodProfile {
    let workers = json!({
        "serviceAccountName": "mlop-workers",
        "imagePullSecrets": [{"name": "mlop-images"}],
        "nodeSelector": {"pool": "cpu"},
        "volumes": [{"name": "ca", "configMap": {"name": "authorities"}}],
        "container": {
            "volumeMounts": [{"name": "ca", "mountPath": "/etc/authorities", "readOnly": true}],
            "resources": {"limits": {"cpu": "1"}},
        },
    });
    let user = json!({
        "nodeSelector": {"pool": "gpu"},
        "priorityClassName": "training",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a100"]}]}]}}},
        "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "a100"}],
        "container": {
            "env": [{"name": "HF_HOME", "value": "/cache"}, {"name": "MLOP_SEED", "value": "kept"}],
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            "resources": {
                "limits": {"cpu": "100m", "ephemeral-storage": "20Gi"},
                "claims": [{"name": "gpu"}],
            },
        },
    });
    object("gpu", &json!({"workers": workers, "user": user}))
}

#[test]
fn pod_with_a_profile_is_that_of_the_golden_file() {
    let job = job().with(|spec| spec.profile = Some("gpu".into())).profiled(gpu_profile());
    let attempt = run_of(&job).profiled(gpu_profile()).plan();
    expect_file!["golden/with-profile.yaml"].assert_eq(&golden(&attempt.creates[0].object));
}

#[test]
fn training_reports_a_profile_that_is_missing() {
    let named = || job().with(|spec| spec.profile = Some("gpu".into()));
    let trained = || named().profiled(gpu_profile()).its_run(succeeded).reconciled();
    let unprofiled = |mut case: IntentCase<TrainingJobIntent>| {
        case.profiles.clear();
        case
    };
    check(vec![
        ("it disappears while a model is in use", unprofiled(trained()), {
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate Reconciling"
        }),
        (
            "it appears again",
            unprofiled(trained()).reconciled().profiled(gpu_profile()),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate",
        ),
        ("it is edited", trained().profiled(object("gpu", &json!({}))), "quiet"),
    ]);
}

#[test]
fn edit_of_the_size_gives_a_dead_run_another_budget() {
    let ended = terminated(&ResultDocument::failed(Failure::terminal(Reason::OutOfMemory, "killed")), NOW);
    let mut dead = run().reconciled();
    dead.pods.push(pod_of("delay-1-1", 1, ended));
    let size = |spec: &mut TrainingRunSpec| {
        spec.size = Some(Size { replicas: 2, processes_per_worker: 1 });
    };
    let again = "Unknown/Running 1 attempts create Job delay-1-2 apply Service delay-1 delete delay-1-1 delete delay-1-1";
    check(vec![("more pods share the work", dead.reconciled().edited(size), again)]);
}

#[test]
fn pods_of_a_distributed_training_are_those_of_the_golden_files() {
    let generic = job().with(|spec| spec.workers = Some(Workers { replicas: 3 }));
    let several = pair().with(|spec| {
        spec.resources.gpu = 4;
        spec.env.push(variable("PET_MASTER_PORT", "23456"));
    });
    let cases = [
        ("golden/pytorch.yaml", pair()),
        ("golden/pytorch-processes.yaml", several),
        ("golden/workers.yaml", generic),
    ];
    for (file, case) in cases {
        let attempt = run_of(&case).plan();
        let objects = [golden(&attempt.creates[0].object), golden(&attempt.applies[0].object)];
        expect_file![file].assert_eq(&objects.join("---\n"));
    }
}

#[test]
fn pods_are_those_of_the_golden_files() {
    let code = job().with(|spec| {
        spec.code.insert("train.py".into(), "print(1)\n".into());
        spec.hyperparameters.insert("depth".into(), "3".into());
        spec.seed = 7;
        spec.shared_memory = Some("1Gi".into());
        spec.env.push(variable("A", "1"));
        spec.pull_secrets.push("registry".into());
        spec.resources.gpu = 1;
    });
    let node = |name: &str, check| AvoidedNode { name: name.to_owned(), check, at: at(NOW).into() };
    let nodes = vec![node("gpu-3", Check::Gpu), node("gpu-4", Check::Store)];
    let mut avoiding = run_of(&code);
    avoiding.object.status.get_or_insert_default().avoided_nodes = nodes;
    let cases = [
        ("golden/command.yaml", run()),
        ("golden/code.yaml", run_of(&code)),
        ("golden/avoiding-nodes.yaml", avoiding),
    ];
    for (file, case) in cases {
        expect_file![file].assert_eq(&golden(&case.plan().creates[0].object));
    }
}

/// `text` as the kubelet expands it in a container with these variables.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            out.push_str(variables.get(name).unwrap_or(&format!("$({name})")));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

#[test]
fn values_with_dollars_survive_their_expansion() {
    let yaml = include_str!("../../../crates/mlop-api/tests/cases/training.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let found = documents.iter().find(|it| it["metadata"]["name"] == "b25").unwrap();
    let mut wanted: TrainingJobSpec = serde_json::from_value(found["spec"].clone()).unwrap();
    let more = ["$", "$$$", "$$$$(HOME)", "$(", "$()", "\\$(HOME)", "$((HOME))", "$(HOME", "`id`", " ", "\n"];
    wanted.store = "files".to_owned();
    wanted.command.extend(more.map(str::to_owned));
    wanted.env.extend(more.iter().enumerate().map(|(n, value)| variable(&format!("V{n}"), value)));
    let case = IntentCase::<TrainingJobIntent>::new("b25", &spec(), ()).with(|spec| *spec = wanted.clone());
    let attempt = run_of(&case).plan();
    let user = &attempt.creates[0].object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(user["name"], "user");
    let mut variables = BTreeMap::new();
    for entry in user["env"].as_array().unwrap() {
        let value = expanded(entry["value"].as_str().unwrap(), &variables);
        variables.insert(entry["name"].as_str().unwrap().to_owned(), value);
    }
    let command = user["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let command: Vec<_> = command.skip(3).map(|word| expanded(word, &variables)).collect();
    assert_eq!(command, wanted.command);
    for training::EnvVar { name, value, .. } in &wanted.env {
        assert_eq!(variables.get(name), value.as_ref(), "{name}");
    }
}
