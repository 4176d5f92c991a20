//! A pipeline for a CSV file, local or in a bucket: what its columns are, and the objects that a chain for them needs.

pub mod bucket;
mod column;
mod dialect;
mod guess;
mod pipeline;
mod values;

pub use pipeline::yaml;

use anyhow::{Context as _, Result, bail};
use column::{DISTINCT_MAX, Seen};
use dialect::{Dialect, decoded};
use flate2::read::MultiGzDecoder;
use mlop_api::dataset::{Column, ColumnType};
use std::{
    collections::BTreeSet,
    io::{Cursor, Read},
};

/// Bytes that the delimiter is guessed from.
const HEAD: u64 = 256 << 10;
/// Most columns of a Dataset.
const COLUMNS_MAX: usize = 256;
/// Longest header of a column, in characters.
const HEADER_MAX: usize = 256;

/// A CSV file as a Dataset sees it.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name of the file, safe in a comment.
    pub file: String,
    /// Name for the Dataset.
    pub name: String,
    pub rows: u64,
    /// Where it is, if it is in a bucket.
    source: Option<bucket::Source>,
    dialect: Dialect,
    is_decimal_comma: bool,
    is_utf8: bool,
    null_tokens: BTreeSet<&'static str>,
    columns: Vec<Inferred>,
    /// What the file has that no field of a Dataset takes in.
    notes: Vec<String>,
}

/// A column, and the values seen in it.
#[derive(Clone, Debug)]
struct Inferred {
    column: Column,
    missing: u64,
    distinct: usize,
    /// The decision that is left to a person.
    question: Option<String>,
}

impl Inferred {
    /// Whether each row has another value. Of very many values it is not known.
    fn is_unique(&self, table: &Table) -> bool {
        self.distinct < DISTINCT_MAX && u64::try_from(self.distinct) == Ok(table.rows)
    }

    const fn is_number(&self) -> bool {
        matches!(self.column.kind, ColumnType::Int64 | ColumnType::Float64 | ColumnType::Bool)
    }
}

/// Looks at all rows of a CSV file, which may be compressed with gzip.
///
/// # Errors
/// It cannot be read, or has no rows.
pub fn inspect(file: &str, mut source: impl Read) -> Result<Table> {
    let mut magic = Vec::new();
    source.by_ref().take(2).read_to_end(&mut magic).with_context(|| format!("cannot read {file}"))?;
    let is_gzip = magic == [0x1f, 0x8b];
    let mut source = Cursor::new(magic).chain(source);
    if is_gzip { of_text(file, &mut MultiGzDecoder::new(source)) } else { of_text(file, &mut source) }
}

fn of_text(file: &str, source: &mut dyn Read) -> Result<Table> {
    let mut head = Vec::new();
    source.take(HEAD).read_to_end(&mut head).with_context(|| format!("cannot read {file}"))?;
    match head.as_slice() {
        [b'(', b'\xb5', b'/', b'\xfd', ..] | [b'B', b'Z', b'h', ..] => bail!(
            "{file} is compressed with zstd or bzip2, which a Dataset reads but init does not; unpack a part of it for init"
        ),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => bail!(
            "{file} is UTF-16, which a Dataset reads with csv.encoding but init does not; convert a part of it to UTF-8 for init"
        ),
        _ => {}
    }
    if head.contains(&0) {
        bail!("{file} is not a text: it has a byte of value 0");
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).to_vec();
    let dialect = Dialect::guess(&head);
    let mut reader = dialect.reader(Cursor::new(head).chain(source));
    let mut records = reader.byte_records();
    let first = records.next().with_context(|| format!("{file} is empty"))?.context("the first line")?;
    let first: Vec<String> = first.iter().map(|field| decoded(field).0.into_owned()).collect();
    let mut rows = Rows::new(first.len());
    if !dialect.has_header {
        rows.add(&csv::ByteRecord::from(first.clone()), dialect.trim, 1);
    }
    for record in records {
        let record = record.with_context(|| format!("cannot read {file}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        rows.add(&record, dialect.trim, line);
    }
    if rows.count == 0 {
        bail!(
            "{file} has no rows besides its header: put some in, so that the types of the columns can be seen"
        );
    }
    let headers = dialect.has_header.then_some(first);
    rows.table(file, dialect, headers)
}

/// The rows so far.
struct Rows {
    seen: Vec<Seen>,
    count: u64,
    is_utf8: bool,
    /// Rows with another number of values, and the line of the first.
    uneven: u64,
    first_uneven: u64,
}

impl Rows {
    fn new(columns: usize) -> Self {
        Self { seen: vec![Seen::default(); columns], count: 0, is_utf8: true, uneven: 0, first_uneven: 0 }
    }

    fn add(&mut self, record: &csv::ByteRecord, trim: bool, line: u64) {
        if record.len() != self.seen.len() {
            self.uneven += 1;
            if self.uneven == 1 {
                self.first_uneven = line;
            }
            return;
        }
        self.count += 1;
        for (seen, field) in self.seen.iter_mut().zip(record) {
            let (text, is_utf8) = decoded(field);
            self.is_utf8 &= is_utf8;
            seen.add(if trim { text.trim_matches([' ', '\t']) } else { &text });
        }
    }

    fn table(self, file: &str, dialect: Dialect, headers: Option<Vec<String>>) -> Result<Table> {
        let file = mlop_api::text::printable(&mlop_api::text::single_line(file)).into_owned();
        let is_decimal_comma = column::is_decimal_comma(&self.seen);
        let null_tokens = column::null_tokens(&self.seen, is_decimal_comma);
        let mut notes = Vec::new();
        if self.uneven > 0 {
            notes.push(format!(
                "{} rows have more or fewer values than the first line, the first of them in line {}; they would be rejected",
                self.uneven, self.first_uneven
            ));
        }
        let mut columns: Vec<Inferred> = Vec::new();
        for (index, seen) in self.seen.iter().enumerate() {
            let header = headers.as_ref().and_then(|headers| headers.get(index)).map(String::as_str);
            let is_twice = header.is_some_and(|header| {
                headers.iter().flatten().filter(|other| other.as_str() == header).count() > 1
            });
            let problem = match header {
                Some("") => Some("has no header".to_owned()),
                Some(header) if header.chars().count() > HEADER_MAX => Some("has a long header".to_owned()),
                Some(header) if is_twice => Some(format!("has a header that is there twice, {header:?}")),
                _ if columns.len() == COLUMNS_MAX => Some(format!("is one more than {COLUMNS_MAX}")),
                _ => None,
            };
            if let Some(problem) = problem {
                notes.push(format!("column {} is left out: it {problem}", index + 1));
                continue;
            }
            let taken = |name: &str| columns.iter().any(|other| other.column.name == name);
            let name = guess::column_name(header, index + 1, taken);
            columns.push(seen.inferred(name, header, &null_tokens, is_decimal_comma));
        }
        if columns.is_empty() {
            bail!("{file} has no column with a header of its own");
        }
        Ok(Table {
            name: guess::object_name(&file),
            file,
            rows: self.count,
            source: None,
            dialect,
            is_decimal_comma,
            is_utf8: self.is_utf8,
            null_tokens,
            columns,
            notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use expect_test::expect_file;
    use serde_json::Value;
    use std::io::Write as _;

    fn written(file: &str, text: &[u8]) -> String {
        yaml(&inspect(file, text).unwrap())
    }

    /// The mistakes of a pipeline, and the fields `spec` of its Dataset.
    fn checked(text: &str) -> (Vec<String>, Value) {
        let documents = check::documents("pipeline.yaml", text).unwrap();
        let findings = check::findings(&documents);
        let errors = findings.iter().filter(|it| it.is_error).map(ToString::to_string).collect();
        let dataset = documents.iter().find(|it| it.value["kind"] == "Dataset").unwrap();
        (errors, dataset.value["spec"].clone())
    }

    const SALES: &str = "at,user id,amount,late,note\n\
        2026-03-01T10:00:00Z,7,12.5,true,a\n\
        2026-03-02T11:00:00Z,8,NA,false,\n\
        2026-03-03T12:00:00Z,7,3.25,true,NA\n";

    #[test]
    fn pipeline_of_a_file_has_every_stage_and_passes_the_check() {
        let text = written("data/sales.csv", SALES.as_bytes());
        expect_file!["../tests/golden/init.yaml"].assert_eq(&text);
        assert_eq!(checked(&text).0, Vec::<String>::new());
    }

    #[test]
    fn dialect_of_the_dataset_is_that_of_the_file() {
        let latin = b"gr\xf6\xdfe;preis\n\xe4;1,5\nb;2,25\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"x,y\n1,2\n").unwrap();
        let gzip = gzip.finish().unwrap();
        let rows: [(&str, &[u8], &str, usize); 8] = [
            ("a.csv", b"x,y\n1,2\n", "{}", 2),
            ("a.csv", b"\xef\xbb\xbfx,y\n1,2\n", "{}", 2),
            ("a.csv.gz", &gzip, "{}", 2),
            ("a.csv", b"x\ty\n1\tNA\n2\t3\n", r#"{"delimiter":"\t","nullTokens":["","NA"]}"#, 2),
            ("a.csv", b"2026-01-01,5\n2026-01-02,6\n", r#"{"header":"absent"}"#, 2),
            ("a.csv", b"x, y\n1, 2\n", r#"{"trim":true}"#, 2),
            ("a.csv", latin, r#"{"decimalSeparator":",","delimiter":";","encoding":"windows-1252"}"#, 2),
            ("a.csv", b",x,x,y\n0,1,2,3\n", "{}", 1),
        ];
        for (file, bytes, want, columns) in rows {
            let (errors, spec) = checked(&written(file, bytes));
            assert_eq!(errors, Vec::<String>::new(), "{file} {want}");
            assert_eq!(spec["source"]["format"]["csv"].to_string(), want, "{file}");
            assert_eq!(spec["columns"].as_array().unwrap().len(), columns, "{want}");
        }
    }

    #[test]
    fn stages_that_the_columns_do_not_allow_are_left_out() {
        let rows: [(&str, &str); 4] = [
            ("x,y\na,b\n", "ObjectStore ObjectStore Dataset"),
            (
                "x,y\n1,2\n2,3\n",
                "ObjectStore ObjectStore Dataset TrainingJob TrackingServer Model ModelDeployment",
            ),
            (
                "at,user_id,y\n2026-01-01,1,2\n2026-01-02,1,3\n",
                "ObjectStore ObjectStore Dataset FeatureStore FeatureView TrainingJob TrackingServer Model ModelDeployment",
            ),
            (
                "at,user_id\n2026-01-01,a\n2026-01-02,a\n",
                "ObjectStore ObjectStore Dataset FeatureStore FeatureView",
            ),
        ];
        for (text, want) in rows {
            let pipeline = written("a.csv", text.as_bytes());
            let documents = check::documents("a.yaml", &pipeline).unwrap();
            let kinds: Vec<_> = documents.iter().map(|it| it.value["kind"].as_str().unwrap()).collect();
            assert_eq!(kinds.join(" "), want, "{text}");
            assert_eq!(checked(&pipeline).0, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn hostile_headers_stay_inside_their_quotes() {
        let text = "\"a\"\"}] # \n- b: c\",y,on,{{SQL}},\u{202e}\u{7f}\u{10ffff}\n1,2,3,4,5\n2,3,4,5,6\n";
        let (errors, spec) = checked(&written("x\n# y: z.csv", text.as_bytes()));
        assert_eq!(errors, Vec::<String>::new());
        let headers: Vec<_> = spec["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.get("header").unwrap_or(&it["name"]))
            .collect();
        assert_eq!(headers, ["a\"}] # \n- b: c", "y", "on", "{{SQL}}", "\u{202e}\u{7f}\u{10ffff}"]);
    }

    #[test]
    fn rows_of_other_lengths_are_counted() {
        let text = written("a.csv", b"x,y\n1,2\n3\n4,5,6\n7,8\n");
        assert!(
            text.contains(
                "# 2 rows have more or fewer values than the first line, the first of them in line 3"
            ),
            "{text}"
        );
        assert!(text.contains("# 2 rows were seen"), "{text}");
    }

    #[test]
    fn unreadable_file_is_refused_with_its_name() {
        let rows: [(&[u8], &str); 6] = [
            (b"", "a.csv is empty"),
            (
                b"x,y\n",
                "a.csv has no rows besides its header: put some in, so that the types of the columns can be seen",
            ),
            (b"x,x\n1,2\n", "a.csv has no column with a header of its own"),
            (
                b"BZh9",
                "a.csv is compressed with zstd or bzip2, which a Dataset reads but init does not; unpack a part of it for init",
            ),
            (
                b"\xff\xfex\0",
                "a.csv is UTF-16, which a Dataset reads with csv.encoding but init does not; convert a part of it to UTF-8 for init",
            ),
            (b"PAR1\0", "a.csv is not a text: it has a byte of value 0"),
        ];
        for (bytes, want) in rows {
            assert_eq!(inspect("a.csv", bytes).unwrap_err().to_string(), want);
        }
    }
}
