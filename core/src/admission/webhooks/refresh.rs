//! Bringing a live configuration in step with the Systems, and nothing else of it.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::GroupKind;
use serde_json::{Value, json};

use super::{
    CLUSTER_ENTRIES, Governed, Kinds, LISTED_OBJECTS, Resource, cluster_entry, entry,
    governed::{added_to, rules},
    wanted::ADDED_KINDS,
};
use crate::port::Served;

/// Annotation of the validating configuration: the resources of `interlock install --govern`, `GROUP/RESOURCE` with
/// commas between.
pub const EVERYWHERE: &str = "interlock.dev/governed-everywhere";
/// Annotation of the validating configuration: how the cluster addressed the kinds that Systems name when it was last
/// asked. A kind whose API group does not answer just now stays governed by it.
pub const KINDS: &str = "interlock.dev/kinds";

const NAMESPACED: &str = "Namespaced/";
const CLUSTER: &str = "Cluster/";

/// The resources that `install --govern` registered. An installation from before the annotation did not tell them
/// apart, so there everything beside the default counts.
pub fn everywhere(live: &Value) -> BTreeSet<Resource> {
    match live["metadata"]["annotations"][EVERYWHERE].as_str() {
        Some(text) => text.split(',').filter_map(|one| one.trim().parse().ok()).collect(),
        None => added_to(live, entry::ENFORCE.0),
    }
}

pub(super) fn everywhere_text(governed: &Governed) -> String {
    let texts: Vec<_> = governed.everywhere.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// The kinds that the configuration remembers.
pub fn remembered(live: &Value) -> Kinds {
    let text = live["metadata"]["annotations"][KINDS].as_str().unwrap_or_default();
    let kinds: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    kinds
        .iter()
        .filter_map(|(kind, served)| {
            let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
            let (plural, namespaced) = match served.strip_prefix(NAMESPACED) {
                Some(plural) => (plural, true),
                None => (served.strip_prefix(CLUSTER)?, false),
            };
            let kind = GroupKind { group: group.to_owned(), kind: kind.to_owned() };
            Some((kind, Served { plural: plural.to_owned(), namespaced }))
        })
        .collect()
}

/// The kinds as the cluster has just answered, and as they were `kept` where it has not, or serves them no more: what was
/// governed stays so while an API group does not answer, and until a definition is back.
pub fn answered(answers: impl IntoIterator<Item = (GroupKind, Option<Served>)>, kept: &Kinds) -> Kinds {
    let known = |(kind, served): (GroupKind, Option<Served>)| {
        let served = served.or_else(|| kept.get(&kind).cloned())?;
        Some((kind, served))
    };
    answers.into_iter().filter_map(known).collect()
}

fn kinds_text(kinds: &Kinds) -> String {
    let texts: serde_json::Map<String, Value> = kinds
        .iter()
        .map(|(kind, served)| {
            let key = if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) };
            (key, json!(format!("{}{}", if served.namespaced { NAMESPACED } else { CLUSTER }, served.plural)))
        })
        .collect();
    Value::Object(texts).to_string()
}

/// `live`, a `ValidatingWebhookConfiguration`, in step with `governed` and remembering `kinds`; none if it is already.
///
/// Written are the rules of governed kinds, the conditions that say where they count, and the entries for cluster-scoped
/// objects. Where the webhooks are, whom they trust, what happens when they do not answer and who passes without them
/// stays as it was installed. An entry for governed kinds that is gone is not made again: whoever took it away needed to.
pub fn refreshed(live: &Value, governed: &Governed, kinds: &Kinds) -> Option<Value> {
    let mut wanted = live.clone();
    let entries = wanted.get_mut("webhooks")?.as_array_mut()?;
    let client = entries.iter().find(|found| found["name"] == entry::ENFORCE.0)?["clientConfig"].clone();
    let namespaced = rules(&governed.resources());
    for found in entries.iter_mut() {
        if [entry::ENFORCE.0, entry::OBSERVE.0].iter().any(|name| found["name"] == *name) {
            found["rules"] = json!(namespaced);
            set_condition(found, ADDED_KINDS, governed.added_condition());
        }
    }
    for kind in CLUSTER_ENTRIES {
        let (name, _) = kind.0;
        let at = entries.iter().position(|found| found["name"] == name);
        match (cluster_entry(kind, governed, |path| at_path(&client, path)), at) {
            (Some(built), Some(at)) => {
                let listed = built["matchConditions"].as_array().and_then(|c| c.first()).cloned();
                entries[at]["rules"] = built["rules"].clone();
                set_condition(&mut entries[at], LISTED_OBJECTS, listed);
            }
            (Some(built), None) => entries.push(built),
            (None, Some(at)) => drop(entries.remove(at)),
            (None, None) => {}
        }
    }
    annotate(&mut wanted, EVERYWHERE, Some(everywhere_text(governed)));
    annotate(&mut wanted, KINDS, (!kinds.is_empty()).then(|| kinds_text(kinds)));
    (wanted != *live).then_some(wanted)
}

/// Whether `live` says just that already; not if an entry for governed kinds is gone.
pub fn in_step(live: &Value, governed: &Governed, kinds: &Kinds) -> bool {
    let entries = live["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| entries.iter().any(|found| found["name"] == name);
    has(entry::ENFORCE.0) && has(entry::OBSERVE.0) && refreshed(live, governed, kinds).is_none()
}

/// Sets the match condition of this name in `entry`, first if it is new, or takes it away.
fn set_condition(entry: &mut Value, name: &str, wanted: Option<Value>) {
    let mut conditions = entry["matchConditions"].as_array().cloned().unwrap_or_default();
    let at = conditions.iter().position(|found| found["name"] == name);
    match (wanted, at) {
        (Some(wanted), Some(at)) => conditions[at] = wanted,
        (Some(wanted), None) => conditions.insert(0, wanted),
        (None, Some(at)) => drop(conditions.remove(at)),
        (None, None) => return,
    }
    entry["matchConditions"] = Value::Array(conditions);
}

/// How to reach `path` of the server that `client`, of the entry for mode Enforce, reaches.
fn at_path(client: &Value, path: &str) -> Value {
    let mut client = client.clone();
    if let Some(url) = client["url"].as_str() {
        client["url"] = json!(format!("{}{path}", url.strip_suffix(entry::ENFORCE.1).unwrap_or(url)));
    } else {
        client["service"]["path"] = json!(path);
    }
    client
}

fn annotate(object: &mut Value, name: &str, text: Option<String>) {
    let annotations = &mut object["metadata"]["annotations"];
    match (text, annotations.as_object_mut()) {
        (Some(text), Some(annotations)) => drop(annotations.insert(name.to_owned(), Value::String(text))),
        (Some(text), None) => *annotations = json!({ name: text }),
        (None, Some(annotations)) => drop(annotations.remove(name)),
        (None, None) => {}
    }
}
