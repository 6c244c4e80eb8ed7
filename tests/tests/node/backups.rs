//! Backups with real restic and real PostgreSQL in real pods.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use interlock_cluster::{NodeOptions, POOL, SMALL, Tool, Tools};
use interlock_tests::{
    eventually,
    vault::{self, PASSWORD, RUN, Scene, claim, database, named, policy, repository, secret, write},
    world::SOON,
};
use serde_json::{Value, json};

const VOLUMES: usize = 8;
/// The volume that is as small as it says.
const SMALL_VOLUME: usize = 7;

fn files() -> Value {
    json!({"files": {"persistentVolumeClaim": "data"}})
}

fn command(script: &str) -> Value {
    json!({"command": {"image": "postgres:15", "command": ["sh", "-c", script]}})
}

fn objects() -> Vec<Value> {
    let kept = json!({"retention": {"keepLast": 2}, "objectives": {"rpo": "1h"}});
    let short = json!({"deadline": "1m"});
    let mut small = claim("small");
    small["spec"]["storageClassName"] = json!(SMALL);
    let mut unbound = claim("unbound");
    unbound["spec"]["storageClassName"] = json!("nobody-provides-it");
    let mut full = repository("full", "", "vault", &json!({}));
    full["spec"]["restic"]["volume"] = json!({"persistentVolumeClaim": "small"});
    let upkeep =
        json!({"prune": {"schedule": "* * * * *"}, "check": {"schedule": "*/2 * * * *", "readDataSubset": "1/1"}});
    let mut objects = vec![
        small,
        unbound,
        claim("empty"),
        secret("wrong", json!({"RESTIC_PASSWORD": "another-password"})),
        repository("vault", "", "vault", &upkeep),
        repository("locked-out", "", "wrong", &json!({"initialize": false})),
        repository("second", "/second", "vault", &json!({})),
        full,
        policy("slow", "vault", command("sleep 300"), &kept),
        policy("half", "vault", command("echo half; exit 7"), &kept),
        policy("locked-out", "locked-out", files(), &kept),
        policy("hung", "second", command("sleep 300"), &short),
        policy("unbound", "second", json!({"files": {"persistentVolumeClaim": "unbound"}}), &short),
        policy("empty", "second", json!({"files": {"persistentVolumeClaim": "empty"}}), &json!({})),
        policy("evicted", "second", command("sleep 300"), &json!({})),
        policy("well", "second", command("echo well"), &json!({})),
        policy("large", "full", command("dd if=/dev/urandom bs=1M count=32"), &json!({})),
    ];
    objects.extend(database(&[]));
    objects
}

#[test]
fn files_and_databases_are_backed_up_by_real_pods_and_only_what_is_whole_counts() {
    let _turn = crate::turn();
    let node = NodeOptions { volumes: VOLUMES, small: Some((SMALL_VOLUME, "16m")), ..NodeOptions::default() };
    let Some(world) = vault::world("node-backup", node) else { return };
    let scene = Scene::set(&world, "backup", VOLUMES, objects());
    let data = scene.volume("data");
    write(&data, "accounts", "1000");

    // A policy is changed like everything else of the System.
    let wanted = policy("files", "vault", files(), &json!({"retention": {"keepLast": 2}, "objectives": {"rpo": "1h"}}));
    let refusal = scene.stage.user("alice").create(&scene.stage.placed(wanted.clone())).unwrap_err();
    assert_eq!(refusal.code, 403, "{refusal}");
    let change = scene.stage.propose("alice", "protect-files", vec![wanted]);
    change.approve(&["bob"]);
    change.wait("Succeeded");
    eventually(RUN, || {
        let status = scene.status("backuprepositories/vault");
        if status["repositoryId"].is_string() { Ok(()) } else { Err(format!("{status:#}")) }
    });

    // A whole copy, and one that builds on it.
    let (well, told) = scene.run("files", &[]);
    assert!(well && told.contains("Succeeded"), "{told}");
    let first = scene.newest("files")["status"]["point"]["snapshotId"].as_str().unwrap().to_owned();
    assert!(scene.snapshots("").contains(&first));
    write(&data, "ledger", "2000");
    let (well, told) = scene.run("files", &[]);
    assert!(well, "{told}");
    let second = scene.newest("files")["status"].clone();
    assert_eq!((&second["point"]["parent"], &second["point"]["files"]), (&json!(first), &json!(2)), "{second:#}");
    let good = eventually(SOON, || {
        let good = scene.status("backuppolicies/files")["lastGood"].clone();
        let is_newest = good["snapshotId"] == second["point"]["snapshotId"];
        if is_newest { Ok(good) } else { Err(format!("{good:#}")) }
    });

    // B9: what cannot be read makes no good point.
    write(&data, "secret", "3000");
    fs::set_permissions(data.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let (well, told) = scene.run("files", &[]);
    assert!(!well && told.contains("PartiallyFailed") && told.contains("1 files could not be read"), "{told}");
    eventually(SOON, || {
        let status = scene.status("backuppolicies/files");
        if status["lastRun"]["phase"] == "PartiallyFailed" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    assert_eq!(scene.status("backuppolicies/files")["lastGood"], good, "it stays the newest good point");

    // B10 and B16.
    let (well, told) = scene.run("half", &[]);
    assert!(!well && told.contains("ended with 7"), "{told}");
    assert!(scene.newest("half")["status"]["point"].is_null());
    let (well, told) = scene.run("locked-out", &[]);
    assert!(!well && told.contains("does not open with RESTIC_PASSWORD"), "{told}");

    restored(&scene, &data);
    dumped(&scene);
    killed(&scene);
    kept_up(&scene);
    troubled(&scene);
    pruned_halfway(&scene);
}

/// The newest good point comes back to a new volume, once that was agreed; the one that was not whole is not taken.
fn restored(scene: &Scene<'_>, data: &Path) {
    let namespace = scene.stage.namespace.as_str();
    let arguments = [
        "restore",
        "files",
        "-n",
        namespace,
        "--to-claim",
        "restored",
        "--storage-class",
        POOL,
        "--size",
        "100Mi",
        "--reason",
        "the branch asks for it",
        "--yes",
    ];
    let (well, told) = scene.world.interlock_status("alice", &arguments);
    assert!(well && told.contains("2 files"), "{told}");
    let name = named(&told, "changerequest");
    let change = scene.stage.change_of(&scene.stage.get(&format!("changerequests/{name}")));
    assert!(!scene.stage.exists("persistentvolumeclaims/restored"), "nothing before it is agreed");
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let back = scene.volume("restored");
    for file in ["accounts", "ledger"] {
        assert_eq!(fs::read(back.join(file)).unwrap(), fs::read(data.join(file)).unwrap());
    }
    assert!(!back.join("secret").exists());
    restored_over(scene, &back);
}

/// Over what a claim holds: a dry run makes nothing, nobody does it unasked, and once it was agreed the files are as they were.
fn restored_over(scene: &Scene<'_>, held: &Path) {
    let well = fs::read(held.join("accounts")).unwrap();
    fs::write(held.join("accounts"), "spoilt").unwrap();
    fs::write(held.join("newer"), "stays").unwrap();
    let namespace = scene.stage.namespace.as_str();
    let restore = |more: &str| {
        let arguments = ["restore", "files", "-n", namespace, "--over", "restored", "--reason", "it is spoilt", more];
        let (well, told) = scene.world.interlock_status("alice", &arguments);
        assert!(well && told.contains("what the claim restored holds"), "{told}");
        told
    };
    let count = |what: &str| scene.stage.get(what)["items"].as_array().unwrap().len();
    let jobs = "jobs?labelSelector=app.kubernetes.io/component=restore";
    let before = (count("changerequests"), count(jobs));
    assert!(restore("--dry-run").contains("nothing is created"));
    assert_eq!((count("changerequests"), count(jobs)), before);

    let name = named(&restore("--yes"), "changerequest");
    let request = scene.stage.get(&format!("changerequests/{name}"));
    let refusal = scene.stage.user("alice").create(&request["spec"]["content"]["manifests"][0]).unwrap_err();
    assert_eq!(refusal.code, 403, "{refusal}");
    assert_eq!((count(jobs), fs::read_to_string(held.join("accounts")).unwrap()), (before.1, "spoilt".to_owned()));
    let change = scene.stage.change_of(&request);
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    assert_eq!(fs::read(held.join("accounts")).unwrap(), well);
    assert_eq!(fs::read_to_string(held.join("newer")).unwrap(), "stays", "what the point does not hold is left alone");
}

/// A dump holds every row, and what comes back can be played.
fn dumped(scene: &Scene<'_>) {
    scene.ask("database", "create table if not exists accounts (id int primary key, owner text)");
    let source =
        json!({"postgres": {"host": scene.database(), "secretRef": {"name": "database"}, "sslMode": "Disable"}});
    scene.agreed("protect-database", vec![policy("database", "vault", source, &json!({}))]);
    scene.ask("database", "insert into accounts select n, 'owner ' || n from generate_series(1, 500) n");
    let point = scene.backup("database", &[])["point"].clone();
    assert_eq!(point["postgresVersion"], 15, "{point:#}");
    let dump = scene.restic("", &["dump", point["snapshotId"].as_str().unwrap(), "/dump.sql"]);
    assert!(dump.contains("CREATE ROLE postgres") && dump.contains("owner 500"), "{}", &dump[..dump.len().min(2_000)]);
}

/// B8: a pod that is killed is a failure that is told, and the next run passes the lock that it left.
fn killed(scene: &Scene<'_>) {
    let name = scene.begin("slow");
    let tool = eventually(RUN, || scene.running(&name, "tool"));
    kill(scene, &tool);
    let status = scene.ended(&name);
    assert_eq!(status["phase"], "Failed", "{status:#}");
    assert!(status["message"].as_str().unwrap().len() > 20, "{status:#}");
    fs::remove_file(scene.volume("data").join("secret")).unwrap();
    let (well, told) = scene.run("files", &[]);
    assert!(well, "{told}");
}

fn kill(scene: &Scene<'_>, container: &str) {
    scene.world.node().unwrap().ctr(&["tasks", "kill", "--signal", "SIGKILL", container]).unwrap();
}

/// B13: the repository is checked and pruned by itself; of the files' points two stay.
fn kept_up(scene: &Scene<'_>) {
    let (well, told) = scene.run("files", &["--full"]);
    assert!(well, "{told}");
    let status = eventually(RUN + RUN, || {
        let status = scene.status("backuprepositories/vault");
        let pruned = status["lastPrune"]["forgotten"].as_u64().is_some();
        let points = scene.status("backuppolicies/files")["points"].as_u64();
        if pruned && points == Some(2) && status["lastCheck"]["outcome"] == "Succeeded" {
            Ok(status)
        } else {
            Err(format!("{points:?} {status:#}"))
        }
    });
    assert_eq!(status["conditions"][1]["status"], "True", "{status:#}");
    let good = scene.status("backuppolicies/files")["lastGood"]["snapshotId"].as_str().unwrap().to_owned();
    assert!(scene.snapshots("").contains(&good), "the newest good point is there");
}

/// B9, and what clusters and disks do: each has its reason, in a sentence, and the next run goes on.
fn troubled(scene: &Scene<'_>) {
    scene.backup("well", &[]);
    let runs = ["hung", "unbound", "empty", "evicted", "large"].map(|policy| (policy, scene.begin(policy)));
    let evicted = &runs[3].1;
    eventually(RUN, || scene.running(evicted, "tool"));
    let pods = scene.stage.get(&format!("pods?labelSelector=batch.kubernetes.io/job-name={evicted}"));
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": scene.stage.namespace},
    });
    scene.world.admin().post(&scene.stage.path(&format!("pods/{pod}/eviction")), &eviction).unwrap();
    for ((policy, run), (reasons, said)) in runs.iter().zip([
        (["DeadlineExceeded", "DeadlineExceeded"], "60 s"),
        (["NeverStarted", "DeadlineExceeded"], "60 s"),
        (["EmptySource", "EmptySource"], "empty"),
        (["Evicted", "JobDeleted"], "pod"),
        (["ToolFailed", "ToolFailed"], "space"),
    ]) {
        let status = scene.ended(run);
        let (reason, message) = (status["reason"].as_str().unwrap(), status["message"].as_str().unwrap());
        assert_eq!(status["phase"], "Failed", "{policy}: {status:#}");
        assert!(reasons.contains(&reason) && message.contains(said), "{policy}: {status:#}");
        assert!(status["point"].is_null() && scene.status(&format!("backuppolicies/{policy}"))["lastGood"].is_null());
    }
    // A credential that is taken away, and given back.
    passwd(scene, PASSWORD, "taken away");
    let (well, told) = scene.run("well", &[]);
    assert!(!well && told.contains("does not open with RESTIC_PASSWORD"), "{told}");
    passwd(scene, "taken away", PASSWORD);
    scene.backup("well", &[]);
}

/// Changes the password of the second repository, as whoever keeps the vault may.
fn passwd(scene: &Scene<'_>, old: &str, new: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, new).unwrap();
    let place = scene.volume("vault").join("second");
    let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
    let restic = |arguments: &[&str]| {
        let mut command = Command::new(tools.path(Tool::Restic));
        command.args(arguments).arg("--no-cache").env("RESTIC_PASSWORD", old).env("RESTIC_REPOSITORY", &place);
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    };
    // What was evicted left its lock.
    restic(&["unlock", "--remove-all"]);
    restic(&["key", "passwd", "--new-password-file", file.to_str().unwrap()]);
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(place).status().unwrap().success());
}

/// B13: a prune that is killed loses nothing, and the repository is whole.
fn pruned_halfway(scene: &Scene<'_>) {
    let before = scene.snapshots("");
    let good = scene.status("backuppolicies/files")["lastGood"]["snapshotId"].as_str().unwrap().to_owned();
    let job = eventually(RUN, || {
        let jobs = scene.stage.get("jobs")["items"].as_array().cloned().unwrap_or_default();
        let mut prunes = jobs.iter().filter_map(|job| job["metadata"]["name"].as_str());
        let tool =
            prunes.find_map(|name| Some((name, scene.running(name, "tool").ok().filter(|_| name.contains("prune"))?)));
        let (name, tool) = tool.ok_or("no prune runs")?;
        kill(scene, &tool);
        Ok(name.to_owned())
    });
    eventually(SOON, || {
        let last = scene.status("backuprepositories/vault")["lastPrune"].clone();
        if last["name"] == json!(job) && last["outcome"] == "Failed" { Ok(()) } else { Err(format!("{last:#}")) }
    });
    assert!(before.contains(&good) && scene.snapshots("").contains(&good));
    scene.restic("", &["check", "--read-data"]);
}
