//! What is killed on the way leaves something half done: a backup its lock, a prune what it forgot and did not free yet.

use std::{fs, path::PathBuf};

use interlock_cluster::restic_behind;
use interlock_tests::{
    eventually,
    vault::{RUN, Scene, policy, repository, with},
    world::SOON,
};
use serde_json::json;

use super::{files, kept, upkeep};

/// The first prune stalls when all is forgotten and nothing is freed.
const STALLS: &str = r#"case "$*" in *" prune "*) mkdir /repository/stalled 2>/dev/null && sleep 600;; esac"#;

fn kill(scene: &Scene<'_>, container: &str) {
    scene.world.node().unwrap().ctr(&["tasks", "kill", "--signal", "SIGKILL", container]).unwrap();
}

/// Locks of the vault, without those that are still being written.
fn locks(scene: &Scene<'_>) -> Vec<PathBuf> {
    let all = fs::read_dir(scene.volume("vault").join("locks")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|lock| !lock.display().to_string().contains("-tmp-")).collect()
}

/// B8: a pod that is killed is a failure that is told. The lock that it left keeps no backup out, and no backup removes it.
pub(super) fn killed(scene: &Scene<'_>) {
    let name = scene.begin("slow");
    let (tool, left) = eventually(RUN, || {
        let tool = scene.running(&name, "tool")?;
        let locks = locks(scene);
        if locks.is_empty() { Err("it has no lock yet".to_owned()) } else { Ok((tool, locks)) }
    });
    kill(scene, &tool);
    let status = scene.ended(&name);
    assert_eq!(status["phase"], "Failed", "{status:#}");
    assert!(status["message"].as_str().unwrap().len() > 20, "{status:#}");
    fs::remove_file(scene.volume("data").join("secret")).unwrap();
    scene.backup("files", &[]);
    assert!(left.iter().all(|lock| lock.exists()), "a lock is stale after 30 minutes: {left:?}");
    // So long a prune waits; a person need not.
    for lock in left {
        fs::remove_file(lock).unwrap();
    }
}

/// B13: a run that is asked for during a prune waits and says for whom. The prune is killed between what it forgot and what it
/// frees: the run goes on, and of what counts nothing is lost.
pub(super) fn pruned_halfway(scene: &Scene<'_>) {
    restic_behind("restic:stalls", STALLS).unwrap().import(scene.world.node().unwrap()).unwrap();
    let rests = |suspend: bool| {
        let more = json!({"suspend": suspend, "pod": {"image": "restic:stalls"}});
        repository("vault", "", "vault", &with(upkeep(), &more))
    };
    // The container that reads back has no shell for that image's script.
    let own = with(kept(), &json!({"pod": {"image": "restic:1"}}));
    scene.agreed("no-upkeep", vec![rests(true), policy("files", "vault", files(), &own)]);
    eventually(RUN, || {
        let active = scene.status("backuprepositories/vault")["active"].clone();
        if active.is_null() { Ok(()) } else { Err(format!("{active:#}")) }
    });
    // One point more than is kept.
    scene.backup("files", &["--full"]);
    let (whole, packs) = (scene.snapshots(""), scene.packs());
    scene.agreed("upkeep", vec![rests(false)]);
    let stalled = scene.volume("vault").join("stalled");
    let job = eventually(RUN, || {
        let active = scene.status("backuprepositories/vault")["active"].clone();
        let name = active["name"].as_str().filter(|_| stalled.exists());
        name.map(ToOwned::to_owned).ok_or_else(|| format!("no prune has forgotten anything yet: {active:#}"))
    });
    scene.agreed("no-upkeep-again", vec![rests(true)]);
    let half = scene.snapshots("");
    assert!(half.len() < whole.len() && half.iter().all(|id| whole.contains(id)), "{whole:?} {half:?}");
    assert_eq!(scene.packs(), packs, "what is forgotten is not freed");

    let waits = scene.begin("files");
    eventually(SOON, || {
        let status = scene.status(&format!("backups/{waits}"));
        let says_why = status["message"].as_str().is_some_and(|said| said.contains(&job));
        if says_why && status["phase"] == "Pending" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    kill(scene, &scene.running(&job, "tool").unwrap());
    let status = scene.ended(&waits);
    assert_eq!(status["phase"], "Succeeded", "{status:#}");
    let last = scene.status("backuprepositories/vault")["lastPrune"].clone();
    assert_eq!((&last["name"], &last["outcome"]), (&json!(job), &json!("Failed")), "{last:#}");
    scene.restic("", &["check", "--read-data"]);
    let now = scene.snapshots("");
    assert!(half.iter().all(|id| now.contains(id)), "{half:?} {now:?}");
    scene.agreed("upkeep-again", vec![rests(false)]);
}

/// B13: the repository is checked and pruned by itself; of the files' points two stay, and what a prune that was killed forgot is
/// known by the next one.
pub(super) fn kept_up(scene: &Scene<'_>) {
    let status = eventually(RUN + RUN, || {
        let status = scene.status("backuprepositories/vault");
        let points = scene.status("backuppolicies/files")["points"].as_u64();
        let done = |what: &str| status[what]["outcome"] == "Succeeded";
        if done("lastPrune") && done("lastCheck") && points == Some(2) {
            Ok(status)
        } else {
            Err(format!("{points:?} {status:#}"))
        }
    });
    assert_eq!(status["conditions"][1]["status"], "True", "{status:#}");
    let good = scene.status("backuppolicies/files")["lastGood"]["snapshotId"].as_str().unwrap().to_owned();
    assert!(scene.snapshots("").contains(&good), "the newest good point is there");
}
