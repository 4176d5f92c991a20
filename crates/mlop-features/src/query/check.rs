//! Checks of a view's SQL and of the columns of its result.

use super::{distinct, planning_failed, stored, union};
use crate::types;
use datafusion::{
    common::{
        Column, DFSchema,
        tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor},
    },
    execution::{context::SQLOptions, session_state::SessionState},
    logical_expr::{Expr, LogicalPlan, Signature, Volatility, WindowFunctionDefinition},
    sql::{
        parser::Statement,
        sqlparser::ast::{self, TableFactor, Visit, Visitor},
    },
};
use mlop_api::{Reason, result::Failure};
use std::{collections::BTreeSet, ops::ControlFlow};

/// Deepest nesting of an expression: the engine's work grows with its square.
const DEPTH_MAX: usize = 500;

/// The columns of a table that name the entities of a row, and the time since which it is true.
#[derive(Clone, Copy, Debug)]
pub struct Roles<'a> {
    pub entities: &'a [String],
    pub timestamp: &'a str,
}

impl Roles<'_> {
    pub fn contains(&self, column: &str) -> bool {
        self.timestamp == column || self.entities.iter().any(|entity| entity == column)
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::terminal(Reason::QueryInvalid, message)
}

/// The plan of `sql`, which must be one query whose result depends on nothing but its tables.
pub async fn plan(state: &SessionState, sql: &str) -> Result<LogicalPlan, Failure> {
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).map_err(planning_failed)?;
    refuse_other_statements(&statement)?;
    let plan = state.statement_to_plan(statement).await.map_err(planning_failed)?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(planning_failed)?;
    check_expressions(&plan)?;
    match union::flaw(&plan).map_err(planning_failed)? {
        Some(flaw) => Err(invalid(flaw)),
        None => Ok(plan),
    }
}

fn refuse_other_statements(statement: &Statement) -> Result<(), Failure> {
    if let Statement::Statement(statement) = statement
        && matches!(**statement, ast::Statement::Query(_))
    {
        return match statement.visit(&mut Sampling) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(invalid("spec.sql uses TABLESAMPLE: the same inputs must give the same features"))
            }
        };
    }
    let text = statement.to_string();
    let verb = text.split_whitespace().next().unwrap_or_default();
    Err(invalid(format!("spec.sql must be one SELECT, this is {verb}")))
}

/// Finds TABLESAMPLE, which the engine would ignore.
struct Sampling;

impl Visitor for Sampling {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { sample: Some(_), .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Looks at every expression of the plan and of its subqueries.
fn check_expressions(plan: &LogicalPlan) -> Result<(), Failure> {
    let mut check = Check { depth: 0, flaw: None };
    plan.apply_with_subqueries(|node| node.apply_expressions(|expression| expression.visit(&mut check)))
        .map_err(planning_failed)?;
    check.flaw.map_or(Ok(()), |flaw| Err(invalid(flaw)))
}

struct Check {
    depth: usize,
    flaw: Option<String>,
}

impl<'n> TreeNodeVisitor<'n> for Check {
    type Node = Expr;

    fn f_down(&mut self, expression: &'n Expr) -> datafusion::error::Result<TreeNodeRecursion> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.flaw =
                Some(format!("spec.sql has an expression that nests deeper than {DEPTH_MAX}: split it"));
        }
        if let Some((name, signature)) = function(expression)
            && signature.volatility != Volatility::Immutable
        {
            self.flaw = Some(format!(
                "spec.sql calls {name}(), which yields something else each time: the same inputs must give the same \
                 features. Compute from the tables' own columns instead"
            ));
        }
        if let Some(name) = distinct::unordered(expression) {
            self.flaw = Some(format!(
                "spec.sql calls {name}(DISTINCT ...) OVER a window, whose values have no order: use GROUP BY"
            ));
        }
        Ok(if self.flaw.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    }

    fn f_up(&mut self, _: &'n Expr) -> datafusion::error::Result<TreeNodeRecursion> {
        self.depth -= 1;
        Ok(TreeNodeRecursion::Continue)
    }
}

fn function(expression: &Expr) -> Option<(&str, &Signature)> {
    match expression {
        Expr::ScalarFunction(call) => Some((call.func.name(), call.func.signature())),
        Expr::AggregateFunction(call) => Some((call.func.name(), call.func.signature())),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => Some((function.name(), function.signature())),
            WindowFunctionDefinition::WindowUDF(function) => Some((function.name(), function.signature())),
        },
        _ => None,
    }
}

/// The columns of the result, each under the type in which tables keep it.
pub fn columns(schema: &DFSchema, roles: &Roles<'_>) -> Result<Vec<Expr>, Failure> {
    let mut names = BTreeSet::new();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (qualifier, field) in schema.iter() {
        let (name, from) = (field.name(), field.data_type());
        check_name(name)?;
        if !names.insert(name.as_str()) {
            return Err(invalid(format!(
                "spec.sql yields two columns {name:?}: give one another name with AS"
            )));
        }
        let column = Expr::Column(Column::new(qualifier.cloned(), name));
        let column = stored(column, name, from).ok_or_else(|| {
            invalid(format!(
                "spec.sql yields column {name:?} of type {}, which a feature cannot have: CAST it to BOOLEAN, \
                 BIGINT, REAL, DOUBLE, VARCHAR, TIMESTAMP or DATE",
                types::sql(from)
            ))
        })?;
        columns.push(column);
    }
    check_roles(schema, roles)?;
    Ok(columns)
}

/// Names go into requests as `view:feature` and into file formats, so they are plain words.
fn check_name(name: &str) -> Result<(), Failure> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty()
        && name.len() <= 128
        && name.chars().all(word)
        && !name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Ok(());
    }
    Err(invalid(format!(
        "spec.sql yields a column {name:?}: give it a name of letters, digits and '_' with AS (at most 128)"
    )))
}

fn check_roles(schema: &DFSchema, roles: &Roles<'_>) -> Result<(), Failure> {
    let type_of = |field: &str, column: &str| {
        let found = schema.fields().iter().find(|field| field.name() == column);
        let found = found.and_then(|field| types::stored(field.data_type()));
        found.ok_or_else(|| {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            invalid(format!("{field} names {column:?}, but spec.sql yields only {}", names.join(", ")))
        })
    };
    for entity in roles.entities {
        let found = type_of("spec.entities", entity)?;
        if !types::is_entity(&found) {
            return Err(invalid(format!(
                "spec.entities names {entity:?} of type {}: CAST it to VARCHAR or BIGINT",
                types::name(&found)
            )));
        }
    }
    let found = type_of("spec.timestamp", roles.timestamp)?;
    if !types::is_time(&found) {
        return Err(invalid(format!(
            "spec.timestamp names {:?} of type {}: it must be a TIMESTAMP or DATE",
            roles.timestamp,
            types::name(&found)
        )));
    }
    Ok(())
}
