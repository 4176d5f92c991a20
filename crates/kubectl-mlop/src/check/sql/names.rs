//! The names that a query uses, and those that it gives.

use sqlparser::ast::{
    AccessExpr, Expr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, Visitor,
    WildcardAdditionalOptions,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

/// A name as the engine compares it: without quotes it has no capitals.
pub(super) fn normalized(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Everything that a statement names, whatever the scope.
///
/// Scopes are not resolved: a name that is known anywhere in the statement counts as known everywhere. A
/// name that is reported is therefore wrong in every scope.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Tables after FROM and JOIN.
    pub tables: Vec<Ident>,
    /// Columns without a table.
    pub columns: Vec<Ident>,
    /// Columns as `table.column`.
    pub qualified: Vec<(Ident, Ident)>,
    /// What the name before a column may mean: the table of this name, or none for a subquery.
    pub relations: BTreeMap<String, BTreeSet<Option<String>>>,
    /// Names of WITH.
    pub ctes: BTreeSet<String>,
    /// Columns that the statement itself names with AS.
    pub aliases: BTreeSet<String>,
    /// Whether there are columns whose names only the engine knows.
    pub is_opaque: bool,
}

impl Names {
    fn relate(&mut self, name: String, table: Option<String>) {
        self.relations.entry(name).or_default().insert(table);
    }

    /// An alias of a relation. With names for its columns it is a relation of its own.
    fn add_alias(&mut self, alias: &TableAlias, table: Option<String>) {
        self.aliases.extend(alias.columns.iter().map(|column| normalized(&column.name)));
        let table = table.filter(|_| alias.columns.is_empty());
        self.relate(normalized(&alias.name), table);
        self.is_opaque |= alias.at.is_some();
    }

    fn add_body(&mut self, body: &SetExpr) {
        match body {
            SetExpr::SetOperation { left, right, .. } => {
                self.add_body(left);
                self.add_body(right);
            }
            // Those are visited on their own.
            SetExpr::Select(_) | SetExpr::Query(_) => {}
            _ => self.is_opaque = true,
        }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(normalized(&cte.alias.name));
            self.add_alias(&cte.alias, None);
        }
        self.is_opaque |= !query.pipe_operators.is_empty();
        self.add_body(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => drop(self.aliases.insert(normalized(alias))),
                SelectItem::ExprWithAliases { aliases, .. } => {
                    self.aliases.extend(aliases.iter().map(normalized));
                }
                SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) => {
                    let WildcardAdditionalOptions { opt_replace, opt_rename, opt_alias, .. } = options;
                    self.is_opaque |= opt_replace.is_some() || opt_rename.is_some() || opt_alias.is_some();
                }
                SelectItem::UnnamedExpr(_) => {}
            }
        }
        self.is_opaque |= !select.lateral_views.is_empty() || !select.connect_by.is_empty();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, alias, args: None, .. } => {
                // A name in several parts is of a schema or a column.
                let [part] = name.0.as_slice() else {
                    self.is_opaque = true;
                    return ControlFlow::Continue(());
                };
                let Some(ident) = part.as_ident() else { return ControlFlow::Continue(()) };
                let table = Some(normalized(ident));
                self.tables.push(ident.clone());
                match alias {
                    Some(alias) => self.add_alias(alias, table),
                    None => self.relate(normalized(ident), table),
                }
            }
            TableFactor::Derived { alias, .. } => {
                alias.iter().for_each(|alias| self.add_alias(alias, None));
            }
            TableFactor::NestedJoin { alias: None, .. } => {}
            _ => self.is_opaque = true,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        match expression {
            Expr::Identifier(column) => self.columns.push(column.clone()),
            Expr::CompoundIdentifier(parts) => {
                if let [table, column] = parts.as_slice() {
                    self.qualified.push((table.clone(), column.clone()));
                }
            }
            // The parts after a dot may be fields of a struct.
            Expr::CompoundFieldAccess { access_chain, .. } => {
                self.is_opaque |= access_chain.iter().any(|part| matches!(part, AccessExpr::Dot(_)));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The columns of a query's result; none if an expression has no name of its own, or for `*`.
pub(super) fn outputs(query: &Query) -> Option<Vec<String>> {
    fn of_body(body: &SetExpr) -> Option<&Select> {
        match body {
            SetExpr::Select(select) => Some(select),
            SetExpr::Query(query) if query.pipe_operators.is_empty() => of_body(&query.body),
            // The first SELECT of a UNION names the columns.
            SetExpr::SetOperation { left, .. } => of_body(left),
            _ => None,
        }
    }
    if !query.pipe_operators.is_empty() {
        return None;
    }
    let select = of_body(&query.body)?;
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(normalized(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(column)) => Some(normalized(column)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.as_slice() {
            [_, column] => Some(normalized(column)),
            _ => None,
        },
        _ => None,
    };
    select.projection.iter().map(name).collect()
}
