//! CSV objects, from the bytes in a bucket to the published table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlop_api::{
    dataset::{Column, DatasetContent},
    result::{Failure, ResultDocument},
    task::{ScanWork, VersionWork},
};
use mlop_artifact::store::ObjectStoreHandle;
use mlop_dataset::{scan, version};
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let first = runtime.block_on(version_of(bytes));
    let second = runtime.block_on(version_of(bytes));
    assert_eq!(first.as_ref().ok(), second.as_ref().ok());
    assert_eq!(first.as_ref().err(), second.as_ref().err());
    let Ok(result) = first else { return };
    let metric = |name| result.metrics.iter().find(|m| m.name == name).map_or(f64::NAN, |m| m.number());
    // Compressed content has other lines.
    if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") || bytes.starts_with(b"BZh") {
        return;
    }
    // Each row has its own line, and the header is not a row.
    let lines = bytes.iter().filter(|byte| matches!(**byte, b'\n' | b'\r')).count() + 1;
    assert!(metric("rows") + metric("rejected") <= lines as f64, "{result:?}");
});

async fn version_of(bytes: &[u8]) -> Result<ResultDocument, Failure> {
    let (source, output) = (ObjectStoreHandle::in_memory("raw"), ObjectStoreHandle::in_memory("data"));
    source.create("a.csv", bytes.to_vec()).await?;
    let (from, to) = (source.store().clone(), output.store().clone());
    let work =
        ScanWork { source: from.clone(), prefix: String::new(), include: Vec::new(), output: to.clone() };
    let listing = scan::scan(&source, &output, &work).await?.digest.expect("a successful scan has a digest");
    let format = json!({"csv": {"nullTokens": ["", "NA"]}});
    let work = VersionWork {
        source: from,
        listing,
        content: DatasetContent {
            format: serde_json::from_value(format).expect("a format"),
            columns: columns(),
            unique: vec!["s".to_owned()],
            quarantine: serde_json::from_value(json!({"maxRatio": "1"})).expect("a budget"),
            rules: serde_json::from_value(json!({"minRows": 0})).expect("rules"),
        },
        previous_rows: None,
        output: to,
    };
    version::version(&source, &output, work, "2026-03-01T10:00:00Z".parse().expect("a time")).await
}

/// Columns of all types, with all kinds of bounds.
fn columns() -> Vec<Column> {
    let columns = json!([
        {"name": "s", "type": "string", "pattern": "[a-z0-9]*"},
        {"name": "i", "type": "int64", "nullable": true, "min": "-5", "max": "1000"},
        {"name": "f", "type": "float64", "nullable": true, "max": "1.5"},
        {"name": "b", "type": "bool", "nullable": true},
        {"name": "t", "type": "timestamp", "nullable": true},
        {"name": "d", "type": "date", "nullable": true},
    ]);
    serde_json::from_value(columns).expect("columns")
}
