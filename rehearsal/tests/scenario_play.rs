//! What scenarios can make happen, and that the same seed tells the same story.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::{CHANGE, folder, played, scenario};
use interlock_crds::{ChangePhase, ChangeType, RiskLevel};
use interlock_rehearsal::scenario::{
    Answer, EntryKind, Folder, Moment, Player, Report, Scenario, Source, play, replay,
};

fn examples(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn example(dir: &str, file: &str) -> (Folder, Scenario) {
    let folder = Folder::read(&examples(dir)).unwrap_or_else(|error| panic!("{error}"));
    let text = std::fs::read_to_string(examples(file)).expect("the example is there");
    let scenario = Scenario::parse(file, &text, &folder).unwrap_or_else(|error| panic!("{error}"));
    (folder, scenario)
}

fn unmet(report: &Report) -> Vec<String> {
    report.expectations.iter().filter(|o| !o.met).map(|o| format!("{}: {}: {}", o.place, o.text, o.found)).collect()
}

fn texts(report: &Report) -> Vec<String> {
    report.timeline.iter().map(|entry| format!("{} {:?} {}", entry.at, entry.kind, entry.text)).collect()
}

#[test]
fn the_bank_at_the_months_end_goes_as_its_scenario_says() {
    let (folder, scenario) = example("bank", "rehearsal/month-end.yaml");
    let report = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.expectations.len() >= 20);
    assert_eq!(unmet(&report), Vec::<String>::new());
    let absent: Vec<_> = report.timeline.iter().filter(|entry| entry.kind == EntryKind::Absent).collect();
    assert_eq!(absent.len(), 1, "one person is on holiday once");
    assert!(absent[0].text.contains("Liu Yang is away until"), "{}", absent[0].text);
}

#[test]
fn the_demo_goes_as_its_scenario_says_with_several_seeds() {
    let (folder, mut scenario) = example("demo", "demo/scenario.yaml");
    for seed in [7, 1, 2, 3] {
        scenario.seed = Some(seed);
        let report = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(unmet(&report), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn every_strategy_of_a_gray_release_goes_as_its_scenario_says() {
    let (folder, mut scenario) = example("rollouts", "rollouts/scenario.yaml");
    for seed in [1, 2] {
        scenario.seed = Some(seed);
        let report = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(unmet(&report), Vec::<String>::new(), "seed {seed}");
        assert!(report.expectations.len() >= 10);
    }
}

#[test]
fn drills_open_and_close_the_gate_and_a_year_of_slots_is_run_once_each() {
    for (file, expectations) in [("drills/scenario.yaml", 24), ("drills/year.yaml", 7)] {
        let (folder, scenario) = example("drills", file);
        let report = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(unmet(&report), Vec::<String>::new(), "{file}");
        assert_eq!(report.expectations.len(), expectations, "{file}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let (folder, mut scenario) = example("demo", "demo/scenario.yaml");
    scenario.faults = interlock_rehearsal::faults::Faults::storm();
    let first = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
    let second = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(texts(&first), texts(&second));
    assert_eq!(first, second);
    scenario.seed = Some(99);
    let third = play(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
    assert_ne!(texts(&first), texts(&third), "another seed has other faults");
}

#[test]
fn whoever_watches_may_decide_otherwise() {
    let (folder, scenario) = example("demo", "demo/scenario.yaml");
    for answer in [Answer::Reject, Answer::Wait] {
        let player = Player::new(&folder, &scenario).unwrap_or_else(|error| panic!("{error}"));
        let mut player = player.interactive();
        let mut asked = 0;
        loop {
            match player.next_moment().unwrap_or_else(|error| panic!("{error}")) {
                Moment::Told(_) => {}
                Moment::Asks(question) => {
                    asked += 1;
                    assert!(!question.text.is_empty() && !question.who.is_empty());
                    player.answer(answer);
                }
                Moment::Over => break,
            }
        }
        assert_eq!(asked, 4);
        let report = player.into_report();
        let teller =
            report.changes.iter().find(|change| change.change == "teller/teller-2-4-0").expect("it was proposed");
        let expected = if answer == Answer::Reject { ChangePhase::Rejected } else { ChangePhase::Pending };
        assert_eq!(teller.phase, expected);
        assert_eq!(teller.started_at, None);
    }
}

#[test]
fn a_year_of_a_waiting_change_passes_quickly_and_is_told_briefly() {
    let report = played("for: 365d");
    assert_eq!(report.changes.len(), 1);
    assert_eq!(report.changes[0].phase, ChangePhase::Pending);
    assert!(report.timeline.len() < 20, "each day's window is no news: {:#?}", texts(&report));
    let window = report.changes[0].held.iter().find(|held| held.gate == "Window").expect("it waited for windows");
    assert!(window.spans > 300, "{window:?}");
}

/// A controller reads again each minute what was changed under a waiting change. In a rehearsal that costs nothing until
/// somebody writes something.
#[test]
fn what_was_changed_under_a_waiting_change_is_read_again_only_when_it_changes() {
    let mut folder = folder(CHANGE);
    let system = folder.sources.iter_mut().find(|source| source.object["kind"] == "System").expect("a System");
    system.object["spec"]["mode"] = "Audit".into();
    let edit = "edit: ConfigMap/shop/shop, by: bob";
    let rest = format!(
        "
for: 181d
steps:
- {{at: 5m, approve: shop/greeting, by: carol-jones}}
- {{at: 10m, {edit}, patch: {{data: {{greeting: hey}}}}}}
- {{at: 2d 3h 5m, say: it no longer holds, expect: [{{change: shop/greeting, gate: Precondition, reason: BaseChanged}}]}}
- {{at: 90d, {edit}, patch: {{data: {{greeting: hey, colour: blue}}}}}}
- {{at: 180d, say: it still does not, expect: [{{change: shop/greeting, gate: Precondition, reason: BaseChanged}}]}}
- {{at: +1s, {edit}, patch: {{data: {{greeting: welcome}}}}}}
- {{at: +2m, say: it holds again, expect: [{{change: shop/greeting, gate: Precondition, state: Open}}]}}
"
    );
    let report = play(&folder, &scenario(&folder, &rest)).expect("it is played");
    assert_eq!(unmet(&report), Vec::<String>::new());
    assert_eq!(report.expectations.len(), 3);
    // A pass each minute would be more than a million.
    assert!(report.steps < 10_000, "{} steps", report.steps);
}

#[test]
fn people_command_take_back_and_are_named() {
    let report = played(
        "
for: 3h
steps:
- {at: 1m, approve: shop/greeting, by: carol-jones}
- {at: 2m, withdrawVote: shop/greeting, by: carol-jones, expect: [{refused: false}, {change: shop/greeting, waitsFor: Approval}]}
- {at: 3m, withdraw: shop/greeting, by: alice, reason: not now, expect: [{change: shop/greeting, phase: Withdrawn}]}
- at: 4m
  propose:
    apiVersion: interlock.dev/v1alpha1
    kind: ChangeRequest
    metadata: {name: second, namespace: shop}
    spec:
      title: Second
      reason: a test
      requester: alice
      type: Standard
      content:
        manifests:
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: shop, namespace: shop, annotations: {interlock.dev/operation: Patch}}
          data: {greeting: bye}
  expect:
  - {change: shop/second, phase: Succeeded, within: 1m}
- {at: 6m, expect: [{object: ConfigMap/shop/shop, path: /data/greeting, equals: bye}]}
- {at: 7m, apply: {apiVersion: v1, kind: ConfigMap, metadata: {name: new, namespace: shop}}, by: bob, expect: [{refused: true}]}
- {at: 8m, delete: ConfigMap/shop/shop, by: bob, expect: [{refused: true}]}
- {at: 9m, crash: true}
- {at: 10m, faults: {lostCalls: 0.1}}
- {at: 11m, behaviours: [{effect: neverReady}]}
- {at: 12m, say: the end}
",
    );
    assert_eq!(unmet(&report), Vec::<String>::new());
    assert!(report.timeline.iter().any(|entry| entry.text == "Carol approves shop/greeting"), "{:#?}", texts(&report));
    assert!(report.refusals.iter().all(|refusal| refusal.by == "NoApprovedChange"), "{:#?}", report.refusals);
    assert_eq!(report.refusals.len(), 2);
}

#[test]
fn who_could_approve_alone_depends_on_the_risk() {
    let report = played("for: 1h\npeople: {dave: {groups: [sre]}}");
    let normal: Vec<_> =
        report.questions.who_alone.iter().filter(|answer| answer.type_ == ChangeType::Normal).collect();
    assert_eq!(normal.len(), 2);
    assert_eq!(normal[0].risks, [RiskLevel::Low, RiskLevel::Medium]);
    assert_eq!(normal[0].people, ["Bob", "Carol"], "dave is no Person and has no vote");
    assert_eq!(normal[1].risks, [RiskLevel::High, RiskLevel::Critical]);
    assert_eq!(normal[1].people, Vec::<String>::new(), "one person fills one place");
    let standard = report.questions.who_alone.iter().find(|answer| answer.type_ == ChangeType::Standard);
    assert_eq!(standard.expect("the policy has standard changes").templates, ["greeting"]);
}

/// What `kubectl get -o json` of everything gives after a scenario, read back from a file.
fn export(player: &Player) -> Folder {
    let kinds = ["ChangeRequest", "Approval", "Evidence"];
    let objects = kinds.into_iter().flat_map(|kind| player.world().objects(interlock_crds::GROUP, kind));
    let items: Vec<_> = objects.map(|object| (*object).clone()).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    let directory = std::env::temp_dir().join(format!("interlock-export-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("export.json"), list.to_string()).expect("a file");
    let export = Folder::read_export(&directory).unwrap_or_else(|error| panic!("{error}"));
    std::fs::remove_dir_all(&directory).expect("it is there");
    export
}

#[test]
fn changes_of_the_past_are_judged_by_new_policies() {
    let old = folder(CHANGE);
    let scenario = scenario(&old, "for: 4h\nsteps: [{at: 1m, approve: shop/greeting, by: bob}]");
    let mut player = Player::new(&old, &scenario).expect("it can be played");
    while player.next_moment().expect("it goes on") != Moment::Over {}
    let past = export(&player);

    let same = replay(&old, &past).expect("it can be judged");
    assert_eq!(same.len(), 1);
    assert!(!same[0].is_stopped, "the same policies stop nothing: {same:#?}");
    assert_eq!(same[0].phase, ChangePhase::Succeeded);

    let changed = |find: &str, replace: &str| {
        let text = serde_json::to_string(&old.sources.iter().map(|s| s.object.clone()).collect::<Vec<_>>());
        let text = text.expect("objects are JSON");
        assert!(text.contains(find), "{text}");
        let objects: Vec<serde_json::Value> =
            serde_json::from_str(&text.replace(find, replace)).expect("it is JSON still");
        let sources = objects.into_iter().zip(&old.sources).map(|(object, s)| Source { object, ..s.clone() });
        Folder { sources: sources.collect() }
    };
    let cases = [
        (r#""count":1,"groups":["sre"]"#, r#""count":2,"groups":["sre"]"#, "Approval", "VotesMissing"),
        (r#""schedule":"0 12 * * *""#, r#""schedule":"0 20 * * *""#, "Window", "OutsideWindow"),
        (r#""from":"2026-11-24T00:00""#, r#""from":"2026-11-23T00:00""#, "Window", "Frozen"),
        (r#""identities":["bob"]"#, r#""identities":["robert"]"#, "Approval", "VotesMissing"),
    ];
    for (find, replace, gate, reason) in cases {
        let judged = replay(&changed(find, replace), &past).expect("it can be judged");
        assert!(judged[0].is_stopped, "{replace}");
        let gates: Vec<_> = judged[0].gates.iter().map(|g| (g.gate.as_str(), g.reason.as_str())).collect();
        assert_eq!(gates, [(gate, reason)], "{replace}");
    }
}

#[test]
fn a_node_is_lost_and_comes_back() {
    let report = played(
        "
for: 1h
steps:
- {at: 1m, loseNode: node-1}
- {at: 20m, returnNode: node-1}
",
    );
    let told = texts(&report);
    for what in ["node-1 is lost", "node-1 is back"] {
        assert!(told.iter().any(|text| text.contains(what)), "{told:#?}");
    }
}

const RELEASE: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
---
apiVersion: interlock.dev/v1alpha1
kind: RolloutPlan
metadata: {name: cautious, namespace: shop}
spec:
  canary: {steps: [{setWeight: 50}, {analysis: [errors]}]}
  analyses:
  - name: errors
    prometheus: {address: "http://prometheus.monitoring:9090", query: "errors"}
    successWhen: result < 0.01
    interval: 1m
    count: 5
---
apiVersion: interlock.dev/v1alpha1
kind: ChangeRequest
metadata: {name: release, namespace: shop}
spec:
  title: Version 2
  reason: a test
  requester: alice
  rolloutPlanRef: {name: cautious}
  content:
    manifests:
    - apiVersion: apps/v1
      kind: Deployment
      metadata: {name: web, namespace: shop, annotations: {interlock.dev/operation: Patch}}
      spec: {template: {spec: {containers: [{name: web, image: "web:2"}]}}}
"#;

#[test]
fn a_scenario_says_what_a_release_measures() {
    let played = |steps: &str, phase: &str, image: &str| {
        let folder = folder(RELEASE);
        let text = format!(
            "for: 6h\nsteps: [{{propose: {{file: shop.yaml, name: release}}}}, {{at: 1m, approve: shop/release, by: bob}}, {steps}]\n\
             expect: [{{change: shop/release, phase: {phase}}}, \
             {{object: Deployment/shop/web, path: /spec/template/spec/containers/0/image, equals: \"web:{image}\"}}]",
        );
        let report = play(&folder, &scenario(&folder, &text)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(unmet(&report), Vec::<String>::new(), "{:#?}", texts(&report));
        report
    };
    let good = played("{metric: {analysis: errors, value: 0.002}}", "Succeeded", "2");
    assert!(good.timeline.iter().any(|e| e.kind == EntryKind::Measured && e.text.contains("errors")), "it is told");
    // The fifth minute of the noon window, after some good values.
    let turns = "{metric: {analysis: errors, value: [0.001, 0.5], every: 2m}}";
    played(turns, "RolledBack", "1");
    played("{metric: {analysis: errors, empty: true}}", "Running", "1");
}
