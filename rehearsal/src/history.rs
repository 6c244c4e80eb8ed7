//! Random histories: people who propose, vote, edit and interfere while things go wrong; and the smallest history that
//! still breaks an invariant.

use interlock_crds::{API_VERSION, ApprovalDecision, Verb};
use interlock_sim::workloads::{Behaviour, Effect};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    faults::Faults,
    invariants::{Broken, Watchdog},
    people::{Act, Change, user},
    world::{Happening, Options, World},
};

/// Steps after which a history is given up: it should be quiet long before.
const MAX_STEPS: usize = 60_000;
/// The people of the bank and their groups.
const PEOPLE: [(&str, &[&str]); 6] = [
    ("alice", &["dev"]),
    ("bob", &["sre"]),
    ("carol", &["sre"]),
    ("dave", &["sre"]),
    ("erin", &["branch-ops"]),
    ("mallory", &["dev"]),
];

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
    /// Changes by how they ended; `waits` of those that have not.
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
        let mut acts = Vec::new();
        for n in 0..rng.usize(1..6) {
            change(&mut rng, n, &mut acts);
        }
        for _ in 0..rng.usize(0..4) {
            acts.push((rng.i64(5_000..200_000), interference(&mut rng)));
        }
        acts.sort_by_key(|(at, _)| *at);
        let freeze = rng.bool().then(|| (rng.i64(0..3), rng.i64(1..5)));
        let faults = if rng.u8(..) < 200 { Faults::storm() } else { Faults::default() };
        Self {
            seed,
            faults,
            controllers: rng.usize(1..4),
            objects: bank(rng.usize(1..3), freeze),
            behaviours: vec![Behaviour { image: Some("*:bad".to_owned()), ..Behaviour::of(Effect::NeverReady) }],
            acts,
        }
    }

    /// Plays it to the end.
    pub fn play(&self) -> Result<Played, (Broken, Played)> {
        let options =
            Options { seed: self.seed, start: start(), controllers: self.controllers, faults: Faults::default() };
        let mut world = World::new(&options);
        let mut play = Play { world: &mut world, dog: Watchdog::default(), played: Played::default() };
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
        let waiting = self.world.objects(interlock_crds::GROUP, "ChangeRequest").len() as u64;
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
    }
}

/// A change and what people do about it.
fn change(rng: &mut fastrand::Rng, n: usize, acts: &mut Vec<(i64, Act)>) {
    let this = Change { namespace: "teller".to_owned(), name: format!("change-{n}") };
    let alice = user("alice", &["dev"]);
    let born = rng.i64(0..60_000);
    let mut spec = json!({
        "title": this.name, "reason": "a history", "requester": "alice", "progressDeadline": "20s",
        "content": {"manifests": manifests(rng, n)},
    });
    if rng.u8(..) < 40 {
        spec["contingency"] = json!({"onFailure": "Pause"});
    }
    acts.push((
        born,
        Act::Create(
            alice.clone(),
            json!({
                "apiVersion": API_VERSION, "kind": "ChangeRequest",
                "metadata": {"name": this.name, "namespace": "teller"}, "spec": spec,
            }),
        ),
    ));
    for _ in 0..rng.usize(1..6) {
        let (name, groups) = PEOPLE[rng.usize(..PEOPLE.len())];
        let decision = if rng.u8(..) < 20 { ApprovalDecision::Reject } else { ApprovalDecision::Approve };
        acts.push((born + rng.i64(1_000..40_000), Act::Vote(user(name, groups), this.clone(), decision)));
    }
    for _ in 0..rng.usize(0..3) {
        let at = born + rng.i64(2_000..90_000);
        let (name, groups) = PEOPLE[rng.usize(..4)];
        let who = user(name, groups);
        let verbs = [Verb::Abort, Verb::Rollback, Verb::Pause, Verb::Resume, Verb::Withdraw, Verb::Rebase];
        let act = match rng.u8(..8) {
            0 => Act::Patch(alice.clone(), this.id(), json!({"spec": {"content": {"manifests": manifests(rng, n)}}})),
            1 => Act::WithdrawVote(who, this.clone()),
            2 => Act::Delete(alice.clone(), this.id()),
            _ => Act::Command(who, this.clone(), verbs[rng.usize(..verbs.len())], "a history".to_owned()),
        };
        acts.push((at, act));
    }
    if rng.bool() {
        // A person looks at it later and decides what was left open.
        acts.push((born + 300_000, Act::Command(user("bob", &["sre"]), this, Verb::Rollback, "enough".to_owned())));
    }
}

fn manifests(rng: &mut fastrand::Rng, n: usize) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    let mut taken = std::collections::BTreeSet::new();
    for _ in 0..rng.usize(1..5) {
        let which = rng.usize(..6);
        if !taken.insert(which) {
            continue;
        }
        let value = format!("v{n}-{}", rng.u8(..4));
        objects.push(match which {
            0..=2 => {
                let mut object = config(which, &value);
                match rng.u8(..4) {
                    0 => object["metadata"]["annotations"] = json!({"interlock.dev/operation": "Patch"}),
                    1 => object["metadata"]["annotations"] = json!({"interlock.dev/operation": "Delete"}),
                    _ => {}
                }
                object
            }
            3 => config(10 + n, &value),
            _ => {
                let tag = if rng.u8(..4) == 0 { "bad" } else { ["one", "two"][rng.usize(..2)] };
                let mut web = deployment(&format!("web-{}", which - 4), &format!("web:{tag}"));
                web["metadata"]["annotations"] = json!({"interlock.dev/operation": "Patch"});
                web
            }
        });
    }
    objects
}

/// What somebody does who should not, or need not.
fn interference(rng: &mut fastrand::Rng) -> Act {
    let mallory = user("mallory", &["dev"]);
    let target = config(rng.usize(..3), "mallory was here");
    let id = interlock_core::object::ObjectId::of(&target);
    match (rng.u8(..3), id) {
        (0, Ok(id)) => Act::Patch(mallory, id, json!({"data": {"value": "mallory was here"}})),
        (1, Ok(id)) => Act::Delete(mallory, id),
        _ => Act::Apply(mallory, target),
    }
}

fn config(n: usize, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("config-{n}"), "namespace": "teller"}, "data": {"value": value},
    })
}

fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "teller"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}

/// The bank, small: one System, one policy with so many votes, and perhaps a freeze (begin and length in minutes).
fn bank(votes: usize, freeze: Option<(i64, i64)>) -> Vec<Value> {
    let own = |kind: &str, name: &str, spec: Value| json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "teller"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "executor", "namespace": "teller"}}),
    ];
    objects.extend((0..3).map(|n| config(n, "before")));
    objects.extend((0..2).map(|n| deployment(&format!("web-{n}"), "web:zero")));
    for (name, groups) in PEOPLE {
        let spec = json!({"displayName": {"en": name}, "identities": [name], "groups": groups});
        objects.push(own("Person", name, spec));
    }
    let mut normal = json!({
        "approvals": {"thresholds": [{"name": "peers", "count": votes, "groups": ["sre"]}]},
        "gates": {"collision": {"mode": "Enforce"}},
    });
    if let Some((begin, length)) = freeze {
        let local = |minutes: i64| {
            // Asia/Shanghai is eight hours ahead all year.
            let at = start() + SignedDuration::from_mins(minutes + 8 * 60);
            at.strftime("%Y-%m-%dT%H:%M").to_string()
        };
        normal["calendarRef"] = json!({"name": "bank"});
        let freezes = json!([{"name": "month-end", "from": local(begin), "until": local(begin + length)}]);
        objects.push(own("Calendar", "bank", json!({"timeZone": "Asia/Shanghai", "freezes": freezes})));
    }
    objects.push(own("ChangePolicy", "bank", json!({"operators": ["sre"], "types": {"normal": normal}})));
    objects.push(own(
        "System",
        "teller",
        json!({
            "tier": "High", "mode": "Enforce", "namespaces": ["teller"], "policyRef": {"name": "bank"},
            "executor": {"type": "Interlock", "serviceAccount": {"namespace": "teller", "name": "executor"}},
        }),
    ));
    objects
}
