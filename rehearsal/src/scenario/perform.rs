//! Doing what a step says: as the person whom it names, who waits for what they need to see, and tries again while nobody
//! answers.

use interlock_core::admission::User;
use interlock_crds::{API_VERSION, ApprovalDecision};
use interlock_sim::workloads::Behaviour;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    BadInput, Player, Scenario,
    doings::{Asked, Doing, ObjectRef},
    look,
    report::EntryKind,
};
use crate::people::Act;

/// How long a person waits until Interlock has looked at a change, and until the server answers.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// How long until a person tries again what got no answer, and how often.
const AGAIN: (SignedDuration, usize) = (SignedDuration::from_secs(5), 5);

impl Player {
    /// Does it, unless the person is away.
    pub(super) fn perform(&mut self, doing: &Doing, by: Option<&str>) -> Result<(), BadInput> {
        let user = by.and_then(|by| self.narrator.cast.user(by));
        if let Some(user) = &user
            && let Some(until) = self.narrator.cast.away_until(&user.name, self.world.now())
        {
            let who = self.narrator.cast.called(&user.name).to_owned();
            let until = interlock_core::calendar::format_local(until, &self.zone);
            self.entry(EntryKind::Absent, format!("{who} is away until {until}: does not {}", words(doing)));
            return Ok(());
        }
        match doing {
            Doing::Crash => {
                self.world.crash();
                self.absorb();
                return Ok(());
            }
            Doing::Node(name, is_lost) => {
                self.world.tell_of_node(name, *is_lost);
                self.absorb();
                return Ok(());
            }
            Doing::Behave(list) => {
                let list = behaviours(list).map_err(BadInput)?;
                self.world.workloads.set_behaviours(list);
                self.entry(EntryKind::Fault, "from now on programs behave differently");
                return Ok(());
            }
            Doing::Trouble(trouble) => {
                self.world.vault.trouble(&trouble.namespace, &trouble.pods, trouble.with.trouble());
                let with = format!("{:?}", trouble.with);
                self.entry(EntryKind::Fault, format!("from now on pods {}*: {with}", trouble.pods));
                return Ok(());
            }
            Doing::Metric(analysis, source) => {
                self.world.measure(analysis, source.clone());
                self.entry(EntryKind::Measured, format!("{analysis} measures from now on: {source}"));
                return Ok(());
            }
            Doing::GoWrong(faults) => {
                self.world.faults = faults.clone();
                let names = faults.names();
                let what = if names.is_empty() { "nothing goes wrong".to_owned() } else { names.join(", ") };
                self.entry(EntryKind::Fault, format!("faults from now on: {what}"));
                return Ok(());
            }
            _ => {}
        }
        if let Some(change) = doing.looks_at() {
            let until = self.world.now().checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
            while !look::is_looked_at(&self.world, change) && self.step_world(until)? {}
        }
        match self.act(doing, user) {
            Ok(act) => self.attempt(&act),
            Err(why) => {
                self.entry(EntryKind::Refused, format!("{}: {why}", words(doing)));
                self.came = Some(Err(why));
                Ok(())
            }
        }
    }

    /// Does it, and again while nobody answers.
    fn attempt(&mut self, act: &Act) -> Result<(), BadInput> {
        for _ in 0..AGAIN.1 {
            let now = self.world.now();
            self.came = None;
            self.world.schedule(now, act.clone());
            let until = now.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
            while self.came.is_none() && self.step_world(until)? {}
            if self.came.is_some() && !self.unavailable {
                break;
            }
            self.run_until(self.world.now().checked_add(AGAIN.0).unwrap_or(Timestamp::MAX))?;
        }
        Ok(())
    }

    fn act(&self, doing: &Doing, user: Option<User>) -> Result<Act, String> {
        let user = user.unwrap_or_else(|| crate::people::user("system:anonymous", &[]));
        let id = |object: &ObjectRef| object.id(&self.world.shared.lock().api);
        Ok(match doing {
            Doing::Propose(request) => Act::Create(user, (**request).clone()),
            Doing::Vote(change, decision) => Act::Vote(user, change.clone(), *decision),
            Doing::WithdrawVote(change) => Act::WithdrawVote(user, change.clone()),
            Doing::Command(change, verb, reason) => Act::Command(user, change.clone(), *verb, reason.clone()),
            Doing::Release(change, verb, reason) => Act::CommandRelease(user, change.clone(), *verb, reason.clone()),
            Doing::Sign(change, decision) => Act::Sign(user, change.clone(), None, *decision),
            Doing::Apply(object) => Act::Apply(user, (**object).clone()),
            Doing::Edit(object, patch) => Act::Patch(user, id(object)?, patch.clone()),
            Doing::Delete(object) => Act::Delete(user, id(object)?),
            Doing::Evidence(evidence, change) => {
                let request =
                    look::request(&self.world, change).ok_or(format!("there is no ChangeRequest {change}"))?;
                let digest = request.status.and_then(|status| status.content_digest);
                let digest = digest.ok_or(format!("{change} has no content digest yet"))?;
                let kind = serde_json::to_value(evidence.kind).unwrap_or_default();
                let name = kind.as_str().unwrap_or_default().to_lowercase();
                Act::Create(
                    user.clone(),
                    json!({
                        "apiVersion": API_VERSION, "kind": "Evidence",
                        "metadata": {"name": format!("{}-{name}-{}", change.name, self.made), "namespace": change.namespace},
                        "spec": {
                            "kind": evidence.kind, "subject": {"contentDigest": digest},
                            "result": evidence.result, "issuer": user.name,
                        },
                    }),
                )
            }
            Doing::Ask(asked, of) => {
                let (kind, reference) = match asked {
                    Asked::Backup => ("Backup", "policyRef"),
                    Asked::Drill => ("DrillRun", "drillRef"),
                };
                let name = format!("{}-by-hand-{}", of.name, self.made);
                let object = json!({
                    "apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": of.namespace},
                    "spec": {reference: {"name": of.name}, "requester": user.name},
                });
                Act::Create(user, object)
            }
            Doing::Crash
            | Doing::Node(..)
            | Doing::Behave(_)
            | Doing::Metric(..)
            | Doing::GoWrong(_)
            | Doing::Trouble(_) => {
                return Err("nobody does this".to_owned());
            }
        })
    }
}

/// What a step does, for somebody who does not do it.
fn words(doing: &Doing) -> String {
    match doing {
        Doing::Propose(request) => format!("propose {}", crate::world::key_of(request)),
        Doing::Vote(change, ApprovalDecision::Approve) => format!("approve {change}"),
        Doing::Vote(change, ApprovalDecision::Reject) => format!("reject {change}"),
        Doing::WithdrawVote(change) => format!("withdraw a vote on {change}"),
        Doing::Command(change, verb, _) => format!("{} {change}", format!("{verb:?}").to_lowercase()),
        Doing::Release(change, verb, _) => {
            format!("{} the release of {change}", format!("{verb:?}").to_lowercase())
        }
        Doing::Sign(change, ApprovalDecision::Approve) => format!("sign for {change}"),
        Doing::Sign(change, ApprovalDecision::Reject) => format!("refuse to sign for {change}"),
        Doing::Apply(object) => format!("apply {}", crate::world::key_of(object)),
        Doing::Edit(object, _) => format!("edit {object}"),
        Doing::Delete(object) => format!("delete {object}"),
        Doing::Evidence(_, change) => format!("state evidence about {change}"),
        Doing::Ask(Asked::Backup, of) => format!("ask for a backup of {of}"),
        Doing::Ask(Asked::Drill, of) => format!("ask for a run of drill {of}"),
        Doing::Crash
        | Doing::Node(..)
        | Doing::Behave(_)
        | Doing::Metric(..)
        | Doing::GoWrong(_)
        | Doing::Trouble(_) => "happen".to_owned(),
    }
}

/// Behaviours as a scenario writes them.
pub(super) fn behaviours(list: &[Value]) -> Result<Vec<Behaviour>, String> {
    list.iter()
        .enumerate()
        .map(|(position, value)| {
            serde_json::from_value(value.clone()).map_err(|error| format!("entry {}: {error}", position + 1))
        })
        .collect()
}

impl Scenario {
    /// Behaviours with which programs begin.
    pub(super) fn first_behaviours(&self) -> Result<Vec<Behaviour>, BadInput> {
        behaviours(&self.behaviours).map_err(|error| BadInput(format!("{}: behaviours: {error}", self.file)))
    }
}
