//! Creates, replacements, patches, status, versions.

use interlock_core::port::DryRun;

use super::*;

#[test]
fn a_created_object_has_the_servers_metadata() {
    let mut api = api();
    let before = api.resource_version();
    let object = create(&mut api, &deployment("teller")).unwrap();
    let metadata = &object["metadata"];
    assert_eq!(metadata["creationTimestamp"], "2026-03-01T10:00:00Z");
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["resourceVersion"], (before + 1).to_string());
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(object["status"], json!({}));
    let map = create(&mut api, &config_map("rates", &json!({"a": "1"}))).unwrap();
    assert_eq!(map["metadata"].get("generation"), None);
}

#[test]
fn the_same_script_gives_the_same_objects() {
    let run = || {
        let mut api = api();
        create(&mut api, &deployment("teller")).unwrap();
        api.all().map(|object| object.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_second_create_is_refused() {
    let mut api = api();
    create(&mut api, &deployment("teller")).unwrap();
    let error = create(&mut api, &deployment("teller")).unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(error.message, "deployments.apps \"teller\" already exists");
}

#[test]
fn a_create_carries_no_resource_version() {
    let mut api = api();
    let object = changed(&config_map("rates", &json!({})), |map| map["metadata"]["resourceVersion"] = json!("7"));
    let error = create(&mut api, &object).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (500, "resourceVersion should not be set on objects to be created")
    );
}

#[test]
fn a_generated_name_starts_as_asked_for() {
    let mut api = api();
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "rates-", "namespace": "bank"}});
    let first = create(&mut api, &object).unwrap();
    let second = create(&mut api, &object).unwrap();
    let name = first["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("rates-") && name.len() == 11, "{name}");
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
}

#[test]
fn a_replacement_with_an_old_version_is_a_conflict() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    replace(&mut api, &changed(&first, |object| object["spec"]["replicas"] = json!(3))).unwrap();
    let error = replace(&mut api, &changed(&first, |object| object["spec"]["replicas"] = json!(4))).unwrap_err();
    assert_eq!(
        error.message,
        "Operation cannot be fulfilled on deployments.apps \"teller\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    assert!(error.is_conflict());
}

#[test]
fn a_replacement_of_another_uid_is_a_conflict_and_of_nothing_is_not_found() {
    let mut api = api();
    let first = create(&mut api, &config_map("rates", &json!({"a": "1"}))).unwrap();
    let other = changed(&first, |object| object["metadata"]["uid"] = json!("other"));
    let error = replace(&mut api, &other).unwrap_err();
    assert!(error.is_conflict() && error.message.contains("UID in precondition: other"), "{error}");
    assert_eq!(
        replace(&mut api, &config_map("none", &json!({}))).unwrap_err().message,
        "configmaps \"none\" not found"
    );
}

#[test]
fn a_write_that_changes_nothing_keeps_version_and_managers() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    api.set_time("2026-03-01T11:00:00Z".parse().unwrap());
    assert_eq!(replace(&mut api, &first).unwrap(), first);
    let again = api.write(Write::replace(&user(), "creator", &deployment("teller"))).unwrap();
    assert_eq!(again, first, "what is left out comes from defaults");
    assert_eq!(api.write(Write::merge_patch(&user(), "x", &id_of(&first), &json!({}))).unwrap(), first);
}

#[test]
fn the_generation_counts_changes_of_the_spec_only() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    let labelled =
        replace(&mut api, &changed(&first, |object| object["metadata"]["labels"] = json!({"a": "b"}))).unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = replace(&mut api, &changed(&labelled, |object| object["spec"]["replicas"] = json!(3))).unwrap();
    assert_eq!(scaled["metadata"]["generation"], 2);
}

#[test]
fn status_is_written_only_through_its_subresource() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    let written = changed(&first, |object| {
        object["status"] = json!({"replicas": 1});
        object["spec"]["replicas"] = json!(9);
        object["metadata"]["labels"] = json!({"x": "y"});
    });
    let status = api.write(Write::status(&user(), "kcm", &written)).unwrap();
    assert_eq!(status["status"], json!({"replicas": 1}));
    assert_eq!(status["spec"]["replicas"], 1);
    assert_eq!(status["metadata"].get("labels"), None);
    assert_eq!(status["metadata"]["generation"], 1);
    let main = changed(&status, |object| object["status"] = json!({"replicas": 7}));
    assert_eq!(replace(&mut api, &main).unwrap(), status, "the main resource leaves status alone");
    let stale = changed(&first, |object| object["status"] = json!({"replicas": 2}));
    assert!(api.write(Write::status(&user(), "kcm", &stale)).unwrap_err().is_conflict());
}

#[test]
fn a_merge_patch_follows_rfc_7386() {
    let mut api = api();
    let first = create(&mut api, &config_map("rates", &json!({"a": "1", "b": "2"}))).unwrap();
    let patch = json!({"data": {"a": null, "c": "3"}});
    let patched = api.write(Write::merge_patch(&user(), "patcher", &id_of(&first), &patch)).unwrap();
    assert_eq!(patched["data"], json!({"b": "2", "c": "3"}));
    let stale = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"d": "4"}});
    assert!(api.write(Write::merge_patch(&user(), "patcher", &id_of(&first), &stale)).unwrap_err().is_conflict());
}

#[test]
fn a_dry_run_answers_and_stores_nothing() {
    let mut api = api();
    let rv = api.resource_version();
    let tried = api.write(Write::create(&user(), "c", &deployment("teller")).dry_run(DryRun::Yes)).unwrap();
    assert_eq!(tried["spec"]["replicas"], 1);
    assert_eq!(tried["metadata"].get("resourceVersion"), None);
    assert_eq!(live(&api, &tried), None);
    let first = create(&mut api, &deployment("teller")).unwrap();
    let scaled = changed(&first, |object| object["spec"]["replicas"] = json!(5));
    let tried = api.write(Write::replace(&user(), "c", &scaled).dry_run(DryRun::Yes)).unwrap();
    assert_eq!((tried["spec"]["replicas"].clone(), tried["metadata"]["generation"].clone()), (json!(5), json!(2)));
    assert_eq!(tried["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    api.write(Write::delete(&user(), &id_of(&first)).dry_run(DryRun::Yes)).unwrap();
    assert_eq!(api.resource_version(), rv + 1);
}

#[test]
fn nothing_is_created_in_a_missing_namespace_or_of_an_unknown_kind() {
    let mut api = api();
    let lost = changed(&config_map("rates", &json!({})), |map| map["metadata"]["namespace"] = json!("nowhere"));
    let error = create(&mut api, &lost).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    let unknown = json!({"apiVersion": "x.example/v1", "kind": "Odd", "metadata": {"name": "a", "namespace": "bank"}});
    assert_eq!(create(&mut api, &unknown).unwrap_err().message, "the server could not find the requested resource");
}

#[test]
fn some_kinds_are_created_by_a_replacement() {
    let mut api = api();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "l", "namespace": "bank"}, "spec": {"holderIdentity": "a"}});
    let first = replace(&mut api, &lease).unwrap();
    assert_eq!(first["spec"]["holderIdentity"], "a");
    assert_eq!(replace(&mut api, &lease).unwrap_err().code, 422, "but not replaced without a version");
}
