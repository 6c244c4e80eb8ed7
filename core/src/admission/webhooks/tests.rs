mod systems;

use std::collections::BTreeSet;

use super::*;

fn inputs() -> Inputs {
    Inputs {
        target: Target::Service { namespace: "interlock-system".into(), name: "interlock-webhook".into(), port: 443 },
        ca_bundle: Some("Q0E=".into()),
        governed: Governed::default(),
        node_agents: Vec::new(),
        own_kinds: own_kinds(),
    }
}

fn entry_named<'a>(configuration: &'a Value, name: &str) -> &'a Value {
    configuration["webhooks"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap()
}

fn resources(entry: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for rule in entry["rules"].as_array().unwrap() {
        for group in rule["apiGroups"].as_array().unwrap() {
            for resource in rule["resources"].as_array().unwrap() {
                all.push(format!("{}/{}", group.as_str().unwrap(), resource.as_str().unwrap()));
            }
        }
    }
    all
}

fn conditions(entry: &Value) -> Vec<(String, String)> {
    let list = entry["matchConditions"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter().map(|condition| (text(&condition["name"]), text(&condition["expression"]))).collect()
}

#[test]
fn every_entry_answers_in_two_seconds_and_only_observation_fails_open() {
    let mut inputs = inputs();
    for enforced in [true, false] {
        inputs.governed.cluster_objects.insert(ClusterObject {
            group: "rbac.authorization.k8s.io".into(),
            resource: "clusterroles".into(),
            name: "teller".into(),
            enforced,
        });
    }
    for configuration in [inputs.mutating(), inputs.validating()] {
        for entry in configuration["webhooks"].as_array().unwrap() {
            let open =
                matches!(entry["name"].as_str(), Some("observe.interlock.dev" | "cluster-observe.interlock.dev"));
            assert_eq!(entry["failurePolicy"], if open { "Ignore" } else { "Fail" }, "{}", entry["name"]);
            assert_eq!(entry["timeoutSeconds"], 2);
            assert_eq!(entry["matchPolicy"], "Equivalent");
            assert_eq!(entry["sideEffects"], "None");
            assert_eq!(entry["clientConfig"]["caBundle"], "Q0E=");
            assert_eq!(entry["clientConfig"]["service"]["port"], 443);
        }
    }
}

#[test]
fn a_url_carries_the_path_of_each_entry() {
    let inputs = Inputs { target: Target::Url("https://127.0.0.1:9443/".into()), ..inputs() };
    let validating = inputs.validating();
    assert_eq!(
        entry_named(&validating, "enforce.interlock.dev")["clientConfig"]["url"],
        "https://127.0.0.1:9443/validate/governed"
    );
    assert_eq!(
        entry_named(&validating, "objects.interlock.dev")["clientConfig"]["url"],
        "https://127.0.0.1:9443/validate/own"
    );
    let mutating = inputs.mutating();
    assert_eq!(entry_named(&mutating, "record.interlock.dev")["clientConfig"]["url"], "https://127.0.0.1:9443/mutate");
}

#[test]
fn own_kinds_are_all_guarded_with_their_status() {
    let resources = resources(entry_named(&inputs().validating(), "objects.interlock.dev"));
    for kind in ["systems", "persons", "changepolicies", "calendars", "changerequests"] {
        assert!(resources.contains(&format!("interlock.dev/{kind}")), "{kind}");
        assert!(resources.contains(&format!("interlock.dev/{kind}/status")), "{kind}/status");
    }
    for kind in ["approvals", "evidences", "actions"] {
        assert!(resources.contains(&format!("interlock.dev/{kind}")), "{kind}");
    }
    assert_eq!(resources.len(), own_kinds().len() + own_kinds().iter().filter(|kind| kind.has_status).count());
}

#[test]
fn nothing_that_keeps_a_cluster_alive_is_ever_matched() {
    let validating = inputs().validating();
    for entry in ["enforce.interlock.dev", "observe.interlock.dev"] {
        let resources = resources(entry_named(&validating, entry));
        for never in [
            "leases",
            "nodes",
            "events",
            "certificatesigningrequests",
            "tokenreviews",
            "endpointslices",
            "binding",
            "*",
        ] {
            assert!(!resources.iter().any(|resource| resource.ends_with(never)), "{never} in {entry}");
        }
        let selector = entry_named(&validating, entry)["namespaceSelector"].to_string();
        for namespace in ["kube-system", "interlock-system"] {
            assert!(selector.contains(namespace), "{namespace} in {entry}");
        }
        for rule in entry_named(&validating, entry)["rules"].as_array().unwrap() {
            assert_eq!(rule["scope"], "Namespaced", "a selector does not hold back cluster-scoped objects");
        }
    }
    assert!(entry_named(&validating, "namespaces.interlock.dev").get("namespaceSelector").is_none());
    assert!(entry_named(&validating, "objects.interlock.dev").get("namespaceSelector").is_none());
}

/// A18: each exemption names one user, its operations, and one resource unless the user is a cleaner of everything.
#[test]
fn exemptions_are_exact_triples() {
    let validating = inputs().validating();
    let conditions = conditions(entry_named(&validating, "enforce.interlock.dev"));
    assert!(conditions.len() <= 64, "the API server allows 64");
    let mut names: Vec<_> = conditions.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), conditions.len(), "names are unique");
    for (name, expression) in &conditions {
        assert!(expression.starts_with("!(") && expression.ends_with(')'), "{name}");
        assert!(expression.contains("request.operation"), "{name}");
        assert!(!expression.contains("ownerReferences") && !expression.contains("fieldManager"), "{name}");
        let any_user = name == "finalizer-removal";
        assert_eq!(expression.contains("request.userInfo.username == "), !any_user, "{name}");
        let any_resource = matches!(
            name.as_str(),
            "finalizer-removal"
                | "generic-garbage-collector"
                | "namespace-controller"
                | "storage-version-migrator"
                | "horizontal-pod-autoscaler-scale"
        );
        assert_eq!(expression.contains("request.resource.resource == "), !any_resource, "{name}");
        assert!(!expression.contains("'deployments'"), "{name}: no built-in may edit a Deployment");
    }
    let (_, scale) = conditions.iter().find(|(name, _)| name == "horizontal-pod-autoscaler-scale").unwrap();
    assert_eq!(
        scale,
        "!(request.userInfo.username == 'system:serviceaccount:kube-system:horizontal-pod-autoscaler' && \
         request.operation == 'UPDATE' && has(request.subResource) && request.subResource == 'scale')"
    );
    let (_, replicaset) = conditions.iter().find(|(name, _)| name == "replicaset-controller-pods").unwrap();
    assert_eq!(
        replicaset,
        "!(request.userInfo.username == 'system:serviceaccount:kube-system:replicaset-controller' && \
         request.operation in ['CREATE', 'UPDATE', 'DELETE'] && request.resource.group == '' && \
         request.resource.resource == 'pods')"
    );
}

#[test]
fn own_kinds_let_only_the_teardown_of_a_namespace_pass() {
    let validating = inputs().validating();
    let conditions = conditions(entry_named(&validating, "objects.interlock.dev"));
    assert_eq!(
        conditions,
        [(
            "namespace-controller".to_owned(),
            "!(request.userInfo.username == 'system:serviceaccount:kube-system:namespace-controller' && \
             request.operation == 'DELETE')"
                .to_owned()
        )]
    );
}

#[test]
fn cluster_scoped_objects_are_matched_by_name_and_never_what_recovery_rests_on() {
    let object = |group: &str, resource: &str, name: &str, enforced| ClusterObject {
        group: group.into(),
        resource: resource.into(),
        name: name.into(),
        enforced,
    };
    assert!(inputs().cluster().is_empty(), "no entry where no System names an object");
    let mut inputs = inputs();
    inputs.governed.cluster_objects = BTreeSet::from([
        object("rbac.authorization.k8s.io", "clusterroles", "teller", true),
        object("rbac.authorization.k8s.io", "clusterroles", "atm", true),
        object("scheduling.k8s.io", "priorityclasses", "bank", true),
        object("rbac.authorization.k8s.io", "clusterroles", "trial", false),
        object("admissionregistration.k8s.io", "validatingwebhookconfigurations", "interlock", true),
        object("apiextensions.k8s.io", "customresourcedefinitions", "systems.interlock.dev", true),
        object("", "nodes", "node-1", true),
        object("", "namespaces", "teller", true),
        object("interlock.dev", "systems", "teller", true),
        object("rbac.authorization.k8s.io", "clusterroles", "interlock-controller", true),
    ]);
    let entries = inputs.cluster();
    assert_eq!(entries.len(), 2);
    assert_eq!(resources(&entries[0]), ["rbac.authorization.k8s.io/clusterroles", "scheduling.k8s.io/priorityclasses"]);
    assert_eq!(
        conditions(&entries[0])[0].1,
        "has(request.name) && ((request.resource.group == 'rbac.authorization.k8s.io' && \
         request.resource.resource == 'clusterroles' && request.name in ['atm', 'teller']) || \
         (request.resource.group == 'scheduling.k8s.io' && request.resource.resource == 'priorityclasses' && \
         request.name in ['bank']))"
    );
    assert!(conditions(&entries[1])[0].1.contains("['trial']"));
    assert_eq!(entries[1]["failurePolicy"], "Ignore");
}

#[test]
fn a_stand_in_for_kubelets_may_only_finish_a_deletion() {
    let mut inputs = inputs();
    inputs.node_agents = vec!["kwok".into()];
    let validating = inputs.validating();
    let conditions = conditions(entry_named(&validating, "enforce.interlock.dev"));
    let (_, expression) = conditions.iter().find(|(name, _)| name == "node-agent-0").unwrap();
    assert_eq!(
        expression,
        "!(request.userInfo.username == 'kwok' && request.operation == 'DELETE' && request.resource.group == '' && \
         request.resource.resource == 'pods' && has(oldObject.metadata.deletionTimestamp))"
    );
}
