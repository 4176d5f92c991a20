//! Rules for the rows of a version as a whole.

use crate::duration::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules for the rows of a version as a whole. A version that breaks a rule fails, and the one in use stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Fewest accepted rows. Default: 1, so that an empty export makes no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub min_rows: Option<i64>,
    /// Largest change of the number of rows against the version in use, as a share of its rows, a decimal number in quotes: "0.5" allows from half to one and a half times as many. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]+(\.[0-9]+)?$"))]
    pub max_row_change: Option<String>,
    /// How recent the newest row must be. Default: any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
}

/// How recent the newest row must be: when a version is made, and as long as it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    /// Name of a column of type timestamp or date. A date counts from its midnight in UTC.
    #[schemars(length(min = 1, max = 128))]
    pub column: String,
    /// Greatest age of its greatest value.
    pub max_age: Span,
}
