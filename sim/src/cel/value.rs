//! Values.

use std::borrow::Cow;
use std::cmp::Ordering;

use interlock_core::object::Quantity;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The schema of a value, if it is known.
pub(crate) type Schema<'a> = Option<&'a Value>;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    Time(Timestamp),
    Span(SignedDuration),
    Quantity(Quantity),
    List(List<'a>),
    Map(Map<'a>),
    Type(&'static str),
    Optional(Option<Box<Val<'a>>>),
}

/// A list, read in place or made by an expression.
#[derive(Clone, Debug)]
pub(crate) enum List<'a> {
    Json(&'a [Value], Schema<'a>),
    Made(Vec<Val<'a>>),
}

/// A map or an object.
#[derive(Clone, Debug)]
pub(crate) enum Map<'a> {
    Json(&'a serde_json::Map<String, Value>, Schema<'a>),
    Made(Vec<(Val<'a>, Val<'a>)>),
}

fn word<'a>(schema: Schema<'a>, name: &str) -> &'a str {
    schema.and_then(|schema| schema.get(name)?.as_str()).unwrap_or_default()
}

/// The schema of a property.
pub(crate) fn property<'a>(schema: Schema<'a>, name: &str) -> Schema<'a> {
    let schema = schema?;
    let named = schema.get("properties").and_then(|properties| properties.get(name));
    named.or_else(|| schema.get("additionalProperties").filter(|values| values.is_object()))
}

impl<'a> Val<'a> {
    /// A value of an object.
    pub fn of(value: &'a Value, schema: Schema<'a>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(whole) if word(schema, "type") != "number" => Self::Int(whole),
                _ => Self::Double(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Self::of_text(text, word(schema, "format")),
            Value::Array(items) => Self::List(List::Json(items, schema)),
            Value::Object(fields) => Self::Map(Map::Json(fields, schema)),
        }
    }

    fn of_text(text: &'a str, format: &str) -> Self {
        let read = match format {
            "date-time" => text.parse().ok().map(Self::Time),
            "date" => format!("{text}T00:00:00Z").parse().ok().map(Self::Time),
            "duration" => super::functions::span(text).map(Self::Span),
            _ => None,
        };
        read.unwrap_or(Self::Text(Cow::Borrowed(text)))
    }

    /// A text that is made.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// The name of its type.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Span(_) => "google.protobuf.Duration",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
        }
    }

    /// How two values of one sort stand to each other.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (a, b) => match (a.whole(), b.whole()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => a.number()?.partial_cmp(&b.number()?),
            },
        }
    }

    const fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number as i128),
            Self::Uint(number) => Some(*number as i128),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether two values are the same; of different sorts they are not.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.equals(b),
            (Self::Map(a), Self::Map(b)) => {
                let (a, b) = (a.entries(), b.entries());
                let is_in = |key: &Val<'_>, value: &Val<'_>| {
                    b.iter().any(|(other, found)| other.equals(key) && found.equals(value))
                };
                a.len() == b.len() && a.iter().all(|(key, value)| is_in(key, value))
            }
            (Self::Optional(None), Self::Optional(None)) => true,
            (Self::Optional(Some(a)), Self::Optional(Some(b))) => a.equals(b),
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }
}

impl<'a> List<'a> {
    pub fn items(&self) -> Vec<Val<'a>> {
        match self {
            Self::Made(items) => items.clone(),
            Self::Json(items, schema) => {
                let below = schema.and_then(|schema| schema.get("items"));
                items.iter().map(|item| Val::of(item, below)).collect()
            }
        }
    }

    pub const fn len(&self) -> usize {
        match self {
            Self::Made(items) => items.len(),
            Self::Json(items, _) => items.len(),
        }
    }

    /// `set`, `map`, or neither.
    pub fn sort(&self) -> &'a str {
        match self {
            Self::Json(_, schema) => word(*schema, "x-kubernetes-list-type"),
            Self::Made(_) => "",
        }
    }

    pub fn contains(&self, wanted: &Val<'_>) -> bool {
        self.items().iter().any(|item| item.equals(wanted))
    }

    /// Sets and maps are the same in any order.
    fn equals(&self, other: &Self) -> bool {
        let (a, b) = (self.items(), other.items());
        let is_ordered = !["set", "map"].contains(&self.sort()) && !["set", "map"].contains(&other.sort());
        a.len() == b.len()
            && if is_ordered {
                a.iter().zip(&b).all(|(a, b)| a.equals(b))
            } else {
                a.iter().all(|a| b.iter().any(|b| a.equals(b)))
            }
    }
}

impl<'a> Map<'a> {
    pub fn entries(&self) -> Vec<(Val<'a>, Val<'a>)> {
        match self {
            Self::Made(entries) => entries.clone(),
            Self::Json(fields, schema) => {
                let entry = |(name, value): (&'a String, &'a Value)| {
                    (Val::Text(Cow::Borrowed(name.as_str())), Val::of(value, property(*schema, name)))
                };
                fields.iter().map(entry).collect()
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Made(entries) => entries.len(),
            Self::Json(fields, _) => fields.len(),
        }
    }

    /// The value of a key.
    pub fn at(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key) {
            (Self::Json(fields, schema), Val::Text(name)) => {
                fields.get(name.as_ref()).map(|value| Val::of(value, property(*schema, name)))
            }
            (Self::Json(..), _) => None,
            (Self::Made(entries), key) => {
                entries.iter().find(|(found, _)| found.equals(key)).map(|(_, value)| value.clone())
            }
        }
    }

    /// The value of a field, whose name may be written so that it is a name of the language.
    pub fn field(&self, name: &str) -> Option<Val<'a>> {
        let found = self.at(&Val::Text(Cow::Borrowed(name)));
        found.or_else(|| name.contains("__").then(|| self.at(&Val::text(unescaped(name)))).flatten())
    }
}

/// `__namespace__` stands for `namespace`, `a__dash__b` for `a-b`.
fn unescaped(name: &str) -> String {
    const RESERVED: [&str; 22] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "self",
    ];
    let inner = name.strip_prefix("__").and_then(|name| name.strip_suffix("__")).unwrap_or_default();
    if RESERVED.contains(&inner) {
        return inner.to_owned();
    }
    let signs = [("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")];
    signs.iter().fold(name.to_owned(), |name, (word, sign)| name.replace(word, sign))
}
