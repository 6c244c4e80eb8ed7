//! Restores that changes carry out: what they read is kept as long as the change is open, and a Job of one is made only once
//! the repository has let the change in, so that nothing is removed beside it.

use interlock_crds::{RunDirection, StepState};
use jiff::Timestamp;

use super::{
    content::Content,
    facts::{BaseState, ChangeFacts, EffectKind, RequestFacts},
};
use crate::{
    backup::{
        repository::{Claim, Use},
        restore::Reads,
    },
    object::ObjectId,
};

/// A restore of a change that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRestore {
    /// What it reads.
    pub reads: Reads,
    /// What the change wants of the repository; none before the Job's turn has come, and once the Job has ended.
    pub claim: Option<Claim>,
}

/// The restores of a change.
pub fn open(request: &RequestFacts, content: &Content) -> Vec<OpenRestore> {
    let restores = content.objects.iter().filter_map(|job| {
        let reads = job.restores()?;
        let claim = wanted_since(request, &job.id).map(|since| Claim {
            uid: request.uid.clone(),
            holder: holder(&request.name),
            usage: Use::Restore,
            since,
        });
        Some(OpenRestore { reads, claim })
    });
    restores.collect()
}

/// Whether a change does nothing but restore: it makes Jobs that read repositories of its own System, and claims for them.
pub fn only_restores(facts: &ChangeFacts<'_>) -> bool {
    let (Ok(content), Some(system), BaseState::Read(base)) = (facts.content, facts.system, facts.base) else {
        return false;
    };
    let makes = |id: &ObjectId| base.effects.iter().any(|effect| effect.id == *id && effect.kind == EffectKind::Create);
    let is_own = |reads: &Reads| system.spec.namespaces.iter().any(|own| own == reads.namespace());
    let mut restores = 0;
    content.jobs.is_empty()
        && content.objects.iter().all(|object| {
            let is_restore = object.id.group == "batch" && object.restores().as_ref().is_some_and(is_own);
            restores += usize::from(is_restore);
            let is_claim = (object.id.group.as_str(), object.id.kind.as_str()) == ("", "PersistentVolumeClaim");
            makes(&object.id) && (is_restore || is_claim)
        })
        && restores > 0
}

/// How a change is called among the holders of a repository.
fn holder(name: &str) -> String {
    format!("{HOLDER_KIND}/{name}")
}

/// The kind before the name of a change among the holders of a repository.
pub const HOLDER_KIND: &str = "ChangeRequest";

/// Since when a change wants its repository for this Job. One whose turn has not come wants nothing: what comes before it may
/// be stopped for as long as a person likes.
fn wanted_since(request: &RequestFacts, job: &ObjectId) -> Option<Timestamp> {
    let run = request.run().filter(|run| run.direction == RunDirection::Forward)?;
    let is_job = |kind: &str, namespace: Option<&str>, name: &str| {
        (kind, namespace, name) == (job.kind.as_str(), job.namespace.as_deref(), job.name.as_str())
    };
    let step = run.objects.iter().find(|step| is_job(&step.kind, step.namespace.as_deref(), &step.name))?;
    let reads = matches!(step.state, StepState::Intended | StepState::Written);
    reads.then_some(run.started_at.0)
}

/// Why a change may not make the Job of a restore that reads the repository of another System, or of none.
pub fn foreign(reads: &Reads) -> String {
    format!(
        "BackupRepository {} belongs to another System, or to none, so it lets nothing of this change in; give the change up with `interlock abort`, and restore within the System of the repository",
        reads.repository
    )
}

/// Why the change with this uid may not make the Job of a restore yet. `holders` hold the repository; none if there is no
/// such repository.
pub fn kept_out(change: &str, reads: &Reads, holders: Option<&[Claim]>) -> Option<String> {
    let repository = &reads.repository;
    let Some(holders) = holders else {
        return Some(format!(
            "BackupRepository {repository}, which it reads, does not exist; make it again, or give the change up with `interlock abort`"
        ));
    };
    if holders.iter().any(|claim| claim.uid == change) {
        return None;
    }
    Some(match holders.iter().find(|claim| claim.usage == Use::Exclusive) {
        Some(alone) => format!(
            "{} holds BackupRepository {repository} alone since {}; it begins when that has ended",
            alone.holder, alone.since
        ),
        None => format!(
            "BackupRepository {repository} has not let it in yet; its status says who is there and whether it can be used"
        ),
    })
}
