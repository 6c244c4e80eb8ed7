use jiff::{SignedDuration, civil::DateTime};
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Shanghai", "Australia/Lord_Howe", "America/New_York"];
/// Half a day before the clocks change in one of the zones, or before the year ends.
const PLACES: [&str; 7] = [
    "2026-10-24T12:00:00Z",
    "2027-03-27T12:00:00Z",
    "2026-10-31T12:00:00Z",
    "2027-03-13T12:00:00Z",
    "2026-10-03T02:00:00Z",
    "2026-12-30T12:00:00Z",
    "2027-04-03T00:00:00Z",
];

fn minutes_from(start: Timestamp, count: i64) -> impl Iterator<Item = Timestamp> {
    (0..count).filter_map(move |minute| start.checked_add(SignedDuration::from_mins(minute)).ok())
}

/// Every occurrence between two instants, found by looking at every local minute as croner matches it.
fn visited(cron: &str, zone: &str, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let zone = time_zone(zone).unwrap();
    let parsed: croner::Cron = cron.parse().unwrap();
    let start = from.checked_sub(SignedDuration::from_hours(4)).unwrap();
    let first = zone.to_datetime(start).with().second(0).build().unwrap();
    let minutes = (until.as_second() - start.as_second()) / 60 + 240;
    let locals = (0..minutes).map(|minute| first.checked_add(SignedDuration::from_mins(minute)).unwrap());
    let instant = |local: DateTime| match zone.to_ambiguous_timestamp(local).offset() {
        // The end of the gap: the first minute after it that the clocks show.
        jiff::tz::AmbiguousOffset::Gap { after, .. } => (0..180)
            .map(|minute| local.checked_add(SignedDuration::from_mins(minute)).unwrap())
            .find_map(|local| zone.to_ambiguous_timestamp(local).unambiguous().ok())
            .inspect(|end| assert_eq!(zone.to_offset(*end), after))
            .unwrap(),
        _ => zone.to_ambiguous_timestamp(local).earlier().unwrap(),
    };
    let mut found: Vec<_> = locals
        .filter(|local| parsed.is_time_matching(local).unwrap())
        .map(instant)
        .filter(|i| (from..until).contains(i))
        .collect();
    found.dedup();
    found
}

fn kind(state: &WindowState) -> String {
    match state {
        WindowState::Open { window, .. } => format!("open {window:?}"),
        WindowState::Frozen { freeze, .. } => format!("frozen {freeze}"),
        WindowState::Outside { .. } => "outside".into(),
    }
}

fn crons() -> impl Strategy<Value = String> {
    let minute = prop_oneof!["[0-9]", "[1-5][0-9]", Just("*/20".into()), Just("*".into()), Just("0,30".into())];
    let hour =
        prop_oneof!["[0-9]", "1[0-9]", Just("*".into()), Just("*/3".into()), Just("1-3".into()), Just("22,2".into())];
    let day = prop_oneof![Just("*"), Just("*/2"), Just("L"), Just("15W")];
    let weekday = prop_oneof![Just("*"), Just("1-5"), Just("0"), Just("6,0"), Just("0L")];
    (minute, hour, day, weekday).prop_map(|(minute, hour, day, weekday)| format!("{minute} {hour} {day} * {weekday}"))
}

fn calendars() -> impl Strategy<Value = Calendar> {
    let periods = |name: &'static str| {
        prop::collection::vec((crons(), prop_oneof![1_i64..90, 90_i64..2_000]), 0..3).prop_map(move |periods| {
            let named = |(index, (cron, minutes)): (usize, &(String, i64))| {
                recurring(&format!("{name}{index}"), cron, *minutes)
            };
            periods.iter().enumerate().map(named).collect::<Vec<_>>()
        })
    };
    let dates = prop::option::of((24_u8..29, 0_u8..24, 1_u8..3));
    (prop::sample::select(&ZONES[..]), periods("w"), periods("f"), dates).prop_map(
        |(zone, windows, mut freezes, date)| {
            if let Some((day, hour, days)) = date {
                freezes.push(dated(
                    "d",
                    &format!("2026-10-{day}T{hour:02}:30"),
                    &format!("2026-10-{}T02:15", day + days),
                ));
            }
            calendar(zone, windows, freezes)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_schedule_is_what_visiting_every_minute_finds(
        cron in crons(), zone in prop::sample::select(&ZONES[..]), place in prop::sample::select(&PLACES[..]), offset in 0_i64..86_400,
    ) {
        let schedule = Schedule::compile(&cron, &time_zone(zone).unwrap()).unwrap();
        let from = at(place).checked_add(SignedDuration::from_secs(offset)).unwrap();
        let until = from.checked_add(SignedDuration::from_hours(72)).unwrap();
        let expected = visited(&cron, zone, from, until);
        prop_assert_eq!(schedule.occurrences(from, until).collect::<Vec<_>>(), expected.clone(), "{} {}", cron, zone);
        prop_assert_eq!(schedule.count(from, until), expected.len() as u64, "{} {}", cron, zone);
        for now in minutes_from(from, 72 * 60).step_by(17) {
            let latest = expected.iter().rev().find(|e| **e <= now);
            let found = schedule.latest_at_or_before(now).filter(|l| *l >= from);
            prop_assert_eq!(found, latest.copied(), "{} {} at {}", cron, zone, now);
        }
    }

    #[test]
    fn a_state_holds_exactly_as_long_as_it_says(calendar in calendars(), place in prop::sample::select(&PLACES[..]), offset in 0_i64..86_400) {
        let mut now = at(place).checked_add(SignedDuration::from_secs(offset)).unwrap();
        for _ in 0..6 {
            let (view, change) = (calendar.view(now), calendar.next_change(now));
            let Some(end) = view.valid_until else { prop_assert_eq!(change, None); break };
            prop_assert!(end > now);
            prop_assert!(change.is_none_or(|change| end <= change));
            let seconds = end.as_second() - now.as_second();
            for part in 0..12 {
                let between = now.checked_add(SignedDuration::from_secs(seconds * part / 12)).unwrap();
                if between < end {
                    prop_assert_eq!(calendar.state_at(between), view.state.clone(), "{} of {} to {}", between, now, end);
                }
            }
            let last = end.checked_sub(SignedDuration::from_nanos(1)).unwrap();
            prop_assert_eq!(calendar.state_at(last), view.state.clone(), "until {}", end);
            if let Some(change) = change {
                prop_assert_ne!(kind(&calendar.state_at(change)), kind(&view.state), "changes at {} from {}", change, now);
            }
            now = end;
        }
    }

    #[test]
    fn nothing_is_open_before_the_next_opening_nor_closed_before_the_closing(calendar in calendars(), place in prop::sample::select(&PLACES[..])) {
        let now = at(place);
        let open = |at: Timestamp| matches!(calendar.state_at(at), WindowState::Open { .. });
        let opens = calendar.next_open(now);
        prop_assert!(opens.is_none_or(open));
        for minute in minutes_from(now, 3 * 1_440).step_by(7).take_while(|m| opens.is_none_or(|o| *m < o)) {
            prop_assert!(!open(minute), "{} is before {:?}", minute, opens);
        }
        if let Some(opens) = opens
            && let WindowState::Open { closes_at, .. } = calendar.state_at(opens)
        {
            prop_assert!(closes_at.is_none_or(|closes| !open(closes)));
            for minute in minutes_from(opens, 3 * 1_440).step_by(7).take_while(|m| closes_at.is_none_or(|c| *m < c)) {
                prop_assert!(open(minute), "{} is before {:?}", minute, closes_at);
            }
        }
    }

    #[test]
    fn nothing_that_anybody_writes_panics(
        zone in ".{0,12}", schedule in "[0-9*/,LW#?+ @A-Z-]{0,20}", odd in ".{0,24}", duration in any::<i64>(), from in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]", seconds in any::<i64>(),
    ) {
        for cron in [schedule.as_str(), &odd] {
            let zone = time_zone(&zone).unwrap_or(jiff::tz::TimeZone::UTC);
            if let Ok(schedule) = Schedule::compile(cron, &zone) {
                for now in [Timestamp::MIN, Timestamp::MAX, Timestamp::from_second(seconds % 253_402_207_200).unwrap_or(Timestamp::MAX)] {
                    let _ = (schedule.next_after(now), schedule.latest_at_or_before(now), schedule.count(Timestamp::MIN, now));
                }
            }
            let occurrence = OccurrenceSpec::Recurring { schedule: cron.to_owned(), duration_seconds: duration };
            let _ = Calendar::compile(&CalendarSpec { time_zone: "UTC".into(), windows: vec![PeriodSpec { name: "w".into(), occurrence }], freezes: vec![] });
        }
        for (from, until) in [(from.as_str(), "2027-01-01T00:00"), (&odd, &odd), ("2027-01-01T00:00", &from)] {
            let _ = Calendar::compile(&CalendarSpec { time_zone: zone.clone(), windows: vec![], freezes: vec![dated("f", from, until)] });
        }
    }

    #[test]
    fn no_instant_panics(calendar in calendars(), seconds in any::<i64>(), nanos in 0_i64..200_000_000_000_000) {
        let near = |end: Timestamp, sign: i64| end.checked_add(SignedDuration::from_nanos(sign * nanos)).unwrap();
        let any = Timestamp::from_second(seconds % 253_402_207_200).unwrap_or(Timestamp::MAX);
        for now in [Timestamp::MIN, Timestamp::MAX, near(Timestamp::MIN, 1), near(Timestamp::MAX, -1), any] {
            let view = calendar.view(now);
            prop_assert!(view.valid_until.is_none_or(|until| until > now));
            let _ = (calendar.next_open(now), calendar.next_change(now));
        }
    }
}
