//! From a folder and a scenario to a rehearsal that can begin.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use interlock_core::object::GroupKind;
use interlock_crds::GROUP;
use interlock_sim::api::meta;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    BadInput, Folder, Moment, Player, Report, Scenario, Source,
    cast::{Cast, text_at},
    doings::Doing,
    folder::is_own,
    narrate::Narrator,
    read::Step,
};
use crate::{
    faults::Faults,
    world::{Options, World},
};

/// How long the cluster has before the start, so that Systems are enrolled and programs are ready.
const BEFORE: SignedDuration = SignedDuration::from_mins(10);
/// How long it goes on after the last step where nothing says how long.
const AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Plays a scenario from its start to its end.
///
/// Not to be called within a task of tokio: the controllers would wait for ever once the task's budget is spent.
///
/// # Errors
/// The folder or the scenario cannot be played; the message says where and why.
pub fn play(folder: &Folder, scenario: &Scenario) -> Result<Report, BadInput> {
    let mut player = Player::new(folder, scenario)?;
    while player.next_moment()? != Moment::Over {}
    Ok(player.into_report())
}

impl Player {
    /// A cluster with the objects of the folder in it, quiet, at the start of the scenario.
    ///
    /// # Errors
    /// The folder or the scenario cannot be played; the message says where and why.
    pub fn new(folder: &Folder, scenario: &Scenario) -> Result<Self, BadInput> {
        let start = scenario
            .start
            .ok_or_else(|| BadInput(format!("{}: nothing says when it begins: add `start`", scenario.file)))?;
        let out_of_range = || BadInput(format!("{}: start is not a time that can be", scenario.file));
        let cast = Cast::new(folder, &scenario.people, start)?;
        let seed = scenario.seed.unwrap_or(1);
        let options = Options {
            seed,
            start: start.checked_sub(BEFORE).map_err(|_| out_of_range())?,
            controllers: scenario.controllers.unwrap_or(1).clamp(1, 5),
            // Clocks are off from the beginning; everything else goes wrong from the start on.
            faults: Faults { skew_ms: scenario.faults.skew_ms, ..Faults::default() },
        };
        let mut world = World::new(&options);
        world.skips_rereads = true;
        world.workloads.set_behaviours(scenario.first_behaviours()?);
        seed_cluster(&mut world, folder)?;
        let mut player = Self::of_world(world, Narrator::new(cast), start);
        player.title.clone_from(&scenario.title);
        player.seed = seed;
        player.zone = zone(folder, scenario);
        player.steps = timed(folder, scenario, start, &player)?;
        player.last_words.clone_from(&scenario.expect);
        let last = player.steps.back().map_or(start, |(at, _)| *at);
        let end = match scenario.length {
            Some(length) => start.checked_add(length),
            None => last.checked_add(AFTER),
        };
        player.end = end.map_err(|_| out_of_range())?;
        player.cut();
        player.settle(start, &scenario.faults);
        Ok(player)
    }

    /// The same, asking the person who watches where the scenario says so.
    #[must_use]
    pub const fn interactive(mut self) -> Self {
        self.is_interactive = true;
        self
    }

    /// What happens before the start is nobody's interest.
    fn settle(&mut self, start: Timestamp, faults: &Faults) {
        while self.world.step(start) {
            self.world.take_happened();
        }
        self.world.rest_until(start);
        self.world.take_happened();
        let systems = self.world.objects(GROUP, "System");
        self.narrator.know_systems(systems.iter().map(|system| &**system));
        self.world.faults = faults.clone();
        self.leader = self.world.leader();
    }
}

fn seed_cluster(world: &mut World, folder: &Folder) -> Result<(), BadInput> {
    let seeded = folder.to_seed()?;
    let is_there =
        |name: &str| seeded.iter().any(|source| is_namespace(&source.object) && meta::name(&source.object) == name);
    if !is_there(interlock_core::change::INTERLOCK_NAMESPACE) {
        let name = interlock_core::change::INTERLOCK_NAMESPACE;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        put(world, &namespace, "the namespace of Interlock")?;
    }
    for source in &seeded {
        if !(is_namespace(&source.object) && world.object("", "Namespace", "", meta::name(&source.object)).is_some()) {
            put(world, &source.object, &source.place)?;
        }
    }
    Ok(())
}

fn is_namespace(object: &Value) -> bool {
    GroupKind::of(object).is_ok_and(|kind| kind.is("", "Namespace"))
}

fn put(world: &mut World, object: &Value, place: &str) -> Result<(), BadInput> {
    let kind = GroupKind::of(object).map_err(|error| BadInput(format!("{place}: {error}")))?;
    let info = world.shared.lock().api.registry().get(&kind).cloned();
    let Some(info) = info else {
        return Err(BadInput(format!(
            "{place}: the simulated cluster does not know the kind {} of {}; add its CustomResourceDefinition to the folder, \
             or leave the object out",
            kind.kind,
            text_at(object, "/apiVersion")
        )));
    };
    let mut object = object.clone();
    if info.namespaced && meta::namespace(&object).is_empty() {
        object["metadata"]["namespace"] = json!("default");
    }
    world
        .seed_objects(std::slice::from_ref(&object))
        .map_err(|error| BadInput(format!("{place}: {} {}: {}", kind.kind, meta::name(&object), error.message)))
}

/// The zone that is stated, or that of the first Calendar.
fn zone(folder: &Folder, scenario: &Scenario) -> String {
    let of_calendar = || {
        let calendar = folder.own("Calendar").next()?;
        Some(text_at(&calendar.object, "/spec/timeZone").to_owned()).filter(|zone| !zone.is_empty())
    };
    scenario.time_zone.clone().or_else(of_calendar).unwrap_or_else(|| "UTC".to_owned())
}

/// The steps with their instants, in order; first the changes of the folder that no step proposes.
fn timed(
    folder: &Folder,
    scenario: &Scenario,
    start: Timestamp,
    player: &Player,
) -> Result<VecDeque<(Timestamp, Step)>, BadInput> {
    let proposed: BTreeSet<_> = scenario
        .steps
        .iter()
        .filter_map(|step| match &step.doing {
            Some(Doing::Propose(request)) => Some(crate::world::key_of(request)),
            _ => None,
        })
        .collect();
    let mut steps: Vec<_> = folder
        .own("ChangeRequest")
        .filter(|source| !proposed.contains(&crate::world::key_of(&source.object)))
        .map(|source| (start, proposal(source)))
        .collect();
    let mut before = start;
    for step in &scenario.steps {
        let bad = |why: &str| BadInput(format!("{}: {why}", step.place));
        let at = step.at.as_ref().map_or(Some(before), |at| at.resolve(start, before));
        let at = at.filter(|at| *at >= start).ok_or_else(|| bad("it lies before the start"))?;
        before = at;
        let mut step = step.clone();
        if let (Some(Doing::Propose(request)), None) = (&step.doing, &step.by) {
            step.by = Some(text_at(request, "/spec/requester").to_owned());
        }
        if let Some(by) = &step.by
            && player.narrator.cast.user(by).is_none()
        {
            let why = format!(
                "nobody is called {by:?}: write an identity or the name of a Person of the folder, or add the user to `people`"
            );
            return Err(BadInput(format!("{}: {why}", step.place)));
        }
        steps.push((at, step));
    }
    steps.sort_by_key(|(at, _)| *at);
    Ok(steps.into())
}

fn proposal(source: &Source) -> Step {
    debug_assert!(is_own(&source.object, "ChangeRequest"), "only changes are proposed");
    Step {
        place: source.place.clone(),
        at: None,
        say: None,
        ask: None,
        doing: Some(Doing::Propose(Arc::new(source.object.clone()))),
        by: Some(text_at(&source.object, "/spec/requester").to_owned()),
        expect: Vec::new(),
    }
}
