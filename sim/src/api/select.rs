//! Label and field selectors: equality, existence and sets.

use serde_json::Value;

/// What a list asks for. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must have these values.
    pub labels: Vec<(String, String)>,
    /// Fields, such as `metadata.name` or `spec.changeRequestUid`, that must have these texts.
    pub fields: Vec<(String, String)>,
}

impl Selector {
    /// Objects with this label.
    pub fn label(name: &str, value: &str) -> Self {
        Self { labels: vec![(name.to_owned(), value.to_owned())], fields: Vec::new() }
    }

    /// Objects with this text at a field; a leading dot is allowed.
    pub fn field(path: &str, value: &str) -> Self {
        Self { labels: Vec::new(), fields: vec![(path.trim_start_matches('.').to_owned(), value.to_owned())] }
    }

    /// Whether the object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |name: &str| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
        let field = |path: &str| path.split('.').try_fold(object, |value, name| value.get(name));
        self.labels.iter().all(|(name, wanted)| label(name) == Some(wanted))
            && self.fields.iter().all(|(path, wanted)| match field(path) {
                None | Some(Value::Null) => wanted.is_empty(),
                Some(Value::String(found)) => found == wanted,
                Some(other) => wanted.parse::<Value>().is_ok_and(|wanted| wanted == *other),
            })
    }
}

/// Whether a `LabelSelector` (`matchLabels` and `matchExpressions`) selects these labels. An absent selector selects
/// nothing, an empty one everything.
pub fn label_selector_matches(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
        return false;
    };
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
    let wanted = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    wanted.into_iter().all(|(name, value)| label(name) == value.as_str())
        && expressions.into_iter().all(|expression| expression_matches(expression, &label))
}

fn expression_matches<'a>(expression: &Value, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let found = label(text("key"));
    let among = |found: &str| {
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).any(|value| value == found)
    };
    match text("operator") {
        "In" => found.is_some_and(among),
        "NotIn" => !found.is_some_and(among),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}
