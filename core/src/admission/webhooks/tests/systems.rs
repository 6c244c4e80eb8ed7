//! What follows from Systems: what they want governed, and a live configuration in step with it.

use std::collections::BTreeSet;

use interlock_crds::{GroupKind, SystemSpec};
use serde_json::{Value, json};

use super::{conditions, entry_named, inputs, resources};
use crate::{admission::webhooks::*, port::Served};

fn system(mode: &str, namespace: &str, more: &Value) -> SystemSpec {
    let mut spec = json!({
        "tier": "Medium", "mode": mode, "namespaces": [namespace], "policyRef": {"name": "p"},
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn adding(namespace: &str, add: &Value) -> SystemSpec {
    system("Enforce", namespace, &json!({"governs": {"add": add}}))
}

fn kinds(known: &[(&str, &str, &str, bool)]) -> Kinds {
    let entry = |(group, kind, plural, namespaced): &(&str, &str, &str, bool)| {
        let kind = GroupKind { group: (*group).to_owned(), kind: (*kind).to_owned() };
        (kind, Served { plural: (*plural).to_owned(), namespaced: *namespaced })
    };
    known.iter().map(entry).collect()
}

fn certificates() -> Resource {
    Resource::new("cert-manager.io", "certificates")
}

/// As the API server returns what was applied: with defaults, and what else stands there.
fn live(inputs: &Inputs) -> Value {
    let mut live = inputs.validating();
    live["metadata"]["resourceVersion"] = json!("7");
    for entry in live["webhooks"].as_array_mut().unwrap() {
        entry["objectSelector"] = json!({});
    }
    live
}

const KNOWN: &[(&str, &str, &str, bool)] = &[
    ("cert-manager.io", "Certificate", "certificates", true),
    ("", "LimitRange", "limitranges", true),
    ("", "ConfigMap", "configmaps", true),
    ("scheduling.k8s.io", "PriorityClass", "priorityclasses", false),
];

#[test]
fn kinds_governed_everywhere_come_with_their_scale() {
    let mut inputs = inputs();
    inputs.governed = Governed::of([certificates(), Resource::new("apps", "deployments")], [], &Kinds::new());
    let validating = inputs.validating();
    let enforce = entry_named(&validating, "enforce.interlock.dev");
    let found = resources(enforce);
    assert!(found.contains(&"cert-manager.io/certificates".to_owned()));
    assert!(found.contains(&"cert-manager.io/certificates/scale".to_owned()));
    assert_eq!(found.iter().filter(|resource| *resource == "apps/deployments").count(), 1);
    assert!(!conditions(enforce).iter().any(|(name, _)| name == "added-kinds"), "they count in every System");
}

#[test]
fn what_one_system_adds_is_no_matter_of_another() {
    let mut inputs = inputs();
    let systems = [
        adding("teller", &json!([{"group": "cert-manager.io", "kind": "Certificate"}])),
        adding("atm", &json!([{"group": "cert-manager.io", "kind": "Certificate"}, {"kind": "LimitRange"}])),
        system("Audit", "web", &json!({})),
    ];
    inputs.governed = Governed::of([], &systems, &kinds(KNOWN));
    let validating = inputs.validating();
    for entry in ["enforce.interlock.dev", "observe.interlock.dev"] {
        let conditions = conditions(entry_named(&validating, entry));
        assert_eq!(
            conditions[0],
            (
                "added-kinds".to_owned(),
                "(!(request.resource.group == '' && request.resource.resource == 'limitranges') || \
                 request.namespace in ['atm']) && (!(request.resource.group == 'cert-manager.io' && \
                 request.resource.resource == 'certificates') || request.namespace in ['atm', 'teller'])"
                    .to_owned()
            )
        );
        assert!(resources(entry_named(&validating, entry)).contains(&"/limitranges".to_owned()));
    }
    // One of them for all Systems: no condition is left for it.
    let governed = Governed::of([certificates()], &systems, &kinds(KNOWN));
    assert_eq!(governed.added.keys().map(ToString::to_string).collect::<Vec<_>>(), ["/limitranges"]);
}

#[test]
fn what_cannot_be_governed_is_left_out_and_told() {
    let spec = system(
        "Enforce",
        "teller",
        &json!({
            "governs": {
                "add": [
                    {"group": "coordination.k8s.io", "kind": "Lease"}, {"kind": "Event"},
                    {"group": "events.k8s.io", "kind": "Event"}, {"kind": "Node"},
                    {"group": "interlock.dev", "kind": "ChangeRequest"},
                    {"group": "scheduling.k8s.io", "kind": "PriorityClass"},
                    {"group": "example.com", "kind": "Absent"}, {"kind": "LimitRange"},
                ],
                "remove": [{"kind": "LimitRange"}],
            },
            "clusterObjects": [
                {"group": "interlock.dev", "kind": "System", "name": "teller"},
                {"kind": "Node", "name": "n"}, {"kind": "ConfigMap", "name": "c"},
                {"group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "interlock-controller"},
            ],
        }),
    );
    // Even if all of it were known.
    let mut known = kinds(KNOWN);
    known.extend(kinds(&[
        ("coordination.k8s.io", "Lease", "leases", true),
        ("", "Event", "events", true),
        ("events.k8s.io", "Event", "events", true),
        ("", "Node", "nodes", false),
        ("interlock.dev", "ChangeRequest", "changerequests", true),
        ("interlock.dev", "System", "systems", false),
        ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false),
    ]));
    let everywhere = [Resource::new("coordination.k8s.io", "leases"), Resource::new("", "events")];
    assert_eq!(Governed::of(everywhere, [&spec], &known), Governed::default());
    let reasons: Vec<_> = flaws(&spec, &known).iter().map(Flaw::reason).collect();
    let forbidden = ["KindForbidden"; 5];
    assert_eq!(reasons[..5], forbidden);
    assert_eq!(
        reasons[5..],
        ["WrongScope", "KindUnknown", "KindForbidden", "KindForbidden", "WrongScope", "KindForbidden"]
    );
    assert!(flaws(&spec, &known)[0].message().contains("Lease.coordination.k8s.io in governs.add is never governed"));
}

#[test]
fn namespaces_of_the_cluster_and_of_interlock_are_never_named() {
    for namespace in EXEMPT_NAMESPACES {
        let governed = Governed::of([], [&adding(namespace, &json!([{"kind": "LimitRange"}]))], &kinds(KNOWN));
        assert_eq!(governed, Governed::default(), "{namespace}");
    }
}

#[test]
fn only_kinds_that_exist_and_may_be_governed_are_written_with_govern() {
    assert_eq!("cert-manager.io/certificates".parse(), Ok(certificates()));
    assert_eq!("/limitranges".parse(), Ok(Resource::new("", "limitranges")));
    for bad in [
        "certificates",
        "*/*",
        "/pods/binding",
        "/Nodes",
        "coordination.k8s.io/leases",
        "/events",
        "events.k8s.io/events",
        "/nodes",
        "/namespaces",
        "interlock.dev/systems",
        "",
    ] {
        assert!(bad.parse::<Resource>().is_err(), "{bad}");
    }
}

#[test]
fn a_live_configuration_follows_the_systems_and_keeps_what_was_installed() {
    let inputs = Inputs {
        target: Target::Url("https://127.0.0.1:9443".into()),
        governed: Governed::of([certificates()], [], &Kinds::new()),
        node_agents: vec!["kwok".into()],
        ..inputs()
    };
    let mut before = live(&inputs);
    before["webhooks"][2]["timeoutSeconds"] = json!(5);
    let none = Governed::of(everywhere(&before), [], &Kinds::new());
    assert_eq!(refreshed(&before, &none, &Kinds::new()), None, "nothing to do is nothing to write");

    let systems = [
        adding("teller", &json!([{"kind": "LimitRange"}])),
        system(
            "Enforce",
            "atm",
            &json!({"clusterObjects": [{"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "bank"}]}),
        ),
    ];
    let known = kinds(&KNOWN[1..]);
    let governed = Governed::of(everywhere(&before), &systems, &known);
    let after = refreshed(&before, &governed, &known).unwrap();
    assert_eq!(refreshed(&after, &governed, &known), None, "a second time changes nothing");
    assert!(in_step(&after, &governed, &known) && !in_step(&before, &governed, &known));
    assert_eq!(remembered(&after), known);
    assert_eq!(everywhere(&after), BTreeSet::from([certificates()]), "what a System adds is not taken for --govern");
    assert_eq!(after["metadata"]["resourceVersion"], "7", "the write requires what was read");
    let enforce = entry_named(&after, "enforce.interlock.dev");
    assert_eq!(conditions(enforce)[0].0, "added-kinds");
    assert_eq!(conditions(enforce)[1..], conditions(entry_named(&before, "enforce.interlock.dev"))[..]);
    assert_eq!(enforce["timeoutSeconds"], 5);
    assert_eq!(enforce["clientConfig"], entry_named(&before, "enforce.interlock.dev")["clientConfig"]);
    let cluster = entry_named(&after, "cluster.interlock.dev");
    assert_eq!(cluster["clientConfig"], json!({"url": "https://127.0.0.1:9443/validate/cluster", "caBundle": "Q0E="}));
    // It is what an installation would write now.
    let installed = Inputs { governed: governed.clone(), ..inputs.clone() }.validating();
    assert_eq!(cluster, entry_named(&installed, "cluster.interlock.dev"));
    assert_eq!(enforce["rules"], entry_named(&installed, "enforce.interlock.dev")["rules"]);
    assert_eq!(enforce["matchConditions"], entry_named(&installed, "enforce.interlock.dev")["matchConditions"]);

    // And back, when the Systems name nothing any more: only the memory of --govern is left.
    let back = refreshed(&after, &none, &Kinds::new()).unwrap();
    assert_eq!(back, before);
}

#[test]
fn a_cluster_entry_behind_a_service_has_its_own_path() {
    let before = live(&inputs());
    let spec = system(
        "Warn",
        "atm",
        &json!({"clusterObjects": [{"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "bank"}]}),
    );
    let known = kinds(KNOWN);
    let after = refreshed(&before, &Governed::of([], [&spec], &known), &known).unwrap();
    let entry = entry_named(&after, "cluster-observe.interlock.dev");
    assert_eq!(entry["clientConfig"]["service"]["path"], "/validate/cluster/open");
    assert_eq!(entry["clientConfig"]["caBundle"], "Q0E=");
}

#[test]
fn a_kind_whose_group_does_not_answer_stays_governed() {
    let kept = kinds(KNOWN);
    let limits = GroupKind { group: String::new(), kind: "LimitRange".to_owned() };
    let certificate = GroupKind { group: "cert-manager.io".to_owned(), kind: "Certificate".to_owned() };
    let absent = GroupKind { group: "example.com".to_owned(), kind: "Absent".to_owned() };
    let renamed = Served { plural: "certs".to_owned(), namespaced: true };
    let answers = [(certificate.clone(), Some(renamed.clone())), (limits.clone(), None), (absent, None)];
    let now = answered(answers, &kept);
    assert_eq!(now, Kinds::from([(certificate, renamed), (limits.clone(), kept[&limits].clone())]));
}

#[test]
fn an_older_installation_keeps_all_that_it_governs() {
    let mut inputs = inputs();
    inputs.governed = Governed::of([certificates()], [], &Kinds::new());
    let mut old = live(&inputs);
    old["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(everywhere(&old), BTreeSet::from([certificates()]));
    let after = refreshed(&old, &Governed::of(everywhere(&old), [], &Kinds::new()), &Kinds::new()).unwrap();
    assert_eq!(after["metadata"]["annotations"], json!({EVERYWHERE: "cert-manager.io/certificates"}));
    assert_eq!(after["webhooks"], old["webhooks"]);
}

#[test]
fn an_entry_that_somebody_took_away_is_not_made_again() {
    let mut before = live(&inputs());
    before["webhooks"].as_array_mut().unwrap().retain(|entry| entry["name"] != "enforce.interlock.dev");
    let governed = Governed::of([], [&adding("teller", &json!([{"kind": "LimitRange"}]))], &kinds(KNOWN));
    assert_eq!(refreshed(&before, &governed, &kinds(KNOWN)), None);
    assert!(!in_step(&before, &governed, &kinds(KNOWN)));
    assert_eq!(refreshed(&Value::Null, &governed, &kinds(KNOWN)), None);
}

#[test]
fn what_somebody_took_out_of_the_rules_is_put_back() {
    let before = live(&inputs());
    let mut weakened = before.clone();
    weakened["webhooks"][2]["rules"] = json!([]);
    assert_eq!(refreshed(&weakened, &Governed::default(), &Kinds::new()), Some(before));
}
