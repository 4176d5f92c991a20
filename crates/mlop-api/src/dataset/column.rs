//! The columns of a table and what their values must be.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One column and what its values must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.pattern) || self.type == 'string'", "pattern is for columns of type string"),
    validation = ("!has(self.min) || self.type in ['int64', 'float64']", "min is for columns of type int64 or float64"),
    validation = ("!has(self.max) || self.type in ['int64', 'float64']", "max is for columns of type int64 or float64"),
    validation = ("!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)", "min must not be greater than max")
)]
pub struct Column {
    /// Name of the column, as in the header.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether a value may be missing.
    #[serde(default)]
    pub nullable: bool,
    /// Least value (a decimal number), inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub min: Option<String>,
    /// Greatest value (a decimal number), inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$"))]
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    Int64,
    Float64,
    Bool,
    /// RFC 3339, or `YYYY-MM-DD hh:mm:ss` in UTC.
    Timestamp,
    /// `YYYY-MM-DD`.
    Date,
}
