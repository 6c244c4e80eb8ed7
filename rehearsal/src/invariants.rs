//! What must hold after every step, whatever goes wrong. Each invariant is a function; a broken one is named.
//!
//! They look at the server's own record of writes, not at what the controller says, and judge it by a second, simpler
//! reading of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::object::{GroupKind, ObjectId, Path, apply_partial, get, stated_paths, strip_server_fields};
use interlock_crds::{ChangePhase, ChangeRequest, GROUP, Person};
use interlock_sim::api::meta;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    cluster::Audit,
    port::CONTROLLER,
    world::{World, key_of},
};

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Broken {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// What is remembered between steps.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// For each run (uid of the change): the objects as they were when it started.
    before: BTreeMap<String, BTreeMap<String, Option<Arc<Value>>>>,
    /// For each change and object: how often it was changed forward and back.
    written: BTreeMap<(String, String), (u32, u32)>,
    ended: BTreeMap<String, ChangePhase>,
    /// Uids of changes whose run had begun when they were last seen.
    started: BTreeSet<String>,
}

type Check = fn(&mut Watchdog, &World, &Audit) -> Result<(), String>;

/// Every invariant on writes, by name.
pub const ON_WRITES: [(&str, Check); 6] = [
    ("nothing unapproved runs", nothing_unapproved_runs),
    ("nothing but what was approved is written", only_what_was_approved),
    ("no step is taken twice", no_step_twice),
    ("a terminal phase never changes", terminal_phases_stay),
    ("the before-state is there before the first write", before_state_first),
    ("nothing starts in a freeze", nothing_starts_frozen),
];

impl Watchdog {
    /// Looks at one write.
    pub fn stored(&mut self, world: &World, audit: &Audit) -> Result<(), Broken> {
        for (invariant, check) in ON_WRITES {
            check(self, world, audit).map_err(|what| Broken { invariant, what })?;
        }
        self.remember(world, audit);
        Ok(())
    }

    fn remember(&mut self, world: &World, audit: &Audit) {
        let Some(change) = change_of(audit.new.as_ref()).filter(|_| is_change(audit)) else { return };
        let uid = change.metadata.uid.clone().unwrap_or_default();
        if is_running(&change) && self.started.insert(uid.clone()) {
            let objects = ids(&change).into_iter().map(|id| (id.key(), world.live(&id))).collect();
            self.before.insert(uid, objects);
        }
    }

    /// What must hold once everything is quiet and nothing goes wrong any more.
    pub fn quiet(&self, world: &World) -> Result<(), Broken> {
        let broken = |invariant, what| Err(Broken { invariant, what });
        for object in world.objects(GROUP, "ChangeRequest") {
            let Some(change) = change_of(Some(&object)) else { continue };
            let uid = change.metadata.uid.clone().unwrap_or_default();
            let key = key_of(&object);
            let status = change.status.clone().unwrap_or_default();
            let waits = status.phase == ChangePhase::Paused
                || status.message.as_deref().is_some_and(|m| m.contains("interlock resume"));
            if status.run.is_some() && status.finished.is_none() && !waits {
                let message = status.message.unwrap_or_default();
                return broken("every started change ends or waits for a person", format!("{key} is stuck: {message}"));
            }
            if status.finished.as_ref().is_some_and(|end| end.phase == ChangePhase::RolledBack) && status.run.is_some()
            {
                self.restored(world, &change, &uid).or_else(|what| broken("going back restores everything", what))?;
            }
            if status.finished.as_ref().is_some_and(|end| end.phase == ChangePhase::Succeeded) {
                self.carried_out(&change, &uid).or_else(|what| broken("what succeeded was carried out", what))?;
            }
        }
        Ok(())
    }

    /// Every object that nobody wrote since is as it was before the change.
    fn restored(&self, world: &World, change: &ChangeRequest, uid: &str) -> Result<(), String> {
        for (object, before) in self.before.get(uid).into_iter().flatten() {
            let later = self.started.len() > 1 && self.written.keys().any(|(other, o)| other != uid && o == object);
            if later {
                continue;
            }
            let Some(id) = ids(change).into_iter().find(|id| id.key() == *object) else { continue };
            let now = world.live(&id);
            if plain(now.as_deref()) != plain(before.as_deref()) {
                return Err(format!(
                    "{id} is {} and was {}",
                    plain(now.as_deref()).unwrap_or_default(),
                    plain(before.as_deref()).unwrap_or_default()
                ));
            }
        }
        Ok(())
    }

    fn carried_out(&self, change: &ChangeRequest, uid: &str) -> Result<(), String> {
        for id in ids(change) {
            let (forward, back) = self.written.get(&(uid.to_owned(), id.key())).copied().unwrap_or_default();
            if back > 0 || forward > 1 {
                return Err(format!("{id} was written {forward} times and put back {back} times"));
            }
        }
        Ok(())
    }
}

/// Whoever the change started for: at least as many distinct people as its policy demands had approved this content.
fn nothing_unapproved_runs(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = is_change(audit).then(|| change_of(audit.new.as_ref())).flatten() else { return Ok(()) };
    let uid = change.metadata.uid.clone().unwrap_or_default();
    let starts = is_running(&change) && !dog.started.contains(&uid);
    if !starts {
        return Ok(());
    }
    let key = key_of(audit.new.as_ref().map_or(&Value::Null, |v| v));
    if audit.user != CONTROLLER {
        return Err(format!("{} started {key}", audit.user));
    }
    let Some(status) = &change.status else { return Ok(()) };
    let Some(run) = &status.run else { return Ok(()) };
    let people = people(world);
    let person = |identity: &str| people.get(identity).cloned();
    let votes: Vec<_> = world
        .objects(GROUP, "Approval")
        .into_iter()
        .filter(|vote| run.votes.iter().any(|uid| uid == meta::uid(vote)))
        .collect();
    let voters: BTreeSet<_> = votes
        .iter()
        .filter(|vote| {
            let text = |field: &str| vote.get("spec").and_then(|s| s.get(field)).and_then(Value::as_str);
            text("decision") == Some("Approve")
                && text("digest") == Some(run.change_digest.as_str())
                && text("changeRequestUid") == Some(uid.as_str())
        })
        .filter_map(|vote| person(vote.pointer("/spec/recorded/user")?.as_str()?))
        .collect();
    let requester = person(&change.spec.requester);
    if requester.is_some_and(|requester| voters.contains(&requester)) {
        return Err(format!("{key} counts the vote of its requester"));
    }
    let need = demanded(world, &change);
    // A vote that is withdrawn between the count and the start stops the change before its first write.
    let withdrawn = run.votes.len() - votes.len();
    if voters.len() + withdrawn < need {
        return Err(format!("{key} started with the votes of {voters:?}, {need} are demanded"));
    }
    Ok(())
}

/// The executor writes only objects of a running change, and only what that change states, or what was there before.
fn only_what_was_approved(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if !audit.user.ends_with(":executor") {
        return governed_by_executor_only(world, audit);
    }
    if audit.new.is_some() && plain(audit.new.as_deref()) == plain(audit.old.as_deref()) {
        // Fields were taken over from another manager, or were as wanted already: nothing changed.
        return Ok(());
    }
    let running = world.objects(GROUP, "ChangeRequest").into_iter().filter_map(|object| change_of(Some(&object)));
    let change = running.filter(is_running).find(|change| ids(change).iter().any(|id| id.same_object(&audit.id)));
    let Some(change) = change else { return Err(format!("{} was written for no running change", audit.id)) };
    let uid = change.metadata.uid.clone().unwrap_or_default();
    let forward = is_forward(&change, audit);
    let before = dog.before.get(&uid).and_then(|b| b.get(&audit.id.key())).cloned().flatten();
    let back = plain(audit.new.as_deref()) == plain(before.as_deref());
    // The mark of an epoch is the one thing that is written beside both.
    let marked = audit.new.as_deref().is_some_and(|new| {
        new.pointer("/metadata/annotations").is_some_and(|a| a.get(interlock_core::change::EPOCH_ANNOTATION).is_some())
    });
    let key = (uid, audit.id.key());
    let changed = plain(audit.new.as_deref()) != plain(audit.old.as_deref());
    let counts = dog.written.entry(key).or_default();
    match (forward, back) {
        (true, false) => counts.0 += u32::from(changed),
        (_, true) => counts.1 += u32::from(changed),
        (false, false) if marked => {}
        (false, false) => {
            return Err(format!(
                "{} became {}, which is neither what was approved nor what it was",
                audit.id,
                plain(audit.new.as_deref()).unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// In an enrolled namespace nobody else writes what is governed.
fn governed_by_executor_only(world: &World, audit: &Audit) -> Result<(), String> {
    let governed = matches!(audit.id.kind.as_str(), "ConfigMap" | "Deployment") && audit.subresource.is_none();
    let enrolled = audit.id.namespace.as_deref().is_some_and(|namespace| {
        world.object("", "Namespace", "", namespace).is_some_and(|n| {
            n.pointer("/metadata/labels")
                .and_then(|l| l.get(interlock_core::change::MODE_LABEL))
                .and_then(Value::as_str)
                == Some("enforce")
        })
    });
    let person = !audit.user.starts_with("system:");
    if governed && enrolled && person {
        return Err(format!("{} wrote {} past every gate", audit.user, audit.id));
    }
    Ok(())
}

fn no_step_twice(dog: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if !audit.user.ends_with(":executor") {
        return Ok(());
    }
    match dog
        .written
        .iter()
        .find(|((_, object), (forward, back))| *object == audit.id.key() && (*forward > 1 || *back > 1))
    {
        Some(((_, object), (forward, back))) => {
            Err(format!("{object} was written {forward} times and put back {back} times"))
        }
        None => Ok(()),
    }
}

fn terminal_phases_stay(dog: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = is_change(audit).then(|| change_of(audit.new.as_ref())).flatten() else { return Ok(()) };
    let uid = change.metadata.uid.clone().unwrap_or_default();
    let phase = change.status.as_ref().map(|s| s.phase).unwrap_or_default();
    match dog.ended.get(&uid) {
        Some(ended) if *ended != phase => Err(format!("it had ended {ended:?} and is {phase:?}")),
        Some(_) => Ok(()),
        None => {
            if phase.is_terminal() {
                dog.ended.insert(uid, phase);
            }
            Ok(())
        }
    }
}

fn before_state_first(_: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let unchanged = audit.new.is_some() && plain(audit.new.as_deref()) == plain(audit.old.as_deref());
    if unchanged || !audit.user.ends_with(":executor") {
        return Ok(());
    }
    let running = world.objects(GROUP, "ChangeRequest").into_iter().filter_map(|object| change_of(Some(&object)));
    let Some(change) = running.filter(is_running).find(|c| ids(c).iter().any(|id| id.same_object(&audit.id))) else {
        return Ok(());
    };
    let uid = change.metadata.uid.unwrap_or_default();
    let stored = world.objects("", "Secret").iter().any(|secret| {
        secret.pointer("/metadata/labels").and_then(|l| l.get("interlock.dev/change-uid")).and_then(Value::as_str)
            == Some(uid.as_str())
    });
    if stored { Ok(()) } else { Err(format!("{} was written and no before-state is stored", audit.id)) }
}

/// A change that its policy holds to a calendar starts in no freeze of it.
fn nothing_starts_frozen(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = is_change(audit).then(|| change_of(audit.new.as_ref())).flatten() else { return Ok(()) };
    let uid = change.metadata.uid.clone().unwrap_or_default();
    if !is_running(&change) || dog.started.contains(&uid) {
        return Ok(());
    }
    for calendar in world.objects(GROUP, "Calendar") {
        for freeze in calendar.pointer("/spec/freezes").and_then(Value::as_array).into_iter().flatten() {
            let zone = calendar.pointer("/spec/timeZone").and_then(Value::as_str).unwrap_or("UTC");
            let at = |field: &str| -> Option<Timestamp> {
                let local: jiff::civil::DateTime = freeze.get(field)?.as_str()?.parse().ok()?;
                Some(local.in_tz(zone).ok()?.timestamp())
            };
            let (Some(from), Some(to)) = (at("from"), at("until")) else { continue };
            // A start that was decided in time may be on its way so long, and the time may be reckoned a second off.
            let slack = crate::faults::ON_ITS_WAY + SignedDuration::from_secs(1);
            let inside = |at: Timestamp| at > from + slack && at < to - SignedDuration::from_secs(1);
            if inside(audit.at) && world.before_it_was_set().is_none_or(inside) {
                return Err(format!("it started at {} in the freeze from {from} to {to}", audit.at));
            }
        }
    }
    Ok(())
}

fn is_change(audit: &Audit) -> bool {
    audit.id.group == GROUP && audit.id.kind == "ChangeRequest"
}

fn change_of(object: Option<&Arc<Value>>) -> Option<ChangeRequest> {
    serde_json::from_value((**object?).clone()).ok()
}

fn is_running(change: &ChangeRequest) -> bool {
    change.status.as_ref().is_some_and(|status| status.run.is_some() && status.finished.is_none())
}

fn ids(change: &ChangeRequest) -> Vec<ObjectId> {
    change.spec.content.manifests.iter().flatten().filter_map(|manifest| ObjectId::of(manifest).ok()).collect()
}

/// Whether the object is as a manifest of the change states it.
fn is_forward(change: &ChangeRequest, audit: &Audit) -> bool {
    let Some(manifest) = change
        .spec
        .content
        .manifests
        .iter()
        .flatten()
        .find(|m| ObjectId::of(m).is_ok_and(|id| id.same_object(&audit.id)))
    else {
        return false;
    };
    let operation = manifest
        .pointer("/metadata/annotations")
        .and_then(|a| a.get(interlock_core::change::OPERATION_ANNOTATION))
        .and_then(Value::as_str);
    let Some(new) = audit.new.as_deref().filter(|new| !meta::is_terminating(new)) else {
        return operation == Some("Delete");
    };
    if operation == Some("Delete") {
        return false;
    }
    let mut manifest = manifest.clone();
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
    }
    let kind = audit.id.group_kind();
    let stands = stated_paths(&kind, &manifest).iter().all(|(path, value)| same(new, path, value));
    // Beside what is stated, a part changes nothing.
    let part = operation == Some("Patch");
    stands
        && (!part
            || audit
                .old
                .as_deref()
                .is_none_or(|old| plain(Some(&apply_partial(&kind, Some(old), &manifest))) == plain(Some(new))))
}

fn same(object: &Value, path: &Path, value: &Value) -> bool {
    get(object, path) == Some(value)
}

/// The object without what the server makes.
fn plain(object: Option<&Value>) -> Option<Value> {
    let mut object = object?.clone();
    strip_server_fields(&mut object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove("deployment.kubernetes.io/revision");
        if annotations.is_empty()
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    Some(object)
}

fn people(world: &World) -> BTreeMap<String, String> {
    let mut people = BTreeMap::new();
    for object in world.objects(GROUP, "Person") {
        let Ok(person) = serde_json::from_value::<Person>((*object).clone()) else { continue };
        for identity in person.spec.identities {
            people.insert(identity, meta::name(&object).to_owned());
        }
    }
    people
}

/// How many distinct people the policy of the change's System demands at least.
fn demanded(world: &World, change: &ChangeRequest) -> usize {
    let namespace = change.metadata.namespace.as_deref().unwrap_or_default();
    let systems = world.objects(GROUP, "System");
    let policy = systems
        .iter()
        .find(|system| {
            system
                .pointer("/spec/namespaces")
                .and_then(Value::as_array)
                .is_some_and(|n| n.iter().any(|n| n.as_str() == Some(namespace)))
        })
        .and_then(|system| system.pointer("/spec/policyRef/name").and_then(Value::as_str).map(ToOwned::to_owned));
    let Some(policy) = policy.and_then(|name| world.object(GROUP, "ChangePolicy", "", &name)) else { return 0 };
    let _ = GroupKind::new("", "");
    policy
        .pointer("/spec/types/normal/approvals/thresholds")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|threshold| {
            threshold.get("fromRisk").is_none() && threshold.get("shared").and_then(Value::as_bool) != Some(true)
        })
        .filter_map(|threshold| threshold.get("count").and_then(Value::as_u64))
        .sum::<u64>() as usize
}
