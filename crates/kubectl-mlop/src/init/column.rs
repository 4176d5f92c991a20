//! The type of a column, from all of its values.

use super::{
    Inferred,
    values::{self, BOOLEANS, NULL_TOKENS, PATTERNS},
};
use mlop_api::dataset::{Column, ColumnType};
use std::collections::BTreeSet;

/// Different values that are counted.
pub(super) const DISTINCT_MAX: usize = 10_000;

/// What the values of a column can be so far.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    values: u64,
    empty: u64,
    tokens: BTreeSet<&'static str>,
    with_token: u64,
    distinct: BTreeSet<String>,
    can: Can,
    /// Indices of the pairs of [`BOOLEANS`] and of the [`PATTERNS`] that fit all values.
    pairs: Vec<usize>,
    patterns: Vec<usize>,
}

/// The types that fit all values.
#[derive(Clone, Copy, Debug)]
struct Can {
    bool: bool,
    integer: bool,
    float: bool,
    comma_float: bool,
    date: bool,
    timestamp: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            values: 0,
            empty: 0,
            tokens: BTreeSet::new(),
            with_token: 0,
            distinct: BTreeSet::new(),
            can: Can {
                bool: true,
                integer: true,
                float: true,
                comma_float: true,
                date: true,
                timestamp: true,
            },
            pairs: (0..BOOLEANS.len()).collect(),
            patterns: (0..PATTERNS.len()).collect(),
        }
    }
}

/// Whether numbers are written with a comma: some have one, and none has a point.
pub(super) fn is_decimal_comma(columns: &[Seen]) -> bool {
    let has_comma = |seen: &Seen| seen.values > 0 && seen.can.comma_float && !seen.can.float;
    let has_point = |seen: &Seen| seen.values > 0 && seen.can.float && !seen.can.comma_float;
    columns.iter().any(has_comma) && !columns.iter().any(has_point)
}

/// The texts that must mean "no value" for the types of the columns.
pub(super) fn null_tokens(columns: &[Seen], is_decimal_comma: bool) -> BTreeSet<&'static str> {
    let typed = columns.iter().filter(|seen| seen.kind(is_decimal_comma).0 != ColumnType::String);
    typed.flat_map(|seen| seen.tokens.iter().copied()).collect()
}

impl Seen {
    pub(super) fn add(&mut self, text: &str) {
        if text.is_empty() {
            self.empty += 1;
            return;
        }
        if self.distinct.len() < DISTINCT_MAX && !self.distinct.contains(text) {
            self.distinct.insert(text.to_owned());
        }
        if let Some(token) = NULL_TOKENS.into_iter().find(|token| *token == text) {
            self.with_token += 1;
            self.tokens.insert(token);
            return;
        }
        self.values += 1;
        let Can { bool, integer, float, comma_float, date, timestamp } = &mut self.can;
        *bool &= matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
        *integer &= values::is_integer(text);
        *float &= values::is_float(text);
        *comma_float &= values::is_comma_float(text);
        *date &= values::is_date(text);
        *timestamp &= values::is_timestamp(text) || values::is_date(text);
        self.pairs.retain(|index| BOOLEANS.get(*index).is_some_and(|(yes, no)| text == *yes || text == *no));
        self.patterns
            .retain(|index| PATTERNS.get(*index).is_some_and(|pattern| values::has_pattern(text, pattern)));
    }

    /// The column of this name and header.
    pub(super) fn inferred(
        &self,
        name: String,
        header: Option<&str>,
        null_tokens: &BTreeSet<&'static str>,
        is_decimal_comma: bool,
    ) -> Inferred {
        let (kind, question) = self.kind(is_decimal_comma);
        let mut column = Column::new(name, kind);
        column.header = header.filter(|header| *header != column.name).map(str::to_owned);
        let has_token = self.tokens.iter().any(|token| null_tokens.contains(token));
        column.nullable = self.empty > 0 || has_token;
        if kind == ColumnType::Bool && !self.can.bool {
            let pair = self.pairs.first().and_then(|index| BOOLEANS.get(*index));
            column.true_values = pair.map(|(yes, _)| (*yes).to_owned()).into_iter().collect();
            column.false_values = pair.map(|(_, no)| (*no).to_owned()).into_iter().collect();
        }
        if matches!(kind, ColumnType::Date | ColumnType::Timestamp) && !self.can.timestamp {
            let pattern = self.patterns.first().and_then(|index| PATTERNS.get(*index));
            column.formats = pattern.cloned().into_iter().collect();
        }
        let missing = self.empty + if has_token { self.with_token } else { 0 };
        Inferred { column, missing, distinct: self.distinct.len(), question }
    }

    /// The type, and the open decision.
    fn kind(&self, is_decimal_comma: bool) -> (ColumnType, Option<String>) {
        let Can { bool, integer, float, comma_float, date, timestamp } = self.can;
        let kind = match () {
            () if self.values == 0 => ColumnType::String,
            () if bool || (!self.pairs.is_empty() && self.distinct.len() > 1) => ColumnType::Bool,
            () if integer => ColumnType::Int64,
            () if float && !is_decimal_comma || comma_float && is_decimal_comma => ColumnType::Float64,
            () if date => ColumnType::Date,
            () if timestamp => ColumnType::Timestamp,
            () => return self.by_pattern(),
        };
        let question = (self.values == 0).then(|| "it has no values, so its type is not known".to_owned());
        (kind, question)
    }

    fn by_pattern(&self) -> (ColumnType, Option<String>) {
        let patterns: Vec<&String> = self.patterns.iter().filter_map(|index| PATTERNS.get(*index)).collect();
        match patterns.as_slice() {
            [] => (ColumnType::String, None),
            [pattern] if pattern.contains("%H") => (ColumnType::Timestamp, None),
            [_] => (ColumnType::Date, None),
            several => {
                let kind =
                    if several.iter().any(|pattern| pattern.contains("%H")) { "timestamp" } else { "date" };
                let several: Vec<_> = several.iter().map(|pattern| format!("{pattern:?}")).collect();
                (
                    ColumnType::String,
                    Some(format!("type: {kind} with formats: [{}]?", several.join("] or ["))),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[&str]) -> Seen {
        let mut seen = Seen::default();
        values.iter().for_each(|value| seen.add(value));
        seen
    }

    /// The column in short: type, what else differs from its default, and the question.
    fn inferred(values: &[&str]) -> String {
        let columns = [seen(values)];
        let is_decimal_comma = is_decimal_comma(&columns);
        let tokens = null_tokens(&columns, is_decimal_comma);
        let Inferred { column, question, .. } =
            columns[0].inferred("x".to_owned(), Some("x"), &tokens, is_decimal_comma);
        let mut value = serde_json::to_value(&column).unwrap();
        value.as_object_mut().unwrap().remove("name");
        let kind = value.as_object_mut().unwrap().remove("type").unwrap();
        let rest = if value == serde_json::json!({}) { String::new() } else { format!(" {value}") };
        format!("{}{rest}{}", kind.as_str().unwrap(), question.map(|it| format!(" {it}")).unwrap_or_default())
    }

    #[test]
    fn type_fits_all_values() {
        let rows: [(&[&str], &str); 25] = [
            (&["1", "2"], "int64"),
            (&["1", "2.5"], "float64"),
            (&["1", "x"], "string"),
            (&["1", ""], r#"int64 {"nullable":true}"#),
            (&["1", "NA"], r#"int64 {"nullable":true}"#),
            (&["JFK", "NA"], "string"),
            (&["JFK", ""], r#"string {"nullable":true}"#),
            (&["NA", ""], r#"string {"nullable":true} it has no values, so its type is not known"#),
            (&["00501", "10115"], "string"),
            (&["12345678901234567890"], "string"),
            (&["9223372036854775807"], "int64"),
            (&["0", "1"], "int64"),
            (&["true", "FALSE"], "bool"),
            (&["t", "f", "t"], r#"bool {"falseValues":["f"],"trueValues":["t"]}"#),
            (&["Yes", "No", ""], r#"bool {"falseValues":["No"],"nullable":true,"trueValues":["Yes"]}"#),
            (&["t", "t"], "string"),
            (&["t", "no"], "string"),
            (&["1,5", "2"], "float64"),
            (&["2026-03-01", "2026-03-02"], "date"),
            (&["2026-03-01", "2026-03-02 10:00"], "timestamp"),
            (&["2026-03-01T10:00:00Z"], "timestamp"),
            (&["13.01.2026", "01.02.2026"], r#"date {"formats":["%d.%m.%Y"]}"#),
            (&["13/01/2026 10:00", "01/02/2026 11:00"], r#"timestamp {"formats":["%d/%m/%Y %H:%M"]}"#),
            (&["05/01/2026"], r#"string type: date with formats: ["%d/%m/%Y"] or ["%m/%d/%Y"]?"#),
            (&["1,5", "2.5"], "string"),
        ];
        for (values, want) in rows {
            assert_eq!(inferred(values), want, "{values:?}");
        }
    }

    #[test]
    fn decimal_comma_is_of_the_whole_file() {
        assert!(is_decimal_comma(&[seen(&["1,5"]), seen(&["2"]), seen(&["x"])]));
        assert!(!is_decimal_comma(&[seen(&["1,5"]), seen(&["2.5"])]));
        assert!(!is_decimal_comma(&[seen(&["2"])]));
        assert!(!is_decimal_comma(&[seen(&[])]));
    }

    #[test]
    fn null_tokens_are_those_of_typed_columns() {
        let columns = [seen(&["1", "NA"]), seen(&["JFK", "NULL"])];
        assert_eq!(null_tokens(&columns, false), ["NA"].into());
        let airport = columns[1].inferred("x".to_owned(), None, &["NA"].into(), false);
        assert!(!airport.column.nullable);
        // What is no value in one column is none in the others.
        let airport = seen(&["JFK", "NA"]).inferred("x".to_owned(), None, &["NA"].into(), false);
        assert!(airport.column.nullable);
    }
}
