//! Conditions in CEL over what was observed.
//!
//! The language is CEL; what a condition may contain is bounded so that evaluating it is cheap whatever the answer of a
//! server: see [`bounds`]. A condition is parsed once. One that cannot be evaluated is an error, never a success.

mod bounds;
mod compared;
mod data;
mod mixed;

use cel::parser::PrattParser;
use cel::{Context, ExecutionError, Value};

pub use bounds::{MAX_DEPTH, MAX_LENGTH};
pub use data::{MAX_UNITS, Variables};

/// What a condition can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An instant query: `result` is a number.
    Instant,
    /// A range query: `result` is a list of numbers.
    Range,
    /// An HTTP answer: `result` is its JSON body.
    Http,
    /// One value of a query: `result` is a number or a boolean.
    Scalar,
}

impl Source {
    /// Variables that hold lists, objects or texts.
    fn large(self) -> &'static [&'static str] {
        match self {
            Self::Instant => &["series"],
            Self::Range => &["result", "series"],
            Self::Http => &["result", "body"],
            Self::Scalar => &[],
        }
    }

    /// Variables that hold one number.
    fn scalar(self) -> &'static [&'static str] {
        match self {
            Self::Instant | Self::Scalar => &["result"],
            Self::Range => &[],
            Self::Http => &["status"],
        }
    }
}

/// A condition that was found usable.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    expression: cel::IdedExpr,
    /// The same with doubles where whole numbers stand beside what was measured.
    mixed: Option<cel::IdedExpr>,
    uses_result: bool,
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// True or false.
    Is(bool),
    /// It looked at something that the answer does not have.
    Missing(String),
    /// It cannot be evaluated.
    Error(String),
}

impl Condition {
    /// Reads a condition. The error says what is wrong with it.
    pub fn new(text: &str, source: Source) -> Result<Self, String> {
        bounds::check_text(text)?;
        let expression = PrattParser::new().parse(text).map_err(|errors| first_line(&errors.to_string()))?;
        let seen = bounds::check(&expression, source)?;
        let mixed = mixed::mixed(&expression).filter(|mixed| bounds::check(mixed, source).is_ok());
        let condition = Self { text: text.trim().to_owned(), expression, mixed, uses_result: seen.uses_result };
        condition.try_out(source)?;
        Ok(condition)
    }

    /// The condition as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it looks at `result`, of which there must be exactly one then.
    pub fn uses_result(&self) -> bool {
        self.uses_result
    }

    /// Numbers that the variable of this name must be below or above.
    pub fn compared(&self, name: &str) -> Vec<f64> {
        compared::compared(&self.expression, name)
    }

    /// Evaluates it: as it is written, and if that mixes numbers as the language does not, once more with doubles.
    pub fn evaluate(&self, variables: &Variables) -> Evaluation {
        let mut context = Context::default();
        for (name, value) in variables.iter() {
            context.add_variable_from_value(name, value.clone());
        }
        let written = self.resolve(&self.expression, &context);
        let is_error = matches!(written, Evaluation::Error(_));
        let Some(mixed) = self.mixed.as_ref().filter(|_| is_error) else { return written };
        match self.resolve(mixed, &context) {
            Evaluation::Error(_) => written,
            known => known,
        }
    }

    fn resolve(&self, expression: &cel::IdedExpr, context: &Context<'_, '_>) -> Evaluation {
        match Value::resolve(expression, context) {
            Ok(Value::Bool(truth)) => Evaluation::Is(truth),
            Ok(other) => Evaluation::Error(format!("it gives a {}, not true or false", other.type_of())),
            // A key that the condition itself does not state came from the server.
            Err(ExecutionError::NoSuchKey(key)) if self.text.contains(key.as_str()) => {
                Evaluation::Missing(format!("there is no key {key:?}"))
            }
            Err(ExecutionError::NoSuchKey(_)) => Evaluation::Missing("there is no such key".to_owned()),
            Err(error) => Evaluation::Error(explain(&error)),
        }
    }

    /// What an instant query gives is known beforehand: a condition that cannot even look at a number never will.
    fn try_out(&self, source: Source) -> Result<(), String> {
        if source == Source::Scalar {
            let tried = [Variables::boolean(true), Variables::whole(1), Variables::number(0.5)];
            let mut why = String::new();
            for variables in &tried {
                match self.evaluate(variables) {
                    Evaluation::Error(error) => why = error,
                    Evaluation::Is(_) | Evaluation::Missing(_) => return Ok(()),
                }
            }
            return Err(format!("it fits neither a number nor a boolean, such as result > 0 does: {why}"));
        }
        let variables = match source {
            Source::Instant if self.uses_result => Variables::number(0.5),
            Source::Range if self.uses_result => Variables::numbers(&[0.5, 0.25]),
            _ => return Ok(()),
        };
        match self.evaluate(&variables) {
            Evaluation::Is(_) => Ok(()),
            // It may look at `series` as well, or at a position that this list does not have.
            Evaluation::Missing(_) => Ok(()),
            Evaluation::Error(error) if error == OUT_OF_BOUNDS || error.starts_with(UNDECLARED) => Ok(()),
            Evaluation::Error(error) => Err(error),
        }
    }
}

const OUT_OF_BOUNDS: &str = "it looks at a position that the list does not have";
const UNDECLARED: &str = "it looks at something that this answer does not have: ";

/// The library's errors without the values that it puts into them: they come from a server.
fn explain(error: &ExecutionError) -> String {
    let types = |a: &Value, b: &Value| format!("{} and {}", type_name(a), type_name(b));
    match error {
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<_> = overload.argument_types().iter().map(|name| plain_type(name)).collect();
            let operator = operator(overload.function());
            format!("{operator} does not work with {}{}", types.join(" and "), hint(operator, &types))
        }
        ExecutionError::UnsupportedBinaryOperator(name, a, b) => {
            let (operator, known) = (operator(name), [type_name(a), type_name(b)]);
            format!("{operator} does not work with {}{}", types(a, b), hint(operator, &known.map(str::to_owned)))
        }
        ExecutionError::ValuesNotComparable(a, b) => format!("{} cannot be compared", types(a, b)),
        ExecutionError::UndeclaredReference(name) => format!("{UNDECLARED}{name}"),
        ExecutionError::IndexOutOfBounds(_) => OUT_OF_BOUNDS.to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
        ExecutionError::Overflow(..) => "a whole number in it becomes too great".to_owned(),
        ExecutionError::FunctionError { function, .. } => format!("{function}() cannot be applied to the value"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("a function in it takes {expected} arguments, not {actual}")
        }
        ExecutionError::UnexpectedType { got, want } => format!("it needs a {want}, not a {got}"),
        _ => "it does not fit the value".to_owned(),
    }
}

fn operator(name: &str) -> &str {
    match name {
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        "_._" => "a field's name",
        "_[_]" => "a position in brackets",
        name => name.trim_matches('_'),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "a list",
        Value::Map(_) => "an object",
        Value::Int(_) | Value::UInt(_) => "a whole number",
        Value::Float(_) => "a double",
        Value::String(_) => "a text",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
        _ => "another type",
    }
}

fn plain_type(name: &str) -> String {
    match name {
        "list" => "a list",
        "map" => "an object",
        "int" | "uint" => "a whole number",
        "double" => "a double",
        "string" => "a text",
        "bool" => "true or false",
        "null_type" => "null",
        _ => "another type",
    }
    .to_owned()
}

fn hint(operator: &str, types: &[String]) -> &'static str {
    let has = |name: &str| types.iter().any(|known| known == name);
    match operator {
        "%" if has("a double") => ": it takes whole numbers only, such as int(result) % 2",
        "+" | "-" | "*" | "/" if has("a double") && has("a whole number") => {
            ": write numbers with a point, such as 100.0"
        }
        _ => "",
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("ERROR: <input>:").trim();
    crate::analysis::shorten(&format!("it is not CEL: {line}"), 300)
}
