//! Secret values appear in Secret objects and nowhere else.

use std::fs;

use interlock_tests::{Options, Stage, deployment_image, stage::policy_of, world};
use serde_json::{Value, json};

use crate::assert_refused;

const CANARY: &str = "canary-5f0c1b77-old";
const CANARY_NEW: &str = "canary-9e21d6aa-new";

/// The value as it is, and as it stands in `data`. Computed by hand would be one more thing to get wrong.
fn disguises() -> Vec<String> {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encoded = |text: &str| {
        let mut out = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let bits = chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                out.push(TABLE[(bits >> (18 - 6 * place) & 63) as usize] as char);
            }
        }
        out
    };
    [CANARY, CANARY_NEW].iter().flat_map(|text| [(*text).to_owned(), encoded(text)]).collect()
}

pub fn staged(stage: &Stage<'_>, name: &str, value: &str) -> Value {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "interlock.dev/staged", "immutable": true,
        "metadata": {"name": name, "namespace": stage.namespace}, "stringData": {"password": value}});
    let stored = stage.user("alice").create(&secret).unwrap();
    json!({"name": name, "uid": stored["metadata"]["uid"], "target": "db", "keys": ["password"]})
}

#[test]
fn secret_values_stay_in_secrets() {
    let mut options = Options { policy: policy_of(1, "sre"), ..Options::default() };
    options.objects.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
        "stringData": {"password": CANARY}}));
    let stage = Stage::with("secret", options);
    // Only a staged Secret passes, and only as an immutable one.
    let plain = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": stage.namespace},
        "stringData": {"password": "other"}});
    assert_refused(stage.user("alice").create(&plain), 403, "NoApprovedChange");
    // Nor under a name that a pod could already wait for.
    let mut early = plain;
    (early["type"], early["immutable"]) = (json!("interlock.dev/staged"), json!(true));
    assert_refused(stage.user("alice").create(&early), 403, "NoApprovedChange");
    // One that goes back, so that its before-state was stored, and one that stays.
    let reference = staged(&stage, "db-staged-1", CANARY_NEW);
    let content = |image: &str, reference: &Value| {
        json!({"content": {"manifests": [stage.placed(deployment_image("web", image))], "secretRefs": [reference]},
            "progressDeadline": "10s"})
    };
    let failing = stage.propose_with("alice", "failing", vec![], content("web:broken", &reference));
    failing.approve(&["bob"]);
    failing.wait("RolledBack");
    let password = |stage: &Stage<'_>| {
        stage.get("secrets/db")["data"]["password"].as_str().unwrap().trim_end_matches('=').to_owned()
    };
    let disguises = disguises();
    assert_eq!(password(&stage), disguises[1]);
    let good = stage.propose_with("alice", "good", vec![], content("web:1.1.0", &reference));
    good.approve(&["bob"]);
    good.wait("Succeeded");
    assert_eq!(password(&stage), disguises[3]);

    // Every object of every kind but Secret.
    let world = world();
    let (_, kinds) = world.kubectl("admin", &["api-resources", "--verbs=list", "-o", "name"], "");
    let kinds: Vec<_> = kinds.lines().map(str::trim).filter(|kind| !kind.is_empty() && *kind != "secrets").collect();
    assert!(
        kinds.len() > 40 && kinds.contains(&"changerequests.interlock.dev") && kinds.contains(&"events"),
        "{kinds:?}"
    );
    let (well, objects) = world.kubectl("admin", &["get", &kinds.join(","), "-A", "-o", "json"], "");
    assert!(well && objects.contains("secretRefs"), "{}", &objects[..objects.len().min(500)]);
    let log = fs::read_to_string(world.controller_log()).unwrap();
    assert!(log.contains("failing"));
    let metrics = world.http("/metrics").unwrap();
    let (_, described) = world.kubectl("admin", &["describe", "changerequests", "-n", &stage.namespace], "");
    let why = ["why", "status"]
        .map(|command| world.interlock_status("alice", &[command, "cr/failing", "-n", &stage.namespace]).1);
    for disguise in &disguises {
        for (place, text) in [
            ("an object", &objects),
            ("the log", &log),
            ("the metrics", &metrics),
            ("describe", &described),
            ("why", &why[0]),
            ("status", &why[1]),
        ] {
            assert!(!text.contains(disguise.as_str()), "{disguise} stands in {place}");
        }
        for event in world.audit(disguise) {
            assert_eq!(event.0["objectRef"]["resource"], "secrets", "{disguise} stands in {}", event.0);
        }
    }
}

#[test]
fn a_staged_secret_cannot_be_exchanged() {
    let stage = Stage::with("staged", Options { policy: policy_of(1, "sre"), ..Options::default() });
    let reference = staged(&stage, "db-staged-1", "one");
    let change = stage.propose_with(
        "alice",
        "exchanged",
        vec![],
        json!({"content": {"secretRefs": [reference], "manifests": [
        stage.placed(interlock_tests::patch_of(interlock_tests::config_map("web", &[("greeting", "hi")])))]}}),
    );
    let digest = change.digest();
    stage.user("mallory").delete(&stage.path("secrets/db-staged-1")).unwrap();
    staged(&stage, "db-staged-1", "two");
    stage.user("bob").create(&change.ballot("bob", "Approve", &digest)).unwrap();
    change.wait_gate("Precondition", "SecretsChanged");
    assert!(!stage.exists("secrets/db"));
    assert_eq!(stage.data("web")["greeting"], "hello");
}
