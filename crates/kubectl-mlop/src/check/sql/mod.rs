//! The SQL of FeatureViews against the columns that the files declare.
//!
//! Only the worker knows what its engine accepts. What is reported here is wrong in any case; where columns are not
//! known, nothing is said.

mod names;
#[cfg(test)]
mod tests;

use super::finding::{Document, Finding};
use crate::{names as similar, references, snapshot::ObjectId};
use names::{Names, normalized, outputs};
use serde_json::Value;
use sqlparser::{
    ast::{Ident, Query, Statement, Visit as _},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
};

/// The stack of the thread that walks through expressions: one of many terms nests as deep as it has terms.
const STACK_BYTES: usize = 256 << 20;
/// Longest SQL of the schema.
const SQL_BYTES_MAX: usize = 16_384;

/// Columns of the inputs by the names of tables; none for those that are not known.
type Tables = BTreeMap<String, Option<Vec<String>>>;

/// The mistakes in the SQL of every FeatureView.
pub(super) fn findings(documents: &[Document]) -> Vec<Finding> {
    thread::scope(|scope| {
        let walk = || documents.iter().flat_map(|document| of_view(documents, document)).collect();
        let walker = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, walk);
        walker.ok().and_then(|walker| walker.join().ok()).unwrap_or_default()
    })
}

fn of_view(documents: &[Document], document: &Document) -> Vec<Finding> {
    let is_view = document.is_ours() && document.kind() == "FeatureView";
    let Some(sql) = document.value.pointer("/spec/sql").and_then(Value::as_str).filter(|_| is_view) else {
        return Vec::new();
    };
    let wrong = match parsed(sql) {
        Ok(Some(query)) => {
            let mut wrong = flaws(&query, &tables(documents, document));
            wrong.extend(missing_roles(&query, document));
            wrong
        }
        Ok(None) => Vec::new(),
        Err(message) => vec![("spec.sql".to_owned(), message)],
    };
    wrong.into_iter().map(|(field, message)| Finding::new(document, true, field, message)).collect()
}

/// The query, as the worker's engine parses it; none if it is too long or nests too deep.
fn parsed(sql: &str) -> Result<Option<Query>, String> {
    if sql.len() > SQL_BYTES_MAX {
        return Ok(None);
    }
    let mut statements = match Parser::parse_sql(&GenericDialect {}, sql) {
        Ok(statements) => statements,
        Err(ParserError::RecursionLimitExceeded) => return Ok(None),
        Err(ParserError::TokenizerError(message) | ParserError::ParserError(message)) => {
            return Err(message.replace(" at Line: ", " at line ").replace(", Column: ", ", column "));
        }
    };
    match (statements.pop(), statements.len()) {
        (Some(Statement::Query(query)), 0) => Ok(Some(*query)),
        _ => Err("must be one SELECT".to_owned()),
    }
}

/// The tables that a view reads.
fn tables(documents: &[Document], view: &Document) -> Tables {
    let inputs = view.value.pointer("/spec/inputs").and_then(Value::as_array);
    let references = view.value.get("spec").map(references::of).unwrap_or_default();
    let named = |input: &Value| {
        let text = |pointer: &str| input.pointer(pointer).and_then(Value::as_str);
        let id = ObjectId::new(text("/from/kind")?, text("/from/name")?);
        let is_ours = references.iter().any(|it| it.to == id && it.is_ours);
        let is_it = |it: &&Document| {
            is_ours
                && it.is_ours()
                && it.namespace() == view.namespace()
                && ObjectId::new(it.kind(), it.name()) == id
        };
        Some((text("/name")?.to_owned(), documents.iter().find(is_it).and_then(columns)))
    };
    inputs.into_iter().flatten().filter_map(named).collect()
}

/// The columns of an object that is a table.
fn columns(document: &Document) -> Option<Vec<String>> {
    match document.kind() {
        "Dataset" => {
            let columns = document.value.pointer("/spec/columns")?.as_array()?;
            columns.iter().map(|column| Some(column.get("name")?.as_str()?.to_owned())).collect()
        }
        "FeatureView" => outputs(&parsed(document.text("/spec/sql")).ok()??),
        _ => None,
    }
}

/// Tables and columns that do not exist, as paths and messages.
fn flaws(query: &Query, tables: &Tables) -> Vec<(String, String)> {
    let mut names = Names::default();
    let _ = query.visit(&mut names);
    let mut flaws: Vec<(Ident, String)> = Vec::new();
    for table in &names.tables {
        let name = normalized(table);
        if !tables.contains_key(&name) && !names.ctes.contains(&name) {
            flaws.push((table.clone(), absent("input", &name, &tables.keys().cloned().collect::<Vec<_>>())));
        }
    }
    // An unknown table has unknown columns.
    if flaws.is_empty() && !names.is_opaque {
        flaws.extend(names.qualified.iter().filter_map(|(table, column)| {
            let known = columns_of(&names, tables, &normalized(table))?;
            flaw(column, &known)
        }));
        let all: Option<Vec<&Vec<String>>> = tables.values().map(Option::as_ref).collect();
        let known: Option<BTreeSet<String>> = all.map(|all| all.into_iter().flatten().cloned().collect());
        let known: Option<Vec<String>> = known.map(|known| known.into_iter().collect());
        for column in names.columns.iter().filter(|it| !names.aliases.contains(&normalized(it))) {
            flaws.extend(known.as_ref().and_then(|known| flaw(column, known)));
        }
    }
    flaws.sort_by_key(|(ident, _)| ident.span.start);
    let located = |(ident, message): (Ident, String)| {
        let at = ident.span.start;
        ("spec.sql".to_owned(), format!("line {}, column {}: {message}", at.line, at.column))
    };
    flaws.into_iter().map(located).collect()
}

/// The columns of the relation that is called `name`; none unless it can only be inputs with known columns.
fn columns_of(names: &Names, tables: &Tables, name: &str) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    for table in names.relations.get(name)? {
        let table = table.as_ref().filter(|table| !names.ctes.contains(*table))?;
        columns.extend(tables.get(table)?.as_ref()?.iter().cloned());
    }
    Some(columns)
}

/// The message about a column that is not among `known`.
fn flaw(column: &Ident, known: &[String]) -> Option<(Ident, String)> {
    let name = normalized(column);
    // The engine names columns after expressions, and has variables.
    let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if known.contains(&name) || !is_word {
        return None;
    }
    if let Some(other) = known.iter().find(|other| other.eq_ignore_ascii_case(&name)) {
        let message = match column.quote_style {
            None => format!("the column {other} has capitals and needs double quotes: \"{other}\""),
            Some(_) => format!("there is no column {name}; did you mean {other}?"),
        };
        return Some((column.clone(), message));
    }
    let is_sure = column.quote_style.is_none() || known.iter().any(|other| similar::is_similar(other, &name));
    is_sure.then(|| (column.clone(), absent("column", &name, known)))
}

/// Entities and the timestamp that the result lacks.
fn missing_roles(query: &Query, document: &Document) -> Vec<(String, String)> {
    let Some(outputs) = outputs(query) else { return Vec::new() };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entities = document.value.pointer("/spec/entities").and_then(Value::as_array);
    let entities = entities.into_iter().flatten().enumerate();
    let entities = entities.filter_map(|(index, it)| Some((format!("spec.entities[{index}]"), text(it)?)));
    let timestamp = document.value.pointer("/spec/timestamp").and_then(text);
    let roles = entities.chain(timestamp.map(|it| ("spec.timestamp".to_owned(), it)));
    let missing = roles.filter(|(_, role)| !outputs.contains(role));
    missing
        .map(|(field, role)| {
            (field, format!("the SELECT of spec.sql has {}", absent("column", &role, &outputs)))
        })
        .collect()
}

/// The message about a name that does not exist.
fn absent(what: &str, name: &str, known: &[String]) -> String {
    let near: Vec<&String> = known.iter().filter(|other| similar::is_similar(other, name)).collect();
    match near.is_empty() {
        true => format!("no {what} {name}; there are {}", similar::listed(&known.iter().collect::<Vec<_>>())),
        false => format!("no {what} {name}; did you mean {}?", similar::listed(&near)),
    }
}
