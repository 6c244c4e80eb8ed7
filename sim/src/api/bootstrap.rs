//! What a fresh cluster holds, and what the server allocates.

use std::sync::LazyLock;

use interlock_core::object::GroupKind;
use serde_json::{Map, Value, json};

use super::log::EventType;
use super::registry::KindInfo;
use super::store::Key;
use super::write::{Verb, Write};
use super::{Api, meta, strategy};

static DEFINITIONS: LazyLock<Vec<Value>> =
    LazyLock::new(|| interlock_crds::all().iter().filter_map(|crd| serde_json::to_value(crd).ok()).collect());

impl Api {
    pub(super) fn bootstrap(&mut self) {
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.boot(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        }
        // Definitions are long, and every simulation needs the same ones: they skip what a write goes through.
        for definition in DEFINITIONS.iter() {
            self.counted += 1;
            let mut definition = definition.clone();
            meta::set(&mut definition, "uid", Some(json!(super::uid_of(self.counted))));
            meta::set(&mut definition, "creationTimestamp", Some(json!(super::whole_seconds(self.now))));
            let key = Key {
                kind: GroupKind::new("apiextensions.k8s.io", "CustomResourceDefinition"),
                namespace: String::new(),
                name: meta::name(&definition).to_owned(),
            };
            if let Some(info) = self.registry.get(&key.kind).cloned() {
                strategy::prepare_create(&info, &mut definition);
            }
            self.put(&key, definition, EventType::Added);
        }
    }

    /// These are valid, as a test proves.
    fn boot(&mut self, object: Value) {
        let _ = self.write(Write::new(&super::system_user("bootstrap"), "kube-apiserver", Verb::Create(object)));
    }

    /// Values that the server hands out to a new object.
    pub(super) fn allocate(&mut self, info: &KindInfo, new: &mut Value, is_trial: bool) {
        match (info.group.as_str(), info.kind.as_str()) {
            ("", "Namespace") => {
                if let Some(spec) = field(new, "spec") {
                    spec.entry("finalizers").or_insert(json!(["kubernetes"]));
                }
            }
            ("", "Service") => self.allocate_addresses(new, is_trial),
            ("batch", "Job") => select_own_pods(new),
            _ => {}
        }
    }
}

/// A Job selects its Pods by its own uid.
fn select_own_pods(job: &mut Value) {
    if job.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
        return;
    }
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    let labels = [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ];
    // A Job without labels of its own was given the map of its template, not a copy of it.
    let of_template = job.pointer("/spec/template/metadata/labels").cloned();
    let shares = job.pointer("/metadata/labels") == of_template.as_ref();
    let Some(spec) = field(job, "spec") else {
        return;
    };
    let selector = spec.entry("selector").or_insert_with(|| json!({}));
    if let Some(selector) = selector.as_object_mut() {
        let wanted = selector.entry("matchLabels").or_insert_with(|| json!({}));
        if let Some(wanted) = wanted.as_object_mut() {
            wanted.insert("batch.kubernetes.io/controller-uid".to_owned(), json!(uid));
        }
    }
    if let Some(template) = spec.get_mut("template") {
        label(template, &labels);
    }
    if shares {
        label(job, &labels);
    }
}

fn label(object: &mut Value, labels: &[(&str, &String)]) {
    let Some(metadata) = meta::of_mut(object) else {
        return;
    };
    let of_object = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Some(of_object) = of_object.as_object_mut() {
        of_object.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    }
}

fn field<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    object.as_object_mut()?.entry(name).or_insert_with(|| json!({})).as_object_mut()
}
