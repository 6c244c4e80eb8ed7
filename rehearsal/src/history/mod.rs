//! Random histories: people who propose, vote, edit and interfere while things go wrong; and the smallest history that
//! still breaks an invariant.

use interlock_sim::workloads::{Behaviour, Effect};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    faults::Faults,
    invariants::{Broken, Watchdog},
    people::Act,
    world::{Happening, Options, World},
};

mod acts;
mod backups;
mod bank;

pub use bank::{Bank, PIPELINE, config, deployment, release_objects};

/// Steps after which a history is given up: it should be quiet long before.
const MAX_STEPS: usize = 200_000;

/// A history that can be played again.
#[derive(Clone, Debug)]
pub struct History {
    /// Of the scheduler.
    pub seed: u64,
    /// What goes wrong while people act.
    pub faults: Faults,
    /// Controllers at the same time.
    pub controllers: usize,
    /// What is there at the start.
    pub objects: Vec<Value>,
    /// How workloads behave.
    pub behaviours: Vec<Behaviour>,
    /// How long the Gateway takes to take up a route.
    pub gateway_delay: SignedDuration,
    /// Who does what, after how many milliseconds.
    pub acts: Vec<(i64, Act)>,
}

/// How a history went.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Steps that were taken.
    pub steps: usize,
    /// What happened.
    pub timeline: Vec<Happening>,
    /// Changes by how they ended; `waits` of those that have not. Runs of backups and drills by kind and phase.
    pub ends: std::collections::BTreeMap<String, usize>,
}

/// The start of every history.
pub fn start() -> Timestamp {
    Timestamp::from_second(1_795_507_200).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl History {
    /// The history of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let acts = acts::of(&mut rng);
        let bank = Bank::of(&mut rng);
        let faults = if rng.u8(..) < 200 { Faults::storm() } else { Faults::default() };
        let mut history = Self { seed, faults, controllers: rng.usize(1..4), ..Self::at(&bank, acts) };
        history.objects.extend(release_objects());
        history
    }

    /// The history of a seed in which backups, prunes and drills meet in one repository.
    pub fn of_backups(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let acts = backups::acts(&mut rng);
        let behaviours = backups::behaviours(&mut rng);
        let faults = if rng.u8(..) < 180 { Faults::storm() } else { Faults::default() };
        let bank = Bank { votes: 1, ..Bank::default() };
        let mut history = Self { seed, faults, behaviours, controllers: rng.usize(1..4), ..Self::at(&bank, acts) };
        history.objects.extend(backups::objects());
        history
    }

    /// The history that a seed has among all: one in eight is of backups.
    pub fn of_any(seed: u64) -> Self {
        if seed.is_multiple_of(8) { Self::of_backups(seed) } else { Self::of_seed(seed) }
    }

    /// A history in which nothing goes wrong, at a certain bank.
    pub fn at(bank: &Bank, acts: Vec<(i64, Act)>) -> Self {
        Self {
            seed: 1,
            faults: Faults::default(),
            controllers: 1,
            objects: bank.objects(),
            behaviours: vec![Behaviour { image: Some("*:bad".to_owned()), ..Behaviour::of(Effect::NeverReady) }],
            gateway_delay: SignedDuration::from_secs(1),
            acts,
        }
    }

    /// Plays it to the end.
    pub fn play(&self) -> Result<Played, (Broken, Played)> {
        self.play_whole().map(|(_, played)| played)
    }

    /// Plays it to the end and leaves the world to be looked at.
    pub fn play_whole(&self) -> Result<(World, Played), (Broken, Played)> {
        let options =
            Options { seed: self.seed, start: start(), controllers: self.controllers, faults: Faults::default() };
        let mut world = World::new(&options);
        let played = self.play_in(&mut world)?;
        Ok((world, played))
    }

    fn play_in(&self, world: &mut World) -> Result<Played, (Broken, Played)> {
        let mut play = Play { world, dog: Watchdog::default(), played: Played::default() };
        play.run(self).map_err(|broken| (broken, play.played.clone()))?;
        Ok(play.played)
    }

    /// The smallest history that still breaks an invariant: without the acts and the faults that are not needed.
    #[must_use]
    pub fn shrunk(&self) -> Self {
        let mut smallest = self.clone();
        loop {
            let smaller = smallest
                .faults
                .names()
                .into_iter()
                .map(|name| Self { faults: smallest.faults.without(name), ..smallest.clone() })
                .chain((0..smallest.acts.len()).map(|left_out| {
                    let mut acts = smallest.acts.clone();
                    acts.remove(left_out);
                    Self { acts, ..smallest.clone() }
                }))
                .chain((smallest.controllers > 1).then(|| Self { controllers: 1, ..smallest.clone() }))
                .find(|candidate| candidate.play().is_err());
            match smaller {
                Some(smaller) => smallest = smaller,
                None => return smallest,
            }
        }
    }
}

struct Play<'w> {
    world: &'w mut World,
    dog: Watchdog,
    played: Played,
}

impl Play<'_> {
    fn run(&mut self, history: &History) -> Result<(), Broken> {
        self.world.workloads.set_behaviours(history.behaviours.clone());
        self.world.gateway.set_delay(history.gateway_delay);
        if let Err(error) = self.world.seed_objects(&history.objects) {
            return Err(Broken { invariant: "the history begins", what: error.message });
        }
        // Everything is enrolled and healthy before anything goes wrong.
        self.until(start() + SignedDuration::from_secs(30))?;
        self.world.faults = history.faults.clone();
        let begun = self.world.now();
        for (after, act) in &history.acts {
            let at = begun.checked_add(SignedDuration::from_millis(*after)).unwrap_or(begun);
            self.world.schedule(at, act.clone());
        }
        let last = history.acts.iter().map(|(after, _)| *after).max().unwrap_or_default();
        let end = begun + SignedDuration::from_millis(last) + SignedDuration::from_mins(5);
        self.until(end)?;
        self.world.calm();
        // Long enough for every deadline, lease and retry.
        self.until(end + SignedDuration::from_hours(2))?;
        self.silent()?;
        self.dog.quiet(self.world)?;
        self.count();
        Ok(())
    }

    fn until(&mut self, until: Timestamp) -> Result<(), Broken> {
        while self.world.step(until) {
            self.played.steps += 1;
            self.look()?;
            if self.played.steps > MAX_STEPS {
                return Err(Broken { invariant: "status converges", what: format!("{MAX_STEPS} steps and no end") });
            }
        }
        self.look()
    }

    fn look(&mut self) -> Result<(), Broken> {
        for happening in self.world.take_happened() {
            if let Happening::Stored(audit) = &happening {
                let checked = self.dog.stored(self.world, audit);
                self.played.timeline.push(happening);
                checked?;
            } else {
                self.played.timeline.push(happening);
            }
        }
        Ok(())
    }

    /// With nothing to do, the controller asks nothing: what is due by time alone is all that is left.
    fn silent(&mut self) -> Result<(), Broken> {
        let before = self.world.calls_made();
        let now = self.world.now();
        self.until(now + SignedDuration::from_mins(1))?;
        let calls = self.world.calls_made() - before;
        // Retries of what cannot succeed: a refused dry run every 30 s, a base that does not hold every 60 s.
        // That a drill is overdue, too, becomes true by time alone.
        let kinds = ["ChangeRequest", "BackupPolicy"];
        let waiting = kinds.map(|kind| self.world.objects(interlock_crds::GROUP, kind).len() as u64);
        let waiting: u64 = waiting.iter().sum();
        let most = waiting * 80;
        if calls > most {
            return Err(Broken {
                invariant: "the controller falls silent",
                what: format!("{calls} calls in a quiet minute"),
            });
        }
        Ok(())
    }

    fn count(&mut self) {
        for change in self.world.objects(interlock_crds::GROUP, "ChangeRequest") {
            let end = change.pointer("/status/finished/phase").and_then(Value::as_str).unwrap_or("waits");
            *self.played.ends.entry(end.to_owned()).or_default() += 1;
        }
        for kind in ["Backup", "DrillRun"] {
            for run in self.world.objects(interlock_crds::GROUP, kind) {
                let phase = run.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Pending");
                *self.played.ends.entry(format!("{kind} {phase}")).or_default() += 1;
            }
        }
    }
}
