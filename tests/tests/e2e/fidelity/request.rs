//! What a case asks, in a form that both servers understand.

use serde_json::{Value, json};

/// A value that each server has its own of: an answer, or what was made of one.
#[derive(Clone, Debug, Default)]
pub struct Both {
    pub real: Value,
    pub sim: Value,
}

impl Both {
    /// The same change on both.
    pub fn edited(&self, edit: impl Fn(&mut Value)) -> Self {
        let mut both = self.clone();
        edit(&mut both.real);
        edit(&mut both.sim);
        both
    }

    /// With another value at that place; null removes it.
    pub fn with(&self, pointer: &str, value: &Value) -> Self {
        self.edited(|object| put(object, pointer, value.clone()))
    }

    /// The value at a place.
    pub fn at(&self, pointer: &str) -> Self {
        let part = |value: &Value| value.pointer(pointer).cloned().unwrap_or_default();
        Self { real: part(&self.real), sim: part(&self.sim) }
    }
}

impl From<&Value> for Both {
    fn from(value: &Value) -> Self {
        Self { real: value.clone(), sim: value.clone() }
    }
}

impl From<Value> for Both {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<&Both> for Both {
    fn from(both: &Both) -> Self {
        both.clone()
    }
}

/// Puts a value at a place, and maps on the way there; null removes what is there.
pub fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut place = object;
    for step in parent.split('/').skip(1) {
        let step = step.replace("~1", "/");
        place = match place {
            Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
            other => &mut other[step],
        };
    }
    let name = name.replace("~1", "/");
    match (place, value) {
        (Value::Array(items), Value::Null) => drop(items.remove(name.parse().unwrap())),
        (Value::Array(items), value) => items[name.parse::<usize>().unwrap()] = value,
        (Value::Object(fields), Value::Null) => drop(fields.remove(&name)),
        (other, value) => other[name] = value,
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Create,
    Replace,
    Merge,
    Apply,
    Delete,
}

/// One request. Its object is sent, or only says what is meant.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub object: Both,
    pub patch: Both,
    pub manager: &'static str,
    pub subresource: Option<&'static str>,
    pub is_dry: bool,
    pub is_forced: bool,
    pub uid: Both,
    pub version: Both,
    pub propagation: Option<&'static str>,
    pub labels: &'static str,
    pub fields: &'static str,
    pub name: &'static str,
}

fn request(verb: Verb, object: impl Into<Both>) -> Request {
    Request {
        verb,
        object: object.into(),
        patch: Both::default(),
        manager: "one",
        subresource: None,
        is_dry: false,
        is_forced: false,
        uid: Both::default(),
        version: Both::default(),
        propagation: None,
        labels: "",
        fields: "",
        name: "",
    }
}

pub fn get(object: impl Into<Both>) -> Request {
    request(Verb::Get, object)
}

/// Objects of this one's kind and namespace.
pub fn list(object: impl Into<Both>) -> Request {
    request(Verb::List, object)
}

pub fn create(object: impl Into<Both>) -> Request {
    request(Verb::Create, object)
}

pub fn replace(object: impl Into<Both>) -> Request {
    request(Verb::Replace, object)
}

pub fn merge(object: impl Into<Both>, patch: impl Into<Both>) -> Request {
    Request { patch: patch.into(), ..request(Verb::Merge, object) }
}

pub fn apply(object: impl Into<Both>) -> Request {
    request(Verb::Apply, object)
}

pub fn delete(object: impl Into<Both>) -> Request {
    request(Verb::Delete, object)
}

impl Request {
    /// Under this field manager.
    pub fn by(self, manager: &'static str) -> Self {
        Self { manager, ..self }
    }

    /// Fields of others are taken.
    pub fn forced(self) -> Self {
        Self { is_forced: true, ..self }
    }

    /// Only tried.
    pub fn dry(self) -> Self {
        Self { is_dry: true, ..self }
    }

    pub fn status(self) -> Self {
        Self { subresource: Some("status"), ..self }
    }

    /// A deletion of the object of that uid, a text or an answer.
    pub fn of_uid(self, uid: impl Into<Both>) -> Self {
        Self { uid: text_or(uid.into(), "/metadata/uid"), ..self }
    }

    /// A deletion of the object at that version, a text or an answer.
    pub fn of_version(self, version: impl Into<Both>) -> Self {
        Self { version: text_or(version.into(), "/metadata/resourceVersion"), ..self }
    }

    /// `Foreground`, `Background`, `Orphan`.
    pub fn propagating(self, propagation: &'static str) -> Self {
        Self { propagation: Some(propagation), ..self }
    }

    /// A list of those with these labels.
    pub fn labelled(self, labels: &'static str) -> Self {
        Self { labels, ..self }
    }

    /// A list of those with these fields.
    pub fn with_fields(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    /// What an exception calls it.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// For a person.
    pub fn shown(&self) -> String {
        let object = &self.object.real;
        let mut shown = format!("{:?} {} {}", self.verb, object["kind"], object["metadata"]["name"]).replace('"', "");
        for (text, is) in [
            (format!(" \"{}\"", self.name), !self.name.is_empty()),
            (" dry".to_owned(), self.is_dry),
            (" forced".to_owned(), self.is_forced),
            (format!(" {}", self.patch.real), self.verb == Verb::Merge),
            (format!(" {}", self.labels), !self.labels.is_empty()),
        ] {
            shown += if is { &text } else { "" };
        }
        shown
    }
}

fn text_or(stated: Both, pointer: &str) -> Both {
    if stated.real.is_string() { stated } else { stated.at(pointer) }
}

/// The options of a deletion as a client of the real server sends them: in the body, for then the query is not looked at.
pub fn delete_options(request: &Request) -> Value {
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    for (pointer, value) in [
        ("/preconditions/uid", request.uid.real.clone()),
        ("/preconditions/resourceVersion", request.version.real.clone()),
        ("/propagationPolicy", json!(request.propagation.unwrap_or("Background"))),
        ("/dryRun", if request.is_dry { json!(["All"]) } else { Value::Null }),
    ] {
        if !value.is_null() {
            put(&mut options, pointer, value);
        }
    }
    options
}

/// Whether the object that a deletion answers with is still there, and waits for something.
pub fn stays(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let waits = metadata["finalizers"].is_array() || metadata["deletionGracePeriodSeconds"] != 0;
    metadata["deletionTimestamp"].is_string() && waits
}
