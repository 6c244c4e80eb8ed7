//! Custom resources, Interlock's and those that are defined at run time.

use super::*;

fn definition() -> Value {
    let spec = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 5},
        "mode": {"type": "string", "enum": ["Fast", "Safe"], "default": "Safe"},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}}}}
    }});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "vaults.bank.example"},
        "spec": {"group": "bank.example", "scope": "Namespaced", "names": {"plural": "vaults", "kind": "Vault"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

fn vault(spec: &Value) -> Value {
    json!({"apiVersion": "bank.example/v1", "kind": "Vault", "metadata": {"name": "a", "namespace": "bank"}, "spec": spec})
}

fn with_vaults() -> Api {
    let mut api = api();
    create(&mut api, &definition()).unwrap();
    api
}

#[test]
fn interlocks_kinds_are_known() {
    let api = Api::new("2026-03-01T10:00:00Z".parse().unwrap());
    for definition in interlock_crds::all() {
        let info = api.registry().find("interlock.dev", "v1alpha1", &definition.spec.names.kind).unwrap();
        assert_eq!(info.plural, definition.spec.names.plural);
    }
}

#[test]
fn a_kind_comes_and_goes_with_its_definition() {
    let mut api = api();
    assert_eq!(create(&mut api, &vault(&json!({"size": 1}))).unwrap_err().code, 404);
    let stored = create(&mut api, &definition()).unwrap();
    assert_eq!(stored["spec"]["names"]["singular"], "vault");
    assert_eq!(stored["status"]["conditions"], Value::Null);
    assert_eq!(live(&api, &stored).unwrap()["status"]["conditions"][1]["type"], "Established");
    create(&mut api, &vault(&json!({"size": 1}))).unwrap();
    api.write(Write::delete(&user(), &id_of(&definition()))).unwrap();
    assert_eq!(create(&mut api, &vault(&json!({"size": 1}))).unwrap_err().code, 404);
}

#[test]
fn defaults_come_from_the_schema_and_nulls_go() {
    let mut api = with_vaults();
    let object = create(&mut api, &vault(&json!({"size": 2, "mode": null, "name": null}))).unwrap();
    assert_eq!(object["spec"], json!({"size": 2, "mode": "Safe"}));
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(object.get("status"), None);
}

#[test]
fn the_schema_is_enforced() {
    let refused = |spec: Value| create(&mut with_vaults(), &vault(&spec)).unwrap_err().message;
    let of = |cause: &str| format!("Vault.bank.example \"a\" is invalid: {cause}");
    assert_eq!(refused(json!({})), of("spec.size: Required value"));
    assert_eq!(
        refused(json!({"size": 9})),
        of("spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5")
    );
    assert_eq!(
        refused(json!({"size": "9"})),
        of("spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"")
    );
    assert_eq!(
        refused(json!({"size": 1, "mode": "Odd"})),
        of("spec.mode: Unsupported value: \"Odd\": supported values: \"Fast\", \"Safe\"")
    );
    assert_eq!(
        refused(json!({"size": 1, "name": "A"})),
        of("spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'")
    );
    assert_eq!(refused(json!({"size": 1, "name": "abcde"})), of("spec.name: Too long: may not be more than 4 bytes"));
    assert_eq!(refused(json!({"size": 1, "tags": ["a", "a"]})), of("spec.tags[1]: Duplicate value: \"a\""));
    assert!(refused(json!({"size": 1, "odd": 1})).ends_with("strict decoding error: unknown field \"spec.odd\""));
}

#[test]
fn lists_of_the_schema_are_applied_by_key() {
    let mut api = with_vaults();
    apply(&mut api, "a", &vault(&json!({"size": 1, "parts": [{"name": "x", "count": 1}], "tags": ["p"]}))).unwrap();
    let other = vault(&json!({"parts": [{"name": "y", "count": 2}], "tags": ["q"]}));
    let both = apply(&mut api, "b", &other).unwrap();
    assert_eq!(both["spec"]["parts"], json!([{"name": "x", "count": 1}, {"name": "y", "count": 2}]));
    assert_eq!(both["spec"]["tags"], json!(["p", "q"]));
    assert_eq!(
        fields(&both, "b", "Apply"),
        json!({"f:spec": {
            "f:parts": {"k:{\"name\":\"y\"}": {".": {}, "f:count": {}, "f:name": {}}},
            "f:tags": {"v:\"q\"": {}}
        }})
    );
    let after = apply(&mut api, "a", &vault(&json!({"size": 1}))).unwrap();
    assert_eq!(after["spec"]["parts"], json!([{"name": "y", "count": 2}]));
}

#[test]
fn an_unconditional_replacement_is_refused_and_status_is_apart() {
    let mut api = with_vaults();
    let first = create(&mut api, &vault(&json!({"size": 1}))).unwrap();
    let error = replace(&mut api, &vault(&json!({"size": 2}))).unwrap_err();
    assert!(error.message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"));
    let written = changed(&first, |object| {
        object["status"] = json!({"ready": true});
        object["spec"]["size"] = json!(3);
        object["metadata"]["labels"] = json!({"x": "y"});
    });
    let status = api.write(Write::status(&user(), "s", &written)).unwrap();
    assert_eq!((&status["status"], &status["spec"]["size"]), (&json!({"ready": true}), &json!(1)));
    assert_eq!(status["metadata"].get("labels"), None);
    assert_eq!(status["metadata"]["generation"], 1);
    assert_eq!(fields(&status, "s", "Update"), json!({"f:status": {".": {}, "f:ready": {}}}));
    assert_eq!(fields(&status, "creator", "Update")["f:spec"]["."], json!({}), "nothing of it was there before");
}
