//! Statistics of a column, counted while its rows pass.

use super::{
    unique::fixed,
    value::{Value, display},
};
use crate::text;
use mlop_artifact::{distinct::Distinct, manifest::ColumnStats, mean::Mean};

/// Longest least or greatest text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// Statistics of one column.
#[derive(Clone, Default)]
pub struct Stats {
    count: u64,
    nulls: u64,
    least: Option<Value>,
    greatest: Option<Value>,
    least_text: Option<String>,
    greatest_text: Option<String>,
    mean: Mean,
    distinct: Distinct,
}

impl Stats {
    /// Counts a value; `cell` is its text.
    pub fn add(&mut self, value: Option<Value>, cell: Option<&str>) {
        let Some(value) = value else {
            self.nulls += 1;
            return;
        };
        self.count += 1;
        if value == Value::Text {
            return self.add_text(cell.unwrap_or_default());
        }
        self.distinct.add(&fixed(value));
        if let Some(number) = number(value) {
            self.mean.add(number);
        }
        if self.least.is_none_or(|least| less(value, least)) {
            self.least = Some(value);
        }
        if self.greatest.is_none_or(|greatest| less(greatest, value)) {
            self.greatest = Some(value);
        }
    }

    /// The greatest value, unless values are texts.
    pub fn greatest(&self) -> Option<Value> {
        self.greatest
    }

    fn add_text(&mut self, text: &str) {
        self.distinct.add(text.as_bytes());
        // Texts are compared by their kept beginnings: only texts that differ behind them may be confused.
        let text = text::cut(text, TEXT_BYTES_MAX);
        if self.least_text.as_deref().is_none_or(|least| text < least) {
            self.least_text = Some(text.to_owned());
        }
        if self.greatest_text.as_deref().is_none_or(|greatest| text > greatest) {
            self.greatest_text = Some(text.to_owned());
        }
    }

    /// The statistics of the column `name`, without its values where they are sensitive.
    pub fn finish(self, name: &str, is_sensitive: bool) -> ColumnStats {
        if is_sensitive {
            let (count, nulls) = (self.count, self.nulls);
            return ColumnStats { name: name.to_owned(), count, nulls, ..ColumnStats::default() };
        }
        ColumnStats {
            name: name.to_owned(),
            count: self.count,
            nulls: self.nulls,
            min: self.least.map(display).or(self.least_text),
            max: self.greatest.map(display).or(self.greatest_text),
            mean: self.mean.get().map(|mean| display(Value::Float(mean))),
            distinct_estimate: self.distinct.estimate(),
        }
    }
}

fn number(value: Value) -> Option<f64> {
    match value {
        Value::Int(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        Value::Decimal(value) => Some(value.to_f64()),
        _ => None,
    }
}

/// Compares two values of one column.
fn less(a: Value, b: Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => a < b,
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Decimal(a), Value::Decimal(b)) => a.units < b.units,
        (Value::Bool(a), Value::Bool(b)) => !a & b,
        (Value::Date(a), Value::Date(b)) => a < b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_summed_up() {
        let mut stats = Stats::default();
        for value in [Some(3), None, Some(-1), Some(3)] {
            stats.add(value.map(Value::Int), None);
        }
        let stats = stats.finish("n", false);
        assert_eq!((stats.count, stats.nulls, stats.distinct_estimate), (3, 1, 2));
        assert_eq!((stats.min.as_deref(), stats.max.as_deref()), (Some("-1"), Some("3")));
        assert_eq!(stats.mean.unwrap(), "1.6666666666666667");
    }

    #[test]
    fn texts_are_cut() {
        let mut stats = Stats::default();
        for text in ["b", "a", &"é".repeat(100)] {
            stats.add(Some(Value::Text), Some(text));
        }
        let stats = stats.finish("t", false);
        assert_eq!((stats.min.as_deref(), stats.max.as_deref()), (Some("a"), Some("é".repeat(32).as_str())));
        assert_eq!(stats.mean, None);
    }

    #[test]
    fn column_without_values_has_no_extremes() {
        let mut stats = Stats::default();
        stats.add(None, None);
        let stats = stats.finish("n", false);
        assert_eq!((stats.min, stats.max, stats.mean, stats.distinct_estimate), (None, None, None, 0));
    }
}
