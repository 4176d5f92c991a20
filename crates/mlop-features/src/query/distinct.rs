//! Lists of distinct values, in one order.
//!
//! The engine collects distinct values in a hash table, whose order differs from process to process. Lists made of them
//! are sorted here.

use datafusion::{
    common::tree_node::Transformed,
    logical_expr::{
        Expr,
        expr::{AggregateFunction, WindowFunction},
    },
};

fn makes_list(name: &str) -> bool {
    matches!(name, "array_agg" | "string_agg")
}

/// `expression` with an order for the distinct values of a list.
pub fn ordered(expression: Expr) -> Transformed<Expr> {
    match expression {
        Expr::AggregateFunction(AggregateFunction { func, mut params })
            if params.distinct && params.order_by.is_empty() && makes_list(func.name()) =>
        {
            params.order_by.extend(params.args.first().map(|value| value.clone().sort(true, true)));
            Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params }))
        }
        other => Transformed::no(other),
    }
}

/// The name of a function that makes lists of the distinct values of a window, which nothing sorts.
pub fn unordered(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::WindowFunction(call) => {
            let WindowFunction { fun, params } = call.as_ref();
            (params.distinct && makes_list(fun.name())).then(|| fun.name())
        }
        _ => None,
    }
}
