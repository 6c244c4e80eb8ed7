//! What follows from the facts while a change waits, and when it may start.

use std::collections::BTreeSet;

use interlock_crds::{BaseRecord, ChangePhase, ChangeRequestStatus, RiskStatus, Verb, VoteSummary};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    content::{Content, Problem},
    digest::{self, Binding},
    facts::{BaseState, CalendarFacts, ChangeFacts, Command, PlanFacts},
    gates::{self, Demands, Gate, GateName},
    gradual, risk,
    votes::{self, Ballot, Tally},
};
use crate::{
    object::Digest,
    people::{Who, is_machine},
};

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status as it should be, less what only the body can add (seals, run journal).
    pub status: ChangeRequestStatus,
    /// What to do.
    pub next: Next,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing until something happens or `wake_at`.
    Wait,
    /// The live objects must be read before anything can be said.
    ReadBase,
    /// Pin and seal this base (without seal), then decide again.
    PinBase(BaseRecord),
    /// Every gate is open: read again live, and if they still are, start.
    Start(Start),
    /// It runs: take the next step.
    Run,
    /// It ends without having run.
    Finish(ChangePhase, String),
    /// It has ended: never touch it again.
    Ended,
}

/// With what a change starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The digest that was voted on.
    pub change_digest: Digest,
    /// Uids of the Approvals that let it through.
    pub votes: Vec<String>,
    /// The standard template that let it through.
    pub template: Option<String>,
}

/// Whether the base of this generation was pinned before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// It was, so.
    Before(BaseRecord),
    /// It was not: this is what would be pinned now.
    Now(BaseRecord),
}

/// Decides. Total and deterministic; deciding again on the result changes nothing.
pub fn decide(facts: &ChangeFacts<'_>, now: Timestamp) -> Decision {
    let request = facts.request;
    if let Some(finish) = request.finished() {
        let mut status = request.status.clone();
        status.phase = finish.phase;
        status.next_transition = None;
        return Decision { status, next: Next::Ended, wake_at: None };
    }
    if let Some(run) = request.run() {
        let mut status = request.status.clone();
        status.phase =
            if request.status.phase == ChangePhase::Paused { ChangePhase::Paused } else { ChangePhase::Running };
        status.run = Some(run.clone());
        // Without a seal it is not Interlock's, and would be read as an end by whoever does not check.
        status.finished = None;
        return Decision { status, next: Next::Run, wake_at: None };
    }
    waiting(facts, now)
}

fn waiting(facts: &ChangeFacts<'_>, now: Timestamp) -> Decision {
    let mut draft = Draft::new(facts);
    if let Some((phase, message)) = taken_back(facts, now) {
        return draft.finish(phase, message);
    }
    let (content, system, policy) = match ready(facts) {
        Ok(parts) => parts,
        Err(problems) => return draft.invalid(&problems, now),
    };
    draft.status.content_digest = Some(content.digest.to_string());
    let risk = risk::risk(facts, content);
    draft.status.risk = Some(risk.clone());
    if let Some(problem) = gradual::problem(facts.plan) {
        return draft.invalid(&[problem], now);
    }
    let Some(demands) = gates::demands(&policy.spec, facts.request.spec.type_) else {
        let message = format!(
            "ChangePolicy {} allows no change of type {:?}; propose it as another type",
            policy.resolved.name, facts.request.spec.type_
        );
        return draft.invalid(&[Problem::new("TypeNotAllowed", message)], now);
    };
    if let Some(problem) = gradual::unasked(facts.plan, &demands) {
        return draft.invalid(&[problem], now);
    }
    draft.condition("Valid", true, "Valid", "the request can be carried out as written", now);
    let BaseState::Read(base) = facts.base else {
        return draft.unread(now);
    };
    if let Some(problem) = gradual::misfit(facts.plan, &facts.request.namespace, &base.effects) {
        return draft.invalid(&[problem], now);
    }
    let pinned = pinned(facts, base.live, &base.secrets_mac);
    let change_digest = change_digest(facts, content, system, policy, &pinned);
    draft.status.change_digest = change_digest.map(|d| d.to_string());
    let contributors = contributors(facts, &demands);
    let tally = demands.approvals.map(|rules| {
        let digest = draft.status.change_digest.clone();
        let ballot = ballot(facts, rules, &risk, digest.as_deref(), &contributors);
        votes::tally(&ballot, facts.votes, now)
    });
    if let (Some(tally), Some(rules)) = (&tally, demands.approvals) {
        draft.status.votes = first_votes(&tally.summaries);
        if tally.rejects >= rules.reject_count {
            let by = rejecters(tally);
            return draft.finish(
                ChangePhase::Rejected,
                format!("rejected by {by}; propose a new change that meets the objection"),
            );
        }
    }
    if let Pinned::Now(record) = pinned {
        return draft.pin(record);
    }
    let gates = all_gates(facts, &demands, &risk, content, tally.as_ref(), &pinned, now);
    draft.conclude(facts, &gates, tally.as_ref(), change_digest, &demands, now)
}

fn rejecters(tally: &Tally) -> String {
    let names: Vec<_> = tally
        .summaries
        .iter()
        .filter(|s| s.state == interlock_crds::VoteState::Rejects)
        .map(|s| s.person.as_str())
        .collect();
    names.join(", ")
}

fn first_votes(summaries: &[VoteSummary]) -> Vec<VoteSummary> {
    // Votes that count come first when there are more than status holds.
    let mut ordered: Vec<_> = summaries.to_vec();
    ordered.sort_by(|a, b| (a.state, &a.approval).cmp(&(b.state, &b.approval)));
    ordered.truncate(50);
    ordered
}

/// What a vote on this change is judged by.
pub fn ballot<'a>(
    facts: &ChangeFacts<'a>,
    rules: &'a interlock_crds::Approvals,
    risk: &RiskStatus,
    digest: Option<&'a str>,
    contributors: &'a BTreeSet<String>,
) -> Ballot<'a> {
    Ballot {
        rules,
        risk: risk.level,
        digest,
        change_uid: &facts.request.uid,
        requester: &facts.request.spec.requester,
        contributors,
        people: facts.people,
    }
}

/// Everyone who contributed to the content: the requester, and the people who issued evidence that is demanded.
pub fn contributors(facts: &ChangeFacts<'_>, demands: &Demands<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::from([facts.request.spec.requester.clone()]);
    if demands.approvals.is_some_and(|a| a.exclude_contributors) {
        names.extend(facts.evidence.iter().filter(|e| !is_machine(&e.issuer)).map(|e| e.issuer.clone()));
    }
    names
}

fn taken_back(facts: &ChangeFacts<'_>, now: Timestamp) -> Option<(ChangePhase, String)> {
    let request = facts.request;
    let withdrawal = facts
        .commands
        .iter()
        .find(|command| matches!(command.verb, Verb::Withdraw | Verb::Abort) && authorised(facts, command, now));
    if let Some(command) = withdrawal {
        let why = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
        return Some((ChangePhase::Withdrawn, format!("taken back by {}{why}", command.actor)));
    }
    let expires = request.spec.schedule.as_ref()?.expires_at.as_ref()?.0;
    (expires <= now).then(|| {
        (ChangePhase::Expired, format!("it had not started by {expires}; propose it again if it is still wanted"))
    })
}

/// Whether a command counts: recorded by the webhook, about this request, by somebody with the right.
pub fn authorised(facts: &ChangeFacts<'_>, command: &Command, now: Timestamp) -> bool {
    command.target_uid == facts.request.uid && counts(facts, command, now)
}

/// Whether a command was recorded by the webhook and comes from somebody with the right, whatever it is about.
pub fn counts(facts: &ChangeFacts<'_>, command: &Command, now: Timestamp) -> bool {
    let Ok(sealed) = votes::authentic(command.sealed.as_ref(), &command.actor, command.created, now) else {
        return false;
    };
    may_command(facts, &command.actor, &sealed.groups, command.verb)
}

/// Whether `user` may give the command `verb`: the requester, or a member of a group in the policy's operators; taking a
/// request back and re-basing it are the requester's alone.
pub fn may_command(facts: &ChangeFacts<'_>, user: &str, groups: &[String], verb: Verb) -> bool {
    let requester = &facts.request.spec.requester;
    let person = facts.people.person(user);
    let is_requester =
        user == requester || person.is_some_and(|p| facts.people.person(requester).is_some_and(|r| r.name == p.name));
    if is_requester {
        return true;
    }
    match verb {
        Verb::Withdraw | Verb::Rebase => false,
        Verb::Abort
        | Verb::Rollback
        | Verb::Pause
        | Verb::Resume
        | Verb::Promote
        | Verb::PromoteFully
        | Verb::Skip
        | Verb::Retry => {
            let Some(policy) = facts.policy else {
                return false;
            };
            match facts.people.who(user) {
                Who::Known(person) => {
                    let effective = person.effective_groups(groups);
                    policy.spec.operators.iter().any(|g| effective.contains(g.as_str()))
                }
                Who::Contested(_) => false,
                Who::Unknown => policy.spec.operators.iter().any(|g| groups.contains(g)),
            }
        }
    }
}

type Parts<'a> = (&'a Content, &'a super::facts::SystemFacts, &'a super::facts::PolicyFacts);

fn ready<'a>(facts: &ChangeFacts<'a>) -> Result<Parts<'a>, Vec<Problem>> {
    let namespace = &facts.request.namespace;
    let content = facts.content.as_ref().map_err(Clone::clone)?;
    let system = facts.system.ok_or_else(|| {
        vec![Problem::new(
            "NoSystem",
            format!("no System lists the namespace {namespace}; ask for it to be added to one"),
        )]
    })?;
    let problems = content.problems_in(&system.resolved.name, &system.spec, namespace);
    if !problems.is_empty() {
        return Err(problems);
    }
    let policy = facts.policy.ok_or_else(|| {
        let name = &system.spec.policy_ref.name;
        vec![Problem::new("NoPolicy", format!("ChangePolicy {name} of System {} does not exist", system.resolved.name))]
    })?;
    Ok((content, system, policy))
}

/// The base record that counts for this generation and these re-bases.
fn pinned(facts: &ChangeFacts<'_>, live: Digest, secrets_mac: &str) -> Pinned {
    let request = facts.request;
    let rebases = rebases(facts);
    match request.base() {
        Some(base) if base.generation == request.generation && base.rebases >= rebases => Pinned::Before(base.clone()),
        _ => Pinned::Now(BaseRecord {
            digest: live.to_string(),
            generation: request.generation,
            rebases,
            secrets_mac: secrets_mac.to_owned(),
            seal: String::new(),
        }),
    }
}

fn rebases(facts: &ChangeFacts<'_>) -> i64 {
    facts
        .commands
        .iter()
        .filter(|c| {
            c.verb == Verb::Rebase
                && c.target_uid == facts.request.uid
                && c.sealed
                    .as_ref()
                    .is_some_and(|s| s.user == c.actor && may_command(facts, &c.actor, &s.groups, c.verb))
        })
        .count() as i64
}

fn change_digest(
    facts: &ChangeFacts<'_>,
    content: &Content,
    system: &super::facts::SystemFacts,
    policy: &super::facts::PolicyFacts,
    pinned: &Pinned,
) -> Option<Digest> {
    let (Pinned::Before(base) | Pinned::Now(base)) = pinned;
    let calendar = match facts.calendar {
        CalendarFacts::Known { resolved, .. } => Some(resolved),
        CalendarFacts::None | CalendarFacts::Broken { .. } => None,
    };
    let plan = match facts.plan {
        PlanFacts::Known { resolved, .. } => Some(resolved),
        PlanFacts::None | PlanFacts::Missing { .. } => None,
    };
    let binding = Binding {
        plan,
        cluster: facts.cluster,
        uid: &facts.request.uid,
        namespace: &facts.request.namespace,
        system: &system.resolved,
        policy: &policy.resolved,
        calendar,
        executor: system
            .spec
            .executor
            .as_ref()
            .and_then(|e| e.service_account.as_ref())
            .map(interlock_crds::ServiceAccountRef::user),
        base: base.digest.parse().ok()?,
        secrets_mac: &base.secrets_mac,
    };
    digest::change_digest(content.spec, content.digest, &binding).ok()
}

fn all_gates(
    facts: &ChangeFacts<'_>,
    demands: &Demands<'_>,
    risk: &RiskStatus,
    content: &Content,
    tally: Option<&Tally>,
    pinned: &Pinned,
    now: Timestamp,
) -> Vec<Gate> {
    let mut gates =
        vec![gates::approval(demands, tally, facts), gates::evidence(demands, risk.level, content, facts, now)];
    gates.extend(gates::signature(facts));
    gates.push(gates::window(demands, facts, now));
    gates.extend(gates::error_budget(demands, facts, now));
    gates.extend(gates::restore_proof(demands, facts, now));
    gates.extend(gates::open_incident(demands, facts));
    gates.extend(gates::collision(demands, facts));
    gates.push(gates::dependency(facts));
    gates.extend(gates::milestone(facts));
    gates.push(gates::precondition(demands, pinned, facts));
    gates.push(gates::preflight(facts, now));
    gates.sort_by_key(|gate| gate.name);
    gates
}

/// A status in the making.
struct Draft {
    status: ChangeRequestStatus,
    expires: Option<Timestamp>,
}

impl Draft {
    fn new(facts: &ChangeFacts<'_>) -> Self {
        let request = facts.request;
        let status = ChangeRequestStatus {
            observed_generation: Some(request.generation),
            system: facts.system.map(|s| s.resolved.name.clone()),
            base: request.status.base.clone(),
            conditions: request.status.conditions.clone(),
            ..ChangeRequestStatus::default()
        };
        let expires = request.spec.schedule.as_ref().and_then(|s| s.expires_at.as_ref()).map(|t| t.0);
        Self { status, expires }
    }

    fn condition(&mut self, type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
        set_condition(&mut self.status.conditions, type_, holds, reason, message, self.status.observed_generation, now);
    }

    fn done(mut self, next: Next, wake_at: Option<Timestamp>) -> Decision {
        let wake_at = [wake_at, self.expires].into_iter().flatten().min();
        self.status.next_transition = wake_at.map(Time);
        Decision { status: self.status, next, wake_at }
    }

    fn finish(mut self, phase: ChangePhase, message: String) -> Decision {
        self.status.phase = phase;
        self.status.message = Some(bounded(&message, 2048));
        self.expires = None;
        self.done(Next::Finish(phase, message), None)
    }

    fn invalid(mut self, problems: &[Problem], now: Timestamp) -> Decision {
        let message: Vec<_> = problems.iter().take(5).map(|p| p.message.as_str()).collect();
        let more = problems.len().saturating_sub(5);
        let mut message = message.join("; ");
        if more > 0 {
            message = format!("{message}; and {more} more");
        }
        let reason = problems.first().map_or("Invalid", |p| p.reason);
        self.status.phase = ChangePhase::Pending;
        self.status.waiting_for = Some(reason.to_owned());
        self.status.message = Some(bounded(&message, 2048));
        self.condition("Valid", false, reason, &bounded(&message, 2048), now);
        self.done(Next::Wait, None)
    }

    fn unread(mut self, now: Timestamp) -> Decision {
        self.status.phase = ChangePhase::Pending;
        self.status.waiting_for = Some("Precondition".to_owned());
        self.status.message = Some("the live objects are being read".to_owned());
        let retry = now.checked_add(jiff::SignedDuration::from_secs(5)).ok();
        self.done(Next::ReadBase, retry)
    }

    fn pin(mut self, record: BaseRecord) -> Decision {
        self.status.base = Some(record.clone());
        self.done(Next::PinBase(record), None)
    }

    fn conclude(
        mut self,
        facts: &ChangeFacts<'_>,
        gates: &[Gate],
        tally: Option<&Tally>,
        digest: Option<Digest>,
        demands: &Demands<'_>,
        now: Timestamp,
    ) -> Decision {
        let holding: Vec<_> = gates.iter().filter(|g| g.holds()).collect();
        self.status.gates = gates.iter().map(Gate::status).collect();
        let approved = gates.iter().any(|g| g.name == GateName::Approval && !g.holds());
        let reason = gates.iter().find(|g| g.name == GateName::Approval).map_or("Unknown", |g| g.reason);
        let message = gates.iter().find(|g| g.name == GateName::Approval).map_or("", |g| g.message.as_str());
        self.condition("Approved", approved, reason, message, now);
        let wake = gates.iter().filter_map(|g| g.valid_until).filter(|t| *t > now).min();
        let Some(digest) = digest.filter(|_| holding.is_empty()) else {
            let only_time = holding.iter().all(|g| g.waits_for_time());
            self.status.phase =
                if only_time && !holding.is_empty() { ChangePhase::Scheduled } else { ChangePhase::Pending };
            let names: Vec<_> = holding.iter().map(|g| g.name.as_str()).collect();
            self.status.waiting_for = Some(bounded(&names.join(", "), 256));
            self.status.message = Some(bounded(
                &holding.iter().map(|g| format!("{}: {}", g.name.as_str(), g.message)).collect::<Vec<_>>().join("; "),
                2048,
            ));
            return self.done(Next::Wait, wake);
        };
        self.status.phase = ChangePhase::Scheduled;
        self.status.message = Some("every gate is open; it is about to start".to_owned());
        let template = match (demands.templates, facts.base) {
            (Some(templates), BaseState::Read(base)) => {
                super::standard::matching(templates, &base.effects).ok().map(|t| t.name.clone())
            }
            _ => None,
        };
        let votes = tally.map(|t| t.counted.clone()).unwrap_or_default();
        self.done(Next::Start(Start { change_digest: digest, votes, template }), wake)
    }
}

/// Sets a condition; its transition time changes only when its status does.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut wanted = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: bounded(message, 32_768),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(existing) => {
            if existing.status == wanted.status {
                wanted.last_transition_time = existing.last_transition_time.clone();
            }
            *existing = wanted;
        }
        None => conditions.push(wanted),
    }
}

/// At most `limit` bytes of `text`, cut at a character and marked.
pub fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(limit.saturating_sub(3))])
}
