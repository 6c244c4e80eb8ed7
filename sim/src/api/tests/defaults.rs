//! What the server fills in.

use super::*;

fn pod_template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn a_deployment_and_its_template() {
    let mut api = api();
    let object = create(&mut api, &deployment("teller")).unwrap();
    let spec = &object["spec"];
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
    assert_eq!(
        spec["template"]["spec"],
        json!({
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler",
            "containers": [{
                "name": "main", "image": "bank/teller:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
            }]
        })
    );
}

#[test]
fn recreate_has_no_rolling_update_and_latest_is_always_pulled() {
    let mut api = api();
    let object = changed(&deployment("teller"), |object| {
        object["spec"]["strategy"] = json!({"type": "Recreate"});
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry:5000/teller");
    });
    let object = create(&mut api, &object).unwrap();
    assert_eq!(object["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
}

#[test]
fn stateful_sets_and_daemon_sets() {
    let mut api = api();
    let of = |kind: &str, extra: Value| {
        let mut spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": pod_template()});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a", "namespace": "bank"}, "spec": spec})
    };
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let set =
        create(&mut api, &of("StatefulSet", json!({"serviceName": "a", "volumeClaimTemplates": [claim]}))).unwrap();
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "partition": 0}})
    );
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"], "Filesystem");
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["status"], json!({"phase": "Pending"}));
    let set = create(&mut api, &of("DaemonSet", json!({}))).unwrap();
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    );
}

#[test]
fn a_job_selects_its_own_pods() {
    let mut api = api();
    let template = changed(&pod_template(), |template| template["spec"]["restartPolicy"] = json!("Never"));
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "bank"}, "spec": {"template": template}});
    let job = create(&mut api, &job).unwrap();
    let uid = &job["metadata"]["uid"];
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    let labels = json!({
        "app": "a", "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "a",
        "controller-uid": uid, "job-name": "a"
    });
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(job["metadata"]["labels"], labels);
    for (field, value) in [
        ("parallelism", json!(1)),
        ("completions", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(job["spec"][field], value, "{field}");
    }
}

#[test]
fn a_service_is_given_an_address_that_stays() {
    let mut api = api();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "bank"},
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}});
    let stored = create(&mut api, &service).unwrap();
    let address = &stored["spec"]["clusterIP"];
    assert_eq!(
        stored["spec"],
        json!({
            "selector": {"app": "a"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP",
            "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"
        })
    );
    assert_eq!(stored["status"], json!({"loadBalancer": {}}));
    assert_eq!(stored["metadata"].get("generation"), None);
    assert_eq!(api.write(Write::replace(&user(), "creator", &service)).unwrap(), stored);
    let moved = changed(&stored, |service| service["spec"]["clusterIP"] = json!("10.0.0.9"));
    assert_eq!(replace(&mut api, &moved).unwrap_err().code, 422);
}

#[test]
fn secrets_namespaces_and_pods() {
    let mut api = api();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "bank"},
        "stringData": {"key": "value"}});
    let secret = create(&mut api, &secret).unwrap();
    assert_eq!((&secret["type"], &secret["data"]), (&json!("Opaque"), &json!({"key": "dmFsdWU="})));
    assert_eq!(secret.get("stringData"), None);
    let space = live(&api, &namespace("bank")).unwrap();
    assert_eq!(space["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "bank"}));
    assert_eq!(
        (&space["spec"], &space["status"]),
        (&json!({"finalizers": ["kubernetes"]}), &json!({"phase": "Active"}))
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "bank"},
        "spec": {"containers": [{"name": "c", "image": "i:1", "resources": {"limits": {"cpu": "100m"}}}]}});
    let pod = create(&mut api, &pod).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "100m"}));
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
}

#[test]
fn empty_parts_are_not_stored() {
    let mut api = api();
    let object = changed(&deployment("teller"), |object| {
        object["metadata"]["annotations"] = json!({});
        object["spec"]["paused"] = json!(false);
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({});
        object["spec"]["template"]["spec"]["tolerations"] = json!([]);
        object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
        object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": ""}]);
    });
    let object = create(&mut api, &object).unwrap();
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!((object["metadata"].get("annotations"), object["spec"].get("paused")), (None, None));
    assert_eq!((spec.get("nodeSelector"), spec.get("tolerations")), (None, None));
    assert_eq!(spec["volumes"], json!([{"name": "tmp", "emptyDir": {}}]));
    assert_eq!(spec["containers"][0]["env"], json!([{"name": "A"}]));
}

#[test]
fn a_pod_is_admitted_with_its_account_and_a_template_is_not() {
    let mut api = api();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "bank"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let pod = create(&mut api, &pod).unwrap();
    let spec = &pod["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(spec["volumes"][0]["name"], spec["containers"][0]["volumeMounts"][0]["name"]);
    assert_eq!(fields(&pod, "creator", "Update")["f:spec"].get("f:tolerations"), None, "nobody owns it");
    let template = create(&mut api, &deployment("teller")).unwrap();
    assert_eq!(template["spec"]["template"]["spec"].get("tolerations"), None);
}

#[test]
fn amounts_are_stored_in_their_shortest_form() {
    let mut api = api();
    let object = changed(&deployment("teller"), |object| {
        object["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}});
    });
    let object = create(&mut api, &object).unwrap();
    let stored = &object["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(*stored, json!({"cpu": "1", "memory": "1Gi"}));
}

#[test]
fn a_daemon_set_counts_its_templates() {
    const COUNT: &str = "deprecated.daemonset.template.generation";
    let mut api = api();
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a", "namespace": "bank"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": pod_template()}});
    let first = create(&mut api, &set).unwrap();
    assert_eq!(first["metadata"]["annotations"][COUNT], "1");
    let other = changed(&set, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j"));
    let second = replace(&mut api, &other).unwrap();
    assert_eq!(second["metadata"]["annotations"][COUNT], "2");
}
