//! What was observed, as CEL sees it.

use std::collections::HashMap;

use cel::Value;
use cel::objects::Key;

use crate::analysis::observation::Series;

/// Most data that a condition looks at: a number, a text of up to 16 bytes, a key or a list counts one.
pub const MAX_UNITS: usize = 10_000;

/// The values of the variables.
#[derive(Clone, Debug, Default)]
pub struct Variables(Vec<(&'static str, Value)>);

impl Variables {
    /// One number.
    pub fn number(value: f64) -> Self {
        Self(vec![("result", Value::Float(value))])
    }

    /// One whole number.
    pub fn whole(value: i64) -> Self {
        Self(vec![("result", Value::Int(value))])
    }

    /// One boolean.
    pub fn boolean(value: bool) -> Self {
        Self(vec![("result", Value::Bool(value))])
    }

    /// One list of numbers.
    pub fn numbers(values: &[f64]) -> Self {
        Self(vec![("result", list(values))])
    }

    /// Series with one value each; `result` is there if there is one series.
    pub fn instant(series: &[Series<f64>]) -> Result<Self, String> {
        let mut budget = Budget(MAX_UNITS);
        let mut variables = Vec::new();
        if let [one] = series {
            variables.push(("result", Value::Float(one.value)));
        }
        variables.push(("series", all_series(series, &mut budget, "value", |value, _| Ok(Value::Float(*value)))?));
        Ok(Self(variables))
    }

    /// Series with values over time; `result` is there if there is one series.
    pub fn range(series: &[Series<Vec<f64>>]) -> Result<Self, String> {
        let mut budget = Budget(MAX_UNITS);
        let mut variables = Vec::new();
        if let [one] = series {
            variables.push(("result", list(&one.value)));
        }
        let values = |values: &Vec<f64>, budget: &mut Budget| {
            budget.take(values.len())?;
            Ok(list(values))
        };
        variables.push(("series", all_series(series, &mut budget, "values", values)?));
        Ok(Self(variables))
    }

    /// An HTTP answer; `result` is there if the body is JSON, `body` if it is text.
    pub fn http(status: u16, body: Option<&str>) -> Result<Self, String> {
        let mut variables = vec![("status", Value::Int(i64::from(status)))];
        if let Some(body) = body {
            let mut budget = Budget(MAX_UNITS);
            budget.text(body)?;
            variables.push(("body", text(body)));
            if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
                variables.push(("result", from_json(&json, &mut Budget(MAX_UNITS))?));
            }
        }
        Ok(Self(variables))
    }

    /// Whether there is a variable of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

/// How much data may still come.
struct Budget(usize);

impl Budget {
    fn take(&mut self, units: usize) -> Result<(), String> {
        let left = self.0.checked_sub(units);
        self.0 = left.ok_or_else(|| {
            format!(
                "the answer is too large for a condition (more than {MAX_UNITS} values): ask for less, or aggregate"
            )
        })?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        self.take(1 + text.len() / 16)
    }
}

fn all_series<T>(
    series: &[Series<T>],
    budget: &mut Budget,
    name: &str,
    value: impl Fn(&T, &mut Budget) -> Result<Value, String>,
) -> Result<Value, String> {
    let one = |one: &Series<T>, budget: &mut Budget| {
        budget.take(3)?;
        let mut labels = HashMap::new();
        for (label, value) in &one.labels {
            budget.text(label)?;
            budget.text(value)?;
            labels.insert(key(label), text(value));
        }
        let labels = Value::Map(cel::objects::Map { map: labels.into() });
        let fields = HashMap::from([(key("labels"), labels), (key(name), value(&one.value, budget)?)]);
        Ok(Value::Map(cel::objects::Map { map: fields.into() }))
    };
    let all = series.iter().map(|each| one(each, budget)).collect::<Result<Vec<_>, String>>()?;
    Ok(Value::List(all.into()))
}

/// All numbers become doubles, as CEL reads JSON: a body may say 1 today and 1.5 tomorrow.
fn from_json(json: &serde_json::Value, budget: &mut Budget) -> Result<Value, String> {
    use serde_json::Value as Json;
    budget.take(1)?;
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(string) => {
            budget.text(string)?;
            text(string)
        }
        Json::Array(items) => {
            Value::List(items.iter().map(|item| from_json(item, budget)).collect::<Result<Vec<_>, _>>()?.into())
        }
        Json::Object(fields) => {
            let mut map = HashMap::new();
            for (name, value) in fields {
                budget.text(name)?;
                map.insert(key(name), from_json(value, budget)?);
            }
            Value::Map(cel::objects::Map { map: map.into() })
        }
    })
}

fn list(values: &[f64]) -> Value {
    Value::List(values.iter().copied().map(Value::Float).collect::<Vec<_>>().into())
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned().into())
}

fn key(name: &str) -> Key {
    Key::String(name.to_owned().into())
}
