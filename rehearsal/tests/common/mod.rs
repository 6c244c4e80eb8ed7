//! A small shop for the tests of scenarios: one System, two approvers, one window a day.

use interlock_rehearsal::scenario::{Folder, Report, Scenario, play};

/// The shop. `extra` are further documents.
pub fn folder(extra: &str) -> Folder {
    let text = format!("{SHOP}\n---\n{extra}");
    Folder::embedded(&[("shop.yaml", &text)]).expect("the shop is a folder")
}

/// Reads a scenario about the shop that begins on a Monday at 08:00 UTC.
pub fn scenario(folder: &Folder, rest: &str) -> Scenario {
    let text = format!("start: 2026-11-23T08:00:00Z\n{rest}");
    Scenario::parse("test.yaml", &text, folder).unwrap_or_else(|error| panic!("{error}"))
}

/// Plays a scenario about the shop.
#[allow(dead_code, reason = "not every test file plays")]
pub fn played(rest: &str) -> Report {
    let folder = folder(CHANGE);
    play(&folder, &scenario(&folder, rest)).unwrap_or_else(|error| panic!("{error}"))
}

/// A change of the shop's greeting, which no step needs to propose.
pub const CHANGE: &str = r"
apiVersion: interlock.dev/v1alpha1
kind: ChangeRequest
metadata: {name: greeting, namespace: shop}
spec:
  title: A new greeting
  reason: a test
  requester: alice
  content:
    manifests:
    - apiVersion: v1
      kind: ConfigMap
      metadata: {name: shop, namespace: shop, annotations: {interlock.dev/operation: Patch}}
      data: {greeting: hello}
";

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: executor, namespace: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: shop, namespace: shop}
data: {greeting: welcome, colour: red}
---
apiVersion: interlock.dev/v1alpha1
kind: Person
metadata: {name: alice}
spec: {displayName: {en: Alice}, identities: [alice], groups: [developers]}
---
apiVersion: interlock.dev/v1alpha1
kind: Person
metadata: {name: bob}
spec: {displayName: {en: Bob}, identities: [bob], groups: [sre]}
---
apiVersion: interlock.dev/v1alpha1
kind: Person
metadata: {name: carol-jones}
spec: {displayName: {en: Carol}, identities: ["oidc:carol", "oidc:carol.admin"], groups: [sre, leads]}
---
apiVersion: interlock.dev/v1alpha1
kind: Calendar
metadata: {name: shop}
spec:
  timeZone: Europe/Berlin
  windows: [{name: noon, schedule: "0 12 * * *", duration: 2h}]
  freezes: [{name: tuesday, from: "2026-11-24T00:00", until: "2026-11-25T00:00"}]
---
apiVersion: interlock.dev/v1alpha1
kind: ChangePolicy
metadata: {name: shop}
spec:
  operators: [sre]
  types:
    normal:
      approvals: {thresholds: [{name: peers, count: 1, groups: [sre]}, {name: second, count: 1, groups: [leads], fromRisk: High}]}
      calendarRef: {name: shop}
    standard:
      templates:
      - {name: greeting, allow: [{kind: ConfigMap, path: /data/greeting, values: [hello, bye]}]}
---
apiVersion: interlock.dev/v1alpha1
kind: System
metadata: {name: shop}
spec:
  displayName: {en: Shop}
  tier: Low
  mode: Enforce
  namespaces: [shop]
  executor: {type: Interlock, serviceAccount: {namespace: shop, name: executor}}
  policyRef: {name: shop}
"#;
