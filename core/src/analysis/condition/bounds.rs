//! What a condition may contain, so that evaluating it is bounded.
//!
//! The library evaluates recursively and without a budget, so the bounds are on the expression: its length and depth
//! (the stack), and what a loop (`all`, `exists`, `exists_one`, `filter`) may look at: its element and single numbers
//! only; what it runs over is a part of the data or what `filter` left of it, never something that was put together. So
//! an expression of n parts over data of m values takes at most about n * m steps, with n at most some 300 and m at most
//! [`MAX_UNITS`](super::MAX_UNITS); one that mixes whole numbers with doubles is evaluated twice.

use cel::IdedExpr;
use cel::common::ast::{Expr, ListExpr};

use super::Source;

/// Longest condition, in bytes.
pub const MAX_LENGTH: usize = 1_024;
/// Deepest nesting. One level takes up to some 60 KiB of stack in a debug build, of 2 MiB that a thread has.
pub const MAX_DEPTH: usize = 20;

const FUNCTIONS: [&str; 7] = ["size", "contains", "startsWith", "endsWith", "int", "double", "string"];

/// What an expression looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub uses_result: bool,
    uses_any: bool,
}

/// Bounds that hold before the text is parsed.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        length if length > MAX_LENGTH => Err(format!("it has {length} bytes, at most {MAX_LENGTH} are allowed")),
        _ => Ok(()),
    }
}

/// Checks an expression and says what it looks at.
pub(super) fn check(expression: &IdedExpr, source: Source) -> Result<Seen, String> {
    let mut walk = Walk { source, seen: Seen::default() };
    walk.expression(expression, &Scope::Top, 0)?;
    if walk.seen.uses_any {
        Ok(walk.seen)
    } else {
        Err(format!("it looks at nothing that is measured: {}", walk.variables()))
    }
}

/// Which names an expression may use.
enum Scope<'a> {
    /// The variables.
    Top,
    /// The element of the innermost loop, its accumulator, and variables that hold one number.
    Loop { element: &'a str, accumulator: &'a str },
}

struct Walk {
    source: Source,
    seen: Seen,
}

impl Walk {
    fn expression(&mut self, expression: &IdedExpr, scope: &Scope<'_>, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        let depth = depth + 1;
        match &expression.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name, scope),
            Expr::Select(select) => self.expression(&select.operand, scope, depth),
            Expr::List(list) => Self::list(list, scope),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if name.starts_with(|c: char| c.is_alphabetic()) && !FUNCTIONS.contains(&name) {
                    return Err(unknown_function(name));
                }
                call.target.iter().try_for_each(|target| self.expression(target, scope, depth))?;
                call.args.iter().try_for_each(|argument| self.expression(argument, scope, depth))
            }
            Expr::Comprehension(each) => {
                self.expression(&each.iter_range, scope, depth)?;
                if !is_part_of_the_data(&each.iter_range) {
                    return Err("a loop runs over a list that was measured, or a filter of one".to_owned());
                }
                if each.iter_var2.is_some() {
                    return Err("loops over two variables are not supported".to_owned());
                }
                if self.source.large().contains(&each.iter_var.as_str()) {
                    return Err(format!("{} is taken: give the element of the loop another name", each.iter_var));
                }
                let inner = Scope::Loop { element: &each.iter_var, accumulator: &each.accu_var };
                for part in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
                    self.expression(part, &inner, depth)?;
                }
                Ok(())
            }
            Expr::Map(_) | Expr::Struct(_) => Err("objects cannot be built in a condition".to_owned()),
            Expr::Unspecified => Err("it is incomplete".to_owned()),
        }
    }

    fn name(&mut self, name: &str, scope: &Scope<'_>) -> Result<(), String> {
        if let Scope::Loop { element, accumulator } = scope {
            if name == *element || name == *accumulator {
                return Ok(());
            }
            if self.source.large().contains(&name) {
                return Err(format!("inside a loop only its element and single numbers can be used, not {name}"));
            }
        }
        if !self.source.large().contains(&name) && !self.source.scalar().contains(&name) {
            return Err(format!("{} is unknown: {}", crate::analysis::shorten(name, 60), self.variables()));
        }
        self.seen.uses_any = true;
        self.seen.uses_result |= name == "result";
        Ok(())
    }

    /// Constants, or what `filter` is made of: the element alone.
    fn list(list: &ListExpr, scope: &Scope<'_>) -> Result<(), String> {
        let plain = |item: &IdedExpr| match (&item.expr, scope) {
            (Expr::Literal(_), _) => true,
            (Expr::Ident(name), Scope::Loop { element, .. }) => name == element,
            (Expr::Call(call), _) => {
                call.func_name == "-_" && matches!(call.args.as_slice(), [IdedExpr { expr: Expr::Literal(_), .. }])
            }
            _ => false,
        };
        if list.elements.iter().all(plain) {
            Ok(())
        } else {
            Err("lists are built from constants only (map is not supported; all, exists and filter are)".to_owned())
        }
    }

    fn variables(&self) -> String {
        let names: Vec<_> = self.source.scalar().iter().chain(self.source.large()).copied().collect();
        format!("a condition here can look at {}", names.join(", "))
    }
}

fn is_part_of_the_data(range: &IdedExpr) -> bool {
    match &range.expr {
        Expr::Ident(_) | Expr::List(_) | Expr::Comprehension(_) => true,
        Expr::Select(select) => is_part_of_the_data(&select.operand),
        Expr::Call(call) if call.func_name == "_[_]" => call.args.first().is_some_and(is_part_of_the_data),
        _ => false,
    }
}

fn unknown_function(name: &str) -> String {
    format!("{}() is unknown: there are {}", crate::analysis::shorten(name, 60), FUNCTIONS.join(", "))
}
