//! Backups in the simulated cluster: slots become good points, repositories are made, checked and pruned, and nothing is
//! done twice when the controller dies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use interlock_core::backup::{
    pods::{self, Images, Restore},
    validate,
};
use interlock_crds::{API_VERSION, ApprovalDecision, Backup, BackupPolicy, BackupRepository, ChangeRequest, GROUP};
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, start},
    invariants::Watchdog,
    metrics::{Source, Values},
    people::{Act, Change, user},
    vault::Trouble,
    world::{Happening, Options, World},
};
use interlock_sim::{
    api::Write,
    workloads::{Behaviour, Effect},
};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const ADDRESS: &str = "rest:https://vault.bank.example/teller/";

fn own(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": "teller"}, "spec": spec})
}

fn repository(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({"restic": {"url": ADDRESS, "secretRef": {"name": "vault"}}});
    change(&mut spec);
    own("BackupRepository", "vault", &spec)
}

fn policy(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "repositoryRef": {"name": "vault"},
        "source": {"files": {"persistentVolumeClaim": "data"}},
        "schedules": [{"name": "hourly", "schedule": "20 * * * *"}],
        "retention": {"keepLast": 2},
        "objectives": {"rpo": "90m"},
    });
    change(&mut spec);
    own("BackupPolicy", "files", &spec)
}

fn claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "teller"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

struct Play {
    world: World,
    dog: Watchdog,
    timeline: Vec<Happening>,
    begun: Timestamp,
}

impl Play {
    fn of(objects: &[Value], seed: u64, controllers: usize) -> Self {
        let options = Options { seed, start: start(), controllers, faults: Faults::default() };
        let mut world = World::new(&options);
        let bank = Bank { votes: 1, ..Bank::default() }.objects();
        world.seed_objects(&[bank.as_slice(), &[claim()], objects].concat()).unwrap();
        Self { begun: start(), world, dog: Watchdog::default(), timeline: Vec::new() }
    }

    /// Goes on until so many minutes after the beginning; whether the controller wrote anything is told to `each`.
    fn minutes_with(&mut self, minutes: i64, each: impl FnMut(&mut World, &Happening)) {
        self.until_with(SignedDuration::from_mins(minutes), each);
    }

    fn until_with(&mut self, since_begun: SignedDuration, mut each: impl FnMut(&mut World, &Happening)) {
        let until = self.begun + since_begun;
        let mut steps = 0;
        while self.world.step(until) {
            steps += 1;
            assert!(steps < 200_000, "no end");
            for happening in self.world.take_happened() {
                if let Happening::Stored(audit) = &happening {
                    self.dog.stored(&self.world, audit).unwrap_or_else(|broken| panic!("{broken}"));
                }
                each(&mut self.world, &happening);
                self.timeline.push(happening);
            }
        }
    }

    fn minutes(&mut self, minutes: i64) {
        self.minutes_with(minutes, |_, _| ());
    }

    /// The same, while the controller dies whenever it has told or recorded something of a policy or its runs; how often.
    fn minutes_dying(&mut self, minutes: i64) -> usize {
        let mut kills = 0;
        self.minutes_with(minutes, |world, happening| {
            let dies = match happening {
                Happening::Told(told) => told.note.action == "Backup",
                Happening::Stored(audit) => {
                    audit.user.ends_with("interlock-controller")
                        && matches!(audit.id.kind.as_str(), "Backup" | "BackupPolicy")
                }
                _ => false,
            };
            if dies {
                kills += 1;
                world.crash();
            }
        });
        kills
    }

    /// How often people were told something for this reason.
    fn told(&self, reason: &str) -> usize {
        let is = |happening: &&Happening| matches!(happening, Happening::Told(told) if told.note.reason == reason);
        self.timeline.iter().filter(is).count()
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let objects = self.world.objects(GROUP, kind);
        objects.iter().map(|object| serde_json::from_value((**object).clone()).unwrap()).collect()
    }

    fn policy(&self) -> BackupPolicy {
        self.all("BackupPolicy").remove(0)
    }

    fn repository(&self) -> BackupRepository {
        self.all("BackupRepository").remove(0)
    }

    /// Phase and reason of every run, by time.
    fn ends(&self) -> Vec<String> {
        let mut runs: Vec<Backup> = self.all("Backup");
        runs.sort_by_key(|run| run.spec.slot.as_ref().map(|slot| slot.time.0));
        let end = |run: &Backup| {
            let status = run.status.clone().unwrap_or_default();
            format!("{:?} {}", status.phase, status.reason.unwrap_or_default())
        };
        runs.iter().map(end).collect()
    }

    fn holders(&self) -> Vec<String> {
        let leases = self.world.objects("coordination.k8s.io", "Lease");
        let held = leases.iter().filter_map(|lease| lease.pointer("/metadata/annotations/interlock.dev~1holders"));
        held.map(|held| held.as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn slots_become_good_points_and_the_repository_is_made_once() {
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(150);
    assert_eq!(play.ends(), ["Succeeded Complete"; 3], "{:#?}", play.all::<Backup>("Backup"));
    let status = play.policy().status.unwrap();
    assert_eq!((status.points, format!("{:?}", status.phase)), (3, "Idle".to_owned()), "{status:#?}");
    assert!(status.last_good.is_some());
    let repository = play.repository().status.unwrap();
    assert_eq!(format!("{:?}", repository.phase), "Ready", "{repository:#?}");
    assert_eq!(repository.repository_id, play.world.vault.repository("teller", ADDRESS).map(|known| known.id));
    assert_eq!(play.holders(), ["[]"]);
    let calls = play.world.calls_made();
    play.minutes(170);
    assert_eq!(play.world.calls_made(), calls, "nothing happens, so nothing is asked");
}

#[test]
fn b7_a_controller_that_dies_after_each_write_makes_one_job_a_slot() {
    let objects = [repository(|spec| spec["prune"] = json!({"schedule": "40 * * * *"})), policy(|_| ())];
    let mut play = Play::of(&objects, 1, 2);
    let mut kills = 0;
    play.minutes_with(170, |world, happening| {
        if let Happening::Stored(audit) = happening
            && (audit.user.ends_with("interlock-controller") || audit.user.ends_with(":executor"))
            && matches!(audit.id.kind.as_str(), "Backup" | "BackupPolicy" | "BackupRepository" | "Job" | "Lease")
            && audit.id.name != "interlock-controller"
        {
            kills += 1;
            world.crash();
        }
    });
    assert!(kills > 20, "{kills} kills");
    assert_eq!(play.ends(), ["Succeeded Complete"; 3]);
    assert_eq!(play.holders(), ["[]"]);
    let made = |happening: &&Happening| matches!(happening, Happening::Stored(audit) if audit.id.kind == "Job" && audit.old.is_none());
    // Made, three runs, three prunes.
    assert_eq!(play.timeline.iter().filter(made).count(), 7);
    assert_eq!(play.world.vault.repository("teller", ADDRESS).unwrap().snapshots.len(), 2, "keepLast: 2");
}

#[test]
fn b9_what_is_not_complete_is_no_good_point_and_b15_the_objective_tells() {
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(30);
    for (minutes, trouble, end) in [
        (90, Trouble::Partial, "PartiallyFailed Incomplete"),
        (150, Trouble::Empty, "Failed EmptySource"),
        (210, Trouble::Silent, "Failed NoResult"),
        (270, Trouble::Opens(12), "Failed WrongPassword"),
        (330, Trouble::Opens(10), "Failed RepositoryMissing"),
    ] {
        play.world.vault.trouble("teller", "files-", Some(trouble));
        play.minutes(minutes);
        assert_eq!(play.ends().pop().unwrap(), end);
    }
    let status = play.policy().status.unwrap();
    assert_eq!((status.consecutive_failures, format!("{:?}", status.phase)), (5, "AtRisk".to_owned()));
    assert_eq!(status.last_good.unwrap().data_time.0.as_second() / 60, (start().as_second() / 60) + 20);
    assert_eq!(format!("{:?}", play.repository().status.unwrap().phase), "Unreachable");
    play.world.vault.trouble("teller", "files-", None);
    play.minutes(390);
    let status = play.policy().status.unwrap();
    assert_eq!((status.consecutive_failures, format!("{:?}", status.phase)), (0, "Idle".to_owned()));
}

#[test]
fn b15_whoever_dies_between_telling_and_recording_has_told_once() {
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 2);
    let mut kills = play.minutes_dying(70);
    play.world.vault.trouble("teller", "files-", Some(Trouble::Opens(12)));
    kills += play.minutes_dying(190);
    play.world.vault.trouble("teller", "files-", None);
    kills += play.minutes_dying(230);
    assert!(kills > 20, "{kills} kills");
    let failed = "Failed WrongPassword";
    assert_eq!(play.ends(), ["Succeeded Complete", failed, failed, "Succeeded Complete"]);
    assert_eq!((play.told("RPOAtRisk"), play.told("RPORestored")), (1, 1));
    assert_eq!((play.told("WrongPassword"), play.told("Succeeded")), (2, 2));
}

#[test]
fn b2_whoever_dies_between_telling_and_recording_has_told_of_a_missed_slot_once() {
    // Its slots stay due while it cannot be used.
    let mut play = Play::of(&[policy(|spec| spec["schedules"][0]["startingDeadline"] = json!("5m"))], 1, 2);
    let mut kills = play.minutes_dying(30);
    play.world.seed_objects(&[repository(|_| ())]).unwrap();
    kills += play.minutes_dying(60);
    let overdue = |play: &Play| {
        let conditions = play.policy().status.unwrap().conditions;
        conditions.into_iter().find(|condition| condition.type_ == "Overdue").unwrap().status
    };
    assert_eq!((overdue(&play).as_str(), play.told("SlotMissed"), play.ends().len()), ("True", 1, 0));
    kills += play.minutes_dying(100);
    assert!(kills > 5, "{kills} kills");
    assert_eq!((overdue(&play).as_str(), play.told("SlotMissed")), ("False", 1));
    assert_eq!(play.ends(), ["Succeeded Complete"]);
    let missed = play.policy().status.unwrap().schedules.remove(0).missed_slots.unwrap();
    assert_eq!(missed.total, 1, "{missed:?}");
}

#[test]
fn b6_a_run_that_hangs_is_ended_by_its_deadline_and_the_schedule_goes_on() {
    let objects = [repository(|_| ()), policy(|spec| spec["deadline"] = json!("30m"))];
    let mut play = Play::of(&objects, 1, 1);
    play.minutes(10);
    let hangs = Behaviour { workload: Some("files-*".to_owned()), ..Behaviour::of(Effect::NeverReady) };
    play.world.workloads.set_behaviours(vec![hangs]);
    play.minutes(60);
    assert_eq!(play.ends(), ["Failed DeadlineExceeded"]);
    play.world.workloads.set_behaviours(Vec::new());
    play.minutes(90);
    assert_eq!(play.ends(), ["Failed DeadlineExceeded", "Succeeded Complete"]);
    assert_eq!(play.holders(), ["[]"]);
}

#[test]
fn a_slot_that_comes_while_a_run_is_active_replaces_it_or_waits_for_it() {
    let play = |overlap: &str| {
        let mut play = Play::of(&[repository(|_| ()), policy(|spec| spec["overlap"] = json!(overlap))], 1, 1);
        play.minutes(10);
        let hangs = Behaviour { workload: Some("files-*".to_owned()), ..Behaviour::of(Effect::NeverReady) };
        play.world.workloads.set_behaviours(vec![hangs]);
        play.minutes(85);
        play
    };
    let mut replaces = play("Replace");
    assert_eq!(replaces.ends(), ["Failed Replaced", "Running "]);
    let ended = replaces.all::<Backup>("Backup").remove(0).status.unwrap();
    assert_eq!(ended.message.unwrap(), "the run of a later slot takes its place (overlap: Replace)");
    replaces.world.workloads.set_behaviours(Vec::new());
    replaces.minutes(90);
    assert_eq!(replaces.ends(), ["Failed Replaced", "Succeeded Complete"]);

    let mut waits = play("Wait");
    assert_eq!(waits.ends(), ["Running "]);
    waits.world.workloads.set_behaviours(Vec::new());
    waits.minutes(90);
    assert_eq!(waits.ends(), ["Succeeded Complete"; 2]);
    let second = waits.all::<Backup>("Backup").remove(1);
    assert_eq!(second.spec.slot.unwrap().time.0, start() + SignedDuration::from_mins(80));
    assert!(second.status.unwrap().late_seconds.is_some_and(|late| late >= 300), "it says how late it is");
}

#[test]
fn b16_a_key_that_was_exchanged_is_told_and_runs_go_on_when_the_repository_names_it() {
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(30);
    edit_repository(&mut play, &json!({"spec": {"restic": {"newKeySecretRef": {"name": "vault-2"}}}}));
    play.minutes(70);
    let rotated = play.repository().status.unwrap().conditions.into_iter().find(|c| c.type_ == "KeyRotated").unwrap();
    assert_eq!(rotated.status, "True", "{rotated:?}");
    assert!(rotated.message.contains("vault-2") && rotated.message.contains("WrongPassword"), "{}", rotated.message);
    play.minutes(130);
    assert_eq!(play.ends(), ["Succeeded Complete", "Failed WrongPassword"]);
    let restic = json!({"secretRef": {"name": "vault-2"}, "newKeySecretRef": null});
    edit_repository(&mut play, &json!({"spec": {"restic": restic}}));
    play.minutes(150);
    assert_eq!(play.ends(), ["Succeeded Complete", "Failed WrongPassword", "Succeeded Complete"]);
    let repository = play.repository().status.unwrap();
    assert_eq!(format!("{:?}", repository.phase), "Ready", "{repository:#?}");
}

#[test]
fn b13_pods_of_a_run_whose_finalizer_somebody_took_away_keep_a_prune_out_until_they_have_ended() {
    let objects = [repository(|spec| spec["prune"] = json!({"schedule": "25 * * * *"})), policy(|_| ())];
    let mut play = Play::of(&objects, 1, 1);
    play.minutes(10);
    let of_run = |effect: Effect| Behaviour { workload: Some("files-*".to_owned()), ..Behaviour::of(effect) };
    let ends_late = Effect::TerminatesAfter(SignedDuration::from_secs(50));
    play.world.workloads.set_behaviours(vec![of_run(Effect::NeverReady), of_run(ends_late)]);
    play.minutes(30);
    let run = serde_json::to_value(play.all::<Backup>("Backup").remove(0)).unwrap();
    assert!(play.holders()[0].contains("Backup/"), "{:?}", play.holders());
    edit_object(&mut play, &run, &json!({"metadata": {"finalizers": null}}));
    delete(&mut play, &run);
    let left = |world: &World| {
        let of_run = |object: &&std::sync::Arc<Value>| {
            object["metadata"]["labels"]["interlock.dev/run-uid"] == run["metadata"]["uid"]
        };
        let count = |group: &str, kind: &str| world.objects(group, kind).iter().filter(of_run).count();
        (count("batch", "Job"), count("", "Pod"))
    };
    play.until_with(SignedDuration::from_secs(30 * 60 + 40), |_, _| ());
    assert_eq!(left(&play.world), (0, 1), "its pod is still ending when its Job has gone");
    let mut beside = None;
    play.minutes_with(35, |world, happening| {
        if let Happening::Stored(audit) = happening
            && audit.id.kind == "Job"
            && audit.old.is_none()
        {
            assert!(audit.id.name.starts_with("vault-prune-"), "{}", audit.id.name);
            beside = Some(left(world));
        }
    });
    assert_eq!(beside, Some((0, 0)), "the prune begins when nothing of the run is left");
    assert_eq!(play.holders(), ["[]"]);
}

#[test]
fn b16_a_repository_object_that_is_made_again_makes_no_new_repository_where_points_were() {
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(30);
    let id = play.repository().status.unwrap().repository_id;
    delete(&mut play, &repository(|_| ()));
    play.world.vault.remove("teller", ADDRESS);
    play.minutes(32);
    play.world.seed_objects(&[repository(|_| ())]).unwrap();
    play.minutes(90);
    assert_eq!(play.ends(), ["Succeeded Complete", "Failed RepositoryMissing"]);
    let made = |happening: &&Happening| matches!(happening, Happening::Stored(audit) if audit.id.kind == "Job" && audit.old.is_none() && audit.id.name.starts_with("vault-init-"));
    assert_eq!(play.timeline.iter().filter(made).count(), 1, "before anything was in it, and never again");
    assert_eq!(play.world.vault.repository("teller", ADDRESS), None);
    let status = play.repository().status.unwrap();
    assert_eq!((status.repository_id, format!("{:?}", status.phase)), (id, "Unreachable".to_owned()));
    assert!(status.message.unwrap().contains("recovery points were there"));
}

#[test]
fn b11_prune_keeps_what_the_rules_and_protections_keep() {
    let objects = [
        repository(|spec| {
            spec["prune"] = json!({"schedule": "50 * * * *"});
            spec["restic"]["maintenanceSecretRef"] = json!({"name": "vault-full"});
            spec["restic"]["maintenanceUrl"] = json!("rest:https://full.bank.example/teller/");
        }),
        policy(|spec| spec["retention"] = json!({"keepLast": 1})),
    ];
    let mut play = Play::of(&objects, 1, 1);
    play.minutes(30);
    // Whatever comes later is not good: the first point stays.
    play.world.vault.trouble("teller", "files-", Some(Trouble::Partial));
    play.minutes(300);
    let kept: Vec<_> = play
        .all::<Backup>("Backup")
        .into_iter()
        .filter(|run| run.status.as_ref().unwrap().retention.as_ref().is_none_or(|r| r.forgotten_at.is_none()))
        .map(|run| format!("{:?}", run.status.unwrap().phase))
        .collect();
    assert_eq!(kept.iter().filter(|phase| *phase == "Succeeded").count(), 1, "{kept:?}");
    play.world.vault.trouble("teller", "files-", None);
    play.minutes(420);
    assert_eq!(play.world.vault.repository("teller", ADDRESS).unwrap().snapshots.len(), 1);
    assert_eq!(play.policy().status.unwrap().points, 1);
}

#[test]
fn a_person_asks_for_a_run_and_deletes_it_while_it_runs() {
    let asked = own("Backup", "now", &json!({"policyRef": {"name": "files"}, "requester": "bob"}));
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(2);
    let now = play.world.now();
    play.world.schedule(now, Act::Create(user("bob", &["sre"]), asked.clone()));
    play.minutes(4);
    assert_eq!(play.ends(), ["Succeeded Complete"]);
    let hangs = Behaviour { workload: Some("later".to_owned()), ..Behaviour::of(Effect::NeverReady) };
    play.world.workloads.set_behaviours(vec![hangs]);
    let mut later = asked;
    later["metadata"]["name"] = json!("later");
    let id = interlock_core::object::ObjectId::of(&later).unwrap();
    let now = play.world.now();
    play.world.schedule(now, Act::Create(user("bob", &["sre"]), later));
    play.world.schedule(now + SignedDuration::from_secs(60), Act::Delete(user("bob", &["sre"]), id));
    play.minutes(10);
    assert_eq!(play.ends(), ["Succeeded Complete"], "the other one is gone");
    assert_eq!(play.holders(), ["[]"]);
    let jobs = play.world.objects("batch", "Job");
    assert!(!jobs.iter().any(|job| job.pointer("/metadata/name") == Some(&json!("later"))), "and so is its Job");
}

#[test]
fn b11_the_record_of_a_point_is_deleted_only_by_who_names_its_snapshot() {
    let asked = own("Backup", "now", &json!({"policyRef": {"name": "files"}, "requester": "bob"}));
    let id = interlock_core::object::ObjectId::of(&asked).unwrap();
    let bob = || user("bob", &["sre"]);
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(2);
    play.world.schedule(play.world.now(), Act::Create(bob(), asked));
    play.minutes(4);
    play.world.schedule(play.world.now(), Act::Delete(bob(), id.clone()));
    play.minutes(6);
    assert_eq!(play.ends(), ["Succeeded Complete"], "it is refused");
    let snapshot = play.policy().status.unwrap().last_good.unwrap().snapshot_id;
    let patch = json!({"metadata": {"annotations": {"interlock.dev/remove-point": snapshot}}});
    play.world.schedule(play.world.now(), Act::Patch(bob(), id.clone(), patch));
    play.minutes(8);
    play.world.schedule(play.world.now(), Act::Delete(bob(), id));
    play.minutes(10);
    assert_eq!(play.ends(), Vec::<String>::new(), "it is meant");
    assert!(play.policy().status.unwrap().last_good.is_none(), "nothing good is known any more");
}

#[test]
fn files_may_be_applied_in_any_order() {
    let mut play = Play::of(&[], 1, 1);
    let (systems, ground): (Vec<_>, Vec<_>) =
        Bank { votes: 1, ..Bank::default() }.objects().into_iter().partition(|object| object["kind"] == "System");
    play.world = World::new(&Options { seed: 1, start: start(), controllers: 1, faults: Faults::default() });
    play.world.seed_objects(&[ground, vec![claim()]].concat()).unwrap();
    play.minutes(2);
    let admin = || user("admin", &["system:masters"]);
    let asked = own("Backup", "now", &json!({"policyRef": {"name": "files"}, "requester": "admin"}));
    let all = [asked.clone(), policy(|_| ()), repository(|_| ())].into_iter().chain(systems);
    for (second, object) in (0..).step_by(5).zip(all) {
        let at = play.world.now() + SignedDuration::from_secs(second);
        play.world.schedule(at, Act::Create(admin(), object));
    }
    play.minutes(4);
    assert_eq!(play.ends(), ["Succeeded Complete"], "{:#?}", play.all::<Backup>("Backup"));
    let valid = |play: &Play| play.policy().status.unwrap().conditions.into_iter().find(|c| c.type_ == "Valid");
    assert_eq!(valid(&play).unwrap().status, "True");

    // What never comes is told for as long as it is waited for, and then.
    let mut lonely = asked;
    (lonely["metadata"]["name"], lonely["spec"]["policyRef"]["name"]) = (json!("lonely"), json!("nobody"));
    let now = play.world.now();
    play.world.schedule(now, Act::Create(admin(), lonely));
    play.minutes(5);
    let lonely = play.all::<Backup>("Backup").into_iter().find(|run| run.metadata.name.as_deref() == Some("lonely"));
    let status = lonely.unwrap().status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("PolicyGone"), "{status:#?}");
}

#[test]
fn records_without_a_point_and_old_jobs_do_not_pile_up() {
    let objects = [
        repository(|spec| spec["prune"] = json!({"schedule": "*/30 * * * *"})),
        policy(|spec| spec["schedules"] = json!([{"name": "often", "schedule": "*/5 * * * *"}])),
    ];
    let mut play = Play::of(&objects, 1, 1);
    play.minutes(10);
    play.world.vault.trouble("teller", "files-", Some(Trouble::Opens(1)));
    play.minutes(190);
    let runs = play.all::<Backup>("Backup");
    assert!((21..=24).contains(&runs.len()), "twenty that failed, and a good one: {}", runs.len());
    assert!(play.policy().status.unwrap().last_good.is_some());
    let jobs = play.world.objects("batch", "Job");
    let of_runs = jobs.iter().filter(|job| job.pointer("/metadata/ownerReferences/0/kind") == Some(&json!("Backup")));
    assert!((5..=7).contains(&of_runs.count()), "{:?}", jobs.len());
    assert!(jobs.len() <= 10, "and few of the upkeep: {}", jobs.len());
}

#[test]
fn a_policy_of_the_same_name_has_nothing_to_do_with_earlier_runs() {
    let mut play = Play::of(&[repository(|_| ()), policy(|_| ())], 1, 1);
    play.minutes(30);
    delete(&mut play, &policy(|_| ()));
    play.minutes(32);
    play.world.seed_objects(&[policy(|_| ())]).unwrap();
    play.minutes(35);
    let status = play.policy().status.unwrap();
    assert_eq!((status.points, status.last_good.clone()), (0, None), "{status:#?}");
    play.minutes(90);
    assert_eq!(play.policy().status.unwrap().points, 1);
}

#[test]
fn hooks_freeze_and_thaw_once_and_one_that_fails_keeps_the_copying_from_beginning() {
    let http = |name: &str| json!({"name": name, "http": {"url": format!("http://app.teller.svc:8080/{name}")}, "timeout": "20s"});
    let hooks = json!({"before": [http("freeze")], "after": [http("thaw")]});
    let objects = [repository(|_| ()), policy(|spec| spec["hooks"] = hooks)];
    let mut play = Play::of(&objects, 1, 1);
    let answers = |play: &mut Play, hook: &str, status: f64| {
        let (value, every) = (Values::One(status), SignedDuration::from_secs(1));
        let source = Source::Says { stable: value.clone(), value, every };
        let now = play.world.now();
        play.world.shared.lock().metrics.set(hook, now, source);
    };
    answers(&mut play, "freeze", 204.0);
    answers(&mut play, "thaw", 200.0);
    play.minutes(30);
    assert_eq!(play.ends(), ["Succeeded Complete"]);
    let status = play.all::<Backup>("Backup").remove(0).status.unwrap();
    let told: Vec<_> = status.hooks.iter().map(|hook| (hook.name.as_str(), hook.succeeded)).collect();
    assert_eq!(told, [("freeze", Some(true)), ("thaw", Some(true))]);
    answers(&mut play, "freeze", 503.0);
    play.minutes(90);
    assert_eq!(play.ends(), ["Succeeded Complete", "Failed HookFailed"]);
    let failed = play.all::<Backup>("Backup").into_iter().filter_map(|run| run.status);
    let failed = failed.into_iter().find(|status| status.reason.as_deref() == Some("HookFailed")).unwrap();
    assert!(failed.message.unwrap().contains("503"));
    assert_eq!(failed.hooks.len(), 2, "what may be frozen is thawed");
    // A controller that dies while a hook runs never begins it again.
    answers(&mut play, "freeze", 204.0);
    play.minutes_with(150, |world, happening| {
        if let Happening::Stored(audit) = happening
            && audit.id.kind == "Backup"
            && audit.new.as_ref().is_some_and(|new| {
                let hook = new.pointer("/status/hooks/0");
                hook.is_some_and(|hook| hook.get("finishedAt").is_none())
            })
        {
            world.crash();
        }
    });
    assert_eq!(play.ends().pop().unwrap(), "Failed HookFailed");
}

#[test]
fn under_a_storm_of_faults_nothing_is_done_twice() {
    for seed in 1..6 {
        let objects = [
            repository(|spec| {
                spec["prune"] = json!({"schedule": "*/20 * * * *"});
                spec["check"] = json!({"schedule": "*/30 * * * *", "readDataSubset": "1/3"});
            }),
            policy(|spec| spec["schedules"] = json!([{"name": "often", "schedule": "*/5 * * * *"}])),
        ];
        let mut play = Play::of(&objects, seed, 2);
        play.minutes(1);
        play.world.faults = Faults::storm();
        play.minutes(61);
        play.world.calm();
        play.minutes(180);
        let ends = play.ends();
        assert!(ends.iter().rev().take(5).all(|end| end == "Succeeded Complete"), "seed {seed}: {ends:?}");
        let held: Vec<_> = play.holders().into_iter().filter(|held| held.contains("Backup/")).collect();
        assert!(held.len() <= 1, "seed {seed}: {held:?}");
    }
}

/// The change that restores a snapshot over what the claim holds, as the command proposes it.
fn restore(play: &Play, snapshot: &str) -> Value {
    let restore = Restore {
        name: "restore-data",
        claim: "data",
        snapshot,
        files: 10,
        repository: "teller/vault",
        repository_id: None,
        deadline: 3_600,
        recovery: None,
    };
    let images = Images { interlock: "interlock:1", restic: "restic:1", postgres: "postgres:1" };
    let (policy, repository) = (play.policy().spec, play.repository().spec);
    let job = pods::restore_job("teller", &restore, &policy, &repository, &images, false).unwrap();
    let spec = json!({
        "title": "back", "reason": "a file is lost", "requester": "alice", "progressDeadline": "1h",
        "contingency": {"onFailure": "Pause"}, "content": {"manifests": [job]},
    });
    own("ChangeRequest", "back", &spec)
}

#[test]
fn a_restore_keeps_its_point_from_its_proposal_on_and_prunes_out_while_it_works() {
    for dies in [false, true] {
        let objects = [
            repository(|spec| spec["prune"] = json!({"schedule": "0,10,20,30,40,50 * * * *"})),
            policy(|spec| {
                spec["schedules"] = json!([{"name": "often", "schedule": "5,15,25,35,45,55 * * * *"}]);
                spec["retention"] = json!({"keepLast": 1});
            }),
        ];
        let mut play = Play::of(&objects, 1, 2);
        let works = Effect::JobSucceedsAfter(SignedDuration::from_mins(12));
        let works = Behaviour { workload: Some("restore-data".to_owned()), ..Behaviour::of(works) };
        play.world.workloads.set_behaviours(vec![works]);
        let die = |world: &mut World, happening: &Happening| {
            if let Happening::Stored(audit) = happening
                && dies
                && (audit.user.ends_with("interlock-controller") || audit.user.ends_with(":executor"))
                && (audit.id.kind == "ChangeRequest" || audit.id.name.starts_with("re"))
            {
                world.crash();
            }
        };
        let is_there = |play: &Play, snapshot: &str| {
            play.world.vault.repository("teller", ADDRESS).unwrap().snapshots.contains_key(snapshot)
        };
        play.minutes(8);
        let first = play.policy().status.unwrap().last_good.unwrap().snapshot_id;
        let change = restore(&play, &first);
        let now = play.world.now();
        play.world.schedule(now, Act::Create(user("alice", &["dev"]), change));
        play.minutes_with(22, die);
        assert_ne!(play.policy().status.unwrap().last_good.unwrap().snapshot_id, first, "keepLast keeps another one");
        assert!(is_there(&play, &first), "dies: {dies}: a prune passed, and the point is proposed to be restored");
        let kept = play.all::<Backup>("Backup").into_iter().filter_map(|run| run.status?.retention);
        assert!(kept.flat_map(|record| record.kept_by).any(|why| why == "InUse"));

        let (now, back) = (play.world.now(), Change { namespace: "teller".to_owned(), name: "back".to_owned() });
        play.world.schedule(now, Act::Vote(user("bob", &["sre"]), back, ApprovalDecision::Approve));
        let mut held = false;
        play.minutes_with(100, |world, happening| {
            let leases = world.objects("coordination.k8s.io", "Lease");
            held |= leases.iter().any(|lease| lease.to_string().contains("ChangeRequest/back"));
            // That nobody removes anything beside it, the watchdog sees.
            die(world, happening);
        });
        assert!(held, "dies: {dies}: the change held the repository");
        let phase = format!("{:?}", play.all::<ChangeRequest>("ChangeRequest").remove(0).status.unwrap().phase);
        assert_eq!(phase, "Succeeded", "dies: {dies}");
        assert!(!is_there(&play, &first), "dies: {dies}: nobody needs it any more");
        assert!(play.holders().iter().all(|held| !held.contains("ChangeRequest")), "{:?}", play.holders());
    }
}

/// Past the webhooks, as somebody with the storage does.
fn edit(play: &mut Play, patch: &Value) {
    edit_object(play, &policy(|_| ()), patch);
}

fn edit_repository(play: &mut Play, patch: &Value) {
    edit_object(play, &repository(|_| ()), patch);
}

fn edit_object(play: &mut Play, object: &Value, patch: &Value) {
    let id = interlock_core::object::ObjectId::of(object).unwrap();
    let admin = user("admin", &["system:masters"]);
    play.world.shared.lock().api.write(Write::merge_patch(&admin, "admin", &id, patch)).unwrap();
}

fn delete(play: &mut Play, object: &Value) {
    let id = interlock_core::object::ObjectId::of(object).unwrap();
    let admin = user("admin", &["system:masters"]);
    play.world.shared.lock().api.write(Write::delete(&admin, &id)).unwrap();
}

/// Uid and text of the writer's Deployment, if there is one.
fn writer(play: &Play) -> Option<(Value, String)> {
    let deployments = play.world.objects("apps", "Deployment");
    let mut found = deployments.iter().filter(|found| found["metadata"]["name"] == "files-heartbeat");
    found.next().map(|found| (found["metadata"]["uid"].clone(), found.to_string()))
}

fn heartbeat_ready(play: &Play) -> Option<(String, String)> {
    let status = play.policy().status.unwrap_or_default();
    let told = status.conditions.into_iter().find(|condition| condition.type_ == "HeartbeatReady");
    told.map(|told| (told.status, told.reason))
}

#[test]
fn a_heartbeats_writer_is_made_made_anew_and_taken_away() {
    let heartbeat = json!({"file": "/beat", "interval": "7s"});
    let mut play = Play::of(&[repository(|_| ()), policy(|spec| spec["heartbeat"] = heartbeat)], 1, 1);
    play.minutes(10);
    let (first, text) = writer(&play).expect("a writer");
    assert!(text.contains(r#"\"intervalSeconds\":7"#), "{text}");
    let writes = Some(("True".to_owned(), "Writing".to_owned()));
    assert_eq!(heartbeat_ready(&play), writes);
    let calls = play.world.calls_made();
    play.minutes(18);
    assert_eq!(play.world.calls_made(), calls, "nothing happens, so nothing is asked");
    edit(&mut play, &json!({"spec": {"heartbeat": {"interval": "5s"}}}));
    play.minutes(22);
    let (second, text) = writer(&play).expect("a writer");
    assert_ne!(first, second, "made anew");
    assert!(text.contains(r#"\"intervalSeconds\":5"#), "{text}");
    assert_eq!(heartbeat_ready(&play), writes);
    let hangs = Behaviour { workload: Some("files-heartbeat*".to_owned()), ..Behaviour::of(Effect::NeverReady) };
    play.world.workloads.set_behaviours(vec![hangs]);
    edit(&mut play, &json!({"spec": {"heartbeat": {"interval": "6s"}}}));
    play.minutes(25);
    assert_eq!(heartbeat_ready(&play), Some(("False".to_owned(), "NotReady".to_owned())));
    edit(&mut play, &json!({"spec": {"heartbeat": null}}));
    play.minutes(28);
    assert_eq!((writer(&play), heartbeat_ready(&play)), (None, None));
    assert_eq!(play.ends(), ["Succeeded Complete"]);
    let status = play.all::<Backup>("Backup").remove(0).status.unwrap();
    let recorded = status.heartbeat.unwrap();
    assert!(recorded.seq > 0 && recorded.hmac.contains(':'), "{recorded:?}");
    assert!(status.conditions.iter().any(|told| told.type_ == "HeartbeatRead" && told.status == "True"));
}

#[test]
fn nobody_else_makes_a_writer_and_one_of_its_name_is_told() {
    let mut other = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "files-heartbeat", "namespace": "teller"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x:1"}]},
        }},
    });
    let heartbeat = json!({"file": "/beat"});
    let mut play = Play::of(&[repository(|_| ()), policy(|spec| spec["heartbeat"] = heartbeat), other.clone()], 1, 1);
    play.minutes(5);
    assert_eq!(heartbeat_ready(&play), Some(("False".to_owned(), "NameTaken".to_owned())));
    delete(&mut play, &other);
    play.minutes(8);
    assert_eq!(heartbeat_ready(&play), Some(("True".to_owned(), "Writing".to_owned())));
    // The executor may make the writer that is wanted, and no other Deployment that says that it is one.
    let owner = json!([{"apiVersion": API_VERSION, "kind": "BackupPolicy", "name": "files", "controller": true,
        "uid": play.policy().metadata.uid}]);
    other["metadata"] = json!({"name": "files-heartbeat-2", "namespace": "teller", "ownerReferences": owner});
    let executor = interlock_rehearsal::port::service_account("system:serviceaccount:teller:executor");
    let now = play.world.now();
    play.world.schedule(now, Act::Create(executor, other));
    play.minutes(9);
    let deployments = play.world.objects("apps", "Deployment");
    assert!(!deployments.iter().any(|found| found["metadata"]["name"] == "files-heartbeat-2"));
}

#[test]
fn hooks_that_are_commands_freeze_and_thaw_and_one_that_fails_keeps_the_copying_from_beginning() {
    let exec = |name: &str| json!({"name": name, "timeout": "20s", "exec": {"pod": [{"key": "app", "value": "db"}], "command": [name]}});
    let hooks = json!({"before": [exec("freeze")], "after": [exec("thaw")]});
    let mut play = Play::of(&[repository(|_| ()), policy(|spec| spec["hooks"] = hooks)], 1, 1);
    let ends_with = |play: &mut Play, hook: &str, code: f64| {
        let (value, every) = (Values::One(code), SignedDuration::from_secs(1));
        let source = Source::Says { stable: value.clone(), value, every };
        let now = play.world.now();
        play.world.shared.lock().metrics.set(hook, now, source);
    };
    ends_with(&mut play, "freeze", 0.0);
    ends_with(&mut play, "thaw", 0.0);
    play.minutes(30);
    assert_eq!(play.ends(), ["Succeeded Complete"]);
    ends_with(&mut play, "freeze", 3.0);
    play.minutes(90);
    assert_eq!(play.ends(), ["Succeeded Complete", "Failed HookFailed"]);
    let failed = play.all::<Backup>("Backup").into_iter().filter_map(|run| run.status);
    let failed = failed.into_iter().find(|status| status.reason.as_deref() == Some("HookFailed")).unwrap();
    assert!(failed.message.unwrap().contains("ended with 3"));
    assert_eq!(failed.hooks.len(), 2, "what may be frozen is thawed");
}

/// The Secrets with manifests that there are.
fn manifests(play: &Play) -> usize {
    let secrets = play.world.objects("", "Secret");
    secrets.iter().filter(|secret| secret["type"] == "interlock.dev/backup-objects").count()
}

fn config(name: &str, letters: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "teller"},
        "data": {"x": "y".repeat(letters)},
    })
}

#[test]
fn objects_of_the_system_are_copied_and_nothing_of_them_is_left_in_the_cluster() {
    let objects = [
        repository(|_| ()),
        policy(|spec| spec["source"] = json!({"objects": {}})),
        config("one", 400_000),
        config("two", 400_000),
    ];
    let mut play = Play::of(&objects, 1, 1);
    let mut most = 0;
    play.minutes_with(30, |world, _| {
        let secrets = world.objects("", "Secret");
        most = most.max(secrets.iter().filter(|secret| secret["type"] == "interlock.dev/backup-objects").count());
    });
    assert_eq!(play.ends(), ["Succeeded Complete"], "{:#?}", play.all::<Backup>("Backup"));
    let status = play.all::<Backup>("Backup").remove(0).status.unwrap();
    let record = status.objects.unwrap();
    assert!(record.stored && record.manifests >= 4 && record.bytes > 800_000, "{record:?}");
    assert_eq!((most, record.chunks.len()), (2, 2));
    let jobs = play.world.objects("batch", "Job");
    let job = jobs.iter().find(|job| job["metadata"]["ownerReferences"][0]["kind"] == "Backup").unwrap();
    assert!(job.to_string().contains("-objects-1"), "{job}");
    assert_eq!(manifests(&play), 0, "taken away when the Job had ended");
}

#[test]
fn too_much_to_copy_and_a_kind_that_is_not_there_fail_the_run_with_a_reason() {
    let of = |source: Value, more: &[Value]| {
        let objects = [repository(|_| ()), policy(|spec| spec["source"] = json!({"objects": source}))];
        let mut play = Play::of(&[objects.as_slice(), more].concat(), 1, 1);
        play.minutes(30);
        assert_eq!((manifests(&play), play.holders()), (0, vec!["[]".to_owned()]));
        play.ends()
    };
    let unknown = json!({"add": [{"group": "nowhere.example", "kind": "Thing"}]});
    assert_eq!(of(unknown, &[]), ["Failed SourceUnreadable"]);
    assert_eq!(of(json!({}), &[config("huge", 1_000_001)]), ["Failed TooLarge"]);
}

#[test]
fn a_controller_that_dies_after_each_write_of_a_writer_or_of_manifests_goes_on() {
    for source in [json!({"objects": {}}), json!({"files": {"persistentVolumeClaim": "data"}})] {
        let of_files = source.get("files").is_some();
        let objects = [
            repository(|_| ()),
            policy(|spec| {
                spec["source"] = source;
                if of_files {
                    spec["heartbeat"] = json!({"file": "/beat"});
                }
            }),
            config("one", 400_000),
            config("two", 400_000),
        ];
        let mut play = Play::of(&objects, 1, 2);
        let mut kills = 0;
        play.minutes_with(100, |world, happening| {
            if let Happening::Stored(audit) = happening
                && (audit.user.ends_with("interlock-controller") || audit.user.ends_with(":executor"))
                && matches!(audit.id.kind.as_str(), "Backup" | "BackupPolicy" | "Deployment" | "Secret" | "Job")
            {
                kills += 1;
                world.crash();
            }
        });
        assert!(kills > 12, "{kills} kills");
        assert_eq!(play.ends(), ["Succeeded Complete"; 2]);
        assert_eq!((manifests(&play), play.holders()), (0, vec!["[]".to_owned()]));
        assert_eq!(heartbeat_ready(&play).is_some(), of_files);
        let made = |kind: &str| {
            let made = |happening: &&Happening| matches!(happening, Happening::Stored(audit) if audit.id.kind == kind && audit.old.is_none() && audit.user.ends_with(":executor"));
            play.timeline.iter().filter(made).count()
        };
        // The repository is made, and two runs.
        assert_eq!(made("Job"), 3);
        assert_eq!(made("Deployment"), usize::from(of_files));
    }
}

#[test]
fn the_examples_of_backups_can_be_used() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/backups");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let wrong = if object["kind"] == "BackupPolicy" {
                let policy: BackupPolicy = serde_json::from_value(object.clone()).unwrap();
                validate::policy(&policy.spec)
            } else if object["kind"] == "BackupRepository" {
                let repository: BackupRepository = serde_json::from_value(object.clone()).unwrap();
                validate::repository(&repository.spec)
            } else {
                continue;
            };
            assert_eq!(wrong, Vec::<String>::new(), "{}", path.display());
            read += 1;
        }
    }
    assert!(read >= 4, "{read}");
}
