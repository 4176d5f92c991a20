//! Requests to the online API of a FeatureStore, and its answers, without a client.

use crate::{
    columns::{self, Column},
    output::{Cell, Table, brief},
    snapshot::{Object, ObjectId, Snapshot},
};
use anyhow::{Context as _, Result, anyhow, bail};
use http::StatusCode;
use mlop_api::text::printable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where requests go, next to the address of a FeatureStore.
pub const PATH: &str = "/get-online-features";

/// No column of SQL has this name, so the API answers with those that there are.
const NO_FEATURE: &str = "?";

/// The features of entities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    metadata: Metadata,
    results: Vec<Results>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Metadata {
    feature_names: Vec<String>,
}

/// The values of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Results {
    values: Vec<Value>,
    statuses: Vec<String>,
    event_timestamps: Vec<String>,
}

/// The address of the online API that serves a FeatureView.
///
/// # Errors
/// The view is not online, or its FeatureStore has no address yet.
pub fn address<'a>(snapshot: &'a Snapshot, view: &Object) -> Result<&'a str> {
    let Some(store) = view.text("featureStore") else {
        bail!("{} is not online: its spec has no featureStore; only trainings read it", view.id);
    };
    let id = ObjectId::new("FeatureStore", store);
    let object = snapshot.get(&id).with_context(|| format!("there is no {id}, which {} names", view.id))?;
    object.status.address.as_deref().with_context(|| {
        format!(
            "{id} has no address: it has not started, or spec.api.replicas is 0; `kubectl mlop why {}` says why",
            id.argument()
        )
    })
}

/// The body of a request that is refused with the names of the features.
///
/// # Errors
/// As [`request`].
pub fn names_request(view: &Object, entities: &[Column]) -> Result<Value> {
    request(view, entities, &[NO_FEATURE.to_owned()])
}

/// The features of the view, from the answer to [`names_request`].
///
/// # Errors
/// The API refuses the request for another reason.
pub fn names(status: StatusCode, body: &str) -> Result<Vec<String>> {
    let message = message(body);
    let named = message.split_once(&format!("has no feature {NO_FEATURE:?}, only "));
    match named {
        Some((_, names)) if status == StatusCode::NOT_FOUND => {
            Ok(names.split(", ").map(str::to_owned).collect())
        }
        _ => Err(refused(status, &message)),
    }
}

/// The body of a request for features of the view.
///
/// # Errors
/// An entity column is missing or unknown, or the columns differ in length.
pub fn request(view: &Object, entities: &[Column], features: &[String]) -> Result<Value> {
    let wanted = view.spec.get("entities").and_then(Value::as_array).into_iter().flatten();
    let wanted: Vec<&str> = wanted.filter_map(Value::as_str).collect();
    let is_given = |name: &&str| entities.iter().any(|column| column.name == **name);
    let all = || wanted.iter().map(|name| format!("--entity {name}=...")).collect::<Vec<_>>().join(" ");
    if let Some(other) = entities.iter().find(|column| !wanted.contains(&column.name.as_str())) {
        bail!("{} has no entity column {:?}; want {}", view.id, other.name, all());
    }
    if let Some(missing) = wanted.iter().find(|name| !is_given(name)) {
        bail!("the entity column {missing} is missing: {} needs {}", view.id, all());
    }
    columns::rows(entities)?;
    let features: Vec<_> = features.iter().map(|name| format!("{}:{name}", view.id.name)).collect();
    let entities: serde_json::Map<_, _> = entities.iter().map(|it| (it.name.clone(), keys(it))).collect();
    Ok(json!({"features": features, "entities": entities}))
}

/// Keys as the API wants them: a column of digits alone is one of integers, unless it was written as JSON.
fn keys(column: &Column) -> Value {
    let integer = |value: &Value| {
        let text = value.as_str()?;
        text.parse::<i64>().ok().filter(|number| number.to_string() == text)
    };
    let integers: Option<Vec<i64>> = column.values.iter().map(integer).collect();
    match integers {
        Some(integers) if !column.is_json => integers.into(),
        _ => column.values.clone().into(),
    }
}

/// Reads the answer to a request.
///
/// # Errors
/// The API refuses it.
pub fn read(status: StatusCode, body: &str) -> Result<Answer> {
    if !status.is_success() {
        return Err(refused(status, &message(body)));
    }
    serde_json::from_str(body)
        .with_context(|| format!("unexpected answer of the online API: {}", brief(&printable(body), 1_000)))
}

fn message(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let error = json.as_ref().and_then(|json| json.get("error")?.as_str());
    printable(error.unwrap_or(body)).into_owned()
}

fn refused(status: StatusCode, message: &str) -> anyhow::Error {
    // An integer that is a text looks like any other.
    let advice = if message.contains("wants a string") {
        "; write texts of digits as JSON, as in --entity 'zip=[\"10115\"]'"
    } else {
        ""
    };
    anyhow!("the online API refuses the request: {status}: {message}{advice}")
}

/// A table with one line for each feature of each entity.
pub fn table(answer: &Answer, view: &Object) -> String {
    let columns: Vec<_> = answer.metadata.feature_names.iter().zip(&answer.results).collect();
    let entities = view.spec.get("entities").and_then(Value::as_array).into_iter().flatten();
    let entities: Vec<_> = entities
        .filter_map(|name| columns.iter().find(|(column, _)| Some(column.as_str()) == name.as_str()))
        .collect();
    let features: Vec<_> = columns.iter().filter(|column| !entities.contains(column)).collect();
    let mut table = Table::default();
    let header = entities.iter().map(|(name, _)| printable(name).to_uppercase());
    table.row(
        header.chain(["FEATURE", "VALUE", "STATUS", "SINCE"].map(str::to_owned)).map(Cell::from).collect(),
    );
    let rows = answer.results.iter().map(|results| results.values.len()).max().unwrap_or_default();
    for row in 0..rows {
        for (name, results) in &features {
            let key = entities.iter().map(|(_, keys)| shown(keys.values.get(row)));
            let status = results.statuses.get(row).map_or("", String::as_str);
            // What is not there has the time 0.
            let since = results.event_timestamps.get(row).filter(|_| status != "NOT_FOUND");
            let rest = [
                printable(name).into_owned(),
                shown(results.values.get(row)),
                printable(status).into_owned(),
                since.map_or_else(String::new, |since| printable(since).into_owned()),
            ];
            table.row(key.chain(rest).map(Cell::from).collect());
        }
    }
    table.render()
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => brief(&printable(text), 60),
        Some(other) => brief(&printable(&other.to_string()), 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::flights;
    use expect_test::expect_file;

    fn columns(texts: &[&str]) -> Vec<Column> {
        texts.iter().map(|text| Column::parse(text).unwrap()).collect()
    }

    fn with_view<T>(look: impl Fn(&Snapshot, &Object) -> T) -> T {
        let snapshot = flights().snapshot();
        let view = snapshot.get(&ObjectId::new("FeatureView", "route-delays")).unwrap();
        look(&snapshot, view)
    }

    #[test]
    fn request_names_the_entities_of_the_view() {
        let rows: [(&[&str], &str); 5] = [
            (
                &["origin=JFK,EWR", "dest=LAX,7", "carrier=5,6"],
                r#"{"entities":{"carrier":[5,6],"dest":["LAX","7"],"origin":["JFK","EWR"]},"features":["route-delays:a"]}"#,
            ),
            (
                &[r#"origin=["5"]"#, "dest=[5]", "carrier=007"],
                r#"{"entities":{"carrier":["007"],"dest":[5],"origin":["5"]},"features":["route-delays:a"]}"#,
            ),
            (
                &["origin=JFK", "dest=LAX"],
                "the entity column carrier is missing: FeatureView/route-delays needs --entity origin=... --entity dest=... --entity carrier=...",
            ),
            (
                &["user=5"],
                "FeatureView/route-delays has no entity column \"user\"; want --entity origin=... --entity dest=... --entity carrier=...",
            ),
            (
                &["origin=JFK,EWR", "dest=LAX", "carrier=AA"],
                "every row needs each value: origin has 2, dest has 1",
            ),
        ];
        for (entities, want) in rows {
            let found = with_view(|_, view| request(view, &columns(entities), &["a".to_owned()]));
            assert_eq!(
                found.map_or_else(|error| error.to_string(), |it| it.to_string()),
                want,
                "{entities:?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_the_refusal() {
        let refusal = |text: &str| json!({"error": text, "status_code": 404}).to_string();
        let known = refusal(r#"view "route-delays" has no feature "?", only arr_delay_30d, flights_30d"#);
        assert_eq!(names(StatusCode::NOT_FOUND, &known).unwrap(), ["arr_delay_30d", "flights_30d"]);
        let gone = refusal(r#"no view "route-delays" is online in namespace "flights""#);
        assert_eq!(
            names(StatusCode::NOT_FOUND, &gone).unwrap_err().to_string(),
            "the online API refuses the request: 404 Not Found: no view \"route-delays\" is online in namespace \"flights\""
        );
        let text = refusal(r#"entity column "zip" wants a string in row 0"#);
        let error = read(StatusCode::BAD_REQUEST, &text).unwrap_err().to_string();
        assert!(
            error.ends_with("write texts of digits as JSON, as in --entity 'zip=[\"10115\"]'"),
            "{error}"
        );
    }

    #[test]
    fn address_is_that_of_the_feature_store() {
        assert_eq!(
            with_view(|snapshot, view| address(snapshot, view).unwrap().to_owned()),
            "http://features-fs.flights.svc:6566"
        );
        let change = |id: &str, patch: Value| {
            let snapshot = flights().with(id, patch).snapshot();
            let view = snapshot.get(&ObjectId::new("FeatureView", "route-delays")).unwrap();
            address(&snapshot, view).unwrap_err().to_string()
        };
        let offline =
            change("FeatureView/route-delays", json!({"spec": {"featureStore": null, "store": "mlop"}}));
        assert!(offline.contains("not online"), "{offline}");
        let elsewhere = change("FeatureView/route-delays", json!({"spec": {"featureStore": "other"}}));
        assert_eq!(elsewhere, "there is no FeatureStore/other, which FeatureView/route-delays names");
        let starting = change("FeatureStore/features", json!({"status": {"address": null}}));
        assert!(starting.contains("has no address"), "{starting}");
    }

    #[test]
    fn table_has_a_line_per_entity_and_feature() {
        let results = |values: Value, statuses: [&str; 2], at: &str| json!({"values": values, "statuses": statuses, "event_timestamps": [at, "1970-01-01T00:00:00Z"]});
        let answer = json!({
            "metadata": {"feature_names": ["carrier", "dest", "origin", "arr_delay_30d", "flights_30d"]},
            "results": [
                results(json!(["AA", "UA"]), ["PRESENT"; 2], "1970-01-01T00:00:00Z"),
                results(json!(["LAX", "X\u{1b}[31m"]), ["PRESENT"; 2], "1970-01-01T00:00:00Z"),
                results(json!(["JFK", "EWR"]), ["PRESENT"; 2], "1970-01-01T00:00:00Z"),
                results(json!([3.2885375494071147, null]), ["PRESENT", "NOT_FOUND"], "2013-08-01T01:00:00Z"),
                results(json!([null, null]), ["NULL_VALUE", "NOT_FOUND"], "2013-08-01T01:00:00Z"),
            ],
        });
        let answer = read(StatusCode::OK, &answer.to_string()).unwrap();
        expect_file!["tests/golden/features.txt"].assert_eq(&with_view(|_, view| table(&answer, view)));
    }
}
