//! Which earlier version comes back, and by which change.

use interlock_crds::Rollout;
use serde_json::{Value, json};

use super::game::deployment;
use crate::{
    object::{ObjectId, apply_partial},
    rollout::revisions::{CannotReturn, Return, Wanted, bring_back},
};

const MARK: &str = "/spec/template/metadata/annotations";

/// The workload with an image, under an owner's uid.
fn teller(image: &str) -> Value {
    let mut workload = deployment(image, 4);
    workload["metadata"]["uid"] = json!("w");
    workload
}

fn owner() -> Value {
    json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "teller", "uid": "w", "controller": true}])
}

/// A ReplicaSet as a list gives it: without its kind.
fn set(revision: u64, of: &Value) -> Value {
    let hash = format!("h{revision}");
    let mut set = json!({
        "metadata": {
            "name": format!("teller-{hash}"), "namespace": "teller", "ownerReferences": owner(),
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
        },
        "spec": {"template": of["spec"]["template"]},
    });
    set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    set["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    set
}

/// Revisions 1, 2 and 4; what was 3 is 4 now, and the workload has it.
fn three() -> Vec<Value> {
    vec![set(4, &teller("v4")), set(1, &teller("v1")), set(2, &teller("v2"))]
}

fn back(workload: &Value, held: &[Value], rollouts: &[Rollout], revision: Option<u64>) -> Result<Return, CannotReturn> {
    bring_back(&Wanted { workload, held, rollouts, revision })
}

fn rollout(name: &str, phase: &str, part_of: &Value) -> Rollout {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"changeRequest": {"name": "c", "uid": "u"}, "changeDigest": "", "plan": {}, "partOf": part_of,
            "targets": [{"kind": "Deployment", "namespace": "teller", "name": "teller"}]},
        "status": {"phase": phase},
    }))
    .unwrap()
}

/// The workload after the change.
fn after(live: &Value, found: &Return) -> Value {
    let mut manifest = found.manifest.clone();
    manifest["metadata"].as_object_mut().unwrap().remove("annotations");
    apply_partial(&ObjectId::of(live).unwrap().group_kind(), Some(live), &manifest)
}

#[test]
fn the_version_before_comes_back_or_the_one_that_is_named() {
    let found = back(&teller("v4"), &three(), &[], None).unwrap();
    assert_eq!((found.revision, found.present, found.other_configuration), (2, 4, false));
    assert_eq!(found.images, ["v2"]);
    let spec = json!({"template": {"spec": {"containers": [{"name": "teller", "image": "v2"}]}}});
    assert_eq!(found.manifest["spec"], spec, "replicas and all the rest are left alone");
    assert_eq!(found.manifest["metadata"]["annotations"], json!({"interlock.dev/operation": "Patch"}));
    assert_eq!(after(&teller("v4"), &found), teller("v2"));
    let first = back(&teller("v4"), &three(), &[], Some(1)).unwrap();
    assert_eq!(after(&teller("v4"), &first), teller("v1"));
    // Somebody went back already: the version before is the one before in time.
    let newer = back(&teller("v2"), &[set(3, &teller("v3")), set(5, &teller("v2"))], &[], None).unwrap();
    assert_eq!(newer.revision, 3);
    let later = back(&teller("v2"), &three(), &[], Some(4)).unwrap();
    assert_eq!((later.revision, later.present), (4, 2), "forward again, where somebody names it");
}

#[test]
fn what_was_added_since_goes_too() {
    let mut live = teller("v4");
    live["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    live["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "DEBUG", "value": "1"}]);
    let sidecar = json!({"name": "sidecar", "image": "s"});
    live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().insert(0, sidecar);
    let held = [set(2, &teller("v2")), set(4, &live)];
    assert_eq!(after(&live, &back(&live, &held, &[], None).unwrap()), teller("v2"));
}

#[test]
fn the_present_configuration_stays_and_makes_it_a_new_version() {
    let marked = |image: &str, mark: &str| {
        let mut workload = teller(image);
        workload["spec"]["template"]["metadata"]["annotations"] = json!({"interlock.dev/config": mark});
        workload
    };
    let live = marked("v4", "b");
    let found = back(&live, &[set(2, &marked("v2", "a")), set(4, &live)], &[], None).unwrap();
    assert!(found.other_configuration);
    assert_eq!(after(&live, &found), marked("v2", "b"));
    let found = back(&teller("v4"), &[set(2, &marked("v2", "a")), set(4, &teller("v4"))], &[], None).unwrap();
    assert!(found.other_configuration);
    assert_eq!(after(&teller("v4"), &found).pointer(MARK), None);
    let only = back(&live, &[set(2, &marked("v4", "a")), set(4, &live)], &[], None).unwrap_err();
    assert!(matches!(only, CannotReturn::OnlyConfiguration { revision: 2, present: 4, .. }), "{only}");
}

#[test]
fn while_a_release_runs_the_command_is_to_abort_it() {
    let parent = rollout("launch", "Progressing", &Value::Null);
    let child = rollout("launch-0-first-0", "Paused", &json!({"name": "launch", "uid": "p", "wave": "first"}));
    let rollouts = [rollout("old", "Succeeded", &Value::Null), child, parent];
    let refused = back(&teller("v4"), &three(), &rollouts, None).unwrap_err();
    assert_eq!(refused, CannotReturn::ReleaseRuns { workload: "Deployment teller".into(), rollout: "launch".into() });
    assert!(refused.to_string().contains("`interlock rollout abort launch`"), "{refused}");
    assert_eq!(back(&teller("v4"), &three(), &rollouts, Some(1)).unwrap().revision, 1, "who names one means it");
    let mut elsewhere = rollouts;
    for rollout in &mut elsewhere {
        rollout.spec.targets[0].namespace = "other".to_owned();
    }
    assert_eq!(back(&teller("v4"), &three(), &elsewhere, None).unwrap().revision, 2);
}

#[test]
fn a_version_that_a_release_went_back_from_is_not_the_one_before() {
    // 2 was released at 12:00 and failed; what was 1 came back and is 3 now.
    let made = |mut held: Value, at: &str| {
        held["metadata"]["creationTimestamp"] = json!(format!("2026-11-02T{at}:00Z"));
        held["metadata"]["labels"] = json!({"pod-template-hash": held["metadata"]["name"].clone()});
        held
    };
    let release = |phase: &str, stable: &str| {
        let mut release = serde_json::to_value(rollout("teller-2", phase, &Value::Null)).unwrap();
        release["metadata"]["creationTimestamp"] = json!("2026-11-02T12:00:00Z");
        release["status"]["finishedAt"] = json!("2026-11-02T12:30:00Z");
        release["status"]["hashes"] = json!({"stable": stable, "canary": "of-the-second-deployment"});
        serde_json::from_value::<Rollout>(release).unwrap()
    };
    let (good, failed) = (made(set(3, &teller("v1")), "08:00"), made(set(2, &teller("v2")), "12:20"));
    let older = made(set(1, &teller("v0")), "07:00");
    let rollouts = [release("RolledBack", "teller-h3")];
    let held = [good, failed, older];
    let found = back(&teller("v1"), &held, &rollouts, None).unwrap();
    assert_eq!((found.revision, found.went_back), (1, None), "not the one that failed");
    let named = back(&teller("v1"), &held, &rollouts, Some(2)).unwrap();
    assert_eq!(named.went_back.as_deref(), Some("teller-2"), "who names it is told");
    let refused = back(&teller("v1"), &held[..2], &rollouts, None).unwrap_err().to_string();
    assert!(refused.contains("Rollout teller-2 went back from it") && refused.contains("--to 2"), "{refused}");
    // It served later, or the release did not go back.
    let later = [release("RolledBack", "teller-h3"), release("Succeeded", "teller-h2")];
    assert_eq!(back(&teller("v1"), &held, &later, None).unwrap().revision, 2);
    assert_eq!(back(&teller("v1"), &held, &[release("Succeeded", "teller-h3")], None).unwrap().revision, 2);
}

#[test]
fn what_is_not_held_is_refused_with_what_there_is() {
    let why = |workload: &Value, held: &[Value], revision| back(workload, held, &[], revision).unwrap_err().to_string();
    let first = why(&teller("v1"), &three()[1..2], None);
    assert!(first.contains("before revision 1") && first.contains("`interlock propose`"), "{first}");
    let unknown = why(&teller("v4"), &three(), Some(3));
    assert_eq!(unknown, "Deployment teller has no revision 3; held are 1, 2, 4, and 4 is the present one");
    assert_eq!(why(&teller("v4"), &three(), Some(4)), "revision 4 is what Deployment teller has already");
    assert!(why(&teller("v5"), &three(), None).contains("has not recorded its present version yet"));
    let mut foreign = three();
    for set in &mut foreign {
        set["metadata"]["ownerReferences"][0]["uid"] = json!("canary");
    }
    assert!(why(&teller("v4"), &foreign, None).contains("has not recorded"), "those of another workload");
}

#[test]
fn stateful_sets_and_daemon_sets_have_controller_revisions() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let of = |image: &str| {
            let mut workload = teller(image);
            workload["kind"] = json!(kind);
            workload
        };
        let revision = |number: u64, image: &str| {
            let mut template = of(image)["spec"]["template"].clone();
            template["$patch"] = json!("replace");
            template["metadata"]["creationTimestamp"] = Value::Null;
            json!({
                "metadata": {"name": format!("teller-{number}"), "ownerReferences": owner()},
                "revision": number, "data": {"spec": {"template": template}},
            })
        };
        let found = back(&of("v2"), &[revision(3, "v2"), revision(2, "v3")], &[], None).unwrap();
        assert_eq!((found.revision, found.manifest["kind"].as_str()), (2, Some(kind)));
        assert_eq!(after(&of("v2"), &found), of("v3"));
    }
}
