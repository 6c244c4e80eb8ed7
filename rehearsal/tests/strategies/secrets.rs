//! A Secret that a change stages, read by the version that it releases.

use std::sync::Arc;

use interlock_crds::Verb;
use interlock_rehearsal::{
    history::{History, deployment},
    people::{Act, user},
    world::{Happening, World},
};
use serde_json::{Value, json};

use super::play::{command, each_kill, history, id, play, status, stored, told};

const OLD: &str = "AAA0";
const NEW: &str = "AAA1";

fn secret(name: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "teller"},
        "data": {"password": password},
    })
}

/// Pods of the new version read Secret db, whose new value the change stages; it `existed` before or not.
fn release(image: &str, steps: &Value, existed: bool) -> History {
    let mut workload = deployment("web-0", image);
    workload["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
    let objects = existed.then(|| secret("db", OLD)).into_iter().collect();
    let mut history = history(&json!({"canary": {"steps": steps}}), objects, &[workload], Vec::new());
    for (_, act) in &mut history.acts {
        if let Act::Create(_, request) = act {
            request["spec"]["content"]["secretRefs"] =
                json!([{"name": "release-staged-1", "target": "db", "keys": ["password"]}]);
        }
    }
    let mut staged = secret("release-staged-1", NEW);
    (staged["type"], staged["immutable"]) = (json!("interlock.dev/staged"), json!(true));
    history.acts.insert(0, (500, Act::Create(user("alice", &["dev", "sre"]), staged)));
    history
}

fn short() -> Value {
    json!([{"setWeight": 50}, {"pause": {"duration": "10s"}}])
}

fn password(world: &World) -> Option<String> {
    let secret = world.live(&id("", "Secret", "db"))?;
    Some(secret["data"]["password"].as_str().unwrap().to_owned())
}

/// What the executor stored under names of its own, in its order; none for a deletion.
fn copies(timeline: &[Happening]) -> Vec<Option<Arc<Value>>> {
    let of_executor = timeline.iter().filter_map(|happening| match happening {
        Happening::Stored(audit)
            if audit.user.ends_with(":executor") && audit.id.kind == "Secret" && audit.id.name.starts_with("db-") =>
        {
            Some(audit.new.clone())
        }
        _ => None,
    });
    of_executor.collect()
}

/// The new version read one copy, which nobody could change and which is gone.
fn had_a_copy(timeline: &[Happening]) {
    let copies = copies(timeline);
    let [Some(copy), None] = copies.as_slice() else { panic!("made once and deleted: {copies:#?}") };
    assert_eq!((&copy["data"]["password"], &copy["immutable"]), (&json!(NEW), &json!(true)));
    let canaries = stored(timeline, &id("apps", "Deployment", "web-0-canary"));
    let first = canaries[0].as_ref().unwrap();
    let read = &first["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"];
    assert_eq!(read, &copy["metadata"]["name"]);
}

#[test]
fn a_staged_secret_is_the_new_versions_alone_until_that_is_promoted() {
    for existed in [true, false] {
        let (world, timeline) = play(&release("web:new", &short(), existed));
        assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
        assert_eq!(password(&world).as_deref(), Some(NEW));
        had_a_copy(&timeline);
        // Its value changes right before the workload itself does, and not before the steps were complete.
        let at = |kind: &str, name: &str| {
            let mut stored = timeline.iter().filter(
                |h| matches!(h, Happening::Stored(a) if a.user.ends_with(":executor") && a.id.kind == kind && a.id.name == name),
            );
            stored.next().unwrap().at()
        };
        let (canary, promoted) = (at("Deployment", "web-0-canary"), at("Deployment", "web-0"));
        let written = at("Secret", "db");
        assert!(written.duration_since(canary).as_secs() >= 10 && written <= promoted, "{canary} {written} {promoted}");
    }
}

#[test]
fn a_release_that_goes_back_before_its_promotion_leaves_the_secret_as_it_was() {
    for existed in [true, false] {
        let mut aborted = release("web:new", &json!([{"setWeight": 50}, {"pause": {}}]), existed);
        aborted.acts.push(command(60_000, Verb::Abort));
        let (world, timeline) = play(&aborted);
        assert_eq!(status(&world)["phase"], "RolledBack", "{}", told(&world));
        assert_eq!(password(&world).as_deref(), existed.then_some(OLD));
        assert!(stored(&timeline, &id("", "Secret", "db")).is_empty());
        had_a_copy(&timeline);
    }
}

#[test]
fn a_controller_killed_after_any_single_write_gives_the_secret_to_the_same_version() {
    for (image, phase, value) in [("web:new", "Succeeded", NEW), ("web:bad", "RolledBack", OLD)] {
        each_kill(&release(image, &short(), true), |world, _, why| {
            assert_eq!((&status(world)["phase"], password(world).as_deref()), (&json!(phase), Some(value)), "{why}");
        });
    }
}
