use clap::Parser;
use serde_json::json;

use super::*;

const CANARY: &str = "hunter2-canary";
const ENCODED: &str = "aHVudGVyMi1jYW5hcnk=";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    propose: ProposeArgs,
}

fn args(line: &str) -> ProposeArgs {
    let words = ["x", "-f", "-", "--reason", "CD-1"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words).unwrap().propose
}

fn manifests(line: &str) -> (Vec<Value>, Vec<Staged>) {
    let text = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: db, namespace: shop, annotations: {{\
         kubectl.kubernetes.io/last-applied-configuration: '{{\"stringData\":{{\"password\":\"{CANARY}\"}}}}'}}}}, \
         stringData: {{password: {CANARY}}}}}\n---\n\
         {{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: shop}}, data: {{x: '1'}}}}"
    );
    let mut objects = manifests::documents("a.yaml", &text).unwrap();
    place::operate(&mut objects, args(line).operation()).unwrap();
    let (staged, _) = staging::take(&mut objects, "shop").unwrap();
    (objects, staged)
}

#[test]
fn a_request_holds_names_and_keys_of_secrets_and_no_value() {
    for line in ["", "--delete"] {
        let (objects, staged) = manifests(line);
        let mut spec = draft(&args(line), objects, &staged, "alice".to_owned());
        spec.content.secret_refs = references(&staged, "release");
        let text = serde_json::to_string(&ChangeRequest::new("release", spec.clone())).unwrap();
        assert!(!text.contains(CANARY) && !text.contains(ENCODED), "{text}");
        let content = Content::parse(&spec, "shop").unwrap();
        let sent = format!("{:?}", with_values(&content.objects, &staged));
        assert_eq!(sent.contains(ENCODED), line.is_empty(), "only what is sent to the API server holds the value");
    }
}

#[test]
fn the_content_digest_does_not_depend_on_names_or_uids_of_staged_secrets() {
    let digest = |change: &str| {
        let (objects, staged) = manifests("");
        let mut spec = draft(&args(""), objects, &staged, "alice".to_owned());
        spec.content.secret_refs = vec![staged[0].reference(change, 1, Some("6c0f"))];
        Content::parse(&spec, "shop").unwrap().digest
    };
    assert_eq!(digest("a"), digest("b"));
}

#[test]
fn the_request_states_what_the_line_says() {
    let (objects, staged) = manifests("");
    let line = "--title T --type standard --on-failure pause --depends-on cr/first --expires-at 2026-12-01T00:00:00+08:00 --rollout-plan careful";
    let spec = serde_json::to_value(draft(&args(line), objects, &staged, "alice".to_owned())).unwrap();
    assert_eq!(
        spec,
        json!({
            "title": "T", "reason": "CD-1", "requester": "alice", "type": "Standard",
            "content": {
                "manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}, "data": {"x": "1"}}],
                "secretRefs": [{"name": "proposal-staged-1", "uid": "00000000-0000-0000-0000-000000000000", "target": "db", "keys": ["password"], "type": "Opaque"}],
            },
            "rolloutPlanRef": {"name": "careful"},
            "contingency": {"onFailure": "Pause"},
            "schedule": {"expiresAt": "2026-11-30T16:00:00Z"},
            "dependsOn": [{"name": "first"}],
            "progressDeadline": "10m",
        })
    );
}

#[test]
fn without_an_answer_nothing_is_proposed() {
    assert!(matches!(may_ask(&args("")), Err(CliError::Usage(_))), "standard input holds the manifests");
    assert!(!may_ask(&args("--yes")).unwrap());
    assert!(!may_ask(&args("--dry-run")).unwrap());
}
