//! Files as tools and accidents leave them: each is read whole, or its defect is named.

use super::*;
use mlop_api::dataset::{Header, Ndjson};

type Change = fn(&mut Csv);
/// A name, an object, how it is to be read, its rows, and words of the note of those that were rejected.
type Case<'a> = (&'a str, &'a [u8], Change, &'a [&'a str], &'a str);

const AS_IS: Change = |_| {};
const LATER: Change = |csv| csv.skip_lines = 1;
const HEADLESS: Change = |csv| csv.header = Header::Absent;
const UTF16: Change = |csv| csv.encoding = "utf-16".into();
const ESCAPED: Change = |csv| csv.escape = "\\".into();

/// The world of one object with columns `a` and `b` of texts, in which any number of rows may be rejected.
async fn one(csv: &[u8], change: Change) -> World {
    let columns = vec![nullable("a", ColumnType::String), nullable("b", ColumnType::String)];
    let mut world = world(&[("x.csv", csv)], columns).await;
    world.work.content.quarantine.max_ratio = "1".into();
    world.work.content.rules.min_rows = Some(0);
    change(world.csv());
    world
}

/// Reads each object and compares its rows and the note.
async fn read(cases: &[Case<'_>]) {
    for (name, csv, change, rows, note) in cases {
        let world = one(csv, *change).await;
        assert_eq!(world.table().await.1, *rows, "{name}");
        let notes = world.version().await.unwrap().notes.join("; ");
        assert!(notes.contains(note) && notes.is_empty() == note.is_empty(), "{name}: {notes}");
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn lines_end_in_any_way() {
    let long = [b"a,b\n1,", &vec![b'x'; 2 << 20][..], b"\n3,4\n"].concat();
    let cases: &[Case<'_>] = &[
        ("mixed", b"a,b\r\n1,2\n3,4\r5,6", AS_IS, &["1|2", "3|4", "5|6"], ""),
        ("CR CR LF", b"a,b\r\r\n1,2\r\r\n3,4\r\r\n", AS_IS, &["1|2", "3|4"], ""),
        ("LF CR", b"a,b\n\r1,2\n\r3,4\n\r", AS_IS, &["1|2", "3|4"], ""),
        ("the end of DOS", b"a,b\r\n1,2\r\n\x1a", AS_IS, &["1|2"], "cells than the header (x.csv:3)"),
        ("padding", b"a,b\n1,2\n\0\0\0\0", AS_IS, &["1|2"], "cells than the header (x.csv:3)"),
        ("long", &long, AS_IS, &["3|4"], "longer than a row may be (1 MiB, 4,096 cells) (x.csv:2)"),
    ];
    read(cases).await;
}

#[tokio::test]
async fn quotes_and_escapes_are_read_in_every_place() {
    let cases: &[Case<'_>] = &[
        (
            "doubled",
            b"a,b\n\"\",\"\"\n\"\"\"\",x\n\"a\"\"b\",\"\"\"c\"\n",
            AS_IS,
            &["|", "\"|x", "a\"b|\"c"],
            "",
        ),
        ("line in a value", b"a,b\n\"1\n2\",3\n", AS_IS, &["1\n2|3"], ""),
        (
            "escaped end",
            b"a,b\n\"x\\\",2\n3,4\n",
            ESCAPED,
            &[],
            "2 rows behind a quote that is never closed (x.csv:2)",
        ),
        (
            "doubled beside an escape",
            b"a,b\n\"x\"\"y\",2\n3,4\n",
            ESCAPED,
            &["3|4"],
            "behind a closing quote (x.csv:2)",
        ),
        (
            "escape without quotes",
            b"a,b\nx\\,y,2\n3,4\n",
            ESCAPED,
            &["3|4"],
            "cells than the header (x.csv:2)",
        ),
        (
            "a remark in quotes",
            b"a,b\n\"x\n# y\",2\n# no\n",
            |csv| csv.comment = "#".into(),
            &["x\n# y|2"],
            "",
        ),
    ];
    read(cases).await;
}

#[tokio::test]
async fn marks_of_files_put_together_are_no_text() {
    let cases: &[Case<'_>] = &[
        ("twice", b"\xef\xbb\xbf\xef\xbb\xbfa,b\n1,2\n", AS_IS, &["1|2"], ""),
        ("before the title", b"\xef\xbb\xbfsep=,\na,b\n1,2\n", LATER, &["1|2"], ""),
        ("behind the title", b"title\n\xef\xbb\xbfa,b\n1,2\n", LATER, &["1|2"], ""),
        ("without a header", b"\xef\xbb\xbf1,2\n\xef\xbb\xbf3,4\n", HEADLESS, &["1|2", "3|4"], ""),
        ("in the middle", b"a,b\n1,2\n\xef\xbb\xbf3,\xef\xbb\xbf4\n", AS_IS, &["1|2", "3|\u{feff}4"], ""),
        (
            "with a header",
            b"\xef\xbb\xbfa,b\n1,2\n\xef\xbb\xbfa,b\n3,4\n",
            AS_IS,
            &["1|2", "3|4"],
            "1 row that repeat the header (x.csv:3)",
        ),
        ("behind the first", b"b,a\n\xef\xbb\xbf1,\xef\xbb\xbf2\n", AS_IS, &["\u{feff}2|1"], ""),
        (
            "before quotes",
            b"a,b\n\xef\xbb\xbf\"1\",2\n3,4\n",
            AS_IS,
            &["3|4"],
            "inside an unquoted value (x.csv:2)",
        ),
    ];
    read(cases).await;
}

#[tokio::test]
async fn repeated_header_is_no_row() {
    let cases: &[Case<'_>] = &[
        ("whole", b"x,a,b\n0,1,2\nx,a,b\n", AS_IS, &["1|2"], "repeat the header (x.csv:3)"),
        ("one value", b"a,b\na,2\n", AS_IS, &["a|2"], ""),
        ("without a header", b"a,b\na,b\n", HEADLESS, &["a|b", "a|b"], ""),
    ];
    read(cases).await;
    for (csv, rows) in [(&b"a\na\n"[..], &["a"][..]), (b"a\n\xef\xbb\xbfa\n", &[])] {
        let mut world = one(csv, AS_IS).await;
        world.work.content.columns.pop();
        assert_eq!(world.table().await.1, rows);
    }
}

/// 64 MiB in one row, packed into some hundred kilobytes, and that packed once more.
#[tokio::test]
async fn small_object_that_unpacks_to_much_is_one_rejected_row() {
    let long = [b"a,b\n1,", &vec![b'x'; 64 << 20][..], b"\n3,4\n"].concat();
    let bomb = gzip_of(&long);
    assert!(bomb.len() < 1 << 20);
    let zstd = zstd::encode_all(&long[..], 1).unwrap();
    let note = "longer than a row may be (1 MiB, 4,096 cells) (x.csv:2)";
    read(&[("gzip", &bomb, AS_IS, &["3|4"], note), ("zstd", &zstd, AS_IS, &["3|4"], note)]).await;
}

#[tokio::test]
async fn packed_objects_are_read_as_their_tools_read_them() {
    let text = b"a,b\n1,2\n";
    let zstd = zstd::encode_all(&text[..], 1).unwrap();
    let named = |name: &str| {
        let mut encoder = flate2::GzBuilder::new().filename(name).comment("c").extra(*b"ex");
        encoder = encoder.mtime(1);
        let mut encoder = encoder.write(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let skipped_first = [b"\x50\x2a\x4d\x18\x04\0\0\0abcd", &zstd[..]].concat();
    let skipped_last = [&zstd[..], b"\x5e\x2a\x4d\x18\x04\0\0\0abcd"].concat();
    let cases: &[Case<'_>] = &[
        ("gzip with all fields", &named("x.csv"), AS_IS, &["1|2"], ""),
        ("gzip behind an empty member", &[gzip_of(b""), gzip_of(text)].concat(), AS_IS, &["1|2"], ""),
        ("zstd of pzstd", &skipped_first, AS_IS, &["1|2"], ""),
        ("zstd that can be searched", &skipped_last, AS_IS, &["1|2"], ""),
        ("UTF-16 in gzip", &gzip_of(&utf16("\u{feff}a,b\n1,2\n")), UTF16, &["1|2"], ""),
        ("UTF-16 without a mark", &utf16("a,b\n1,2\n"), UTF16, &["1|2"], ""),
        // Spark leaves such parts behind.
        ("nothing in gzip", &gzip_of(b""), AS_IS, &[], ""),
        ("nothing in gzip, no header", &gzip_of(b""), HEADLESS, &[], ""),
        ("nothing in zstd", &zstd::encode_all(&b""[..], 1).unwrap(), AS_IS, &[], ""),
    ];
    read(cases).await;
}

#[tokio::test]
async fn objects_of_another_kind_are_named() {
    let bad_sum = |mut packed: Vec<u8>| {
        let sum = packed.len() - 6;
        packed[sum] ^= 1;
        packed
    };
    let zstd = zstd::encode_all(&b"a,b\n1,2\n"[..], 1).unwrap();
    let cases: &[(&[u8], Change, &str)] = &[
        (b"\xff\xfe\0\0a\0\0\0,\0\0\0", AS_IS, "UTF-32"),
        (b"\0\0\0\0\0\0\0\0", AS_IS, "zero bytes"),
        (b"\xef\xbb\xbf", AS_IS, "it is empty"),
        (b"PK\x05\x06\0\0", AS_IS, "zip"),
        (b"PK\x03\x04\x14\0\0\0", HEADLESS, "zip"),
        (b"<!DOCTYPE html><html>,x\n</html>,y\n", HEADLESS, "HTML"),
        (b"{\\rtf1\\ansi", AS_IS, "RTF"),
        (b"x\x01K\xd4I\xd2\x31\xe4\x02\0", AS_IS, "it is no text"),
        (&bad_sum(gzip_of(b"a,b\n1,2\n")), AS_IS, "not whole gzip"),
        (&[&zstd[..], b"garbage"].concat(), AS_IS, "not whole zstd"),
        (&gzip_of(&gzip_of(&gzip_of(b"a"))), AS_IS, "packed more than twice"),
        (b"a,b\n", |csv| csv.encoding = "iso-2022-kr".into(), "not the name of an encoding"),
    ];
    for (object, change, named) in cases {
        let failure = one(object, *change).await.version().await.unwrap_err();
        assert!(failure.message.contains(named) && !failure.retryable, "{named}: {}", failure.message);
    }
}

#[tokio::test]
async fn names_that_look_alike_are_told_apart() {
    for (header, told) in [
        ("A,b", "set columns[].header to \"A\""),
        ("a\u{a0},b", "set columns[].header to \"a\\u{a0}\""),
        ("\u{200b}a,b", "set columns[].header to \"\\u{200b}a\""),
        ("a ,b", "set source.format.csv.trim"),
    ] {
        let csv = format!("{header}\n1,2\n");
        one(csv.as_bytes(), AS_IS)
            .await
            .fails(Reason::SchemaMismatch, &["lacks the column \"a\"", told])
            .await;
    }
    let wide = |cell: fn(usize) -> String| (0..1_000).map(cell).collect::<Vec<_>>().join(",");
    let csv = format!("{},a,b\n{},1,2\n", wide(|i| format!("c{}", i % 500)), wide(|i| i.to_string()));
    assert_eq!(one(csv.as_bytes(), AS_IS).await.table().await.1, ["1|2"], "columns that are not read");
}

#[tokio::test]
async fn lines_of_json_that_are_none_are_rejected() {
    let deep = format!("{{\"a\":\"1\",\"x\":{}{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let cases: &[(&str, &[u8], &[&str], u64)] = &[
        ("key twice, once null", b"{\"a\":null,\"a\":\"1\"}\n{\"a\":\"1\",\"a\":null}\n", &[], 2),
        ("over lines", b"{\n \"a\": \"1\"\n}\n", &[], 3),
        ("commas", b"{\"a\":\"1\"},\n{\"a\":\"2\"}\n", &["2"], 1),
        ("two in a line", b"{\"a\":\"1\"} {\"a\":\"2\"}\n", &[], 1),
        ("half a pair", b"{\"a\":\"\\ud83d\"}\n{\"a\":\"\\ud83d\\ude00\"}\n", &["😀"], 1),
        ("padding", b"{\"a\":\"1\"}\n\0\0\0\0", &["1"], 1),
        ("deep and unread", deep.as_bytes(), &["1"], 0),
        ("out of range and unread", b"{\"a\":\"1\",\"x\":1e999999,\"\":0}\n", &["1"], 0),
        ("nothing in gzip", &gzip_of(b""), &[], 0),
    ];
    for (name, object, rows, rejected) in cases {
        let mut world = one(object, AS_IS).await;
        world.work.content.columns.pop();
        world.work.content.format =
            Format { csv: None, ndjson: Some(Ndjson { null_tokens: Vec::new() }), parquet: None };
        assert_eq!(world.table().await.1, *rows, "{name}");
        let result = world.version().await.unwrap();
        let metric = result.metrics.iter().find(|metric| metric.name == "rejected").unwrap();
        assert_eq!(metric.number(), *rejected as f64, "{name}");
    }
}

#[tokio::test]
async fn partition_without_a_value_is_missing() {
    let day = Column { from_key: Some("day=([^/]+)/".into()), ..nullable("day", ColumnType::Timestamp) };
    let objects: &[(&str, &[u8])] =
        &[("day=2026-01-01 10%3A30/x.csv", b"a\n1\n"), ("day=__HIVE_DEFAULT_PARTITION__/x.csv", b"a\n2\n")];
    let world = world(objects, vec![day, column("a", ColumnType::Int64)]).await;
    assert_eq!(world.table().await.1, ["2026-01-01T10:30:00Z|1", "|2"]);
}

#[tokio::test]
async fn rejected_value_comes_with_its_remedy() {
    let exact = Column { scale: Some(2), ..column("a", ColumnType::Decimal) };
    let cases = [
        (column("a", ColumnType::Int64), " 1", "set source.format.csv.trim"),
        (column("a", ColumnType::Int64), "9223372036854775808", "use type decimal or string"),
        (column("a", ColumnType::Int64), "1e3", "use type float64"),
        (exact.clone(), "0.005", "raise scale or precision"),
        (exact, "1e3", "use type float64"),
        (column("a", ColumnType::Date), "2026", "set formats to \"%Y\""),
        (
            Column { formats: vec!["%Y-%m-%d %H:%M%z".into()], ..column("a", ColumnType::Timestamp) },
            "2026-03-01 10:00+02:00",
            "add \"default\" to formats",
        ),
        (column("a", ColumnType::Timestamp), "20260301", "set formats to \"%Y%m%d\""),
        (column("a", ColumnType::Timestamp), "1772359200", "set formats to epochSeconds"),
    ];
    for (column, value, remedy) in cases {
        let csv = format!("a\n{value}\n");
        let mut world = world(&[("x.csv", csv.as_bytes())], vec![column]).await;
        world.work.content.quarantine.max_ratio = "1".into();
        world.work.content.rules.min_rows = Some(0);
        let notes = world.version().await.unwrap().notes.join("; ");
        assert!(notes.contains(remedy), "{value}: {notes}");
    }
}
