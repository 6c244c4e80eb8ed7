//! Events that come in another order than things happened.

use interlock_core::{change::sealed, seal::SealKey};
use serde_json::{Value, json};

use super::*;

fn change(version: &str, status: &Value) -> crds::ChangeRequest {
    serde_json::from_value(json!({
        "apiVersion": crds::API_VERSION, "kind": "ChangeRequest",
        "metadata": {"name": "c", "namespace": "teller", "uid": "u", "generation": 1, "resourceVersion": version},
        "spec": {"title": "t", "reason": "r", "requester": "alice", "content": {"manifests": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "teller"}},
        ]}},
        "status": status,
    }))
    .unwrap()
}

/// A key, and an index that believes its seals.
fn sealed_index() -> (SealKey, Index) {
    let seal = SealKey::from_seed(&[1; 32]).unwrap();
    let mut keys = KeyRing::default();
    keys.insert(seal.public());
    (seal, Index::new(keys))
}

/// The change that has started.
fn started(seal: &SealKey) -> crds::ChangeRequest {
    let run = serde_json::from_value(json!({
        "epoch": 1, "changeDigest": "sha256:00", "executor": "e", "beforeDigest": "", "beforeChunks": 1,
        "startedAt": "2026-11-23T08:00:00Z", "seal": "",
    }));
    let run = sealed::seal_run(seal, "u", run.unwrap()).unwrap();
    change("2", &json!({"phase": "Running", "run": run}))
}

#[test]
fn what_drills_calendars_and_policies_say_wakes_the_releases_of_running_changes() {
    let (seal, mut index) = sealed_index();
    let of = |kind: &str, name: &str, more: Value| {
        let metadata =
            json!({"name": name, "namespace": "teller", "uid": name, "generation": 1, "resourceVersion": "1"});
        let mut object = json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": metadata});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let policy = |count: u32| {
        let approvals = json!({"thresholds": [{"name": "peers", "count": count, "groups": ["sre"]}]});
        serde_json::from_value(of(
            "ChangePolicy",
            "p",
            json!({"spec": {"types": {"normal": {"approvals": approvals}}}}),
        ))
    };
    let system = json!({"spec": {
        "tier": "Critical", "mode": "Enforce", "namespaces": ["teller"], "policyRef": {"name": "p"},
        "executor": {"type": "Interlock", "serviceAccount": {"namespace": "teller", "name": "e"}},
    }});
    index.system_stored(&serde_json::from_value(of("System", "teller", system)).unwrap());
    index.policy_stored(&policy(1).unwrap());
    index.change_stored(&started(&seal));
    let release = json!({"spec": {
        "changeRequest": {"name": "c", "uid": "u"}, "changeDigest": "sha256:00", "plan": {"canary": {"steps": []}},
        "targets": [{"kind": "Deployment", "namespace": "teller", "name": "web"}],
    }});
    index.rollout_stored(&serde_json::from_value(of("Rollout", "c", release)).unwrap());
    index.take_woken_rollouts();

    let drill = |status: Value| {
        let spec =
            json!({"policyRef": {"name": "files"}, "sandbox": {}, "validations": [{"name": "there", "files": {}}]});
        serde_json::from_value(of("RestoreDrill", "monthly", json!({"spec": spec, "status": status}))).unwrap()
    };
    let woken = |index: &mut Index| !index.take_woken_rollouts().is_empty();
    index.restore_drill_stored(&drill(json!({})));
    assert!(woken(&mut index), "a drill is there");
    let passed =
        json!({"lastPassed": {"run": "r", "uid": "r-1", "phase": "Passed", "finishedAt": "2026-11-23T09:00:00Z"}});
    index.restore_drill_stored(&drill(passed.clone()));
    assert!(woken(&mut index), "it passed");
    index.restore_drill_stored(&drill(passed));
    assert!(!woken(&mut index), "nothing that a gate looks at is different");
    index.restore_drill_deleted("teller/monthly");
    assert!(woken(&mut index), "it is gone");

    let files = |rpo: &str| {
        let spec = json!({
            "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
            "retention": {"keepLast": 9}, "objectives": {"rpo": rpo},
        });
        serde_json::from_value(of("BackupPolicy", "files", json!({ "spec": spec }))).unwrap()
    };
    index.backup_policy_stored(&files("2d"));
    assert!(woken(&mut index), "a policy is there");
    index.backup_policy_stored(&files("2d"));
    assert!(!woken(&mut index), "it is the same");
    index.backup_policy_stored(&files("1d"));
    assert!(woken(&mut index), "it has another objective");
    let backup = |snapshot: &str| {
        let spec = json!({"policyRef": {"name": "files"}, "policyUid": "files", "requester": "bob"});
        let point = json!({"snapshotId": snapshot, "dataTime": "2026-11-23T07:00:00Z"});
        let status = json!({"phase": "Succeeded", "finishedAt": "2026-11-23T07:05:00Z", "point": point});
        serde_json::from_value(of("Backup", "b", json!({"spec": spec, "status": status}))).unwrap()
    };
    index.backup_stored(&backup("5"));
    assert!(woken(&mut index), "there is a newer good point");
    index.backup_stored(&backup("5"));
    assert!(!woken(&mut index), "it is the same point");
    index.backup_deleted("teller/b");
    assert!(woken(&mut index), "it is gone");
    index.policy_stored(&policy(2).unwrap());
    assert!(woken(&mut index), "the policy is another one");
    let calendar = json!({"spec": {"timeZone": "UTC", "windows": []}});
    index.calendar_stored(&serde_json::from_value(of("Calendar", "of-a-wave", calendar)).unwrap());
    assert!(woken(&mut index), "a wave may wait for it");
}

#[test]
fn the_late_answer_to_a_start_does_not_revive_a_change_that_has_ended() {
    let (seal, mut index) = sealed_index();
    let now = "2026-11-23T08:00:00Z".parse().unwrap();
    let running = started(&seal);
    let run = running.status.as_ref().unwrap().run.clone();
    let end = sealed::seal_finish(&seal, "u", crds::ChangePhase::Succeeded, now, String::new()).unwrap();

    index.change_stored(&change("1", &json!({})));
    index.change_learnt(&running);
    assert_eq!(index.running().len(), 1, "an answer in time is learnt");
    index.change_stored(&change("3", &json!({"phase": "Succeeded", "run": run, "finished": end})));
    // The process hung after its write, and reads the answer only now.
    index.change_learnt(&running);
    assert!(index.running().is_empty() && index.live("teller/c").is_none(), "it has ended");
    index.change_deleted("teller/c");
    index.change_learnt(&running);
    assert!(index.change("teller/c").is_none(), "it is gone");
}

fn own(kind: &str, name: &str, spec: &Value, status: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "teller", "uid": name, "generation": 1});
    json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": status})
}

/// Policy, repository and drill of one name each.
fn with_backups() -> Index {
    let (_, mut index) = sealed_index();
    let policy = json!({
        "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
        "retention": {"keepLast": 9},
    });
    let restic = json!({"restic": {"url": "rest:https://vault.bank.example/", "secretRef": {"name": "vault"}}});
    let drill = json!({"policyRef": {"name": "files"}, "sandbox": {}, "validations": [{"name": "there", "files": {}}]});
    let nothing = json!({});
    index.backup_policy_stored(&serde_json::from_value(own("BackupPolicy", "files", &policy, &nothing)).unwrap());
    index.backup_repository_stored(
        &serde_json::from_value(own("BackupRepository", "vault", &restic, &nothing)).unwrap(),
    );
    index.restore_drill_stored(&serde_json::from_value(own("RestoreDrill", "monthly", &drill, &nothing)).unwrap());
    index
}

#[test]
fn a_system_wakes_what_is_in_its_namespaces_and_was_before() {
    let mut index = with_backups();
    let run = json!({"policyRef": {"name": "files"}, "requester": "bob"});
    index.backup_stored(&serde_json::from_value(own("Backup", "now", &run, &json!({}))).unwrap());
    let run = json!({"drillRef": {"name": "monthly"}, "requester": "bob"});
    index.drill_run_stored(&serde_json::from_value(own("DrillRun", "proof", &run, &json!({}))).unwrap());
    let system = |namespaces: &[&str]| {
        let spec = json!({"tier": "Critical", "mode": "Enforce", "namespaces": namespaces, "policyRef": {"name": "p"}});
        serde_json::from_value(own("System", "s", &spec, &json!({}))).unwrap()
    };
    let key = |name: &str| format!("teller/{name}");
    let all = BTreeSet::from([
        BackupKey::Policy(key("files")),
        BackupKey::Repository(key("vault")),
        BackupKey::Drill(key("monthly")),
        BackupKey::Run(key("now")),
        BackupKey::DrillRun(key("proof")),
    ]);
    index.take_woken_backups();
    index.system_stored(&system(&["teller-2", "telle"]));
    assert_eq!(index.take_woken_backups(), BTreeSet::new(), "others");
    index.system_stored(&system(&["teller"]));
    assert_eq!(index.take_woken_backups(), all);
    index.system_stored(&system(&["teller"]));
    assert_eq!(index.take_woken_backups(), BTreeSet::new(), "nothing is different");
    index.system_stored(&system(&[]));
    assert_eq!(index.take_woken_backups(), all, "it lists the namespace no longer");
    index.system_stored(&system(&["teller"]));
    index.take_woken_backups();
    index.system_deleted("s");
    assert_eq!(index.take_woken_backups(), all);
}

#[test]
fn b12_log_that_follows_on_a_base_that_is_corrupt_or_may_be_gone_does_not_count() {
    let mut index = with_backups();
    let mut run = |name: &str, hour: u32, base: Option<&str>, verdict: &str| {
        let mode = if base.is_some() { "Incremental" } else { "Full" };
        let at = format!("2026-11-23T0{hour}:00:00Z");
        let spec = json!({"policyRef": {"name": "files"}, "policyUid": "files", "requester": "bob", "mode": mode});
        let (told, verdict) = (verdict == "ToldToForget", verdict.replace("ToldToForget", "Proven"));
        let status = json!({
            "phase": "Succeeded", "finishedAt": at, "verified": {"drillRun": "d", "verdict": verdict, "at": at},
            "retention": told.then(|| json!({"expiredAt": at})),
            "point": {"snapshotId": format!("of-{name}"), "baseId": base.map(|base| format!("of-{base}")), "dataTime": at},
        });
        index.backup_stored(&serde_json::from_value(own("Backup", name, &spec, &status)).unwrap());
        let runs = index.backup_runs("teller/files");
        [runs.last_good, runs.last_proven, runs.last_full].map(|point| point.map_or_else(String::new, |p| p.backup))
    };
    run("base-1", 1, None, "Proven");
    run("log-1", 2, Some("base-1"), "Unverified");
    run("base-2", 3, None, "Unverified");
    assert_eq!(run("log-2", 4, Some("base-2"), "Proven"), ["log-2", "log-2", "base-2"]);
    assert_eq!(run("base-2", 3, None, "Corrupt"), ["log-1", "base-1", "base-1"]);
    assert_eq!(run("base-2", 3, None, "Proven"), ["log-2", "log-2", "base-2"], "a later drill takes it back");
    assert_eq!(run("base-2", 3, None, "ToldToForget"), ["log-1", "base-1", "base-1"], "it may be gone");
    assert_eq!(index.needing("teller/base-1"), ["log-1"]);
    assert_eq!(index.needing("teller/log-1"), Vec::<String>::new());
    index.backup_deleted("teller/log-1");
    assert_eq!(index.needing("teller/base-1"), Vec::<String>::new());
}

#[test]
fn b16_a_repository_object_that_is_made_again_is_the_repository_in_which_the_points_are() {
    let mut index = with_backups();
    let mut run = |name: &str, hour: u32, phase: &str, repository: &str, id: &str| {
        let at = format!("2026-11-23T0{hour}:00:00Z");
        let spec = json!({"policyRef": {"name": "files"}, "policyUid": "files", "requester": "bob"});
        let point = (phase != "Failed").then(|| json!({"snapshotId": format!("of-{name}"), "dataTime": at}));
        let status = json!({
            "phase": phase, "finishedAt": at, "point": point, "pinned": {
                "policyUid": "files", "policyGeneration": 1, "policyDigest": "", "repository": repository,
                "repositoryUid": "the-one-before", "repositoryId": id,
            },
        });
        index.backup_stored(&serde_json::from_value(own("Backup", name, &spec, &status)).unwrap());
        index.seen_by_runs("teller/vault")
    };
    assert_eq!(run("failed", 1, "Failed", "vault", "a").id, None, "there may be nothing in it");
    assert_eq!(run("elsewhere", 2, "Succeeded", "other", "b").id, None);
    assert_eq!(run("partial", 3, "PartiallyFailed", "vault", "c").id.as_deref(), Some("c"));
    let seen = run("older", 1, "Succeeded", "vault", "d");
    assert_eq!((seen.id.as_deref(), seen.opened_at), (Some("c"), None), "the newest tells, and nothing was opened");
}

#[test]
fn a_change_that_restores_holds_its_points_while_it_is_open_and_the_repository_from_the_turn_of_its_job_on() {
    let (seal, mut index) = sealed_index();
    let restore = |version: &str, status: &Value| {
        let mut object = serde_json::to_value(change(version, status)).unwrap();
        object["spec"]["content"]["manifests"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "back", "namespace": "teller", "annotations": {
                "interlock.dev/restore-repository": "teller/vault", "interlock.dev/restore-snapshots": "base,newest",
            }},
        }]);
        serde_json::from_value::<crds::ChangeRequest>(object).unwrap()
    };
    let held = |index: &Index| {
        let wants = index.restores_at_repository("teller/vault").iter().any(|restore| restore.claim.is_some());
        (Vec::from_iter(index.held_by_restores("teller/vault")), wants)
    };
    let points = vec!["base".to_owned(), "newest".to_owned()];
    let repository = BTreeSet::from([BackupKey::Repository("teller/vault".to_owned())]);

    index.change_stored(&restore("1", &json!({})));
    assert_eq!(held(&index), (points.clone(), false), "it waits for votes");
    assert_eq!(index.take_woken_backups(), repository);
    let with_job = |state: &str| {
        let mut run = serde_json::to_value(started(&seal).status.unwrap().run).unwrap();
        run["objects"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "namespace": "teller", "name": "back", "operation": "Create",
            "state": state,
        }]);
        json!({"phase": "Running", "run": run})
    };
    for (version, state, wants) in
        [("2", "Waiting", false), ("3", "Intended", true), ("4", "Written", true), ("5", "Done", false)]
    {
        index.change_stored(&restore(version, &with_job(state)));
        assert_eq!(held(&index), (points.clone(), wants), "{state}");
    }
    let run = with_job("Done")["run"].clone();
    let now = "2026-11-23T08:00:00Z".parse().unwrap();
    let end = sealed::seal_finish(&seal, "u", crds::ChangePhase::Succeeded, now, String::new()).unwrap();
    index.take_woken_backups();
    index.change_stored(&restore("6", &json!({"phase": "Succeeded", "run": run, "finished": end})));
    assert_eq!(held(&index), (Vec::new(), false));
    assert_eq!(index.take_woken_backups(), repository);
    // Of another System's repository nobody holds anything.
    let system = json!({
        "tier": "Critical", "mode": "Enforce", "namespaces": ["vaults"], "policyRef": {"name": "p"},
        "executor": {"type": "Interlock", "serviceAccount": {"namespace": "vaults", "name": "e"}},
    });
    index.system_stored(&serde_json::from_value(own("System", "vaults", &system, &json!({}))).unwrap());
    let mut foreign = serde_json::to_value(restore("7", &json!({}))).unwrap();
    foreign["metadata"]["uid"] = json!("another");
    foreign["spec"]["content"]["manifests"][0]["metadata"]["annotations"]["interlock.dev/restore-repository"] =
        json!("vaults/vault");
    index.change_stored(&serde_json::from_value(foreign).unwrap());
    assert_eq!(index.held_by_restores("vaults/vault"), BTreeSet::new());
    assert_eq!(index.namespaces_beside("vaults/vault"), ["vaults"], "nor do Jobs elsewhere");
    assert_eq!(index.namespaces_beside("nobodys/vault"), ["nobodys"], "without a System its own alone");
}

#[test]
fn a_sandbox_that_is_stored_after_its_run_was_deleted_is_swept() {
    let (_, mut index) = sealed_index();
    let spec = json!({"drillRef": {"name": "monthly"}, "requester": "bob"});
    let metadata = json!({"name": "proof", "namespace": "teller", "uid": "run"});
    let run = json!({"apiVersion": crds::API_VERSION, "kind": "DrillRun", "metadata": metadata, "spec": spec});
    let sandbox = |run: &str| {
        let labels = json!({
            "app.kubernetes.io/component": interlock_core::drill::objects::SANDBOX_COMPONENT,
            interlock_core::backup::pods::RUN_LABEL: run,
        });
        serde_json::from_value(json!({"metadata": {"name": "sandbox", "uid": "n", "labels": labels}})).unwrap()
    };
    let sweeps = |index: &mut Index| index.take_woken_backups().contains(&BackupKey::DrillOrphans);
    index.drill_run_stored(&serde_json::from_value(run).unwrap());
    index.namespace_stored(&sandbox("run"));
    assert!(!sweeps(&mut index), "its run is there");
    index.drill_run_deleted("teller/proof");
    assert!(sweeps(&mut index), "its run is gone");
    index.namespace_deleted("sandbox");
    index.namespace_stored(&sandbox("run"));
    assert!(sweeps(&mut index), "it came after that");
    index.namespace_stored(&sandbox("run"));
    assert!(!sweeps(&mut index), "it is no news");
}
