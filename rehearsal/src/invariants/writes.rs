//! What executors, and people who should not, write.

use serde_json::Value;

use super::{Watchdog, backups, drills, gray, read, read::plain};
use crate::{cluster::Audit, world::World};

fn is_executors(audit: &Audit) -> bool {
    audit.user.ends_with(":executor")
}

/// Fields that were taken over from another manager, or were as wanted already, change nothing.
fn changes_nothing(audit: &Audit) -> bool {
    audit.new.is_some() && plain(audit.new.as_deref()) == plain(audit.old.as_deref())
}

/// The executor writes only objects of a running change, and only what that change states, or what was there before.
pub(super) fn only_what_was_approved(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if !is_executors(audit) {
        return governed_by_executor_only(world, audit);
    }
    if changes_nothing(audit) {
        return Ok(());
    }
    let of_backups = backups::is_job_of(world, audit) || backups::is_writer_of(world, audit);
    let of_recovery = of_backups || backups::are_manifests_of(world, audit) || drills::is_of_a_drill(world, audit);
    if of_recovery || gray::is_derived(dog, world, audit) {
        return Ok(());
    }
    let Some((uid, start)) = dog.running_with(&audit.id) else {
        return Err(format!("{} was written for no running change", audit.id));
    };
    let before = start.before.get(&audit.id.key()).cloned().flatten();
    let seen = |object: Option<&Value>| {
        if start.is_gradual { gray::beside_strategy(&audit.id, object) } else { object.cloned() }
    };
    let (old, new, before) = (seen(audit.old.as_deref()), seen(audit.new.as_deref()), seen(before.as_deref()));
    let forward = read::is_forward(world, &start.change, &audit.id, old.as_ref(), new.as_ref());
    let back = plain(new.as_ref()) == plain(before.as_ref());
    // The mark of an epoch is the one thing that is written beside both.
    let marked = audit.new.as_deref().is_some_and(|new| {
        new.pointer("/metadata/annotations").is_some_and(|a| a.get(interlock_core::change::EPOCH_ANNOTATION).is_some())
    });
    let counts = dog.written.entry((uid.clone(), audit.id.key())).or_default();
    match (forward, back) {
        (true, false) => counts.0 += 1,
        (_, true) => counts.1 += 1,
        (false, false) if marked => {}
        (false, false) => {
            let became = plain(audit.new.as_deref()).unwrap_or_default();
            return Err(format!("{} became {became}, which is neither what was approved nor what it was", audit.id));
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

/// Each object is changed at most once on the way there, and at most once on the way back.
pub(super) fn no_step_twice(dog: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if !is_executors(audit) {
        return Ok(());
    }
    let key = audit.id.key();
    match dog.written.iter().find(|((_, object), (forward, back))| *object == key && (*forward > 1 || *back > 1)) {
        Some((_, (forward, back))) => Err(format!("{key} was written {forward} times and put back {back} times")),
        None => Ok(()),
    }
}

pub(super) fn before_state_first(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if changes_nothing(audit) || !is_executors(audit) {
        return Ok(());
    }
    let Some((uid, _)) = dog.running_with(&audit.id) else { return Ok(()) };
    let stored = world.objects("", "Secret").iter().any(|secret| {
        secret.pointer("/metadata/labels").and_then(|l| l.get("interlock.dev/change-uid")).and_then(Value::as_str)
            == Some(uid.as_str())
    });
    if stored { Ok(()) } else { Err(format!("{} was written and no before-state is stored", audit.id)) }
}
