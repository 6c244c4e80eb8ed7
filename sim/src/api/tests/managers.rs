//! `managedFields` of creates and updates.

use super::*;

#[test]
fn a_create_owns_everything_with_defaults() {
    let mut api = api();
    let object = create(&mut api, &deployment("teller")).unwrap();
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!(entry["apiVersion"], "apps/v1");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    assert_eq!(entry["time"], "2026-03-01T10:00:00Z");
    assert_eq!(
        fields(&object, "creator", "Update"),
        json!({"f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"main\"}": {
                        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:containerPort": {}, "f:protocol": {}
                        }},
                        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}
                    }},
                    "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                    "f:terminationGracePeriodSeconds": {}
                }
            }
        }})
    );
}

#[test]
fn an_update_moves_what_it_changes_and_status_has_its_own_entry() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    let scaled = replace(&mut api, &changed(&first, |object| object["spec"]["replicas"] = json!(3))).unwrap();
    assert_eq!(fields(&scaled, "replacer", "Update"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&scaled, "creator", "Update")["f:spec"].get("f:replicas"), None);
    let ready = changed(&scaled, |object| object["status"] = json!({"replicas": 3}));
    let ready = api.write(Write::status(&user(), "replacer", &ready)).unwrap();
    let entries = ready["metadata"]["managedFields"].as_array().unwrap();
    let status = entries.iter().find(|entry| entry["subresource"] == "status").unwrap();
    assert_eq!(status["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(fields(&ready, "replacer", "Update"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn removing_a_field_takes_it_from_every_manager() {
    let mut api = api();
    create(&mut api, &config_map("rates", &json!({"x": "1", "y": "2"}))).unwrap();
    let after = replace(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    assert_eq!(fields(&after, "creator", "Update"), json!({"f:data": {".": {}, "f:x": {}}}));
    assert_eq!(fields(&after, "replacer", "Update"), Value::Null);
}

#[test]
fn a_client_may_rewrite_the_entries() {
    let mut api = api();
    let first = create(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    let moved = changed(&first, |object| {
        object["metadata"]["managedFields"][0]["manager"] = json!("interlock");
        object["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    });
    let after = replace(&mut api, &moved).unwrap();
    assert_eq!(fields(&after, "interlock", "Apply"), json!({"f:data": {".": {}, "f:x": {}}}));
    assert_eq!(fields(&after, "creator", "Update"), Value::Null);
    assert_ne!(after["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let pruned = apply(&mut api, "interlock", &config_map("rates", &json!({"y": "2"}))).unwrap();
    assert_eq!(pruned["data"], json!({"y": "2"}));
}

#[test]
fn entries_that_are_left_out_stay_and_an_empty_list_forgets_them() {
    let mut api = api();
    let first = create(&mut api, &config_map("rates", &json!({"x": "1"}))).unwrap();
    let silent = changed(&first, |object| object["metadata"]["managedFields"] = Value::Null);
    assert_eq!(replace(&mut api, &silent).unwrap(), first);
    let bare = changed(&first, |object| object["metadata"]["managedFields"] = json!([]));
    assert_eq!(replace(&mut api, &bare).unwrap()["metadata"].get("managedFields"), None);
}

#[test]
fn metadata_of_lists_and_sets() {
    let mut api = api();
    let object = changed(&config_map("rates", &json!({})), |map| {
        map["metadata"]["finalizers"] = json!(["bank.example/keep"]);
        map["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"}]);
    });
    let object = create(&mut api, &object).unwrap();
    let metadata = &fields(&object, "creator", "Update")["f:metadata"];
    assert_eq!(metadata["f:finalizers"], json!({".": {}, "v:\"bank.example/keep\"": {}}));
    assert_eq!(metadata["f:ownerReferences"], json!({".": {}, "k:{\"uid\":\"u1\"}": {}}));
}
