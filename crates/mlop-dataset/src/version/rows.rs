//! Every row's way: checked by all rules, then into the table and its statistics, or into the quarantine.

use super::{
    column::{Breach, Rule},
    quarantine::Quarantine,
    reader::{Cells, Row},
    stats::Stats,
    table::{self, Writer},
    unique::Unique,
    value::{Value, type_name},
};
use crate::text;
use mlop_api::{Reason, result::Failure};
use mlop_artifact::{manifest::TableManifest, table::manifest};
use std::sync::Arc;

/// Share of all rows in which a column must have values of another type, and no other, to be of that type itself. Fewer
/// are bad rows of a sparse column.
const MISTYPED_RATIO_MIN: f64 = 0.1;
/// Such values that are at least needed.
const MISTYPED_MIN: u64 = 2;

/// Takes the rows of all objects in order.
pub struct Rows {
    columns: Vec<ColumnRows>,
    unique: Option<Unique>,
    quarantine: Quarantine,
    table: Writer,
    /// Values of the current row.
    values: Vec<Option<Value>>,
    /// Values that the key of the current object holds, by column.
    constants: Arc<[Option<String>]>,
}

struct ColumnRows {
    rule: Rule,
    stats: Stats,
    /// Values that are there, those that are not of the column's type, and the first of these.
    present: u64,
    mistyped: u64,
    example: Option<String>,
}

/// The first rule that a row breaks.
struct Broken {
    column: usize,
    breach: Breach,
    /// The value, with what may help, for people.
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
            constants: Arc::new([]),
        }
    }

    /// Begins the object `key`.
    pub fn begin(&mut self, key: &str) {
        self.constants = self.columns.iter().map(|column| column.rule.in_key(key)).collect();
    }

    /// Takes `row` of `object`.
    ///
    /// # Errors
    /// When something cannot be written; a row that breaks a rule is none.
    pub fn add(&mut self, object: &str, row: &Row<'_>) -> Result<(), Failure> {
        let constants = Arc::clone(&self.constants);
        let cells = match &row.cells {
            Ok(cells) => &cells.with_constants(&constants),
            Err(flaw) => return self.quarantine.reject(object, row, None, (*flaw).into(), None),
        };
        if let Some(Broken { column, breach, example }) = self.check(object, row.line, cells) {
            let name = self.columns.get(column).map(|found| (column, found.rule.name.as_str()));
            return self.quarantine.reject(object, row, name, breach, example);
        }
        if let Some(unique) = &mut self.unique
            && !unique.insert(&self.values, cells)?
        {
            return self.quarantine.reject(object, row, None, Breach::Unique, None);
        }
        self.quarantine.accept();
        for (number, (column, value)) in self.columns.iter_mut().zip(&self.values).enumerate() {
            column.stats.add(*value, cells.text(number));
        }
        self.table.add(&self.values, cells)
    }

    /// Reads the values of a row and returns the first rule that it breaks. All columns are looked at in any case:
    /// whether a column has the wrong type altogether shows over all rows.
    fn check(&mut self, object: &str, line: u64, cells: &Cells<'_>) -> Option<Broken> {
        let mut first = None;
        self.values.clear();
        for (number, column) in self.columns.iter_mut().enumerate() {
            let cell = cells.get(number);
            let value = column.rule.check(cell);
            column.present += u64::from(value != Ok(None) && value != Err(Breach::Null));
            if let Err(breach) = value {
                let is_first = first.is_none();
                if breach == Breach::Type {
                    column.mistyped += 1;
                }
                if is_first || breach == Breach::Type && column.example.is_none() {
                    let example = cell.and_then(|cell| column.rule.example(cell, breach));
                    if breach == Breach::Type && column.example.is_none() {
                        let place = format!("{}:{line}", text::shorten_key(object));
                        column.example = Some(match &example {
                            Some(example) => format!("{example} ({place})"),
                            None => place,
                        });
                    }
                    if is_first {
                        first = Some(Broken { column: number, breach, example });
                    }
                }
            }
            self.values.push(value.unwrap_or(None));
        }
        first
    }

    /// The greatest value of the column `name` so far.
    pub fn greatest(&self, name: &str) -> Option<Value> {
        self.columns.iter().find(|column| column.rule.name == name)?.stats.greatest()
    }

    /// Ends the table and returns its manifest, with the quarantine still to be judged.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`], terminal, when a column has values and not one of them is of its type.
    pub fn finish(self) -> Result<(TableManifest, Quarantine), Failure> {
        let total = self.quarantine.total();
        if let Some(failure) = self.columns.iter().find_map(|column| column.mismatch(total)) {
            return Err(failure);
        }
        let parts = self.table.finish()?;
        let rules: Vec<_> = self.columns.iter().map(|column| column.rule.clone()).collect();
        let stats = self
            .columns
            .into_iter()
            .map(|column| column.stats.finish(&column.rule.name, column.rule.is_sensitive))
            .collect();
        Ok((manifest(table::schema(&rules), parts, stats), self.quarantine))
    }
}

impl ColumnRows {
    fn mismatch(&self, total: u64) -> Option<Failure> {
        let is_few =
            self.mistyped < MISTYPED_MIN || (self.mistyped as f64) < total as f64 * MISTYPED_RATIO_MIN;
        if self.mistyped < self.present || is_few {
            return None;
        }
        let message = format!(
            "column {}: none of its {} is of type {}, for example {}; type {} reads {}; correct type, or nullTokens if it means no value",
            self.rule.name,
            text::count(self.present, "value"),
            type_name(self.rule.kind),
            self.example.as_deref().unwrap_or_default(),
            type_name(self.rule.kind),
            self.rule.forms(),
        );
        Some(Failure::terminal(Reason::SchemaMismatch, message))
    }
}
