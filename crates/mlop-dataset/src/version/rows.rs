//! Every row's way: checked by all rules, then into the table and its statistics, or into the quarantine.

use super::{
    column::{Breach, Rule, Value},
    quarantine::Quarantine,
    reader::{Cells, Flaw, Row},
    stats::Stats,
    table::{self, Writer},
    unique::Unique,
};
use crate::text;
use mlop_api::{Reason, result::Failure};
use mlop_artifact::{manifest::TableManifest, table::manifest};

/// Longest example of a value in a message, in bytes.
const EXAMPLE_BYTES_MAX: usize = 80;

/// Takes the rows of all objects in order.
pub struct Rows {
    columns: Vec<ColumnRows>,
    unique: Option<Unique>,
    quarantine: Quarantine,
    table: Writer,
    /// Values of the current row.
    values: Vec<Option<Value>>,
}

struct ColumnRows {
    rule: Rule,
    stats: Stats,
    /// Values that are there, those that are not of the column's type, and the first of these.
    present: u64,
    mistyped: u64,
    example: Option<String>,
}

impl Rows {
    pub fn new(rules: Vec<Rule>, unique: &[String], quarantine: Quarantine, table: Writer) -> Self {
        let place = |name: &String| rules.iter().position(|rule| rule.name == *name);
        let unique: Vec<usize> = unique.iter().filter_map(place).collect();
        let column =
            |rule| ColumnRows { rule, stats: Stats::default(), present: 0, mistyped: 0, example: None };
        Self {
            unique: (!unique.is_empty()).then(|| Unique::new(unique)),
            columns: rules.into_iter().map(column).collect(),
            quarantine,
            table,
            values: Vec::new(),
        }
    }

    /// Takes `row` of `object`.
    ///
    /// # Errors
    /// When something cannot be written; a row that breaks a rule is none.
    pub fn add(&mut self, object: &str, row: &Row<'_>) -> Result<(), Failure> {
        let cells = match &row.cells {
            Ok(cells) => cells,
            Err(Flaw::Cells) => return self.quarantine.reject(object, row, None, Breach::Cells),
            Err(Flaw::Encoding) => return self.quarantine.reject(object, row, None, Breach::Encoding),
            Err(Flaw::Length) => return self.quarantine.reject(object, row, None, Breach::Length),
        };
        if let Some((number, breach)) = self.check(object, row.line, cells) {
            let name = self.columns.get(number).map(|column| (number, column.rule.name.as_str()));
            return self.quarantine.reject(object, row, name, breach);
        }
        if let Some(unique) = &mut self.unique
            && !unique.insert(&self.values, cells)?
        {
            return self.quarantine.reject(object, row, None, Breach::Unique);
        }
        self.quarantine.accept();
        for (number, (column, value)) in self.columns.iter_mut().zip(&self.values).enumerate() {
            column.stats.add(*value, cells.get(number));
        }
        self.table.add(&self.values, cells)
    }

    /// Reads the values of a row and returns the first rule that it breaks. All columns are looked at in any case:
    /// whether a column has the wrong type altogether shows over all rows.
    fn check(&mut self, object: &str, line: u64, cells: &Cells<'_>) -> Option<(usize, Breach)> {
        let mut first = None;
        self.values.clear();
        for (number, column) in self.columns.iter_mut().enumerate() {
            let cell = cells.get(number);
            column.present += u64::from(cell.is_some());
            let value = column.rule.check(cell);
            if value == Err(Breach::Type) {
                column.mistyped += 1;
                column.example.get_or_insert_with(|| {
                    format!("{:?} ({object}:{line})", text::cut(cell.unwrap_or_default(), EXAMPLE_BYTES_MAX))
                });
            }
            if let Err(breach) = value {
                first = first.or(Some((number, breach)));
            }
            self.values.push(value.unwrap_or(None));
        }
        first
    }

    /// Ends the table and returns its manifest, with the quarantine still to be judged.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`], terminal, when a column has values and not one of them is of its type.
    pub fn finish(self) -> Result<(TableManifest, Quarantine), Failure> {
        if let Some(failure) = self.columns.iter().find_map(ColumnRows::mismatch) {
            return Err(failure);
        }
        let parts = self.table.finish()?;
        let rules: Vec<_> = self.columns.iter().map(|column| column.rule.clone()).collect();
        let stats = self.columns.into_iter().map(|column| column.stats.finish(&column.rule.name)).collect();
        Ok((manifest(table::schema(&rules), parts, stats), self.quarantine))
    }
}

impl ColumnRows {
    fn mismatch(&self) -> Option<Failure> {
        if self.mistyped == 0 || self.mistyped < self.present {
            return None;
        }
        let message = format!(
            "column {}: none of its {} is of type {}, for example {}; correct type, or nullTokens if it means no value",
            self.rule.name,
            text::count(self.present, "value"),
            super::type_name(self.rule.kind),
            self.example.as_deref().unwrap_or_default(),
        );
        Some(Failure::terminal(Reason::SchemaMismatch, message))
    }
}
