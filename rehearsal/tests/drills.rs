//! Restore drills in the simulated cluster: from a slot to a verdict, a certificate and nothing left, also when the controller
//! dies after each write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use interlock_core::{
    drill::{
        certificate, names,
        objects::{RunRef, SANDBOX_COMPONENT},
        schedule,
    },
    object::ObjectId,
    seal::KeyRing,
};
use interlock_crds::{
    API_VERSION, Backup, BackupPolicy, BackupRepository, CleanupState, DrillPhase, DrillRun, DrillRunStatus, GROUP,
    MaintenanceOperation, MaintenanceOutcome, PointVerdict, RestoreDrill,
};
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, start},
    invariants::Watchdog,
    people::{Act, user},
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

/// A repository, a policy that backs up at 20 past, and somebody who answers outside every sandbox.
fn ground() -> Vec<Value> {
    let labels = json!({"app": "echo"});
    let restic = json!({"url": ADDRESS, "secretRef": {"name": "vault"}});
    vec![
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "teller"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "echo", "namespace": "teller"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "echo", "image": "echo:1"}]},
            }},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "namespace": "teller"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        }),
        own("BackupRepository", "vault", &json!({ "restic": restic })),
        own(
            "BackupPolicy",
            "files",
            &json!({
                "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
                "schedules": [{"name": "hourly", "schedule": "20 * * * *"}], "retention": {"keepLast": 2},
            }),
        ),
    ]
}

/// The same, with a repository that is pruned by this schedule and a policy to which one point is enough.
fn pruned_ground(schedule: &str) -> Vec<Value> {
    let mut objects = ground();
    for object in &mut objects {
        if object["kind"] == "BackupRepository" {
            object["spec"]["prune"] = json!({"schedule": schedule});
        } else if object["kind"] == "BackupPolicy" {
            object["spec"]["retention"] = json!({"keepLast": 1});
        }
    }
    objects
}

fn hangs(workload: &str) -> Behaviour {
    Behaviour { workload: Some(workload.to_owned()), ..Behaviour::of(Effect::NeverReady) }
}

fn drill(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "policyRef": {"name": "files"},
        "schedule": "50 * * * *",
        "objectives": {"rto": "30m"},
        "sandbox": {
            "isolationTarget": {"service": "echo.teller", "port": 8080},
            "application": {"podTemplate": {"spec": {"containers": [{"name": "app", "image": "app:1"}]}}},
        },
        "validations": [
            {"name": "there", "files": {}},
            {"name": "page", "critical": false, "http": {"port": 8080}},
        ],
    });
    change(&mut spec);
    own("RestoreDrill", "hourly", &spec)
}

struct Play {
    world: World,
    dog: Watchdog,
    begun: Timestamp,
}

impl Play {
    fn of(drill: Value, seed: u64, controllers: usize) -> Self {
        Self::on(&ground(), drill, seed, controllers)
    }

    fn on(ground: &[Value], drill: Value, seed: u64, controllers: usize) -> Self {
        let mut world = World::new(&Options { seed, start: start(), controllers, faults: Faults::default() });
        let bank = Bank { votes: 1, ..Bank::default() }.objects();
        world.seed_objects(&[bank.as_slice(), ground, &[drill]].concat()).unwrap();
        Self { begun: start(), world, dog: Watchdog::default() }
    }

    fn minutes_with(&mut self, minutes: i64, mut each: impl FnMut(&mut World, &Happening)) {
        let until = self.begun + SignedDuration::from_mins(minutes);
        let mut steps = 0;
        while self.world.step(until) {
            steps += 1;
            assert!(steps < 400_000, "no end");
            for happening in self.world.take_happened() {
                if let Happening::Stored(audit) = &happening {
                    self.dog.stored(&self.world, audit).unwrap_or_else(|broken| panic!("{broken}"));
                }
                each(&mut self.world, &happening);
            }
        }
    }

    fn minutes(&mut self, minutes: i64) {
        self.minutes_with(minutes, |_, _| ());
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let objects = self.world.objects(GROUP, kind);
        objects.iter().map(|object| serde_json::from_value((**object).clone()).unwrap()).collect()
    }

    fn drill(&self) -> RestoreDrill {
        self.all("RestoreDrill").remove(0)
    }

    /// What the first run came to so far.
    fn run(&self) -> DrillRunStatus {
        self.all::<DrillRun>("DrillRun").remove(0).status.unwrap()
    }

    fn repository(&self) -> BackupRepository {
        self.all("BackupRepository").remove(0)
    }

    /// Ids of the snapshots that are in the repository.
    fn snapshots(&self) -> Vec<String> {
        self.world.vault.repository("teller", ADDRESS).unwrap().snapshots.into_keys().collect()
    }

    /// Phase and reason of every run, in the order of their names: those of slots by time.
    fn ends(&self) -> Vec<String> {
        let end = |run: &DrillRun| {
            let status = run.status.clone().unwrap_or_default();
            format!("{:?} {}", status.phase, status.reason.unwrap_or_default())
        };
        self.all::<DrillRun>("DrillRun").iter().map(end).collect()
    }

    /// What is left of drills anywhere.
    fn leftovers(&self) -> Vec<String> {
        let kinds = ["Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod"];
        let all = kinds.iter().flat_map(|kind| self.world.objects("", kind)).chain(self.world.objects("batch", "Job"));
        let label = |object: &Value| {
            let labels = object.pointer("/metadata/labels")?;
            labels.get("app.kubernetes.io/component")?.as_str().map(|component| component.starts_with("drill-"))
        };
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        all.filter(|object| label(object) == Some(true)).map(|object| name(&object)).collect()
    }

    fn holders(&self) -> Vec<String> {
        let leases = self.world.objects("coordination.k8s.io", "Lease");
        let held = leases.iter().filter_map(|lease| lease.pointer("/metadata/annotations/interlock.dev~1holders"));
        held.map(|held| held.as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_slot_becomes_a_pass_with_a_certificate_and_nothing_is_left() {
    let mut play = Play::of(drill(|_| ()), 1, 1);
    play.minutes(59);
    assert_eq!(play.ends(), ["Passed Complete"], "{:#?}", play.all::<DrillRun>("DrillRun"));
    assert_eq!(play.leftovers(), Vec::<String>::new());
    assert_eq!(play.holders(), ["[]"]);
    let run = play.all::<DrillRun>("DrillRun").remove(0);
    let status = run.status.unwrap();
    assert_eq!(status.cleanup.state, CleanupState::Done);
    let total: i64 = status
        .segments
        .iter()
        .map(|s| s.finished_at.as_ref().unwrap().0.duration_since(s.started_at.0).as_secs())
        .sum();
    assert_eq!((status.segments.len(), total), (5, status.rto.unwrap().seconds), "segments sum up");
    assert_eq!(status.rto.unwrap().met, Some(true));
    // The certificate is in the namespace, and holds.
    let noted = status.certificate.unwrap();
    let map = play.world.object("", "ConfigMap", "teller", &noted.config_map).expect("the certificate is stored");
    let public = play.world.public_key();
    for file in ["certificate.json", "certificate.html"] {
        let text = map["data"][file].as_str().unwrap();
        let says = certificate::verify(text, &public).unwrap();
        assert_eq!((says["evidence"]["verdict"].as_str(), says["system"].as_str()), (Some("Passed"), Some("teller")));
    }
    let mut ring = KeyRing::default();
    ring.insert(&public);
    // The backup is proven, the drill too.
    let proven: Vec<_> = play.all::<Backup>("Backup").into_iter().filter_map(|b| b.status?.verified).collect();
    assert_eq!(proven.iter().map(|v| v.verdict).collect::<Vec<_>>(), [PointVerdict::Proven]);
    let policy: BackupPolicy = play.all("BackupPolicy").remove(0);
    assert!(policy.status.unwrap().last_proven.is_some());
    let drill = play.drill().status.unwrap();
    assert_eq!(format!("{:?}", drill.phase), "Proven", "{drill:#?}");
    let calls = play.world.calls_made();
    play.minutes(75);
    assert_eq!(play.world.calls_made(), calls, "nothing happens, so nothing is asked");
}

#[test]
fn d10_a_controller_that_dies_after_each_write_comes_to_the_same_end_and_leaves_nothing() {
    let mut undisturbed = Play::of(drill(|_| ()), 1, 1);
    undisturbed.minutes(58);
    let mut play = Play::of(drill(|_| ()), 1, 2);
    let mut kills = 0;
    play.minutes_with(90, |world, happening| {
        if let Happening::Stored(audit) = happening
            && ["interlock-controller", ":executor", ":interlock-drill"].iter().any(|user| audit.user.ends_with(user))
            && audit.id.kind != "Lease"
            && (audit.id.kind != "Backup" || audit.id.name.starts_with("hourly"))
        {
            kills += 1;
            world.crash();
        }
    });
    assert!(kills > 40, "{kills} kills");
    assert_eq!(play.ends(), ["Passed Complete"]);
    assert_eq!(play.leftovers(), Vec::<String>::new(), "{:#?}", play.all::<DrillRun>("DrillRun"));
    let t0 = |play: &Play| play.all::<DrillRun>("DrillRun").remove(0).status.unwrap().t0.unwrap().0;
    let difference = t0(&play).duration_since(t0(&undisturbed)).abs();
    assert!(difference < SignedDuration::from_secs(60), "T0 moved by {difference}");
}

#[test]
fn d14_whoever_dies_between_telling_and_recording_has_told_that_a_pass_is_overdue_once() {
    let mut play = Play::of(drill(|_| ()), 1, 2);
    let (mut kills, mut told) = (0, Vec::new());
    let mut until = |play: &mut Play, minutes: i64| {
        play.minutes_with(minutes, |world, happening| {
            let dies = match happening {
                Happening::Told(new) => {
                    told.push(new.note.reason.clone());
                    new.note.reason.starts_with("DrillO")
                }
                Happening::Stored(audit) => audit.id.kind == "RestoreDrill",
                _ => false,
            };
            if dies {
                kills += 1;
                world.crash();
            }
        });
    };
    play.world.vault.trouble("teller", "hourly-", Some(Trouble::Opens(12)));
    until(&mut play, 150);
    play.world.vault.trouble("teller", "hourly-", None);
    until(&mut play, 215);
    assert!(kills > 5, "{kills} kills");
    assert_eq!(play.ends(), ["Failed WrongPassword", "Failed WrongPassword", "Passed Complete"]);
    let count = |reason: &str| told.iter().filter(|told| *told == reason).count();
    assert_eq!((count("DrillOverdue"), count("DrillOnTime")), (1, 1), "{told:?}");
    assert_eq!((count("WrongPassword"), count("Passed")), (2, 1), "{told:?}");
}

/// Finalizers of the namespace, as of a controller that has something to do before it goes.
fn keep(world: &World, namespace: &ObjectId, finalizers: &Value) {
    let admin = user("admin", &["system:masters"]);
    let patch = json!({"metadata": {"finalizers": finalizers}});
    world.shared.lock().api.write(Write::merge_patch(&admin, "admin", namespace, &patch)).unwrap();
}

#[test]
fn d10_whoever_dies_between_telling_and_recording_has_told_of_what_is_left_once() {
    let mut play = Play::of(drill(|spec| spec["timeouts"] = json!({"cleanup": "2m"})), 1, 2);
    let (mut kills, mut told) = (0, Vec::new());
    let mut until = |play: &mut Play, minutes: i64| {
        play.minutes_with(minutes, |world, happening| {
            let dies = match happening {
                Happening::Told(new) => {
                    told.push(new.note.reason.clone());
                    new.note.reason.starts_with("Cleanup")
                }
                Happening::Stored(audit) if audit.id.kind == "Namespace" && audit.old.is_none() => {
                    keep(world, &audit.id, &json!(["example.com/keeps"]));
                    false
                }
                Happening::Stored(audit) => audit.id.kind == "RestoreDrill",
                _ => false,
            };
            if dies {
                kills += 1;
                world.crash();
            }
        });
    };
    let failed = |play: &Play| {
        let conditions = play.drill().status.unwrap().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == "CleanupFailed").unwrap();
        (found.status, found.message)
    };
    until(&mut play, 75);
    let (status, message) = failed(&play);
    assert!(status == "True" && message.contains("Namespace/"), "{status} {message}");
    assert_eq!((play.ends(), play.run().cleanup.state), (vec!["Passed Complete".to_owned()], CleanupState::Failed));
    let sandbox = play.run().sandbox.unwrap().namespace;
    let sandbox = ObjectId::of(&play.world.object("", "Namespace", "", &sandbox).unwrap()).unwrap();
    keep(&play.world, &sandbox, &Value::Null);
    until(&mut play, 85);
    assert_eq!((failed(&play).0.as_str(), play.run().cleanup.state), ("False", CleanupState::Done));
    assert_eq!((play.ends(), play.leftovers()), (vec!["Passed Complete".to_owned()], Vec::new()));
    assert!(kills > 3, "{kills} kills");
    let count = |reason: &str| told.iter().filter(|told| *told == reason).count();
    assert_eq!((count("CleanupFailed"), count("CleanupDone")), (1, 1), "{told:?}");
}

#[test]
fn what_goes_wrong_fails_with_its_reason_condemns_what_it_proves_bad_and_is_cleaned_up() {
    use PointVerdict::{Corrupt, Unverified};
    let flipped = Trouble::Restores(1, "ciphertext verification failed".into());
    for (place, name, trouble, end, point) in [
        ("teller", "hourly-", flipped, "Failed DataCorrupt", Some(Corrupt)),
        ("teller", "hourly-", Trouble::Lies, "Failed EmptyRestore", Some(Corrupt)),
        ("teller", "hourly-", Trouble::Restores(1, "disk full".into()), "Failed RestoreFailed", Some(Unverified)),
        ("teller", "hourly-", Trouble::Opens(12), "Failed WrongPassword", None),
        ("teller", "hourly-", Trouble::Silent, "Failed NoResult", None),
        ("*", "probe", Trouble::Unenforced, "Failed IsolationNotEnforced", None),
        ("*", "probe", Trouble::Silent, "Failed IsolationUnknown", None),
        ("*", "validation-0", Trouble::Wrong, "Failed ValidationFailed", Some(Unverified)),
        ("*", "validation-0", Trouble::Silent, "Failed ValidationError", Some(Unverified)),
        ("*", "validation-1", Trouble::Wrong, "Passed Complete", Some(PointVerdict::Proven)),
    ] {
        let mut play = Play::of(drill(|_| ()), 1, 1);
        play.minutes(45);
        play.world.vault.trouble(place, name, Some(trouble.clone()));
        play.minutes(75);
        assert_eq!(play.ends(), [end], "{trouble:?}: {:#?}", play.all::<DrillRun>("DrillRun")[0].status);
        assert_eq!(play.leftovers(), Vec::<String>::new(), "{trouble:?}");
        assert_eq!(play.holders(), ["[]"], "{trouble:?}");
        let verdicts: Vec<_> = play.all::<Backup>("Backup").into_iter().filter_map(|b| b.status?.verified).collect();
        assert_eq!(verdicts.first().map(|v| v.verdict), point, "{trouble:?}");
        if point == Some(Corrupt) {
            let policy: BackupPolicy = play.all("BackupPolicy").remove(0);
            assert!(policy.status.unwrap().last_good.is_none(), "a corrupt point is no longer the last good one");
        }
        if trouble == Trouble::Unenforced {
            let run = play.all::<DrillRun>("DrillRun").remove(0).status.unwrap();
            assert!(run.jobs.iter().all(|job| job.name != "application"), "the application was never started");
        }
    }
}

#[test]
fn d11_and_d8_what_never_answers_times_out_and_is_cleaned_up() {
    for (workload, end) in [
        ("hourly-*-restore", "Failed RestoreTimedOut"),
        ("application", "Failed StartTimedOut"),
        ("validation-0", "Failed TimedOut"),
    ] {
        let mut play =
            Play::of(drill(|spec| spec["timeouts"] = json!({"restore": "5m", "start": "5m", "validate": "5m"})), 1, 1);
        play.minutes(45);
        play.world.workloads.set_behaviours(vec![hangs(workload)]);
        play.minutes(80);
        assert_eq!(play.ends(), [end], "{workload}");
        assert_eq!(play.leftovers(), Vec::<String>::new(), "{workload}");
        assert_eq!(play.holders(), ["[]"], "{workload}");
    }
}

#[test]
fn d12_a_slot_is_skipped_while_a_run_is_active() {
    let mut play = Play::of(drill(|spec| spec["schedule"] = json!("*/10 * * * *")), 1, 1);
    play.minutes(25);
    play.world.workloads.set_behaviours(vec![hangs("hourly-*")]);
    play.minutes(55);
    let status = play.drill().status.unwrap();
    assert!(status.skipped_slots.unwrap().total >= 2, "slots while the run is active are skipped");
    assert_eq!(format!("{:?}", status.phase), "Running");
    // A backup goes on beside the restore.
    play.minutes(85);
    assert!(play.all::<Backup>("Backup").iter().filter(|b| b.status.as_ref().unwrap().point.is_some()).count() >= 2);
}

#[test]
fn d12_what_a_person_asked_for_under_the_name_of_a_slot_is_not_its_run() {
    let mut play = Play::of(drill(|_| ()), 1, 1);
    play.minutes(30);
    let name = schedule::run_name("hourly", start() + SignedDuration::from_mins(50));
    let spec = json!({"drillRef": {"name": "hourly"}, "drillUid": play.drill().metadata.uid, "requester": "bob"});
    let now = play.world.now();
    play.world.schedule(now, Act::Create(user("bob", &["sre"]), own("DrillRun", &name, &spec)));
    play.minutes(49);
    assert_eq!(play.ends(), ["Passed Complete"]);
    play.minutes(59);
    assert_eq!(play.ends(), ["Passed Complete"], "the slot has no run of its own");
    let status = play.drill().status.unwrap();
    assert_eq!((status.skipped_slots.map(|slots| slots.total), status.last_slot), (Some(1), None), "and that is told");
}

#[test]
fn d12_a_drill_waits_for_a_prune_and_a_prune_for_the_drill_that_reads() {
    let drill = drill(|spec| spec["timeouts"] = json!({"restore": "30m"}));
    let mut play = Play::on(&pruned_ground("8,48 * * * *"), drill, 1, 1);
    play.minutes(47);
    play.world.workloads.set_behaviours(vec![hangs("vault-prune-*")]);
    play.minutes(57);
    let run = play.run();
    let told = run.message.unwrap_or_default();
    assert_eq!(run.phase, DrillPhase::Queued, "{told}");
    assert!(told.contains("Prune/") && told.contains("holds it alone"), "{told}");
    // The prune goes on and ends, and it is the restore that hangs: the next prune waits for it.
    play.world.workloads.set_behaviours(vec![hangs("hourly-*-restore")]);
    play.minutes(78);
    assert_eq!(play.run().phase, DrillPhase::Restoring);
    let status = play.repository().status.unwrap();
    let waits = status.active.expect("a prune is due");
    assert_eq!((waits.operation, waits.job_uid, status.waiting), (MaintenanceOperation::Prune, None, 1));
    // A backup passes both: it only adds.
    play.minutes(84);
    assert_eq!(play.snapshots().len(), 2);
    play.minutes(100);
    assert_eq!(play.ends(), ["Failed RestoreTimedOut"]);
    let pruned = play.repository().status.unwrap().last_prune.unwrap();
    assert_eq!((&pruned.name, pruned.outcome), (&waits.name, Some(MaintenanceOutcome::Succeeded)));
    assert!(pruned.started_at.unwrap().0 >= play.run().repository_released_at.unwrap().0, "only then");
    assert_eq!(play.snapshots().len(), 1, "keepLast: 1");
}

#[test]
fn d18_a_drill_that_goes_over_to_another_policy_while_its_run_is_queued_changes_nothing_for_that_run() {
    let mut ground = pruned_ground("48 * * * *");
    let other = json!({
        "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
        "schedules": [{"name": "hourly", "schedule": "25 * * * *"}], "retention": {"keepLast": 2},
    });
    ground.push(own("BackupPolicy", "other", &other));
    let mut play = Play::on(&ground, drill(|_| ()), 1, 1);
    play.minutes(47);
    play.world.workloads.set_behaviours(vec![hangs("vault-prune-*")]);
    play.minutes(53);
    let of = |play: &Play, name: &str| {
        let backups = play.all::<Backup>("Backup");
        let found = backups.iter().find(|backup| backup.metadata.name.as_deref() == Some(name)).unwrap();
        found.spec.policy_ref.name.clone()
    };
    let chosen = play.run().chosen.unwrap();
    assert_eq!((play.run().phase, of(&play, &chosen.backup).as_str()), (DrillPhase::Queued, "files"));
    let id = ObjectId::of(&drill(|_| ())).unwrap();
    let goes_over = json!({"spec": {"policyRef": {"name": "other"}}});
    let admin = user("admin", &["system:masters"]);
    play.world.shared.lock().api.write(Write::merge_patch(&admin, "admin", &id, &goes_over)).unwrap();
    play.minutes(56);
    play.world.workloads.set_behaviours(Vec::new());
    play.minutes(105);
    assert_eq!(play.ends(), ["Passed Complete"]);
    assert_eq!(play.run().chosen.unwrap(), chosen, "the point of the policy that was pinned");
}

#[test]
fn d13_the_chosen_point_stays_until_the_verdict_and_goes_with_the_next_prune() {
    let drill = drill(|spec| {
        spec["timeouts"] = json!({"validate": "75m"});
        spec["validations"][0]["timeout"] = json!("70m");
    });
    let mut play = Play::on(&pruned_ground("*/5 * * * *"), drill, 1, 1);
    play.minutes(45);
    play.world.workloads.set_behaviours(vec![hangs("validation-0")]);
    // At 80 minutes there is a newer good point, and one is all that the rule keeps.
    play.minutes(102);
    let run = play.run();
    let chosen = run.chosen.expect("a point was chosen");
    assert_eq!(run.phase, DrillPhase::Validating);
    let backups = play.all::<Backup>("Backup");
    let newest = backups.iter().filter_map(|backup| backup.status.as_ref()?.finished_at.as_ref()).map(|at| at.0).max();
    let pruned = play.repository().status.unwrap().last_prune.unwrap();
    assert_eq!(pruned.outcome, Some(MaintenanceOutcome::Succeeded));
    assert!(pruned.started_at.map(|at| at.0) > newest, "it was pruned since");
    let snapshots = play.snapshots();
    assert!(snapshots.len() == 2 && snapshots.contains(&chosen.snapshot_id), "{snapshots:?}");
    let of_chosen = backups.iter().find(|backup| backup.metadata.name.as_ref() == Some(&chosen.backup)).unwrap();
    assert_eq!(of_chosen.status.clone().unwrap().retention.unwrap().kept_by, ["InUse"]);
    play.minutes(136);
    assert_eq!(play.ends(), ["Failed TimedOut"]);
    let left = play.snapshots();
    assert!(left.len() == 1 && !left.contains(&chosen.snapshot_id), "{left:?}");
}

#[test]
fn d15_two_slots_draw_from_both_tiers_whoever_dies_when_that_is_noted() {
    let mut ground = pruned_ground("40 * * * *");
    let policy = ground.iter_mut().find(|object| object["kind"] == "BackupPolicy").unwrap();
    policy["spec"]["retention"] = json!({"keepLast": 1, "keepHourly": 5});
    let random = drill(|spec| spec["selection"] = json!({"strategy": "RandomWithin", "days": 30}));
    let mut play = Play::on(&ground, random, 1, 2);
    let mut kills = 0;
    play.minutes_with(130, |world, happening| {
        if matches!(happening, Happening::Stored(audit) if audit.id.kind == "RestoreDrill") {
            kills += 1;
            world.crash();
        }
    });
    assert!(kills > 3, "{kills} kills");
    assert_eq!(play.ends(), ["Passed Complete", "Passed Complete"]);
    let runs = play.all::<DrillRun>("DrillRun");
    let chosen = runs.iter().filter_map(|run| run.status.as_ref()?.chosen.clone());
    let (drawn, tiers): (Vec<_>, Vec<_>) = chosen.map(|chosen| (chosen.backup, chosen.tier.unwrap())).unzip();
    let shuffle = play.drill().status.unwrap().shuffle.unwrap();
    assert_eq!((shuffle.round, &shuffle.drawn, &shuffle.drawn_tiers), (1, &drawn, &tiers), "each is noted once");
    let both: std::collections::BTreeSet<_> = tiers.iter().map(String::as_str).collect();
    assert_eq!(both.into_iter().collect::<Vec<_>>(), ["keepHourly", "keepLast"]);
}

#[test]
fn b13_a_point_that_a_prune_may_have_removed_is_not_chosen_whatever_the_rules_keep_since() {
    let drill = drill(|spec| {
        spec.as_object_mut().unwrap().remove("schedule");
        spec["selection"] = json!({"strategy": "Oldest"});
    });
    let mut play = Play::on(&pruned_ground("40 * * * *"), drill, 1, 1);
    play.minutes(90);
    let runs = play.all::<Backup>("Backup");
    let names: Vec<_> = runs.iter().map(|run| run.metadata.name.clone().unwrap()).collect();
    let [first, second] = names.as_slice() else { panic!("{names:?}") };
    play.world.vault.trouble("teller", "vault-prune-", Some(Trouble::BreaksOff));
    play.minutes(105);
    assert_eq!(play.snapshots().len(), 1, "it forgot");
    play.world.vault.trouble("teller", "vault-prune-", None);
    let wider = json!({"spec": {"retention": {"keepLast": 5}}});
    let policy = ObjectId::of(&own("BackupPolicy", "files", &json!({}))).unwrap();
    let admin = user("admin", &["system:masters"]);
    play.world.shared.lock().api.write(Write::merge_patch(&admin, "admin", &policy, &wider)).unwrap();
    play.minutes(170);
    let pruned = play.repository().status.unwrap().last_prune.unwrap();
    assert_eq!((pruned.outcome, play.snapshots().len()), (Some(MaintenanceOutcome::Succeeded), 2));
    let record = play.all::<Backup>("Backup").remove(0).status.unwrap().retention.unwrap();
    assert_eq!((record.kept_by.as_slice(), record.forgotten_at), (["keepLast".to_owned()].as_slice(), None), "{first}");
    assert!(record.expired_at.is_some(), "nobody knows whether it is there");
    let asked = own("DrillRun", "proof", &json!({"drillRef": {"name": "hourly"}, "requester": "bob"}));
    play.world.schedule(play.world.now(), Act::Create(user("bob", &["sre"]), asked));
    play.minutes(179);
    assert_eq!(play.ends(), ["Passed Complete"]);
    assert_eq!(play.run().chosen.unwrap().backup, *second, "the oldest that is surely there");
}

#[test]
fn a_person_asks_for_a_run_with_a_fault_and_deletes_one_under_way() {
    let mut play = Play::of(
        drill(|spec| {
            spec.as_object_mut().unwrap().remove("schedule");
        }),
        1,
        1,
    );
    play.minutes(30);
    let bob = || user("bob", &["sre"]);
    let asked = |name: &str, more: Value| {
        let mut spec = json!({"drillRef": {"name": "hourly"}, "requester": "bob"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        own("DrillRun", name, &spec)
    };
    let fault = json!({"faultInjection": {"fault": "DeleteFiles", "path": "/data"}});
    let now = play.world.now();
    play.world.schedule(now, Act::Create(bob(), asked("proof", fault)));
    play.minutes(40);
    // The simulated validation finds nothing wrong, and that is told.
    assert_eq!(play.ends(), ["Failed FaultNotNoticed"]);
    assert!(play.drill().status.unwrap().last_failed.is_none(), "a fault says nothing about the data");
    play.world.workloads.set_behaviours(vec![hangs("validation-*")]);
    let run = asked("gone", json!({}));
    let id = ObjectId::of(&run).unwrap();
    let now = play.world.now();
    play.world.schedule(now, Act::Create(bob(), run));
    play.minutes(43);
    assert!(!play.leftovers().is_empty());
    let now = play.world.now();
    play.world.schedule(now, Act::Delete(user("admin", &["system:masters"]), id));
    play.minutes(50);
    assert_eq!(play.ends(), ["Failed FaultNotNoticed"], "the other one is gone");
    assert_eq!(play.leftovers(), Vec::<String>::new());
}

#[test]
fn d16_a_drill_that_must_prove_that_it_can_fail_is_proven_by_the_pass_after_that() {
    let mut play = Play::of(
        drill(|spec| {
            spec.as_object_mut().unwrap().remove("schedule");
            spec["requireProvenFailure"] = json!(true);
        }),
        1,
        1,
    );
    play.minutes(30);
    let ask = |play: &mut Play, name: &str, fault: Option<Value>, until: i64| {
        let mut spec = json!({"drillRef": {"name": "hourly"}, "requester": "bob"});
        if let Some(fault) = fault {
            spec["faultInjection"] = fault;
        }
        let now = play.world.now();
        play.world.schedule(now, Act::Create(user("bob", &["sre"]), own("DrillRun", name, &spec)));
        play.minutes(until);
        let status = play.drill().status.unwrap();
        let (passed, proof) = (status.last_passed.map(|last| last.run), status.proven_failure.map(|proof| proof.run));
        (format!("{:?}", status.phase), passed, proof)
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        ask(&mut play, "early", None, 40),
        ("Unproven".to_owned(), None, None),
        "it passed, and that is no proof"
    );
    play.world.vault.trouble("*", "validation-0", Some(Trouble::Wrong));
    let fault = json!({"fault": "DeleteFiles", "path": "/data"});
    assert_eq!(ask(&mut play, "fault", Some(fault), 50), ("Unproven".to_owned(), None, named("fault")));
    play.world.vault.trouble("*", "validation-0", None);
    assert_eq!(ask(&mut play, "late", None, 60), ("Proven".to_owned(), named("late"), named("fault")));
    assert_eq!(play.ends(), ["Passed Complete", "Failed ValidationFailed", "Passed Complete"]);
}

#[test]
fn what_a_run_left_goes_although_somebody_took_its_finalizer_away() {
    let mut play = Play::of(drill(|_| ()), 1, 1);
    play.minutes(45);
    play.world.workloads.set_behaviours(vec![hangs("validation-*")]);
    play.minutes(54);
    assert!(!play.leftovers().is_empty());
    let run = play.all::<DrillRun>("DrillRun").remove(0);
    let id = ObjectId::of(&serde_json::to_value(&run).unwrap()).unwrap();
    {
        use interlock_sim::api::Verb;
        let admin = user("admin", &["system:masters"]);
        let mut shared = play.world.shared.lock();
        let patch = json!({"metadata": {"finalizers": null}});
        shared.api.write(Write::new(&admin, "admin", Verb::MergePatch { id: id.clone(), patch })).unwrap();
        shared.api.write(Write::delete(&admin, &id)).unwrap();
    }
    play.minutes(58);
    assert_eq!(play.leftovers(), Vec::<String>::new());
}

#[test]
fn d10_a_volume_whose_claim_somebody_deletes_during_the_restore_is_overwritten_and_goes() {
    let hangs = Behaviour { workload: Some("hourly-*-restore".to_owned()), ..Behaviour::of(Effect::NeverReady) };
    let mut play = Play::of(drill(|spec| spec["timeouts"] = json!({"restore": "5m"})), 1, 1);
    play.minutes(45);
    play.world.workloads.set_behaviours(vec![hangs]);
    play.minutes(52);
    let run = play.all::<DrillRun>("DrillRun").remove(0).metadata.name.unwrap();
    let claim = play.world.object("", "PersistentVolumeClaim", "teller", &names::claim(&run)).unwrap();
    let name = claim["spec"]["volumeName"].as_str().unwrap();
    let volume = play.world.object("", "PersistentVolume", "", name).unwrap();
    {
        let admin = user("admin", &["system:masters"]);
        let (claim, volume) = (ObjectId::of(&claim).unwrap(), ObjectId::of(&volume).unwrap());
        let retains = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        let unprotected = json!({"metadata": {"finalizers": null}});
        let mut shared = play.world.shared.lock();
        shared.api.write(Write::merge_patch(&admin, "admin", &volume, &retains)).unwrap();
        shared.api.write(Write::merge_patch(&admin, "admin", &claim, &unprotected)).unwrap();
        shared.api.write(Write::delete(&admin, &claim)).unwrap();
    }
    play.minutes(75);
    let status = play.all::<DrillRun>("DrillRun").remove(0).status.unwrap();
    assert_eq!((play.ends(), status.cleanup.state), (vec!["Failed RestoreTimedOut".to_owned()], CleanupState::Done));
    assert!(status.jobs.iter().any(|job| job.name == "wipe" && job.uid.is_some()), "it was overwritten");
    assert!(play.world.object("", "PersistentVolume", "", name).is_none(), "{:#?}", status.cleanup);
    assert_eq!((play.leftovers(), play.holders()), (Vec::new(), vec!["[]".to_owned()]));
}

#[test]
fn d18_what_a_run_made_goes_although_somebody_broke_its_record() {
    let hangs = Behaviour { workload: Some("validation-*".to_owned()), ..Behaviour::of(Effect::NeverReady) };
    let mut play = Play::of(drill(|_| ()), 1, 1);
    play.minutes(45);
    play.world.workloads.set_behaviours(vec![hangs]);
    play.minutes(54);
    assert!(!play.leftovers().is_empty());
    let mut run = (*play.world.objects(GROUP, "DrillRun")[0]).clone();
    run["status"]["pinned"]["spec"]["validations"] = json!([]);
    {
        let admin = user("admin", &["system:masters"]);
        play.world.shared.lock().api.write(Write::status(&admin, "admin", &run)).unwrap();
    }
    play.minutes(60);
    assert_eq!(play.ends(), ["Failed RecordBroken"]);
    assert_eq!(play.leftovers(), Vec::<String>::new());
    assert_eq!(play.holders(), ["[]"]);
    let cleanup = play.all::<DrillRun>("DrillRun").remove(0).status.unwrap().cleanup;
    assert_eq!((cleanup.state, cleanup.message.as_deref()), (CleanupState::Done, Some("nothing is left")));
}

#[test]
fn d18_a_verdict_that_somebody_else_wrote_is_never_sealed() {
    let mut play = Play::of(drill(|_| ()), 1, 1);
    play.minutes(45);
    play.world.workloads.set_behaviours(vec![hangs("validation-*")]);
    play.minutes(54);
    assert_eq!(play.run().phase, DrillPhase::Validating);
    let mut run = (*play.world.objects(GROUP, "DrillRun")[0]).clone();
    let status = &mut run["status"];
    for (field, forged) in [
        ("phase", json!("Passed")),
        ("verdict", json!("Passed")),
        ("reason", json!("Complete")),
        ("finishedAt", json!(play.world.now())),
    ] {
        status[field] = forged;
    }
    for validation in status["validations"].as_array_mut().unwrap() {
        validation["verdict"] = json!("Passed");
    }
    {
        let admin = user("admin", &["system:masters"]);
        play.world.shared.lock().api.write(Write::status(&admin, "admin", &run)).unwrap();
    }
    play.minutes(65);
    assert_eq!(play.ends(), ["Passed Complete"]);
    assert_eq!(play.run().certificate, None);
    let file = names::certificate(run["metadata"]["name"].as_str().unwrap());
    assert!(play.world.object("", "ConfigMap", "teller", &file).is_none());
    assert_eq!((play.leftovers(), play.holders()), (Vec::new(), vec!["[]".to_owned()]));
}

#[test]
fn d18_a_certificate_that_cannot_be_stored_where_somebody_else_put_something_is_told() {
    let place = names::certificate(&schedule::run_name("hourly", start() + SignedDuration::from_mins(50)));
    let metadata = json!({"name": place, "namespace": "teller"});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}});
    let mut play = Play::on(&[ground(), vec![map]].concat(), drill(|_| ()), 1, 1);
    let mut told = Vec::new();
    play.minutes_with(59, |_, happening| {
        if let Happening::Told(new) = happening
            && new.note.reason == "CertificateNotStored"
        {
            told.push(new.note.message.clone());
        }
    });
    assert_eq!(play.ends(), ["Passed Complete"], "the verdict stays");
    let why = format!("ConfigMap {place} holds something else");
    assert!(!told.is_empty() && told.iter().all(|said| said.contains(&why)), "{told:?}");
}

#[test]
fn d9_a_namespace_that_somebody_made_for_the_data_is_not_a_sandbox() {
    let mut play = Play::of(drill(|_| ()), 1, 1);
    play.minutes_with(59, |world, happening| {
        let Happening::Stored(audit) = happening else { return };
        let Some(run) = audit.new.as_ref().filter(|_| audit.id.kind == "DrillRun" && audit.old.is_none()) else {
            return;
        };
        let uid = run["metadata"]["uid"].as_str().unwrap();
        let run = RunRef { name: &audit.id.name, uid, namespace: "teller" };
        let metadata = json!({"name": run.sandbox(), "labels": run.labels(SANDBOX_COMPONENT)});
        world.seed_objects(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})]).unwrap();
    });
    assert_eq!(play.ends(), ["Failed NameTaken"]);
    assert_eq!(play.leftovers().len(), 1, "the namespace is its maker's: {:?}", play.leftovers());
    assert!(play.all::<DrillRun>("DrillRun").remove(0).status.unwrap().jobs.is_empty(), "nothing was restored");
    assert_eq!(play.holders(), ["[]"]);
    // Nor does the sweep take it for one when its run is gone.
    let run = ObjectId::of(&play.world.objects(GROUP, "DrillRun")[0]).unwrap();
    let now = play.world.now();
    play.world.schedule(now, Act::Delete(user("admin", &["system:masters"]), run));
    play.minutes(65);
    assert_eq!(play.ends(), Vec::<String>::new());
    assert_eq!(play.leftovers().len(), 1, "the namespace is its maker's: {:?}", play.leftovers());
}

#[test]
fn under_a_storm_of_faults_a_drill_ends_and_leaves_nothing() {
    for seed in 1..5 {
        let mut play = Play::of(drill(|spec| spec["schedule"] = json!("*/15 * * * *")), seed, 2);
        play.minutes(25);
        play.world.faults = Faults::storm();
        play.minutes(70);
        play.world.calm();
        play.minutes(140);
        let ends = play.ends();
        assert!(
            ends.last().is_some_and(|end| end == "Passed Complete"),
            "seed {seed}: {ends:?} {:#?}",
            play.all::<DrillRun>("DrillRun").last()
        );
        let active = play
            .all::<DrillRun>("DrillRun")
            .iter()
            .filter(|run| run.status.as_ref().is_none_or(|status| status.phase < DrillPhase::Passed))
            .count();
        assert!(active <= 1, "seed {seed}: {ends:?}");
        if active == 0 {
            assert_eq!(play.leftovers(), Vec::<String>::new(), "seed {seed}");
        }
    }
}
