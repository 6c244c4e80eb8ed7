//! The meaning of fields of one kind, whether it is built in (core's table) or a custom resource (its schema).

use interlock_core::object::Shape;
use serde_json::Value;

use super::registry::KindInfo;

/// What stands at one place of an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Typ<'a> {
    /// A place of a built-in kind.
    Known(Shape),
    /// A status of a built-in kind, which core's table leaves out: conditions are told apart by their type.
    Status,
    /// The whole object of a custom resource, and the meaning of its metadata.
    Root(&'a Value, Shape),
    /// The whole object of a built-in kind.
    BuiltIn(Shape),
    /// A place that a custom resource's schema describes.
    Schema(&'a Value),
    /// A place that nothing describes: maps merge, lists are one value.
    Unknown,
    /// A list that is told apart by these keys.
    ByKeys(&'static [&'static str]),
}

/// How a value merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// As one value.
    Atomic,
    /// Field by field, or item by item.
    Granular,
    /// A list of objects, by these keys, each with the value that it has when it is left out.
    ListMap(Vec<(String, Option<Value>)>),
    /// A list of scalars, each at most once.
    Set,
}

/// `status` lists of built-in kinds that are maps.
const STATUS_LISTS: [(&str, &[&str]); 4] =
    [("conditions", &["type"]), ("podIPs", &["ip"]), ("addresses", &["type"]), ("resourceClaimStatuses", &["name"])];

/// A list of a custom resource that its schema says nothing about.
const EMPTY: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl<'a> Typ<'a> {
    /// The whole object.
    pub fn of(info: &'a KindInfo) -> Self {
        let shape = Shape::of_kind(&info.group_kind());
        info.schema.as_deref().map_or(Self::BuiltIn(shape), |schema| Self::Root(schema, shape))
    }

    /// The meaning of a field or of a map's value.
    pub fn field(self, name: &str) -> Self {
        match self {
            Self::BuiltIn(_) if name == "status" => Self::Status,
            Self::BuiltIn(shape) | Self::Known(shape) => Self::Known(shape.field(name)),
            Self::Root(_, shape) if name == "metadata" => Self::Known(shape.field(name)),
            Self::Root(schema, _) | Self::Schema(schema) => property(schema, name).map_or(Self::Unknown, Self::Schema),
            Self::Status => {
                let listed = STATUS_LISTS.iter().find(|(list, _)| *list == name);
                listed.map_or(Self::Status, |(_, keys)| Self::ByKeys(keys))
            }
            Self::ByKeys(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// The meaning of a list's items.
    pub fn item(self) -> Self {
        match self {
            Self::Known(shape) => Self::Known(shape.item()),
            Self::Schema(schema) => schema.get("items").map_or(Self::Unknown, Self::Schema),
            _ => Self::Unknown,
        }
    }

    /// Whether this name is a field of a structure, rather than the key of a map.
    pub fn is_named(self, name: &str) -> bool {
        match self {
            Self::BuiltIn(_) | Self::Known(Shape::Struct(_) | Shape::AtomicStruct(_) | Shape::Free) | Self::Status => {
                true
            }
            Self::Root(schema, _) => {
                EMPTY.contains(&name)
                    || schema.pointer("/properties").is_some_and(|properties| properties.get(name).is_some())
            }
            Self::Schema(schema) => schema.get("properties").is_some_and(|properties| properties.get(name).is_some()),
            Self::Known(_) | Self::Unknown | Self::ByKeys(_) => false,
        }
    }

    /// How a value at this place merges.
    pub fn relation(self, value: &Value) -> Relation {
        match value {
            Value::Object(_) => self.relation_of_map(),
            Value::Array(_) => self.relation_of_list(),
            _ => Relation::Atomic,
        }
    }

    fn relation_of_map(self) -> Relation {
        let text = |schema: &Value, name: &str| schema.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        match self {
            Self::Known(Shape::AtomicStruct(_) | Shape::AtomicMap) => Relation::Atomic,
            Self::Schema(schema) if text(schema, "x-kubernetes-map-type").as_deref() == Some("atomic") => {
                Relation::Atomic
            }
            _ => Relation::Granular,
        }
    }

    fn relation_of_list(self) -> Relation {
        let owned = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), zero(key))).collect();
        match self {
            Self::Known(Shape::ListMap { keys, .. }) | Self::ByKeys(keys) => Relation::ListMap(owned(keys)),
            Self::Known(Shape::Set) => Relation::Set,
            Self::Schema(schema) => match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("map") => {
                    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                    let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                    let default = |key: &str| schema.get("items")?.get("properties")?.get(key)?.get("default").cloned();
                    Relation::ListMap(keys.map(|key| (key.to_owned(), default(key))).collect())
                }
                Some("set") => Relation::Set,
                _ => Relation::Atomic,
            },
            _ => Relation::Atomic,
        }
    }
}

/// What a key of a built-in list is when it is left out.
fn zero(key: &str) -> Option<Value> {
    match key {
        "protocol" => Some(Value::from("TCP")),
        // The name of a section may be left out, which is not the same as an empty one.
        "sectionName" | "namespace" | "group" | "kind" => None,
        "containerPort" | "port" => Some(Value::from(0)),
        _ => Some(Value::from("")),
    }
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let named = schema.get("properties").and_then(|properties| properties.get(name));
    named.or_else(|| schema.get("additionalProperties").filter(|values| values.is_object()))
}

/// The step to an item of a list map (`k:{"name":"a"}`) or a set (`v:"a"`), as `managedFields` writes it.
pub(super) fn item_step(relation: &Relation, item: &Value) -> Option<String> {
    match relation {
        Relation::ListMap(keys) => {
            let mut stated = serde_json::Map::new();
            let mut sorted = keys.clone();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (key, default) in sorted {
                let value = item.as_object()?.get(&key).cloned().filter(|value| !value.is_null()).or(default);
                // A key that is left out stands in the step as nothing, as for a route's parent without a section.
                if let Some(value) = value {
                    stated.insert(key, value);
                }
            }
            (!stated.is_empty()).then(|| format!("k:{}", Value::Object(stated)))
        }
        Relation::Set => Some(format!("v:{item}")),
        Relation::Atomic | Relation::Granular => None,
    }
}

/// The items of a list with their steps; none when it cannot be read as what its relation says.
pub(super) fn items<'v>(relation: &Relation, list: &'v [Value]) -> Option<Vec<(String, &'v Value)>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut found = Vec::with_capacity(list.len());
    for item in list {
        let step = item_step(relation, item)?;
        if !seen.insert(step.clone()) {
            return None;
        }
        found.push((step, item));
    }
    Some(found)
}
