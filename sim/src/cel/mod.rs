//! The Common Expression Language, as the rules of definitions use it (`x-kubernetes-validations`).
//!
//! Values are JSON that is read in place, with the schema beside it: a text of format `date-time` is a time. Rules are not
//! checked for types before they run. Known are the operators and macros of the language, its conversions, and the
//! functions of [`functions`]; a rule that needs another one fails, and says so.

mod eval;
mod functions;
mod lexer;
mod parser;
mod value;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

pub(crate) use eval::Scope;
pub(crate) use value::Val;

/// A rule that was read.
#[derive(Debug)]
pub(crate) struct Rule {
    expression: Result<parser::Expr, String>,
    /// Whether it speaks of `oldSelf`.
    pub is_transition: bool,
}

impl Rule {
    /// Reads a rule; each text is read once.
    pub fn read(text: &str) -> Arc<Self> {
        static KNOWN: LazyLock<Mutex<BTreeMap<String, Arc<Rule>>>> = LazyLock::new(Mutex::default);
        let read = || {
            let expression = parser::parse(text);
            let is_transition = expression.as_ref().is_ok_and(|expression| expression.names("oldSelf"));
            Arc::new(Self { expression, is_transition })
        };
        let Ok(mut known) = KNOWN.lock() else {
            return read();
        };
        if let Some(rule) = known.get(text) {
            return Arc::clone(rule);
        }
        let rule = read();
        known.insert(text.to_owned(), Arc::clone(&rule));
        rule
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Why it comes to nothing, in the server's words as far as it has any.
    pub fn evaluate<'a>(&'a self, mut scope: Scope<'a>) -> Result<Val<'a>, String> {
        match &self.expression {
            Ok(expression) => eval::eval(expression, &mut scope),
            Err(why) => Err(format!("the rule cannot be read: {why}")),
        }
    }
}

#[cfg(test)]
mod tests;
