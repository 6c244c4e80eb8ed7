//! What the schemas themselves refuse, without any webhook: every rule in them, with its message.

use std::{collections::BTreeSet, fs, path::Path};

use interlock_tests::{Stage, config_map, deployment_image, eventually, path_of, world, world::SOON};
use serde_json::{Value, json};

use crate::rules_of_backups;

/// The messages of all rules in the definitions.
fn messages() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/yaml");
    let mut found = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        collect(&serde_saphyr::from_str::<Value>(&text).unwrap(), &mut found);
    }
    found
}

fn collect(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                found.insert(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// One object for each rule that an object can break when it is created.
#[allow(clippy::too_many_lines, reason = "a table")]
fn offenders(stage: &Stage<'_>) -> Vec<(&'static str, Value)> {
    let mut list = Vec::new();
    let calendar = |period: Value| object("Calendar", "c", json!({"timeZone": "UTC", "windows": [period]}));
    let either = "give either schedule and duration, or from and until";
    list.push((either, calendar(json!({"name": "w", "schedule": "0 0 * * *"}))));
    list.push((
        either,
        calendar(json!({"name": "w", "schedule": "0 0 * * *", "duration": "1h", "from": "2027-01-01T00:00"})),
    ));
    list.push((
        "until must be later than from",
        calendar(json!({"name": "w", "from": "2027-01-02T00:00", "until": "2027-01-01T00:00"})),
    ));
    list.push((
        "give displayName in en, zh or both",
        object("Person", "p", json!({"displayName": {}, "identities": ["p"]})),
    ));
    list.push((
        "an identity of a person cannot be a system: user or a ServiceAccount: these are machines",
        object("Person", "p", json!({"displayName": {"en": "p"}, "identities": ["system:serviceaccount:a:b"]})),
    ));
    let system = |name: &str, field: &str, value: Value| {
        let mut spec = json!({"tier": "Low", "policyRef": {"name": "p"}});
        spec[field] = value;
        object("System", name, spec)
    };
    list.push((
        "kube-system, kube-public and kube-node-lease cannot be governed: a mistake there would stop the cluster",
        system("s", "namespaces", json!(["kube-public"])),
    ));
    list.push((
        "the name of a System is used as a label value: at most 63 characters",
        system(&"s".repeat(64), "tier", json!("Low")),
    ));
    list.push((
        "type Interlock needs serviceAccount and no users; type External needs users and no serviceAccount",
        system("s", "executor", json!({"type": "Interlock", "users": ["u"]})),
    ));
    let policy = |types: Value| object("ChangePolicy", "p", json!({"types": types}));
    list.push(("allow at least one type of change: normal, standard or emergency", policy(json!({}))));
    let approvals = json!({"thresholds": [{"name": "t", "count": 1, "groups": ["g"]}]});
    list.push((
        "name the groups or the users that may issue this evidence",
        policy(json!({"normal": {"approvals": approvals, "evidence": [{"kind": "TestReport", "issuers": {}}]}})),
    ));
    let allow = |rule: Value| {
        let mut diff = json!({"group": "apps", "kind": "Deployment", "path": "/spec/replicas"});
        diff.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        policy(json!({"standard": {"templates": [{"name": "t", "allow": [diff]}]}}))
    };
    list.push(("give exactly one of range, imageTag and values", allow(json!({}))));
    list.push((
        "give exactly one of range, imageTag and values",
        allow(json!({"imageTag": "SameMinor", "values": ["a"]})),
    ));
    list.push(("min must not be greater than max", allow(json!({"range": {"min": 3, "max": 2}}))));
    let map = || stage.placed(config_map("web", &[]));
    let request = |name: &str, manifests: Vec<Value>, more: Value| {
        let mut request = stage.request("alice", name, manifests);
        for (field, value) in more.as_object().unwrap() {
            request["spec"][field] = value.clone();
        }
        request
    };
    list.push((
        "the name of a ChangeRequest is part of other names: at most 200 characters",
        request(&"c".repeat(201), vec![map()], json!({"title": "long"})),
    ));
    list.push((
        "give either content.manifests (or secretRefs) or content.git",
        request("c", vec![map()], json!({"content": {}})),
    ));
    list.push((
        "expiresAt must be later than notBefore",
        request(
            "c",
            vec![map()],
            json!({"schedule": {"notBefore": "2027-01-02T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z"}}),
        ),
    ));
    list.push((
        "write the objects one by one: a List cannot be an item of manifests",
        request(
            "c",
            vec![json!({"apiVersion": "v1", "kind": "List", "metadata": {"name": "l"}, "items": []})],
            json!({}),
        ),
    ));
    list.push((
        "every manifest needs metadata.name: generateName would make another object at each try",
        request(
            "c",
            vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}})],
            json!({}),
        ),
    ));
    let placed = |kind: &str, spec: Value| stage.placed(object(kind, "x", spec));
    let uid = "00000000-0000-0000-0000-000000000000";
    list.push((
        "only a ChangeRequest or a Rollout can be commanded",
        placed(
            "Action",
            json!({"target": {"kind": "System", "name": "r", "uid": uid}, "verb": "Abort", "actor": "alice"}),
        ),
    ));
    let digest = format!("sha256:{}", "a".repeat(64));
    list.push((
        "give exactly one of contentDigest and artifactDigest",
        placed(
            "Evidence",
            json!({"kind": "TestReport", "result": "Passed", "issuer": "alice",
            "subject": {"contentDigest": digest, "artifactDigest": digest}}),
        ),
    ));
    list
}

/// The same for RolloutPlans.
fn offending_plans(stage: &Stage<'_>) -> Vec<(&'static str, Value)> {
    let plan = |spec: Value| stage.placed(object("RolloutPlan", "x", spec));
    let steps = |step: Value| plan(json!({"canary": {"steps": [step]}}));
    let analysis = |fields: Value| {
        let mut analysis = json!({"name": "errors"});
        analysis.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        plan(json!({"canary": {"steps": [{"setWeight": 20}]}, "analyses": [analysis]}))
    };
    let prometheus = |address: &str, more: Value| {
        let mut metric = json!({"address": address, "query": "errors{track=\"{{track}}\"}"});
        metric.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        metric
    };
    let asked = |address: &str, more: Value| {
        analysis(json!({"successWhen": "result < 1", "prometheus": prometheus(address, more)}))
    };
    let http = |more: Value| {
        let mut metric = json!({"url": "http://web:8080/health"});
        metric.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        analysis(json!({ "http": metric }))
    };
    let (plain, secure) = ("http://prometheus:9090", "https://prometheus:9090");
    let job = json!({"spec": {"template": {}}});
    vec![
        ("give exactly one of canary, blueGreen, batches and waves", plan(json!({}))),
        (
            "without a route weight is by pods added to the old ones: setWeight is 1 to 50, or 100; name a route for other weights",
            steps(json!({"setWeight": 70})),
        ),
        ("headerMatch and mirror need a route", steps(json!({"mirror": {}}))),
        (
            "blueGreen moves all traffic at once: setWeight, headerMatch and mirror belong to canary",
            plan(json!({"blueGreen": {"service": "web", "steps": [{"setWeight": 5}]}})),
        ),
        (
            "previewService must be another Service than service",
            plan(json!({"blueGreen": {"service": "web", "previewService": "web"}})),
        ),
        ("headerMatch and mirror belong to canary", plan(json!({"batches": {"steps": [{"mirror": {}}]}}))),
        (
            "a wave has exactly one of canary, blueGreen and batches",
            plan(json!({"waves": [{"name": "first", "targets": [{"kind": "Deployment", "name": "web"}]}]})),
        ),
        (
            "a step does exactly one thing: setWeight, setReplicas, pause, analysis, headerMatch, mirror, job, signOff or gate",
            steps(json!({"setWeight": 5, "pause": {}})),
        ),
        ("give exactly one of prometheus, http, job and compare", analysis(json!({}))),
        (
            "say what the value must be: successWhen, failWhen or both",
            analysis(json!({"prometheus": prometheus(plain, json!({}))})),
        ),
        (
            "successWhen and failWhen look at values: they belong to prometheus and http; a job succeeds when it completes, and compare has a test",
            analysis(json!({"successWhen": "true", "job": job})),
        ),
        (
            "failureLimit must be less than count, or the analysis could never fail",
            analysis(json!({"count": 2, "failureLimit": 2, "job": job})),
        ),
        ("credentials are sent over https only", asked(plain, json!({"secretRef": {"name": "s"}}))),
        ("tls needs an address that begins with https://", asked(plain, json!({"tls": {}}))),
        (
            "give caConfigMapRef or caSecretRef, not both",
            asked(secure, json!({"tls": {"caConfigMapRef": {"name": "a"}, "caSecretRef": {"name": "b"}}})),
        ),
        (
            "this header is not free: credentials belong into the Secret of secretRef, the others follow from the request",
            asked(plain, json!({"headers": [{"name": "Authorization", "value": "x"}]})),
        ),
        ("credentials are sent over https only", http(json!({"secretRef": {"name": "s"}}))),
        ("tls needs a url that begins with https://", http(json!({"tls": {}}))),
        ("a body needs method POST", http(json!({"body": "{}"}))),
        (
            "compare takes its samples since the analysis began: metric.range has no meaning here",
            analysis(
                json!({"compare": {"metric": prometheus(plain, json!({"range": {"window": "1m", "step": "10s"}}))}}),
            ),
        ),
        (
            "the query must tell the versions apart: use {{track}} or {{hash}} in it, or give a baselineQuery",
            analysis(json!({"compare": {"metric": prometheus(plain, json!({"query": "latency"}))}})),
        ),
    ]
}

#[test]
fn every_rule_of_the_schemas_refuses_with_its_message() {
    let stage = Stage::new("rules");
    let alice = stage.user("alice");
    let mut seen = BTreeSet::new();
    for (message, offender) in
        offenders(&stage).into_iter().chain(offending_plans(&stage)).chain(rules_of_backups::offenders(&stage))
    {
        let refusal = alice.create(&offender).err().unwrap_or_else(|| panic!("accepted: {offender:#}"));
        assert_eq!(refusal.code, 422, "{refusal}");
        assert!(refusal.message.contains(message), "expected {message:?}: {refusal}");
        seen.insert(message.to_owned());
    }
    // Those that an object can only break when it is changed.
    let change = stage.propose("alice", "kept", vec![config_map("web", &[])]);
    let digest = change.digest();
    let vote = stage.user("bob").create(&change.ballot("bob", "Approve", &digest)).unwrap();
    let command = change.act("alice", "Rebase").unwrap();
    let evidence = stage.placed(object(
        "Evidence",
        "e",
        json!({"kind": "TestReport", "result": "Failed", "issuer": "bob",
        "subject": {"contentDigest": digest}}),
    ));
    let evidence = stage.user("bob").create(&evidence).unwrap();
    let plan =
        stage.placed(object("RolloutPlan", "slow", json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}})));
    alice.create(&plan).unwrap();
    let content = vec![deployment_image("web", "web:2.0.0")];
    let release = stage.propose_with("alice", "release", content, json!({"rolloutPlanRef": {"name": "slow"}}));
    release.approve(&["bob", "carol"]);
    let rollout = eventually(SOON, || {
        let found = stage.get("rollouts")["items"][0].clone();
        if found.is_object() { Ok(found) } else { Err(format!("{:#}", release.status())) }
    });
    let admin = world().admin();
    let kept = rules_of_backups::kept().into_iter().map(|(message, object, spec)| {
        let _earlier = admin.delete(&path_of(&object));
        (message, admin.create(&object).unwrap(), spec)
    });
    let changed = [
        (
            "a Rollout cannot be changed: it runs on what was approved; command it with `interlock rollout`, or propose a new change",
            rollout,
            json!({"plan": {"progressDeadline": "1m"}}),
        ),
        ("requester cannot be changed: propose a new change instead", change.get(), json!({"requester": "bob"})),
        (
            "an Approval cannot be changed: delete it to withdraw the vote, then vote again",
            vote,
            json!({"decision": "Reject"}),
        ),
        ("an Action cannot be changed: it is a record of what was commanded", command, json!({"verb": "Abort"})),
        ("Evidence cannot be changed: create a new one", evidence, json!({"result": "Passed"})),
    ];
    for (message, stored, spec) in changed.into_iter().chain(kept) {
        let refusal = world().admin().merge(&path_of(&stored), &json!({"spec": spec})).unwrap_err();
        assert_eq!(refusal.code, 422, "{refusal}");
        assert!(refusal.message.contains(message), "expected {message:?}: {refusal}");
        seen.insert(message.to_owned());
    }
    assert_eq!(seen, messages(), "rules that were not tried, or are no longer there");
}
