//! What Interlock seals, and how it recognises its own seals.
//!
//! Votes, evidence and actions are sealed by the mutating webhook; bases, runs and ends by the controller. An object
//! that was written while the webhook was away, or a status that somebody forged, has no valid seal and never counts.

use interlock_crds::{
    Action, Approval, BaseRecord, ChangePhase, ChangeRequestStatus, Evidence, FinishRecord, Recorded, RunRecord,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde_json::{Value, json};

use super::facts::{Command, EvidenceFacts, SealedFacts, SealedRecords, Vote};
use crate::mutants::{self, Mutant};
use crate::seal::{Domain, KeyRing, SealError, SealKey};

/// What the webhook records about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording<'a> {
    /// Authenticated user.
    pub user: &'a crate::admission::User,
    /// When.
    pub time: Timestamp,
    /// Uid of the admission request.
    pub request_uid: &'a str,
}

/// The `recorded` field for an object of `domain` with this `spec` (as the user wrote it) in `namespace`.
pub fn record(
    key: &SealKey,
    domain: Domain,
    namespace: &str,
    spec: &Value,
    recording: &Recording<'_>,
) -> Result<Recorded, SealError> {
    let mut recorded = Recorded {
        user: recording.user.name.clone(),
        groups: recording.user.groups.clone(),
        claims: recording
            .user
            .claims
            .iter()
            .map(|(key, values)| interlock_crds::Claim { key: key.clone(), values: values.clone() })
            .collect(),
        // Whole seconds: the API server stores no finer times.
        time: Time(Timestamp::from_second(recording.time.as_second()).unwrap_or(recording.time)),
        request_uid: recording.request_uid.to_owned(),
        key_id: key.id().to_owned(),
        seal: String::new(),
    };
    recorded.seal = key.seal(domain, &payload(namespace, spec, &recorded))?;
    Ok(recorded)
}

/// What is sealed: where the object lies, what the user wrote, and what the webhook saw.
fn payload(namespace: &str, spec: &Value, recorded: &Recorded) -> Value {
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut() {
        map.remove("recorded");
    }
    let mut recorded = recorded.clone();
    recorded.seal = String::new();
    json!({ "namespace": namespace, "spec": spec, "recorded": recorded })
}

/// The facts of a `recorded` field, if its seal is Interlock's.
pub fn verify(
    keys: &KeyRing,
    domain: Domain,
    namespace: &str,
    spec: &impl Serialize,
    recorded: Option<&Recorded>,
) -> Option<SealedFacts> {
    let recorded = recorded?;
    let spec = serde_json::to_value(spec).ok()?;
    let valid = keys.verify(domain, &payload(namespace, &spec, recorded), &recorded.key_id, &recorded.seal);
    valid.then(|| SealedFacts {
        user: recorded.user.clone(),
        groups: recorded.groups.clone(),
        claims: recorded.claims.iter().map(|c| (c.key.clone(), c.values.clone())).collect(),
        time: recorded.time.0,
        request_uid: recorded.request_uid.clone(),
    })
}

fn created(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0)
}

/// The facts of an Approval.
pub fn vote(keys: &KeyRing, approval: &Approval) -> Vote {
    let namespace = approval.metadata.namespace.as_deref().unwrap_or_default();
    let spec = &approval.spec;
    Vote {
        name: approval.metadata.name.clone().unwrap_or_default(),
        uid: approval.metadata.uid.clone().unwrap_or_default(),
        approver: spec.approver.clone(),
        decision: spec.decision,
        digest: spec.digest.clone(),
        change_uid: spec.change_request_uid.clone(),
        created: created(&approval.metadata),
        sealed: verify(keys, Domain::Approval, namespace, spec, spec.recorded.as_ref()),
    }
}

/// The facts of an Evidence object.
pub fn evidence(keys: &KeyRing, evidence: &Evidence) -> EvidenceFacts {
    let namespace = evidence.metadata.namespace.as_deref().unwrap_or_default();
    let spec = &evidence.spec;
    EvidenceFacts {
        name: evidence.metadata.name.clone().unwrap_or_default(),
        kind: spec.kind,
        content_digest: spec.subject.content_digest.clone(),
        artifact_digest: spec.subject.artifact_digest.clone(),
        result: spec.result,
        issuer: spec.issuer.clone(),
        created: created(&evidence.metadata),
        sealed: verify(keys, Domain::Evidence, namespace, spec, spec.recorded.as_ref()),
    }
}

/// The facts of an Action.
pub fn command(keys: &KeyRing, action: &Action) -> Command {
    let namespace = action.metadata.namespace.as_deref().unwrap_or_default();
    let spec = &action.spec;
    Command {
        name: action.metadata.name.clone().unwrap_or_default(),
        target_uid: spec.target.uid.clone(),
        verb: spec.verb,
        actor: spec.actor.clone(),
        reason: spec.reason.clone(),
        created: created(&action.metadata),
        sealed: verify(keys, Domain::Action, namespace, spec, spec.recorded.as_ref()),
    }
}

/// Which records in the status of the request `uid` are Interlock's own.
pub fn records(keys: &KeyRing, uid: &str, status: &ChangeRequestStatus) -> SealedRecords {
    SealedRecords {
        base: status.base.as_ref().is_some_and(|base| is_base(keys, uid, base)),
        run: status.run.as_ref().is_some_and(|run| is_run(keys, uid, run)),
        finish: status.finished.as_ref().is_some_and(|finish| is_finish(keys, uid, finish)),
    }
}

/// The same where an earlier status of the same request was looked at already: a record that still says the same under the
/// same seal is not checked again.
pub fn records_since(
    keys: &KeyRing,
    uid: &str,
    (before, found): (&ChangeRequestStatus, SealedRecords),
    status: &ChangeRequestStatus,
) -> SealedRecords {
    let same_base = before
        .base
        .as_ref()
        .zip(status.base.as_ref())
        .is_some_and(|(a, b)| a.seal == b.seal && base_payload(uid, a) == base_payload(uid, b));
    let same_run = before
        .run
        .as_ref()
        .zip(status.run.as_ref())
        .is_some_and(|(a, b)| a.seal == b.seal && run_payload(uid, a) == run_payload(uid, b));
    let same_finish = before
        .finished
        .as_ref()
        .zip(status.finished.as_ref())
        .is_some_and(|(a, b)| a.seal == b.seal && finish_payload(uid, a) == finish_payload(uid, b));
    let is_finish = |finish: &FinishRecord| is_finish(keys, uid, finish);
    SealedRecords {
        base: if same_base { found.base } else { status.base.as_ref().is_some_and(|base| is_base(keys, uid, base)) },
        run: if same_run { found.run } else { status.run.as_ref().is_some_and(|run| is_run(keys, uid, run)) },
        finish: if same_finish { found.finish } else { status.finished.as_ref().is_some_and(is_finish) },
    }
}

fn base_payload(uid: &str, base: &BaseRecord) -> Value {
    json!({
        "uid": uid,
        "digest": base.digest,
        "generation": base.generation,
        "rebases": base.rebases,
        "secretsMac": base.secrets_mac,
    })
}

/// Seals a pinned base of the request `uid`.
pub fn seal_base(key: &SealKey, uid: &str, mut base: BaseRecord) -> Result<BaseRecord, SealError> {
    base.seal = key.seal(Domain::Base, &base_payload(uid, &base))?;
    Ok(base)
}

/// Whether Interlock pinned this base for the request `uid`.
pub fn is_base(keys: &KeyRing, uid: &str, base: &BaseRecord) -> bool {
    keys.verify_any(Domain::Base, &base_payload(uid, base), &base.seal)
}

/// What of a run never changes. Direction and journal do, and prove nothing by themselves: a forged journal can only name
/// objects of the sealed before-state, and every write is checked against that.
fn run_payload(uid: &str, run: &RunRecord) -> Value {
    json!({
        "uid": uid,
        "changeDigest": run.change_digest,
        "votes": run.votes,
        "template": run.template,
        "executor": run.executor,
        "beforeDigest": run.before_digest,
        "beforeChunks": run.before_chunks,
        "startedAt": run.started_at,
    })
}

/// Seals the start of a run of the request `uid`.
pub fn seal_run(key: &SealKey, uid: &str, mut run: RunRecord) -> Result<RunRecord, SealError> {
    run.seal = key.seal(Domain::Run, &run_payload(uid, &run))?;
    Ok(run)
}

/// Whether Interlock started this run of the request `uid`.
pub fn is_run(keys: &KeyRing, uid: &str, run: &RunRecord) -> bool {
    mutants::is(Mutant::TrustStatus) || keys.verify_any(Domain::Run, &run_payload(uid, run), &run.seal)
}

fn finish_payload(uid: &str, finish: &FinishRecord) -> Value {
    json!({ "uid": uid, "phase": finish.phase, "at": finish.at })
}

/// Seals the end of the request `uid`.
pub fn seal_finish(
    key: &SealKey,
    uid: &str,
    phase: ChangePhase,
    at: Timestamp,
    message: String,
) -> Result<FinishRecord, SealError> {
    let at = Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    let mut finish = FinishRecord { phase, at, message, seal: String::new() };
    finish.seal = key.seal(Domain::Finish, &finish_payload(uid, &finish))?;
    Ok(finish)
}

/// Whether Interlock ended the request `uid` so.
pub fn is_finish(keys: &KeyRing, uid: &str, finish: &FinishRecord) -> bool {
    finish.phase.is_terminal() && keys.verify_any(Domain::Finish, &finish_payload(uid, finish), &finish.seal)
}
