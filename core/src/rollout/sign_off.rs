//! Signatures on a step or a wave: Approvals, counted like votes on a change.

use std::collections::BTreeSet;

use interlock_crds::{Approvals, RiskLevel, SignOff, Threshold, VoteState};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    change::{
        facts::Vote,
        votes::{Ballot, tally},
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

/// Counts the signatures on `digest`.
pub fn count(facts: &SignOffFacts<'_>, rule: &SignOff, digest: &str, now: Timestamp) -> SignOffCount {
    let rules = Approvals {
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
    };
    let ballot = Ballot {
        rules: &rules,
        risk: RiskLevel::Critical,
        digest: Some(digest),
        change_uid: facts.change_uid,
        requester: facts.requester,
        contributors: facts.contributors,
        people: facts.people,
    };
    // Votes on other digests are about something else: they neither count nor take a person's later vote away.
    let votes: Vec<_> = facts.votes.iter().filter(|vote| vote.digest == digest).cloned().collect();
    let tally = tally(&ballot, &votes, now);
    let refused = tally.summaries.iter().filter(|s| s.state == VoteState::Rejects).map(|s| s.person.clone());
    SignOffCount {
        have: tally.thresholds.first().map_or(0, |threshold| threshold.have),
        rejected: tally.rejects,
        rejected_by: refused.collect::<Vec<_>>().join(", "),
    }
}
