//! Files as people have them, each with its right answer.

use super::*;
use ColumnType::{Bool, Float64, Int64, String as Text, Timestamp};

macro_rules! case {
    ($file:literal) => {
        include_bytes!(concat!("../../../tests/cases/", $file))
    };
}

fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
    columns.iter().map(|(name, kind)| column(name, *kind)).collect()
}

fn cities() -> Vec<Column> {
    columns(&[("id", Int64), ("city", Text), ("amount", Int64)])
}

/// A version of `content` with this budget.
async fn of(key: &str, content: &[u8], columns: Vec<Column>, max_ratio: &str) -> World {
    let mut world = world(&[(key, content)], columns).await;
    world.work.content.quarantine.max_ratio = max_ratio.into();
    world.csv().null_tokens = vec![String::new()];
    world
}

#[tokio::test]
async fn b01_an_unclosed_quote_is_never_ready() {
    let mut columns = columns(&[("id", Int64), ("city", Text), ("note", Text)]);
    columns[2].nullable = true;
    let world = of("b01.csv", case!("b01.csv"), columns.clone(), "0").await;
    world
        .fails(Reason::QuarantineBudgetExceeded, &["4 of 5 rows", "a quote that is never closed (b01.csv:3)"])
        .await;
    let world = of("b01b.csv", case!("b01b.csv"), columns, "0").await;
    world
        .fails(
            Reason::QuarantineBudgetExceeded,
            &["2 rows with text behind a closing quote (b01b.csv:3, b01b.csv:4)", "bareQuotes"],
        )
        .await;
}

/// The 4,000 rows of b02 with further quotes in some of them.
fn b02(quoted: &[u64]) -> Vec<u8> {
    let mut csv = String::from("id,city,amount\n");
    for id in 1..=4_000 {
        let quote = if quoted.contains(&id) { "\"" } else { "" };
        csv.push_str(&format!("{id},{quote}Bergen,{}\n", id * 10));
    }
    csv.into_bytes()
}

#[tokio::test]
async fn b02_rows_behind_a_quote_count_in_the_budget() {
    for (quoted, told) in [
        (&[2_001][..], &["2,000 of 4,000 rows", "never closed (b02.csv:2002)"][..]),
        (&[2], &["3,999 of 4,000 rows", "never closed (b02.csv:3)"]),
        (&[2_001, 2_501], &["501 of 4,000 rows", "text behind a closing quote (b02.csv:2002)"]),
    ] {
        let world = of("b02.csv", &b02(quoted), cities(), "0.001").await;
        world.fails(Reason::QuarantineBudgetExceeded, told).await;
    }
}

#[tokio::test]
async fn b03_na_is_a_country_where_its_column_says_so() {
    let mut columns = columns(&[("country", Text), ("city", Text), ("visits", Int64)]);
    columns[0].pattern = Some("^[A-Z]{2}$".into());
    columns[2].nullable = true;
    let mut world = of("b03.csv", case!("b03.csv"), columns, "0").await;
    world.csv().null_tokens = vec!["NA".into(), String::new()];
    world
        .fails(
            Reason::QuarantineBudgetExceeded,
            &[
                "country: 1 row against nullable false",
                "\"NA\": nullTokens makes it a missing value: set nullable, or ignoreNullTokens if it is a value (b03.csv:2",
            ],
        )
        .await;
    world.work.content.columns[0].ignore_null_tokens = true;
    assert_eq!(world.table().await.1, ["NA|Windhoek|10", "NO|Oslo|", "NA|Walvis Bay|7"]);
}

#[tokio::test]
async fn b04_whole_numbers_with_a_fraction_and_booleans_of_postgres() {
    let mut columns = columns(&[("id", Int64), ("children", Int64), ("active", Bool), ("score", Float64)]);
    columns[1].nullable = true;
    let mut world = of("b04.csv", case!("b04.csv"), columns.clone(), "0").await;
    world.fails(Reason::SchemaMismatch, &["column children", "\"2.0\": set zeroFraction", "b04.csv:2"]).await;
    world.work.content.columns[1].zero_fraction = true;
    world.fails(Reason::SchemaMismatch, &["column active", "\"t\": set trueValues", "b04.csv:2"]).await;
    world.work.content.columns[2].true_values = vec!["t".into()];
    world.work.content.columns[2].false_values = vec!["f".into()];
    assert_eq!(world.table().await.1, ["1|2|true|1.0", "2||false|2.0", "3|0|true|3.0"]);
    let world = of("b04-one.csv", case!("b04-one.csv"), columns, "0.01").await;
    let summary = world.summary().await;
    assert!(summary.starts_with(
        "199 rows, 1 rejected; rejected children: 1 row against type int64, for example \"2.0\""
    ));
    assert!(summary.contains("(b04-one.csv:"), "{summary}");
}

#[tokio::test]
async fn b05_delimiters_at_the_ends_of_lines() {
    let mut world = of("a.csv", case!("b05a-everywhere.csv"), cities(), "0").await;
    world.csv().delimiter = ";".into();
    assert_eq!(world.table().await.1, ["1|Oslo|10", "2|Bergen|20"]);
    let mut world = of("b.csv", case!("b05b-rows-only.csv"), cities(), "0").await;
    let told = ["3 of 3 rows", "more or fewer cells than the header (b.csv:2, b.csv:3, b.csv:4)"];
    world.fails(Reason::QuarantineBudgetExceeded, &told).await;
    world.csv().trailing_delimiter = true;
    assert_eq!(world.table().await.1, ["1|Oslo|10", "2|Bergen|20", "3|Bodo|30"]);
    let mut columns = cities();
    columns.push(column("note", Text));
    columns.iter_mut().for_each(|column| column.nullable = true);
    let world = of("c.csv", case!("b05c-short.csv"), columns, "1").await;
    assert_eq!(world.table().await.1, ["1|Oslo|10|ok"]);
    assert!(world.summary().await.contains("(c.csv:3, c.csv:4, c.csv:5)"));
    let world = of("d.csv", b"id,city,amount,,\n1,Oslo,10,,\n", cities(), "0").await;
    assert_eq!(world.table().await.1, ["1|Oslo|10"]);
}

#[tokio::test]
async fn b06_text_that_is_not_utf_8() {
    let mut world = of("a.csv", case!("b06a-latin1.csv"), cities(), "0.9").await;
    assert!(world.summary().await.starts_with("1 row, 2 rejected; rejected 2 rows that are not UTF-8"));
    assert_eq!(world.rejects().await[0]["raw"], "2,Troms\u{fffd},20");
    world.csv().encoding = "latin1".into();
    assert_eq!(world.table().await.1[1], "2|Tromsø|20");
    let mut euro = cities();
    euro[2].kind = Float64;
    let mut world = of("b.csv", case!("b06b-euro.csv"), euro, "0").await;
    world.csv().delimiter = ";".into();
    world.fails(Reason::QuarantineBudgetExceeded, &["not UTF-8", "encoding of source.format.csv"]).await;
    world.csv().encoding = "windows-1252".into();
    world.fails(Reason::SchemaMismatch, &["\"1.234,50\"", "decimalSeparator"]).await;
    world.csv().decimal_separator = ",".into();
    world.csv().thousands_separator = ".".into();
    assert_eq!(world.table().await.1, ["1|Tromsø|1234.5", "2|Bodø|0.75"]);
    let mut world = of("c.csv", case!("b06c-utf16.csv"), cities(), "0").await;
    world.fails(Reason::SchemaMismatch, &["c.csv is UTF-16", "encoding to utf-16"]).await;
    world.csv().encoding = "utf-16".into();
    assert_eq!(world.table().await.1, ["1|Oslo|10"]);
    let world = of("d.csv", case!("b06d-nul.csv"), cities(), "0").await;
    assert_eq!(world.table().await.1, ["1|Os\0lo|10", "2|Bergen|20"]);
}

#[tokio::test]
async fn b07_gzip_by_content() {
    let rows = ["1|Oslo|10", "2|Bergen|20"];
    for (key, content) in [
        ("a.csv.gz", &case!("b07a-plain.csv.gz")[..]),
        ("b.csv.gz", case!("b07b-padded.csv.gz")),
        ("e.csv.GZ", case!("b07e-upper.csv.GZ")),
        ("f.csv", case!("b07f-no-suffix.csv")),
        ("g.csv.gz", case!("b07g-double.csv.gz")),
    ] {
        let world = of(key, content, cities(), "0").await;
        assert_eq!(world.table().await.1[..2], rows, "{key}");
    }
    let world = of("c.csv.gz", case!("b07c-members.csv.gz"), cities(), "0").await;
    assert_eq!(world.table().await.1.len(), 4);
    let world = of("d.csv.gz", case!("b07d-truncated.csv.gz"), cities(), "1").await;
    world.fails(Reason::SchemaMismatch, &["d.csv.gz is not whole gzip"]).await;
}

#[tokio::test]
async fn b08_every_key_is_read_once() {
    let keys = [
        "a+b.csv",
        "50%.csv",
        "with space.csv",
        "dt=2026-01-01/p=ø/x.csv",
        "a&b;c,d.csv",
        "100%25.csv",
        "[1]?.csv",
        "~tilde'quote.csv",
        "{a,b}*#.csv",
        "gro\u{308}\u{df}e.csv",
        "gr\u{f6}\u{df}e.csv",
        "...csv",
        "\u{202e}x.csv",
        ".hidden.csv",
        "_temporary/0/part.csv",
    ];
    let objects: Vec<(String, Vec<u8>)> = keys
        .iter()
        .enumerate()
        .map(|(id, key)| (format!("b08/{key}"), format!("id,city\n{id},Oslo\n").into_bytes()))
        .chain([("b08/_SUCCESS".to_owned(), Vec::new())])
        .collect();
    let objects: Vec<_> = objects.iter().map(|(key, csv)| (key.as_str(), csv.as_slice())).collect();
    let world = world(&objects, columns(&[("id", Int64)])).await;
    let mut rows: Vec<usize> = world.table().await.1.iter().map(|row| row.parse().unwrap()).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..keys.len()).collect::<Vec<_>>());
}

#[tokio::test]
async fn b08_a_file_that_is_no_data_is_named() {
    let world = of("b08/.x.csv.crc", case!("b08-crc.bin"), cities(), "0").await;
    world.fails(Reason::SchemaMismatch, &["b08/.x.csv.crc", "checksum of Hadoop", "include"]).await;
}

#[tokio::test]
async fn b09_times_are_read_exactly_or_rejected() {
    let columns = columns(&[("id", Int64), ("form", Text), ("at", Timestamp)]);
    let world = of("b09.csv", case!("b09.csv"), columns, "1").await;
    let rows = world.table().await.1;
    let at = |form: &str| rows.iter().find_map(|row| row.split_once(&format!("|{form}|")).map(|(_, at)| at));
    for form in [
        "python-isoformat",
        "postgres",
        "postgres-half-hour",
        "bigquery",
        "spark",
        "rfc3339",
        "lower",
        "no-seconds",
    ] {
        assert_eq!(at(form), Some("2026-03-01T10:00:00Z"), "{form}");
    }
    for (form, expected) in [
        ("date-only", "2026-03-01T00:00:00Z"),
        ("nanos", "2026-03-01T10:00:00.123456Z"),
        ("before-1970", "1969-12-31T23:59:59.999999Z"),
        ("sentinel-max", "9999-12-31T00:00:00Z"),
        ("sentinel-min", "0001-01-01T00:00:00Z"),
        ("past-ns-range", "2262-04-12T00:00:00Z"),
    ] {
        assert_eq!(at(form), Some(expected), "{form}");
    }
    for form in ["go", "epoch-s", "epoch-ms", "day-first", "leap-second", "hour-24", "no-such-day", "spaces"]
    {
        assert_eq!(at(form), None, "{form}");
    }
    assert_eq!((rows.len(), world.rejects().await.len()), (14, 8));
}

#[tokio::test]
async fn b10_a_key_with_a_missing_part_is_unique() {
    let mut columns = columns(&[("ord", Int64), ("line", Int64), ("sku", Text)]);
    columns[0].nullable = true;
    columns[1].nullable = true;
    let mut world = of("b10.csv", case!("b10.csv"), columns, "1").await;
    world.work.content.unique = vec!["ord".into(), "line".into()];
    assert_eq!(world.table().await.1, ["1|1|a", "1||b", "1||c", "||d", "||e"]);
    assert_eq!(world.rejects().await[0]["line"], 7);
}

#[tokio::test]
async fn b11_an_empty_export_makes_no_version() {
    let columns = columns(&[("id", Int64), ("at", Timestamp), ("line", Text), ("v", Float64)]);
    let mut world = of("x.csv", case!("b11-good.csv"), columns.clone(), "0").await;
    assert_eq!(world.table().await.0.rows, 3);
    world = of("x.csv", case!("b11-header-only.csv"), columns, "0").await;
    world.fails(Reason::RuleViolated, &["0 valid rows", "rules.minRows 1", "The version in use stays"]).await;
}

#[tokio::test]
async fn b12_exports_glued_together_and_dressed_up() {
    let world = of("a.csv", case!("b12a-bom-quoted.csv"), cities(), "0").await;
    assert_eq!(world.table().await.1, ["1|Oslo|10", "2|Bergen|20"]);
    let world = of("b.csv", case!("b12b-two-exports.csv"), cities(), "0.5").await;
    assert_eq!(world.table().await.1, ["1|Oslo|10", "2|Bergen|20", "3|Bodo|30"]);
    assert!(world.summary().await.contains("1 row that repeat the header (b.csv:4)"));
    let world = of("c.csv", case!("b12c-glued.csv"), cities(), "0.5").await;
    assert_eq!(world.table().await.1, ["1|Oslo|10", "3|Bodo|30"]);
    let mut world = of("d.csv", case!("b12d-sep.csv"), cities(), "0").await;
    world.fails(Reason::SchemaMismatch, &["in line 1 has \"sep=\"", "skipLines to 1"]).await;
    world.csv().skip_lines = 1;
    assert_eq!(world.table().await.1, ["1|Oslo|10"]);
    let world = of("e.csv", case!("b12e-cr-only.csv"), cities(), "0.5").await;
    assert_eq!(world.table().await.1, ["1|Oslo|10", "3|Bodo|30"]);
    assert!(world.summary().await.contains("(e.csv:3)"));
    let world = of("f.csv", case!("b12f-total.csv"), cities(), "0.5").await;
    assert!(world.summary().await.contains("(f.csv:4)"));
    let mut world = of("g.csv", case!("b12g-spaces.csv"), cities(), "0").await;
    world.fails(Reason::SchemaMismatch, &["\" city\"", "source.format.csv.trim"]).await;
    world.csv().trim = true;
    assert_eq!(world.table().await.1, ["1|Oslo|10"]);
}
