//! What `source.format.csv` and `columns` describe.

use super::*;
use mlop_api::dataset::Header;

/// The rows of an object with columns `a` and `b` of texts, in the dialect that `change` makes.
async fn read(csv: &[u8], change: impl FnOnce(&mut Csv)) -> Vec<String> {
    let columns = vec![nullable("a", ColumnType::String), nullable("b", ColumnType::String)];
    let mut world = world(&[("x.csv", csv)], columns).await;
    change(world.csv());
    world.table().await.1
}

#[tokio::test]
async fn characters_are_chosen() {
    let rows = read(b"a|b\n'x|y'|'it''s'\n# no row\n1|2\n", |csv| {
        csv.delimiter = "|".into();
        csv.quote = "'".into();
        csv.comment = "#".into();
    });
    assert_eq!(rows.await, ["x|y|it's", "1|2"]);
    let rows = read(
        br#"a,b
"say \"hi\"","back\\slash"
"#,
        |csv| csv.escape = "\\".into(),
    );
    assert_eq!(rows.await, [r#"say "hi"|back\slash"#]);
    assert_eq!(read(b"a,b\n\"x,5\" y\n", |csv| csv.quote = "none".into()).await, ["\"x|5\" y"]);
    assert_eq!(read(b"a,b\n5\" pipe,1\n", |csv| csv.bare_quotes = true).await, ["5\" pipe|1"]);
}

#[tokio::test]
async fn blanks_are_trimmed_outside_quotes() {
    let rows = read(b"a , b\n 1 ,\t\" x \" \n , y\n", |csv| csv.trim = true).await;
    assert_eq!(rows, ["1| x ", "|y"]);
}

#[tokio::test]
async fn headers_may_be_behind_lines_absent_or_replaced() {
    assert_eq!(read(b"Report\r\n\"of, today\r\na,b\r\n1,2\r\n", |csv| csv.skip_lines = 2).await, ["1|2"]);
    assert_eq!(read(b"1,2\n3,4\n", |csv| csv.header = Header::Absent).await, ["1|2", "3|4"]);
    let named = |csv: &mut Csv| csv.names = ["b", "x", "a"].map(String::from).into();
    let rows = read(b"1,2,3\n", |csv| {
        named(csv);
        csv.header = Header::Absent;
    });
    assert_eq!(rows.await, ["3|1"]);
    assert_eq!(read(b"u,v,w\n1,2,3\n", named).await, ["3|1"]);
}

#[tokio::test]
async fn header_may_be_any_text() {
    let mut price = column("price", ColumnType::Float64);
    price.header = Some("Unit Price (€)".into());
    let world = world(&[("x.csv", "id,Unit Price (€)\n1,2.5\n".as_bytes())], vec![price]).await;
    assert_eq!(world.table().await.1, ["2.5"]);
}

#[tokio::test]
async fn header_that_does_not_fit_is_reported_with_advice() {
    let cases: &[(&[u8], &[&str])] = &[
        (b"a;b\n1;2\n", &["has \"a;b\"", "delimiter to \";\""]),
        (b"a, b\n1,2\n", &["\" b\"", "source.format.csv.trim"]),
        (b"sep=,\na,b\n", &["sep=", "skipLines"]),
        (b"\xff\xfea\0,\0b\0\n\0", &["UTF-16", "encoding"]),
        (b"<html><body>Sign in</body></html>", &["HTML"]),
        (b"PK\x03\x04....", &["zip"]),
        (b"{\"a\":1,\"b\":2}\n", &["ndjson"]),
        (b"a,\"b\n1,2\n", &["header", "never closed"]),
        (b"\xe4,b\n1,2\n", &["not UTF-8", "windows-1252"]),
        (b"a,b,a\n1,2,3\n", &["\"a\" twice"]),
    ];
    for (csv, told) in cases {
        let columns = vec![column("a", ColumnType::String), column("b", ColumnType::String)];
        let world = world(&[("x.csv", csv)], columns).await;
        world.fails(Reason::SchemaMismatch, told).await;
    }
}

#[tokio::test]
async fn encodings_are_read_by_name_or_mark() {
    let rows = read(b"a,b\nTroms\xf8,\x80\n", |csv| csv.encoding = "windows-1252".into()).await;
    assert_eq!(rows, ["Tromsø|€"]);
    let utf16: Vec<u8> = "\u{feff}a,b\nø,\"x\ny\"\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(read(&utf16, |csv| csv.encoding = "utf-16".into()).await, ["ø|x\ny"]);
}

#[tokio::test]
async fn compression_is_recognized_by_content() {
    let text = "a,b\n1,2\n";
    let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(text.as_bytes()).unwrap();
    let bzip2 = bzip2.finish().unwrap();
    for packed in [
        gzip(text),
        zstd.clone(),
        [&zstd[..], &zstd::encode_all(&b"3,4\n"[..], 3).unwrap()].concat(),
        bzip2.clone(),
    ] {
        assert_eq!(read(&packed, |_| {}).await[0], "1|2");
    }
    for packed in [&zstd[..zstd.len() - 5], &bzip2[..bzip2.len() - 5]] {
        let world = world(&[("x.csv", packed)], vec![column("a", ColumnType::String)]).await;
        world.fails(Reason::SchemaMismatch, &["x.csv is not whole"]).await;
    }
    let trailing = [&gzip(text)[..], b"more"].concat();
    let world = world(&[("x.csv", &trailing)], vec![column("a", ColumnType::String)]).await;
    world.fails(Reason::SchemaMismatch, &["not gzip follow its end"]).await;
}

#[tokio::test]
async fn columns_have_their_own_null_tokens_and_numbers() {
    let mut country = column("country", ColumnType::String);
    country.null_tokens = vec!["-".into()];
    country.nullable = true;
    let columns = vec![country, nullable("visits", ColumnType::Int64), column("spent", ColumnType::Float64)];
    let csv = "country;visits;spent\nNA;NA;1.234,50\n-;7;0,75\n\"-\";\"NA\";1\n";
    let mut world = world(&[("x.csv", csv.as_bytes())], columns).await;
    world.csv().delimiter = ";".into();
    world.csv().decimal_separator = ",".into();
    world.csv().thousands_separator = ".".into();
    assert_eq!(world.table().await.1, ["NA||1234.5", "|7|0.75", "-||1.0"]);
}

#[tokio::test]
async fn sensitive_value_is_in_no_message() {
    let mut secret = column("secret", ColumnType::Int64);
    secret.sensitive = true;
    let csv = b"id,secret\n1,hunter2\n2,hunter3\n3,4711\n";
    let mut world = world(&[("x.csv", csv)], vec![column("id", ColumnType::Int64), secret]).await;
    let failure = world.version().await.unwrap_err();
    assert!(
        !failure.message.contains("hunter") && failure.message.contains("secret: 2 rows"),
        "{}",
        failure.message
    );
    world.work.content.columns[1].max = Some("0".into());
    world.work.content.rules.min_rows = Some(0);
    world.work.content.quarantine.max_ratio = "1".into();
    assert!(!world.summary().await.contains("4711"));
    world.work.content.columns[1].max = None;
    let (manifest, _) = world.table().await;
    assert_eq!((manifest.columns[1].count, manifest.columns[1].min.clone()), (1, None));
    let world = super::world(
        &[("x.csv", b"secret\nhunter2\nhunter3\n")],
        vec![world.work.content.columns[1].clone()],
    )
    .await;
    let failure = world.version().await.unwrap_err();
    assert!(!failure.message.contains("hunter"), "{}", failure.message);
}

#[tokio::test]
async fn column_may_have_its_own_budget() {
    let mut strict = nullable("b", ColumnType::Int64);
    strict.quarantine = Some(Budget { max_ratio: "0.1".into() });
    let csv = b"a,b\n1,1\n2,x\n3,3\n4,4\n";
    let mut world = world(&[("x.csv", csv)], vec![column("a", ColumnType::Int64), strict]).await;
    world.work.content.quarantine.max_ratio = "0.5".into();
    world.fails(Reason::QuarantineBudgetExceeded, &["columns[b]: 1 of 4 rows", "0.1", "x.csv:3"]).await;
}

#[tokio::test]
async fn one_bad_value_of_a_sparse_column_is_a_bad_row() {
    let csv = format!("a,b\n{}1,x\n", "1,\n".repeat(1_000));
    let columns = vec![column("a", ColumnType::Int64), nullable("b", ColumnType::Int64)];
    let mut world = world(&[("x.csv", csv.as_bytes())], columns).await;
    world.work.content.quarantine.max_ratio = "0.01".into();
    let summary = world.summary().await;
    assert_eq!(
        summary,
        "1,000 rows, 1 rejected; rejected b: 1 row against type int64, for example \"x\": add it to nullTokens if it means no value (x.csv:1002)"
    );
}

#[tokio::test]
async fn rejected_rows_are_set_aside_byte_for_byte() {
    let csv = b"a,b\n \"x\"y,\"1\"\n\xff\xfe,2\n1,\"q\n";
    let columns = vec![column("a", ColumnType::String), column("b", ColumnType::String)];
    let mut world = world(&[("x.csv", csv)], columns).await;
    world.work.content.quarantine.max_ratio = "1".into();
    world.work.content.rules.min_rows = Some(0);
    world.version().await.unwrap();
    let rejects = world.rejects().await;
    assert_eq!(rejects[0]["raw"], " \"x\"y,\"1\"");
    assert_eq!(rejects[1]["rawHex"], "fffe2c32");
    assert_eq!((&rejects[2]["raw"], &rejects[2]["rule"]), (&"1,\"q\n".into(), &"quotes".into()));
}

#[tokio::test]
async fn decimal_column_holds_its_digits_exactly() {
    let price = Column { scale: Some(2), precision: Some(6), ..column("price", ColumnType::Decimal) };
    let price = || Column { min: Some("-0.5".into()), max: Some("1000.005".into()), ..price.clone() };
    let csv = b"price\n0.10\n-.5\n1000\n1e2\n0.005\n1000.01\n-0.51\n12345.67\n";
    let mut world = world(&[("x.csv", csv)], vec![price()]).await;
    world.work.content.quarantine.max_ratio = "1".into();
    let (manifest, rows) = world.table().await;
    assert_eq!(rows, ["0.10", "-0.50", "1000.00"]);
    assert_eq!(manifest.schema[0].kind, "decimal(6,2)");
    assert_eq!(manifest.columns[0].max.as_deref(), Some("1000.00"));
    let summary = world.summary().await;
    let typed = "price: 3 rows against type decimal, for example \"1e2\": use type float64";
    assert!(summary.contains(typed), "{summary}");
}
