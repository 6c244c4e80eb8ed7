//! D18: the certificate, its seal, and what tampering does to it.

use interlock_crds::DrillRun;
use serde_json::{Value, json};

use super::{
    drill_spec,
    world::{RUN, Script, UID, World},
};
use crate::{
    drill::{
        certificate::{CertificateError, Sealed, config_map, content, is_stored, seal, verify},
        html,
        objects::RunRef,
    },
    object::canonical_json,
    seal::SealKey,
};

fn run(change: impl FnOnce(&mut World)) -> DrillRun {
    let mut world = World::new(Script::good());
    change(&mut world);
    world.run(3_000, None);
    let run = json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "DrillRun",
        "metadata": {"name": RUN, "namespace": "teller", "uid": UID}, "spec": world.spec, "status": world.status,
    });
    serde_json::from_value(run).unwrap()
}

fn sealed() -> (Sealed, SealKey) {
    let key = SealKey::from_seed(&[7; 32]).unwrap();
    let content = content(&run(|_| ()), "teller", "0.1.0").unwrap();
    (seal(RUN, &content, &key).unwrap(), key)
}

#[test]
fn d18_a_certificate_says_what_an_auditor_needs_and_no_query() {
    let (sealed, key) = sealed();
    let found = verify(&sealed.json, key.public()).unwrap();
    assert_eq!(verify(&sealed.html, key.public()).unwrap(), found);
    let at = |path: &str| found.pointer(path).cloned().unwrap_or(Value::Null);
    assert_eq!(at("/evidence/chosen/snapshotId"), "snapshot-1");
    assert_eq!(at("/evidence/rto/seconds"), 510);
    assert_eq!((at("/evidence/rpo/objectiveSeconds"), at("/evidence/rpo/atMostSeconds")), (json!(3_600), json!(20)));
    assert_eq!(at("/evidence/validations/0/number"), "1500");
    assert_eq!(at("/evidence/isolation/inside"), "Blocked");
    assert_eq!(at("/evidence/segments").as_array().unwrap().len(), 5);
    assert_eq!((at("/evidence/verdict"), at("/faultInjection")), (json!("Passed"), Value::Null));
    for digest in [
        "/evidence/pinned/specDigest",
        "/evidence/pinned/policyDigest",
        "/evidenceDigest",
        "/evidence/validations/0/queryDigest",
    ] {
        assert!(at(digest).as_str().unwrap().starts_with("sha256:"), "{digest}");
    }
    assert!(!sealed.json.contains("select count"), "queries stay with their owner");
    assert!(sealed.reference.digest.starts_with("sha256:") && sealed.reference.key_id == key.id());
    for said in [
        "510 s, objective 900 s, met",
        "10 s (0 to 20), objective 3600 s, met",
        "accounts (critical)",
        "Passed: Complete",
    ] {
        assert!(sealed.html.contains(said), "{said}");
    }
}

#[test]
fn d18_a_changed_byte_anywhere_in_either_file_is_found() {
    let (sealed, key) = sealed();
    for file in [&sealed.json, &sealed.html] {
        for at in 0..file.len() {
            // Every byte of what is cheap to try, and a spread of the rest.
            if file.len() > 4_000 && at % 13 != 0 && at % 997 != 0 {
                continue;
            }
            let mut bytes = file.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(verify(&changed, key.public()).is_err(), "byte {at} of {}", file.len());
        }
        assert!(verify(&format!("{file} "), key.public()).is_err(), "a blank at the end");
        assert!(verify(&file.replacen(':', ": ", 1), key.public()).is_err());
        assert!(verify(&file.replace("Passed", "Failed"), key.public()).is_err());
    }
    let shown = sealed.html.replacen("510 s, objective", "51 s, objective", 1);
    assert_eq!(verify(&shown, key.public()).unwrap_err(), CertificateError::Changed, "the page and not the JSON");
    // What stands beside the certificate is not sealed, however well it is written.
    let mut more: Value = serde_json::from_str(&sealed.json).unwrap();
    more["note"] = json!("approved by the auditor");
    let json = String::from_utf8(canonical_json(&more).unwrap()).unwrap();
    let html = html::page(&json, &more["certificate"], key.id());
    for file in [json, html] {
        assert_eq!(verify(&file, key.public()).unwrap_err(), CertificateError::Changed, "a member more");
    }
}

#[test]
fn d18_another_key_version_or_file_is_not_believed() {
    let (sealed, key) = sealed();
    let other = SealKey::from_seed(&[8; 32]).unwrap();
    assert!(matches!(verify(&sealed.json, other.public()), Err(CertificateError::OtherKey { .. })));
    let renamed = sealed.json.replace(key.id(), other.id());
    assert_eq!(verify(&renamed, other.public()).unwrap_err(), CertificateError::Broken);
    let mut later: Value = serde_json::from_str(&sealed.json).unwrap();
    later["certificate"]["version"] = json!(2);
    assert_eq!(verify(&later.to_string(), key.public()).unwrap_err(), CertificateError::Version(2));
    for nothing in ["", "{}", "<html></html>", "{\"certificate\": 1}"] {
        assert!(matches!(verify(nothing, key.public()), Err(CertificateError::Malformed(_))), "{nothing}");
    }
}

#[test]
fn what_a_run_says_cannot_become_part_of_the_page() {
    let key = SealKey::from_seed(&[7; 32]).unwrap();
    let hostile = "</script><script>alert(1)</script><!--";
    let run = run(|world| {
        world.drill = drill_spec(|spec| spec["validations"][0]["name"] = json!(hostile));
    });
    let sealed = seal(RUN, &content(&run, "teller", "0.1.0").unwrap(), &key).unwrap();
    assert_eq!(sealed.html.matches("<script").count(), 1, "the sealed JSON alone");
    assert!(!sealed.html.contains("<!--") && sealed.html.contains("&lt;script&gt;alert(1)"));
    assert_eq!(verify(&sealed.html, key.public()), verify(&sealed.json, key.public()));
    assert!(verify(&sealed.html, key.public()).is_ok());
}

#[test]
fn d18_a_config_map_with_another_content_is_not_the_one_that_was_recorded() {
    let (sealed, _) = sealed();
    let map = config_map(&RunRef { name: RUN, uid: UID, namespace: "teller" }, &sealed);
    assert!(is_stored(&map, &sealed.reference));
    let mut other = map.clone();
    other["data"]["certificate.json"] = json!(sealed.json.replace("Passed", "Failed"));
    assert!(!is_stored(&other, &sealed.reference) && !is_stored(&json!({"data": null}), &sealed.reference));
}

#[test]
fn a_run_without_verdict_has_no_certificate() {
    let mut run = run(|_| ());
    run.status.as_mut().unwrap().verdict = None;
    assert_eq!(content(&run, "teller", "0.1.0").unwrap_err(), CertificateError::NoVerdict);
}
