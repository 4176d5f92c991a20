use super::*;
use mlop_api::dataset::ColumnType;
use proptest::prelude::*;
use std::io::BufReader;

fn reader(csv: &[u8], chunk: usize, columns: &[&str]) -> Result<CsvReader, Failure> {
    read(csv, chunk, columns, &Csv::default())
}

fn read(csv: &[u8], chunk: usize, columns: &[&str], format: &Csv) -> Result<CsvReader, Failure> {
    let columns: Vec<_> = columns.iter().map(|name| Column::new(*name, ColumnType::String)).collect();
    let body = BufReader::with_capacity(chunk, Cursor::new(csv.to_vec()));
    CsvReader::new("x.csv", csv, Box::new(body), format, &columns)
}

/// Line and cells of each row, or its flaw, the lines lost with it and its bytes; the same for all sizes of chunks.
fn rows_of(csv: &[u8], columns: &[&str], format: &Csv) -> Vec<(u64, String)> {
    let read = |chunk| {
        let mut reader = read(csv, chunk, columns, format).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = reader.next().unwrap() {
            let text = match row.cells {
                Ok(cells) => {
                    let cells = (0..columns.len()).map(|column| cells.text(column).unwrap_or("-").to_owned());
                    cells.collect::<Vec<_>>().join("|")
                }
                Err(flaw) => format!(
                    "{flaw:?} {}: {}",
                    row.lines,
                    String::from_utf8_lossy(row.raw.unwrap_or_default())
                ),
            };
            rows.push((row.line, text));
        }
        rows
    };
    let whole = read(1 << 16);
    for chunk in [1, 2, 3, 7] {
        assert_eq!(read(chunk), whole, "in chunks of {chunk}");
    }
    whole
}

fn rows(csv: &[u8], columns: &[&str]) -> Vec<(u64, String)> {
    rows_of(csv, columns, &Csv::default())
}

#[track_caller]
fn check(csv: &str, expected: &[(u64, &str)]) {
    let rows = rows(csv.as_bytes(), &["a", "b"]);
    let rows: Vec<_> = rows.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(rows, expected);
}

#[test]
fn rows_have_cells_and_lines() {
    check("a,b\n1,2\n3,4\n", &[(2, "1|2"), (3, "3|4")]);
    check("a,b\r\n1,2\r\n3,4", &[(2, "1|2"), (3, "3|4")]);
    check("b,x,a\n1,2,3\n", &[(2, "3|1")]);
    check("\u{feff}a,b\n1,2\n", &[(2, "1|2")]);
    check("a,b\n\n\r\n1,2\n\n3,4\n", &[(4, "1|2"), (6, "3|4")]);
    check("a,b\n\"x\ny\",\"q\"\"q\"\n3,4\n", &[(2, "x\ny|q\"q"), (4, "3|4")]);
    check("a,b\r1,2\r3,4\r", &[(2, "1|2"), (3, "3|4")]);
    check("a,b\r\n\"x\r\ny\r\",\"\"\r\n3,4\r\n", &[(2, "x\r\ny\r|"), (5, "3|4")]);
    check("a,b\n", &[]);
}

#[test]
fn broken_rows_do_not_end_the_object() {
    check("a,b\n1\n1,2,3\n3,4\n", &[(2, "Cells 1: 1"), (3, "Cells 1: 1,2,3"), (4, "3|4")]);
    let rows = rows(b"a,b\n\xff,1\n\xc3,\xa9\n3,4\n", &["a", "b"]);
    let flaws: Vec<_> = rows.iter().map(|(_, text)| text.split(' ').next().unwrap()).collect();
    assert_eq!(flaws, ["Encoding", "Encoding", "3|4"]);
}

#[test]
fn overlong_row_is_its_own_flaw() {
    let long = format!("a,b\n{},1\n3,4\n", "x".repeat(parser::RECORD_BYTES_MAX + 1));
    let mut reader = reader(long.as_bytes(), 4_096, &["a", "b"]).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().cells.unwrap_err(), Flaw::Length);
    let row = reader.next().unwrap().unwrap();
    assert_eq!((row.line, row.cells.unwrap().text(0)), (3, Some("3")));
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn row_of_too_many_fields_is_dropped() {
    let wide = format!("a,b\n{}\n3,4\n", ",".repeat(parser::FIELDS_MAX * 2 + 1));
    let mut reader = reader(wide.as_bytes(), 4_096, &["a", "b"]).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().cells.unwrap_err(), Flaw::Length);
    assert_eq!(reader.next().unwrap().unwrap().cells.unwrap().text(1), Some("4"));
}

#[track_caller]
fn refused(csv: &str, what: &[&str]) {
    let failure = reader(csv.as_bytes(), 64, &["a", "b"]).err().unwrap();
    assert_eq!((failure.reason, failure.retryable), (Reason::SchemaMismatch, false));
    for what in what {
        assert!(failure.message.contains(what), "{}", failure.message);
    }
}

#[test]
fn header_must_have_every_column_once() {
    refused("a,c\n1,2\n", &["x.csv", "lacks the column \"b\"", "has \"a\", \"c\""]);
    refused("a,b,a\n", &["the column \"a\" twice"]);
    refused("", &["no readable header"]);
}

#[test]
fn broken_quotes_are_flaws_with_all_their_lines() {
    check("a,b\n1,\"x\n2,y\n", &[(2, "UnclosedQuote 2: 1,\"x\n2,y\n")]);
    check("a,b\n1,\"x\n2,y", &[(2, "UnclosedQuote 2: 1,\"x\n2,y")]);
    check("a,b\n1,\"x\"y\n3,4\n", &[(2, "TextBehindQuote 1: 1,\"x\"y"), (3, "3|4")]);
    check("a,b\n1,5\" pipe\n3,4\n", &[(2, "StrayQuote 1: 1,5\" pipe"), (3, "3|4")]);
    check(
        "a,b\n1,\"5 inch\n2,ok\n3,7\" pipe\n4,ok\n",
        &[(2, "TextBehindQuote 3: 1,\"5 inch\n2,ok\n3,7\" pipe"), (5, "4|ok")],
    );
    check("a,b\n1,\"\"\n", &[(2, "1|")]);
    check("a,b\n\"\",\"\"\"\"\n", &[(2, "|\"")]);
}

#[test]
fn unclosed_quote_loses_no_count_beyond_the_longest_row() {
    let lines = 300_000;
    let csv = format!("a,b\n0,\"x\n{}", "1,2\n".repeat(lines));
    let mut reader = reader(csv.as_bytes(), 4_096, &["a", "b"]).unwrap();
    let row = reader.next().unwrap().unwrap();
    assert_eq!((row.line, row.lines, row.cells.unwrap_err()), (2, 300_001, Flaw::UnclosedQuote));
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn record_of_too_many_lines_is_rejected_with_them() {
    let format = Csv { max_record_lines: 2, ..Csv::default() };
    let rows = rows_of(b"a,b\n1,\"x\ny\"\n2,\"x\ny\nz\"\n3,4\n", &["a", "b"], &format);
    let rows: Vec<_> = rows.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(rows, [(2, "1|x\ny"), (4, "Lines 3: 2,\"x\ny\nz\""), (7, "3|4")]);
}

#[test]
fn empty_lines_of_one_column_are_missing_values_between_rows() {
    let rows = rows(b"a\n\n1\n\n\n2\n\n\n", &["a"]);
    let rows: Vec<_> = rows.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(rows, [(2, ""), (3, "1"), (4, ""), (5, ""), (6, "2")]);
}

#[test]
fn columns_that_are_not_read_may_hold_anything() {
    let rows = rows(b"a,x,b\n1,\xff\xfe,2\n", &["a", "b"]);
    assert_eq!(rows, [(2, "1|2".to_owned())]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_counted_at_most_once(
        text in "[ab,\"\\\\#;\r\n ]{0,40}",
        escape in prop::sample::select(vec!["", "\\"]),
        trim: bool,
        bare_quotes: bool,
    ) {
        let format = Csv {
            escape: escape.to_owned(),
            comment: "#".to_owned(),
            trim,
            bare_quotes,
            header: mlop_api::dataset::Header::Absent,
            max_record_lines: 2,
            ..Csv::default()
        };
        let mut end = 0;
        let mut reader = read(text.as_bytes(), 1, &["a", "b"], &format).unwrap();
        while let Some(row) = reader.next().unwrap() {
            prop_assert!(row.line > end, "line {} of {text:?}", row.line);
            end = row.line + row.lines - 1;
        }
        let breaks = text.replace("\r\n", "\n").matches(['\r', '\n']).count() as u64;
        prop_assert!(end <= breaks + 1, "{end} lines of {text:?}");
        rows_of(text.as_bytes(), &["a", "b"], &format);
    }
}
