//! Requests that cannot be carried out: each gets a clear answer, at once or while it waits.

use interlock_tests::{
    Options, Stage, config_map, deployment, eventually,
    objects::operation,
    patch_of, path_of,
    stage::policy_of,
    world::{SOON, condition},
};
use serde_json::{Value, json};

use crate::assert_refused;

fn one_vote() -> Options {
    Options { policy: policy_of(1, "sre"), ..Options::default() }
}

fn governor(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Name, manifests and further fields of a request; reason and message of the refusal.
type Bad = (&'static str, (Vec<Value>, Value), &'static str, &'static str);

#[test]
fn requests_that_nobody_could_carry_out_are_refused() {
    let mut options = one_vote();
    options.system = json!({"allowedServiceAccounts": ["web"]});
    let stage = Stage::with("bad", options);
    let with_account = |account: &str| {
        let mut object = deployment("other", "web:1");
        object["spec"]["template"]["spec"]["serviceAccountName"] = json!(account);
        object
    };
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"password": "hunter2"}});
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "interlock", "namespace": null}});
    let interlocks =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "interlock-system"}});
    let vote = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Approval", "metadata": {"name": "x"}});
    let person = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Person", "metadata": {"name": "x"}});
    let odd = operation(config_map("web", &[]), "Destroy");
    let manifests = |objects: Vec<Value>| (objects, json!({}));
    let table: Vec<Bad> = vec![
        ("outside", manifests(vec![elsewhere]), "OutsideSystem", "namespace default does not belong"),
        ("secret", manifests(vec![secret]), "InlineSecret", "interlock propose"),
        ("account", manifests(vec![with_account("admin")]), "ServiceAccountNotAllowed", "allowedServiceAccounts"),
        ("webhook", manifests(vec![webhook]), "NeverContent", "never content"),
        ("own-namespace", manifests(vec![interlocks]), "NeverContent", "never content"),
        ("vote", manifests(vec![vote]), "NeverContent", "never content"),
        ("person", manifests(vec![person]), "OnlyRoot", "interlock-root"),
        ("operation", manifests(vec![odd]), "BadOperation", "write Apply, Patch or Delete"),
        ("twice", manifests(vec![config_map("web", &[]), config_map("web", &[])]), "Duplicate", "stands twice"),
        ("large", manifests(vec![config_map("web", &[("a", &"x".repeat(210 * 1024))])]), "TooLarge", "at most 204800"),
        (
            "itself",
            (vec![config_map("web", &[])], json!({"dependsOn": [{"name": "itself"}]})),
            "Cycle",
            "depends on itself",
        ),
        (
            "milestone",
            (vec![config_map("web", &[])], json!({"milestone": {"project": "p", "name": "m"}})),
            "NotSupportedYet",
            "milestone",
        ),
        (
            "git",
            (vec![], json!({"content": {"git": {"sourceRef": {"name": "s"}, "commit": "a".repeat(40), "path": "."}}})),
            "NotSupportedYet",
            "content.git",
        ),
    ];
    for (name, (objects, more), reason, text) in table {
        let refusal = stage.refused(name, objects, more);
        assert_eq!((refusal.code, refusal.reason.as_str()), (422, reason), "{name}: {refusal}");
        assert!(refusal.message.contains(text), "{name}: {refusal}");
        assert!(!stage.exists(&format!("changerequests/{name}")));
        assert!(!refusal.message.contains("hunter2"));
    }
    stage.propose("alice", "good", vec![with_account("web")]);
}

#[test]
fn five_thousand_objects_are_too_many() {
    let stage = Stage::with("many", one_vote());
    let objects = |count: usize| (0..count).map(|i| config_map(&format!("c{i}"), &[])).collect::<Vec<_>>();
    let refusal = stage.refused("many", objects(5_000), json!({}));
    assert_eq!(refusal.code, 422, "{refusal}");
    assert!(refusal.message.contains("must have at most 200 items"), "{refusal}");
    let most = stage.propose("alice", "most", objects(200));
    most.digest();
    let change = stage.propose("alice", "thirty", objects(30));
    change.approve(&["bob"]);
    change.wait("Succeeded");
    assert!(stage.exists("configmaps/c29"));
}

#[test]
fn unknown_fields_are_named() {
    let stage = Stage::with("unknown", one_vote());
    let mut request = stage.request("alice", "unknown", vec![config_map("web", &[])]);
    request["spec"]["aproved"] = json!(true);
    let (well, text) = stage.world.kubectl("alice", &["create", "-f", "-"], &request.to_string());
    assert!(!well && text.contains("unknown field \"spec.aproved\""), "{text}");
    // In a manifest, the dry run finds it: before anything is written, with the server's own words.
    let change = stage.propose(
        "alice",
        "typo",
        vec![patch_of(json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": {"replcas": 3}}))],
    );
    change.approve(&["bob"]);
    let gate = change.wait_gate("Preflight", "Refused");
    assert!(gate["message"].as_str().unwrap().contains("spec.replcas"), "{gate}");
    assert_eq!(change.phase(), "Pending");
}

#[test]
fn a_wrong_kind_is_named() {
    let stage = Stage::with("kind", one_vote());
    let change = stage.propose(
        "alice",
        "wrong",
        vec![json!({"apiVersion": "apps/v1", "kind": "Deploymnt", "metadata": {"name": "web"}})],
    );
    let status = change.until("a message", |s| s["message"].as_str().is_some_and(|m| m.contains("Deploymnt")));
    assert_eq!(status["phase"], "Pending", "{status:#}");
    // Kinds are looked up again, so that it goes on when the definition arrives; others are not held up.
    let other = stage.propose("alice", "right", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    other.approve(&["bob"]);
    other.wait("Succeeded");
}

/// A right of the executor in every namespace. Roles of the stage itself are governed like everything in it.
fn everywhere(stage: &Stage<'_>, name: &str, group: &str, resource: &str) -> [Value; 2] {
    let name = format!("{}-{name}", stage.namespace);
    let kind =
        |kind: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    let (mut role, mut binding) = (kind("ClusterRole"), kind("ClusterRoleBinding"));
    role["rules"] = json!([{"apiGroups": [group], "resources": [resource], "verbs": ["*"]}]);
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": "executor", "namespace": stage.namespace}]);
    [role, binding]
}

#[test]
fn a_right_that_the_executor_lacks_is_named_and_heals() {
    let stage = Stage::with("rights", Options { with_rights: false, ..one_vote() });
    let mut objects: Vec<_> = (0..19).map(|i| config_map(&format!("c{i:02}"), &[("a", "b")])).collect();
    objects.push(patch_of(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}}),
    ));
    // It may write ConfigMaps, which are nineteen of the twenty objects, and no Deployment.
    for object in everywhere(&stage, "maps", "", "configmaps") {
        stage.admin().create(&object).unwrap();
    }
    let change = stage.propose("alice", "twenty", objects);
    change.approve(&["bob"]);
    let gate = change.wait_gate("Preflight", "Refused");
    let message = gate["message"].as_str().unwrap();
    assert!(message.contains("deployments.apps \"web\" is forbidden") && message.contains(&stage.executor()), "{gate}");
    assert!(!stage.exists("configmaps/c00"), "nothing is written before everything may be");
    for object in everywhere(&stage, "workloads", "apps", "deployments") {
        stage.admin().create(&object).unwrap();
    }
    change.wait("Succeeded");
    assert!(stage.exists("configmaps/c18"));
}

#[test]
fn people_and_systems_that_contradict_each_other_are_refused() {
    let stage = Stage::with("people", one_vote());
    let admin = stage.admin();
    let person = |name: &str, identities: &Value| {
        governor("Person", name, &json!({"displayName": {"en": name}, "identities": identities}))
    };
    let name = format!("{}-p", stage.namespace);
    let none = admin.create(&person(&name, &json!([]))).unwrap_err();
    assert_eq!(none.code, 422, "{none}");
    assert!(none.message.contains("spec.identities"), "{none}");
    let refusal = assert_refused(admin.create(&person(&name, &json!(["bob"]))), 409, "IdentityTaken");
    assert!(refusal.message.contains("belongs to Person bob"), "{refusal}");
    let spec = json!({"tier": "Low", "namespaces": [stage.namespace], "policyRef": {"name": "x"}});
    assert_refused(admin.create(&governor("System", &name, &spec)), 409, "NamespaceTaken");
    let spec = json!({"tier": "Low", "namespaces": ["interlock-system"], "policyRef": {"name": "x"}});
    let refusal = admin.create(&governor("System", &name, &spec)).unwrap_err();
    assert!(matches!(refusal.reason.as_str(), "NamespaceTaken" | "InterlockNamespace"), "{refusal}");
    let external = json!({"type": "External", "users": ["argocd"]});
    let spec = json!({"tier": "Low", "policyRef": {"name": "x"}, "executor": external});
    assert_refused(admin.create(&governor("System", &name, &spec)), 422, "NotSupportedYet");
    for gates in [json!({"errorBudget": {}}), json!({"openIncident": {"atOrAbove": "P1"}})] {
        let mut spec = policy_of(1, "sre");
        spec["types"]["normal"]["gates"] = gates;
        assert_refused(admin.create(&governor("ChangePolicy", &name, &spec)), 422, "NotSupportedYet");
    }
    let mut spec = policy_of(1, "sre");
    spec["types"]["normal"]["approvals"]["requireSignature"] = json!({"fromRisk": "High"});
    assert_refused(admin.create(&governor("ChangePolicy", &name, &spec)), 422, "NotSupportedYet");
    let change = stage.propose("alice", "signed", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    let mut vote = change.ballot("bob", "Approve", &change.digest());
    vote["spec"]["signature"] = json!("-----BEGIN SSH SIGNATURE-----");
    assert_refused(stage.user("bob").create(&vote), 422, "NotSupportedYet");
}

#[test]
fn a_circle_of_dependencies_is_named() {
    let stage = Stage::with("circle", one_vote());
    let object = |text: &str| vec![patch_of(config_map("web", &[("greeting", text)]))];
    let names = ["one", "two", "three"];
    let changes: Vec<_> = (0..3)
        .map(|i| {
            stage.propose_with(
                "alice",
                names[i],
                object(names[i]),
                json!({"dependsOn": [{"name": names[(i + 1) % 3]}]}),
            )
        })
        .collect();
    for change in &changes {
        change.approve(&["bob"]);
        change.until("the circle", |s| {
            let gate = interlock_tests::stage::gate(s, "Dependency");
            gate["reason"] == "Cycle"
                && names.iter().filter(|n| gate["message"].as_str().unwrap().contains(**n)).count() >= 2
        });
        assert_eq!(change.phase(), "Pending");
    }
}

#[test]
fn a_policy_that_is_deleted_meanwhile_stops_nothing_that_runs() {
    let stage = Stage::with("nopolicy", one_vote());
    let change = stage.propose_with(
        "alice",
        "runs",
        vec![
            patch_of(config_map("web", &[("greeting", "hi")])),
            interlock_tests::deployment_image("web", "web:broken"),
        ],
        json!({"progressDeadline": "10s"}),
    );
    change.approve(&["bob"]);
    change.wait("Running");
    stage.admin().delete(&format!("/apis/interlock.dev/v1alpha1/changepolicies/{}", stage.namespace)).unwrap();
    change.wait("RolledBack");
    assert_eq!(stage.data("web")["greeting"], "hello");
    // What waits says what is missing.
    let next = stage.propose("alice", "next", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    let status = next.until("no policy", |s| s["waitingFor"] == "NoPolicy");
    assert!(status["message"].as_str().unwrap().contains("does not exist"), "{status:#}");
    let valid = next.get();
    assert_eq!(condition(&valid, "Valid").unwrap()["status"], "False");
    stage.admin().create(&governor("ChangePolicy", &stage.namespace, &policy_of(1, "sre"))).unwrap();
    next.approve(&["bob"]);
    next.wait("Succeeded");
}

#[test]
fn a_namespace_that_is_being_deleted_says_so() {
    let stage = Stage::with("doomed", one_vote());
    // A second namespace of the System goes while a change for it waits.
    let second = format!("{}-b", stage.namespace);
    stage
        .admin()
        .create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": second, "finalizers": []},
        "spec": {"finalizers": ["kubernetes"]}}))
        .unwrap();
    let mut held = config_map("held", &[]);
    held["metadata"]["finalizers"] = json!(["example.com/keep"]);
    held["metadata"]["namespace"] = json!(second);
    stage.admin().create(&held).unwrap();
    // It is deleted before it belongs to the System, and hangs on the finalizer.
    stage.admin().delete(&format!("/api/v1/namespaces/{second}")).unwrap();
    let system = format!("/apis/interlock.dev/v1alpha1/systems/{}", stage.namespace);
    stage.admin().merge(&system, &json!({"spec": {"namespaces": [stage.namespace, second]}})).unwrap();
    for right in everywhere(&stage, "maps", "", "configmaps") {
        stage.admin().create(&right).unwrap();
    }
    let mut object = config_map("new", &[("a", "b")]);
    object["metadata"]["namespace"] = json!(second);
    let change = eventually(SOON, || {
        let request =
            stage.request("alice", "doomed", vec![object.clone(), patch_of(config_map("web", &[("greeting", "hi")]))]);
        stage.send(&request).map_err(|e| e.to_string())
    });
    change.approve(&["bob"]);
    let gate = change.wait_gate("Preflight", "Refused");
    assert!(gate["message"].as_str().unwrap().contains("being terminated"), "{gate}");
    assert_eq!(stage.data("web")["greeting"], "hello");
    stage.admin().merge(&path_of(&held), &json!({"metadata": {"finalizers": null}})).unwrap();
}

#[test]
fn standard_changes_need_no_vote_inside_their_template() {
    let mut policy = policy_of(1, "sre");
    policy["types"]["standard"] = json!({"templates": [{"name": "scale", "allow": [
        {"group": "apps", "kind": "Deployment", "path": "/spec/replicas", "range": {"min": 2, "max": 4}}]}]});
    let stage = Stage::with("standard", Options { policy, ..Options::default() });
    let replicas = |count: u32| {
        vec![patch_of(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": count}}),
        )]
    };
    let inside = stage.propose_with("alice", "inside", replicas(4), json!({"type": "Standard"}));
    inside.wait("Succeeded");
    assert_eq!(stage.get("deployments/web")["spec"]["replicas"], 4);
    let outside = stage.propose_with("alice", "outside", replicas(5), json!({"type": "Standard"}));
    outside.wait_gate("Approval", "OutsideTemplate");
    assert_refused(stage.user("bob").create(&outside.ballot("bob", "Approve", &outside.digest())), 409, "NoVoteNeeded");
    // A type that the policy does not know is not allowed.
    let emergency = stage.propose_with("alice", "emergency", replicas(3), json!({"type": "Emergency"}));
    emergency.until("not allowed", |s| s["waitingFor"] == "TypeNotAllowed");
}
