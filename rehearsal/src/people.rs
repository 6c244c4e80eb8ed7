//! People: what they do, and the write that follows from it and from what they see at that moment.

use interlock_core::{
    admission::User,
    object::{GroupKind, ObjectId},
    rollout::sign_off,
};
use interlock_crds::{API_VERSION, ApprovalDecision, ChangePhase, GROUP, Rollout, VERSION, Verb};
use interlock_sim::api::{Api, Write, meta};
use serde_json::{Value, json};

use crate::metrics::Source;

/// A person as the API server authenticates them.
pub fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().chain(&["system:authenticated"]).map(|group| (*group).to_owned()).collect();
    User { name: name.to_owned(), groups, claims: Vec::new() }
}

/// Something that goes wrong at a stated moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Disturbance {
    /// The controller that leads is killed.
    Crash,
    /// From now on the analysis of this name measures this.
    Measure(String, Source),
}

/// Something that somebody does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Creates an object, a ChangeRequest mostly.
    Create(User, Value),
    /// Applies an object as kubectl does.
    Apply(User, Value),
    /// Votes on a change as it stands at that moment.
    Vote(User, Change, ApprovalDecision),
    /// States that the change's content, as it stands at that moment, passed its test or did not.
    Evidence(User, Change, bool),
    /// Makes a stored vote on a request of this name once more.
    CopyVote(User, Change),
    /// Writes the status of a change straight into storage, past every webhook: it is in this phase, and runs.
    Forge(Change, ChangePhase),
    /// Signs a Rollout of the change as it stands at that moment, or refuses to: the wave of this name, or whatever waits.
    Sign(User, Change, Option<String>, ApprovalDecision),
    /// Takes their own votes on a change back.
    WithdrawVote(User, Change),
    /// Commands something about a change.
    Command(User, Change, Verb, String),
    /// Commands something about the Rollout of a change.
    CommandRelease(User, Change, Verb, String),
    /// Merges a patch into an object.
    Patch(User, ObjectId, Value),
    /// Deletes an object.
    Delete(User, ObjectId),
    /// Something goes wrong.
    Fault(Disturbance),
}

/// A change by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Change {
    /// Its ObjectId.
    pub fn id(&self) -> ObjectId {
        own("ChangeRequest", &self.namespace, &self.name)
    }
}

/// The ObjectId of one of Interlock's kinds; the namespace is empty for those without.
pub fn own(kind: &str, namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace).filter(|n| !n.is_empty()).map(ToOwned::to_owned),
        name: name.to_owned(),
    }
}

fn command(user: &User, target: &Value, verb: Verb, reason: &str) -> Write {
    let action = json!({
        "apiVersion": API_VERSION, "kind": "Action",
        "metadata": {"generateName": format!("{}-", meta::name(target)), "namespace": meta::namespace(target)},
        "spec": {
            "target": {"kind": target.get("kind"), "name": meta::name(target), "uid": meta::uid(target)},
            "verb": verb, "actor": user.name, "reason": reason,
        },
    });
    Write::create(user, "interlock", &action)
}

impl Act {
    /// Who does what, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Create(user, object) => format!("{} creates {}", user.name, named(object)),
            Self::Apply(user, object) => format!("{} applies {}", user.name, named(object)),
            Self::Vote(user, change, ApprovalDecision::Approve) => format!("{} approves {change}", user.name),
            Self::Vote(user, change, ApprovalDecision::Reject) => format!("{} rejects {change}", user.name),
            Self::Evidence(user, change, true) => format!("{} reports that {change} passed its test", user.name),
            Self::Evidence(user, change, false) => format!("{} reports that {change} failed its test", user.name),
            Self::CopyVote(user, change) => format!("{} copies a vote on {change}", user.name),
            Self::Forge(change, phase) => format!("somebody forges the status of {change}: {phase:?}"),
            Self::Sign(user, change, wave, decision) => {
                let signs = if *decision == ApprovalDecision::Approve { "signs" } else { "refuses to sign" };
                let wave = wave.as_ref().map(|wave| format!("wave {wave} of ")).unwrap_or_default();
                format!("{} {signs} {wave}{change}", user.name)
            }
            Self::WithdrawVote(user, change) => format!("{} withdraws their vote on {change}", user.name),
            Self::Command(user, change, verb, _) => format!("{} commands {verb:?} of {change}", user.name),
            Self::CommandRelease(user, change, verb, _) => {
                format!("{} commands {verb:?} of the Rollout of {change}", user.name)
            }
            Self::Patch(user, id, _) => format!("{} edits {id}", user.name),
            Self::Delete(user, id) => format!("{} deletes {id}", user.name),
            Self::Fault(fault) => format!("{fault:?}"),
        }
    }

    /// The write that follows from what is to be seen now.
    pub fn write(&self, api: &Api) -> Result<Write, String> {
        const KUBECTL: &str = "kubectl-client-side-apply";
        Ok(match self {
            Self::Create(user, object) => Write::create(user, "kubectl-create", &with_uids(api, object)),
            Self::Apply(user, object) => Write::apply(user, "kubectl", object),
            Self::Vote(user, change, decision) => {
                let request = request(api, change)?;
                let digest = request.pointer("/status/changeDigest").and_then(Value::as_str);
                let digest = digest.ok_or_else(|| format!("{change} has no digest to vote on yet"))?;
                let vote = ballot(change, &request, digest, user, *decision);
                Write::create(user, "interlock", &vote)
            }
            Self::Sign(user, change, wave, decision) => {
                let request = request(api, change)?;
                let digest = awaited(api, change, meta::uid(&request), wave.as_deref())?;
                Write::create(user, "interlock", &ballot(change, &request, &digest, user, *decision))
            }
            Self::WithdrawVote(user, change) => {
                let uid = meta::uid(&*request(api, change)?).to_owned();
                let votes = api.list_arc(&GroupKind::new(GROUP, "Approval"), Some(&change.namespace));
                let text = |vote: &Value, field: &str| {
                    vote.get("spec").and_then(|spec| spec.get(field)).and_then(Value::as_str).map(ToOwned::to_owned)
                };
                let mine = votes.iter().find(|vote| {
                    text(vote, "changeRequestUid").as_deref() == Some(&uid)
                        && text(vote, "approver").as_deref() == Some(&user.name)
                });
                let mine = mine.ok_or_else(|| format!("{} has no vote on {change}", user.name))?;
                Write::delete(user, &own("Approval", &change.namespace, meta::name(mine)))
            }
            Self::Command(user, change, verb, reason) => command(user, &*request(api, change)?, *verb, reason),
            Self::CommandRelease(user, change, verb, reason) => command(user, &*rollout(api, change)?, *verb, reason),
            Self::Patch(user, id, patch) => Write::merge_patch(user, KUBECTL, id, patch),
            Self::Delete(user, id) => Write::delete(user, id),
            Self::Evidence(user, change, passed) => {
                let digest = request(api, change)?.pointer("/status/contentDigest").cloned();
                let digest = digest.ok_or_else(|| format!("{change} has no digest to test yet"))?;
                let evidence = json!({
                    "apiVersion": API_VERSION, "kind": "Evidence",
                    "metadata": {"generateName": format!("{}-", change.name), "namespace": change.namespace},
                    "spec": {
                        "kind": "TestReport", "subject": {"contentDigest": digest}, "issuer": user.name,
                        "result": if *passed { "Passed" } else { "Failed" },
                    },
                });
                Write::create(user, "ci", &evidence)
            }
            Self::CopyVote(user, change) => {
                let votes = api.list_arc(&GroupKind::new(GROUP, "Approval"), Some(&change.namespace));
                let of =
                    |vote: &Value| vote.pointer("/spec/changeRequest").and_then(Value::as_str) == Some(&change.name);
                let vote = votes.iter().find(|vote| of(vote)).ok_or_else(|| format!("{change} has no votes"))?;
                let metadata = json!({"generateName": "copy-", "namespace": change.namespace});
                let copy = json!({"apiVersion": API_VERSION, "kind": "Approval", "metadata": metadata, "spec": vote.get("spec")});
                Write::create(user, "kubectl-create", &copy)
            }
            Self::Forge(change, phase) => {
                let mut forged = (*request(api, change)?).clone();
                // Whoever can write past every webhook can also erase that a change ran: docs/threat-model.md.
                let erases = if phase.is_terminal() { "/status/finished" } else { "/status/run" };
                if forged.pointer(erases).is_some() {
                    return Err(format!("{change} has started or ended"));
                }
                forge(api, &mut forged, *phase);
                Write::status(&user("mallory", &["system:masters"]), "curl", &forged)
            }
            Self::Fault(_) => return Err("a fault is no write".to_owned()),
        })
    }
}

fn ballot(change: &Change, request: &Value, digest: &str, user: &User, decision: ApprovalDecision) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Approval",
        "metadata": {"generateName": format!("{}-", change.name), "namespace": change.namespace},
        "spec": {
            "changeRequest": change.name, "changeRequestUid": meta::uid(request), "digest": digest,
            "approver": user.name, "decision": decision, "reason": "looked at it",
        },
    })
}

/// The digest that a signature on what waits for one, or on a wave of this name, must have now.
fn awaited(api: &Api, change: &Change, uid: &str, wave: Option<&str>) -> Result<String, String> {
    let what = wave.map(|wave| format!("wave {wave}"));
    let rollouts = api.list_arc(&GroupKind::new(GROUP, "Rollout"), Some(&change.namespace));
    let rollouts = rollouts.iter().filter_map(|rollout| serde_json::from_value::<Rollout>((**rollout).clone()).ok());
    let of_change = rollouts.filter(|rollout| rollout.spec.change_request.uid == uid);
    let mut digests = of_change.flat_map(|rollout| {
        let status = rollout.status.clone().unwrap_or_default();
        let uid = rollout.metadata.uid.clone().unwrap_or_default();
        let awaited = sign_off::awaited(&rollout.spec, &status, &uid);
        awaited
            .into_iter()
            .filter(|one| what.as_ref().is_none_or(|what| one.what == *what))
            .map(|one| one.digest)
            .collect::<Vec<_>>()
    });
    digests.next().ok_or_else(|| {
        format!("{change} waits for no signature{}", what.map(|what| format!(" on {what}")).unwrap_or_default())
    })
}

/// A status as somebody writes it who wants the change to run: with the sealed run of another change, if there is one.
fn forge(api: &Api, request: &mut Value, phase: ChangePhase) {
    let others = api.list_arc(&GroupKind::new(GROUP, "ChangeRequest"), None);
    let mut theirs = others.iter().filter(|other| meta::uid(other) != meta::uid(request));
    let run = theirs.find_map(|other| other.pointer("/status/run")).cloned();
    let now = request.pointer("/metadata/creationTimestamp").cloned().unwrap_or_default();
    let status = &mut request["status"];
    status["phase"] = json!(phase);
    if phase.is_terminal() {
        status["finished"] = json!({"phase": phase, "at": now, "message": "forged", "seal": "forged"});
        return;
    }
    let digest = status.get("changeDigest").cloned().unwrap_or_else(|| json!(format!("sha256:{}", "0".repeat(64))));
    let own = json!({
        "changeDigest": digest, "votes": [], "executor": "", "startedAt": now, "epoch": 1, "beforeDigest": "",
        "beforeChunks": 0, "objects": [], "seal": "forged",
    });
    status["run"] = run.unwrap_or(own);
}

/// A request names staged Secrets; their uids are those they have now.
fn with_uids(api: &Api, object: &Value) -> Value {
    let mut object = object.clone();
    let namespace = meta::namespace(&object).to_owned();
    let references = object.pointer_mut("/spec/content/secretRefs").and_then(Value::as_array_mut);
    for reference in references.into_iter().flatten().filter(|reference| reference.get("uid").is_none()) {
        let name = reference.get("name").and_then(Value::as_str).unwrap_or_default();
        let secret = api.get_arc(&GroupKind::new("", "Secret"), &namespace, name);
        if let (Some(secret), Some(fields)) = (secret, reference.as_object_mut()) {
            fields.insert("uid".to_owned(), json!(meta::uid(&secret)));
        }
    }
    object
}

fn request(api: &Api, change: &Change) -> Result<std::sync::Arc<Value>, String> {
    api.get_arc(&GroupKind::new(GROUP, "ChangeRequest"), &change.namespace, &change.name)
        .ok_or_else(|| format!("there is no ChangeRequest {change}"))
}

/// The Rollout of a change; with waves, the one that makes the others.
fn rollout(api: &Api, change: &Change) -> Result<std::sync::Arc<Value>, String> {
    let request = request(api, change)?;
    let rollouts = api.list_arc(&GroupKind::new(GROUP, "Rollout"), Some(&change.namespace));
    let mut own = rollouts.into_iter().filter(|rollout| {
        rollout.pointer("/spec/changeRequest/uid").and_then(Value::as_str) == Some(meta::uid(&request))
            && rollout.pointer("/spec/partOf").is_none()
    });
    own.next().ok_or_else(|| format!("{change} has no Rollout yet"))
}

fn named(object: &Value) -> String {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    match meta::namespace(object) {
        "" => format!("{kind} {}", meta::name(object)),
        namespace => format!("{kind} {namespace}/{}", meta::name(object)),
    }
}
