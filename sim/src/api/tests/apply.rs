//! Server-side apply.

use interlock_core::port::PortError;

use super::*;

#[test]
fn an_apply_creates_what_is_absent_and_owns_only_what_it_states() {
    let mut api = api();
    let object = apply(&mut api, "interlock", &deployment("teller")).unwrap();
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(
        fields(&object, "interlock", "Apply"),
        json!({"f:spec": {
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {
                    ".": {}, "f:name": {}, "f:image": {},
                    "f:ports": {"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}
                }}}
            }
        }})
    );
}

#[test]
fn the_same_apply_again_changes_nothing() {
    let mut api = api();
    let first = apply(&mut api, "interlock", &deployment("teller")).unwrap();
    api.set_time("2026-03-01T11:00:00Z".parse().unwrap());
    assert_eq!(apply(&mut api, "interlock", &deployment("teller")).unwrap(), first);
}

#[test]
fn what_is_no_longer_stated_goes_unless_somebody_else_owns_it() {
    let mut api = api();
    apply(&mut api, "a", &config_map("rates", &json!({"x": "1", "y": "2"}))).unwrap();
    apply(&mut api, "b", &config_map("rates", &json!({"y": "2"}))).unwrap();
    let after = apply(&mut api, "a", &config_map("rates", &json!({"z": "3"}))).unwrap();
    assert_eq!(after["data"], json!({"y": "2", "z": "3"}));
    assert_eq!(fields(&after, "a", "Apply"), json!({"f:data": {"f:z": {}}}));
    assert_eq!(fields(&after, "b", "Apply"), json!({"f:data": {"f:y": {}}}));
}

#[test]
fn a_default_comes_back_when_its_field_is_given_up() {
    let mut api = api();
    let scaled = changed(&deployment("teller"), |object| object["spec"]["replicas"] = json!(3));
    apply(&mut api, "a", &scaled).unwrap();
    let after = apply(&mut api, "a", &deployment("teller")).unwrap();
    assert_eq!((after["spec"]["replicas"].clone(), after["metadata"]["generation"].clone()), (json!(1), json!(2)));
}

#[test]
fn a_conflict_names_the_manager_and_force_takes_over() {
    let mut api = api();
    create(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    let wanted = config_map("rates", &json!({"x": "2"}));
    let error = api.write(Write::apply_without_force(&user(), "a", &wanted)).unwrap_err();
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"creator\" using v1: .data.x");
    assert!(error.is_conflict());
    let after = apply(&mut api, "a", &wanted).unwrap();
    assert_eq!(fields(&after, "a", "Apply"), json!({"f:data": {"f:x": {}}}));
    assert_eq!(fields(&after, "creator", "Update"), json!({"f:data": {}}));
}

#[test]
fn the_same_value_is_shared_without_force() {
    let mut api = api();
    create(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    let after = api.write(Write::apply_without_force(&user(), "a", &config_map("rates", &json!({"x": "1"})))).unwrap();
    assert_eq!(fields(&after, "a", "Apply"), json!({"f:data": {"f:x": {}}}));
    assert_eq!(fields(&after, "creator", "Update"), json!({"f:data": {".": {}, "f:x": {}}}));
}

#[test]
fn items_of_lists_merge_by_key_and_go_alone() {
    let mut api = api();
    let both = changed(&deployment("teller"), |object| {
        let side = json!({"name": "side", "image": "bank/side:1"});
        object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(side);
    });
    apply(&mut api, "a", &both).unwrap();
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "extra", "image": "x:1"}]}}}});
    let extra = changed(&deployment("teller"), |object| object["spec"] = patch["spec"].clone());
    apply(&mut api, "b", &extra).unwrap();
    let after = apply(&mut api, "a", &deployment("teller")).unwrap();
    let containers = after["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.iter().map(|container| container["name"].clone()).collect::<Vec<_>>(), ["main", "extra"]);
}

#[test]
fn preconditions_of_an_apply() {
    let mut api = api();
    let with = |field: &str, value: &str| {
        changed(&config_map("rates", &json!({"x": "1"})), |map| map["metadata"][field] = json!(value))
    };
    let gone = apply(&mut api, "a", &with("uid", "u")).unwrap_err();
    assert!(gone.is_conflict() && gone.message.contains("no existing object was found"), "{gone}");
    let first = apply(&mut api, "a", &with("resourceVersion", "7")).unwrap();
    assert_ne!(first["metadata"]["resourceVersion"], "7", "a version alone does not keep an apply from creating");
    let other = apply(&mut api, "a", &with("uid", "u")).unwrap_err();
    assert_eq!(other.code, 422);
    assert!(matches!(PortError::from(other), PortError::Conflict(_)));
    assert!(apply(&mut api, "a", &with("resourceVersion", "1")).unwrap_err().is_conflict());
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(apply(&mut api, "a", &with("resourceVersion", version)).unwrap(), first);
}

#[test]
fn an_apply_of_an_unknown_field_or_with_managers_is_refused() {
    let mut api = api();
    let typo = changed(&config_map("b", &json!({})), |map| map["specc"] = json!(1));
    let error = apply(&mut api, "a", &typo).unwrap_err();
    assert_eq!(
        error.message,
        "failed to create typed patch object (bank/b; /v1, Kind=ConfigMap): .specc: field not declared in schema"
    );
    let stated = changed(&config_map("b", &json!({})), |map| map["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(apply(&mut api, "a", &stated).unwrap_err().message, "metadata.managedFields must be nil");
}

#[test]
fn a_manager_keeps_one_apply_entry_and_a_status_entry_apart() {
    let mut api = api();
    apply(&mut api, "a", &deployment("teller")).unwrap();
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "teller", "namespace": "bank"},
        "status": {"conditions": [{"type": "Available", "status": "True"}]}});
    let after = api.write(Write::apply(&user(), "a", &status).on("status")).unwrap();
    let entries = after["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let of_status = entries.iter().find(|entry| entry["subresource"] == "status").unwrap();
    let item = json!({".": {}, "f:type": {}, "f:status": {}});
    assert_eq!(of_status["fieldsV1"], json!({"f:status": {"f:conditions": {"k:{\"type\":\"Available\"}": item}}}));
    assert_eq!(after["spec"]["replicas"], 1);
}

#[test]
fn applying_to_an_object_without_managers_records_what_was_before() {
    let mut api = api();
    let first = create(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let bare = api.write(Write::merge_patch(&user(), "x", &id_of(&first), &reset)).unwrap();
    assert_eq!(bare["metadata"].get("managedFields"), None);
    let after = apply(&mut api, "a", &config_map("rates", &json!({"y": "1"}))).unwrap();
    assert_eq!(fields(&after, "before-first-apply", "Update"), json!({"f:data": {".": {}, "f:x": {}}}));
}

#[test]
fn an_apply_that_changes_no_value_has_no_time() {
    let mut api = api();
    create(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    let after = apply(&mut api, "a", &config_map("rates", &json!({"x": "1"}))).unwrap();
    let entry = &after["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], entry.get("time")), (&json!("a"), None), "as a 1.37 server has it");
}

#[test]
fn an_explicit_null_leaves_a_map_of_others() {
    let mut api = api();
    apply(&mut api, "a", &config_map("rates", &json!({"x": "1"}))).unwrap();
    let after = apply(&mut api, "b", &config_map("rates", &Value::Null)).unwrap();
    assert_eq!(after["data"], json!({"x": "1"}));
}

#[test]
fn an_item_without_its_key_cannot_be_applied() {
    let nameless = changed(&deployment("teller"), |object| {
        object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "a"}, {"name": "a"}]);
    });
    let error = apply(&mut api(), "a", &nameless).unwrap_err();
    assert_eq!(error.code, 500);
    assert!(error.message.contains(".spec.template.spec.volumes: duplicate entries for key [name=\"a\"]"), "{error}");
}
