//! The columns of a table and what their values must be.

use super::Quarantine;
use crate::is_default;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One column and what its values must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.pattern) || self.type == 'string'", "pattern is for columns of type string"),
    validation = ("!has(self.min) || self.type in ['int64', 'float64', 'decimal']", "min is for columns of type int64, float64 or decimal"),
    validation = ("!has(self.max) || self.type in ['int64', 'float64', 'decimal']", "max is for columns of type int64, float64 or decimal"),
    validation = ("!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)", "min must not be greater than max"),
    validation = ("!has(self.formats) || self.type in ['timestamp', 'date']", "formats is for columns of type timestamp or date"),
    validation = ("has(self.trueValues) == has(self.falseValues)", "trueValues and falseValues go together"),
    validation = ("!has(self.trueValues) || self.type == 'bool'", "trueValues and falseValues are for columns of type bool"),
    validation = ("!has(self.zeroFraction) || self.type == 'int64'", "zeroFraction is for columns of type int64"),
    validation = ("has(self.scale) == (self.type == 'decimal')", "columns of type decimal need scale, and no others have it"),
    validation = ("!has(self.precision) || self.type == 'decimal' && self.scale <= self.precision", "precision is for columns of type decimal, and at least scale"),
    validation = ("!has(self.header) || !has(self.fromKey)", "a column has at most one of header and fromKey")
)]
pub struct Column {
    /// Name of the column in the table, and in the source unless header or fromKey is set.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Name of the column in the source, any text: a field of the header, a key of JSON, a column of Parquet. Default: name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub header: Option<String>,
    /// Take the value from the key of the object: a regular expression with one group, searched for in the key relative to the ObjectStore's prefix. Examples: `stocks/([^/]+)\.csv$`, `/dt=([^/]+)/`. Without a match the value is missing. Behind a `=`, as in the partitions of Hive and Spark, `%3A` is read as a colon and `__HIVE_DEFAULT_PARTITION__` is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub from_key: Option<String>,
    /// Type of its values, and the texts that are read. string: any text.
    /// int64: digits with an optional sign, -9223372036854775808 to 9223372036854775807.
    /// float64: decimal or exponent notation, finite.
    /// decimal: decimal notation, exact: a value with more digits than precision and scale allow is rejected, never rounded. In SQL it is DECIMAL; features are CAST to DOUBLE.
    /// bool: true, True, TRUE, 1, false, False, FALSE, 0 (see trueValues).
    /// timestamp: `2026-03-01T10:00:00Z`; the T may be a space, the seconds and their fraction may be left out, the zone may be `Z`, `UTC`, `+02:00`, `+0200` or `+02`, and without a zone the time is UTC; a date alone is its midnight in UTC; years 0001 to 9999, cut to microseconds.
    /// date: `2026-03-01`, or a timestamp at midnight without a zone or in UTC.
    /// See formats for other texts.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether a value may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nullable: bool,
    /// Texts that mean "no value" in this column, instead of those of the format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub null_tokens: Vec<String>,
    /// Read the null tokens of the format as values in this column, for example NA as the code of Namibia.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ignore_null_tokens: bool,
    /// Texts of times and dates, tried in order: a strptime pattern such as `%d.%m.%Y %H:%M`, `epochSeconds`, `epochMilliseconds`, `epochMicroseconds`, `epochNanoseconds`, or `default` for the forms that are listed at type. Times without a zone are UTC. A month or a day that the pattern lacks is the first: with `%Y` 2026 is 2026-01-01, with `%G-W%V` a week is its Monday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 64)))]
    pub formats: Vec<String>,
    /// Texts that mean true, instead of those that are listed at type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub true_values: Vec<String>,
    /// Texts that mean false, instead of those that are listed at type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub false_values: Vec<String>,
    /// Read whole numbers with a fraction of zeros, as in 1950.0: what pandas writes for integers with missing values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub zero_fraction: bool,
    /// Digits behind the point of a column of type decimal: 2 for amounts of money in cents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 38))]
    pub scale: Option<u8>,
    /// Digits in all of a column of type decimal. Default: 38.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 38))]
    pub precision: Option<u8>,
    /// Least value, inclusive: a number in quotes, as in min: "-10" or min: "1e-3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"))]
    pub min: Option<String>,
    /// Greatest value, inclusive: a number in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"))]
    pub max: Option<String>,
    /// Regular expression that the whole value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
    /// The values that are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "enum")]
    #[schemars(length(max = 256), inner(length(max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub values: Vec<String>,
    /// How many rows may be rejected because of this column, within the budget of the Dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// Keep the values of this column out of messages and statistics. The object of rejected rows still holds whole rows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sensitive: bool,
}

impl Column {
    /// A column without further rules.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            name: name.into(),
            header: None,
            from_key: None,
            kind,
            nullable: false,
            null_tokens: Vec::new(),
            ignore_null_tokens: false,
            formats: Vec::new(),
            true_values: Vec::new(),
            false_values: Vec::new(),
            zero_fraction: false,
            scale: None,
            precision: None,
            min: None,
            max: None,
            pattern: None,
            values: Vec::new(),
            quarantine: None,
            sensitive: false,
        }
    }

    /// Name of the column in the source.
    pub fn source_name(&self) -> &str {
        self.header.as_deref().unwrap_or(&self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    Int64,
    Float64,
    Decimal,
    Bool,
    Timestamp,
    Date,
}
