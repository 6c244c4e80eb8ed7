//! How changes end, and what must hold once everything is quiet.

use interlock_core::object::ObjectId;
use interlock_crds::{ChangePhase, GROUP, StepState};
use interlock_sim::api::meta;
use serde_json::Value;

use super::{Broken, Start, Watchdog, backups, drills, gray, of_controller, read, read::plain};
use crate::{
    cluster::Audit,
    world::{World, key_of},
};

pub(super) fn terminal_phases_stay(dog: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = read::change_of(audit) else { return Ok(()) };
    let uid = change.metadata.uid.clone().unwrap_or_default();
    let phase = change.status.as_ref().map(|s| s.phase).unwrap_or_default();
    match dog.ended.get(&uid) {
        Some(ended) if *ended != phase => Err(format!("it had ended {ended:?} and is {phase:?}")),
        Some(_) => Ok(()),
        None => {
            // Whoever edits a change keeps the status that somebody forged; that is no end.
            if phase.is_terminal() && of_controller(audit).is_some() {
                dog.ended.insert(uid, phase);
            }
            Ok(())
        }
    }
}

/// When a change succeeds, every object is as it states.
pub(super) fn what_succeeded_stands(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = of_controller(audit) else { return Ok(()) };
    let uid = change.metadata.uid.clone().unwrap_or_default();
    let status = change.status.unwrap_or_default();
    let succeeds = status.finished.as_ref().is_some_and(|end| end.phase == ChangePhase::Succeeded);
    let Some(start) = dog.started.get(&uid).filter(|_| succeeds && dog.running.contains(&uid)) else { return Ok(()) };
    for id in read::ids(&start.change) {
        let live = world.live(&id);
        let before = start.before.get(&id.key()).cloned().flatten();
        let mut journal = status.run.iter().flat_map(|run| &run.objects);
        let own = journal.find(|own| own.kind == id.kind && own.namespace == id.namespace && own.name == id.name);
        if own.is_some_and(|own| own.state == StepState::Reverted) {
            // A wave went on without it.
            if plain(live.as_deref()) != plain(before.as_deref()) {
                return Err(format!("{id} was missed and is {}", plain(live.as_deref()).unwrap_or_default()));
            }
            continue;
        }
        if !read::is_forward(world, &start.change, &id, before.as_deref(), live.as_deref()) {
            return Err(format!("{id} is {}", plain(live.as_deref()).unwrap_or_default()));
        }
        let (forward, back) = dog.written.get(&(uid.clone(), id.key())).copied().unwrap_or_default();
        if back > 0 || forward > 1 {
            return Err(format!("{id} was written {forward} times and put back {back} times"));
        }
    }
    Ok(())
}

pub(super) fn quiet(dog: &Watchdog, world: &World) -> Result<(), Broken> {
    let broken = |invariant, what| Err(Broken { invariant, what });
    for object in world.objects(GROUP, "ChangeRequest") {
        let Some(change) = read::parsed(&object) else { continue };
        let uid = change.metadata.uid.clone().unwrap_or_default();
        let status = change.status.unwrap_or_default();
        let waits = status.phase == ChangePhase::Paused
            || status.message.as_deref().is_some_and(|m| m.contains("interlock resume"))
            || dog.started.get(&uid).is_some_and(|start| gray::waits_for_people(world, start));
        if status.run.is_some() && status.finished.is_none() && !waits {
            let (key, message) = (key_of(&object), status.message.unwrap_or_default());
            return broken("every started change ends or waits for a person", format!("{key} is stuck: {message}"));
        }
        let went_back = status.finished.as_ref().is_some_and(|end| end.phase == ChangePhase::RolledBack);
        if let Some(start) = dog.started.get(&uid).filter(|_| went_back) {
            restored(dog, world, start, &uid).or_else(|what| broken("going back restores everything", what))?;
        }
        let ends = [ChangePhase::Succeeded, ChangePhase::RolledBack];
        let is_over = status.finished.as_ref().is_some_and(|end| ends.contains(&end.phase));
        if let Some(start) = dog.started.get(&uid).filter(|_| is_over) {
            gray::nothing_is_left(world, start)
                .and_then(|()| gray::one_version_runs(dog, world, start, &uid))
                .or_else(|what| broken("after a release only one version serves, and nothing else is left", what))?;
        }
    }
    match backups::under_way(world).or_else(|| drills::under_way(world)).or_else(|| drills::leftover(world)) {
        Some(what) => broken("every backup and drill ends and nothing of it is left", what),
        None => Ok(()),
    }
}

/// Every object that nobody wrote since is as it was before the change.
fn restored(dog: &Watchdog, world: &World, start: &Start, uid: &str) -> Result<(), String> {
    for (object, before) in &start.before {
        if dog.written.keys().any(|(other, written)| other != uid && written == object) {
            continue;
        }
        let Some(id) = read::ids(&start.change).into_iter().find(|id| id.key() == *object) else { continue };
        let counts = |object: Option<&Value>| plain(unscaled(world, &id, object).as_ref());
        let (now, was) = (counts(world.live(&id).as_deref()), counts(before.as_deref()));
        if now != was {
            return Err(format!("{id} is {} and was {}", now.unwrap_or_default(), was.unwrap_or_default()));
        }
    }
    Ok(())
}

/// The object without the number of replicas that an autoscaler gives it.
fn unscaled(world: &World, id: &ObjectId, object: Option<&Value>) -> Option<Value> {
    let mut object = object?.clone();
    let scales = |autoscaler: &Value| {
        let target = |field: &str| autoscaler.pointer(&format!("/spec/scaleTargetRef/{field}")).and_then(Value::as_str);
        Some(meta::namespace(autoscaler)) == id.namespace.as_deref()
            && target("kind") == Some(id.kind.as_str())
            && target("name") == Some(id.name.as_str())
    };
    if world.objects("autoscaling", "HorizontalPodAutoscaler").iter().any(|autoscaler| scales(autoscaler))
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("replicas");
    }
    Some(object)
}
