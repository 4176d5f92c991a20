//! How the objects of a source are written.

use crate::is_default;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How rows are written. Exactly one is set. Objects that are compressed (gzip, zstd, bzip2) are recognized by their content, not by their key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("(has(self.csv) ? 1 : 0) + (has(self.ndjson) ? 1 : 0) + (has(self.parquet) ? 1 : 0) == 1", "format needs exactly one of: csv, ndjson, parquet"))]
pub struct Format {
    /// Delimiter-separated values, as in RFC 4180 unless the fields below say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// One JSON object per line, in UTF-8. Keys that are not named by a column are ignored; null and an absent key are missing values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ndjson: Option<Ndjson>,
    /// Apache Parquet. Columns of other physical types are read where no value is altered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<Parquet>,
}

/// One JSON object per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ndjson {
    /// Strings that mean "no value" in columns of other types than string.
    #[serde(default = "default_null_tokens")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub null_tokens: Vec<String>,
}

/// Apache Parquet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parquet {
    /// Strings that mean "no value" in columns of other types than string. NaN as a token makes floats that are not a number missing.
    #[serde(default = "default_null_tokens")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub null_tokens: Vec<String>,
}

/// Delimiter-separated values. Line ends are LF, CRLF or CR. Empty lines are skipped, except between the rows of a file with one column, where they are missing values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.quote) || self.quote != self.delimiter", "quote and delimiter must differ"),
    validation = ("!has(self.comment) || self.comment == '' || self.comment != self.delimiter && self.comment != (has(self.quote) ? self.quote : '\"')", "comment must differ from delimiter and quote"),
    validation = ("!has(self.escape) || self.escape == '' || self.escape != self.delimiter", "escape and delimiter must differ"),
    validation = ("!has(self.thousandsSeparator) || self.thousandsSeparator != (has(self.decimalSeparator) ? self.decimalSeparator : '.')", "thousandsSeparator and decimalSeparator must differ")
)]
pub struct Csv {
    /// Character between values: an ASCII character, not a quotation mark.
    #[serde(default = "default_delimiter")]
    #[schemars(length(max = 1), regex(pattern = "^[\t !#-~]$"))]
    pub delimiter: String,
    /// Texts that mean "no value". In columns of type string a quoted text is always a value. A column's own nullTokens replace these.
    #[serde(default = "default_null_tokens")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub null_tokens: Vec<String>,
    /// Character that encloses values which hold delimiters, quotes or line ends. Default: the quotation mark. none: values are never quoted.
    #[serde(default = "default_quote", skip_serializing_if = "is_default_quote")]
    #[schemars(length(max = 4), regex(pattern = "^([!-~]|none)$"))]
    pub quote: String,
    /// Character that takes the next one literally inside quotes, for example a backslash. Default: none; a quote inside quotes is written twice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1), regex(pattern = "^[!-~]?$"))]
    pub escape: String,
    /// Keep quotes inside unquoted values, as in 5" pipe, as text. Default: such rows are rejected, because a stray quote is how rows get lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bare_quotes: bool,
    /// Lines that begin with this character are skipped. Default: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1), regex(pattern = "^[!-~]?$"))]
    pub comment: String,
    /// Number of lines before the header (or the first row) to skip.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0, max = 1000))]
    pub skip_lines: u32,
    /// Whether the first record is a header. Default: present. Without a header, values belong to names in order, or to columns in order if names is empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub header: Header,
    /// Names of the source's fields in order. They replace the names of the header, if there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(max = 256)))]
    pub names: Vec<String>,
    /// Remove spaces and tabs around values and around their quotes, in the header too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trim: bool,
    /// Accept one more delimiter at the end of a row than the header has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trailing_delimiter: bool,
    /// Character encoding by its WHATWG name, for example utf-8, latin1, windows-1252, utf-16, shift_jis. A byte order mark takes precedence. Default: utf-8.
    #[serde(default = "default_encoding", skip_serializing_if = "is_default_encoding")]
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_.:-]*$"))]
    pub encoding: String,
    /// Character before the fraction of a number. Default: a point.
    #[serde(default = "default_decimal_separator", skip_serializing_if = "is_default_decimal_separator")]
    #[schemars(length(max = 1), regex(pattern = "^[.,]$"))]
    pub decimal_separator: String,
    /// Character between groups of three digits of a number. A space includes no-break spaces. Default: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1), regex(pattern = "^[., '_]?$"))]
    pub thousands_separator: String,
    /// Most lines of one record. A record of more lines is rejected: an unbalanced quote would take whole rows into one value. Default: 1000.
    #[serde(default = "default_max_record_lines", skip_serializing_if = "is_default_max_record_lines")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_record_lines: u32,
}

/// Whether objects begin with a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    #[default]
    Present,
    Absent,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            delimiter: default_delimiter(),
            null_tokens: default_null_tokens(),
            quote: default_quote(),
            escape: String::new(),
            bare_quotes: false,
            comment: String::new(),
            skip_lines: 0,
            header: Header::Present,
            names: Vec::new(),
            trim: false,
            trailing_delimiter: false,
            encoding: default_encoding(),
            decimal_separator: default_decimal_separator(),
            thousands_separator: String::new(),
            max_record_lines: default_max_record_lines(),
        }
    }
}

impl Format {
    /// Texts that mean "no value", unless a column has its own.
    pub fn null_tokens(&self) -> &[String] {
        match self {
            Self { csv: Some(csv), .. } => &csv.null_tokens,
            Self { ndjson: Some(ndjson), .. } => &ndjson.null_tokens,
            Self { parquet: Some(parquet), .. } => &parquet.null_tokens,
            _ => &[],
        }
    }
}

fn default_delimiter() -> String {
    ",".to_owned()
}

fn default_null_tokens() -> Vec<String> {
    vec![String::new()]
}

fn default_quote() -> String {
    "\"".to_owned()
}

fn is_default_quote(quote: &str) -> bool {
    quote == default_quote()
}

fn default_encoding() -> String {
    "utf-8".to_owned()
}

fn is_default_encoding(encoding: &str) -> bool {
    encoding == default_encoding()
}

fn default_decimal_separator() -> String {
    ".".to_owned()
}

fn is_default_decimal_separator(separator: &str) -> bool {
    separator == default_decimal_separator()
}

fn default_max_record_lines() -> u32 {
    1_000
}

fn is_default_max_record_lines(lines: &u32) -> bool {
    *lines == default_max_record_lines()
}
