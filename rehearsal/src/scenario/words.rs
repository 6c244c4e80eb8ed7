//! Words for objects and differences.

use interlock_core::object::{GroupKind, ObjectId, diff, render_short, strip_server_fields};
use serde_json::Value;

/// Differences of one write that are told one by one.
const MAX_TOLD: usize = 3;

/// `Deployment teller/teller`.
pub(super) fn named(id: &ObjectId) -> String {
    match &id.namespace {
        Some(namespace) => format!("{} {namespace}/{}", id.kind, id.name),
        None => format!("{} {}", id.kind, id.name),
    }
}

/// What differs, in a few words; of a Secret only where.
pub(super) fn difference(id: &ObjectId, old: &Value, new: &Value) -> Vec<String> {
    let kind = id.group_kind();
    let (mut old, mut new) = (old.clone(), new.clone());
    for object in [&mut old, &mut new] {
        strip_server_fields(object);
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
    }
    let hidden = kind.is("", "Secret");
    let changes = diff(&kind, &old, &new);
    let told: Vec<_> = changes.iter().filter(|change| !change.path.to_string().contains("interlock.dev")).collect();
    let mut words: Vec<_> = told
        .iter()
        .take(MAX_TOLD)
        .map(|change| {
            if hidden {
                change.path.to_string()
            } else {
                let (before, after) = (short(&kind, change.before.as_ref()), short(&kind, change.after.as_ref()));
                format!("{} {before} -> {after}", change.path)
            }
        })
        .collect();
    if told.len() > MAX_TOLD {
        words.push(format!("and {} more", told.len() - MAX_TOLD));
    }
    words
}

fn short(kind: &GroupKind, value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "(absent)".to_owned(), |_| render_short(kind, value));
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}

/// `SelfApproval` and the sentence after it, of a refusal by a webhook; else the whole text.
pub(super) fn refusal(message: &str) -> (String, String) {
    let plain = match message.split_once(" denied the request: ") {
        Some((before, why)) if before.starts_with("admission webhook ") => why,
        _ => message,
    };
    match plain.split_once(": ") {
        Some((reason, why)) if !reason.is_empty() && reason.chars().all(|c| c.is_ascii_alphanumeric()) => {
            (reason.to_owned(), why.to_owned())
        }
        _ => ("API server".to_owned(), plain.to_owned()),
    }
}
