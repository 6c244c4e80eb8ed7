//! Kubernetes objects as a source.

use interlock_crds::{Backup, BackupPhase, GroupKind, ObjectsSource, SystemSpec};
use serde_json::{Value, json};

use crate::admission::webhooks;
use crate::backup::{
    objects::{MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, holds, is_kept, kinds, may_remove, may_store, pack, record},
    outcome::Reason,
};

fn system(governs: &Value) -> SystemSpec {
    serde_json::from_value(
        json!({"tier": "Medium", "namespaces": ["teller"], "policyRef": {"name": "bank"}, "governs": governs}),
    )
    .unwrap()
}

fn source(value: Value) -> ObjectsSource {
    serde_json::from_value(value).unwrap()
}

fn object(kind: &str, name: &str, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": "teller", "uid": "u", "resourceVersion": "7"},
        "status": {"phase": "x"},
    });
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

#[test]
fn every_kind_that_is_governed_by_default_is_read() {
    let wanted = kinds(&system(&json!({})), &source(json!({"includeSecrets": true})));
    let plural = |kind: &str| {
        let lower = kind.to_lowercase();
        match lower.as_str() {
            "ingress" => "ingresses".to_owned(),
            _ if lower.ends_with('y') => format!("{}ies", lower.trim_end_matches('y')),
            _ => format!("{lower}s"),
        }
    };
    let read: Vec<_> = wanted.iter().map(|w| (w.kind.group.clone(), plural(&w.kind.kind))).collect();
    for resource in webhooks::by_default().into_iter().filter(|resource| !resource.resource.contains('/')) {
        assert!(read.contains(&(resource.group.clone(), resource.resource.clone())), "{resource}");
    }
    assert_eq!(read.len(), webhooks::by_default().iter().filter(|r| !r.resource.contains('/')).count());
}

#[test]
fn kinds_are_those_of_the_system_with_the_policys_difference() {
    let kind = |group: &str, kind: &str| GroupKind { group: group.into(), kind: kind.into() };
    let governs = json!({
        "add": [{"group": "cert-manager.io", "kind": "Certificate"}],
        "remove": [{"group": "networking.k8s.io", "kind": "NetworkPolicy"}],
    });
    let of =
        source(json!({"add": [{"group": "x.io", "kind": "Y"}], "exclude": [{"group": "apps", "kind": "ReplicaSet"}]}));
    let wanted = kinds(&system(&governs), &of);
    let named = |wanted_kind: &GroupKind| wanted.iter().find(|w| w.kind == *wanted_kind).map(|w| w.named);
    assert_eq!(named(&kind("cert-manager.io", "Certificate")), Some(true));
    assert_eq!(named(&kind("x.io", "Y")), Some(true));
    assert_eq!(named(&kind("apps", "Deployment")), Some(false));
    for absent in [kind("networking.k8s.io", "NetworkPolicy"), kind("apps", "ReplicaSet"), kind("", "Secret")] {
        assert_eq!(named(&absent), None, "{absent:?}");
    }
}

#[test]
fn secrets_are_read_in_the_namespace_of_the_policy_alone() {
    let mut system = system(&json!({}));
    system.namespaces = vec!["teller".into(), "ledger".into(), "teller-2".into()];
    let wanted = kinds(&system, &source(json!({"includeSecrets": true, "add": [{"group": "x.io", "kind": "Secret"}]})));
    let mut secrets = 0;
    for wanted in wanted {
        let read = wanted.namespaces(&system, "teller");
        if wanted.kind.group.is_empty() && wanted.kind.kind == "Secret" {
            assert_eq!(read, ["teller"], "whoever reads Secrets in teller reads no others with them");
            secrets += 1;
        } else {
            assert_eq!(read, ["teller", "ledger", "teller-2"], "{wanted:?}");
        }
    }
    assert_eq!(secrets, 1);
}

#[test]
fn what_controllers_made_is_left_out() {
    let made = json!({"metadata": {"name": "p", "ownerReferences": [{"controller": true}]}});
    assert!(!is_kept(&object("Pod", "p", &made)));
    assert!(!is_kept(&object("ConfigMap", "kube-root-ca.crt", &json!({}))));
    assert!(!is_kept(&object("Secret", "s", &json!({"type": "interlock.dev/backup-objects"}))));
    assert!(is_kept(&object("Pod", "p", &json!({}))));
    assert!(is_kept(&object("ConfigMap", "c", &json!({}))));
}

#[test]
fn manifests_are_packed_the_same_in_any_order_and_without_what_the_server_wrote() {
    let big = json!({"data": {"x": "y".repeat(MAX_CHUNK_BYTES / 3)}});
    let objects: Vec<_> = (0..5).map(|at| object("ConfigMap", &format!("c{at}"), &big)).collect();
    let chunks = pack(objects.clone()).unwrap();
    assert!(chunks.len() >= 3, "{}", chunks.len());
    let mut turned = objects;
    turned.reverse();
    assert_eq!(pack(turned).unwrap(), chunks);
    let announced = record(&chunks, None);
    assert_eq!((announced.manifests, announced.chunks.len()), (5, chunks.len()));
    assert_eq!(announced.secrets as usize, chunks.len());
    let secret = chunks[0].secret("teller", "run", "run-1", 0);
    assert!(holds(&secret, &announced, 0) && !holds(&secret, &announced, 1));
    let names: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names[0], "ConfigMap_teller_c0.json");
    let text = secret["data"]["ConfigMap_teller_c0.json"].as_str().unwrap();
    let text = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
    let manifest: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(manifest["metadata"], json!({"name": "c0", "namespace": "teller"}));
    assert_eq!(manifest.get("status"), None);
    let fewer = record(&chunks[..1], Some(&announced));
    assert_eq!((fewer.chunks.len(), fewer.secrets as usize), (1, chunks.len()), "what there may be is taken away");
}

#[test]
fn names_of_files_are_told_apart_whatever_stands_in_them() {
    let role = |name: &str| object("ClusterRole", name, &json!({"metadata": {"name": name}}));
    let chunks = pack(vec![role("system:a"), role("system_a"), role(&"x".repeat(253))]).unwrap();
    let secret = chunks[0].secret("teller", "run", "run-1", 0);
    let names: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let fits =
        |name: &String| name.len() <= 253 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    assert!(names.iter().all(fits), "{names:?}");
}

#[test]
fn nothing_and_too_much_fail_with_a_reason() {
    assert_eq!(pack(vec![]).unwrap_err().reason, Reason::EmptySource);
    let huge = object("ConfigMap", "c", &json!({"data": {"x": "y".repeat(MAX_MANIFEST_BYTES)}}));
    let why = pack(vec![huge]).unwrap_err();
    assert_eq!(why.reason, Reason::TooLarge);
    assert!(why.message.contains("ConfigMap_teller_c.json") && why.message.contains("exclude"), "{}", why.message);
    let many = (0..5_001).map(|at| object("ConfigMap", &format!("c{at}"), &json!({}))).collect();
    assert!(pack(many).unwrap_err().message.contains("5001 objects"));
    let large = json!({"data": {"x": "y".repeat(MAX_CHUNK_BYTES - 400)}});
    let many = (0..65).map(|at| object("ConfigMap", &format!("c{at}"), &large)).collect();
    assert!(pack(many).unwrap_err().message.contains("65 Secrets"));
}

#[test]
fn the_webhook_lets_exactly_the_announced_secrets_pass() {
    let chunks = pack(vec![object("ConfigMap", "c", &json!({}))]).unwrap();
    let secret = chunks[0].secret("teller", "run", "run-1", 0);
    let mut backup: Backup = serde_json::from_value(json!({
        "metadata": {"name": "run", "namespace": "teller", "uid": "run-1"},
        "spec": {"policyRef": {"name": "p"}, "requester": "x"},
        "status": {"phase": "Pending", "job": {"name": "run"}},
    }))
    .unwrap();
    assert!(!may_store(&secret, &backup), "it was not announced");
    backup.status.as_mut().unwrap().objects = Some(record(&chunks, None));
    assert!(may_store(&secret, &backup));
    let mut forged = secret.clone();
    forged["data"]["ConfigMap_teller_c.json"] = json!("Zm9yZ2Vk");
    assert!(!may_store(&forged, &backup));
    let mut more = secret.clone();
    more["metadata"]["annotations"] = json!({"x": "y"});
    assert!(!may_store(&more, &backup));
    let elsewhere = chunks[0].secret("teller", "run", "run-1", 1);
    assert!(!may_store(&elsewhere, &backup));
    assert!(!may_remove(&secret, Some(&backup)), "the run needs it");
    assert!(may_remove(&forged, Some(&backup)), "of an earlier attempt");
    backup.status.as_mut().unwrap().phase = BackupPhase::Succeeded;
    assert!(may_remove(&secret, Some(&backup)) && !may_store(&secret, &backup));
    assert!(may_remove(&secret, None));
    assert!(!may_remove(&json!({"type": "Opaque", "metadata": {"name": "run-objects-0"}}), None));
}
