//! Writes to Interlock's own kinds: votes and evidence that cannot be forged, requests that only their requester edits,
//! status that only the controller writes, and governing kinds that only the root System changes.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{
    ActionSpec, ApprovalSpec, CalendarSpec, ChangePhase, ChangePolicySpec, ChangeRequestSpec, EvidenceSpec,
    ExecutorType, Mode, OnFailure, PersonSpec, Rollout, RolloutPlanSpec, SystemSpec, Verb,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Denial, MutateAnswer, Operation, Verdict, WriteRequest, backups, denial,
    governed::{self, GovernedFacts, is_governing},
    is_namespace_controller, webhooks,
};
use crate::{
    change::{
        ChangeFacts, Content, Problem, ROOT_SYSTEM,
        decide::{ballot, contributors, may_command},
        gates, gradual, sealed, votes,
    },
    people::{People, PersonName, is_machine},
    rollout::sign_off::{self, SignOffFacts},
    seal::{Domain, SealKey},
};

/// What judging a write to one of Interlock's own kinds looks at.
#[derive(Clone, Debug)]
pub struct OwnFacts<'a> {
    /// User name of Interlock's controller.
    pub controller: &'a str,
    /// The change that the object is about: the request itself, or the one that a vote or command names.
    pub change: Option<&'a ChangeFacts<'a>>,
    /// The Rollout that a command names; `change` is then the one that it carries out.
    pub rollout: Option<&'a Rollout>,
    /// The Rollouts of the change that a vote names, if that runs.
    pub releases: &'a [Rollout],
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Names of Backups whose recovery point cannot be restored without that of the Backup that is deleted.
    pub needed_by: &'a [String],
    /// The root System with its running changes; none before installation is complete.
    pub root: Option<&'a GovernedFacts<'a>>,
    /// Who is who.
    pub people: &'a People,
    /// Which System claims a namespace.
    pub claims: &'a BTreeMap<String, String>,
    /// The System of the request's namespace.
    pub system: Option<(&'a str, &'a SystemSpec)>,
    /// Now; none when it is not known.
    pub now: Option<Timestamp>,
}

/// Records and seals a vote, evidence or a command.
pub fn record(key: &SealKey, request: &WriteRequest, now: Option<Timestamp>) -> MutateAnswer {
    let domain = match (request.operation, request.kind.as_str()) {
        (Operation::Create, "Approval") => Domain::Approval,
        (Operation::Create, "Evidence") => Domain::Evidence,
        (Operation::Create, "Action") => Domain::Action,
        _ => return MutateAnswer::Nothing,
    };
    let Some(now) = now else {
        return MutateAnswer::Deny(denial(
            503,
            "TimeUnknown",
            "Interlock does not know the API server's time at the moment and records nothing; try again in a few seconds",
        ));
    };
    let Some(spec) = request.object.as_ref().and_then(|o| o.get("spec")) else {
        return MutateAnswer::Deny(denial(422, "NoSpec", format!("{} has no spec", request.target())));
    };
    let recording = sealed::Recording { user: &request.user, time: now, request_uid: &request.uid };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    // What is stored is the typed form, so that is what is sealed.
    let typed = match domain {
        Domain::Approval => retyped::<ApprovalSpec>(spec),
        Domain::Evidence => retyped::<EvidenceSpec>(spec),
        _ => retyped::<ActionSpec>(spec),
    };
    let sealed =
        typed.and_then(|spec| sealed::record(key, domain, namespace, &spec, &recording).map_err(|e| e.to_string()));
    match sealed.and_then(|r| serde_json::to_value(r).map_err(|e| e.to_string())) {
        Ok(recorded) => {
            MutateAnswer::Patch(vec![serde_json::json!({"op": "add", "path": "/spec/recorded", "value": recorded})])
        }
        Err(why) => {
            MutateAnswer::Deny(denial(422, "Malformed", format!("{} cannot be recorded: {why}", request.target())))
        }
    }
}

fn retyped<T: DeserializeOwned + serde::Serialize>(spec: &Value) -> Result<Value, String> {
    // `recorded` is Interlock's: whatever stands there is not even read.
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut() {
        map.remove("recorded");
    }
    let typed: T = serde_json::from_value(spec).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

/// Judges a write to one of Interlock's own kinds.
pub fn judge(facts: &OwnFacts<'_>, request: &WriteRequest) -> Verdict {
    let verdict = match (request.kind.as_str(), request.subresource.as_deref()) {
        (_, Some("status")) => status(facts, request),
        ("ChangeRequest", None) => change_request(facts, request),
        ("Approval", None) => approval(facts, request),
        ("Evidence", None) => evidence(facts, request),
        ("Action", None) => action(facts, request),
        ("Rollout", None) => rollout(facts, request),
        ("RolloutPlan", None) => rollout_plan(request),
        ("BackupPolicy", None) => backups::policy(request),
        ("BackupRepository", None) => backups::repository(request),
        ("Backup", None) if request.operation == Operation::Delete => {
            backups::removal(facts.controller, facts.terminating, facts.needed_by, request)
        }
        ("Backup", None) => backups::run(facts.controller, request, facts.now),
        ("RestoreDrill", None) => backups::drill(request),
        ("DrillRun", None) => backups::drill_run(facts.controller, request),
        (kind, None) if is_governing(&request.group, kind) => return governing(facts, request),
        _ => Ok(Vec::new()),
    };
    match verdict {
        Ok(warnings) => Verdict::Allow { warnings, audit: None },
        Err(refusal) if request.dry_run && refusal.code == 403 => Verdict::Allow {
            warnings: vec![format!("Interlock will deny this without --dry-run: {}", refusal.message)],
            audit: Some(refusal),
        },
        Err(refusal) => Verdict::Deny(refusal),
    }
}

pub(super) type Answer = Result<Vec<String>, Denial>;

pub(super) fn refuse(code: u16, reason: &str, message: impl Into<String>) -> Answer {
    Err(denial(code, reason, message))
}

pub(super) fn spec_of<T: DeserializeOwned>(object: Option<&Value>, request: &WriteRequest) -> Result<T, Denial> {
    let spec = object.and_then(|o| o.get("spec")).cloned().unwrap_or(Value::Null);
    serde_json::from_value(spec).map_err(|e| denial(422, "Malformed", format!("{}: {e}", request.target())))
}

fn status(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    if request.user.name == facts.controller {
        return Ok(Vec::new());
    }
    refuse(
        403,
        "StatusIsInterlocks",
        format!(
            "{} may not write the status of {}: it is Interlock's record of what it found and did",
            request.user.name,
            request.target()
        ),
    )
}

fn change_request(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    match request.operation {
        Operation::Create => {
            let spec: ChangeRequestSpec = spec_of(request.object.as_ref(), request)?;
            if spec.requester != request.user.name {
                return refuse(
                    403,
                    "RequesterMismatch",
                    format!(
                        "requester is {}, but you are {}: a change is requested in one's own name",
                        spec.requester, request.user.name
                    ),
                );
            }
            content(facts, request, &spec)
        }
        Operation::Update => edit(facts, request),
        Operation::Delete => {
            let running = facts.change.is_some_and(|c| c.request.is_running());
            if running && !facts.terminating && !is_namespace_controller(&request.user.name) {
                let name = request.name.as_deref().unwrap_or_default();
                return refuse(
                    403,
                    "ChangeRunning",
                    format!(
                        "{} is being carried out: abort it first with `interlock abort cr/{name}`",
                        request.target()
                    ),
                );
            }
            deletion(facts, request)
        }
        Operation::Connect => Ok(Vec::new()),
    }
}

/// A request that waits, or the record of one that has ended, is removed by its requester or an operator.
fn deletion(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    let may = facts.change.is_none_or(|c| may_command(c, &request.user.name, &request.user.groups, Verb::Abort));
    if may || facts.terminating || is_namespace_controller(&request.user.name) {
        return Ok(Vec::new());
    }
    let requester = facts.change.map_or("", |c| c.request.spec.requester.as_str());
    refuse(
        403,
        "NotOperator",
        format!(
            "{} may not delete {}: only its requester {requester} or the policy's operators may",
            request.user.name,
            request.target()
        ),
    )
}

fn ended(change: &ChangeFacts<'_>) -> bool {
    change.request.finished().is_some()
}

fn edit(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    let spec: ChangeRequestSpec = spec_of(request.object.as_ref(), request)?;
    let old: ChangeRequestSpec = spec_of(request.old.as_ref(), request)?;
    if spec == old {
        return Ok(Vec::new());
    }
    if old.requester != request.user.name {
        return refuse(
            403,
            "NotRequester",
            format!("only the requester {} may edit {}; propose a change of your own", old.requester, request.target()),
        );
    }
    if let Some(change) = facts.change {
        let phase = if change.request.is_running() {
            Some("is being carried out")
        } else {
            ended(change).then_some("has ended")
        };
        if let Some(phase) = phase {
            return refuse(
                409,
                "NotEditable",
                format!("{} {phase} and cannot be edited; propose a new change", request.target()),
            );
        }
    }
    content(facts, request, &spec)
}

fn content(facts: &OwnFacts<'_>, request: &WriteRequest, spec: &ChangeRequestSpec) -> Answer {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let unprocessable = |problems: &[Problem]| {
        let first = problems.first().map_or("Invalid", |p| p.reason);
        let shown: Vec<_> = problems.iter().take(5).map(|p| p.message.as_str()).collect();
        let more = problems.len().saturating_sub(5);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        denial(422, first, format!("{}{more}", shown.join("; ")))
    };
    let content = Content::parse(spec, namespace).map_err(|p| unprocessable(&p))?;
    if spec.milestone.is_some() {
        return refuse(
            422,
            "NotSupportedYet",
            "milestone is not supported by this version, which records no projects: leave it out",
        );
    }
    let own = request.name.as_deref().unwrap_or_default();
    if spec.depends_on.iter().any(|d| d.name == own && d.namespace.as_deref().is_none_or(|n| n == namespace)) {
        return refuse(422, "Cycle", "the change depends on itself: remove that dependsOn entry");
    }
    let Some((name, system)) = facts.system else {
        return Ok(vec![format!("no System lists the namespace {namespace} yet: the change waits until one does")]);
    };
    let problems = content.problems_in(name, system, namespace);
    if problems.is_empty() { Ok(Vec::new()) } else { Err(unprocessable(&problems)) }
}

fn approval(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    match request.operation {
        Operation::Create => vote(facts, request),
        Operation::Delete => withdraw(facts, request),
        Operation::Update | Operation::Connect => Ok(Vec::new()),
    }
}

fn vote(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    let spec: ApprovalSpec = spec_of(request.object.as_ref(), request)?;
    let user = &request.user.name;
    if spec.approver != *user {
        return refuse(
            403,
            "ApproverMismatch",
            format!("approver is {}, but you are {user}: nobody votes for another", spec.approver),
        );
    }
    if !spec.signature.is_empty() {
        return refuse(422, "NotSupportedYet", "signed votes are not supported by this version: leave signature out");
    }
    let Some(change) = facts.change else {
        return refuse(
            404,
            "NoSuchChange",
            format!(
                "there is no ChangeRequest {} in namespace {}",
                spec.change_request,
                request.namespace.as_deref().unwrap_or_default()
            ),
        );
    };
    let found = change.request;
    if found.uid != spec.change_request_uid {
        return refuse(
            403,
            "AnotherChange",
            format!(
                "the vote names uid {}, but {} has uid {}: a vote counts for the request that was looked at only",
                spec.change_request_uid, found.name, found.uid
            ),
        );
    }
    if ended(change) {
        return refuse(
            409,
            "ChangeEnded",
            format!("{} has ended ({:?}); votes no longer matter", found.name, found.status.phase),
        );
    }
    if change.request.run().is_some() {
        return signature(facts, change, &spec, request);
    }
    voter(change, &spec, request)
}

/// While a change runs there is nothing to vote on, but steps and waves of its Rollouts may wait to be signed.
fn signature(facts: &OwnFacts<'_>, change: &ChangeFacts<'_>, spec: &ApprovalSpec, request: &WriteRequest) -> Answer {
    let name = &change.request.name;
    let awaited: Vec<_> = facts
        .releases
        .iter()
        .filter(|rollout| rollout.metadata.deletion_timestamp.is_none())
        .flat_map(|rollout| {
            let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
            let status = rollout.status.clone().unwrap_or_default();
            let of = rollout.metadata.name.clone().unwrap_or_default();
            sign_off::awaited(&rollout.spec, &status, uid).into_iter().map(move |one| (of.clone(), one))
        })
        .collect();
    let Some((_, wanted)) = awaited.iter().find(|(_, one)| one.digest == spec.digest) else {
        let open: Vec<_> = awaited.iter().map(|(of, one)| format!("{} of Rollout {of}", one.what)).collect();
        return if open.is_empty() {
            refuse(
                409,
                "ChangeRunning",
                format!(
                    "{name} is being carried out and waits for no signature; to stop it use `interlock abort cr/{name}`"
                ),
            )
        } else {
            refuse(
                403,
                "NotAwaited",
                format!(
                    "{name} is being carried out, and digest {} is none that it waits for; what can be signed now is {}: sign with `interlock rollout sign`",
                    short(&spec.digest),
                    open.join(" and ")
                ),
            )
        };
    };
    let contributors = gradual::contributors(change);
    let facts = SignOffFacts {
        change_uid: &change.request.uid,
        votes: change.votes,
        people: change.people,
        requester: &change.request.spec.requester,
        contributors: &contributors,
    };
    match sign_off::may_sign(&facts, wanted, &request.user.name, &request.user.groups) {
        Ok(()) => Ok(Vec::new()),
        Err((reason, message)) => refuse(403, reason, message),
    }
}

fn voter(change: &ChangeFacts<'_>, spec: &ApprovalSpec, request: &WriteRequest) -> Answer {
    let found = change.request;
    let demands = change.policy.and_then(|p| gates::demands(&p.spec, found.spec.type_));
    let Some((demands, rules)) = demands.and_then(|d| d.approvals.map(|a| (d, a))) else {
        return refuse(409, "NoVoteNeeded", format!("{} takes no votes: the policy has none for its type", found.name));
    };
    let risk = found.status.risk.clone().unwrap_or(interlock_crds::RiskStatus {
        level: interlock_crds::RiskLevel::Low,
        score: 0,
        factors: Vec::new(),
    });
    let contributors: BTreeSet<String> = contributors(change, &demands);
    let ballot = ballot(change, rules, &risk, found.status.change_digest.as_deref(), &contributors);
    let person = match votes::eligible(&ballot, &request.user.name) {
        Ok(person) => person,
        Err((reason, message)) => return refuse(403, reason, message),
    };
    if ballot.digest != Some(spec.digest.as_str()) {
        return refuse(
            403,
            "StaleDigest",
            format!(
                "the vote is about digest {}, but {} now has {}: look at it again, then vote",
                short(&spec.digest),
                found.name,
                ballot.digest.map_or("none yet", short)
            ),
        );
    }
    let groups = person.effective_groups(&request.user.groups);
    let wanted: BTreeSet<&str> = votes::applying(&ballot).flat_map(|t| t.groups.iter().map(String::as_str)).collect();
    if wanted.is_disjoint(&groups) {
        let wanted: Vec<_> = wanted.into_iter().collect();
        return refuse(
            403,
            "NotInGroup",
            format!("{} is in none of the groups that may vote on {} ({})", person.name, found.name, wanted.join(", ")),
        );
    }
    if let Some(missing) = votes::missing_claim(rules, &request.user.claims) {
        return refuse(403, "ClaimMissing", missing);
    }
    let voted = change
        .votes
        .iter()
        .any(|v| v.approver == request.user.name && v.digest == spec.digest && v.decision == spec.decision);
    Ok(if voted { vec!["you have voted so already; the newer vote replaces the older".to_owned()] } else { Vec::new() })
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn withdraw(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    if facts.terminating || is_namespace_controller(&request.user.name) {
        return Ok(Vec::new());
    }
    let spec: ApprovalSpec = spec_of(request.old.as_ref(), request)?;
    let Some(change) = facts.change.filter(|c| c.request.uid == spec.change_request_uid) else {
        return Ok(Vec::new());
    };
    if change.request.run().is_some() {
        let name = &change.request.name;
        return refuse(
            409,
            "ChangeStarted",
            format!("{name} has started, its votes are part of the record; to stop it use `interlock abort cr/{name}`"),
        );
    }
    if spec.approver != request.user.name {
        return refuse(403, "NotYourVote", format!("the vote is {}'s: only they may withdraw it", spec.approver));
    }
    Ok(Vec::new())
}

fn evidence(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    match request.operation {
        Operation::Create => {
            let spec: EvidenceSpec = spec_of(request.object.as_ref(), request)?;
            if spec.issuer != request.user.name {
                return refuse(
                    403,
                    "IssuerMismatch",
                    format!(
                        "issuer is {}, but you are {}: evidence is given in one's own name",
                        spec.issuer, request.user.name
                    ),
                );
            }
            Ok(Vec::new())
        }
        Operation::Delete => kept(facts, request),
        Operation::Update | Operation::Connect => Ok(Vec::new()),
    }
}

fn kept(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    if facts.terminating || is_namespace_controller(&request.user.name) || request.user.name == facts.controller {
        return Ok(Vec::new());
    }
    refuse(403, "RecordKept", format!("{} is a record and is not deleted: a newer one replaces it", request.target()))
}

fn action(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    if request.operation == Operation::Delete {
        return kept(facts, request);
    }
    if request.operation != Operation::Create {
        return Ok(Vec::new());
    }
    let spec: ActionSpec = spec_of(request.object.as_ref(), request)?;
    if spec.actor != request.user.name {
        return refuse(
            403,
            "ActorMismatch",
            format!("actor is {}, but you are {}: commands are given in one's own name", spec.actor, request.user.name),
        );
    }
    let on_rollout = spec.target.kind == "Rollout";
    if on_rollout && facts.rollout.and_then(|r| r.metadata.uid.as_deref()) != Some(spec.target.uid.as_str()) {
        return refuse(
            404,
            "NoSuchRollout",
            format!("there is no Rollout {} with uid {}", spec.target.name, spec.target.uid),
        );
    }
    let Some(change) = facts.change.filter(|c| on_rollout || c.request.uid == spec.target.uid) else {
        return refuse(
            404,
            "NoSuchChange",
            format!("there is no ChangeRequest {} with uid {}", spec.target.name, spec.target.uid),
        );
    };
    if !may_command(change, &request.user.name, &request.user.groups, spec.verb) {
        let operators = change.policy.map(|p| p.spec.operators.join(", ")).unwrap_or_default();
        return refuse(
            403,
            "NotOperator",
            format!(
                "{} may not {:?} {}: only its requester {} or the policy's operators ({operators}) may",
                request.user.name, spec.verb, spec.target.name, change.request.spec.requester
            ),
        );
    }
    match (on_rollout, spec.verb) {
        (true, Verb::Withdraw | Verb::Rebase) => refuse(
            422,
            "NotForRollouts",
            format!(
                "{:?} is a command on a ChangeRequest; a Rollout is aborted with `interlock rollout abort`",
                spec.verb
            ),
        ),
        (true, verb) if ended(change) => refuse(409, "ChangeEnded", release_ended(change, &spec.target.name, verb)),
        (true, _) => Ok(Vec::new()),
        (false, Verb::Promote | Verb::PromoteFully | Verb::Skip | Verb::Retry) => refuse(
            422,
            "OnlyForRollouts",
            format!("{:?} is a command on a Rollout; {} is a ChangeRequest", spec.verb, spec.target.name),
        ),
        (false, verb) => fits_phase(change, verb),
    }
}

/// Why nothing can be commanded of the Rollout of a change that has ended, and what is to be done instead.
fn release_ended(change: &ChangeFacts<'_>, rollout: &str, verb: Verb) -> String {
    let request = &change.request;
    let phase = request.finished().map(|finish| finish.phase).unwrap_or_default();
    let begins = matches!(verb, Verb::Retry | Verb::Resume | Verb::Promote | Verb::PromoteFully | Verb::Skip);
    match request.spec.contingency.on_failure {
        OnFailure::Rollback if begins && matches!(phase, ChangePhase::RolledBack | ChangePhase::Failed) => format!(
            "the change of {rollout} has ended ({phase:?}): its contingency.onFailure is Rollback, so that it went back and \
             waits for nobody; propose a new change, with contingency.onFailure: Pause if it is to be tried again after it \
             went back"
        ),
        _ if begins => format!("the change of {rollout} has ended ({phase:?}); propose a new change"),
        _ => format!("the change of {rollout} has ended ({phase:?}); propose a new change to undo it"),
    }
}

/// A Rollout is Interlock's own: made, recorded and freed by the controller. Deleting it brings the old version back, so
/// whoever may abort the change may delete it.
fn rollout(facts: &OwnFacts<'_>, request: &WriteRequest) -> Answer {
    let user = &request.user.name;
    if user == facts.controller || is_namespace_controller(user) || facts.terminating {
        return Ok(Vec::new());
    }
    if request.operation == Operation::Delete {
        let may = facts.change.is_none_or(|c| may_command(c, user, &request.user.groups, Verb::Abort));
        return if may {
            Ok(Vec::new())
        } else {
            refuse(
                403,
                "NotOperator",
                format!(
                    "{user} may not delete {}, which takes its new version back: only the requester of its change or the policy's operators may",
                    request.target()
                ),
            )
        };
    }
    refuse(
        403,
        "RolloutIsInterlocks",
        format!(
            "{user} may not {} {}: Interlock makes it from a change; name a RolloutPlan in rolloutPlanRef of a ChangeRequest",
            request.operation,
            request.target()
        ),
    )
}

/// A plan that could not be carried out is not stored: nobody is to find that out at the start of a change.
fn rollout_plan(request: &WriteRequest) -> Answer {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Vec::new());
    }
    let spec: RolloutPlanSpec = spec_of(request.object.as_ref(), request)?;
    match gradual::unsupported(&spec) {
        Some(why) => refuse(422, "BadRolloutPlan", format!("{}: {why}", request.target())),
        None => Ok(gradual::warnings(&spec)),
    }
}

fn fits_phase(change: &ChangeFacts<'_>, verb: Verb) -> Answer {
    let name = &change.request.name;
    if ended(change) {
        return refuse(
            409,
            "ChangeEnded",
            format!("{name} has ended ({:?}); propose a new change to undo it", change.request.status.phase),
        );
    }
    let running = change.request.run().is_some();
    match verb {
        Verb::Withdraw | Verb::Rebase if running => {
            refuse(409, "ChangeStarted", format!("{name} has started; to stop it use `interlock abort cr/{name}`"))
        }
        Verb::Rollback | Verb::Pause | Verb::Resume if !running => refuse(
            409,
            "NotStarted",
            format!("{name} has not started; to take it back use `interlock abort cr/{name}`"),
        ),
        _ => Ok(Vec::new()),
    }
}

fn governing(facts: &OwnFacts<'_>, request: &WriteRequest) -> Verdict {
    if matches!(request.operation, Operation::Create | Operation::Update)
        && let Err(refusal) = sane(facts, request)
    {
        return Verdict::Deny(refusal);
    }
    match facts.root {
        None => Verdict::allow(),
        Some(root) => governed::judge(root, request),
    }
}

/// What no mode lets pass: two Systems with one namespace, two Persons with one identity, rules that cannot work.
fn sane(facts: &OwnFacts<'_>, request: &WriteRequest) -> Result<(), Denial> {
    let object = request.object.as_ref();
    let name = request.name.as_deref().unwrap_or_default();
    let invalid = |reason: &str, message: String| Err(denial(422, reason, message));
    match request.kind.as_str() {
        "System" => {
            let spec: SystemSpec = spec_of(object, request)?;
            if let Some((namespace, other)) =
                spec.namespaces.iter().filter_map(|n| Some((n, facts.claims.get(n)?))).find(|(_, other)| *other != name)
            {
                return Err(denial(
                    409,
                    "NamespaceTaken",
                    format!(
                        "namespace {namespace} belongs to System {other} already; a namespace belongs to one System only"
                    ),
                ));
            }
            if name != ROOT_SYSTEM && spec.namespaces.iter().any(|n| n == crate::change::INTERLOCK_NAMESPACE) {
                return invalid(
                    "InterlockNamespace",
                    "Interlock's own namespace belongs to the root System alone".to_owned(),
                );
            }
            if let Some(why) = never_governed(&spec) {
                return invalid("KindForbidden", why);
            }
            if spec.executor.as_ref().is_some_and(|e| e.type_ == ExecutorType::External) {
                return invalid(
                    "NotSupportedYet",
                    "an executor of type External is not supported by this version: name a serviceAccount".to_owned(),
                );
            }
            Ok(())
        }
        "Person" => person(facts, request, name),
        "ChangePolicy" => policy(&spec_of(object, request)?),
        "Calendar" => {
            let spec: CalendarSpec = spec_of(object, request)?;
            crate::calendar::Calendar::compile(&crate::change::calendar_spec(&spec))
                .map(|_| ())
                .or_else(|error| invalid("BadCalendar", format!("Calendar {name}: {error}")))
        }
        _ => Ok(()),
    }
}

/// What a System names that no webhook may be registered for.
fn never_governed(spec: &SystemSpec) -> Option<String> {
    webhooks::flaws(spec, &webhooks::Kinds::new()).into_iter().find_map(|flaw| match flaw {
        webhooks::Flaw::Forbidden(why) => Some(why),
        _ => None,
    })
}

fn person(facts: &OwnFacts<'_>, request: &WriteRequest, name: &str) -> Result<(), Denial> {
    let spec: PersonSpec = spec_of(request.object.as_ref(), request)?;
    if let Some(machine) = spec.identities.iter().find(|i| is_machine(i)) {
        return Err(denial(
            422,
            "MachineIdentity",
            format!("{machine} is a machine and cannot be an identity of a person"),
        ));
    }
    let own = PersonName(name.to_owned());
    let taken = spec.identities.iter().find_map(|identity| {
        let owner = facts.people.iter().find(|p| p.name != own && p.identities.contains(identity))?;
        Some((identity, &owner.name))
    });
    match taken {
        Some((identity, owner)) => Err(denial(
            409,
            "IdentityTaken",
            format!("identity {identity} belongs to Person {owner} already; an identity belongs to one person only"),
        )),
        None => Ok(()),
    }
}

fn policy(spec: &ChangePolicySpec) -> Result<(), Denial> {
    let later = |field: &str, domain: &str| {
        denial(
            422,
            "NotSupportedYet",
            format!("{field} is not supported by this version ({domain}): no change could ever pass it; leave it out"),
        )
    };
    let types = &spec.types;
    let all_gates = [
        types.normal.as_ref().map(|t| &t.gates),
        types.standard.as_ref().map(|t| &t.gates),
        types.emergency.as_ref().map(|t| &t.gates),
    ];
    for gates in all_gates.into_iter().flatten() {
        let off = interlock_crds::EnforceMode::Off;
        if gates.error_budget.as_ref().is_some_and(|g| g.mode != off) {
            return Err(later("gates.errorBudget", "it measures no service levels"));
        }
        if gates.open_incident.as_ref().is_some_and(|g| g.mode != off) {
            return Err(later("gates.openIncident", "it records no incidents"));
        }
    }
    if spec.break_glass.is_some() {
        return Err(later("breakGlass", "it opens no gate by force"));
    }
    if types.emergency.as_ref().is_some_and(|t| t.review_within.is_some()) {
        return Err(later("emergency.reviewWithin", "it does not follow reviews up"));
    }
    let approvals = [types.normal.as_ref().map(|t| &t.approvals), types.emergency.as_ref().map(|t| &t.approvals)];
    if approvals.into_iter().flatten().any(|a| a.require_signature.is_some()) {
        return Err(later("approvals.requireSignature", "it verifies no signed votes"));
    }
    Ok(())
}

/// Whether a mode denies at all; for callers that only want to know what is strict.
pub const fn is_strict(mode: Mode) -> bool {
    matches!(mode, Mode::Enforce)
}
