//! ConfigMaps and Secrets of the change, under names of their own for the second Deployment.

use serde_json::{Value, json};

use crate::{
    object::{Digest, GroupKind, diff, restore_paths, strip_server_fields},
    rollout::{ROLLOUT_LABEL, facts::ConfigTarget},
};

/// The name of the copy: `<name>-` and eight digits that only this release has.
pub fn copy_name(name: &str, rollout_uid: &str) -> String {
    let suffix: String = Digest::of_bytes(rollout_uid.as_bytes()).to_string().chars().skip(7).take(8).collect();
    let base: String = name.chars().take(240).collect();
    format!("{base}-{suffix}")
}

/// The copy: same data, immutable, of this release.
pub fn copy(config: &ConfigTarget, rollout_uid: &str) -> Value {
    let mut object = config.wanted.clone();
    strip_server_fields(&mut object);
    let text = |pointer: &str| config.wanted.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let metadata = json!({
        "name": copy_name(text("/metadata/name"), rollout_uid),
        "namespace": text("/metadata/namespace"),
        "labels": { ROLLOUT_LABEL: rollout_uid },
    });
    if let Some(fields) = object.as_object_mut() {
        fields.insert("metadata".to_owned(), metadata);
        fields.insert("immutable".to_owned(), Value::Bool(true));
    }
    object
}

/// The copies that the wanted workload needs: of those ConfigMaps and Secrets of the change that its pods name.
pub fn config_copies(wanted: &Value, configs: &[ConfigTarget], rollout_uid: &str) -> Vec<Value> {
    configs.iter().filter(|config| is_used(wanted, config)).map(|config| copy(config, rollout_uid)).collect()
}

/// Whether the workload's pods name one of them.
pub fn uses_any(wanted: &Value, configs: &[ConfigTarget]) -> bool {
    configs.iter().any(|config| is_used(wanted, config))
}

fn is_used(wanted: &Value, config: &ConfigTarget) -> bool {
    let mut template = wanted.pointer("/spec/template").cloned().unwrap_or_default();
    let Some((kind, name)) = named(config) else { return false };
    let mut found = false;
    visit(&mut template, &mut |of, text| found |= of == kind && text.as_str() == Some(name));
    found
}

/// A digest of the configuration that the pods use, which makes them start anew when only it changed. None if the
/// change brings none of what they use.
pub fn mark(wanted: &Value, configs: &[ConfigTarget]) -> Option<String> {
    let used: Vec<_> = configs.iter().filter(|config| is_used(wanted, config)).map(|c| &c.wanted).collect();
    if used.is_empty() {
        return None;
    }
    let plain: Vec<_> = used
        .into_iter()
        .map(|object| {
            let mut object = object.clone();
            strip_server_fields(&mut object);
            object
        })
        .collect();
    // A digest of digests: the values of a Secret are not to be found by trying against a digest of them alone.
    let text = Digest::of_canonical(&plain).ok()?.to_string();
    Some(Digest::of_bytes(text.as_bytes()).to_string().chars().skip(7).take(16).collect())
}

/// Makes a pod template use the copies wherever it uses what is copied.
pub fn use_copies(template: &mut Value, configs: &[ConfigTarget], rollout_uid: &str) {
    for config in configs {
        let Some((kind, name)) = named(config) else { continue };
        let copy = copy_name(name, rollout_uid);
        visit(template, &mut |of, text| {
            if of == kind && text.as_str() == Some(name) {
                *text = Value::String(copy.clone());
            }
        });
    }
}

fn named(config: &ConfigTarget) -> Option<(&str, &str)> {
    let kind = config.wanted.get("kind")?.as_str()?;
    Some((kind, config.wanted.pointer("/metadata/name")?.as_str()?))
}

/// Every place of a pod template that names a ConfigMap or a Secret.
fn visit(template: &mut Value, found: &mut impl FnMut(&str, &mut Value)) {
    let Some(spec) = template.get_mut("spec") else { return };
    for volume in items(spec, "volumes") {
        at(volume, &["configMap", "name"], "ConfigMap", found);
        at(volume, &["secret", "secretName"], "Secret", found);
        if let Some(projected) = volume.get_mut("projected") {
            for source in items(projected, "sources") {
                at(source, &["configMap", "name"], "ConfigMap", found);
                at(source, &["secret", "name"], "Secret", found);
            }
        }
    }
    for secret in items(spec, "imagePullSecrets") {
        at(secret, &["name"], "Secret", found);
    }
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            for variable in items(container, "env") {
                at(variable, &["valueFrom", "configMapKeyRef", "name"], "ConfigMap", found);
                at(variable, &["valueFrom", "secretKeyRef", "name"], "Secret", found);
            }
            for source in items(container, "envFrom") {
                at(source, &["configMapRef", "name"], "ConfigMap", found);
                at(source, &["secretRef", "name"], "Secret", found);
            }
        }
    }
}

fn items<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn at(object: &mut Value, path: &[&str], kind: &str, found: &mut impl FnMut(&str, &mut Value)) {
    let place = path.iter().try_fold(object, |value, key| value.get_mut(*key));
    if let Some(place) = place {
        found(kind, place);
    }
}

/// The live ConfigMap or Secret as the change wants it.
pub fn promoted(live: Option<&Value>, config: &ConfigTarget) -> Value {
    let Some(live) = live else { return config.wanted.clone() };
    let before = config.before.clone().unwrap_or_else(|| live.clone());
    turned(live, &before, &config.wanted)
}

/// The live ConfigMap or Secret as it was.
pub fn restored(live: &Value, config: &ConfigTarget) -> Value {
    config.before.as_ref().map_or_else(|| live.clone(), |before| turned(live, &config.wanted, before))
}

/// `live` with what differs between two states of it set to the second one.
fn turned(live: &Value, from: &Value, to: &Value) -> Value {
    let Ok(kind) = GroupKind::of(to) else { return live.clone() };
    let plain = |object: &Value| {
        let mut object = object.clone();
        strip_server_fields(&mut object);
        object
    };
    // `restore_paths` goes from after to before.
    let changes = diff(&kind, &plain(to), &plain(from));
    restore_paths(&kind, &super::touched(live, None), &changes).0
}
