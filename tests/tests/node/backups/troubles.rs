//! What clusters and disks do: each has its reason, in a sentence, and when it is over the schedule goes on by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use interlock_cluster::{Component, Tool, Tools};
use interlock_tests::{
    eventually,
    vault::{PASSWORD, RUN, Scene, has_ended, instant, policy, with},
    world::SOON,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::command;

/// For two slots, and between them a tool that hangs until its deadline and then for the time that it has to end.
const SLOTS: Duration = Duration::from_mins(6);
/// So much of the small volume somebody else fills, in bytes.
const BALLAST: usize = 12 << 20;

/// Policies that run every minute. Two hang when they run for the first time.
fn every_minute(suspend: bool) -> Vec<Value> {
    let minutely = json!({"schedules": [{"name": "minutely", "schedule": "* * * * *"}], "suspend": suspend});
    let late = with(minutely.clone(), &json!({"deadline": "1m", "overlap": "Wait"}));
    let hangs = |name: &str| command(&format!("mkdir /repository/{name} 2>/dev/null && exec sleep 300; echo well"));
    vec![
        policy("hung", "second", hangs("hung"), &late),
        policy("evicted", "second", hangs("evicted"), &minutely),
        policy("large", "full", command("dd if=/dev/urandom bs=1M count=6 2>/dev/null"), &minutely),
        policy("revoked", "third", command("echo well"), &minutely),
    ]
}

/// B9 and B22.
pub(super) fn troubled(scene: &Scene<'_>) {
    let ballast = as_pods_see(scene, &scene.volume("small")).join("ballast");
    fs::write(&ballast, vec![0_u8; BALLAST]).unwrap();
    passwd(scene, PASSWORD, "taken away");
    scene.agreed("every-minute", every_minute(false));
    let [unbound, empty] = ["unbound", "empty"].map(|policy| scene.begin(policy));
    evict(scene);
    let first = |policy: &str, reason: &str, said: &str| {
        let run = run_after(scene, policy, Timestamp::UNIX_EPOCH);
        failed(&run["status"], &[reason], said);
        instant(&run["spec"]["slot"]["time"])
    };
    let evicted = first("evicted", "Evicted", "evicted");
    first("large", "ToolFailed", "space");
    first("revoked", "WrongPassword", "does not open with RESTIC_PASSWORD");
    fs::remove_file(&ballast).unwrap();
    passwd(scene, "taken away", PASSWORD);
    #[expect(clippy::disallowed_methods, reason = "the slots that count are those after this moment")]
    let mended = Timestamp::now();
    for (policy, run, reasons, said) in [
        // Who ends it first is a race.
        ("unbound", unbound, ["NeverStarted", "DeadlineExceeded"].as_slice(), "60 s"),
        ("empty", empty, ["EmptySource"].as_slice(), "empty"),
    ] {
        failed(&scene.ended(&run), reasons, said);
        assert!(scene.status(&format!("backuppolicies/{policy}"))["lastGood"].is_null());
    }
    let hung = first("hung", "DeadlineExceeded", "60 s");
    for (policy, since) in [("evicted", evicted), ("large", mended), ("revoked", mended), ("hung", hung)] {
        let next = run_after(scene, policy, since);
        assert_eq!(next["status"]["phase"], "Succeeded", "{policy}: {next:#}");
        eventually(SOON, || {
            let status = scene.status(&format!("backuppolicies/{policy}"));
            if status["lastGood"].is_object() { Ok(()) } else { Err(format!("{policy}: {status:#}")) }
        });
    }
    scene.agreed("no-more", every_minute(true));
}

/// The first run of the policy for a slot after this moment, once it has ended.
fn run_after(scene: &Scene<'_>, policy: &str, moment: Timestamp) -> Value {
    eventually(SLOTS, || {
        let all = scene.stage.get("backups");
        let of = all["items"].as_array().unwrap().iter().filter(|run| run["spec"]["policyRef"]["name"] == policy);
        let slot = |run: &Value| instant(&run["spec"]["slot"]["time"]);
        let later = of.filter(|run| run["spec"]["slot"].is_object() && slot(run) > moment);
        let first = later.min_by_key(|run| slot(run)).ok_or_else(|| format!("{policy}: no slot has come"))?;
        if has_ended(&first["status"]) { Ok(first.clone()) } else { Err(format!("{policy}: {first:#}")) }
    })
}

/// It failed for one of these reasons, says so, and there is no point.
fn failed(status: &Value, reasons: &[&str], said: &str) {
    assert_eq!(status["phase"], "Failed", "{status:#}");
    assert!(reasons.contains(&status["reason"].as_str().unwrap()), "{reasons:?}: {status:#}");
    assert!(status["message"].as_str().unwrap().contains(said) && status["point"].is_null(), "{said}: {status:#}");
}

/// Evicts the pod that hangs.
fn evict(scene: &Scene<'_>) {
    let hangs = scene.volume("vault").join("evicted");
    eventually(SLOTS, || if hangs.exists() { Ok(()) } else { Err("no slot has come".to_owned()) });
    let run = scene.newest("evicted")["metadata"]["name"].as_str().unwrap().to_owned();
    let pods = scene.stage.get(&format!("pods?labelSelector=batch.kubernetes.io/job-name={run}"));
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": scene.stage.namespace},
        "deleteOptions": {"gracePeriodSeconds": 1},
    });
    scene.world.admin().post(&scene.stage.path(&format!("pods/{pod}/eviction")), &eviction).unwrap();
}

/// A volume as pods see it: what is mounted there is mounted on the node alone.
fn as_pods_see(scene: &Scene<'_>, volume: &Path) -> PathBuf {
    let node = scene.world.cluster().process(Component::Node).unwrap().pid();
    Path::new("/proc").join(node.to_string()).join("root").join(volume.strip_prefix("/").unwrap())
}

/// Changes the password of the third repository, as whoever keeps the vault may.
fn passwd(scene: &Scene<'_>, old: &str, new: &str) {
    eventually(RUN, || {
        let status = scene.status("backuprepositories/third");
        if status["repositoryId"].is_string() { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, new).unwrap();
    let place = scene.volume("vault").join("third");
    let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
    let mut restic = Command::new(tools.path(Tool::Restic));
    restic.args(["key", "passwd", "--no-cache", "--new-password-file"]).arg(&file);
    let ended = restic.env("RESTIC_PASSWORD", old).env("RESTIC_REPOSITORY", &place).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(place).status().unwrap().success());
}
