//! Waves, and signatures.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{
    ApprovalDecision, ChangeRequestRef, NameRef, OnFailure, PersonSpec, RolloutPhase, RolloutPlanSpec, RolloutSpec,
    RolloutStatus, RolloutTarget, WavePhase, WorkloadKind,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::game::{DIGEST, UID, at, deployment, plan};
use crate::{
    change::facts::{SealedFacts, Vote},
    people::{People, PersonFacts},
    rollout::{
        CommandFact, GateFact, LiveObjects, RolloutFacts, RolloutVerb, decide, permitted,
        sign_off::{self, SignOffFacts},
        waves,
    },
};

const CHANGE: &str = "0b5e7f52-0000-4000-8000-0000000000cc";

struct Waves {
    spec: RolloutSpec,
    status: RolloutStatus,
    live: LiveObjects,
    now: Timestamp,
    votes: Vec<Vote>,
    people: People,
    commands: Vec<CommandFact>,
    windows: BTreeMap<String, GateFact>,
    made: Vec<String>,
}

fn two_waves() -> RolloutPlanSpec {
    let target = |name: &str| json!({"kind": "Deployment", "name": name});
    let canary = json!({"steps": [{"setWeight": 50}]});
    plan(json!({"waves": [
        {"name": "counters", "targets": [target("c1"), target("c2"), target("c3")], "canary": canary, "soak": "24h", "maxParallel": 2, "failureThreshold": 1},
        {"name": "mobile", "targets": [target("m1")], "canary": canary, "signOff": {"groups": ["branch-ops"]}, "calendarRef": {"name": "night"}},
    ]}))
}

impl Waves {
    fn new(plan: RolloutPlanSpec) -> Self {
        let mut people = People::default();
        let spec: PersonSpec = serde_json::from_value(
            json!({"displayName": {"en": "Li Na"}, "identities": ["li-na"], "groups": ["branch-ops"]}),
        )
        .unwrap();
        people.insert(PersonFacts::of("li-na", &spec));
        let mut live = LiveObjects::default();
        for name in ["c1", "c2", "c3", "m1"] {
            let mut object = deployment("v1", 1);
            object["metadata"] = json!({"name": name, "namespace": "teller", "generation": 1});
            object["status"] = json!({
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}, {"type": "Available", "status": "True"}],
            });
            live.insert(object);
        }
        let targets = ["c1", "c2", "c3", "m1"].map(|name| RolloutTarget {
            kind: WorkloadKind::Deployment,
            namespace: "teller".into(),
            name: name.into(),
        });
        Self {
            spec: RolloutSpec {
                change_request: ChangeRequestRef { name: "cr".into(), uid: CHANGE.into() },
                change_digest: DIGEST.into(),
                plan,
                targets: targets.to_vec(),
                part_of: None,
            },
            status: RolloutStatus::default(),
            live,
            now: at(0),
            votes: Vec::new(),
            people,
            commands: Vec::new(),
            windows: BTreeMap::from([(
                "night".to_owned(),
                GateFact { open: true, message: "open".into(), changes_at: None },
            )]),
            made: Vec::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..50 {
            let contributors = BTreeSet::new();
            let sign_offs = SignOffFacts {
                change_uid: CHANGE,
                votes: &self.votes,
                people: &self.people,
                requester: "wang",
                contributors: &contributors,
            };
            let gates = BTreeMap::new();
            let status = self.status.clone();
            let facts = |status| RolloutFacts {
                namespace: "teller",
                name: "big",
                uid: UID,
                generation: 1,
                deleting: false,
                spec: &self.spec,
                status,
                change_active: true,
                target: None,
                live: &self.live,
                analyses: &[],
                commands: &self.commands,
                sign_offs: Some(sign_offs),
                gates: &gates,
                window: None,
                wave_windows: &self.windows,
                superseded_by: None,
                known_good: None,
                return_asked: None,
                refused: None,
            };
            let decision = decide(&facts(&status), self.now);
            assert_eq!(decide(&facts(&decision.status), self.now).status, decision.status);
            let objects: Vec<_> = decision.writes.iter().map(|write| write.object.clone().unwrap()).collect();
            for object in &objects {
                // A Rollout is written without the target's facts; the webhook needs none for it.
                assert!(permitted(&facts(&decision.status), None, Some(object)).is_ok());
            }
            let still = objects.is_empty() && decision.status == self.status;
            self.status = decision.status;
            for mut object in objects {
                self.made.push(object["metadata"]["name"].as_str().unwrap().to_owned());
                object["status"] = json!({"phase": "Progressing"});
                self.live.insert(object);
            }
            if still {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn ends(&mut self, name: &str, phase: &str) {
        let found =
            self.live.of_kind("interlock.dev", "Rollout").find(|o| o["spec"]["targets"][0]["name"] == name).unwrap();
        let mut object: Value = found.clone();
        object["status"]["phase"] = json!(phase);
        self.live.insert(object);
        self.run();
    }

    /// Somebody deletes the Rollout of a workload.
    fn deleted(&mut self, name: &str) {
        let mut left = LiveObjects::default();
        self.live.iter().filter(|o| o["spec"]["targets"][0]["name"] != name).for_each(|o| left.insert(o.clone()));
        self.live = left;
        self.run();
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self.run();
    }

    fn sign(&mut self, subject: &str) {
        self.vote(subject, ApprovalDecision::Approve);
    }

    fn vote(&mut self, subject: &str, decision: ApprovalDecision) {
        let groups = vec!["branch-ops".to_owned()];
        let sealed = SealedFacts {
            user: "li-na".into(),
            groups,
            claims: Vec::new(),
            time: self.now,
            request_uid: format!("r-{}", self.votes.len()),
        };
        self.votes.push(Vote {
            name: format!("vote-{}", self.votes.len()),
            uid: format!("u-{}", self.votes.len()),
            approver: "li-na".into(),
            decision,
            digest: sign_off::digest(DIGEST, UID, subject),
            change_uid: CHANGE.into(),
            created: self.now,
            sealed: Some(sealed),
        });
    }

    fn command(&mut self, verb: RolloutVerb) {
        let id = format!("action-{}", self.commands.len());
        self.commands.push(CommandFact { id, verb, actor: "li-na".into(), reason: String::new(), at: self.now });
        self.run();
    }

    fn phases(&self) -> Vec<WavePhase> {
        self.status.waves.iter().map(|wave| wave.phase).collect()
    }

    fn counters(&mut self) {
        self.run();
        self.ends("c1", "Succeeded");
        self.ends("c2", "Succeeded");
        self.ends("c3", "Succeeded");
    }
}

#[test]
fn r31_an_early_signature_does_not_shorten_the_soak() {
    let mut waves = Waves::new(two_waves());
    waves.sign("wave-mobile-0");
    waves.counters();
    assert_eq!(waves.phases(), [WavePhase::Soaking, WavePhase::Waiting]);
    waves.pass(86_399);
    assert_eq!((waves.phases()[0], waves.made.len()), (WavePhase::Soaking, 3));
    waves.pass(1);
    assert_eq!(waves.phases(), [WavePhase::Complete, WavePhase::Running]);
    assert_eq!(waves.made.last().map(String::as_str), Some("big-0-mobile-0"));
    waves.ends("m1", "Succeeded");
    assert_eq!(waves.status.phase, RolloutPhase::Succeeded);
}

#[test]
fn waves_wait_for_signatures_windows_and_health() {
    let mut waves = Waves::new(two_waves());
    waves.counters();
    waves.sign("wave-counters-0");
    waves.pass(90_000);
    assert!(
        waves.status.message.clone().unwrap().contains("waits for 1 of 1 signatures from branch-ops"),
        "{:?}",
        waves.status.message
    );
    waves.sign("wave-mobile-0");
    waves.windows.clear();
    waves.run();
    assert!(waves.status.message.clone().unwrap().contains("calendar night is not known"), "unknown is closed");
    waves.windows.insert("night".into(), GateFact { open: true, message: String::new(), changes_at: None });
    let mut sick = waves.live.of_kind("apps", "Deployment").find(|o| o["metadata"]["name"] == "c2").unwrap().clone();
    sick["status"]["availableReplicas"] = json!(0);
    waves.live.insert(sick.clone());
    waves.run();
    assert!(
        waves.status.message.clone().unwrap().contains("waits until c2 of wave counters is healthy"),
        "{:?}",
        waves.status.message
    );
    sick["status"]["availableReplicas"] = json!(1);
    waves.live.insert(sick);
    waves.run();
    assert_eq!(waves.made.last().map(String::as_str), Some("big-0-mobile-0"));
}

#[test]
fn a_wave_whose_signature_was_refused_waits_until_the_same_person_signs_after_all() {
    let mut waves = Waves::new(two_waves());
    waves.counters();
    waves.vote("wave-mobile-0", ApprovalDecision::Reject);
    waves.pass(90_000);
    let said = waves.status.message.clone().unwrap();
    assert_eq!((waves.status.phase, waves.made.len()), (RolloutPhase::Paused, 3), "{said}");
    let why = "the sign-off was refused by li-na, who may sign after all with `interlock rollout sign big`; \
               or go back with `interlock rollout abort big`";
    assert!(said.contains(why), "{said}");
    waves.sign("wave-mobile-0");
    waves.run();
    assert_eq!(waves.made.last().map(String::as_str), Some("big-0-mobile-0"));
}

#[test]
fn a_window_that_closes_between_two_workloads_of_a_wave_keeps_the_second_waiting_until_it_opens() {
    let mut plan = two_waves();
    let first = &mut plan.waves.as_mut().unwrap()[0];
    first.calendar_ref = Some(NameRef { name: "night".into() });
    first.max_parallel = 1;
    let mut waves = Waves::new(plan);
    let window = |open: bool, seconds: i64| {
        let message = format!("Calendar night is {}", if open { "open" } else { "closed" });
        GateFact { open, message, changes_at: Some(at(seconds)) }
    };
    let waits_until = |waves: &Waves, seconds: i64| {
        let message = waves.status.message.clone().unwrap();
        assert!(message.contains("wave counters: Calendar night is closed"), "{message}");
        assert_eq!(waves.status.next_transition.as_ref().map(|next| next.0), Some(at(seconds)));
    };
    waves.windows.insert("night".into(), window(false, 600));
    waves.run();
    assert_eq!((waves.made.len(), waves.phases()[0]), (0, WavePhase::Waiting));
    waits_until(&waves, 600);
    waves.windows.insert("night".into(), window(true, 900));
    waves.pass(600);
    assert_eq!((waves.made.len(), waves.phases()[0]), (1, WavePhase::Running));
    waves.windows.insert("night".into(), window(false, 1_200));
    waves.ends("c1", "Succeeded");
    assert_eq!((waves.made.len(), waves.phases()[0]), (1, WavePhase::Running));
    waits_until(&waves, 1_200);
    waves.windows.insert("night".into(), window(true, 1_500));
    waves.pass(600);
    assert_eq!(waves.made, ["big-0-counters-0", "big-0-counters-1"]);
}

#[test]
fn at_most_so_many_at_once_and_at_most_so_many_failures() {
    let mut waves = Waves::new(two_waves());
    waves.run();
    assert_eq!(waves.made, ["big-0-counters-0", "big-0-counters-1"]);
    waves.ends("c1", "RolledBack");
    assert_eq!((waves.made.len(), waves.status.phase), (3, RolloutPhase::Progressing), "one failure is tolerated");
    waves.ends("c2", "Aborting");
    assert_eq!((waves.status.phase, waves.phases()[0]), (RolloutPhase::Aborting, WavePhase::Returning));
    assert!(waves::return_asked(&waves.status, "counters").unwrap().contains("2 of 3 workloads went back"));
    assert_eq!(waves::return_asked(&waves.status, "mobile"), None);
    for name in ["c2", "c3"] {
        assert_eq!(waves.status.phase, RolloutPhase::Aborting);
        waves.ends(name, "RolledBack");
    }
    assert_eq!(waves.status.phase, RolloutPhase::RolledBack);
}

#[test]
fn earlier_waves_stay_or_return_and_an_abort_returns_all() {
    for (stay, abort) in [(true, false), (false, false), (true, true)] {
        let mut plan = two_waves();
        if !stay {
            plan.earlier_waves = interlock_crds::EarlierWaves::Return;
        }
        let mut waves = Waves::new(plan);
        waves.counters();
        waves.sign("wave-mobile-0");
        waves.pass(90_000);
        if abort {
            let at = waves.now;
            waves.commands.push(CommandFact {
                id: "a".into(),
                verb: RolloutVerb::Abort,
                actor: "li-na".into(),
                reason: "no".into(),
                at,
            });
            waves.run();
        }
        waves.ends("m1", "RolledBack");
        if stay && !abort {
            assert_eq!((waves.status.phase, waves.phases()[0]), (RolloutPhase::Failed, WavePhase::Complete));
            continue;
        }
        assert_eq!((waves.status.phase, waves.phases()[0]), (RolloutPhase::Aborting, WavePhase::Returning));
        for name in ["c1", "c2", "c3"] {
            waves.ends(name, "RolledBack");
        }
        assert_eq!(waves.status.phase, RolloutPhase::RolledBack);
    }
}

#[test]
fn a_retry_leaves_what_is_complete_and_an_abort_after_a_failure_returns_all_of_it() {
    for (verb, expected) in [(RolloutVerb::Retry, "big-1-mobile-0"), (RolloutVerb::Abort, "big-0-mobile-0")] {
        let mut waves = Waves::new(two_waves());
        waves.counters();
        waves.sign("wave-mobile-0");
        waves.pass(90_000);
        waves.ends("m1", "RolledBack");
        assert_eq!((waves.status.phase, waves.phases()[0]), (RolloutPhase::Failed, WavePhase::Complete));
        waves.sign("wave-mobile-1");
        let (id, at) = (format!("{verb:?}"), waves.now);
        waves.commands.push(CommandFact { id, verb, actor: "li-na".into(), reason: String::new(), at });
        waves.run();
        assert_eq!(waves.made.last().map(String::as_str), Some(expected), "the counters are not begun again");
        let phases = if verb == RolloutVerb::Retry {
            [WavePhase::Complete, WavePhase::Running]
        } else {
            [WavePhase::Returning, WavePhase::Returned]
        };
        assert_eq!(waves.phases(), phases);
    }
}

#[test]
fn a_workload_to_which_the_change_gives_nothing_new_is_left_out_of_its_wave() {
    let mut waves = Waves::new(two_waves());
    waves.spec.targets.retain(|target| target.name == "c2" || target.name == "m1");
    waves.run();
    assert_eq!(waves.made, ["big-0-counters-1"]);
    waves.spec.targets.retain(|target| target.name == "m1");
    let mut waves = Waves { spec: waves.spec, ..Waves::new(two_waves()) };
    waves.sign("wave-mobile-0");
    waves.run();
    assert_eq!((waves.phases()[0], waves.made), (WavePhase::Complete, vec!["big-0-mobile-0".to_owned()]));
}

#[test]
fn a_failed_wave_can_be_held_for_a_person() {
    let mut plan = two_waves();
    plan.on_failure = OnFailure::Pause;
    let mut waves = Waves::new(plan);
    waves.run();
    waves.ends("c1", "Failed");
    waves.ends("c2", "Failed");
    assert_eq!(waves.status.phase, RolloutPhase::Paused);
    let why = "try these again first, each with `interlock rollout retry NAME`, \
               then go on with `interlock rollout retry big`; or go back with `interlock rollout abort big`";
    let said = waves.status.hold.clone().unwrap().message;
    assert!(said.contains("(Deployment teller/c1, Deployment teller/c2)") && said.contains(why), "{said}");
    // In vain while as many have failed.
    waves.command(RolloutVerb::Retry);
    assert_eq!((waves.status.phase, waves.status.obeyed.len()), (RolloutPhase::Paused, 1));
    waves.ends("c1", "Progressing");
    assert!(waves.status.hold.is_some());
    waves.command(RolloutVerb::Retry);
    assert_eq!((waves.status.phase, waves.status.hold.clone()), (RolloutPhase::Progressing, None));
}

#[test]
fn a_workload_that_a_wave_may_miss_goes_back_before_the_wave_is_over_and_is_named() {
    let mut waves = Waves::new(two_waves());
    waves.run();
    waves.ends("c1", "Failed");
    assert_eq!(waves.made.len(), 2, "its place is taken until it has gone back");
    waves.ends("c2", "Succeeded");
    waves.ends("c3", "Succeeded");
    let said = |waves: &Waves| waves.status.message.clone().unwrap();
    assert_eq!(waves.phases()[0], WavePhase::Running);
    assert!(said(&waves).contains("Deployment teller/c1 went back or failed"), "{}", said(&waves));
    waves.ends("c1", "RolledBack");
    assert_eq!(waves.phases()[0], WavePhase::Soaking);
    let but = "all workloads but Deployment teller/c1, which went back, have the new version";
    assert!(said(&waves).contains(but), "{}", said(&waves));
    waves.sign("wave-mobile-0");
    waves.pass(86_400);
    waves.ends("m1", "Succeeded");
    assert_eq!(waves.status.phase, RolloutPhase::Succeeded);
    assert_eq!(
        said(&waves),
        "every wave has the new version, but for Deployment teller/c1 (wave counters), which went back: the plan tolerates it"
    );
    let missed: Vec<_> = waves.status.waves[0].missed.iter().map(|target| target.name.as_str()).collect();
    assert_eq!((missed, waves.status.waves[0].succeeded), (vec!["c1"], 2));
}

/// All counters but the first, which the plan tolerates.
fn all_but_one() -> Waves {
    let mut waves = Waves::new(two_waves());
    waves.run();
    waves.ends("c1", "RolledBack");
    waves.ends("c2", "Succeeded");
    waves.ends("c3", "Succeeded");
    assert_eq!(waves.phases()[0], WavePhase::Soaking);
    waves
}

#[test]
fn what_a_wave_went_on_without_stays_known_when_its_rollout_is_deleted() {
    let mut waves = all_but_one();
    let missed = |waves: &Waves| waves.status.waves[0].missed.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    waves.deleted("c1");
    assert_eq!((missed(&waves), waves.status.waves[0].failed), (vec!["c1".to_owned()], 1));
    waves.sign("wave-mobile-0");
    waves.pass(86_400);
    waves.ends("m1", "Succeeded");
    assert_eq!((waves.status.phase, waves.made.len()), (RolloutPhase::Succeeded, 4), "it is not begun again");
    let said = waves.status.message.clone().unwrap();
    assert!(said.contains("but for Deployment teller/c1 (wave counters), which went back"), "{said}");
    assert_eq!(missed(&waves), ["c1"]);
}

#[test]
fn a_release_is_not_over_while_somebody_tries_a_tolerated_workload_again() {
    let mut waves = all_but_one();
    waves.ends("c1", "Progressing");
    waves.sign("wave-mobile-0");
    waves.pass(86_400);
    let said = waves.status.message.clone().unwrap();
    assert_eq!(waves.phases(), [WavePhase::Soaking, WavePhase::Waiting], "{said}");
    assert!(said.contains("wave counters: a workload is being changed again"), "{said}");
    waves.ends("c1", "RolledBack");
    assert_eq!(waves.phases(), [WavePhase::Complete, WavePhase::Running]);
    waves.ends("c1", "Aborting");
    waves.ends("m1", "Succeeded");
    assert_eq!(waves.status.phase, RolloutPhase::Progressing, "also when the wave is complete");
    waves.ends("c1", "Succeeded");
    assert_eq!((waves.status.phase, waves.status.waves[0].succeeded), (RolloutPhase::Succeeded, 3));
}
