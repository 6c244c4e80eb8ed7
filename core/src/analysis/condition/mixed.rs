//! Whole numbers beside measured ones.
//!
//! What is measured is a double. CEL compares doubles with whole numbers, but adds, subtracts, multiplies and divides them with
//! doubles only, and people write `result * 100 < 5`. So there a whole number that stands beside something else becomes a double.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue};

const ARITHMETIC: [&str; 4] = ["_+_", "_-_", "_*_", "_/_"];

/// The same expression with those whole numbers as doubles; none if it has none. It is at most a call deeper for each of them.
pub(super) fn mixed(expression: &IdedExpr) -> Option<IdedExpr> {
    let mut widened = expression.clone();
    widen(&mut widened).then_some(widened)
}

/// Whether anything was changed.
fn widen(expression: &mut IdedExpr) -> bool {
    match &mut expression.expr {
        // A remainder is of whole numbers alone.
        Expr::Call(call) if call.func_name == "_%_" => false,
        Expr::Call(call) => {
            let mut changed = false;
            for part in call.target.as_deref_mut().into_iter().chain(call.args.iter_mut()) {
                changed |= widen(part);
            }
            widen_operands(call) || changed
        }
        Expr::Select(select) => widen(&mut select.operand),
        Expr::Comprehension(each) => {
            let each = each.as_mut();
            let mut changed = false;
            for part in [&mut each.iter_range, &mut each.loop_cond, &mut each.loop_step, &mut each.result] {
                changed |= widen(part);
            }
            changed
        }
        // Lists are of constants, which are only compared.
        _ => false,
    }
}

fn widen_operands(call: &mut CallExpr) -> bool {
    let divides = call.func_name == "_/_";
    if !ARITHMETIC.contains(&call.func_name.as_str()) {
        return false;
    }
    let [left, right] = call.args.as_mut_slice() else { return false };
    if counts(left) || counts(right) {
        return false;
    }
    match (is_whole(left), is_whole(right)) {
        (true, false) => to_double(left),
        // Dividing by what may be zero stays an error instead of becoming infinity.
        (false, true) if !divides || is_never_zero(right) => to_double(right),
        _ => return false,
    }
    true
}

fn to_double(expression: &mut IdedExpr) {
    let whole = std::mem::take(expression);
    let id = whole.id;
    let call = CallExpr { func_name: "double".to_owned(), target: None, args: vec![whole] };
    *expression = IdedExpr { id, expr: Expr::Call(call) };
}

/// What a loop of the language itself counts or collects in.
fn counts(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name.starts_with('@'))
}

/// Whether it is a whole number whatever was measured.
fn is_whole(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_)) => true,
        Expr::Ident(name) => name == "status",
        Expr::Call(call) => match call.func_name.as_str() {
            "size" | "int" | "_%_" => true,
            // Not a quotient: whoever divides one count by another to multiply with it means a share, and gets 0.
            "-_" | "_+_" | "_-_" | "_*_" => call.args.iter().all(is_whole),
            _ => false,
        },
        _ => false,
    }
}

fn is_never_zero(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(LiteralValue::Int(whole)) => *whole.inner() != 0,
        Expr::Literal(LiteralValue::UInt(whole)) => *whole.inner() != 0,
        _ => false,
    }
}
