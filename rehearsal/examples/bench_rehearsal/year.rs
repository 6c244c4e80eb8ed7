//! A year of the bank of `examples/bank`: releases, patches and scaling each week, votes by whoever is there, holidays,
//! releases that fail, people who edit by hand, a leader that is killed each month.

use std::path::Path;

use interlock_crds::{API_VERSION, ChangePhase};
use interlock_rehearsal::scenario::{Folder, Scenario};
use serde_json::{Value, json};

const START: &str = "2026-08-03T09:00[Asia/Shanghai]";

/// So many weeks.
pub fn measure(weeks: usize) {
    let folder = bank();
    let mut year = Year { steps: Vec::new() };
    for week in 0..weeks {
        year.week(week);
    }
    let scenario = json!({
        "title": "A year of the bank", "start": START, "for": format!("{}d", weeks * 7 + 1),
        "behaviours": [{"image": "*:*-bad", "effect": "neverReady"}],
        "people": {
            "liu-yang": {"away": [{"from": "14d", "to": "28d"}, {"from": "200d", "to": "214d"}]},
            "wu-qiang": {"away": [{"from": "30d", "to": "44d"}]},
            "mallory": {"groups": ["branch-it"]},
        },
        "steps": year.steps,
    });
    let scenario = Scenario::parse("year", &scenario.to_string(), &folder).expect("a scenario");
    let report = super::rehearse(&format!("{weeks} weeks of the bank"), &folder, &scenario);
    let succeeded = report.changes.iter().filter(|change| change.phase == ChangePhase::Succeeded).count();
    assert!(succeeded * 2 > report.changes.len(), "a year in which most changes fail is no year of the bank");
}

/// `interlock rehearse examples/bank`: five changes, nobody votes.
pub fn untouched(days: usize) {
    let folder = bank();
    let scenario = json!({"start": START, "for": format!("{days}d"), "expect": []});
    let scenario = Scenario::parse("bank", &scenario.to_string(), &folder).expect("a scenario");
    super::rehearse(&format!("rehearse examples/bank --for {days}d"), &folder, &scenario);
}

fn bank() -> Folder {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bank");
    Folder::read(&root).expect("the bank")
}

struct Year {
    steps: Vec<Value>,
}

impl Year {
    fn week(&mut self, week: usize) {
        self.release(week, ("core-ledger", "StatefulSet", "5"), "oidc:sun.hao@bank.example", week * 7);
        self.release(week, ("teller", "Deployment", "2"), "oidc:wang.wei@bank.example", week * 7 + 1);
        let replicas = json!({"replicas": 3 + week % 6});
        self.propose("teller", &format!("receipts-{week}"), "oidc:li.na@bank.example", week * 7 + 2, |spec| {
            spec["type"] = json!("Standard");
            spec["content"] = json!({"manifests": [part("Deployment", "teller", "receipts", &replicas)]});
        });
        if week.is_multiple_of(2) {
            let image = format!("mobile:4.7.{}", 2 + week);
            self.propose("mobile", &format!("mobile-{week}"), "oidc:zhao.min@bank.example", week * 7 + 3, |spec| {
                spec["type"] = json!("Standard");
                spec["content"] =
                    json!({"manifests": [part("Deployment", "mobile", "mobile", &pods("mobile", &image))]});
            });
        }
        if week % 4 == 1 {
            self.step(
                week * 7 + 3,
                11 * 60,
                json!({
                    "edit": "Deployment/teller/teller", "patch": {"spec": {"replicas": 1}}, "by": "mallory",
                    "expect": [{"refused": true, "contains": "NoApprovedChange"}],
                }),
            );
            self.step(week * 7 + 3, 12 * 60, json!({"crash": true}));
        }
    }

    /// A normal change with its test report and its votes; every ninth is rejected, every tenth does not become ready.
    fn release(&mut self, week: usize, (name, kind, major): (&str, &str, &str), by: &str, day: usize) {
        let mark = if week % 10 == 9 { "-bad" } else { "" };
        let image = format!("{name}:{major}.{}.0{mark}", 10 + week);
        let change = format!("{name}/{name}-{week}");
        self.propose(name, &format!("{name}-{week}"), by, day, |spec| {
            spec["content"] = json!({"manifests": [part(kind, name, name, &pods(name, &image))]});
        });
        let evidence = json!({"change": change, "kind": "TestReport"});
        self.step(day, 30, json!({"evidence": evidence, "by": "system:serviceaccount:ci:pipeline"}));
        let decision = if week % 9 == 8 { "reject" } else { "approve" };
        for (minutes, voter) in [(60, "chen-jie"), (90, "liu-yang"), (95, "zhou-lei"), (240, "huang-mei")] {
            let verb = if voter == "zhou-lei" { decision } else { "approve" };
            self.step(day, minutes, json!({verb: change, "by": voter}));
        }
    }

    fn propose(&mut self, namespace: &str, name: &str, by: &str, day: usize, more: impl FnOnce(&mut Value)) {
        let mut spec = json!({
            "title": name, "reason": "as every week", "requester": by, "type": "Normal", "progressDeadline": "10m",
            "contingency": {"onFailure": "Rollback", "runbook": "docs/runbooks/all.md"},
        });
        more(&mut spec);
        let metadata = json!({"name": name, "namespace": namespace});
        let request = json!({"apiVersion": API_VERSION, "kind": "ChangeRequest", "metadata": metadata, "spec": spec});
        self.step(day, 0, json!({"propose": request}));
    }

    fn step(&mut self, day: usize, minutes: usize, mut step: Value) {
        step["at"] = json!(format!("{day}d {minutes}m"));
        self.steps.push(step);
    }
}

/// A part of a workload.
fn part(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "annotations": {"interlock.dev/operation": "Patch"}},
        "spec": spec,
    })
}

fn pods(container: &str, image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": container, "image": image}]}}})
}
