//! What an expression comes to.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::functions;
use super::parser::{Each, Expr};
use super::value::{List, Map, Val};

/// The names that are bound, the innermost last.
#[derive(Debug, Default)]
pub(crate) struct Scope<'a> {
    bound: Vec<(&'a str, Val<'a>)>,
}

impl<'a> Scope<'a> {
    /// Binds a name.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Val<'a>) -> Self {
        self.bound.push((name, value));
        self
    }

    fn get(&self, name: &str) -> Option<Val<'a>> {
        self.bound.iter().rev().find(|(bound, _)| *bound == name).map(|(_, value)| value.clone())
    }
}

/// Names of types that stand for themselves.
const TYPES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// Beginnings of names of functions.
const SPACES: [&str; 5] = ["sets", "math", "optional", "lists", "strings"];

const NO_OVERLOAD: &str = "no such overload";

type Outcome<'a> = Result<Val<'a>, String>;

pub(super) fn eval<'a>(expression: &'a Expr, scope: &mut Scope<'a>) -> Outcome<'a> {
    Ok(match expression {
        Expr::Null => Val::Null,
        Expr::Bool(value) => Val::Bool(*value),
        Expr::Int(number) => Val::Int(*number),
        Expr::Uint(number) => Val::Uint(*number),
        Expr::Double(number) => Val::Double(*number),
        Expr::Text(text) => Val::Text(Cow::Borrowed(text)),
        Expr::Bytes(bytes) => Val::Bytes(bytes.clone()),
        Expr::Name(name) => match scope.get(name) {
            Some(value) => value,
            None => match TYPES.iter().find(|known| **known == name.as_str()) {
                Some(known) => Val::Type(known),
                None => return Err(format!("undeclared reference to '{name}'")),
            },
        },
        Expr::List(items) => Val::List(List::Made(all(items, scope)?)),
        Expr::Map(entries) => {
            let mut made = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                made.push((eval(key, scope)?, eval(value, scope)?));
            }
            Val::Map(Map::Made(made))
        }
        Expr::Select { of, field, is_optional } => select(eval(of, scope)?, field, *is_optional)?,
        Expr::Has { of, field } => match eval(of, scope)? {
            Val::Map(map) => Val::Bool(map.field(field).is_some()),
            Val::Optional(None) => Val::Bool(false),
            Val::Optional(Some(inner)) => match *inner {
                Val::Map(map) => Val::Bool(map.field(field).is_some()),
                _ => return Err(NO_OVERLOAD.to_owned()),
            },
            _ => return Err(NO_OVERLOAD.to_owned()),
        },
        Expr::Index { of, by, is_optional } => index(eval(of, scope)?, &eval(by, scope)?, *is_optional)?,
        Expr::Call { on, name, arguments } => return call(on.as_deref(), name, arguments, scope),
        Expr::Each { over, how, variable, bodies } => return each(over, *how, variable, bodies, scope),
        Expr::Not(inner) => match eval(inner, scope)? {
            Val::Bool(value) => Val::Bool(!value),
            _ => return Err(NO_OVERLOAD.to_owned()),
        },
        Expr::Minus(inner) => match eval(inner, scope)? {
            Val::Int(number) => Val::Int(number.checked_neg().ok_or("integer overflow")?),
            Val::Double(number) => Val::Double(-number),
            Val::Span(span) => Val::Span(-span),
            _ => return Err(NO_OVERLOAD.to_owned()),
        },
        Expr::Binary { sign, left, right } => return binary(sign, left, right, scope),
        Expr::Choice { when, then, otherwise } => match eval(when, scope)? {
            Val::Bool(true) => return eval(then, scope),
            Val::Bool(false) => return eval(otherwise, scope),
            _ => return Err(NO_OVERLOAD.to_owned()),
        },
    })
}

fn all<'a>(expressions: &'a [Expr], scope: &mut Scope<'a>) -> Result<Vec<Val<'a>>, String> {
    expressions.iter().map(|expression| eval(expression, scope)).collect()
}

fn select<'a>(of: Val<'a>, field: &str, is_optional: bool) -> Outcome<'a> {
    match of {
        Val::Map(map) if is_optional => Ok(Val::Optional(map.field(field).map(Box::new))),
        Val::Map(map) => map.field(field).ok_or_else(|| format!("no such key: {field}")),
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => match *inner {
            Val::Map(map) => Ok(Val::Optional(map.field(field).map(Box::new))),
            _ => Err(NO_OVERLOAD.to_owned()),
        },
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn index<'a>(of: Val<'a>, by: &Val<'a>, is_optional: bool) -> Outcome<'a> {
    let (of, is_optional) = match of {
        Val::Optional(None) => return Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => (*inner, true),
        other => (other, is_optional),
    };
    let found = match (&of, by) {
        (Val::List(list), Val::Int(at)) => {
            let item = usize::try_from(*at).ok().and_then(|at| list.items().into_iter().nth(at));
            item.ok_or_else(|| format!("index out of bounds: {at}"))
        }
        (Val::Map(map), key) => map.at(key).ok_or_else(|| format!("no such key: {}", functions::shown(key))),
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    if is_optional { Ok(Val::Optional(found.ok().map(Box::new))) } else { found }
}

fn call<'a>(on: Option<&'a Expr>, name: &str, arguments: &'a [Expr], scope: &mut Scope<'a>) -> Outcome<'a> {
    if let Some(Expr::Name(space)) = on
        && SPACES.contains(&space.as_str())
        && scope.get(space).is_none()
    {
        let arguments = all(arguments, scope)?;
        return functions::call(&format!("{space}.{name}"), &arguments);
    }
    let mut values = Vec::with_capacity(arguments.len() + 1);
    if let Some(on) = on {
        values.push(eval(on, scope)?);
    }
    // What stands in for nothing is looked at only then.
    if let ("or" | "orValue", [Val::Optional(Some(inner))]) = (name, values.as_slice()) {
        return Ok(if name == "or" { Val::Optional(Some(inner.clone())) } else { (**inner).clone() });
    }
    values.extend(all(arguments, scope)?);
    functions::call(name, &values)
}

fn each<'a>(over: &'a Expr, how: Each, variable: &'a str, bodies: &'a [Expr], scope: &mut Scope<'a>) -> Outcome<'a> {
    let items = match eval(over, scope)? {
        Val::List(list) => list.items(),
        Val::Map(map) => map.entries().into_iter().map(|(key, _)| key).collect(),
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    let (first, last) = (bodies.first().ok_or(NO_OVERLOAD)?, bodies.last().ok_or(NO_OVERLOAD)?);
    let (mut kept, mut count, mut fault) = (Vec::new(), 0_usize, None);
    for item in items {
        scope.bound.push((variable, item.clone()));
        let found = eval(first, scope);
        let mapped = match (&found, how) {
            (Ok(Val::Bool(true)), Each::Map) if bodies.len() == 2 => Some(eval(last, scope)),
            _ => None,
        };
        scope.bound.pop();
        match (how, found) {
            (Each::All, Ok(Val::Bool(false))) => return Ok(Val::Bool(false)),
            (Each::Exists, Ok(Val::Bool(true))) => return Ok(Val::Bool(true)),
            (Each::Map, Ok(value)) if bodies.len() == 1 => kept.push(value),
            (_, Ok(Val::Bool(is))) => {
                count += usize::from(is);
                match mapped {
                    Some(value) => kept.push(value?),
                    None if is && how == Each::Filter => kept.push(item),
                    None => {}
                }
            }
            // A later item may decide all the same.
            (Each::All | Each::Exists, Err(why)) => fault = Some(why),
            (_, Err(why)) => return Err(why),
            (_, Ok(_)) => return Err(NO_OVERLOAD.to_owned()),
        }
    }
    match (how, fault) {
        (_, Some(why)) => Err(why),
        (Each::All, None) => Ok(Val::Bool(true)),
        (Each::Exists, None) => Ok(Val::Bool(false)),
        (Each::ExistsOne, None) => Ok(Val::Bool(count == 1)),
        (Each::Filter | Each::Map, None) => Ok(Val::List(List::Made(kept))),
    }
}

fn binary<'a>(sign: &str, left: &'a Expr, right: &'a Expr, scope: &mut Scope<'a>) -> Outcome<'a> {
    if let "&&" | "||" = sign {
        return either(sign == "||", left, right, scope);
    }
    let (left, right) = (eval(left, scope)?, eval(right, scope)?);
    let ordered = |is: fn(Ordering) -> bool| left.compare(&right).map(is).map(Val::Bool);
    let answer = match sign {
        "==" => Some(Val::Bool(left.equals(&right))),
        "!=" => Some(Val::Bool(!left.equals(&right))),
        "<" => ordered(Ordering::is_lt),
        "<=" => ordered(Ordering::is_le),
        ">" => ordered(Ordering::is_gt),
        ">=" => ordered(Ordering::is_ge),
        "in" => match &right {
            Val::List(list) => Some(Val::Bool(list.contains(&left))),
            Val::Map(map) => Some(Val::Bool(map.at(&left).is_some())),
            _ => None,
        },
        _ => return functions::arithmetic(sign, &left, &right),
    };
    answer.ok_or_else(|| NO_OVERLOAD.to_owned())
}

/// One side may decide although the other fails.
fn either<'a>(decides: bool, left: &'a Expr, right: &'a Expr, scope: &mut Scope<'a>) -> Outcome<'a> {
    let mut fault = None;
    for side in [left, right] {
        match eval(side, scope) {
            Ok(Val::Bool(value)) if value == decides => return Ok(Val::Bool(decides)),
            Ok(Val::Bool(_)) => {}
            Ok(_) => fault = Some(NO_OVERLOAD.to_owned()),
            Err(why) => fault = Some(why),
        }
    }
    fault.map_or(Ok(Val::Bool(!decides)), Err)
}
