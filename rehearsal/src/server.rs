//! Serving a call: reads at once; writes through the webhooks of a process that is alive, which read the API themselves.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use interlock_controller::admission::{
    judge::Webhook,
    server::{Entry, Judge as _},
};
use interlock_core::{
    admission::{
        Denial, Operation, Verdict,
        webhooks::{self, Resource},
    },
    change::MODE_LABEL,
    object::{GroupKind, ObjectId},
    port::PortError,
};
use interlock_sim::api::{Api, ApiError, Outcome, Prepared, Selector, Verb, Write};
use serde_json::Value;

use crate::{
    cluster::{Answer, Audit, Request, Shared},
    port::SimPort,
};

/// What webhooks are called for in every enrolled namespace.
static GOVERNED: LazyLock<BTreeSet<Resource>> = LazyLock::new(webhooks::by_default);
/// Attempts of the API server when an object changes under a write that requires no special state.
const ATTEMPTS: usize = 5;

/// Answers a read.
pub fn read(api: &Api, request: &Request) -> Result<Answer, PortError> {
    match request {
        Request::Get(user, id) => api.get(user, id).map(Answer::Object).map_err(PortError::from),
        Request::List(user, (group, version, kind), namespace) => api
            .list(user, (group, version, kind), namespace.as_deref(), &Selector::default())
            .map(|listing| Answer::List(listing.items))
            .map_err(PortError::from),
        Request::Write(_) => Err(PortError::Invalid("a write is no read".to_owned())),
    }
}

/// Makes a write, webhooks included.
pub async fn write(
    shared: Shared,
    webhook: Option<Arc<Webhook<SimPort>>>,
    write: Write,
) -> Result<Arc<Value>, ApiError> {
    for _ in 0..ATTEMPTS {
        let mut prepared = shared.lock().api.prepare(write.clone())?;
        if is_sealed(&prepared) {
            let answer = match &webhook {
                Some(webhook) => webhook.mutate(&prepared.request()).await,
                None => return Err(unreachable_webhook("mutate.interlock.dev")),
            };
            shared.lock().api.mutate(&mut prepared, answer)?;
        }
        let pending = shared.lock().api.settle(prepared)?;
        let old = pending.prepared().old().cloned();
        let entry = entry(&shared.lock().api, pending.prepared());
        if let Some(entry) = entry {
            let Some(webhook) = &webhook else { return Err(unreachable_webhook("validate.interlock.dev")) };
            if let Verdict::Deny(denial) = webhook.validate(entry, &pending.request()).await {
                return Err(denied(&denial));
            }
        }
        let mut cluster = shared.lock();
        let at = cluster.api.now();
        let no_op = pending.is_no_op() || write.dry_run;
        if let Outcome::Done(object) = cluster.api.commit(pending)? {
            if !no_op {
                let id = id_of(&write.verb, &object);
                let new = cluster.api.get_arc(&id.group_kind(), id.namespace.as_deref().unwrap_or_default(), &id.name);
                cluster.audits.push(Audit {
                    at,
                    user: write.user.name.clone(),
                    id,
                    subresource: write.subresource.clone(),
                    old,
                    new,
                });
            }
            return Ok(object);
        }
    }
    Err(ApiError::new(409, "Conflict", "the object kept changing"))
}

fn id_of(verb: &Verb, stored: &Value) -> ObjectId {
    match verb {
        Verb::Delete { id, .. } | Verb::MergePatch { id, .. } => id.clone(),
        Verb::Create(object) | Verb::Replace(object) | Verb::Apply { object, .. } => {
            ObjectId::of(stored).or_else(|_| ObjectId::of(object)).unwrap_or_else(|_| ObjectId {
                group: String::new(),
                version: String::new(),
                kind: String::new(),
                namespace: None,
                name: String::new(),
            })
        }
    }
}

fn denied(denial: &Denial) -> ApiError {
    ApiError::new(
        denial.code,
        match denial.code {
            403 => "Forbidden",
            409 => "Conflict",
            422 => "Invalid",
            503 => "ServiceUnavailable",
            _ => "InternalError",
        },
        format!("admission webhook \"interlock.dev\" denied the request: {}: {}", denial.reason, denial.message),
    )
}

fn unreachable_webhook(name: &str) -> ApiError {
    ApiError::new(
        500,
        "InternalError",
        format!("Internal error occurred: failed calling webhook \"{name}\": no controller serves"),
    )
}

/// Objects that the mutating webhook records and seals.
fn is_sealed(write: &Prepared) -> bool {
    write.kind().group == interlock_crds::GROUP
        && write.operation() == Operation::Create
        && matches!(write.kind().kind.as_str(), "ChangeRequest" | "Approval" | "Evidence" | "Action")
}

/// The webhook entry that a write comes to, as the installed configurations say; built-in controllers never come here.
fn entry(api: &Api, write: &Prepared) -> Option<Entry> {
    let kind = write.kind();
    if kind.group == interlock_crds::GROUP {
        return Some(Entry::Own);
    }
    if kind.is("", "Namespace") {
        return Some(Entry::Namespace);
    }
    if write.subresource().is_some() {
        return None;
    }
    let is_governed = GOVERNED.contains(&Resource::new(&kind.group, &kind.plural));
    match write.namespace() {
        Some(namespace) => {
            let namespace = api.get_arc(&GroupKind::new("", "Namespace"), "", namespace)?;
            let enrolled = namespace.pointer("/metadata/labels").is_some_and(|labels| labels.get(MODE_LABEL).is_some());
            (is_governed && enrolled).then_some(Entry::Governed)
        }
        None => api
            .list_arc(&GroupKind::new(interlock_crds::GROUP, "System"), None)
            .iter()
            .flat_map(|system| system.pointer("/spec/clusterObjects").and_then(Value::as_array).into_iter().flatten())
            .any(|named| {
                let is = |field: &str, value: &str| named.get(field).and_then(Value::as_str) == Some(value);
                is("kind", &kind.kind) && is("name", write.name().unwrap_or_default())
            })
            .then_some(Entry::Cluster),
    }
}
