//! The spans of runs.

use super::*;
use crate::{run::trace, span::Span};
use k8s_openapi::api::core::v1::EnvVar;
use mlop_api::{
    contract::{Ancestor, InputRecord},
    run::RunInput,
    trace::{SpanId, TRACEPARENT, TraceId},
};

/// The run was created 30 s before [`NOW`] by the Forecast `delay`.
fn created<const JOB: bool>(mut case: Case<JOB>) -> Case<JOB> {
    let owner = json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "Forecast", "name": "delay", "uid": "1", "controller": true});
    let metadata = &mut case.object.metadata;
    metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
    metadata.creation_timestamp = Some(time(NOW - 30));
    case
}

/// The run was made from the Dataset `flights`, which was published 31 s before [`NOW`].
fn downstream<const JOB: bool>(case: Case<JOB>) -> Case<JOB> {
    let mut case = created(case);
    let digest = Digest::of_bytes(b"flights");
    let lineage = &mut case.object.spec.lineage.0;
    lineage.inputs.push(RunInput {
        record: InputRecord {
            name: "flights".into(),
            api_group: "mlop.dev".into(),
            kind: "Dataset".into(),
            object: "flights".into(),
            uid: "2".into(),
            generation: 1,
            digest: digest.clone(),
        },
        store: "files".into(),
        media_type: MEDIA_TREE.into(),
    });
    lineage.ancestors.push(Ancestor {
        api_group: "mlop.dev".into(),
        kind: "Dataset".into(),
        name: "flights".into(),
        digest,
        root: true,
        input_digest: Some(Digest::of_bytes(b"listing")),
        produced_at: Some(at(NOW - 31).into()),
    });
    case
}

fn spans<const JOB: bool>(case: &Case<JOB>) -> Vec<Span> {
    trace::spans(&case.observed(), case.plan().status.as_ref(), at(case.now))
}

/// Name, start and end in seconds after [`NOW`], and the error of each span.
fn words(spans: &[Span]) -> Vec<String> {
    let word = |span: &Span| {
        let second = |at: jiff::Timestamp| at.as_second() - NOW;
        let error = span.error.as_deref().unwrap_or("ok");
        format!("{} {}..{} {error}", span.name, second(span.start), second(span.end))
    };
    spans.iter().map(word).collect()
}

fn succeeded<const JOB: bool>(case: Case<JOB>, seconds: i64) -> Case<JOB> {
    case.at(0).reconciled().pod(testing::terminated(&success(), NOW + seconds)).at(seconds)
}

#[test]
fn spans_end_with_attempts_and_runs() {
    let retried = || created(run()).failed(user_error(), 0).failed(user_error(), 20);
    let dead = |case: Case<false>| {
        case.at(60)
            .reconciled()
            .pod(testing::terminated(&ResultDocument::failed(user_error()), NOW + 70))
            .at(70)
    };
    let rows: Vec<(&str, Case<false>, &[&str])> = vec![
        ("nothing has ended", created(run()).reconciled().pod(testing::running()).at(5), &[]),
        (
            "the first attempt succeeds",
            succeeded(created(run()), 9),
            &["attempt 1 0..9 ok", "ForecastRun delay -30..9 ok"],
        ),
        (
            "the first attempt fails",
            created(run())
                .reconciled()
                .pod(testing::terminated(&ResultDocument::failed(user_error()), NOW + 4))
                .at(5),
            &["attempt 1 0..4 UserError"],
        ),
        ("it is known", created(run()).failed(user_error(), 0).at(1), &[]),
        (
            "the last attempt fails",
            dead(retried()),
            &["attempt 3 60..70 UserError", "ForecastRun delay -30..70 UserError"],
        ),
        (
            "the pod is gone",
            succeeded(created(run()), 9).reconciled().without_pods().at(20),
            &["ForecastRun delay -30..9 ok"],
        ),
        ("the run ended long ago", succeeded(created(run()), 9).reconciled().at(400), &[]),
    ];
    for (situation, case, want) in rows {
        assert_eq!(words(&spans(&case)), want, "{situation}");
    }
    let mut job = created(job()).reconciled().at(9);
    job.pods.push(testing::pod_of("delay-1-1-x", 1, testing::terminated(&success(), NOW + 9)));
    assert_eq!(
        words(&spans(&job)),
        ["attempt 1 0..9 ok", "ForecastRun delay -30..9 ok"],
        "it begins with its Job"
    );
}

#[test]
fn repeated_export_is_the_same_span() {
    let case = succeeded(downstream(run()), 9);
    let first = spans(&case);
    assert_eq!(spans(&case.reconciled().at(200)), first);
}

#[test]
fn run_belongs_to_the_trace_of_its_root() {
    let root = spans(&succeeded(created(run()), 9));
    let own = TraceId::of_root(testing::NS, "Forecast", "delay", &Digest::of_bytes(b""));
    assert!(root.iter().all(|span| span.trace == own));
    assert_eq!((&root[1].id, &root[1].parent), (&own.root_span(), &None), "it begins the trace");
    assert_eq!(
        (&root[0].id, &root[0].parent),
        (&SpanId::of_attempt("delay-1-uid", 1), &Some(own.root_span()))
    );

    let later = spans(&succeeded(downstream(run()), 9));
    let trace = TraceId::of_root(testing::NS, "Dataset", "flights", &Digest::of_bytes(b"listing"));
    assert!(later.iter().all(|span| span.trace == trace));
    assert_eq!((&later[1].id, &later[1].parent), (&SpanId::of_run("delay-1-uid"), &Some(trace.root_span())));
    assert_eq!(later[0].parent, Some(SpanId::of_run("delay-1-uid")));
    let published = ("mlop.inputs_published_at", "1970-01-12T13:46:09.000000Z".into());
    assert!(later[1].attributes.contains(&published), "{:?}", later[1].attributes);
}

#[test]
fn pods_join_the_trace_as_their_attempt() {
    let parent = |case: &Case<false>| {
        let plan = case.plan();
        let variable = plan.creates[0].object.pointer("/spec/containers/0/env/0").unwrap().clone();
        assert_eq!(variable["name"], TRACEPARENT);
        variable["value"].as_str().unwrap().to_owned()
    };
    let trace = TraceId::of_root(testing::NS, "Dataset", "flights", &Digest::of_bytes(b"listing"));
    let of = |attempt| format!("00-{trace}-{}-01", SpanId::of_attempt("delay-1-uid", attempt));
    assert_eq!(parent(&downstream(run())), of(1));
    assert_eq!(parent(&downstream(run()).failed(user_error(), 0).at(20)), of(2));
}

#[test]
fn variable_of_the_user_stays() {
    let theirs = EnvVar { name: TRACEPARENT.into(), value: Some("mine".into()), value_from: None };
    let container = Container { name: "user".into(), env: Some(vec![theirs.clone()]), ..Default::default() };
    let spec = PodSpec { containers: vec![container], ..Default::default() };
    let mut pod = Pod { spec: Some(spec), ..Default::default() };
    trace::join(&mut pod, &created(run()).object, 1);
    assert_eq!(pod.spec.unwrap().containers[0].env, Some(vec![theirs]));
}
