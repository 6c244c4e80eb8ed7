//! Whether the result of a query is what was expected: a CEL condition on one number or boolean.
//!
//! Nothing else is kept of what a query returned. The language is bounded as that of analyses is.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    analysis::condition::{Condition, Evaluation, Source, Variables},
    object::Digest,
};
use interlock_crds::DrillValidation;

/// The one value that is kept of what a validation returned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
}

impl Scalar {
    /// Reads the text that psql prints for one value (`--tuples-only --no-align`).
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "t" | "true" => Some(Self::Boolean(true)),
            "f" | "false" => Some(Self::Boolean(false)),
            number => number.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Number),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Some numbers have three hundred digits.
            Self::Number(number) if number.abs() >= 1e15 => write!(out, "{number:e}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Boolean(truth) => write!(out, "{truth}"),
        }
    }
}

/// Reads a condition.
///
/// # Errors
/// It cannot be used; the sentence says why.
pub fn condition(expect: &str) -> Result<Condition, String> {
    let condition = Condition::new(expect, Source::Scalar)?;
    if condition.uses_result() {
        Ok(condition)
    } else {
        Err("it does not look at result, so it would hold whatever came back".to_owned())
    }
}

/// Whether the result holds.
///
/// # Errors
/// It cannot be told, which is a failure; the sentence never holds data.
pub fn holds(expect: &str, result: Scalar) -> Result<bool, String> {
    match condition(expect)?.evaluate(&variables(result)) {
        Evaluation::Is(truth) => Ok(truth),
        // A remainder is of whole numbers alone.
        first => match (whole(result), first) {
            (Some(whole), _) => match condition(expect)?.evaluate(&Variables::whole(whole)) {
                Evaluation::Is(truth) => Ok(truth),
                Evaluation::Missing(why) | Evaluation::Error(why) => Err(why),
            },
            (None, Evaluation::Missing(why) | Evaluation::Error(why)) => Err(why),
            (None, Evaluation::Is(truth)) => Ok(truth),
        },
    }
}

fn variables(result: Scalar) -> Variables {
    match result {
        Scalar::Number(number) => Variables::number(number),
        Scalar::Boolean(truth) => Variables::boolean(truth),
    }
}

fn whole(result: Scalar) -> Option<i64> {
    match result {
        Scalar::Number(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
            Some(number as i64)
        }
        _ => None,
    }
}

/// What a validation asks, as its digest: evidence that tells which question was answered, without saying more.
pub fn query_digest(validation: &DrillValidation) -> String {
    let question: Value = json!({
        "sql": validation.sql, "command": validation.command, "http": validation.http, "files": validation.files,
        "heartbeat": validation.heartbeat,
    });
    Digest::of_canonical(&question).map(|digest| digest.to_string()).unwrap_or_default()
}
