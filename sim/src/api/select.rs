//! Label and field selectors: equality, existence and sets.

use serde_json::Value;

use super::error::ApiError;
use super::registry::KindInfo;

/// What a list or a watch asks for. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// Fields of built-in kinds that lists can select by, beside name and namespace.
const BUILT_IN: [(&str, &str, &[&str]); 8] = [
    (
        "",
        "Pod",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
    ),
    ("", "Node", &["spec.unschedulable"]),
    ("", "Namespace", &["status.phase"]),
    ("", "Secret", &["type"]),
    ("", "Service", &["spec.clusterIP", "spec.type"]),
    ("", "Event", &["involvedObject.kind", "involvedObject.name", "involvedObject.uid", "reason", "type"]),
    ("apps", "ReplicaSet", &["status.replicas"]),
    ("batch", "Job", &["status.successful"]),
];

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    There,
    Absent,
    Among(Vec<String>),
    NotAmong(Vec<String>),
}

impl Requirement {
    fn new(key: &str, is: Is) -> Self {
        Self { key: key.to_owned(), is }
    }

    /// Whether labels can have its values.
    fn is_of_label(&self) -> bool {
        let is_value = |value: &String| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        match &self.is {
            Is::There | Is::Absent => true,
            Is::Among(values) | Is::NotAmong(values) => values.iter().all(is_value),
        }
    }

    /// Whether it holds of what is found there.
    fn holds(&self, found: Option<&str>) -> bool {
        let among = |values: &[String]| found.is_some_and(|found| values.iter().any(|value| value == found));
        match &self.is {
            Is::There => found.is_some(),
            Is::Absent => found.is_none(),
            Is::Among(values) => among(values),
            Is::NotAmong(values) => !among(values),
        }
    }
}

impl Selector {
    /// Objects with this label.
    pub fn label(name: &str, value: &str) -> Self {
        Self { labels: vec![Requirement::new(name, Is::Among(vec![value.to_owned()]))], fields: Vec::new() }
    }

    /// Objects with this text at a field; a leading dot is allowed.
    pub fn field(path: &str, value: &str) -> Self {
        let path = path.trim_start_matches('.');
        Self { labels: Vec::new(), fields: vec![Requirement::new(path, Is::Among(vec![value.to_owned()]))] }
    }

    /// From what a client sends: `app=web,tier in (a,b),!old` and `metadata.name=web`.
    ///
    /// # Errors
    /// 400 when it cannot be read.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        let read = |part: &str| requirement(part).ok_or_else(|| unreadable(part));
        let of_label = |part: &str| requirement(part).filter(Requirement::is_of_label).ok_or_else(|| unreadable(part));
        let labels = parts(labels).into_iter().map(of_label).collect::<Result<_, _>>()?;
        let fields: Vec<Requirement> = parts(fields).into_iter().map(read).collect::<Result<_, _>>()?;
        match fields.iter().find(|field| matches!(field.is, Is::There | Is::Absent)) {
            Some(field) => {
                Err(ApiError::bad_request(format!("invalid selector: '{}'; can't understand '{0}'", field.key)))
            }
            None => Ok(Self { labels, fields }),
        }
    }

    /// Whether lists of that kind can select so.
    ///
    /// # Errors
    /// 400 when the server keeps no index of a field.
    pub(super) fn check(&self, info: &KindInfo) -> Result<(), ApiError> {
        const ALWAYS: [&str; 2] = ["metadata.name", "metadata.namespace"];
        let listed = BUILT_IN.iter().find(|(group, kind, _)| info.is(group, kind)).map(|(_, _, fields)| *fields);
        let of_kind = listed.unwrap_or_default();
        let is_known = |field: &str| {
            ALWAYS.contains(&field) || of_kind.contains(&field) || info.selectable.iter().any(|known| known == field)
        };
        let Some(unknown) = self.fields.iter().find(|field| !is_known(&field.key)) else {
            return Ok(());
        };
        let field = &unknown.key;
        Err(ApiError::bad_request(if info.is_custom() || listed.is_some() {
            format!("field label not supported: {field}")
        } else {
            format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }))
    }

    /// Whether the object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |name: &str| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
        let field = |path: &str| path.split('.').try_fold(object, |value, name| value.get(name));
        self.labels.iter().all(|wanted| wanted.holds(label(&wanted.key)))
            && self.fields.iter().all(|wanted| match field(&wanted.key) {
                None | Some(Value::Null) => wanted.holds(Some("")),
                Some(Value::String(found)) => wanted.holds(Some(found)),
                Some(other) => wanted.holds(Some(&other.to_string())),
            })
    }
}

/// The conditions of a selector: commas in brackets separate values.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = text.split(move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    split.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let set = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let found = if let Some((key, value)) = part.split_once("!=") {
        Requirement::new(key.trim(), Is::NotAmong(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Requirement::new(key.trim(), Is::Among(vec![value.trim().to_owned()]))
    } else if let Some((key, values)) = part.split_once(" notin ") {
        Requirement::new(key.trim(), Is::NotAmong(set(values)?))
    } else if let Some((key, values)) = part.split_once(" in ") {
        Requirement::new(key.trim(), Is::Among(set(values)?))
    } else if let Some(key) = part.strip_prefix('!') {
        Requirement::new(key.trim(), Is::Absent)
    } else {
        Requirement::new(part, Is::There)
    };
    is_key(&found.key).then_some(found)
}

fn unreadable(part: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {part}"))
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
