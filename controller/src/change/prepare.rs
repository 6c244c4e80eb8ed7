//! Before the first write: dry runs as the executor, the before-state stored and read back.

use interlock_core::{
    change::{
        before::{self, BeforeState},
        content::{ContentObject, Intent},
        decide::Start,
        gradual, managers, sealed, standard,
    },
    object::{GroupKind, ObjectId, apply_order, apply_partial, strip_server_fields},
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::{RunDirection, RunRecord};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Context, Observed, internal, observe, store};

/// What preparing came to.
pub enum Prepared {
    /// The change cannot be carried out as things are; why.
    Refused(String),
    /// It can.
    Ready(Box<Ready>),
}

/// Everything with which a run starts.
pub struct Ready {
    /// The sealed record, nothing begun.
    pub run: RunRecord,
    /// The plan.
    pub before: BeforeState,
    /// What was just read of each entry of the plan.
    pub live: Vec<Option<Value>>,
}

/// Tries the whole change without storing anything, then stores what going back will need.
pub async fn prepare<P: Port>(
    context: &Context<P>,
    observed: &Observed,
    start: &Start,
    now: Timestamp,
) -> Result<Prepared, PortError> {
    let (Ok(content), Some(executor)) = (&*observed.content, observed.executor()) else {
        return Ok(Prepared::Refused("the change has no content or no executor".to_owned()));
    };
    let identity = Identity::Impersonate(executor.clone());
    let staged = observe::staged(context, &observed.request).await?;
    let mut prepared = Vec::with_capacity(content.objects.len());
    // In the order of carrying out, so that the first refusal named is the one that would come first.
    let kinds: Vec<GroupKind> = content.objects.iter().map(|o| o.id.group_kind()).collect();
    for position in apply_order(&kinds) {
        // The very objects that the base was compared with: what somebody writes from now on fails on its version.
        let (Some(object), Some(live)) = (content.objects.get(position), observed.objects.get(position)) else {
            return Err(PortError::Unavailable("the live objects were not read in this pass".to_owned()));
        };
        let object = match filled(object, &staged) {
            Ok(object) => object,
            Err(message) => return Ok(Prepared::Refused(message)),
        };
        match attempt(context, &identity, content, object, live.clone()).await {
            Ok(one) => prepared.push(one),
            Err(error) if refused(&error) => return Ok(Prepared::Refused(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    let mut jobs = Vec::new();
    for manifest in before::contingency_jobs(&observed.request) {
        let tried = context.port.create(&identity, interlock_core::change::FIELD_MANAGER, &manifest, DryRun::Yes).await;
        let dry_run = match tried {
            Ok(stored) => stored,
            Err(PortError::AlreadyExists(_)) => manifest.clone(),
            Err(error) if refused(&error) => return Ok(Prepared::Refused(format!("contingency job: {error}"))),
            Err(error) => return Err(error),
        };
        jobs.push(before::PreparedJob { manifest, dry_run });
    }
    let mut plan = BeforeState::plan(&observed.request.uid, &start.change_digest.to_string(), &prepared, jobs);
    if let Some(why) = outside_template(observed, start, &plan) {
        return Ok(Prepared::Refused(why));
    }
    if let Err(why) = gradual::plan_into(&mut plan, &observed.plan, &observed.request) {
        return Ok(Prepared::Refused(why));
    }
    let (digest, chunks) = store::save(context, &observed.request, &plan).await?;
    let live = plan
        .entries
        .iter()
        .map(|entry| prepared.iter().find(|p| p.object.id.same_object(&entry.id)).and_then(|p| p.live.clone()))
        .collect();
    let run = RunRecord {
        epoch: 1,
        change_digest: start.change_digest.to_string(),
        votes: start.votes.clone(),
        template: start.template.clone(),
        executor,
        before_digest: digest,
        before_chunks: chunks,
        started_at: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        seal: String::new(),
        direction: RunDirection::Forward,
        cause: None,
        step_started_at: None,
        objects: plan.journal(),
    };
    let run = sealed::seal_run(&context.keys.seal, &observed.request.uid, run).map_err(internal)?;
    Ok(Prepared::Ready(Box::new(Ready { run, before: plan, live })))
}

/// Why the change as the server would make it is no standard change after all. What was shown until now was worked out
/// without the server: what a whole manifest removes by leaving it out, and what admission adds, shows only in the dry run.
fn outside_template(observed: &Observed, start: &Start, plan: &BeforeState) -> Option<String> {
    start.template.as_ref()?;
    let standard = observed.policy.as_ref().and_then(|p| p.spec.types.standard.as_ref());
    let templates = standard.map_or(&[][..], |s| &s.templates);
    standard::matching(templates, &plan.effects())
        .err()
        .map(|why| format!("not a standard change once the server has seen it ({why}); propose it as type Normal"))
}

/// Whether only a person can help.
fn refused(error: &PortError) -> bool {
    matches!(
        error,
        PortError::Forbidden(_)
            | PortError::Invalid(_)
            | PortError::UnknownKind { .. }
            | PortError::NotFound(_)
            | PortError::AlreadyExists(_)
    )
}

/// The object with the values of its staged Secret.
fn filled(object: &ContentObject, staged: &[Option<Value>]) -> Result<ContentObject, String> {
    let Some(index) = object.staged else { return Ok(object.clone()) };
    let Some(secret) = staged.get(index).and_then(Option::as_ref) else {
        return Err(format!("{}: its staged Secret is gone or was exchanged; propose the change again", object.id));
    };
    let mut object = object.clone();
    if let Some(map) = object.manifest.as_object_mut() {
        map.insert("data".to_owned(), secret.get("data").cloned().unwrap_or_else(|| json!({})));
    }
    Ok(object)
}

async fn attempt<P: Port>(
    context: &Context<P>,
    identity: &Identity,
    content: &interlock_core::change::Content,
    object: ContentObject,
    live: Option<Value>,
) -> Result<before::Prepared, PortError> {
    let port = &context.port;
    let manager = interlock_core::change::FIELD_MANAGER;
    let (live, dry_run) = match (object.intent, live) {
        (Intent::Delete, None) => (None, None),
        (Intent::Delete, Some(live)) => {
            port.delete(identity, &object.id, &Precondition::of(&live), false, DryRun::Yes)
                .await
                .map_err(|e| named(&object.id, &e))?;
            (Some(live), None)
        }
        (Intent::Apply | Intent::Patch, None) => {
            match port.create(identity, manager, &object.manifest, DryRun::Yes).await {
                Ok(stored) => (None, Some(stored)),
                Err(PortError::UnknownKind { .. } | PortError::NotFound(_)) if made_by_change(content, &object) => {
                    let mut expected = object.manifest.clone();
                    strip_server_fields(&mut expected);
                    (None, Some(expected))
                }
                Err(error) => return Err(named(&object.id, &error)),
            }
        }
        (Intent::Patch, Some(live)) => {
            let merged = apply_partial(&object.id.group_kind(), Some(&live), &object.manifest);
            let stored =
                port.replace(identity, manager, &merged, DryRun::Yes).await.map_err(|e| named(&object.id, &e))?;
            (Some(live), Some(stored))
        }
        (Intent::Apply, Some(live)) => {
            let live = take_over(context, identity, &object.id, live).await.map_err(|e| named(&object.id, &e))?;
            let stored = port
                .apply(identity, manager, &object.manifest, &Precondition::of(&live), DryRun::Yes)
                .await
                .map_err(|e| hinted(named(&object.id, &e)))?;
            (Some(live), Some(stored))
        }
    };
    Ok(before::Prepared { object, live, dry_run })
}

/// Whether the namespace or the kind of the object is made by the same change.
fn made_by_change(content: &interlock_core::change::Content, object: &ContentObject) -> bool {
    let namespace = content.objects.iter().any(|other| {
        other.id.kind == "Namespace"
            && other.id.group.is_empty()
            && Some(&other.id.name) == object.id.namespace.as_ref()
    });
    namespace || observe::defines(content, object)
}

/// Makes fields that an earlier tool applied Interlock's, so that leaving one out removes it. Only field ownership is
/// written; values stay as they are, and going back does not need it undone.
async fn take_over<P: Port>(
    context: &Context<P>,
    identity: &Identity,
    id: &ObjectId,
    live: Value,
) -> Result<Value, PortError> {
    let Some(entries) = managers::migrated(&live) else { return Ok(live) };
    let found = Precondition::of(&live);
    let patch = json!({"metadata": {
        "managedFields": entries,
        "uid": found.uid,
        "resourceVersion": found.resource_version,
    }});
    context.port.merge_patch(identity, interlock_core::change::FIELD_MANAGER, id, &patch).await
}

/// A manifest that states only a part is refused for what it seems to remove.
fn hinted(error: PortError) -> PortError {
    match error {
        PortError::Invalid(message) => PortError::Invalid(format!(
            "{message}. A manifest is the whole object, fields that it leaves out are removed; if it is meant as a part, annotate it {}: Patch",
            interlock_core::change::OPERATION_ANNOTATION
        )),
        other => other,
    }
}

fn named(id: &ObjectId, error: &PortError) -> PortError {
    let text = |message: &String| if message.contains(&id.name) { message.clone() } else { format!("{id}: {message}") };
    match error {
        PortError::NotFound(m) => PortError::NotFound(text(m)),
        PortError::AlreadyExists(m) => PortError::AlreadyExists(text(m)),
        PortError::Conflict(m) => PortError::Conflict(text(m)),
        PortError::Forbidden(m) => PortError::Forbidden(text(m)),
        PortError::Invalid(m) => PortError::Invalid(text(m)),
        PortError::Unavailable(m) => PortError::Unavailable(text(m)),
        PortError::UnknownKind { .. } => error.clone(),
    }
}
