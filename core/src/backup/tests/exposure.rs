//! B9, B15, D1: what counts as a good point, and how old it is.

use interlock_crds::{Backup, PointRef};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{at, policy_spec};
use crate::backup::{
    exposure::{IndexStep, Standing, exposure, good_point, index, is_proven, newest, standing},
    slots::SlotDecision,
    status::{PolicyFacts, policy},
};

fn backup(status: &Value) -> Backup {
    serde_json::from_value(json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "Backup", "metadata": {"name": "b1"},
        "spec": {"policyRef": {"name": "p"}, "trigger": "Manual", "requester": "li"}, "status": status,
    }))
    .unwrap()
}

fn point() -> Value {
    json!({"snapshotId": "abc", "dataTime": "2026-11-23T02:00:00Z"})
}

fn reference(name: &str, time: &str) -> PointRef {
    PointRef { backup: name.into(), snapshot_id: format!("s-{name}"), data_time: Time(at(time)) }
}

#[test]
fn b9_d1_only_complete_points_that_no_drill_found_bad_are_good() {
    let verified = |verdict: &str| json!({"drillRun": "d", "at": "2026-11-23T05:00:00Z", "verdict": verdict});
    let of = |phase: &str, more: Value| {
        let mut status = json!({"phase": phase, "point": point()});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        backup(&status)
    };
    let good = of("Succeeded", json!({}));
    assert_eq!((standing(&good), is_proven(&good)), (Some(Standing::Good), false));
    assert_eq!(good_point(&good).unwrap().data_time.0, at("2026-11-23T02:00:00Z"));
    let proven = of("Succeeded", json!({"verified": verified("Proven")}));
    assert_eq!((standing(&proven), is_proven(&proven)), (Some(Standing::Good), true));
    let partial = of("PartiallyFailed", json!({"verified": verified("Proven")}));
    assert_eq!((standing(&partial), good_point(&partial), is_proven(&partial)), (Some(Standing::Partial), None, false));
    let corrupt = of("Succeeded", json!({"verified": verified("Corrupt")}));
    assert_eq!((standing(&corrupt), good_point(&corrupt)), (Some(Standing::Corrupt), None));
    let may_be_gone =
        of("Succeeded", json!({"retention": {"expiredAt": "2026-11-24T00:00:00Z", "keptBy": ["keepLast"]}}));
    assert_eq!((standing(&may_be_gone), good_point(&may_be_gone)), (Some(Standing::Good), None));
    for none in [
        of("Succeeded", json!({"retention": {"forgottenAt": "2026-11-24T00:00:00Z"}})),
        of("Failed", json!({})),
        of("Running", json!({})),
        backup(&json!({"phase": "Succeeded"})),
    ] {
        assert_eq!((standing(&none), good_point(&none)), (None, None));
    }
}

#[test]
fn b15_beyond_the_objective_data_is_at_risk_and_one_incident_says_so() {
    let spec = policy_spec(|_| ());
    let created = at("2026-11-20T00:00:00Z");
    let slots = SlotDecision::default();
    let good = reference("b1", "2026-11-21T00:00:00Z");
    let mut status = interlock_crds::BackupPolicyStatus::default();
    let mut ask = |now: &str, last_good: Option<&PointRef>| {
        let facts = PolicyFacts {
            generation: 2,
            spec: &spec,
            status: &status.clone(),
            created_at: created,
            problems: &[],
            repository_problem: None,
            slots: &slots,
            active: None,
            last_run: None,
            consecutive_failures: 0,
            last_success: None,
            last_good,
            last_proven: None,
            heartbeat: None,
            wal: None,
            points: 0,
            now: at(now),
        };
        let (next, change) = policy(&facts);
        status = next;
        let risk = status.conditions.iter().find(|c| c.type_ == "RPOAtRisk").unwrap().clone();
        (risk.status, change.map(|change| change.begins), status.next_transition.clone().map(|t| t.0))
    };
    assert_eq!(ask("2026-11-21T00:00:00Z", None), ("False".into(), None, Some(at("2026-11-21T00:00:01Z"))));
    assert_eq!(ask("2026-11-21T00:00:01Z", None), ("True".into(), Some(true), None), "never a good point");
    assert_eq!(ask("2026-11-21T05:00:00Z", None).1, None, "told once");
    assert_eq!(
        ask("2026-11-21T06:00:00Z", Some(&good)),
        ("False".into(), Some(false), Some(at("2026-11-22T00:00:01Z")))
    );
    assert_eq!(ask("2026-11-22T00:00:00Z", Some(&good)).0, "False", "at the limit it is still met");
    assert_eq!(ask("2026-11-22T00:00:01Z", Some(&good)).1, Some(true));

    // Derived from objects alone: the same after a restart.
    let rpo = Some(SignedDuration::from_hours(24));
    let exposed = exposure(Some(&good), created, rpo, at("2026-11-22T00:47:30Z"));
    assert_eq!((exposed.seconds, exposed.at_risk, exposed.has_point), (89_250, true, true));
    assert!(!exposure(Some(&good), created, None, at("2036-11-22T00:47:30Z")).at_risk);
}

proptest! {
    /// The kept newest point equals the one that a look at all finds, whatever happens to single Backups.
    #[test]
    fn the_index_of_the_last_good_point_follows(changes in prop::collection::vec((0_usize..8, prop::option::of(0_i64..6)), 1..60)) {
        let mut all: Vec<Option<PointRef>> = vec![None; 8];
        let mut known: Option<PointRef> = None;
        for (n, hour) in changes {
            let name = format!("b{n}");
            all[n] = hour.map(|hour| reference(&name, &format!("2026-11-23T0{hour}:00:00Z")));
            match index(known.as_ref(), &name, all[n].clone()) {
                IndexStep::Keep => {}
                IndexStep::Replace(point) => known = Some(point),
                IndexStep::Rescan => known = newest(all.iter().flatten().cloned()),
            }
            prop_assert_eq!(&known, &newest(all.iter().flatten().cloned()));
        }
    }
}
