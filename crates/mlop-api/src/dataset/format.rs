//! How the objects of a source are written.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How rows are written. Exactly one is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("has(self.csv)", "format needs exactly one of: csv"))]
pub struct Format {
    /// Comma-separated values with a header line; objects whose key ends with .gz are decompressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
}

/// Comma-separated values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Csv {
    /// Character between values: an ASCII character, not a quotation mark.
    #[serde(default = "default_delimiter")]
    #[schemars(length(max = 1), regex(pattern = "^[\t !#-~]$"))]
    pub delimiter: String,
    /// Texts that mean "no value".
    #[serde(default = "default_null_tokens")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub null_tokens: Vec<String>,
}

fn default_delimiter() -> String {
    ",".to_owned()
}

fn default_null_tokens() -> Vec<String> {
    vec![String::new()]
}
