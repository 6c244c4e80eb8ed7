//! D4 to D7: what is measured.

use interlock_crds::{DrillRunStatus, Duration, SegmentName, SelectionStrategy};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::{beat, chosen, on};
use crate::drill::clock::{
    HeartbeatFinding, HeartbeatLimits, PointObjectives, SEGMENTS, end_segment, heartbeat, rpo, rto, segment_seconds,
};

const TEN: SignedDuration = SignedDuration::from_secs(10);
const NONE: SignedDuration = SignedDuration::ZERO;

/// Limits of a drill that begins at noon.
fn limits(before_end: SignedDuration) -> HeartbeatLimits {
    HeartbeatLimits { interval: TEN, before_end, t0: on(23, "12:00:00"), skew: SignedDuration::from_secs(2) }
}

fn objectives(rpo: Option<i64>, lag: Option<i64>) -> PointObjectives {
    PointObjectives {
        interval: TEN,
        skew: SignedDuration::ZERO,
        before_end: SignedDuration::ZERO,
        rpo: rpo.map(SignedDuration::from_secs),
        capture_lag: lag.map(SignedDuration::from_secs),
    }
}

#[test]
fn d5_the_recovery_point_is_measured_from_the_restored_heartbeat_with_error_bars() {
    let t0 = on(23, "12:47:30");
    let point = chosen(SelectionStrategy::Latest, on(23, "12:00:00"), Some(beat(4, on(23, "12:00:00"))));
    let measured = |seconds| rpo(t0, &point, &beat(4, on(23, "12:00:00")), &objectives(Some(seconds), None));
    let hour = measured(3_600);
    assert_eq!((hour.seconds, hour.at_least_seconds, hour.at_most_seconds), (2_850, 2_840, 2_860));
    assert_eq!((hour.met, hour.objective_seconds), (Some(true), Some(3_600)));
    assert_eq!(measured(1_800).met, Some(false));
    assert_eq!((measured(2_850).met, measured(2_849).met), (Some(true), Some(false)));
    assert_eq!(hour.capture_lag_met, None, "not judged for Latest");
    let skewed = PointObjectives { skew: SignedDuration::from_secs(3), ..objectives(Some(2_852), None) };
    let skewed = rpo(t0, &point, &beat(4, on(23, "12:00:00")), &skewed);
    assert_eq!(
        (skewed.at_least_seconds, skewed.at_most_seconds, skewed.met),
        (2_837, 2_863, Some(false)),
        "clocks count against us"
    );
}

#[test]
fn d5_another_selection_judges_the_capture_lag_and_not_the_age() {
    let t0 = on(23, "12:00:00");
    let point = chosen(SelectionStrategy::Oldest, on(2, "02:00:00"), Some(beat(4, on(2, "01:59:35"))));
    let measured = rpo(t0, &point, &beat(4, on(2, "01:59:35")), &objectives(Some(60), None));
    assert_eq!((measured.met, measured.objective_seconds), (None, None), "weeks old, and no verdict about it");
    assert!(measured.seconds > 20 * 86_400);
    assert_eq!((measured.capture_lag_seconds, measured.capture_lag_met), (Some(25), Some(true)));
    let strict = rpo(t0, &point, &beat(4, on(2, "01:59:35")), &objectives(None, Some(20)));
    assert_eq!(strict.capture_lag_met, Some(false));
    let late = rpo(t0, &point, &beat(4, on(2, "01:59:29")), &objectives(None, None));
    assert_eq!(late.capture_lag_met, Some(false), "31 s are more than three intervals");
}

fn measured(ends: &[(SegmentName, &str)]) -> DrillRunStatus {
    let mut status = DrillRunStatus { t0: Some(Time(on(23, "12:00:00"))), ..DrillRunStatus::default() };
    for (name, end) in ends {
        end_segment(&mut status, *name, on(23, end), on(23, "13:00:00"));
    }
    status
}

#[test]
fn d6_recovery_time_counts_from_admission_and_its_segments_sum_to_it() {
    use SegmentName::{Provision, Queue, Restore, Start, Validate};
    let ends = [
        (Queue, "12:03:00"),
        (Provision, "12:03:00"),
        (Restore, "12:07:00"),
        (Start, "12:08:00"),
        (Validate, "12:08:30"),
    ];
    let status = measured(&ends);
    let found = rto(&status, Some(Duration::from_seconds(480))).unwrap();
    assert_eq!((found.seconds, found.objective_seconds, found.met), (510, Some(480), Some(false)));
    assert_eq!(rto(&status, Some(Duration::from_seconds(510))).unwrap().met, Some(true));
    assert_eq!(rto(&status, None).unwrap().met, None);
    let lengths: Vec<_> = status.segments.iter().filter_map(segment_seconds).collect();
    assert_eq!(lengths, [180, 0, 240, 60, 30]);
    let mut again = status.clone();
    end_segment(&mut again, Restore, on(23, "12:30:00"), on(23, "13:00:00"));
    assert_eq!(again, status, "what was recorded stays");
    assert_eq!(rto(&measured(&ends[..4]), None), None, "nothing is measured before the validations ended");
}

proptest! {
    #[test]
    fn d6_segments_sum_to_the_total_whatever_the_clocks_say(offsets in prop::collection::vec(-600_i64..3_600, 5), now in 0_i64..3_600) {
        let t0 = on(23, "12:00:00");
        let plus = |seconds: i64| t0.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let mut status = DrillRunStatus { t0: Some(Time(t0)), ..DrillRunStatus::default() };
        for (name, offset) in SEGMENTS.into_iter().zip(&offsets) {
            end_segment(&mut status, name, plus(*offset), plus(now));
        }
        let lengths: Vec<_> = status.segments.iter().filter_map(segment_seconds).collect();
        prop_assert_eq!(lengths.len(), 5);
        prop_assert!(lengths.iter().all(|length| *length >= 0));
        prop_assert_eq!(lengths.iter().sum::<i64>(), rto(&status, None).unwrap().seconds);
        prop_assert!(status.segments.windows(2).all(|pair| pair[0].finished_at.as_ref() == Some(&pair[1].started_at)));
    }
}

#[test]
fn d4_restored_data_that_is_older_than_what_was_recorded_is_stale() {
    let point = chosen(SelectionStrategy::Latest, on(23, "02:00:00"), Some(beat(900, on(23, "01:59:55"))));
    let stale = |restored: Option<&interlock_crds::HeartbeatRecord>| {
        matches!(heartbeat(&point, restored, &limits(NONE)), HeartbeatFinding::Stale(_))
    };
    assert!(stale(Some(&beat(899, on(23, "01:59:45")))));
    assert!(stale(None), "lost altogether");
    assert!(stale(Some(&beat(900, on(23, "01:00:00")))), "its time was set back");
    assert!(stale(Some(&beat(950, on(23, "01:00:00")))), "a higher number and an older time");
    let mut forged = beat(900, on(23, "01:59:55"));
    forged.hmac = "another".into();
    assert!(stale(Some(&forged)), "another nonce");
    assert_eq!(heartbeat(&point, Some(&beat(900, on(23, "01:59:55"))), &limits(NONE)), HeartbeatFinding::Alive);
    assert_eq!(
        heartbeat(&point, Some(&beat(902, on(23, "02:00:15"))), &limits(NONE)),
        HeartbeatFinding::Alive,
        "copied after it was read"
    );
}

#[test]
fn d4_data_that_was_recovered_to_an_earlier_moment_may_be_older_by_that_and_no_more() {
    let point = chosen(SelectionStrategy::Latest, on(23, "02:00:00"), Some(beat(900, on(23, "01:59:55"))));
    let hour = SignedDuration::from_hours(1);
    let found = |seq, time: &str| heartbeat(&point, Some(&beat(seq, on(23, time))), &limits(hour));
    assert_eq!(found(540, "00:59:52"), HeartbeatFinding::Alive);
    assert_eq!(found(537, "00:59:25"), HeartbeatFinding::Alive, "three intervals");
    assert!(matches!(found(537, "00:59:24"), HeartbeatFinding::Stale(_)));
    assert!(matches!(found(540, "01:59:56"), HeartbeatFinding::Stale(_)), "a lower number and a later time");
    assert!(matches!(heartbeat(&point, None, &limits(hour)), HeartbeatFinding::Dead(_)), "its writer may be younger");
    let left_out = PointObjectives { before_end: hour, ..objectives(Some(60), None) };
    let measured = rpo(on(23, "02:00:20"), &point, &beat(540, on(23, "00:59:52")), &left_out);
    assert_eq!((measured.seconds, measured.met, measured.capture_lag_seconds), (28, Some(true), Some(8)));
}

#[test]
fn d7_a_dead_writer_is_told_from_lost_data() {
    let dead = |recorded, restored: Option<_>| {
        let point = chosen(SelectionStrategy::Latest, on(23, "02:00:00"), recorded);
        heartbeat(&point, restored.as_ref(), &limits(NONE))
    };
    let old = beat(900, on(23, "01:59:29"));
    let HeartbeatFinding::Dead(why) = dead(Some(old.clone()), Some(old.clone())) else { panic!("it is 31 s old") };
    assert!(why.contains("31 s old"), "{why}");
    assert!(matches!(dead(None, None), HeartbeatFinding::Dead(_)), "there never was one");
    assert!(
        matches!(dead(Some(old), Some(beat(800, on(23, "01:00:00")))), HeartbeatFinding::Stale(_)),
        "lost data weighs more"
    );
    let at_the_limit = beat(900, on(23, "01:59:30"));
    assert_eq!(dead(Some(at_the_limit.clone()), Some(at_the_limit)), HeartbeatFinding::Alive);
    let mut read_later = beat(900, on(23, "01:59:55"));
    read_later.read_at = Some(Time(on(23, "02:10:00")));
    assert!(
        matches!(dead(Some(read_later.clone()), Some(read_later)), HeartbeatFinding::Dead(_)),
        "the source's own clock decides"
    );
}

#[test]
fn d4_a_heartbeat_from_the_future_is_not_believed() {
    let found = |recorded: &str, read_at: Option<&str>, restored: (i64, &str), before_end| {
        let mut known = beat(900, on(23, recorded));
        known.read_at = read_at.map(|at| Time(on(23, at)));
        let point = chosen(SelectionStrategy::Latest, on(23, "11:00:00"), Some(known));
        let restored = beat(restored.0, on(23, restored.1));
        heartbeat(&point, Some(&restored), &limits(before_end))
    };
    let ahead = |finding: HeartbeatFinding, said: &str| {
        let HeartbeatFinding::Ahead(why) = finding else { panic!("{finding:?}") };
        assert!(why.contains(said) && why.contains("see who wrote it"), "{why}");
    };
    let forged = found("11:30:00", Some("10:59:58"), (900, "11:30:00"), NONE);
    ahead(forged, "2026-11-23T11:30:00Z, 1802 s after backup teller-db-20261123 read it");
    ahead(found("11:00:03", None, (900, "11:00:03"), NONE), "3 s after backup");
    ahead(found("11:30:00", Some("10:59:58"), (7, "10:00:00"), NONE), "1802 s after");
    assert_eq!(found("11:00:00", Some("10:59:58"), (900, "11:00:00"), NONE), HeartbeatFinding::Alive, "clocks differ");
    let only_restored = found("10:59:55", Some("10:59:58"), (901, "12:00:03"), NONE);
    ahead(only_restored, "3 s after the drill began at 2026-11-23T12:00:00Z");
    assert_eq!(found("10:59:55", Some("10:59:58"), (901, "12:00:02"), NONE), HeartbeatFinding::Alive);
    let hour = SignedDuration::from_hours(1);
    ahead(found("10:59:55", Some("10:59:58"), (901, "11:00:03"), hour), "3600 s were left out on purpose");
}

#[test]
fn d5_a_recovery_point_in_the_future_meets_no_objective() {
    let point = chosen(SelectionStrategy::Latest, on(23, "12:00:00"), Some(beat(4, on(23, "12:00:00"))));
    let skewed = PointObjectives { skew: SignedDuration::from_secs(2), ..objectives(Some(60), None) };
    let met = |time: &str| rpo(on(23, "12:00:00"), &point, &beat(4, on(23, time)), &skewed).met;
    assert_eq!((met("12:00:02"), met("12:00:03")), (Some(true), Some(false)));
}
