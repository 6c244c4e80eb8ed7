//! What steps do.

use std::sync::Arc;

use interlock_core::object::ObjectId;
use interlock_crds::{ApprovalDecision, Verb};
use interlock_sim::api::{Api, meta};
use serde_json::Value;

use super::{
    folder::{Folder, is_own},
    format::{EvidenceFile, StepFile, TroubleFile},
};
use crate::{faults::Faults, metrics::Source, people::Change};

/// One thing that somebody does or that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    /// A ChangeRequest is created.
    Propose(Arc<Value>),
    /// A vote.
    Vote(Change, ApprovalDecision),
    /// A vote is taken back.
    WithdrawVote(Change),
    /// A command.
    Command(Change, Verb, String),
    /// A command on the gray release of a change.
    Release(Change, Verb, String),
    /// A signature on its gray release.
    Sign(Change, ApprovalDecision),
    /// An object is applied.
    Apply(Arc<Value>),
    /// An object is edited.
    Edit(ObjectRef, Value),
    /// An object is deleted.
    Delete(ObjectRef),
    /// Evidence is stated.
    Evidence(EvidenceFile, Change),
    /// A backup of a policy, or a run of a drill, is asked for.
    Ask(Asked, Change),
    /// Something goes wrong with pods of backups and drills, or no more.
    Trouble(TroubleFile),
    /// The controller that leads is killed.
    Crash,
    /// A node is lost, or is back.
    Node(String, bool),
    /// Programs behave differently.
    Behave(Vec<Value>),
    /// An analysis measures something else from now on.
    Metric(String, Source),
    /// Something else goes wrong from now on.
    GoWrong(Faults),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A Backup.
    Backup,
    /// A DrillRun.
    Drill,
}

impl Doing {
    /// The one thing that a step says, if it says one. An error if it says several.
    pub fn of(step: &StepFile, folder: &Folder) -> Result<Option<Self>, String> {
        let mut found: Vec<(&str, Result<Self, String>)> = Vec::new();
        if let Some(value) = &step.propose {
            found.push(("propose", proposed(value, folder).map(|value| Self::Propose(Arc::new(value)))));
        }
        for (name, text, decision) in
            [("approve", &step.approve, ApprovalDecision::Approve), ("reject", &step.reject, ApprovalDecision::Reject)]
        {
            found.extend(text.as_ref().map(|text| (name, change(text).map(|c| Self::Vote(c, decision)))));
        }
        found.extend(step.withdraw_vote.as_ref().map(|text| ("withdrawVote", change(text).map(Self::WithdrawVote))));
        let commands = [
            ("withdraw", &step.withdraw, Verb::Withdraw),
            ("abort", &step.abort, Verb::Abort),
            ("rollback", &step.rollback, Verb::Rollback),
            ("pause", &step.pause, Verb::Pause),
            ("resume", &step.resume, Verb::Resume),
            ("rebase", &step.rebase, Verb::Rebase),
        ];
        for (name, text, verb) in commands {
            let reason = step.reason.clone().unwrap_or_default();
            found.extend(text.as_ref().map(|text| (name, change(text).map(|c| Self::Command(c, verb, reason)))));
        }
        found.extend(step.rollout.as_ref().map(|command| {
            let reason = step.reason.clone().unwrap_or_default();
            ("rollout", change(&command.change).map(|c| Self::Release(c, command.verb.into(), reason)))
        }));
        for (name, text, decision) in [
            ("sign", &step.sign, ApprovalDecision::Approve),
            ("refuseToSign", &step.refuse_to_sign, ApprovalDecision::Reject),
        ] {
            found.extend(text.as_ref().map(|text| (name, change(text).map(|c| Self::Sign(c, decision)))));
        }
        found.extend(
            step.apply.as_ref().map(|value| ("apply", object(value, folder).map(|value| Self::Apply(Arc::new(value))))),
        );
        if let Some(text) = &step.edit {
            let patch = step.patch.clone().ok_or_else(|| "edit needs a patch that says how".to_owned());
            found.push(("edit", patch.and_then(|patch| Ok(Self::Edit(text.parse()?, patch)))));
        }
        found.extend(step.delete.as_ref().map(|text| ("delete", text.parse().map(Self::Delete))));
        if let Some(evidence) = &step.evidence {
            found.push(("evidence", change(&evidence.change).map(|c| Self::Evidence(evidence.clone(), c))));
        }
        found.extend(
            step.metric
                .as_ref()
                .map(|metric| ("metric", metric.source().map(|source| Self::Metric(metric.analysis.clone(), source)))),
        );
        for (name, text, asked) in [("backup", &step.backup, Asked::Backup), ("drill", &step.drill, Asked::Drill)] {
            found.extend(text.as_ref().map(|text| (name, change(text).map(|of| Self::Ask(asked, of)))));
        }
        found.extend(step.trouble.clone().map(|trouble| ("trouble", Ok(Self::Trouble(trouble)))));
        found.extend((step.crash == Some(true)).then_some(("crash", Ok(Self::Crash))));
        found.extend(step.lose_node.as_ref().map(|name| ("loseNode", node(name, true))));
        found.extend(step.return_node.as_ref().map(|name| ("returnNode", node(name, false))));
        found.extend(step.behaviours.clone().map(|list| ("behaviours", Ok(Self::Behave(list)))));
        found.extend(step.faults.clone().map(|faults| ("faults", Ok(Self::GoWrong(faults)))));
        if found.len() > 1 {
            let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
            return Err(format!("it does several things ({}): write a step for each", names.join(", ")));
        }
        found.pop().map(|(name, doing)| doing.map_err(|error| format!("{name}: {error}"))).transpose()
    }

    /// Whether somebody must be named who does it.
    pub const fn needs_somebody(&self) -> bool {
        !matches!(
            self,
            Self::Propose(_)
                | Self::Crash
                | Self::Node(..)
                | Self::Behave(_)
                | Self::Metric(..)
                | Self::GoWrong(_)
                | Self::Trouble(_)
        )
    }

    /// The change that must have been looked at before this can be done.
    pub const fn looks_at(&self) -> Option<&Change> {
        match self {
            Self::Vote(change, _) | Self::Evidence(_, change) => Some(change),
            _ => None,
        }
    }
}

/// `namespace/name`.
pub(super) fn change(text: &str) -> Result<Change, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Change { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(format!("{text:?} names no change: write NAMESPACE/NAME")),
    }
}

fn node(name: &str, is_lost: bool) -> Result<Doing, String> {
    if ["node-1", "node-2", "node-3"].contains(&name) {
        return Ok(Doing::Node(name.to_owned(), is_lost));
    }
    Err(format!("the simulated cluster has no node {name:?}: its nodes are node-1, node-2 and node-3"))
}

fn proposed(value: &Value, folder: &Folder) -> Result<Value, String> {
    let request = object(value, folder)?;
    if !is_own(&request, "ChangeRequest") {
        return Err("it is no ChangeRequest of interlock.dev".to_owned());
    }
    if meta::namespace(&request).is_empty() {
        return Err("the ChangeRequest names no namespace".to_owned());
    }
    Ok(request)
}

/// An object as it stands, or one of a file of the folder: `{file: FILE}` of the only one, `{file: FILE, name: NAME}` else.
fn object(value: &Value, folder: &Folder) -> Result<Value, String> {
    if let (Some(file), None) = (value.get("file").and_then(Value::as_str), value.get("kind")) {
        let name = value.get("name").and_then(Value::as_str);
        let mut found = folder.file(file).filter(|source| name.is_none_or(|name| meta::name(&source.object) == name));
        return match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.object.clone()),
            (None, _) => Err(format!("the folder has no such object in a file {file}")),
            (Some(_), Some(_)) => Err(format!("{file} holds several objects: add `name`")),
        };
    }
    ObjectId::of(value).map_err(|error| error.to_string())?;
    Ok(value.clone())
}

/// An object by kind and name, as a person says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Kind.
    pub kind: String,
    /// API group, where it is said.
    pub group: Option<String>,
    /// Namespace; none for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl std::str::FromStr for ObjectRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        let (kind, namespace, name) = match parts.as_slice() {
            [kind, name] => (*kind, None, *name),
            [kind, namespace, name] => (*kind, Some((*namespace).to_owned()), *name),
            _ => return Err(format!("{text:?} names no object: write KIND/NAMESPACE/NAME, or KIND/NAME")),
        };
        let (kind, group) = match kind.split_once('.') {
            Some((kind, group)) => (kind, Some(group.to_owned())),
            None => (kind, None),
        };
        Ok(Self { kind: kind.to_owned(), group, namespace, name: name.to_owned() })
    }
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl ObjectRef {
    /// The object's full name in a cluster that knows its kind.
    pub fn id(&self, api: &Api) -> Result<ObjectId, String> {
        let known = api
            .registry()
            .all()
            .find(|info| info.kind == self.kind && self.group.as_ref().is_none_or(|group| *group == info.group));
        let info = known.ok_or_else(|| format!("the cluster knows no kind {}", self.kind))?;
        if info.namespaced != self.namespace.is_some() {
            let form = if info.namespaced { "KIND/NAMESPACE/NAME" } else { "KIND/NAME" };
            return Err(format!("{self}: write {form} for a {}", self.kind));
        }
        Ok(ObjectId {
            group: info.group.clone(),
            version: info.version.clone(),
            kind: info.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        })
    }
}
