//! Counting votes.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{ApprovalDecision, Approvals, RiskLevel, Threshold, VoteState, VoteSummary};
use jiff::{SignedDuration, Timestamp};

use super::facts::{SealedFacts, Vote};
use crate::mutants::{self, Mutant};
use crate::people::{People, PersonName, Who, is_machine};

/// A seal and the storing of its object may lie so far apart; more, and it was stored a second time.
const SEAL_TO_STORE: SignedDuration = SignedDuration::from_secs(10);
/// An object may seem to come from so far in the future (clock of a replica).
const FUTURE: SignedDuration = SignedDuration::from_secs(60);

/// How a threshold stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdCount {
    /// Name of the threshold.
    pub name: String,
    /// Distinct persons that it needs.
    pub need: u32,
    /// Distinct persons that it has.
    pub have: u32,
    /// Groups whose members may fill it.
    pub groups: Vec<String>,
}

/// The result of counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Every threshold that applies at this risk.
    pub thresholds: Vec<ThresholdCount>,
    /// Distinct persons against.
    pub rejects: u32,
    /// Uids of the votes that count for the change.
    pub counted: Vec<String>,
    /// Every vote with its state.
    pub summaries: Vec<VoteSummary>,
    /// When the first of the votes that count expires.
    pub expires_at: Option<Timestamp>,
}

impl Tally {
    /// Whether every threshold is met.
    pub fn met(&self) -> bool {
        self.thresholds.iter().all(|t| t.have >= t.need)
    }

    /// `peers 1/2, business 1/1`.
    pub fn describe(&self) -> String {
        let parts: Vec<_> = self.thresholds.iter().map(|t| format!("{} {}/{}", t.name, t.have, t.need)).collect();
        parts.join(", ")
    }
}

/// What votes are counted against.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// The rules.
    pub rules: &'a Approvals,
    /// Risk of the change.
    pub risk: RiskLevel,
    /// Change digest that votes must name; none while it is not known, then no vote counts.
    pub digest: Option<&'a str>,
    /// Uid of the request.
    pub change_uid: &'a str,
    /// User name of the requester.
    pub requester: &'a str,
    /// User names of everyone who contributed to the content.
    pub contributors: &'a BTreeSet<String>,
    /// Who is who.
    pub people: &'a People,
}

struct Counted<'a> {
    vote: &'a Vote,
    person: &'a PersonName,
    groups: BTreeSet<&'a str>,
}

/// Counts `votes` at `now`. Total, and independent of the order of `votes`.
pub fn tally(ballot: &Ballot<'_>, votes: &[Vote], now: Timestamp) -> Tally {
    let first_of_request = first_by_request(votes);
    let mut summaries = Vec::with_capacity(votes.len());
    let mut latest = BTreeMap::<(&PersonName, &str), Counted<'_>>::new();
    let mut ordered: Vec<_> = votes.iter().collect();
    ordered.sort_by(|a, b| order(a).cmp(&order(b)));
    for vote in ordered {
        match judge(ballot, vote, &first_of_request, now) {
            Ok((person, groups)) => {
                let as_whom = if mutants::is(Mutant::CountOnePersonTwice) { vote.approver.as_str() } else { "" };
                if let Some(earlier) = latest.insert((person, as_whom), Counted { vote, person, groups }) {
                    summaries.push(summary(
                        earlier.vote,
                        &person.0,
                        VoteState::Void,
                        format!("replaced by the later vote {}", vote.name),
                    ));
                }
            }
            Err((state, who, why)) => summaries.push(summary(vote, &who, state, why)),
        }
    }
    let (against, in_favour): (Vec<_>, Vec<_>) =
        latest.into_values().partition(|counted| counted.vote.decision == ApprovalDecision::Reject);
    summaries.extend(against.iter().map(|c| summary(c.vote, &c.person.0, VoteState::Rejects, String::new())));
    summaries.extend(in_favour.iter().map(|c| summary(c.vote, &c.person.0, VoteState::Approves, String::new())));
    summaries.sort_by(|a, b| a.approval.cmp(&b.approval));
    Tally {
        thresholds: fill(ballot, &in_favour),
        rejects: against.len() as u32,
        counted: in_favour.iter().map(|c| c.vote.uid.clone()).collect(),
        summaries,
        expires_at: ballot
            .rules
            .max_age
            .and_then(|age| in_favour.iter().filter_map(|c| c.vote.created.checked_add(age.signed()).ok()).min()),
    }
}

/// Of one person's votes the later counts; at the same instant a rejection.
fn order(vote: &Vote) -> (Timestamp, bool, &str) {
    (vote.created, vote.decision == ApprovalDecision::Reject, vote.uid.as_str())
}

fn summary(vote: &Vote, who: &str, state: VoteState, why: String) -> VoteSummary {
    VoteSummary { approval: vote.name.clone(), person: who.to_owned(), state, why }
}

/// For each admission request the uid of the first object that it made: a second one is a copy.
fn first_by_request(votes: &[Vote]) -> BTreeMap<&str, (Timestamp, &str)> {
    let mut first = BTreeMap::<&str, (Timestamp, &str)>::new();
    for vote in votes {
        if let Some(sealed) = &vote.sealed {
            let this = (vote.created, vote.uid.as_str());
            first.entry(&sealed.request_uid).and_modify(|f| *f = (*f).min(this)).or_insert(this);
        }
    }
    first
}

type Refusal = (VoteState, String, String);

fn judge<'a>(
    ballot: &Ballot<'a>,
    vote: &'a Vote,
    first: &BTreeMap<&str, (Timestamp, &str)>,
    now: Timestamp,
) -> Result<(&'a PersonName, BTreeSet<&'a str>), Refusal> {
    let void = |why: String| (VoteState::Void, vote.approver.clone(), why);
    let sealed = authentic(vote.sealed.as_ref(), &vote.approver, vote.created, now).map_err(void)?;
    if first.get(sealed.request_uid.as_str()).is_some_and(|(_, uid)| *uid != vote.uid) {
        return Err(void("a copy of another vote".to_owned()));
    }
    if vote.change_uid != ballot.change_uid {
        return Err(void("cast on another request of this name".to_owned()));
    }
    let person = eligible(ballot, &vote.approver).map_err(|(_, why)| void(why))?;
    let named = |state, why: String| (state, person.name.0.clone(), why);
    if ballot.digest != Some(vote.digest.as_str()) && !mutants::is(Mutant::SkipTheDigestCheck) {
        return Err(named(VoteState::Stale, "cast on other content; vote again".to_owned()));
    }
    if let Some(age) = ballot.rules.max_age
        && vote.created.checked_add(age.signed()).is_ok_and(|end| end <= now)
        && !mutants::is(Mutant::ForgetThatVotesAge)
    {
        return Err(named(VoteState::Expired, format!("older than {age}; vote again")));
    }
    if let Some(missing) = missing_claim(ballot.rules, &sealed.claims) {
        return Err(named(VoteState::Void, missing));
    }
    if ballot.rules.require_signature.as_ref().is_some_and(|s| ballot.risk >= s.from_risk) {
        return Err(named(
            VoteState::Void,
            "the policy demands a signed vote, which this version cannot check".to_owned(),
        ));
    }
    let groups = person.effective_groups(&sealed.groups);
    let wanted = applying(ballot).any(|t| t.groups.iter().any(|g| groups.contains(g.as_str())));
    if !wanted {
        return Err(named(VoteState::Void, format!("{} is in none of the groups that may vote", person.name)));
    }
    Ok((&person.name, groups))
}

/// Whether an object was recorded by the webhook as what it claims to be.
pub fn authentic<'a>(
    sealed: Option<&'a SealedFacts>,
    user: &str,
    created: Timestamp,
    now: Timestamp,
) -> Result<&'a SealedFacts, String> {
    let Some(sealed) = sealed else {
        return Err("not recorded by Interlock's webhook".to_owned());
    };
    if sealed.user != user {
        return Err(format!("recorded for {}, not for {user}", sealed.user));
    }
    if created.duration_since(sealed.time).abs() > SEAL_TO_STORE {
        return Err("stored again after it was withdrawn".to_owned());
    }
    if created.duration_since(now) > FUTURE {
        return Err("dated in the future".to_owned());
    }
    Ok(sealed)
}

/// The person of `user`, if they may vote on this change at all; else a reason in one word and in a sentence.
pub fn eligible<'a>(ballot: &Ballot<'a>, user: &str) -> Result<&'a crate::people::PersonFacts, (&'static str, String)> {
    if is_machine(user) {
        return Err(("MachineVote", format!("{user} is a machine: only a person can vote")));
    }
    let person = match ballot.people.who(user) {
        Who::Known(person) => person,
        Who::Unknown => {
            return Err(("UnknownPerson", format!("no Person lists the identity {user}; ask for one to be added")));
        }
        Who::Contested(names) => {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            return Err((
                "ContestedIdentity",
                format!("the identity {user} is claimed by {}; it belongs to one Person only", names.join(" and ")),
            ));
        }
    };
    if mutants::is(Mutant::CountTheRequester) {
        return Ok(person);
    }
    if user == ballot.requester {
        return Err(("SelfApproval", format!("{user} asked for this change and cannot vote on it")));
    }
    let is_same = |other: &str| ballot.people.person(other).is_some_and(|p| p.name == person.name);
    if is_same(ballot.requester) {
        return Err((
            "SamePerson",
            format!("{user} and the requester {} are the same person, {}", ballot.requester, person.name),
        ));
    }
    if ballot.rules.exclude_contributors
        && let Some(contributor) = ballot.contributors.iter().find(|c| *c == user || is_same(c))
    {
        return Err((
            "Contributor",
            format!("{} contributed to this change as {contributor} and cannot vote on it", person.name),
        ));
    }
    Ok(person)
}

/// What a voter lacks of the claims that the policy demands.
pub fn missing_claim(rules: &Approvals, claims: &[(String, Vec<String>)]) -> Option<String> {
    rules.require_claims.iter().find_map(|wanted| {
        let present = claims.iter().any(|(key, values)| *key == wanted.key && values.contains(&wanted.value));
        (!present).then(|| {
            format!("the policy demands the claim {}={}; sign in with it and vote again", wanted.key, wanted.value)
        })
    })
}

/// The thresholds that apply at the change's risk.
pub fn applying<'a>(ballot: &Ballot<'a>) -> impl Iterator<Item = &'a Threshold> {
    let risk = ballot.risk;
    ballot.rules.thresholds.iter().filter(move |t| t.from_risk.is_none_or(|from| risk >= from))
}

fn fits(threshold: &Threshold, voter: &Counted<'_>) -> bool {
    threshold.groups.iter().any(|group| voter.groups.contains(group.as_str()))
}

/// Gives every voter one place. A maximum matching, so that no order of votes blocks a possible approval.
fn fill(ballot: &Ballot<'_>, voters: &[Counted<'_>]) -> Vec<ThresholdCount> {
    let thresholds: Vec<_> = applying(ballot).collect();
    let mut seats = Vec::new();
    for (index, threshold) in thresholds.iter().enumerate() {
        if !threshold.shared {
            // More seats than voters can never be filled.
            seats.extend(std::iter::repeat_n(index, (threshold.count as usize).min(voters.len())));
        }
    }
    let mut holder = vec![None; seats.len()];
    for voter in 0..voters.len() {
        let mut tried = vec![false; seats.len()];
        seat(voter, voters, &thresholds, &seats, &mut holder, &mut tried);
    }
    thresholds
        .iter()
        .enumerate()
        .map(|(index, threshold)| {
            let have = if threshold.shared {
                voters.iter().filter(|v| fits(threshold, v)).count()
            } else {
                seats.iter().zip(&holder).filter(|(seat, holder)| **seat == index && holder.is_some()).count()
            };
            ThresholdCount {
                name: threshold.name.clone(),
                need: threshold.count,
                have: have as u32,
                groups: threshold.groups.clone(),
            }
        })
        .collect()
}

/// Finds `voter` a seat, asking holders to move to another if that helps (Kuhn's augmenting paths).
fn seat(
    voter: usize,
    voters: &[Counted<'_>],
    thresholds: &[&Threshold],
    seats: &[usize],
    holder: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for place in 0..seats.len() {
        let fitting = thresholds
            .get(seats[place])
            .zip(voters.get(voter))
            .is_some_and(|(threshold, counted)| fits(threshold, counted));
        if tried[place] || !fitting {
            continue;
        }
        tried[place] = true;
        let free = match holder[place] {
            None => true,
            Some(other) => seat(other, voters, thresholds, seats, holder, tried),
        };
        if free {
            holder[place] = Some(voter);
            return true;
        }
    }
    false
}
