//! Makes `schema_table.rs` from the OpenAPI v3 documents of an API server. `cargo xtask codegen`
//! reads them (`/openapi/v3/api/v1`, `/openapi/v3/apis/apps/v1` ...) and writes what [`render`] returns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// List maps whose order has a meaning, which OpenAPI cannot say: environment variables and admission variables may
/// refer to earlier ones only; init containers and mutating webhooks run one after the other.
const ORDERED: [&str; 4] = ["env", "initContainers", "variables", "webhooks"];

/// The table before it is written as Rust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Group and kind, with the OpenAPI name of its type.
    pub kinds: BTreeMap<(String, String), String>,
    /// The fields of each type whose meaning is more than plain JSON.
    pub types: BTreeMap<String, BTreeMap<String, FieldShape>>,
}

/// [`Shape`](super::Shape) with types by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldShape {
    /// An object with its own fields.
    Struct(String),
    /// An object that is one value.
    AtomicStruct(String),
    /// A map of values.
    Map(Box<FieldShape>),
    /// A map that is one value.
    AtomicMap,
    /// A list that is one value.
    List(Box<FieldShape>),
    /// A set.
    Set,
    /// A list map: its keys, whether its order has a meaning, and its items.
    ListMap(Vec<String>, bool, Box<FieldShape>),
    /// A quantity.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// A string with a default.
    Defaulted(String),
    /// Plain JSON.
    Free,
}

/// Reads the meaning of every kind of the documents. Where two documents have the same kind in several versions, the
/// later document wins.
pub fn generate(documents: &[Value]) -> Generated {
    let schemas: BTreeMap<&str, &Value> = documents
        .iter()
        .filter_map(|document| document.pointer("/components/schemas")?.as_object())
        .flatten()
        .map(|(name, schema)| (name.as_str(), schema))
        .collect();
    let mut generated = Generated::default();
    for document in documents {
        generated.kinds.extend(kinds(document));
    }
    let mut waiting: Vec<String> = generated.kinds.values().cloned().chain([OBJECT_META.to_owned()]).collect();
    while let Some(name) = waiting.pop() {
        if generated.types.contains_key(&name) {
            continue;
        }
        let is_root = generated.kinds.values().any(|root| *root == name);
        let fields = fields(&schemas, &name, is_root);
        waiting.extend(fields.values().filter_map(referred).map(str::to_owned));
        generated.types.insert(name, fields);
    }
    prune(&mut generated);
    generated
}

/// The kinds that can be created by themselves: those with a `metadata` of an object.
fn kinds(document: &Value) -> Vec<((String, String), String)> {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let mut kinds = Vec::new();
    for (name, schema) in schemas.into_iter().flatten() {
        let metadata = schema.pointer("/properties/metadata").and_then(reference);
        let stated = schema.pointer("/x-kubernetes-group-version-kind").and_then(Value::as_array);
        // Types that several groups share, such as DeleteOptions, state many.
        let ([stated], Some(OBJECT_META)) = (stated.map_or(&[][..], Vec::as_slice), metadata) else {
            continue;
        };
        let text = |field: &str| stated.get(field).and_then(Value::as_str).map(str::to_owned);
        if let (Some(group), Some(kind)) = (text("group"), text("kind")) {
            kinds.push(((group, kind), name.clone()));
        }
    }
    kinds
}

fn fields(schemas: &BTreeMap<&str, &Value>, name: &str, is_root: bool) -> BTreeMap<String, FieldShape> {
    let properties = schemas.get(name).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .filter(|(field, _)| !(is_root && *field == "status"))
        .map(|(field, property)| (field.clone(), shape(schemas, field, property)))
        .filter(|(_, shape)| *shape != FieldShape::Free)
        .collect()
}

fn shape(schemas: &BTreeMap<&str, &Value>, field: &str, property: &Value) -> FieldShape {
    let text = |key: &str| property.get(key).and_then(Value::as_str).unwrap_or_default();
    if let Some(name) = reference(property) {
        return referred_shape(schemas, name, property);
    }
    match text("type") {
        "array" => list_shape(schemas, field, property),
        "object" if text("x-kubernetes-map-type") == "atomic" => FieldShape::AtomicMap,
        "object" => property
            .get("additionalProperties")
            .map_or(FieldShape::Free, |values| FieldShape::Map(Box::new(shape(schemas, field, values)))),
        "string" if !text("default").is_empty() => FieldShape::Defaulted(text("default").to_owned()),
        _ => FieldShape::Free,
    }
}

fn referred_shape(schemas: &BTreeMap<&str, &Value>, name: &str, property: &Value) -> FieldShape {
    match name {
        QUANTITY => return FieldShape::Quantity,
        INT_OR_STRING => return FieldShape::IntOrString,
        _ => {}
    }
    let Some(schema) = schemas.get(name) else {
        return FieldShape::Free;
    };
    let map_type = |schema: &Value| schema.get("x-kubernetes-map-type").and_then(Value::as_str).map(str::to_owned);
    // What the field says goes before what its type says.
    if map_type(property).or_else(|| map_type(schema)).as_deref() == Some("atomic") {
        FieldShape::AtomicStruct(name.to_owned())
    } else if schema.get("properties").is_some() {
        FieldShape::Struct(name.to_owned())
    } else {
        FieldShape::Free
    }
}

fn list_shape(schemas: &BTreeMap<&str, &Value>, field: &str, property: &Value) -> FieldShape {
    let items = property.get("items").unwrap_or(&Value::Null);
    let keys = property.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let item = Box::new(shape(schemas, field, items));
    match (property.get("x-kubernetes-list-type").and_then(Value::as_str), keys) {
        (Some("map"), Some(keys)) => {
            let keys = keys.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            FieldShape::ListMap(keys, ORDERED.contains(&field), item)
        }
        (Some("set"), _) => FieldShape::Set,
        _ => FieldShape::List(item),
    }
}

/// The name of the type that a property refers to, directly or, beside a default or a description, through `allOf`.
fn reference(property: &Value) -> Option<&str> {
    let direct = property.get("$ref").or_else(|| match property.get("allOf")?.as_array()?.as_slice() {
        [only] => only.get("$ref"),
        _ => None,
    });
    direct?.as_str()?.strip_prefix("#/components/schemas/")
}

fn referred(shape: &FieldShape) -> Option<&str> {
    match shape {
        FieldShape::Struct(name) | FieldShape::AtomicStruct(name) => Some(name),
        FieldShape::Map(inner) | FieldShape::List(inner) | FieldShape::ListMap(_, _, inner) => referred(inner),
        _ => None,
    }
}

/// Takes out objects whose fields are all plain: they say no more than "free" does.
fn prune(generated: &mut Generated) {
    loop {
        let roots: BTreeSet<&String> = generated.kinds.values().collect();
        let plain: BTreeSet<String> = generated
            .types
            .iter()
            .filter(|(name, fields)| fields.is_empty() && !roots.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        let mut changed = false;
        for fields in generated.types.values_mut() {
            for shape in fields.values_mut() {
                changed |= free_plain(shape, &plain);
            }
            fields.retain(|_, shape| *shape != FieldShape::Free);
        }
        if !changed {
            break;
        }
    }
    let used: BTreeSet<String> = generated
        .types
        .values()
        .flat_map(BTreeMap::values)
        .filter_map(referred)
        .map(str::to_owned)
        .chain(generated.kinds.values().cloned())
        .chain([OBJECT_META.to_owned()])
        .collect();
    generated.types.retain(|name, _| used.contains(name));
}

fn free_plain(shape: &mut FieldShape, plain: &BTreeSet<String>) -> bool {
    match shape {
        FieldShape::Struct(name) if plain.contains(name) => {
            *shape = FieldShape::Free;
            true
        }
        FieldShape::Map(inner) | FieldShape::List(inner) | FieldShape::ListMap(_, _, inner) => free_plain(inner, plain),
        _ => false,
    }
}

/// The table as the text of a Rust module.
pub fn render(generated: &Generated) -> String {
    let mut text = String::from(
        "//! Generated by `cargo xtask codegen` from the OpenAPI v3 documents of Kubernetes. Do not edit.\n\n\
         // Shorter than a `use` in every row, and generated code is read by row.\n\
         #![allow(clippy::enum_glob_use)]\n\n\
         use super::schema::{Shape::*, Type};\n\n\
         /// Group, kind and type, in order.\n\
         pub(super) static KINDS: &[(&str, &str, &Type)] = &[\n",
    );
    for ((group, kind), name) in &generated.kinds {
        let _ = writeln!(text, "    (\"{group}\", \"{kind}\", &{}),", constant(name));
    }
    text.push_str("];\n");
    for (name, fields) in &generated.types {
        let visible = if name == OBJECT_META { "pub(super) " } else { "" };
        let _ = write!(text, "\n{visible}static {}: Type = Type {{ name: \"{name}\", fields: &[", constant(name));
        for (field, shape) in fields {
            let _ = write!(text, "\n    (\"{field}\", {}),", render_shape(shape));
        }
        text.push_str(if fields.is_empty() { "] };\n" } else { "\n] };\n" });
    }
    text
}

fn render_shape(shape: &FieldShape) -> String {
    match shape {
        FieldShape::Struct(name) => format!("Struct(&{})", constant(name)),
        FieldShape::AtomicStruct(name) => format!("AtomicStruct(&{})", constant(name)),
        FieldShape::Map(values) => format!("Map(&{})", render_shape(values)),
        FieldShape::AtomicMap => "AtomicMap".to_owned(),
        FieldShape::List(items) => format!("List(&{})", render_shape(items)),
        FieldShape::Set => "Set".to_owned(),
        FieldShape::ListMap(keys, ordered, item) => {
            format!("ListMap {{ keys: &{keys:?}, ordered: {ordered}, item: &{} }}", render_shape(item))
        }
        FieldShape::Quantity => "Quantity".to_owned(),
        FieldShape::IntOrString => "IntOrString".to_owned(),
        FieldShape::Defaulted(default) => format!("Defaulted({default:?})"),
        FieldShape::Free => "Free".to_owned(),
    }
}

/// `io.k8s.api.core.v1.PodSpec` as `CORE_V1_POD_SPEC`: unique, since it keeps everything but the common prefixes.
fn constant(name: &str) -> String {
    if name == OBJECT_META {
        return "OBJECT_META".to_owned();
    }
    let prefixes = ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.apiextensions-apiserver.pkg.apis."];
    let short = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let mut constant = String::new();
    let mut after_lower = false;
    for character in short.chars() {
        if character.is_ascii_uppercase() && after_lower {
            constant.push('_');
        }
        after_lower = character.is_ascii_lowercase() || character.is_ascii_digit();
        constant.push(if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' });
    }
    constant
}
