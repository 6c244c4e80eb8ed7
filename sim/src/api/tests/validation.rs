//! What is refused.

use super::*;

fn refused(object: &Value) -> String {
    let error = create(&mut api(), object).unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (422, "Invalid"), "{error}");
    error.message
}

#[test]
fn names_containers_and_selectors() {
    let object = changed(&deployment("teller"), |object| object["metadata"]["name"] = json!("Teller"));
    assert!(refused(&object).starts_with(
        "Deployment.apps \"Teller\" is invalid: metadata.name: Invalid value: \"Teller\": a lowercase RFC 1123 subdomain"
    ));
    let object = changed(&deployment("teller"), |object| {
        object["spec"]["template"]["spec"]["containers"] = json!([{"name": "main"}]);
    });
    assert_eq!(
        refused(&object),
        "Deployment.apps \"teller\" is invalid: spec.template.spec.containers[0].image: Required value"
    );
    let object = changed(&deployment("teller"), |object| {
        object["spec"]["selector"]["matchLabels"]["app"] = json!("other");
    });
    assert_eq!(
        refused(&object),
        "Deployment.apps \"teller\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"teller\"}: \
         `selector` does not match template `labels`"
    );
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "bank"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert!(refused(&job).contains("restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""));
}

#[test]
fn unknown_fields_and_wrong_types_are_bad_requests() {
    let typo = changed(&deployment("teller"), |object| object["spec"]["replica"] = json!(1));
    let error = create(&mut api(), &typo).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            400,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
             \"spec.replica\""
        )
    );
    let wrong = changed(&deployment("teller"), |object| object["spec"]["replicas"] = json!("three"));
    assert_eq!(create(&mut api(), &wrong).unwrap_err().code, 400);
}

#[test]
fn what_is_immutable_stays() {
    let mut api = api();
    let first = create(&mut api, &deployment("teller")).unwrap();
    let moved = changed(&first, |object| {
        object["spec"]["selector"]["matchLabels"] = json!({"app": "b"});
        object["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    });
    let error = replace(&mut api, &moved).unwrap_err();
    assert_eq!(
        error.message,
        "Deployment.apps \"teller\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field \
         is immutable"
    );
    let sealed = changed(&config_map("rates", &json!({"a": "1"})), |map| map["immutable"] = json!(true));
    create(&mut api, &sealed).unwrap();
    let error = replace(&mut api, &changed(&sealed, |map| map["data"]["a"] = json!("2"))).unwrap_err();
    assert_eq!(
        error.message,
        "ConfigMap \"rates\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "bank"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let job = create(&mut api, &job).unwrap();
    let other = changed(&job, |job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j"));
    assert!(replace(&mut api, &other).unwrap_err().message.contains("spec.template.spec: Invalid value"));
}
