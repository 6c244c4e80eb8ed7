//! Signatures on a step or a wave: Approvals, counted like votes on a change.

use std::collections::BTreeSet;

use interlock_crds::{
    Approvals, RiskLevel, RolloutPhase, RolloutSpec, RolloutStatus, SignOff, Threshold, VoteState, Wave, WavePhase,
};
use jiff::Timestamp;
use serde_json::json;

use super::pass::Strategy;
use crate::{
    change::{
        facts::Vote,
        votes::{Ballot, eligible, tally},
    },
    object::Digest,
    people::People,
};

/// What signatures are judged by.
#[derive(Clone, Copy, Debug)]
pub struct SignOffFacts<'a> {
    /// Uid of the ChangeRequest.
    pub change_uid: &'a str,
    /// Every Approval on it.
    pub votes: &'a [Vote],
    /// Who is who.
    pub people: &'a People,
    /// User name of the requester, who signs nothing of their own change.
    pub requester: &'a str,
    /// User names of everyone who contributed to the content.
    pub contributors: &'a BTreeSet<String>,
}

/// How signatures stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOffCount {
    /// Distinct persons who signed.
    pub have: u32,
    /// Distinct persons who refused.
    pub rejected: u32,
    /// Their names.
    pub rejected_by: String,
}

/// The digest that a signature names. It holds for one approved content, one Rollout and one step of one attempt (or one
/// wave), so that no signature can be used twice.
pub fn digest(change_digest: &str, rollout_uid: &str, subject: &str) -> String {
    let envelope = json!({
        "domain": "interlock.dev/sign-off/v1",
        "changeDigest": change_digest,
        "rollout": rollout_uid,
        "subject": subject,
    });
    Digest::of_canonical(&envelope).map(|digest| digest.to_string()).unwrap_or_default()
}

/// What a signature on a step of an attempt is about.
pub(super) fn step_subject(step: u32, attempt: u32) -> String {
    format!("step-{step}-{attempt}")
}

/// What a signature on a wave of an attempt is about.
pub(super) fn wave_subject(wave: &str, attempt: u32) -> String {
    format!("wave-{wave}-{attempt}")
}

/// Signatures that may be given now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited<'a> {
    /// What is signed, for a person: `step 3` or `wave mobile`.
    pub what: String,
    /// Who may sign, and how many must.
    pub rule: &'a SignOff,
    /// The digest that a signature names.
    pub digest: String,
}

/// The signatures that a Rollout takes now: on the step at which it is, or on each of its waves that has not begun. One
/// that has ended or goes back takes none.
pub fn awaited<'a>(spec: &'a RolloutSpec, status: &RolloutStatus, uid: &str) -> Vec<Awaited<'a>> {
    use RolloutPhase::{Paused, Pending, Progressing};
    if !matches!(status.phase, Pending | Progressing | Paused) || status.promotion.is_some() {
        return Vec::new();
    }
    let digest = |subject: &str| digest(&spec.change_digest, uid, subject);
    match Strategy::of(&spec.plan) {
        Some(Strategy::Waves(waves)) => {
            let waits = |wave: &Wave| {
                let record = status.waves.iter().find(|record| record.name == wave.name);
                record.is_none_or(|record| record.phase == WavePhase::Waiting)
            };
            let signed =
                waves.iter().filter(|wave| waits(wave)).filter_map(|wave| Some((wave, wave.sign_off.as_ref()?)));
            let awaited = signed.map(|(wave, rule)| Awaited {
                what: format!("wave {}", wave.name),
                rule,
                digest: digest(&wave_subject(&wave.name, status.attempt)),
            });
            awaited.collect()
        }
        strategy => {
            let step = strategy.and_then(|strategy| strategy.steps().get(status.current_step as usize));
            let awaited = step.and_then(|step| step.sign_off.as_ref()).map(|rule| Awaited {
                what: format!("step {}", status.current_step),
                rule,
                digest: digest(&step_subject(status.current_step, status.attempt)),
            });
            awaited.into_iter().collect()
        }
    }
}

/// A sign-off as rules of voting.
fn rules(rule: &SignOff) -> Approvals {
    Approvals {
        thresholds: vec![Threshold {
            name: "sign-off".to_owned(),
            count: rule.count,
            groups: rule.groups.clone(),
            shared: false,
            from_risk: None,
        }],
        reject_count: 1,
        max_age: None,
        exclude_contributors: true,
        require_claims: Vec::new(),
        require_signature: None,
    }
}

fn ballot<'a>(facts: &SignOffFacts<'a>, rules: &'a Approvals, digest: &'a str) -> Ballot<'a> {
    Ballot {
        rules,
        risk: RiskLevel::Critical,
        digest: Some(digest),
        change_uid: facts.change_uid,
        requester: facts.requester,
        contributors: facts.contributors,
        people: facts.people,
    }
}

/// Whether a user with these groups may sign: by the same rules as those who vote.
///
/// # Errors
/// Why not, in one word and in a sentence.
pub fn may_sign(
    facts: &SignOffFacts<'_>,
    awaited: &Awaited<'_>,
    user: &str,
    groups: &[String],
) -> Result<(), (&'static str, String)> {
    let rules = rules(awaited.rule);
    let person = eligible(&ballot(facts, &rules, &awaited.digest), user)?;
    let has = person.effective_groups(groups);
    if awaited.rule.groups.iter().any(|group| has.contains(group.as_str())) {
        return Ok(());
    }
    let wanted = awaited.rule.groups.join(", ");
    Err(("NotInGroup", format!("{} is in none of the groups that may sign {} ({wanted})", person.name, awaited.what)))
}

/// Counts the signatures on `digest`.
pub fn count(facts: &SignOffFacts<'_>, rule: &SignOff, digest: &str, now: Timestamp) -> SignOffCount {
    let rules = rules(rule);
    // Votes on other digests are about something else: they neither count nor take a person's later vote away.
    let votes: Vec<_> = facts.votes.iter().filter(|vote| vote.digest == digest).cloned().collect();
    let tally = tally(&ballot(facts, &rules, digest), &votes, now);
    let refused = tally.summaries.iter().filter(|s| s.state == VoteState::Rejects).map(|s| s.person.clone());
    SignOffCount {
        have: tally.thresholds.first().map_or(0, |threshold| threshold.have),
        rejected: tally.rejects,
        rejected_by: refused.collect::<Vec<_>>().join(", "),
    }
}
