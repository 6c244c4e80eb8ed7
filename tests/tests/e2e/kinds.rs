//! What a System governs beside the default follows the System, without another installation.

use interlock_tests::{
    Options, Refusal, Stage, eventually, patch_of,
    world::{SOON, condition},
};
use serde_json::{Value, json};

use crate::assert_refused;

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/interlock";

fn plain_stage(name: &str) -> Stage<'static> {
    Stage::with(name, Options { objects: vec![], ..Options::default() })
}

/// A System that names what it governs.
struct Named<'s>(&'s Stage<'s>);

impl Named<'_> {
    /// Merges `spec` into the System.
    fn edit(&self, spec: &Value) -> Result<Value, Refusal> {
        let path = format!("/apis/interlock.dev/v1alpha1/systems/{}", self.0.namespace);
        self.0.admin().merge(&path, &json!({"spec": spec}))
    }

    /// Waits for what the System's condition says.
    fn wait(&self, type_: &str, status: &str, reason: &str) -> String {
        eventually(SOON, || {
            let system = self.0.system();
            let found = condition(&system, type_).cloned().unwrap_or_default();
            if found["status"] == status && found["reason"] == reason {
                Ok(found["message"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(format!("{type_} is not {status} {reason}: {}", system["status"]))
            }
        })
    }
}

fn label(value: &str) -> Value {
    json!({"metadata": {"labels": {"edited": value}}})
}

/// Waits until somebody's edit of the object is denied, or passes.
fn wait_governed(stage: &Stage<'_>, path: &str, governed: bool) {
    let edits = std::cell::Cell::new(0);
    eventually(SOON, || {
        edits.set(edits.get() + 1);
        match stage.user("bob").merge(path, &label(&format!("e{}", edits.get()))) {
            Err(refusal) if governed && refusal.reason == "NoApprovedChange" => Ok(()),
            Ok(_) if !governed => Ok(()),
            Err(refusal) => Err(refusal.to_string()),
            Ok(_) => Err(format!("an edit of {path} passed")),
        }
    });
}

fn limit_range(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", "namespace": namespace},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}})
}

#[test]
fn a_kind_that_a_system_adds_is_governed_until_it_is_taken_out() {
    let (stage, neighbour) = (plain_stage("kinds"), plain_stage("kindsn"));
    for stage in [&stage, &neighbour] {
        stage.user("bob").create(&limit_range(&stage.namespace)).unwrap();
    }
    assert!(condition(&stage.system(), "KindsGoverned").is_none(), "it names nothing");
    let system = Named(&stage);
    system.edit(&json!({"governs": {"add": [{"kind": "LimitRange"}]}})).unwrap();
    let path = stage.path("limitranges/limits");
    wait_governed(&stage, &path, true);
    system.wait("KindsGoverned", "True", "KindsGoverned");
    let why = system.wait("KindsReadable", "False", "NoRight");
    assert!(why.contains("/limitranges") && why.contains("interlock install --apply"), "{why}");
    // Another System is not asked, and what it does is not looked at.
    neighbour.user("bob").merge(&neighbour.path("limitranges/limits"), &label("free")).unwrap();

    // Whoever may, lets Interlock read it, and the executor write it: then a change carries it.
    let name = stage.namespace.as_str();
    let api = "rbac.authorization.k8s.io";
    let rule = |verbs: &[&str]| json!([{"apiGroups": [""], "resources": ["limitranges"], "verbs": verbs}]);
    let binding = |kind: &str, role: &str, namespace: &str, account: &str| {
        json!({"apiVersion": format!("{api}/v1"), "kind": kind, "metadata": {"name": format!("{name}-limits")},
            "roleRef": {"apiGroup": api, "kind": role, "name": format!("{name}-limits")},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": account}]})
    };
    let role = |kind: &str, verbs: &[&str]| {
        json!({"apiVersion": format!("{api}/v1"), "kind": kind, "metadata": {"name": format!("{name}-limits")},
            "rules": rule(verbs)})
    };
    stage.admin().create(&role("ClusterRole", &["get", "list", "watch"])).unwrap();
    let controller = binding("ClusterRoleBinding", "ClusterRole", "interlock-system", "interlock-controller");
    stage.admin().create(&controller).unwrap();
    system.wait("KindsReadable", "True", "KindsReadable");
    // Roles are governed by default.
    system.edit(&json!({"mode": "Audit"})).unwrap();
    let executor = [
        role("Role", &["get", "list", "watch", "create", "update", "patch"]),
        binding("RoleBinding", "Role", name, "executor"),
    ];
    for object in executor {
        let object = stage.placed(object);
        eventually(SOON, || stage.admin().create(&object).map_err(|refusal| refusal.to_string()));
    }
    system.edit(&json!({"mode": "Enforce"})).unwrap();
    wait_governed(&stage, &path, true);
    let mut wider = limit_range(name);
    wider["spec"]["limits"][0]["max"]["cpu"] = json!("4");
    let change = stage.propose("alice", "wider", vec![patch_of(wider)]);
    change.approve(&["bob", "carol"]);
    change.wait("Succeeded");
    assert_eq!(stage.get("limitranges/limits")["spec"]["limits"][0]["max"]["cpu"], "4");

    // Somebody takes the rule out of the configuration: it is put back, and the rest is as installed.
    let before = stage.admin().get(CONFIGURATION).unwrap();
    eventually(SOON, || {
        let mut found = stage.admin().get(CONFIGURATION).unwrap();
        for entry in found["webhooks"].as_array_mut().unwrap() {
            for rule in entry["rules"].as_array_mut().unwrap() {
                rule["resources"].as_array_mut().unwrap().retain(|resource| resource != "limitranges");
            }
        }
        stage.admin().replace(CONFIGURATION, &found).map_err(|refusal| refusal.to_string())
    });
    let text = eventually(SOON, || {
        let found = stage.admin().get(CONFIGURATION).unwrap();
        let text = found["webhooks"].to_string();
        if text.contains("\"limitranges\"") { Ok(text) } else { Err("the rule is still gone".to_owned()) }
    });
    wait_governed(&stage, &path, true);
    for kept in [&before["webhooks"][0]["clientConfig"], &before["webhooks"][0]["rules"]] {
        assert!(text.contains(&kept.to_string()), "{kept}");
    }

    system.edit(&json!({"governs": null})).unwrap();
    wait_governed(&stage, &path, false);
    eventually(SOON, || match condition(&stage.system(), "KindsGoverned") {
        None => Ok(()),
        Some(found) => Err(found.to_string()),
    });
    let text = stage.admin().get(CONFIGURATION).unwrap().to_string();
    assert!(!text.contains("limitranges"), "{text}");
}

#[test]
fn a_kind_that_does_not_exist_yet_is_governed_once_it_does() {
    let stage = plain_stage("widgets");
    let system = Named(&stage);
    let group = format!("{}.example.com", stage.namespace);
    system.edit(&json!({"governs": {"add": [{"group": group, "kind": "Widget"}]}})).unwrap();
    let why = system.wait("KindsGoverned", "False", "KindUnknown");
    assert!(why.contains(&format!("Widget.{group}")), "{why}");
    stage
        .admin()
        .create(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("widgets.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        }))
        .unwrap();
    let path = format!("/apis/{group}/v1/namespaces/{}/widgets", stage.namespace);
    let widget =
        |name: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": name}});
    system.wait("KindsGoverned", "True", "KindsGoverned");
    eventually(SOON, || match stage.user("bob").post(&path, &widget("forged")) {
        Err(refusal) if refusal.reason == "NoApprovedChange" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // A System that is gone governs nothing, and its memory goes with it.
    stage.admin().delete(&format!("/apis/interlock.dev/v1alpha1/systems/{}", stage.namespace)).unwrap();
    eventually(SOON, || match stage.user("bob").post(&path, &widget("free")) {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.code == 409 => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    });
    eventually(SOON, || {
        let text = stage.admin().get(CONFIGURATION).unwrap().to_string();
        if text.contains(&group) { Err(text) } else { Ok(()) }
    });
}

#[test]
fn a_cluster_scoped_object_is_governed_while_a_system_lists_it() {
    let stage = plain_stage("object");
    let name = stage.namespace.clone();
    let class =
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 7});
    stage.user("bob").create(&class).unwrap();
    let path = format!("/apis/scheduling.k8s.io/v1/priorityclasses/{name}");
    let system = Named(&stage);
    let listed = json!([{"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": name}]);
    system.edit(&json!({"clusterObjects": listed})).unwrap();
    wait_governed(&stage, &path, true);
    system.wait("KindsGoverned", "True", "KindsGoverned");
    let mut other = class.clone();
    other["metadata"]["name"] = json!(format!("{name}-other"));
    stage.user("bob").create(&other).unwrap();
    system.edit(&json!({"mode": "Audit"})).unwrap();
    wait_governed(&stage, &path, false);
    system.edit(&json!({"mode": "Enforce", "clusterObjects": null})).unwrap();
    eventually(SOON, || {
        let text = stage.admin().get(CONFIGURATION).unwrap().to_string();
        if text.contains(&format!("'{name}'")) { Err(text) } else { Ok(()) }
    });
    wait_governed(&stage, &path, false);
}

#[test]
fn a18_what_controllers_derive_passes_though_a_system_governs_its_kind() {
    let stage = plain_stage("a18e");
    let system = Named(&stage);
    let kinds = json!([{"kind": "Endpoints"}, {"group": "discovery.k8s.io", "kind": "EndpointSlice"},
        {"group": "apps", "kind": "ControllerRevision"}]);
    system.edit(&json!({"governs": {"add": kinds}})).unwrap();
    system.wait("KindsGoverned", "True", "KindsGoverned");
    for (controller, resource, mut object) in [
        (
            "endpointslice-controller",
            "apis/discovery.k8s.io/v1/namespaces/NAMESPACE/endpointslices",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": []}),
        ),
        (
            "endpoint-controller",
            "api/v1/namespaces/NAMESPACE/endpoints",
            json!({"apiVersion": "v1", "kind": "Endpoints"}),
        ),
        (
            "statefulset-controller",
            "apis/apps/v1/namespaces/NAMESPACE/controllerrevisions",
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {"a": "b"}}),
        ),
    ] {
        object["metadata"] = json!({"name": "derived"});
        let path = format!("/{}", resource.replace("NAMESPACE", &stage.namespace));
        eventually(SOON, || match stage.user("bob").post(&path, &object) {
            Err(refusal) if refusal.reason == "NoApprovedChange" => Ok(()),
            Err(refusal) => Err(refusal.to_string()),
            Ok(_) => {
                stage.admin().delete(&format!("{path}/derived")).map_err(|refusal| refusal.to_string())?;
                Err(format!("{resource}: it passed"))
            }
        });
        let user = format!("system:serviceaccount:kube-system:{controller}");
        stage.admin().acting_as(&user, &["system:masters"]).post(&path, &object).unwrap();
    }
}

#[test]
fn what_the_cluster_rests_on_cannot_be_named() {
    let stage = plain_stage("never");
    let system = Named(&stage);
    for add in [
        json!({"group": "coordination.k8s.io", "kind": "Lease"}),
        json!({"kind": "Event"}),
        json!({"kind": "Node"}),
        json!({"group": "interlock.dev", "kind": "ChangeRequest"}),
    ] {
        let refusal = assert_refused(system.edit(&json!({"governs": {"add": [add]}})), 422, "KindForbidden");
        assert!(refusal.message.contains("never governed"), "{refusal}");
    }
    let own = json!([{"group": "interlock.dev", "kind": "System", "name": stage.namespace}]);
    assert_refused(system.edit(&json!({"clusterObjects": own})), 422, "KindForbidden");
}
