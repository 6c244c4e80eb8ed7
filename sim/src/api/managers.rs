//! `metadata.managedFields`.

use serde_json::{Value, json};

use super::fields::FieldSet;
use super::kinds::Typ;
use super::registry::KindInfo;
use super::{meta, walk, zero};

/// Who writes, for `managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    pub name: String,
    pub subresource: Option<String>,
    pub time: String,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub manager: String,
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
    pub fields: FieldSet,
}

impl Entry {
    /// The entry that a manager writes to.
    pub fn new(info: &KindInfo, manager: &Manager, applies: bool) -> Self {
        Self {
            manager: manager.name.clone(),
            applies,
            api_version: info.api_version(),
            subresource: manager.subresource.clone().unwrap_or_default(),
            time: manager.time.clone(),
            fields: FieldSet::default(),
        }
    }

    /// Whether both are the entry of one manager; what is applied has one entry whatever version it speaks.
    pub fn is_of(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }

    /// The manager as a conflict names it.
    pub fn shown(&self) -> String {
        let mut shown = format!("\"{}\"", self.manager);
        if !self.subresource.is_empty() {
            shown = format!("{shown} with subresource \"{}\"", self.subresource);
        }
        if self.applies { shown } else { format!("{shown} using {}", self.api_version) }
    }
}

/// The entries of an object.
pub(super) fn entries(object: &Value) -> Vec<Entry> {
    let listed = object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    listed
        .filter_map(|entry| {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let applies = match text("operation").as_str() {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            Some(Entry {
                manager: text("manager"),
                applies,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                fields: FieldSet::parse(entry.get("fieldsV1")?),
            })
        })
        .collect()
}

/// Writes the entries, in the order in which the server keeps them.
pub(super) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    for entry in &mut entries {
        strip(&mut entry.fields);
    }
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| rank(a).cmp(&rank(b)));
    let listed: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut shown = json!({
                "manager": entry.manager,
                "operation": if entry.applies { "Apply" } else { "Update" },
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_value(),
            });
            if let (false, Some(fields)) = (entry.subresource.is_empty(), shown.as_object_mut()) {
                fields.insert("subresource".to_owned(), json!(entry.subresource));
            }
            if let (true, Some(fields)) = (entry.time.is_empty(), shown.as_object_mut()) {
                fields.remove("time");
            }
            shown
        })
        .collect();
    meta::set(object, "managedFields", (!listed.is_empty()).then_some(Value::Array(listed)));
}

fn rank(entry: &Entry) -> (bool, &str, &str, &str, &str) {
    let Entry { applies, time, manager, api_version, subresource, .. } = entry;
    (!applies, time, manager, api_version, subresource)
}

/// Fields that nobody owns.
fn strip(set: &mut FieldSet) {
    const NOBODYS: [&str; 9] = [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:clusterName",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
    ];
    for path in [["f:apiVersion"], ["f:kind"]] {
        set.remove_tree(&path);
    }
    for field in NOBODYS {
        set.remove_tree(&["f:metadata", field]);
    }
    if let Some(metadata) = set.below.get_mut("f:metadata") {
        metadata.is_member = false;
        if metadata.is_empty() {
            set.below.remove("f:metadata");
        }
    }
    set.is_member = false;
}

/// Takes out what a write through this subresource does not touch.
pub(super) fn reset(info: &KindInfo, subresource: Option<&str>, set: &mut FieldSet) {
    if subresource.is_none() {
        if info.has_status {
            set.remove_tree(&["f:status"]);
        }
        return;
    }
    set.remove_tree(&["f:spec"]);
    if info.is_custom() {
        set.remove_tree(&["f:metadata"]);
    } else if info.is("apps", "Deployment") {
        set.remove_tree(&["f:metadata", "f:labels"]);
    } else if info.is("", "Pod") {
        set.remove_tree(&["f:metadata", "f:deletionTimestamp"]);
        set.remove_tree(&["f:metadata", "f:ownerReferences"]);
    }
}

/// Records a create or an update: the writer owns what it changed, the others lose it.
pub(super) fn record_update(info: &KindInfo, old: Option<&Value>, new: &mut Value, manager: &Manager) {
    let live = old.map_or_else(Vec::new, entries);
    let stated = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    // No entry, or one empty one, asks to forget all managers.
    let forgets = stated.is_some_and(|stated| stated.iter().all(|entry| *entry == json!({})));
    let count = stated.map_or(0, Vec::len);
    let mut managed = if manager.subresource.is_some() { live.clone() } else { entries(new) };
    // Entries of which one cannot be read are not heeded at all.
    if !forgets && (managed.is_empty() || (managed.len() < count && manager.subresource.is_none())) {
        managed = live;
    }
    meta::set(new, "managedFields", None);
    if old.is_some() && managed.is_empty() {
        // An object without managers has none until somebody applies to it.
        return;
    }
    write_update(info, old, new, managed, Entry::new(info, manager, false));
}

/// An object that nobody managed, as it was before somebody first applies to it.
pub(super) fn before_first_apply(info: &KindInfo, object: &Value, manager: &Manager) -> Vec<Entry> {
    let mut object = object.clone();
    let first = Manager { name: "before-first-apply".to_owned(), subresource: None, time: manager.time.clone() };
    write_update(info, None, &mut object, Vec::new(), Entry::new(info, &first, false));
    entries(&object)
}

fn write_update(info: &KindInfo, old: Option<&Value>, new: &mut Value, mut managed: Vec<Entry>, mut own: Entry) {
    let typ = Typ::of(info);
    let empty = old.is_none().then(|| zero::object(info));
    let mut found = walk::compare(typ, old.or(empty.as_ref()), Some(new));
    let subresource = (!own.subresource.is_empty()).then_some(own.subresource.as_str());
    for set in [&mut found.added, &mut found.modified, &mut found.removed] {
        reset(info, subresource, set);
        // The managers themselves stand in the live object only.
        set.remove_tree(&["f:metadata", "f:managedFields"]);
    }
    let mut taken = found.added.union(&found.modified);
    for entry in &mut managed {
        entry.fields.subtract(&taken);
        entry.fields.subtract(&found.removed);
    }
    strip(&mut taken);
    if !taken.is_empty() {
        if let Some(previous) = managed.iter_mut().find(|entry| entry.is_of(&own)) {
            taken.add(&previous.fields);
            own.fields = taken;
            *previous = own;
        } else {
            own.fields = taken;
            managed.push(own);
        }
    }
    write(new, managed);
}

pub(super) fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = meta::of_mut(&mut object) {
        metadata.remove("managedFields");
    }
    object
}
