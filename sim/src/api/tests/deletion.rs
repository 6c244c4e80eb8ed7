//! Deletion, finalizers, garbage, namespaces.

use interlock_core::port::Precondition;

use super::super::{EventType, Propagation, meta};
use super::*;

fn delete(api: &mut Api, object: &Value) -> Result<Arc<Value>, ApiError> {
    api.write(Write::delete(&user(), &id_of(object)))
}

/// A map that belongs to another object.
fn owned(name: &str, owner: &Value, blocks: bool) -> Value {
    changed(&config_map(name, &json!({})), |map| {
        map["metadata"]["ownerReferences"] = json!([{
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks
        }]);
    })
}

fn settle(api: &mut Api) {
    while api.collect_garbage() | api.finish_namespaces() {}
}

#[test]
fn a_deleted_object_is_gone_and_its_event_carries_the_last_state() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    let rv = api.resource_version();
    delete(&mut api, &first).unwrap();
    assert_eq!(live(&api, &first), None);
    let event = api.events_since(rv, None).unwrap().next().unwrap();
    assert_eq!((event.change, event.rv), (EventType::Deleted, rv + 1));
    assert_eq!(event.object["metadata"]["resourceVersion"], (rv + 1).to_string());
    assert_eq!(event.object["spec"], first["spec"]);
    assert_eq!(delete(&mut api, &first).unwrap_err().message, "deployments.apps \"teller\" not found");
}

#[test]
fn a_deletion_has_preconditions() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    let with = |uid: Option<&str>, version: Option<&str>| {
        let required = Precondition { uid: uid.map(Into::into), resource_version: version.map(Into::into) };
        Write::delete(&user(), &id_of(&first)).requiring(&required)
    };
    let error = api.write(with(Some("other"), None)).unwrap_err();
    assert!(error.is_conflict() && error.code == 409 && error.message.contains("(other)"), "{error}");
    assert!(api.write(with(None, Some("1"))).unwrap_err().is_conflict());
    api.write(with(Some(meta::uid(&first)), Some(meta::resource_version(&first)))).unwrap();
}

#[test]
fn an_object_stays_until_its_finalizers_are_gone() {
    let mut api = api();
    let kept = changed(&deployment("teller"), |object| object["metadata"]["finalizers"] = json!(["bank.example/keep"]));
    create(&mut api, &kept).unwrap();
    let waiting = delete(&mut api, &kept).unwrap();
    assert_eq!(waiting["metadata"]["deletionTimestamp"], "2026-03-01T10:00:00Z");
    assert_eq!(waiting["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(waiting["metadata"]["generation"], 2);
    assert_eq!(delete(&mut api, &kept).unwrap(), waiting, "a second deletion changes nothing");
    let added =
        changed(&waiting, |object| object["metadata"]["finalizers"] = json!(["bank.example/keep", "bank.example/b"]));
    assert!(replace(&mut api, &added).unwrap_err().message.contains("no new finalizers can be added"));
    let freed = changed(&waiting, |object| object["metadata"]["finalizers"] = json!([]));
    replace(&mut api, &freed).unwrap();
    assert_eq!(live(&api, &kept), None);
}

#[test]
fn dependants_follow_their_owner_in_the_background() {
    let mut api = api();
    let owner = create(&mut api, &deployment("teller")).unwrap();
    let child = create(&mut api, &owned("child", &owner, true)).unwrap();
    let grandchild = create(&mut api, &owned("grandchild", &child, true)).unwrap();
    settle(&mut api);
    assert!(live(&api, &grandchild).is_some());
    delete(&mut api, &owner).unwrap();
    assert!(live(&api, &child).is_some(), "the collector has not run");
    settle(&mut api);
    assert_eq!((live(&api, &child), live(&api, &grandchild)), (None, None));
}

#[test]
fn an_owner_that_never_was_or_is_another_is_no_owner() {
    let mut api = api();
    let owner = create(&mut api, &deployment("teller")).unwrap();
    let never = changed(&owner, |owner| owner["metadata"]["uid"] = json!("never"));
    let renamed = changed(&owner, |owner| owner["metadata"]["name"] = json!("other"));
    for (name, owner) in [("a", &never), ("b", &renamed)] {
        create(&mut api, &owned(name, owner, false)).unwrap();
    }
    let both = changed(&owned("c", &owner, false), |map| {
        let lost = owned("x", &never, false)["metadata"]["ownerReferences"][0].clone();
        map["metadata"]["ownerReferences"].as_array_mut().unwrap().push(lost);
    });
    create(&mut api, &both).unwrap();
    settle(&mut api);
    assert_eq!(live(&api, &config_map("a", &json!({}))), None);
    assert_eq!(live(&api, &config_map("b", &json!({}))), None);
    let kept = live(&api, &both).unwrap();
    assert_eq!(kept["metadata"]["ownerReferences"].as_array().unwrap().len(), 1, "only the lost reference goes");
}

#[test]
fn in_the_foreground_dependants_go_first() {
    let mut api = api();
    let owner = create(&mut api, &deployment("teller")).unwrap();
    let child = create(
        &mut api,
        &changed(&owned("child", &owner, true), |map| map["metadata"]["finalizers"] = json!(["bank.example/keep"])),
    )
    .unwrap();
    let waiting = api.write(Write::delete(&user(), &id_of(&owner)).propagating(Propagation::Foreground)).unwrap();
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    settle(&mut api);
    assert!(live(&api, &owner).is_some() && meta::is_terminating(&live(&api, &child).unwrap()));
    api.write(Write::merge_patch(&user(), "x", &id_of(&child), &json!({"metadata": {"finalizers": null}}))).unwrap();
    settle(&mut api);
    assert_eq!((live(&api, &owner), live(&api, &child)), (None, None));
}

#[test]
fn orphans_stay_and_forget_their_owner() {
    let mut api = api();
    let owner = create(&mut api, &deployment("teller")).unwrap();
    let child = create(&mut api, &owned("child", &owner, true)).unwrap();
    api.write(Write::delete(&user(), &id_of(&owner)).propagating(Propagation::Orphan)).unwrap();
    settle(&mut api);
    assert_eq!(live(&api, &owner), None);
    assert_eq!(live(&api, &child).unwrap()["metadata"].get("ownerReferences"), None);
}

#[test]
fn a_namespace_goes_after_its_content() {
    let mut api = api();
    let kept =
        changed(&config_map("rates", &json!({})), |map| map["metadata"]["finalizers"] = json!(["bank.example/keep"]));
    create(&mut api, &kept).unwrap();
    create(&mut api, &deployment("teller")).unwrap();
    let terminating = delete(&mut api, &namespace("bank")).unwrap();
    assert_eq!(terminating["status"]["phase"], "Terminating");
    let error = create(&mut api, &config_map("late", &json!({}))).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            403,
            "configmaps \"late\" is forbidden: unable to create new content in namespace bank because it is being \
             terminated"
        )
    );
    settle(&mut api);
    assert_eq!(live(&api, &deployment("teller")), None);
    assert!(live(&api, &namespace("bank")).is_some());
    api.write(Write::merge_patch(&user(), "x", &id_of(&kept), &json!({"metadata": {"finalizers": []}}))).unwrap();
    settle(&mut api);
    assert_eq!(live(&api, &namespace("bank")), None);
}

#[test]
fn a_namespace_that_the_cluster_needs_stays() {
    let mut api = api();
    let error = delete(&mut api, &namespace("default")).unwrap_err();
    assert_eq!(error.message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[test]
fn a_claim_stays_while_a_pod_uses_it() {
    let mut api = api();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "bank"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    create(&mut api, &claim).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "bank"},
        "spec": {"containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    create(&mut api, &pod).unwrap();
    delete(&mut api, &claim).unwrap();
    settle(&mut api);
    assert!(live(&api, &claim).is_some());
    delete(&mut api, &pod).unwrap();
    settle(&mut api);
    assert_eq!(live(&api, &claim), None);
}
