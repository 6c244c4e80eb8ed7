//! What a write may do: approved content passes, approved content plus anything is refused with its place.

use serde_json::{Value, json};

use super::super::{GroupKind, Violation, permitted_create, permitted_update, render_short};
use super::{POD, TELLER, deployment_kind, teller, with, without};

/// The approved change: a new image of the teller.
fn approved() -> Value {
    with(teller(), &format!("{TELLER}/image"), json!("teller:1.5.0"))
}

fn places(result: Result<(), Vec<Violation>>) -> Vec<String> {
    result.err().unwrap_or_default().into_iter().map(|violation| violation.path.to_string()).collect()
}

fn update(new: &Value) -> Vec<String> {
    places(permitted_update(&deployment_kind(), &teller(), new, &approved()))
}

fn create(new: &Value) -> Vec<String> {
    places(permitted_create(&deployment_kind(), new, &approved()))
}

#[test]
fn approved_content_passes() {
    let written = with(approved(), "/metadata/resourceVersion", json!("8"));
    let written = with(with(written, "/metadata/generation", json!(4)), "/metadata/managedFields", json!([{}]));
    let written = with(written, &format!("{TELLER}/resources/limits/cpu"), json!("1000m"));
    assert!(update(&written).is_empty());
    assert!(create(&without(written, "/metadata/uid")).is_empty());
    assert!(update(&teller()).is_empty(), "changing nothing needs no permission");
}

#[test]
fn pods_get_nothing_beyond_the_approved_content() {
    let at = |path: &str| format!("{POD}{path}");
    let evil = json!({"name": "evil", "image": "evil:1"});
    let table = [
        (at("/hostNetwork"), json!(true), at("/hostNetwork")),
        (at("/hostPID"), json!(true), at("/hostPID")),
        (at("/serviceAccountName"), json!("admin"), at("/serviceAccountName")),
        (at("/containers/-"), evil.clone(), at("/containers[name=evil]")),
        (at("/initContainers/-"), evil.clone(), at("/initContainers[name=evil]")),
        (at("/ephemeralContainers"), json!([evil]), at("/ephemeralContainers[name=evil]")),
        (at("/containers/1/image"), json!("evil:1"), at("/containers[name=proxy]/image")),
        (at("/containers/0/image"), json!("teller:1.5.1"), at("/containers[name=teller]/image")),
        (
            at("/containers/0/env/-"),
            json!({"name": "LD_PRELOAD", "value": "/x"}),
            at("/containers[name=teller]/env[name=LD_PRELOAD]"),
        ),
        (
            at("/containers/0/securityContext"),
            json!({"privileged": true}),
            at("/containers[name=teller]/securityContext"),
        ),
        (at("/containers/0/command"), json!(["sh"]), at("/containers[name=teller]/command")),
        (at("/volumes"), json!([{"name": "root", "hostPath": {"path": "/"}}]), at("/volumes[name=root]")),
        (at("/tolerations/-"), json!({"operator": "Exists"}), at("/tolerations")),
    ];
    for (pointer, value, place) in table {
        assert_refused(&pointer, value, &place);
    }
}

#[test]
fn objects_get_nothing_beyond_the_approved_content() {
    let table = [
        ("/metadata/ownerReferences", json!([{"uid": "u", "kind": "X"}]), "/metadata/ownerReferences[uid=u]"),
        ("/metadata/finalizers", json!(["evil/x"]), "/metadata/finalizers[=evil/x]"),
        ("/metadata/annotations", json!({"a": "b"}), "/metadata/annotations/a"),
        (
            "/metadata/annotations",
            json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"}),
            "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
        ),
        ("/metadata/labels/app", json!("other"), "/metadata/labels/app"),
        ("/spec/replicas", json!(0), "/spec/replicas"),
        ("/spec/unknownField", json!(0), "/spec/unknownField"),
        ("/apiVersion", json!("apps/v1beta1"), "/apiVersion"),
    ];
    for (pointer, value, place) in table {
        assert_refused(pointer, value, place);
    }
}

fn assert_refused(pointer: &str, value: Value, place: &str) {
    let attack = with(approved(), pointer, value);
    assert_eq!(update(&attack), [place], "update {pointer}");
    assert_eq!(create(&attack), [place], "create {pointer}");
}

#[test]
fn the_identity_stays() {
    assert_eq!(update(&with(approved(), "/metadata/uid", json!("b2"))), ["/metadata/uid"]);
    assert!(update(&with(approved(), "/metadata/name", json!("b2"))).contains(&"/metadata/name".to_owned()));
    assert!(update(&with(approved(), "/metadata/namespace", json!("b2"))).contains(&"/metadata/namespace".to_owned()));
    assert!(!update(&with(approved(), "/kind", json!("DaemonSet"))).is_empty());
    assert!(!create(&json!([])).is_empty() && !update(&Value::Null).is_empty());
    let service = GroupKind::new("", "Service");
    assert!(!places(permitted_create(&service, &approved(), &approved())).is_empty(), "another kind's schema");
}

#[test]
fn a_part_of_the_approved_content_is_not_the_approved_content() {
    let weaker = without(approved(), &format!("{TELLER}/resources"));
    assert_eq!(create(&weaker), [format!("{POD}/containers[name=teller]/resources")]);
    assert_eq!(update(&weaker), [format!("{POD}/containers[name=teller]/resources")]);
    let sidecar = json!({"name": "audit", "image": "audit:1", "securityContext": {"runAsNonRoot": true}});
    let expected = with(teller(), &format!("{POD}/containers/-"), sidecar.clone());
    let written = with(teller(), &format!("{POD}/containers/-"), without(sidecar, "/securityContext"));
    let result = permitted_update(&deployment_kind(), &teller(), &written, &expected);
    assert_eq!(places(result), [format!("{POD}/containers[name=audit]/securityContext")]);
}

#[test]
fn malformed_lists_are_refused() {
    let duplicate = json!({"name": "teller", "image": "evil:1"});
    let double = with(approved(), &format!("{POD}/containers/-"), duplicate);
    assert_eq!(update(&double), [format!("{POD}/containers")]);
    for malformed in
        [json!({"teller": {}}), json!("x"), json!([[]]), json!([{"image": "evil"}]), json!(null), json!([])]
    {
        let attack = with(approved(), &format!("{POD}/containers"), malformed);
        assert!(!update(&attack).is_empty() && !create(&attack).is_empty(), "{attack}");
    }
    for root in ["/metadata", "/spec", POD] {
        for malformed in [json!([]), json!("x"), json!(null), json!({}), json!(1)] {
            let attack = with(approved(), root, malformed);
            assert!(!update(&attack).is_empty() && !create(&attack).is_empty(), "{attack}");
        }
    }
}

#[test]
fn steps_that_run_one_after_the_other_stay_in_their_order() {
    let mut swapped = approved();
    swapped.pointer_mut(&format!("{POD}/initContainers")).unwrap().as_array_mut().unwrap().reverse();
    assert_eq!(update(&swapped), [format!("{POD}/initContainers[order]")]);
    assert_eq!(create(&swapped), [format!("{POD}/initContainers[order]")]);
    let mut containers = approved();
    containers.pointer_mut(&format!("{POD}/containers")).unwrap().as_array_mut().unwrap().reverse();
    assert!(update(&containers).is_empty() && create(&containers).is_empty());
    let first = with(teller(), &format!("{POD}/initContainers/-"), json!({"name": "seal"}));
    let mut late = first.clone();
    late.pointer_mut(&format!("{POD}/initContainers")).unwrap().as_array_mut().unwrap().rotate_right(1);
    let result = permitted_update(&deployment_kind(), &teller(), &late, &first);
    assert_eq!(places(result), [format!("{POD}/initContainers[order]")]);
}

#[test]
fn what_the_server_allocates_may_differ_from_the_dry_run() {
    let kind = GroupKind::new("", "Service");
    let service = |address: &str, node_port: u32| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "teller", "namespace": "teller"},
            "spec": {
                "type": "NodePort", "clusterIP": address, "clusterIPs": [address],
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": node_port}],
            },
        })
    };
    let dry_run = service("10.96.0.7", 30_001);
    assert_eq!(permitted_create(&kind, &service("10.96.0.9", 30_444), &dry_run), Ok(()));
    let places_of = |new: &Value, expected: &Value| places(permitted_create(&kind, new, expected));
    assert_eq!(
        places_of(&service("10.96.0.9", 30_444), &service("None", 30_001)),
        ["/spec/clusterIP", "/spec/clusterIPs"]
    );
    assert_eq!(
        places_of(&with(dry_run.clone(), "/spec/clusterIP", json!("evil.example")), &dry_run),
        ["/spec/clusterIP"]
    );
    assert_eq!(
        places_of(&with(dry_run.clone(), "/spec/externalIPs", json!(["8.8.8.8"])), &dry_run),
        ["/spec/externalIPs"]
    );
    let moved = permitted_update(&kind, &dry_run, &service("10.96.0.7", 30_002), &dry_run);
    assert_eq!(places(moved), ["/spec/ports[port=80,protocol=TCP]/nodePort"]);
}

#[test]
fn a_job_selects_by_its_own_uid_only() {
    let kind = GroupKind::new("batch", "Job");
    let job = |uid: &str, selected: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "migrate", "namespace": "teller", "uid": uid, "labels": {
                "batch.kubernetes.io/controller-uid": selected, "controller-uid": selected,
                "batch.kubernetes.io/job-name": "migrate", "job-name": "migrate",
            }},
            "spec": {
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": selected}},
                "template": {"metadata": {"labels": {
                    "batch.kubernetes.io/controller-uid": selected, "controller-uid": selected,
                    "batch.kubernetes.io/job-name": "migrate", "job-name": "migrate",
                }}},
            },
        })
    };
    assert_eq!(permitted_create(&kind, &job("a1", "a1"), &job("dry", "dry")), Ok(()));
    assert_eq!(places(permitted_create(&kind, &job("a1", "b2"), &job("dry", "dry"))).len(), 5);
    let bare = without(without(job("dry", "dry"), "/spec/selector"), "/spec/template/metadata/labels");
    let bare = without(bare, "/metadata/labels");
    assert_eq!(permitted_create(&kind, &job("a1", "a1"), &bare), Ok(()));
}

fn token_pod(suffix: &str) -> Value {
    let name = format!("kube-api-access-{suffix}");
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "teller", "namespace": "teller"},
        "spec": {
            "containers": [{"name": "teller", "image": "teller:1", "volumeMounts": [
                {"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
            ]}],
            "volumes": [{"name": name, "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ]}}],
        },
    })
}

#[test]
fn a_pods_token_volume_is_known_by_its_content_not_by_its_name() {
    let kind = GroupKind::new("", "Pod");
    assert_eq!(permitted_create(&kind, &token_pod("x7k2p"), &token_pod("abcde")), Ok(()));
    let evil = with(
        token_pod("x7k2p"),
        "/spec/volumes/0",
        json!({"name": "kube-api-access-x7k2p", "hostPath": {"path": "/"}}),
    );
    assert_eq!(
        places(permitted_create(&kind, &evil, &token_pod("abcde"))),
        ["/spec/volumes[name=kube-api-access-x7k2p]"]
    );
    let aimed =
        with(token_pod("x7k2p"), "/spec/volumes/0/projected/sources/0/serviceAccountToken/audience", json!("vault"));
    assert!(permitted_create(&kind, &aimed, &token_pod("abcde")).is_err());
    let refusing = |pod: Value| with(pod, "/spec/automountServiceAccountToken", json!(false));
    let content = without(without(token_pod("abcde"), "/spec/volumes"), "/spec/containers/0/volumeMounts");
    assert_eq!(permitted_create(&kind, &token_pod("x7k2p"), &content), Ok(()));
    assert_eq!(
        places(permitted_create(&kind, &refusing(token_pod("x7k2p")), &refusing(content))),
        [
            "/spec/containers[name=teller]/volumeMounts[mountPath=~1var~1run~1secrets~1kubernetes.io~1serviceaccount]",
            "/spec/volumes[name=kube-api-access-x7k2p]",
        ],
    );
}

#[test]
fn a_namespace_gets_its_finalizer_and_name_label() {
    let kind = GroupKind::new("", "Namespace");
    let content = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vault"}});
    let stored = with(content.clone(), "/spec", json!({"finalizers": ["kubernetes"]}));
    let stored = with(stored, "/metadata/labels", json!({"kubernetes.io/metadata.name": "vault"}));
    assert_eq!(permitted_create(&kind, &stored, &content), Ok(()));
    let evil = with(stored, "/spec/finalizers/-", json!("evil/x"));
    assert!(!places(permitted_create(&kind, &evil, &content)).is_empty());
}

#[test]
fn secret_values_are_never_shown() {
    let kind = GroupKind::new("", "Secret");
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"password": value}});
    let violations = permitted_update(&kind, &secret("b2xk"), &secret("ZXZpbA=="), &secret("bmV3")).unwrap_err();
    assert_eq!(violations[0].to_string(), "/data/password would be (hidden), but (hidden) is approved");
    let config = GroupKind::new("", "ConfigMap");
    let mistaken = permitted_update(&config, &secret("b2xk"), &secret("ZXZpbA=="), &secret("bmV3")).unwrap_err();
    assert!(mistaken.iter().all(|violation| !violation.to_string().contains("ZXZpbA")), "{mistaken:?}");
    let long = render_short(&config, Some(&json!("\u{e9}".repeat(300))));
    assert_eq!(long.chars().count(), 123);
}

#[test]
fn how_often_a_daemon_set_got_another_template_is_for_the_server_to_count() {
    let set = |count: &str, image: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "log", "namespace": "bank", "annotations": {"deprecated.daemonset.template.generation": count}},
            "spec": {"template": {"spec": {"containers": [{"name": "log", "image": image}]}}},
        })
    };
    let kind = GroupKind::new("apps", "DaemonSet");
    let mut before = set("1", "log:1");
    super::super::strip_server_fields(&mut before);
    assert!(before["metadata"].get("annotations").is_none());
    assert!(permitted_update(&kind, &set("2", "log:2"), &set("3", "log:1"), &before).is_ok(), "going back");
    assert!(permitted_create(&kind, &set("1", "log:1"), &before).is_ok());
    assert!(permitted_update(&kind, &set("2", "log:2"), &set("3", "log:3"), &before).is_err());
    let other = with(teller(), "/metadata/annotations", json!({"deprecated.daemonset.template.generation": "7"}));
    assert!(!update(&other).is_empty(), "it is nothing but an annotation elsewhere");
}
