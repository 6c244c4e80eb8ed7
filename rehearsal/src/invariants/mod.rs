//! What must hold after every step, whatever goes wrong. Each invariant is a function; a broken one is named.
//!
//! They look at the server's own record of writes, not at what the controller says, and judge it by a second, simpler
//! reading of the rules. What somebody changed a moment before is judged by the more lenient version: the controller
//! may have read it just before, and its write been on its way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use interlock_core::object::ObjectId;
use interlock_crds::{ChangePhase, ChangeRequest, GROUP};
use serde_json::Value;

use crate::{cluster::Audit, port::CONTROLLER, world::World};

mod backups;
mod drills;
mod ends;
mod gray;
mod read;
mod starts;
mod writes;

/// For so long after a change of the rules a start may still follow the old ones: reads, the decision, and the write's way.
const A_MOMENT: Duration = Duration::from_secs(25);

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Broken {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// A change that the controller started: what it was then, and the objects as they were before.
#[derive(Debug)]
struct Start {
    change: ChangeRequest,
    before: BTreeMap<String, Option<Arc<Value>>>,
    /// Whether it is carried out by a Rollout.
    is_gradual: bool,
}

/// What is remembered between steps.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// By uid.
    started: BTreeMap<String, Start>,
    /// Uids of the changes that run.
    running: Vec<String>,
    /// For each change and object: how often it was changed forward and back.
    written: BTreeMap<(String, String), (u32, u32)>,
    ended: BTreeMap<String, ChangePhase>,
    /// Rules as they were until a moment ago.
    replaced: Vec<(Instant, ObjectId, Arc<Value>)>,
    /// Services that lately had a ready endpoint.
    ready: gray::Ready,
    /// When a node was last seen that nobody hears of.
    node_was_lost: Option<Instant>,
}

type Check = fn(&mut Watchdog, &World, &Audit) -> Result<(), String>;

/// Every invariant on writes, by name.
pub const ON_WRITES: [(&str, Check); 24] = [
    ("nothing unapproved runs", starts::nothing_unapproved_runs),
    ("nothing runs without its evidence", starts::evidence_is_there),
    ("nothing starts in a freeze", starts::nothing_starts_frozen),
    ("nothing but what was approved is written", writes::only_what_was_approved),
    ("no step is taken twice", writes::no_step_twice),
    ("the before-state is there before the first write", writes::before_state_first),
    ("the old version is not touched before the canary proved itself", gray::steps_come_first),
    ("a step is passed when it is signed", gray::steps_are_signed),
    ("a wave begins when those before it were observed and it is signed", gray::waves_begin_in_turn),
    ("no pod of the old version is given up for a canary", gray::capacity_stays),
    ("as many ready pods serve as before a release", gray::ready_pods_stay),
    ("weights sum up and rise to ready endpoints only (R30)", gray::weights_follow_endpoints),
    ("a Service selects a version that is ready", gray::services_follow_ready_pods),
    ("pods go after their traffic", gray::pods_go_after_their_traffic),
    ("a slot has one run", backups::one_run_a_slot),
    ("who removes is alone with the repository", backups::removal_is_alone),
    ("no prune forgets what a drill restores or judges", backups::nothing_needed_is_forgotten),
    ("what a run came to never changes", backups::outcomes_stay),
    ("the controller never writes what people state of backups (B14)", backups::specs_are_peoples),
    ("T0 and the verdict of a drill never change", drills::what_was_noted_stays),
    ("a drill passes with its proofs only", drills::a_pass_has_its_proofs),
    ("a sandbox is isolated first and holds no credential", drills::sandboxes_are_safe),
    ("a terminal phase never changes", ends::terminal_phases_stay),
    ("what succeeded was carried out", ends::what_succeeded_stands),
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
        let now = world.instant();
        self.replaced.retain(|(at, ..)| now.duration_since(*at) < A_MOMENT);
        if audit.id.group == GROUP
            && matches!(audit.id.kind.as_str(), "Person" | "ChangePolicy" | "Evidence" | "Approval")
            && let Some(old) = &audit.old
        {
            self.replaced.push((now, audit.id.clone(), Arc::clone(old)));
        }
        let Some(change) = of_controller(audit) else { return };
        let uid = change.metadata.uid.clone().unwrap_or_default();
        if !read::is_running(&change) {
            self.running.retain(|running| *running != uid);
        } else if !self.started.contains_key(&uid) {
            let before = read::ids(&change).into_iter().map(|id| (id.key(), world.live(&id))).collect();
            self.running.push(uid.clone());
            let is_gradual = read::is_gradual(world, &change);
            self.started.insert(uid, Start { change, before, is_gradual });
        }
    }

    /// The changes that run.
    fn running_changes(&self) -> impl Iterator<Item = &Start> {
        self.running.iter().filter_map(|uid| self.started.get(uid))
    }

    /// The running change that states an object.
    fn running_with(&self, object: &ObjectId) -> Option<(&String, &Start)> {
        let running = self.running.iter().filter_map(|uid| self.started.get_key_value(uid));
        running.into_iter().find(|(_, start)| read::ids(&start.change).iter().any(|id| id.same_object(object)))
    }

    /// An object of the rules as it is, and as it was a moment ago.
    fn versions(&self, world: &World, kind: &str) -> Vec<Arc<Value>> {
        let before = self.replaced.iter().filter(|(_, id, _)| id.kind == kind).map(|(_, _, old)| Arc::clone(old));
        world.objects(GROUP, kind).into_iter().chain(before).collect()
    }

    /// What must hold once everything is quiet and nothing goes wrong any more.
    pub fn quiet(&self, world: &World) -> Result<(), Broken> {
        ends::quiet(self, world)
    }
}

/// The change whose status the controller wrote.
fn of_controller(audit: &Audit) -> Option<ChangeRequest> {
    read::change_of(audit).filter(|_| audit.user == CONTROLLER)
}

/// The change that the controller starts with this write.
fn starting(dog: &Watchdog, audit: &Audit) -> Option<ChangeRequest> {
    let is_new = |change: &ChangeRequest| !dog.started.contains_key(change.metadata.uid.as_deref().unwrap_or_default());
    of_controller(audit).filter(|change| read::is_running(change) && is_new(change))
}
