//! Loading into a real Redis: its content, and which revision wins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use arrow::array::RecordBatch;
use common::{
    Scratch,
    redis::TestRedis,
    store, table,
    view::{EARLY, NAMESPACE, activate, online, recorded, run, user_stats, users},
};
use mlop_api::{
    Digest, Reason,
    result::Failure,
    task::{Departure, Online, ViewKey},
};
use mlop_features::online::{
    Schema,
    connection::{Server, Tls},
    load::{Claim, Load, Row, View},
    mark::{Probe, mark_key, probe},
    read::{Lookup, ReadError, Reader},
};

/// Tables whose one user has this amount.
fn amount(amount: f64) -> RecordBatch {
    users(&[(Some(1), EARLY, amount, Some("RO"))])
}

fn reader(redis: &TestRedis) -> Reader {
    Reader::new(redis.server(), NAMESPACE.to_owned())
}

async fn served_amount(reader: &Reader) -> f64 {
    let entity = mlop_features::feast::EntityValue::Int64(1);
    let key = mlop_features::feast::key::entity_key([("user_id", &entity)].into_iter(), NAMESPACE);
    loop {
        let served = reader.view("user_stats").await.unwrap().expect("the view is online");
        let lookup =
            Lookup { served, features: vec!["amount_avg".to_owned()], entity_keys: vec![key.clone()] };
        if let Some(rows) = reader.rows(&[lookup], 0..1).await.unwrap() {
            let row = rows[0][0].clone().expect("the entity is there");
            let mlop_features::feast::Value::Double(amount) = row.values[0] else { panic!("{row:?}") };
            return amount;
        }
    }
}

#[track_caller]
fn superseded<T>(ended: Result<T, Failure>) {
    let failure = ended.err().expect("the revision must lose");
    assert_eq!(
        (failure.reason, failure.retryable),
        (Reason::ActivationSuperseded, false),
        "{}",
        failure.message
    );
}

/// A row as [`TestRedis`] holds it, field by field in hexadecimal.
async fn row(redis: &TestRedis, key: &[u8]) -> Vec<(String, String)> {
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        redis::cmd("HGETALL").arg(key).query_async(&mut redis.connect().await).await.unwrap();
    let mut fields: Vec<_> =
        fields.iter().map(|(field, value)| (hex::encode(field), hex::encode(value))).collect();
    fields.sort();
    fields
}

#[tokio::test]
async fn rows_are_those_of_feast() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = store();
    let digest = table(&store, &recorded()).await;
    let result = run(&redis, &store, &digest, &online(5)).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("3 entities online"));
    let generation: String = redis::cmd("HGET")
        .arg("mlop:{fraud/user_stats}:pointer")
        .arg("generation")
        .query_async(&mut redis.connect().await)
        .await
        .unwrap();
    let mut key = format!("mlop:{{fraud/user_stats}}:{generation}:e:").into_bytes();
    key.extend(
        hex::decode("010000000200000007000000757365725f69640400000008000000e9030000000000006672617564")
            .unwrap(),
    );
    let expected = [
        ("208cecde", "20e907"),
        ("5f74733a757365725f7374617473", "08a4b984d806"),
        ("9bcce6e3", "1202524f"),
        ("b8752a5c", "3801"),
        ("c2d7e782", "290000000000769740"),
        ("cff970e1", "82010a0a080000003f0000c03f"),
        ("d1f27523", "40d0bb84d806"),
    ];
    assert_eq!(row(&redis, &key).await, expected.map(|(field, value)| (field.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn row_is_skipped_when_it_has_no_entity() {
    let Some(redis) = TestRedis::start().await else { return };
    let table = users(&[(None, EARLY, 1.0, None), (Some(1), EARLY, 2.0, None)]);
    let result = activate(&redis, &table, 1).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("1 entity online; not online: 1 row without entity or time"));
}

#[tokio::test]
async fn row_of_the_future_does_not_hide_the_present_one() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = store();
    let rows =
        [(Some(1), EARLY, 10.0, None), (Some(1), EARLY + 60, 99.0, None), (Some(2), EARLY + 60, 7.0, None)];
    let digest = table(&store, &users(&rows)).await;
    let as_of = jiff::Timestamp::from_second(EARLY + 59).ok();
    let result = run(&redis, &store, &digest, &Online { as_of, ..online(1) }).await.unwrap();
    assert_eq!(result.summary.as_deref(), Some("1 entity online; not online: 2 rows of the future"));
    assert_eq!(served_amount(&reader(&redis)).await, 10.0);
}

#[tokio::test]
async fn view_is_loaded_over_tls_as_a_user() {
    let Some(redis) = TestRedis::start_tls().await else { return };
    redis::cmd("ACL")
        .arg(&["SETUSER", "mlop", "on", ">secret", "~mlop:*", "+@all", "-@admin"])
        .exec_async(&mut redis.connect().await)
        .await
        .unwrap();
    let scratch = Scratch::new();
    let password_file = scratch.path().join("password");
    std::fs::write(&password_file, "secret").unwrap();
    let server =
        Server { user: Some("mlop".to_owned()), password_file: Some(password_file), ..redis.server() };
    let store = store();
    let digest = table(&store, &amount(3.0)).await;
    let directory = Scratch::new();
    mlop_features::activate::run(&online(1), &digest, &store, server.clone(), directory.path())
        .await
        .unwrap();
    assert_eq!(served_amount(&Reader::new(server.clone(), NAMESPACE.to_owned())).await, 3.0);
    let unknown = Server { tls: Some(Tls::default()), ..server.clone() };
    let failure = View::open(unknown, user_stats()).await.err().expect("the authority is unknown");
    assert_eq!((failure.reason, failure.retryable), (Reason::OnlineStoreUnreachable, true));
    assert!(failure.message.contains("ertificate"), "{}", failure.message);
    let plain = Server { tls: None, response_timeout: std::time::Duration::from_secs(1), ..server };
    let failure = View::open(plain, user_stats()).await.err().expect("Redis speaks TLS only");
    assert_eq!(failure.reason, Reason::OnlineStoreUnreachable, "{}", failure.message);
}

/// The view `name` at the same columns as `user_stats`.
fn named(name: &str, revision: i64) -> Online {
    let view = ViewKey { namespace: NAMESPACE.to_owned(), name: name.to_owned() };
    Online { view, ..online(revision) }
}

#[tokio::test]
async fn views_of_a_cluster_are_loaded_read_and_removed() {
    let Some(nodes) = TestRedis::start_cluster().await else { return };
    let server = Server { cluster: true, ..nodes[0].server() };
    let (store, directory) = (store(), Scratch::new());
    let views = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for (revision, amounts) in [(1, 10.0), (2, 20.0)] {
        for (place, view) in views.into_iter().enumerate() {
            let digest = table(&store, &amount(amounts + place as f64)).await;
            let online = named(view, revision);
            let loaded =
                mlop_features::activate::run(&online, &digest, &store, server.clone(), directory.path())
                    .await;
            assert_eq!(loaded.unwrap().summary.as_deref(), Some("1 entity online"));
        }
    }
    for node in &nodes {
        assert!(!node.keys().await.is_empty(), "every node has some of the views");
    }

    let reader = Reader::new(server.clone(), NAMESPACE.to_owned());
    reader.ping().await.unwrap();
    let entity = mlop_features::feast::EntityValue::Int64(1);
    let key = mlop_features::feast::key::entity_key([("user_id", &entity)].into_iter(), NAMESPACE);
    let mut lookups = Vec::new();
    for view in views {
        let served = reader.view(view).await.unwrap().expect("the view is online");
        let (features, entity_keys) = (vec!["amount_avg".to_owned()], vec![key.clone()]);
        lookups.push(Lookup { served, features, entity_keys });
    }
    let rows = reader.rows(&lookups, 0..1).await.unwrap().expect("no other generation");
    let amounts = rows.iter().map(|rows| match rows[0].as_ref().expect("the entity is there").values[0] {
        mlop_features::feast::Value::Double(amount) => amount,
        ref other => panic!("{other:?}"),
    });
    assert_eq!(amounts.collect::<Vec<_>>(), (0..8).map(|place| f64::from(20 + place)).collect::<Vec<_>>());

    let mark = mark_key(NAMESPACE, "features");
    let fresh = Digest::of_bytes(b"1");
    let probed = probe(&server, &Probe { key: mark.clone(), fresh, seen: 0 }).await.unwrap();
    assert_eq!(probed.digest, Some(Digest::of_bytes(Digest::of_bytes(b"1").as_str().as_bytes())));
    assert!(reader.has(&mark).await.unwrap());

    for view in views {
        View::open(server.clone(), named(view, 3).view).await.unwrap().remove().await.unwrap();
    }
    let mut left = Vec::new();
    for node in &nodes {
        left.extend(node.keys().await);
    }
    left.retain(|key| !key.starts_with(&mark));
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn late_revision_loses_in_a_cluster_too() {
    let Some(nodes) = TestRedis::start_cluster().await else { return };
    let server = Server { cluster: true, ..nodes[1].server() };
    let (store, directory) = (store(), Scratch::new());
    let (old, new) = (table(&store, &amount(1.0)).await, table(&store, &amount(2.0)).await);
    let run = async |digest, revision| {
        let online = online(revision);
        mlop_features::activate::run(&online, digest, &store, server.clone(), directory.path()).await
    };
    run(&new, 2).await.unwrap();
    superseded(run(&old, 1).await);
    let plain = Server { cluster: false, ..server.clone() };
    let mut refused = 0;
    for view in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let mut view = View::open(plain.clone(), named(view, 1).view).await.unwrap();
        let removed = view.remove().await;
        refused += usize::from(
            removed.is_err_and(|failure| failure.message.contains("spec.redis.existing.cluster")),
        );
    }
    assert!(refused > 0, "keys of other nodes are refused with the field to set");
}

#[tokio::test]
async fn cluster_whose_nodes_evict_rows_is_refused() {
    let Some(nodes) = TestRedis::start_cluster().await else { return };
    nodes[2].run(&["CONFIG", "SET", "maxmemory", "50mb"]).await;
    nodes[2].run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let server = Server { cluster: true, ..nodes[0].server() };
    let mut view = View::open(server, user_stats()).await.unwrap();
    let failure = view.check_keeps_rows().await.unwrap_err();
    assert!(failure.message.contains("from allkeys-lru to noeviction"), "{}", failure.message);
}

#[tokio::test]
async fn redis_is_refused_when_it_evicts_rows() {
    let settings = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(redis) = TestRedis::start_with(&settings).await else { return };
    let failure = activate(&redis, &amount(1.0), 1).await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::OnlineStoreUnreachable, true));
    assert!(failure.message.contains("from allkeys-lru to noeviction"), "{}", failure.message);
}

#[tokio::test]
async fn full_redis_goes_on_serving_when_a_load_does_not_fit() {
    let Some(redis) = TestRedis::start_with(&["--maxmemory", "8mb"]).await else { return };
    activate(&redis, &amount(1.0), 1).await.unwrap();
    let keys = redis.keys().await;
    let many: Vec<_> = (1..100_000).map(|user| (Some(user), EARLY, 2.0, Some("RO"))).collect();
    let failure = activate(&redis, &users(&many), 2).await.unwrap_err();
    assert!(failure.retryable, "{}", failure.message);
    for words in ["OOM", "give Redis more memory", "MiB are in use without this view, of 8.0 MiB"] {
        assert!(failure.message.contains(words), "{words}: {}", failure.message);
    }
    assert_eq!(redis.keys().await, keys);
    assert_eq!(served_amount(&reader(&redis)).await, 1.0);
}

#[tokio::test]
async fn only_a_higher_revision_is_served() {
    let Some(redis) = TestRedis::start().await else { return };
    let reader = reader(&redis);
    assert!(reader.view("user_stats").await.unwrap().is_none());
    activate(&redis, &amount(1.0), 3).await.unwrap();
    assert_eq!(served_amount(&reader).await, 1.0);
    activate(&redis, &amount(2.0), 4).await.unwrap();
    assert_eq!(served_amount(&reader).await, 2.0);
    let keys = redis.keys().await;
    superseded(activate(&redis, &amount(1.0), 3).await);
    superseded(activate(&redis, &amount(5.0), 4).await);
    assert_eq!(redis.keys().await, keys, "a late revision leaves nothing behind");
    let again = activate(&redis, &amount(2.0), 4).await.unwrap();
    assert_eq!(again.summary.as_deref(), Some("1 entity online"));
    assert_eq!(served_amount(&reader).await, 2.0);
}

#[tokio::test]
async fn edited_ttl_reaches_readers_under_the_same_revision() {
    let Some(redis) = TestRedis::start().await else { return };
    let (store, reader) = (store(), reader(&redis));
    let digest = table(&store, &amount(1.0)).await;
    let mut online = online(1);
    for ttl_seconds in [Some(60), Some(120), None, Some(60)] {
        online.ttl_seconds = ttl_seconds;
        run(&redis, &store, &digest, &online).await.unwrap();
        assert_eq!(served_amount(&reader).await, 1.0);
        assert_eq!(reader.view("user_stats").await.unwrap().unwrap().schema.ttl_seconds, ttl_seconds);
    }
    // Pointer and generations, and of two generations index, meta and one row.
    assert_eq!(redis.keys().await.len(), 2 + 2 * 3);
}

#[tokio::test]
async fn two_generations_are_kept_and_no_more() {
    let Some(redis) = TestRedis::start().await else { return };
    for revision in 1..=5 {
        activate(&redis, &amount(revision as f64), revision).await.unwrap();
    }
    let keys = redis.keys().await;
    // Pointer and generations, and of each generation index, meta and one row.
    assert_eq!(keys.len(), 2 + 2 * 3, "{keys:?}");
    assert!(
        keys.iter().any(|key| key.contains(":4-")) && keys.iter().any(|key| key.contains(":5-")),
        "{keys:?}"
    );
}

fn schema() -> Schema {
    Schema { entities: vec![], timestamp: "ts".to_owned(), features: vec![], ttl_seconds: None }
}

fn rows(from: u32) -> [Row; 2] {
    [from, from + 1].map(|n| Row {
        entity_key: n.to_le_bytes().to_vec(),
        fields: vec![(b"field".to_vec(), b"value".to_vec())],
    })
}

async fn open(server: Server) -> View {
    View::open(server, user_stats()).await.unwrap()
}

/// The load of a revision that is not served yet.
async fn begin<'a>(view: &'a mut View, revision: i64, digest: &'a Digest, schema: &Schema) -> Load<'a> {
    let claim = view.claim(revision, digest, schema).await.unwrap();
    let Claim::Load(load) = claim else { panic!("revision {revision} is served already") };
    load
}

#[tokio::test]
async fn interrupted_load_is_finished_or_removed() {
    let Some(redis) = TestRedis::start().await else { return };
    let (first, second) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
    let mut view = open(redis.server()).await;
    for _ in 0..3 {
        let mut load = begin(&mut view, 1, &first, &schema()).await;
        load.put(&rows(0)).await.unwrap();
        // Dropped: the pod is gone.
    }
    assert!(reader(&redis).view("user_stats").await.unwrap().is_none());
    let mut load = begin(&mut view, 2, &second, &schema()).await;
    assert!(!redis.keys().await.iter().any(|key| key.contains(":1-")), "the abandoned load is cleared away");
    load.put(&rows(0)).await.unwrap();
    load.finish().await.unwrap();
    assert!(matches!(view.claim(2, &second, &schema()).await.unwrap(), Claim::Served { entities: 2 }));
}

#[tokio::test]
async fn load_loses_as_soon_as_a_higher_one_begins() {
    let Some(redis) = TestRedis::start().await else { return };
    let (first, second) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
    let (mut late, mut early) = (open(redis.server()).await, open(redis.server()).await);
    let mut lower = begin(&mut late, 1, &first, &schema()).await;
    lower.put(&rows(0)).await.unwrap();
    let mut higher = begin(&mut early, 2, &second, &schema()).await;
    higher.put(&rows(0)).await.unwrap();
    superseded(lower.put(&rows(2)).await);
    superseded(lower.finish().await);
    higher.finish().await.unwrap();
    let keys = redis.keys().await;
    assert!(!keys.iter().any(|key| key.contains(":1-")), "{keys:?}");
}

#[tokio::test]
async fn later_schema_wins_under_one_revision() {
    let Some(redis) = TestRedis::start().await else { return };
    let digest = Digest::of_bytes(b"1");
    let edited = Schema { ttl_seconds: Some(60), ..schema() };
    let (mut one, mut two) = (open(redis.server()).await, open(redis.server()).await);
    let mut before = begin(&mut one, 1, &digest, &schema()).await;
    before.put(&rows(0)).await.unwrap();
    let mut after = begin(&mut two, 1, &digest, &edited).await;
    after.put(&rows(0)).await.unwrap();
    superseded(before.finish().await);
    after.finish().await.unwrap();
    assert_eq!(redis.keys().await.len(), 2 + 4, "only the served generation is left");
}

#[tokio::test]
async fn twins_of_one_load_both_succeed() {
    let Some(redis) = TestRedis::start().await else { return };
    let digest = Digest::of_bytes(b"1");
    let (mut one, mut two) = (open(redis.server()).await, open(redis.server()).await);
    let mut first = begin(&mut one, 1, &digest, &schema()).await;
    let mut second = begin(&mut two, 1, &digest, &schema()).await;
    first.put(&rows(0)).await.unwrap();
    second.put(&rows(0)).await.unwrap();
    first.finish().await.unwrap();
    let before = redis.keys().await;
    second.finish().await.unwrap();
    assert_eq!(redis.keys().await, before);
}

#[tokio::test]
async fn removal_deletes_all_keys_and_stops_loads() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &amount(1.0), 1).await.unwrap();
    activate(&redis, &amount(2.0), 2).await.unwrap();
    let digest = Digest::of_bytes(b"3");
    let mut loading = open(redis.server()).await;
    let mut load = begin(&mut loading, 3, &digest, &schema()).await;
    load.put(&rows(0)).await.unwrap();
    let mut view = open(redis.server()).await;
    view.remove().await.unwrap();
    assert_eq!(redis.keys().await, Vec::<String>::new());
    superseded(load.put(&rows(2)).await);
    superseded(load.finish().await);
    view.remove().await.unwrap();
    assert_eq!(redis.keys().await, Vec::<String>::new());
    activate(&redis, &amount(1.0), 1).await.unwrap();
    assert_eq!(served_amount(&reader(&redis)).await, 1.0);
}

/// The departure of the view, under `revision`, to the FeatureStore `to`.
fn left(revision: i64, to: Option<&str>) -> Departure {
    Departure { revision, to: to.map(str::to_owned) }
}

#[tokio::test]
async fn view_that_left_is_deleted_and_late_loads_lose() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &amount(1.0), 1).await.unwrap();
    activate(&redis, &amount(2.0), 2).await.unwrap();
    let digest = Digest::of_bytes(b"3");
    let mut loading = open(redis.server()).await;
    let mut load = begin(&mut loading, 3, &digest, &schema()).await;
    load.put(&rows(0)).await.unwrap();
    let mut view = open(redis.server()).await;
    let pointer = format!("mlop:{{{NAMESPACE}/user_stats}}:pointer");
    for _ in 0..2 {
        assert!(view.leave(&left(4, None)).await.unwrap());
        assert_eq!(redis.keys().await, [pointer.as_str()]);
    }
    assert!(reader(&redis).view("user_stats").await.unwrap().is_none());
    superseded(load.put(&rows(2)).await);
    superseded(load.finish().await);
    superseded(activate(&redis, &amount(3.0), 3).await);
    assert_eq!(redis.keys().await, [pointer.as_str()]);
    activate(&redis, &amount(5.0), 4).await.unwrap();
    assert!(!view.leave(&left(3, None)).await.unwrap(), "the view has come back since");
    assert_eq!(served_amount(&reader(&redis)).await, 5.0);
}

#[tokio::test]
async fn view_that_left_stays_in_a_shared_redis() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &amount(1.0), 1).await.unwrap();
    redis.run(&["SET", &format!("mlop:store:{{{NAMESPACE}/other}}:mark"), "m"]).await;
    let mut view = open(redis.server()).await;
    assert!(!view.leave(&left(9, Some("other"))).await.unwrap());
    assert_eq!(served_amount(&reader(&redis)).await, 1.0);
    assert!(view.leave(&left(9, Some("elsewhere"))).await.unwrap());
}

/// Amounts only grow, so a reader that saw a row of a half-loaded or half-deleted generation would panic or go back.
#[tokio::test]
async fn readers_see_whole_generations_during_a_load() {
    let Some(redis) = TestRedis::start().await else { return };
    activate(&redis, &amount(1.0), 1).await.unwrap();
    let reader = reader(&redis);
    let writer = async {
        for revision in 2..=30 {
            activate(&redis, &amount(revision as f64), revision).await.unwrap();
        }
    };
    let reading = async {
        let mut last = 0.0;
        while last < 30.0 {
            let amount = served_amount(&reader).await;
            assert!(amount >= last, "{amount} after {last}");
            last = amount;
        }
    };
    tokio::join!(writer, reading);
}

#[tokio::test]
async fn activation_refuses_a_table_of_another_view() {
    let Some(redis) = TestRedis::start().await else { return };
    let store = store();
    let unsorted = users(&[(Some(2), EARLY, 1.0, None), (Some(1), EARLY, 1.0, None)]);
    let digest = table(&store, &unsorted).await;
    let failure = run(&redis, &store, &digest, &online(1)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::InputCorrupt, "{}", failure.message);
    let strange = Online { entities: vec!["nobody".to_owned()], ..online(2) };
    let failure = run(&redis, &store, &digest, &strange).await.unwrap_err();
    assert!(failure.message.contains("nobody"), "{}", failure.message);
    assert!(reader(&redis).view("user_stats").await.unwrap().is_none());
}

#[tokio::test]
async fn failure_names_redis_when_it_is_away_or_refuses() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let scratch = Scratch::new();
    let password_file = scratch.path().join("wrong");
    std::fs::write(&password_file, "wrong").unwrap();
    let wrong = Server { password_file: Some(password_file), ..redis.server() };
    let failure = View::open(wrong, user_stats()).await.err().expect("the password is wrong");
    assert_eq!(
        (failure.reason, failure.retryable),
        (Reason::OnlineStoreUnreachable, true),
        "{}",
        failure.message
    );
    assert!(failure.message.contains("password"), "{}", failure.message);
    let reader = reader(&redis);
    reader.ping().await.unwrap();
    redis.stop();
    let failure = View::open(redis.server(), user_stats()).await.err().expect("Redis is gone");
    assert_eq!(failure.reason, Reason::OnlineStoreUnreachable);
    assert!(failure.message.contains(&redis.address()), "{}", failure.message);
    assert!(matches!(reader.ping().await, Err(ReadError::Redis(_))));
}
