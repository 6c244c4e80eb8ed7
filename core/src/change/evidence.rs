//! Matching evidence to what a policy demands.

use std::collections::BTreeSet;

use interlock_crds::{EvidenceRequirement, EvidenceResult, RiskLevel};
use jiff::Timestamp;

use super::{content::Content, facts::EvidenceFacts, votes::authentic};
use crate::people::People;

/// How one requirement stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvidenceState {
    /// Met; until the given instant if it ages.
    Met(Option<Timestamp>),
    /// Not met, and why.
    Missing(String),
    /// The newest statement says that it failed.
    Failed(String),
}

/// Judges one requirement. The newest statement about each subject counts.
pub fn judge(
    requirement: &EvidenceRequirement,
    content: &Content,
    evidence: &[EvidenceFacts],
    people: &People,
    now: Timestamp,
) -> EvidenceState {
    let about_content = newest(requirement, evidence, people, now, |e| {
        e.content_digest.as_deref() == Some(content.digest.to_string().as_str())
    });
    if let Some(found) = about_content {
        return state(requirement, found, now);
    }
    if requirement.accept_artifact
        && let Some(artifacts) = content.artifact_digests()
    {
        return about_artifacts(requirement, &artifacts, evidence, people, now);
    }
    EvidenceState::Missing(format!("no {:?} for this content from an allowed issuer", requirement.kind))
}

fn about_artifacts(
    requirement: &EvidenceRequirement,
    artifacts: &BTreeSet<String>,
    evidence: &[EvidenceFacts],
    people: &People,
    now: Timestamp,
) -> EvidenceState {
    let mut until = None;
    for artifact in artifacts {
        let found =
            newest(requirement, evidence, people, now, |e| e.artifact_digest.as_deref() == Some(artifact.as_str()));
        match found.map(|f| state(requirement, f, now)) {
            None => {
                return EvidenceState::Missing(format!(
                    "no {:?} for image {artifact} from an allowed issuer",
                    requirement.kind
                ));
            }
            Some(EvidenceState::Met(end)) => until = earlier(until, end),
            Some(other) => return other,
        }
    }
    EvidenceState::Met(until)
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn newest<'a>(
    requirement: &EvidenceRequirement,
    evidence: &'a [EvidenceFacts],
    people: &People,
    now: Timestamp,
    about: impl Fn(&EvidenceFacts) -> bool,
) -> Option<&'a EvidenceFacts> {
    evidence
        .iter()
        .filter(|e| e.kind == requirement.kind && about(e) && is_issuer(requirement, e, people, now))
        .max_by_key(|e| (e.created, e.result == EvidenceResult::Failed, e.name.as_str()))
}

fn is_issuer(requirement: &EvidenceRequirement, evidence: &EvidenceFacts, people: &People, now: Timestamp) -> bool {
    let Ok(sealed) = authentic(evidence.sealed.as_ref(), &evidence.issuer, evidence.created, now) else {
        return false;
    };
    let issuers = &requirement.issuers;
    if issuers.users.contains(&evidence.issuer) {
        return true;
    }
    match people.person(&evidence.issuer) {
        Some(person) => {
            let groups = person.effective_groups(&sealed.groups);
            issuers.groups.iter().any(|g| groups.contains(g.as_str()))
        }
        None => issuers.groups.iter().any(|g| sealed.groups.contains(g)),
    }
}

fn state(requirement: &EvidenceRequirement, found: &EvidenceFacts, now: Timestamp) -> EvidenceState {
    if found.result == EvidenceResult::Failed {
        return EvidenceState::Failed(format!("{:?} {} says that it failed", requirement.kind, found.name));
    }
    let Some(age) = requirement.max_age else {
        return EvidenceState::Met(None);
    };
    match found.created.checked_add(age.signed()) {
        Ok(end) if end > now => EvidenceState::Met(Some(end)),
        _ => EvidenceState::Missing(format!("{:?} {} is older than {age}", requirement.kind, found.name)),
    }
}

/// Whether a requirement applies at this risk.
pub fn applies(requirement: &EvidenceRequirement, risk: RiskLevel) -> bool {
    requirement.from_risk.is_none_or(|from| risk >= from)
}
