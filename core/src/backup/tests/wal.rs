//! Which log carries a base on, and what is restored for a moment.

use interlock_crds::{Backup, WalRange};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::at;
use crate::backup::{
    choose::{Wanted, choose_recovery},
    wal::{
        Segment, Spool, WalProblem, carries_on, first_segment, header, history, newest_end, quantity_bytes, reachable,
        recovery_settings,
    },
};

const MEBIBYTE: u64 = 1 << 20;
const BYTES: u64 = 16 * MEBIBYTE;

fn name(timeline: u32, number: u64) -> String {
    Segment { timeline, number }.name(BYTES)
}

fn spool(segments: &[(u32, u64)], histories: &[(u32, &str)]) -> Spool {
    let names: Vec<_> = segments.iter().map(|(timeline, number)| name(*timeline, *number)).collect();
    let histories = histories.iter().map(|(timeline, text)| (*timeline, history(text)));
    Spool::new(BYTES, names.iter().map(String::as_str), histories)
}

fn around(spool: &Spool, timeline: u32, number: u64) -> Result<[(u32, u64); 2], WalProblem> {
    let (from, to) = spool.around(Segment { timeline, number })?;
    Ok([(from.timeline, from.number), (to.timeline, to.number)])
}

#[test]
fn names_of_segments_are_those_of_postgres() {
    assert_eq!(name(1, 2), "000000010000000000000002");
    assert_eq!(name(3, 256), "000000030000000100000000");
    assert_eq!(Segment::parse("0000000300000001000000FF", BYTES), Some(Segment { timeline: 3, number: 511 }));
    for wrong in
        ["000000010000000000000100", "00000001000000000000000", "000000010000000000000001.partial", "00000002.history"]
    {
        assert_eq!(Segment::parse(wrong, BYTES), None, "{wrong}");
    }
    let large = Segment { timeline: 1, number: 9 };
    assert_eq!(Segment::parse(&large.name(1 << 30), 1 << 30), Some(large));
}

#[test]
fn segments_without_a_gap_carry_on_and_bring_what_came_before() {
    let whole = spool(&[(1, 3), (1, 4), (1, 5), (1, 6)], &[]);
    assert_eq!(around(&whole, 1, 5), Ok([(1, 3), (1, 6)]));
    let after_a_hole = spool(&[(1, 1), (1, 4), (1, 5)], &[]);
    assert_eq!(around(&after_a_hole, 1, 4), Ok([(1, 4), (1, 5)]));
    let gap = WalProblem::Gap { missing: name(1, 5), next: name(1, 7) };
    assert_eq!(around(&spool(&[(1, 4), (1, 7), (1, 8)], &[]), 1, 4), Err(gap));
    let gap = WalProblem::Gap { missing: name(1, 4), next: name(1, 6) };
    assert_eq!(around(&spool(&[(1, 6)], &[]), 1, 4), Err(gap));
    let nothing = WalProblem::Nothing { first: name(1, 4) };
    assert_eq!(around(&spool(&[(1, 2), (1, 3)], &[]), 1, 4), Err(nothing));
}

#[test]
fn a_new_timeline_goes_on_in_the_segment_in_which_the_old_one_was_left() {
    let left_in_six = "1\t0/6000148\tno recovery target specified\n";
    let switched = spool(&[(1, 4), (1, 5), (2, 6), (2, 7)], &[(2, left_in_six)]);
    assert_eq!(around(&switched, 1, 4), Ok([(1, 4), (2, 7)]));
    // What the old server still wrote there is not what is followed.
    let both = spool(&[(1, 4), (1, 5), (1, 6), (1, 7), (1, 8), (2, 6)], &[(2, left_in_six)]);
    assert_eq!(around(&both, 1, 4), Ok([(1, 4), (2, 6)]));
    // A timeline that did not come from the base's is not followed.
    let foreign = spool(&[(1, 4), (1, 5), (3, 6)], &[(3, "2\t0/3000000\tother\n")]);
    assert_eq!(around(&foreign, 1, 4), Ok([(1, 4), (1, 5)]));
    // A base on the new timeline, and what came before on the old one.
    assert_eq!(around(&switched, 2, 6), Ok([(1, 4), (2, 7)]));
}

#[test]
fn what_postgres_writes_is_read() {
    let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n";
    assert_eq!(first_segment(label).as_deref(), Some("000000010000000000000002"));
    assert_eq!(first_segment("LABEL: x"), None);
    let mut page = vec![0x10, 0xD1, 0, 0, 1, 0, 0, 0];
    page.extend((3 * BYTES).to_le_bytes());
    page.extend([0; 8]);
    page.extend(7_123_456_789_u64.to_le_bytes());
    page.extend(u32::try_from(BYTES).unwrap().to_le_bytes());
    let read = header(&page).unwrap();
    assert_eq!((read.address, read.system_id, read.segment_bytes), (3 * BYTES, 7_123_456_789, BYTES));
    assert_eq!(header(&page[..30]), None);
    assert_eq!(header(&[0; 40]), None);
    let dump = "rmgr: Transaction len (rec/tot): 34/34, tx: 735, lsn: 0/015F, prev 0/01, desc: COMMIT 2026-11-30 06:40:07.211912 UTC\n\
        rmgr: Transaction len (rec/tot): 34/34, tx: 736, lsn: 0/016F, prev 0/01, desc: ABORT 2026-11-30 06:41:00.500000 UTC; rels: x\n\
        rmgr: Heap len (rec/tot): 34/34, desc: INSERT off 3\n";
    assert_eq!(newest_end(dump), Some(at("2026-11-30T06:41:00.5Z")));
    assert_eq!(reachable(at("2026-11-30T06:41:00.5Z")), at("2026-11-30T06:41:00.499999Z"));
}

#[test]
fn a_server_is_told_where_its_log_is_and_to_whom_it_must_not_speak() {
    let text = recovery_settings("../../wal", Some(at("2026-11-30T06:41:00.25Z")));
    for line in [
        "restore_command = 'cp \"../../wal/%f\" \"%p\"'",
        "recovery_target_time = '2026-11-30 06:41:00.250000+00'",
        "recovery_target_action = 'promote'",
        "archive_mode = 'off'",
        "synchronous_standby_names = ''",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!recovery_settings("../../wal", None).contains("recovery_target_time ="));
}

#[test]
fn quantities_are_bytes() {
    let known = ["2Gi", "1.5k", "10", "1G", "2500m", "x", "0.5Mi"].map(quantity_bytes);
    assert_eq!(known, [Some(2 << 30), Some(1_500), Some(10), Some(1_000_000_000), Some(3), None, Some(512 << 10)]);
}

/// A Backup with a physical point: name, base, until, timeline and numbers of segments.
fn point(name: &str, base: Option<&str>, until: &str, segments: (u32, u64, u64)) -> Backup {
    let (timeline, from, to) = segments;
    let range = json!({"systemId": "7", "timeline": timeline, "segmentBytes": BYTES,
        "from": self::name(timeline, from), "to": self::name(timeline, to)});
    serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"policyRef": {"name": "p"}, "requester": "x"},
        "status": {"phase": "Succeeded", "point": {
            "snapshotId": format!("id-{name}"), "baseId": base.map(|base| format!("id-{base}")), "dataTime": until,
            "recoverableUntil": until, "wal": range}},
    }))
    .unwrap()
}

fn forgotten(mut backup: Backup) -> Backup {
    let status = backup.status.as_mut().unwrap();
    status.retention = serde_json::from_value(json!({"forgottenAt": "2026-12-01T00:00:00Z"})).unwrap();
    backup
}

type Chosen = (String, Option<String>, Option<Timestamp>);

fn chosen(all: &[Backup], wanted: &Wanted) -> Result<Chosen, String> {
    let name = |backup: &Backup| backup.metadata.name.clone().unwrap();
    let (recovery, _) = choose_recovery(all, wanted)?;
    Ok((name(recovery.base.0), recovery.wal.map(|(backup, _)| name(backup)), recovery.until))
}

fn moment(all: &[Backup], text: &str) -> Result<(String, String), String> {
    let (base, wal, until) = chosen(all, &Wanted::At(at(text)))?;
    assert_eq!(until, Some(at(text)));
    Ok((base, wal.unwrap()))
}

#[test]
fn a_moment_is_recovered_from_the_newest_base_before_it_and_the_earliest_log_that_reaches_it() {
    let all = [
        point("base-1", None, "2026-11-01T01:00:00Z", (1, 10, 10)),
        point("wal-1", Some("base-1"), "2026-11-01T02:00:00Z", (1, 10, 14)),
        point("wal-2", Some("base-1"), "2026-11-01T03:00:00Z", (1, 10, 18)),
        point("base-2", None, "2026-11-01T04:00:00Z", (1, 22, 23)),
        // The first after a base also carries on the base before it.
        point("wal-3", Some("base-2"), "2026-11-01T05:00:00Z", (1, 10, 26)),
        point("wal-4", Some("base-2"), "2026-11-01T06:00:00Z", (1, 22, 30)),
    ];
    let taken = |text: &str| moment(&all, text).unwrap();
    let pair = |base: &str, wal: &str| (base.to_owned(), wal.to_owned());
    assert_eq!(taken("2026-11-01T01:00:00Z"), pair("base-1", "wal-1"));
    assert_eq!(taken("2026-11-01T02:00:00Z"), pair("base-1", "wal-1"));
    assert_eq!(taken("2026-11-01T02:00:00.000001Z"), pair("base-1", "wal-2"));
    assert_eq!(taken("2026-11-01T03:30:00Z"), pair("base-1", "wal-3"));
    assert_eq!(taken("2026-11-01T04:00:00Z"), pair("base-2", "wal-3"));
    assert_eq!(taken("2026-11-01T05:30:00Z"), pair("base-2", "wal-4"));
    let later = moment(&all, "2026-11-01T06:00:01Z").unwrap_err();
    assert!(later.contains("2026-11-01T04:00:00Z to 2026-11-01T06:00:00Z"), "{later}");
    assert!(moment(&all, "2026-11-01T00:59:59Z").is_err());
    // Without the log that joins the chains the moment between them is gone.
    let without: Vec<_> = all.iter().filter(|b| b.metadata.name.as_deref() != Some("wal-3")).cloned().collect();
    assert!(moment(&without, "2026-11-01T03:30:00Z").is_err());
    assert_eq!(chosen(&all, &Wanted::Newest).unwrap(), ("base-2".into(), Some("wal-4".into()), None));
    assert_eq!(chosen(&all, &Wanted::Of("base-1".into())).unwrap(), ("base-1".into(), None, None));
    assert_eq!(chosen(&all, &Wanted::Of("wal-1".into())).unwrap(), ("base-1".into(), Some("wal-1".into()), None));
}

#[test]
fn log_without_its_base_is_not_restored_and_the_base_before_takes_its_place() {
    let all = [
        point("base-1", None, "2026-11-01T01:00:00Z", (1, 10, 10)),
        forgotten(point("base-2", None, "2026-11-01T04:00:00Z", (1, 22, 23))),
        point("wal-3", Some("base-2"), "2026-11-01T05:00:00Z", (1, 10, 26)),
    ];
    assert_eq!(moment(&all, "2026-11-01T04:30:00Z"), Ok(("base-1".into(), "wal-3".into())));
    assert!(chosen(&all, &Wanted::Of("wal-3".into())).unwrap_err().contains("base copy that wal-3 needs"));
}

#[test]
fn what_follows_on_a_corrupt_base_is_passed_over() {
    let mut all = [
        point("base-1", None, "2026-11-01T01:00:00Z", (1, 10, 10)),
        point("wal-1", Some("base-1"), "2026-11-01T02:00:00Z", (1, 10, 14)),
        point("base-2", None, "2026-11-01T04:00:00Z", (1, 22, 23)),
        point("wal-2", Some("base-2"), "2026-11-01T05:00:00Z", (1, 22, 26)),
    ];
    assert_eq!(chosen(&all, &Wanted::Newest).unwrap(), ("base-2".into(), Some("wal-2".into()), None));
    let verified = json!({"drillRun": "d", "verdict": "Corrupt", "at": "2026-11-02T01:00:00Z"});
    all[2].status.as_mut().unwrap().verified = serde_json::from_value(verified).unwrap();
    assert_eq!(chosen(&all, &Wanted::Newest).unwrap(), ("base-1".into(), Some("wal-1".into()), None));
    assert!(chosen(&all, &Wanted::Of("wal-2".into())).is_err());
}

#[test]
fn what_the_next_prune_forgets_is_not_chosen_but_by_name() {
    let mut all = [
        point("base-1", None, "2026-11-01T01:00:00Z", (1, 10, 10)),
        point("wal-1", Some("base-1"), "2026-11-01T02:00:00Z", (1, 10, 14)),
    ];
    assert!(moment(&all, "2026-11-01T01:30:00Z").is_ok());
    for backup in &mut all {
        let retention = serde_json::from_value(json!({"expiredAt": "2026-12-01T00:00:00Z"})).unwrap();
        backup.status.as_mut().unwrap().retention = retention;
    }
    assert!(moment(&all, "2026-11-01T01:30:00Z").is_err());
    assert!(crate::backup::choose::choose(&all, &Wanted::Newest).is_err());
    assert!(crate::backup::choose::choose(&all, &Wanted::Of("wal-1".into())).is_ok());
}

#[test]
fn another_server_and_another_timeline_carry_nothing_on() {
    let range = |system: &str, timeline: u32, from: u64, to: u64| WalRange {
        system_id: system.to_owned(),
        timeline,
        segment_bytes: i64::try_from(BYTES).unwrap(),
        from: name(timeline, from),
        to: name(timeline, to),
    };
    let base = range("7", 1, 4, 5);
    assert!(carries_on(&base, &range("7", 1, 4, 9)) && carries_on(&base, &range("7", 1, 3, 5)));
    for wrong in [range("8", 1, 4, 9), range("7", 2, 4, 9), range("7", 1, 5, 9), range("7", 1, 3, 4)] {
        assert!(!carries_on(&base, &wrong), "{wrong:?}");
    }
}

proptest! {
    /// What is said to be without a gap is, has the base's first segment in it, and cannot be longer.
    #[test]
    fn what_carries_on_is_whole_and_as_long_as_can_be(there in proptest::collection::btree_set(0_u64..24, 0..24), start in 0_u64..24) {
        let segments: Vec<_> = there.iter().map(|number| (1, *number)).collect();
        match around(&spool(&segments, &[]), 1, start) {
            Ok([(_, from), (_, to)]) => {
                prop_assert!(from <= start && start <= to && (from..=to).all(|number| there.contains(&number)));
                prop_assert!(from == 0 || !there.contains(&(from - 1)));
                prop_assert!(there.range(to + 1..).next().is_none());
            }
            Err(WalProblem::Nothing { .. }) => prop_assert!(there.range(start..).next().is_none()),
            Err(WalProblem::Gap { missing, .. }) => {
                let missing = Segment::parse(&missing, BYTES).unwrap().number;
                prop_assert!(missing >= start && !there.contains(&missing) && (start..missing).all(|n| there.contains(&n)));
                prop_assert!(there.range(missing..).next().is_some());
            }
        }
    }

    /// Whatever chains there are, what is chosen for a moment can be restored, ends at it, and no newer base would do.
    #[test]
    fn what_is_chosen_for_a_moment_reaches_it(
        steps in proptest::collection::vec((any::<bool>(), 1_i64..30, any::<bool>()), 1..24), asked in 0_i64..400,
    ) {
        let (mut time, mut base, mut joined, mut all) = (0, None::<(String, u64)>, 0_u64, Vec::new());
        for (n, (full, minutes, lost)) in steps.into_iter().enumerate() {
            time += minutes;
            let until = Timestamp::from_second(time * 60).unwrap().to_string();
            let number = u64::try_from(time).unwrap();
            let made = if let (false, Some((base, first))) = (full, &base) {
                let made = point(&format!("wal-{n}"), Some(base), &until, (1, joined.min(*first), number));
                joined = *first;
                made
            } else {
                let name = format!("base-{n}");
                joined = base.as_ref().map_or(number, |(_, first)| *first);
                base = Some((name.clone(), number));
                point(&name, None, &until, (1, number, number))
            };
            all.push(if lost && n % 3 == 0 { forgotten(made) } else { made });
        }
        let wanted = Timestamp::from_second(asked * 60 + 30).unwrap();
        let of = |value: &Backup| value.status.clone().unwrap().point.unwrap();
        let good: Vec<&Backup> = all.iter().filter(|b| b.status.as_ref().unwrap().retention.is_none()).collect();
        let usable = |base: &Backup, wal: &Backup| {
            let (base, wal) = (of(base), of(wal));
            base.base_id.is_none() && base.recoverable_until.unwrap().0 <= wanted && wal.base_id.is_some()
                && wal.recoverable_until.unwrap().0 >= wanted
                && (wal.base_id == Some(base.snapshot_id) || carries_on(&base.wal.unwrap(), &wal.wal.unwrap()))
        };
        let best = good.iter().filter(|base| good.iter().any(|wal| usable(base, wal))).map(|base| of(base).data_time.0).max();
        match choose_recovery(&all, &Wanted::At(wanted)) {
            Ok((recovery, warning)) => {
                prop_assert!(warning.is_none() && recovery.until == Some(wanted));
                prop_assert!(usable(recovery.base.0, recovery.wal.unwrap().0));
                prop_assert_eq!(Some(recovery.base.1.data_time.0), best);
            }
            Err(why) => prop_assert!(best.is_none(), "{} although {:?} would do", why, best),
        }
    }
}

#[test]
fn a_plan_names_what_is_pinned() {
    let policy: Value = json!({
        "repositoryRef": {"name": "vault"}, "retention": {"keepLast": 3}, "pod": {"scratchSize": "20Gi"},
        "source": {"postgres": {"host": "db", "secretRef": {"name": "db"}, "mode": "Physical",
            "wal": {"persistentVolumeClaim": "spool", "slot": "vault"}}},
    });
    let policy = serde_json::from_value(policy).unwrap();
    let plan = super::pods::physical_plan(&policy);
    let source = serde_json::to_value(plan.source).unwrap();
    assert_eq!((&source["baseId"], &source["roomBytes"]), (&json!("base-1"), &json!(20_u64 << 30)));
    assert_eq!((&source["base"], &source["slot"]), (&json!(false), &json!("vault")));
}
