//! A thousand Systems with ten changes each in a month: half of them standard, half with two votes, each of a ConfigMap,
//! every fifth with a new image of the System's program as well.

use interlock_crds::{API_VERSION, ChangePhase};
use interlock_rehearsal::scenario::{Folder, Scenario, Source};
use serde_json::{Value, json};

const ROUNDS: usize = 10;
const PEOPLE: usize = 60;

/// Plays them.
pub fn measure(systems: usize) {
    let folder = organisation(systems);
    let mut steps = Vec::new();
    for round in 0..ROUNDS {
        for system in 0..systems {
            change(&mut steps, round, system);
        }
    }
    let scenario = json!({"start": "2026-08-03T00:00:00Z", "for": "31d", "steps": steps});
    let scenario = Scenario::parse("systems", &scenario.to_string(), &folder).expect("a scenario");
    drop(steps);
    let report = super::rehearse(&format!("{systems} Systems, {} changes", systems * ROUNDS), &folder, &scenario);
    let succeeded = report.changes.iter().filter(|change| change.phase == ChangePhase::Succeeded).count();
    assert_eq!(succeeded, systems * ROUNDS, "every change succeeds");
}

fn change(steps: &mut Vec<Value>, round: usize, system: usize) {
    // Ten rounds of three days; within one, a change each four minutes.
    let minute = round * 3 * 24 * 60 + system * 4;
    let (namespace, name) = (format!("system-{system}"), format!("change-{round}"));
    let mut manifests = vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": namespace, "annotations": {"interlock.dev/operation": "Patch"}},
        "data": {"value": format!("{round}")},
    })];
    let is_standard = round.is_multiple_of(2);
    if (system + round).is_multiple_of(5) && !is_standard {
        manifests.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace, "annotations": {"interlock.dev/operation": "Patch"}},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": format!("web:1.{round}.0")}]}}},
        }));
    }
    let request = json!({
        "apiVersion": API_VERSION, "kind": "ChangeRequest", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "title": name, "reason": "as planned", "requester": person(system % PEOPLE),
            "type": if is_standard { "Standard" } else { "Normal" }, "content": {"manifests": manifests},
        },
    });
    steps.push(json!({"at": format!("{minute}m"), "propose": request}));
    if !is_standard {
        for other in 1..3 {
            let at = format!("{}m", minute + other);
            let voter = person((system + other) % PEOPLE);
            steps.push(json!({"at": at, "approve": format!("{namespace}/{name}"), "by": voter}));
        }
    }
}

fn person(number: usize) -> String {
    format!("person-{number}")
}

fn organisation(systems: usize) -> Folder {
    let own = |kind: &str, name: &str, spec: Value| json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut objects: Vec<Value> = (0..PEOPLE)
        .map(|number| {
            let (name, identities) = (person(number), [person(number)]);
            own("Person", &name, json!({"displayName": {"en": name}, "identities": identities, "groups": ["peers"]}))
        })
        .collect();
    let normal = json!({"approvals": {"thresholds": [{"name": "peers", "count": 2, "groups": ["peers"]}]}});
    let values: Vec<String> = (0..ROUNDS).map(|round| round.to_string()).collect();
    let allow = json!([{"kind": "ConfigMap", "path": "/data/value", "values": values}]);
    let standard = json!({"templates": [{"name": "settings", "allow": allow}]});
    objects.push(own("ChangePolicy", "all", json!({"types": {"normal": normal, "standard": standard}})));
    objects.extend((0..systems).flat_map(|number| {
        let namespace = format!("system-{number}");
        let placed = |api: &str, kind: &str, name: &str, more: Value| {
            let metadata = json!({"name": name, "namespace": namespace});
            let mut object = json!({"apiVersion": api, "kind": kind, "metadata": metadata});
            for (field, value) in more.as_object().into_iter().flatten() {
                object[field] = value.clone();
            }
            object
        };
        let template = json!({
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1.0.0"}]},
        });
        let web = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template});
        let spec = json!({
            "displayName": {"en": namespace}, "tier": "High", "mode": "Enforce", "namespaces": [namespace],
            "policyRef": {"name": "all"},
            "executor": {"type": "Interlock", "serviceAccount": {"namespace": namespace, "name": "executor"}},
        });
        [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            placed("v1", "ServiceAccount", "executor", json!({})),
            placed("v1", "ConfigMap", "settings", json!({"data": {"value": "none"}})),
            placed("apps/v1", "Deployment", "web", json!({"spec": web})),
            own("System", &namespace, spec),
        ]
    }));
    let sources = objects.into_iter().enumerate().map(|(number, object)| {
        let file = "organisation".to_owned();
        Source { place: format!("{file}, document {number}"), file, object }
    });
    Folder { sources: sources.collect() }
}
