//! Telling what happened, one line each.

use serde_json::Value;

use crate::{cluster::Audit, world::Happening};

/// What happened, in one line.
pub fn line(happening: &Happening) -> String {
    let at = happening.at();
    match happening {
        Happening::Stored(audit) => format!("{at}   {}", stored(audit)),
        Happening::Told(told) => {
            format!("{at}   event {} {}: {}", told.about, told.note.reason, told.note.message)
        }
        Happening::Act { what, came: Ok(_), .. } => format!("{at} {what}"),
        Happening::Act { what, came: Err(error), .. } => format!("{at} {what}: {error}"),
        Happening::Fault { what, .. } => format!("{at} !! {what}"),
    }
}

fn stored(audit: &Audit) -> String {
    let verb = match (&audit.old, &audit.new) {
        (None, _) => "created",
        (_, None) => "deleted",
        _ => "wrote",
    };
    let sub = audit.subresource.as_deref().map_or_else(String::new, |name| format!("/{name}"));
    let what = match (audit.id.kind.as_str(), &audit.new) {
        ("ChangeRequest", Some(object)) => progress(object),
        // Values of Secrets are never told.
        ("ConfigMap", Some(object)) => object.get("data").map_or_else(String::new, |data| format!(" {data}")),
        _ => String::new(),
    };
    format!("{} {verb} {}{sub}{what}", audit.user, audit.id)
}

fn progress(change: &Value) -> String {
    let text = |pointer: &str| change.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let steps = change.pointer("/status/run/objects").and_then(Value::as_array).into_iter().flatten();
    let steps: Vec<_> = steps
        .map(|step| {
            let text = |field: &str| step.get(field).and_then(Value::as_str).unwrap_or_default();
            format!(" {}={}", text("name"), text("state"))
        })
        .collect();
    format!(" {} {:?}{}", text("/status/phase"), text("/status/message"), steps.concat())
}
