//! The before-state of a change and the plan made from it: everything that carrying out and going back need.
//!
//! It is stored in Secrets of Interlock's namespace before the first write, read back, and its digest is sealed into the
//! run record. From then on neither the request nor the live cluster decides what may be written, only this.

use interlock_crds::{ObjectStatus, OperationKind, RolloutPlanSpec, StepState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    content::{ContentObject, Intent},
    facts::{Effect, EffectKind},
};
use crate::object::{Change, Digest, ObjectId, apply_order, delete_order, diff, strip_server_fields};

/// Everything that a run needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeforeState {
    /// Version of this shape.
    pub format: u32,
    /// Uid of the ChangeRequest.
    pub change_uid: String,
    /// The digest that was voted on.
    pub change_digest: String,
    /// One entry an object, in the order in which they are carried out; contingency Jobs last.
    pub entries: Vec<Entry>,
    /// The RolloutPlan as the votes were bound to it, if the change is carried out gradually.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_plan: Option<RolloutPlanSpec>,
}

/// One object of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Which object.
    pub id: ObjectId,
    /// What is done to it.
    pub operation: OperationKind,
    /// The object before, without what the server makes.
    pub before: Option<Value>,
    /// The object after, as the server's dry run showed it, without what the server makes.
    pub expected: Option<Value>,
    /// What is applied or created.
    pub manifest: Option<Value>,
    /// Whether the manifest is only a part, so that nothing that it leaves out is removed.
    #[serde(default)]
    pub patch: bool,
    /// The difference between before and after.
    pub changes: Vec<Change>,
    /// Whether the Rollout of the change writes it and puts it back, not the run itself.
    #[serde(default)]
    pub gradual: bool,
}

impl Entry {
    /// Whether it is the Rollout that carries the gradual entries out.
    pub fn is_rollout(&self) -> bool {
        self.id.group == interlock_crds::GROUP && self.id.kind == "Rollout"
    }
}

/// What was read and tried of one object of the content.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The object; its manifest with the values of a staged Secret filled in.
    pub object: ContentObject,
    /// The live object.
    pub live: Option<Value>,
    /// What the dry run would have stored; none for deletions.
    pub dry_run: Option<Value>,
}

/// A contingency Job that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedJob {
    /// The Job as it is created.
    pub manifest: Value,
    /// What the dry run would have stored: the manifest with the server's defaults.
    pub dry_run: Value,
}

impl BeforeState {
    /// The plan of a change. Objects that are as wanted already are left out.
    pub fn plan(change_uid: &str, change_digest: &str, prepared: &[Prepared], jobs: Vec<PreparedJob>) -> Self {
        let (applies, deletes): (Vec<_>, Vec<_>) = prepared.iter().partition(|p| p.object.intent != Intent::Delete);
        let kinds = |list: &[&Prepared]| list.iter().map(|p| p.object.id.group_kind()).collect::<Vec<_>>();
        let ordered = apply_order(&kinds(&applies))
            .into_iter()
            .filter_map(|i| applies.get(i))
            .chain(delete_order(&kinds(&deletes)).into_iter().filter_map(|i| deletes.get(i)));
        let mut entries: Vec<_> = ordered.filter_map(|p| entry(p)).collect();
        entries.extend(jobs.into_iter().filter_map(job));
        Self {
            format: 1,
            change_uid: change_uid.to_owned(),
            change_digest: change_digest.to_owned(),
            entries,
            rollout_plan: None,
        }
    }

    /// What the plan does to each object, contingency Jobs and the Rollout aside.
    pub fn effects(&self) -> Vec<Effect> {
        let effect = |entry: &Entry| {
            let kind = match entry.operation {
                OperationKind::Create => EffectKind::Create,
                OperationKind::Update => EffectKind::Update(entry.changes.clone()),
                OperationKind::Delete => EffectKind::Delete,
                OperationKind::RunJob => return None,
            };
            Some(Effect { id: entry.id.clone(), kind })
        };
        self.entries.iter().filter(|entry| !entry.is_rollout()).filter_map(effect).collect()
    }

    /// The bytes that are stored, and their digest.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, Digest), serde_json::Error> {
        let bytes = serde_json::to_vec(self)?;
        let digest = Digest::of_bytes(&bytes);
        Ok((bytes, digest))
    }

    /// Reads stored bytes back; fails unless they have the digest.
    pub fn from_bytes(bytes: &[u8], digest: &str) -> Result<Self, String> {
        let found = Digest::of_bytes(bytes).to_string();
        if found != digest {
            return Err(format!("the stored before-state has digest {found}, the run was sealed with {digest}"));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("the stored before-state cannot be read: {error}"))
    }

    /// The journal with which a run begins.
    pub fn journal(&self) -> Vec<ObjectStatus> {
        self.entries
            .iter()
            .map(|entry| ObjectStatus {
                api_version: entry.id.api_version(),
                kind: entry.id.kind.clone(),
                namespace: entry.id.namespace.clone(),
                name: entry.id.name.clone(),
                operation: entry.operation,
                state: StepState::Waiting,
                uid: String::new(),
                resource_version: String::new(),
                message: String::new(),
            })
            .collect()
    }

    /// The entry of an object, whatever its version, with its position.
    pub fn find(&self, id: &ObjectId) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.id.same_object(id))
    }
}

fn stripped(object: Option<&Value>) -> Option<Value> {
    object.map(|value| {
        let mut value = value.clone();
        strip_server_fields(&mut value);
        value
    })
}

fn entry(prepared: &Prepared) -> Option<Entry> {
    let id = prepared.object.id.clone();
    let before = stripped(prepared.live.as_ref());
    let expected = stripped(prepared.dry_run.as_ref());
    let kind = id.group_kind();
    let (operation, changes) = match (prepared.object.intent, &before) {
        (Intent::Delete, None) => return None,
        (Intent::Delete, Some(_)) => (OperationKind::Delete, Vec::new()),
        (Intent::Apply | Intent::Patch, None) => (OperationKind::Create, Vec::new()),
        (Intent::Apply | Intent::Patch, Some(before)) => {
            let changes = diff(&kind, before, expected.as_ref().unwrap_or(&Value::Null));
            if changes.is_empty() {
                return None;
            }
            (OperationKind::Update, changes)
        }
    };
    let manifest = (prepared.object.intent != Intent::Delete).then(|| prepared.object.manifest.clone());
    let patch = prepared.object.intent == Intent::Patch;
    Some(Entry { id, operation, before, expected, manifest, patch, changes, gradual: false })
}

fn job(job: PreparedJob) -> Option<Entry> {
    let PreparedJob { manifest, dry_run } = job;
    let id = ObjectId::of(&manifest).ok()?;
    Some(Entry {
        id,
        operation: OperationKind::RunJob,
        before: None,
        expected: stripped(Some(&dry_run)),
        manifest: Some(manifest),
        patch: false,
        changes: Vec::new(),
        gradual: false,
    })
}

/// The contingency Jobs of a request as objects, with names that are the same at every try.
pub fn contingency_jobs(request: &super::facts::RequestFacts) -> Vec<Value> {
    let uid: String = request.uid.chars().take(8).collect();
    request
        .spec
        .contingency
        .jobs
        .iter()
        .map(|job| {
            json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {
                    "name": format!("{}-{uid}", job.name),
                    "namespace": request.namespace,
                    "labels": {"interlock.dev/change-uid": request.uid},
                },
                "spec": job.spec,
            })
        })
        .collect()
}

/// What the change would do to one object, given what is there.
pub fn effect(object: &ContentObject, live: Option<&Value>, expected: Option<&Value>) -> Effect {
    let kind = match (object.intent, live) {
        (Intent::Delete, None) => EffectKind::AlreadyGone,
        (Intent::Delete, Some(_)) => EffectKind::Delete,
        (Intent::Apply | Intent::Patch, None) => EffectKind::Create,
        (Intent::Apply | Intent::Patch, Some(live)) => {
            let before = stripped(Some(live)).unwrap_or(Value::Null);
            let after = stripped(expected).unwrap_or(Value::Null);
            EffectKind::Update(diff(&object.id.group_kind(), &before, &after))
        }
    };
    Effect { id: object.id.clone(), kind }
}
