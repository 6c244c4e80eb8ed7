//! From what a client sent to the server's form: types, unknown fields, defaults. Every write is validated strictly
//! (`fieldValidation=Strict`), as Interlock asks for.

use interlock_core::object::Shape;
use serde_json::Value;

use super::error::ApiError;
use super::kinds::Typ;
use super::registry::KindInfo;
use super::{defaults, quantities, schema, typed, walk};

/// The object in the server's form.
///
/// # Errors
/// 400 when a field has the wrong type or is unknown.
pub(super) fn decode(info: &KindInfo, mut object: Value) -> Result<Value, ApiError> {
    if !object.is_object() {
        return Err(cannot_handle(info, "json: an object is expected"));
    }
    if let Some(schema) = &info.schema {
        let unknown = schema::prune(schema, &mut object, true);
        if !unknown.is_empty() {
            return Err(ApiError::bad_request(strict(info, &unknown)));
        }
        schema::default(schema, &mut object);
        schema::trim_numbers(&mut object);
        tidy_metadata_of(&mut object);
        return Ok(object);
    }
    let mut known = typed::through_type(info, &object).map_err(|why| cannot_handle(info, &why))?;
    let unknown = typed::missing(&object, &known);
    if !unknown.is_empty() {
        return Err(cannot_handle(info, &strict_error(&unknown)));
    }
    // Where a selector is missing, the type has an empty one, which means something else.
    if object.pointer("/spec/selector").is_none_or(Value::is_null)
        && let Some(spec) = known.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("selector");
    }
    if !keeps_empty(info) {
        tidy(Shape::of_kind(&info.group_kind()), &mut known, "");
    }
    tidy_metadata_of(&mut known);
    if !quantities::rewrite(Shape::of_kind(&info.group_kind()), &mut known) {
        let pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$";
        return Err(cannot_handle(info, &format!("quantities must match the regular expression '{pattern}'")));
    }
    defaults::fill(info, &mut known);
    if keeps_empty(info) {
        schema::trim_numbers(&mut known);
    }
    Ok(known)
}

/// An apply configuration states only fields that exist.
///
/// # Errors
/// 500 of a field that the schema does not have, 400 of a wrong type.
pub(super) fn check_config(info: &KindInfo, config: &Value) -> Result<(), ApiError> {
    let unknown = if let Some(schema) = &info.schema {
        schema::prune(schema, &mut config.clone(), true)
    } else {
        let known = typed::through_type(info, config).map_err(|why| not_typed(info, config, &why))?;
        typed::missing(config, &known)
    };
    match unknown.first() {
        None => match mistyped(info, config).or_else(|| walk::malformed(Typ::of(info), config, "")) {
            None => Ok(()),
            Some(why) => Err(not_typed(info, config, &why)),
        },
        Some(field) => Err(not_typed(info, config, &format!(".{field}: field not declared in schema"))),
    }
}

fn mistyped(info: &KindInfo, config: &Value) -> Option<String> {
    info.schema.as_ref().and_then(|schema| schema::mistyped(schema, config, ""))
}

fn not_typed(info: &KindInfo, config: &Value, why: &str) -> ApiError {
    let (namespace, name) = (super::meta::namespace(config), super::meta::name(config));
    let gv = if info.group.is_empty() { format!("/{}", info.version) } else { info.api_version() };
    let kind = &info.kind;
    let message = format!("failed to create typed patch object ({namespace}/{name}; {gv}, Kind={kind}): {why}");
    ApiError::new(500, "", message)
}

fn strict_error(unknown: &[String]) -> String {
    let fields: Vec<String> = unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    format!("strict decoding error: {}", fields.join(", "))
}

fn strict(info: &KindInfo, unknown: &[String]) -> String {
    format!(
        "{} in version \"{}\" cannot be handled as a {}: {}",
        info.kind,
        info.version,
        info.kind,
        strict_error(unknown)
    )
}

fn cannot_handle(info: &KindInfo, why: &str) -> ApiError {
    let KindInfo { kind, version, .. } = info;
    ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// Kinds whose content holds free JSON, in which an empty list is a value.
fn keeps_empty(info: &KindInfo) -> bool {
    ["CustomResourceDefinition", "ControllerRevision", "Event"].contains(&info.kind.as_str())
}

/// Scalars that the server does not store when they are zero, by the field around them (or none) and their name.
const OMITTED: [(&str, &str); 25] = [
    ("", "hostNetwork"),
    ("", "hostPID"),
    ("", "hostIPC"),
    ("", "readOnly"),
    ("", "stdin"),
    ("", "stdinOnce"),
    ("", "tty"),
    ("", "paused"),
    ("", "publishNotReadyAddresses"),
    ("", "minReadySeconds"),
    ("", "initialDelaySeconds"),
    ("", "hostPort"),
    ("", "nodePort"),
    ("", "subPath"),
    ("", "hostname"),
    ("", "subdomain"),
    ("", "nodeName"),
    ("", "serviceAccountName"),
    ("", "serviceAccount"),
    ("", "priorityClassName"),
    ("", "workingDir"),
    ("", "image"),
    ("", "generateName"),
    ("env", "value"),
    ("ports", "name"),
];

/// Drops what the server's types leave out when it is empty: lists, maps, some scalars.
fn tidy(shape: Shape, value: &mut Value, around: &str) {
    match value {
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                let below = shape.field(&name);
                let Some(value) = fields.get_mut(&name) else {
                    continue;
                };
                // Structures of optional parts stay; maps and lists do not.
                let is_map = matches!(below, Shape::Map(_) | Shape::AtomicMap);
                let within = if matches!(shape, Shape::Map(_) | Shape::AtomicMap) { "" } else { name.as_str() };
                tidy(below, value, within);
                let is_empty = match value {
                    Value::Null => true,
                    Value::Array(items) => items.is_empty() && name != "managedFields",
                    Value::Object(fields) => is_map && fields.is_empty(),
                    Value::Bool(false) => is_omitted(around, within),
                    Value::Number(number) => number.as_i64() == Some(0) && is_omitted(around, within),
                    Value::String(text) => text.is_empty() && is_omitted(around, within),
                    Value::Bool(true) => false,
                };
                if is_empty {
                    fields.remove(&name);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(shape.item(), item, around)),
        _ => {}
    }
}

fn is_omitted(around: &str, name: &str) -> bool {
    OMITTED.iter().any(|(within, field)| *field == name && (within.is_empty() || *within == around))
}

fn tidy_metadata_of(object: &mut Value) {
    // It is there also where the client left it out.
    super::meta::of_mut(object);
    object.get_mut("metadata").map(tidy_metadata);
}

/// Empty parts of metadata are none.
pub(super) fn tidy_metadata(metadata: &mut Value) {
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    metadata.retain(|name, value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty() || name == "managedFields",
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0) || name == "deletionGracePeriodSeconds",
        Value::Bool(_) => true,
    });
}
