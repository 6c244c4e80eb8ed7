//! B11, B12, D13: what may be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::Retention;
use jiff::{SignedDuration, Timestamp, Unit, Zoned};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::at;
use crate::backup::{
    exposure::Standing,
    retention::{Forgotten, Kept, Plan, Point, plan},
};

fn point(id: &str, time: &str) -> Point {
    let time = if time.len() == 10 { format!("{time}T02:00:00Z") } else { time.into() };
    Point {
        id: id.into(),
        time: at(&time),
        standing: Standing::Good,
        proven: false,
        expired: false,
        base: None,
        in_use: false,
        held_until: None,
    }
}

fn rules(value: Value) -> Retention {
    serde_json::from_value(value).unwrap()
}

fn planned(value: Value, points: &[Point]) -> Plan {
    plan(&rules(value), points, at("2026-11-23T12:00:00Z"))
}

fn forgotten(plan: &Plan) -> Vec<&str> {
    plan.forget.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn b11_the_only_good_point_stays_however_old_it_is() {
    let mut points = vec![point("good", "2020-01-01")];
    for day in 10..20 {
        points.push(Point { standing: Standing::Partial, ..point(&format!("p{day}"), &format!("2026-11-{day}")) });
    }
    let plan = planned(json!({"keepLast": 3}), &points);
    assert!(plan.keep["good"].contains(&Kept::LastGood));
    assert_eq!(plan.forget, [], "partial points that are newer are all there is of these days");

    points.push(point("new", "2026-11-21"));
    let plan = planned(json!({"keepLast": 1}), &points);
    assert_eq!(plan.keep.keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(plan.forget[0], ("good".into(), Forgotten::Expired));
    assert!(plan.forget[1..].iter().all(|(_, why)| *why == Forgotten::Partial));
}

#[test]
fn b11_the_newest_proven_point_stays_until_a_newer_one_is_proven() {
    let mut points: Vec<_> = (1..=9).map(|day| point(&format!("d{day}"), &format!("2026-11-0{day}"))).collect();
    points[1].proven = true;
    points[3].proven = true;
    let plan = planned(json!({"keepLast": 2}), &points);
    assert_eq!(forgotten(&plan), ["d1", "d2", "d3", "d5", "d6", "d7"]);
    assert_eq!(plan.keep["d4"], BTreeSet::from([Kept::LastProven]));
    points[3].standing = Standing::Corrupt;
    let plan = planned(json!({"keepLast": 2}), &points);
    assert_eq!(plan.keep["d2"], BTreeSet::from([Kept::LastProven]));
    assert!(plan.forget.contains(&("d4".into(), Forgotten::Corrupt)));
}

#[test]
fn b11_a_point_that_a_prune_may_have_removed_is_never_the_only_one_that_stays() {
    let mut points: Vec<_> = (1..=4).map(|day| point(&format!("d{day}"), &format!("2026-11-0{day}"))).collect();
    for point in &mut points {
        point.proven = true;
    }
    points[2].expired = true;
    points[3].standing = Standing::Corrupt;
    let plan = planned(json!({"keepLast": 1}), &points);
    assert_eq!(forgotten(&plan), ["d1"]);
    let newest = BTreeSet::from([Kept::LastGood, Kept::LastProven]);
    for id in ["d2", "d3"] {
        assert!(plan.keep[id].is_superset(&newest), "{id}: also the one that is surely there");
    }
    assert_eq!(plan.keep["d4"], BTreeSet::from([Kept::NothingNewer]), "nothing that is surely there is newer");
    points[3].standing = Standing::Good;
    assert_eq!(forgotten(&planned(json!({"keepLast": 1}), &points)), ["d1", "d2", "d3"]);
    points[3].expired = true;
    points[1].proven = false;
    let plan = planned(json!({"keepLast": 2}), &points);
    assert_eq!(forgotten(&plan), [] as [&str; 0], "what may be gone takes nobody's place under a rule");
}

#[test]
fn b11_without_a_rule_or_zone_nothing_is_forgotten() {
    let points = [point("a", "2020-01-01"), point("b", "2026-11-01")];
    for rules in [json!({}), json!({"keepLast": 1, "timeZone": "Nowhere/Land"})] {
        assert_eq!(planned(rules, &points).forget, []);
    }
}

#[test]
fn b12_a_base_stays_as_long_as_anything_that_needs_it() {
    let mut points: Vec<_> = (1..=6).map(|day| point(&format!("d{day}"), &format!("2026-11-0{day}"))).collect();
    for (n, base) in [(1, "d1"), (2, "d2"), (4, "d4"), (5, "d4")] {
        points[n].base = Some(base.into());
    }
    let plan = planned(json!({"keepLast": 1}), &points);
    assert_eq!(forgotten(&plan), ["d1", "d2", "d3", "d5"]);
    assert_eq!(plan.keep["d4"], BTreeSet::from([Kept::Base]));
    points[2].held_until = Some(Timestamp::MAX);
    let plan = planned(json!({"keepLast": 1}), &points);
    assert_eq!(forgotten(&plan), ["d5"], "d3 needs d2, and d2 needs d1");
}

#[test]
fn b12_what_follows_on_a_corrupt_base_is_not_the_last_good_point() {
    let mut points: Vec<_> = (1..=6).map(|day| point(&format!("d{day}"), &format!("2026-11-0{day}"))).collect();
    for (n, base) in [(1, "d1"), (2, "d1"), (4, "d4"), (5, "d4")] {
        points[n].base = Some(base.into());
        points[n].proven = true;
    }
    let newest = |points: &[Point]| {
        let plan = planned(json!({"keepLast": 1}), points);
        let of = |why: Kept| plan.keep.iter().find(|(_, all)| all.contains(&why)).map(|(id, _)| id.clone()).unwrap();
        [of(Kept::Last), of(Kept::LastGood), of(Kept::LastProven), of(Kept::Base)]
    };
    assert_eq!(newest(&points), ["d6", "d6", "d6", "d4"]);
    points[3].standing = Standing::Corrupt;
    assert_eq!(newest(&points), ["d6", "d3", "d3", "d1"]);
}

#[test]
fn d13_points_in_use_and_held_ones_stay() {
    let mut points: Vec<_> = (1..=5).map(|day| point(&format!("d{day}"), &format!("2026-11-0{day}"))).collect();
    points[0].in_use = true;
    points[1].held_until = Some(at("2026-11-23T12:00:01Z"));
    points[2].held_until = Some(at("2026-11-23T12:00:00Z"));
    let plan = planned(json!({"keepLast": 1}), &points);
    assert_eq!(forgotten(&plan), ["d3", "d4"]);
    assert_eq!((&plan.keep["d1"], &plan.keep["d2"]), (&BTreeSet::from([Kept::InUse]), &BTreeSet::from([Kept::Held])));
    assert_eq!(Kept::WithinDaily.name(), "keepWithinDaily");
    assert_eq!(Kept::InUse.name(), "InUse");
}

#[test]
fn within_counts_from_the_newest_point_and_periods_follow_the_zone() {
    let points = [point("a", "2026-01-01"), point("b", "2026-01-05"), point("c", "2026-01-08")];
    assert_eq!(forgotten(&planned(json!({"keepWithin": "5d"}), &points)), ["a"]);
    assert_eq!(forgotten(&planned(json!({"keepWithin": "3d"}), &points)), ["a", "b"], "exactly three days is outside");
    let evening =
        [point("x", "2026-11-20T15:00:00Z"), point("y", "2026-11-20T17:00:00Z"), point("z", "2026-11-21T01:00:00Z")];
    assert_eq!(
        forgotten(&planned(json!({"keepDaily": 3}), &evening)),
        [""; 0],
        "the oldest is kept while counts are left"
    );
    let one_before = [&[point("w", "2026-11-19T00:00:00Z")][..], &evening].concat();
    assert_eq!(forgotten(&planned(json!({"keepDaily": 2}), &one_before)), ["w", "x"]);
    // In Shanghai y and z are one day.
    assert_eq!(forgotten(&planned(json!({"keepDaily": 2, "timeZone": "Asia/Shanghai"}), &one_before)), ["w", "y"]);
}

#[test]
fn the_week_around_new_year_is_one_week() {
    let days = ["2026-12-20", "2026-12-30", "2027-01-02", "2027-01-05"];
    let points: Vec<_> = days.iter().map(|day| point(day, day)).collect();
    let plan = plan(&rules(json!({"keepWeekly": 2})), &points, at("2027-01-06T00:00:00Z"));
    assert_eq!(forgotten(&plan), ["2026-12-20", "2026-12-30"]);
    assert!(plan.keep["2027-01-02"].contains(&Kept::Weekly));
}

/// The rules once more, written another way: for each rule the set of periods, by calendar arithmetic of `Zoned`.
fn oracle(rules: &Retention, points: &[Point], now: Timestamp) -> BTreeSet<String> {
    let zone = rules.time_zone.as_str();
    let local = |point: &Point| point.time.in_tz(zone).unwrap();
    let floor = |z: &Zoned, unit: &str| -> String {
        match unit {
            "hour" => z.strftime("%Y-%m-%d %H").to_string(),
            "day" => z.strftime("%Y-%m-%d").to_string(),
            "week" => z.strftime("%G-W%V").to_string(),
            "month" => z.strftime("%Y-%m").to_string(),
            _ => z.strftime("%Y").to_string(),
        }
    };
    let mut sorted: Vec<_> = points.iter().filter(|p| p.standing == Standing::Good).collect();
    sorted.sort_by_key(|p| (p.time, p.id.clone()));
    let mut kept = BTreeSet::new();
    let Some(oldest) = sorted.first() else { return kept };
    kept.extend(sorted.iter().rev().take(rules.keep_last.unwrap_or(0) as usize).map(|p| p.id.clone()));
    let latest = sorted.iter().map(|p| p.time).filter(|t| *t < now).max();
    let young = |p: &Point, within: Option<interlock_crds::Duration>| match (within, latest) {
        (Some(within), Some(latest)) => {
            latest.since((Unit::Second, p.time)).unwrap().total(Unit::Second).unwrap() < within.seconds() as f64
        }
        (within, _) => within.is_some(),
    };
    kept.extend(sorted.iter().filter(|p| young(p, rules.keep_within)).map(|p| p.id.clone()));
    let counted = [
        ("hour", rules.keep_hourly, rules.keep_within_hourly),
        ("day", rules.keep_daily, rules.keep_within_daily),
        ("week", rules.keep_weekly, rules.keep_within_weekly),
        ("month", rules.keep_monthly, rules.keep_within_monthly),
        ("year", rules.keep_yearly, rules.keep_within_yearly),
    ];
    for (unit, count, within) in counted {
        let mut newest: BTreeMap<String, &Point> = BTreeMap::new();
        for p in &sorted {
            newest.insert(floor(&local(p), unit), p);
        }
        let mut of_periods: Vec<_> = newest.values().map(|p| (p.time, p.id.clone())).collect();
        of_periods.sort();
        let count = count.unwrap_or(0) as usize;
        kept.extend(of_periods.iter().rev().take(count).map(|(_, id)| id.clone()));
        if of_periods.len() < count {
            kept.insert(oldest.id.clone());
        }
        kept.extend(newest.values().filter(|p| young(p, within)).map(|p| p.id.clone()));
        if young(oldest, within) {
            kept.insert(oldest.id.clone());
        }
    }
    kept
}

fn some_rules() -> impl Strategy<Value = Retention> {
    let count = || prop::option::weighted(0.3, 1_u32..6);
    let within = || prop::option::weighted(0.2, 1_i64..2_000);
    let zone = prop::sample::select(&["UTC", "Europe/Berlin", "Asia/Shanghai", "Australia/Lord_Howe"][..]);
    (
        (count(), count(), count(), count(), count(), count()),
        (within(), within(), within(), within(), within(), within()),
        zone,
    )
        .prop_map(|(c, w, zone)| {
            let hours = |hours: Option<i64>| hours.map(|hours| interlock_crds::Duration::from_seconds(hours * 3_600));
            Retention {
                keep_last: c.0,
                keep_hourly: c.1,
                keep_daily: c.2,
                keep_weekly: c.3,
                keep_monthly: c.4,
                keep_yearly: c.5,
                keep_within: hours(w.0),
                keep_within_hourly: hours(w.1),
                keep_within_daily: hours(w.2),
                keep_within_weekly: hours(w.3),
                keep_within_monthly: hours(w.4),
                keep_within_yearly: hours(w.5),
                time_zone: zone.into(),
            }
        })
}

/// Histories: distances in minutes, and what each point is.
fn histories() -> impl Strategy<Value = Vec<Point>> {
    let step = prop_oneof![1_i64..90, 600_i64..3_000, 20_000_i64..90_000];
    prop::collection::vec((step, 0_u8..10, any::<[bool; 5]>(), 0_usize..4), 0..40).prop_map(|steps| {
        let mut time = at("2026-10-20T00:30:00Z");
        let mut points: Vec<Point> = vec![];
        for (n, (step, standing, [proven, in_use, held, chained, rare], back)) in steps.into_iter().enumerate() {
            time = time.checked_add(SignedDuration::from_mins(step)).unwrap();
            points.push(Point {
                id: format!("{n:03}"),
                time,
                standing: [Standing::Partial, Standing::Corrupt]
                    .get(usize::from(standing))
                    .copied()
                    .unwrap_or(Standing::Good),
                proven: proven && rare,
                expired: false,
                base: (chained && n > back).then(|| format!("{:03}", n - 1 - back)),
                in_use: in_use && rare,
                held_until: (held && rare).then_some(Timestamp::MAX),
            });
        }
        points
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Seam for restic itself: `oracle` is replaced by the ids that `restic forget --dry-run --json` keeps.
    #[test]
    fn the_rules_keep_what_the_oracle_keeps(rules in some_rules(), points in histories(), later in 1_i64..100) {
        let plain: Vec<_> = points.into_iter().map(|p| Point { proven: false, base: None, in_use: false, held_until: None, ..p }).collect();
        let now = plain.iter().map(|p| p.time).max().unwrap_or(at("2027-01-01T00:00:00Z"));
        let now = now.checked_add(SignedDuration::from_mins(later)).unwrap();
        let plan = plan(&rules, &plain, now);
        prop_assume!(crate::backup::retention::has_rule(&rules));
        let protection = |why: &Kept| matches!(why, Kept::LastGood | Kept::NothingNewer);
        let by_rule: BTreeSet<_> = plan.keep.iter().filter(|(_, why)| !why.iter().all(protection)).map(|(id, _)| id.clone()).collect();
        prop_assert_eq!(by_rule, oracle(&rules, &plain, now));
    }

    /// Whatever the rules: the protected points stay, every point is decided once, and the rest of a plan carried out gives
    /// the same again.
    #[test]
    fn protected_points_survive_every_rule_set(rules in some_rules(), points in histories(), future in -50_i64..5_000) {
        let now = at("2026-10-25T00:30:00Z").checked_add(SignedDuration::from_hours(future)).unwrap();
        let plan = plan(&rules, &points, now);
        let gone: BTreeSet<_> = plan.forget.iter().map(|(id, _)| id.as_str()).collect();
        prop_assert_eq!(gone.len() + plan.keep.len(), points.len());
        prop_assert!(plan.keep.keys().all(|id| !gone.contains(id.as_str())));
        let is_corrupt = |id: &String| points.iter().any(|p| p.id == *id && p.standing == Standing::Corrupt);
        let good = || points.iter().filter(|p| p.standing == Standing::Good && !p.base.as_ref().is_some_and(is_corrupt));
        for protected in [good().max_by_key(|p| (p.time, &p.id)), good().filter(|p| p.proven).max_by_key(|p| (p.time, &p.id))] {
            prop_assert!(protected.is_none_or(|p| !gone.contains(p.id.as_str())));
        }
        for p in &points {
            if p.in_use || p.held_until.is_some() {
                prop_assert!(!gone.contains(p.id.as_str()), "{p:?}");
            }
            if let Some(base) = p.base.as_ref().filter(|_| !gone.contains(p.id.as_str())) {
                prop_assert!(!gone.contains(base.as_str()), "{base} is the base of {}", p.id);
            }
        }
    }
}
