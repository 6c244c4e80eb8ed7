//! What a proposal would change, object by object: the live object beside the one that a dry run gives.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use interlock_core::{
    change::{ContentObject, Intent},
    object::{Change, ObjectId, apply_partial, destroys_data, diff, strip_server_fields},
};
use serde_json::Value;

use super::{
    api::{Answer, Cluster, Refusal},
    ownership,
};
use crate::error::CliError;

/// Dry runs at the same time.
const AT_ONCE: usize = 8;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It stays as it is.
    Nothing,
    /// It is deleted.
    Delete,
}

/// What a proposal would do to one object.
pub struct Preview {
    /// The object.
    pub id: ObjectId,
    /// What happens to it.
    pub effect: Effect,
    /// The changed places; none for a creation or deletion.
    pub changes: Vec<Change>,
    /// What is created.
    pub created: Option<Value>,
    /// What a person should know about this preview or this object.
    pub notes: Vec<String>,
    /// The API server would not take it as it is.
    pub refused: Option<String>,
}

impl Preview {
    /// Whether no value of it may be shown.
    pub fn is_secret(&self) -> bool {
        self.id.group.is_empty() && self.id.kind == "Secret"
    }
}

/// Previews of all objects, in their order.
pub async fn preview(cluster: &Cluster, objects: &[ContentObject]) -> Result<Vec<Preview>, CliError> {
    stream::iter(objects).map(|object| one(cluster, object)).buffered(AT_ONCE).try_collect().await
}

struct Found {
    /// Whether the manifest stands for the whole of an object that exists.
    is_whole: bool,
    live: Option<Value>,
    after: Option<Value>,
    notes: Vec<String>,
    refused: Option<String>,
}

async fn one(cluster: &Cluster, object: &ContentObject) -> Result<Preview, CliError> {
    let mut found = Found { is_whole: false, live: None, after: None, notes: Vec::new(), refused: None };
    match cluster.get(&object.id).await? {
        Ok(live) => found.live = Some(live),
        Err(refusal) if refusal.code == 404 => {}
        Err(refusal) => found.notes.push(format!("you may not read it, so it is shown as new: {}", refusal.message)),
    }
    let unreadable = !found.notes.is_empty();
    found.is_whole = object.intent == Intent::Apply && found.live.is_some();
    match (object.intent, found.live.clone()) {
        (Intent::Delete, None) => {
            if !unreadable {
                found.notes.push("it does not exist: there is nothing to delete".to_owned());
            }
        }
        (Intent::Delete, Some(_)) => {
            if let Err(refusal) = cluster.try_delete(&object.id).await? {
                found.note(&refusal, &object.manifest);
            }
            if destroys_data(&object.id.group, &object.id.kind) {
                found.notes.push("deleting it destroys data that no rollback brings back".to_owned());
            }
        }
        (Intent::Apply | Intent::Patch, None) => {
            let answer = cluster.try_apply(&object.id, &object.manifest).await?;
            found.after = Some(object.manifest.clone());
            // What is created is shown as it was written; the dry run says whether it would be taken.
            if let Err(refusal) = answer {
                found.note(&refusal, &object.manifest);
            }
        }
        (Intent::Patch, Some(live)) => {
            let merged = apply_partial(&object.id.group_kind(), Some(&live), &object.manifest);
            let answer = cluster.try_replace(&object.id, &merged).await?;
            found.take(answer, merged, object);
        }
        (Intent::Apply, Some(live)) => applied(cluster, object, &live, &mut found).await?,
    }
    Ok(finished(object, found))
}

async fn applied(cluster: &Cluster, object: &ContentObject, live: &Value, found: &mut Found) -> Result<(), CliError> {
    let estimate = || apply_partial(&object.id.group_kind(), Some(live), &object.manifest);
    found.take(cluster.try_apply(&object.id, &object.manifest).await?, estimate(), object);
    let Some(after) = found.after.as_mut() else { return Ok(()) };
    if ownership::release(live, &object.manifest, after) && found.refused.is_none() && found.notes.is_empty() {
        // Once more, so that defaults of what is removed are shown as the server fills them in.
        let without = after.clone();
        let answer: Answer = cluster.try_replace(&object.id, &without).await;
        found.take(answer?, without, object);
    }
    Ok(())
}

impl Found {
    fn take(&mut self, answer: Result<Value, Refusal>, estimate: Value, object: &ContentObject) {
        match answer {
            Ok(after) => self.after = Some(after),
            Err(refusal) => {
                self.after = Some(estimate);
                self.note(&refusal, &object.manifest);
            }
        }
    }

    fn note(&mut self, refusal: &Refusal, manifest: &Value) {
        let message = without_values(&refusal.message, manifest);
        match refusal.code {
            _ if refusal.is_about_rights() => {
                self.notes.push(format!("worked out here, as you may not dry-run it: {message}"));
            }
            404 => self.notes.push(format!("worked out here, as its kind or namespace does not exist yet: {message}")),
            _ if self.is_whole => {
                self.refused = Some(format!("{message}; if the manifest is meant as a part, say --patch"));
            }
            _ => self.refused = Some(message),
        }
    }
}

/// A server's words without values of the Secret that they are about.
fn without_values(message: &str, manifest: &Value) -> String {
    use base64::Engine as _;
    let is_secret = manifest.get("kind").and_then(Value::as_str) == Some("Secret");
    let values = manifest.get("data").and_then(Value::as_object).filter(|_| is_secret);
    let mut message = message.to_owned();
    for value in values.into_iter().flat_map(|values| values.values()).filter_map(Value::as_str) {
        let plain =
            base64::engine::general_purpose::STANDARD.decode(value).ok().and_then(|b| String::from_utf8(b).ok());
        for text in [Some(value.to_owned()), plain].into_iter().flatten().filter(|text| !text.is_empty()) {
            if message.contains(&text) {
                // A short value may be part of any word: then nothing of the message is kept.
                message = if text.len() < 4 {
                    "the server's answer is not shown".to_owned()
                } else {
                    message.replace(&text, "***")
                };
            }
        }
    }
    message
}

fn finished(object: &ContentObject, found: Found) -> Preview {
    let kind = object.id.group_kind();
    let (mut before, mut after) = (found.live, found.after);
    for value in [&mut before, &mut after].into_iter().flatten() {
        strip_server_fields(value);
    }
    let changes = match (&before, &after) {
        (Some(before), Some(after)) => diff(&kind, before, after),
        _ => Vec::new(),
    };
    let effect = match (object.intent, &before) {
        (Intent::Delete, None) if found.notes.iter().any(|n| n.starts_with("it does not exist")) => Effect::Nothing,
        (Intent::Delete, _) => Effect::Delete,
        (_, None) => Effect::Create,
        (_, Some(_)) if changes.is_empty() => Effect::Nothing,
        (_, Some(_)) => Effect::Update,
    };
    let created = (effect == Effect::Create).then_some(after).flatten();
    Preview { id: object.id.clone(), effect, changes, created, notes: found.notes, refused: found.refused }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_servers_words_never_repeat_a_secrets_value() {
        let manifest = json!({"kind": "Secret", "data": {"password": "aHVudGVyMi1jYW5hcnk=", "pin": "MTI="}});
        assert_eq!(without_values("bad: hunter2-canary!", &manifest), "bad: ***!");
        assert_eq!(without_values("bad: aHVudGVyMi1jYW5hcnk=", &manifest), "bad: ***");
        assert_eq!(without_values("line 12", &manifest), "the server's answer is not shown");
        assert_eq!(without_values("forbidden", &manifest), "forbidden");
        let config = json!({"kind": "ConfigMap", "data": {"a": "bad"}});
        assert_eq!(without_values("bad", &config), "bad");
    }
}
