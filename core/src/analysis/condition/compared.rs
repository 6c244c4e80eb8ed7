//! The numbers with which a condition compares a value: what a plot of the values shows beside them.

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue};

const ORDERS: [&str; 4] = ["_<_", "_<=_", "_>_", "_>=_"];

/// Numbers that `name` must be below or above somewhere in the expression, in the order in which they are written.
pub(super) fn compared(expression: &IdedExpr, name: &str) -> Vec<f64> {
    let Expr::Call(call) = &expression.expr else { return Vec::new() };
    let is_value = |side: &IdedExpr| matches!(&side.expr, Expr::Ident(ident) if ident == name);
    match call.args.as_slice() {
        [value, other] | [other, value] if ORDERS.contains(&call.func_name.as_str()) && is_value(value) => {
            constant(other).into_iter().collect()
        }
        arguments => arguments.iter().flat_map(|argument| compared(argument, name)).collect(),
    }
}

fn constant(expression: &IdedExpr) -> Option<f64> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Double(double)) => Some(*double.inner()),
        Expr::Literal(LiteralValue::Int(whole)) => Some(*whole.inner() as f64),
        Expr::Literal(LiteralValue::UInt(whole)) => Some(*whole.inner() as f64),
        Expr::Call(call) if call.func_name == "-_" => call.args.first().and_then(constant).map(|number| -number),
        _ => None,
    }
}
