use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn recurring(name: &str, schedule: &str, hours: i64) -> PeriodSpec {
    let occurrence = OccurrenceSpec::Recurring { schedule: schedule.into(), duration_seconds: hours * 3_600 };
    PeriodSpec { name: name.into(), occurrence }
}

fn dated(name: &str, from: &str, until: &str) -> PeriodSpec {
    PeriodSpec { name: name.into(), occurrence: OccurrenceSpec::Dated { from: from.into(), until: until.into() } }
}

fn calendar(zone: &str, windows: Vec<PeriodSpec>, freezes: Vec<PeriodSpec>) -> Calendar {
    Calendar::compile(&CalendarSpec { time_zone: zone.into(), windows, freezes }).unwrap()
}

fn is_open(calendar: &Calendar, text: &str) -> bool {
    matches!(calendar.state_at(at(text)), WindowState::Open { .. })
}

#[test]
fn r25_start_is_inside_and_end_is_not() {
    let office = calendar("UTC", vec![recurring("office", "0 9 * * 1-5", 8)], vec![]);
    for (text, open) in [
        ("2026-11-24T10:00:00Z", true),
        ("2026-11-24T06:00:00Z", false),
        ("2026-11-24T09:00:00Z", true),
        ("2026-11-24T08:59:59Z", false),
        ("2026-11-24T17:00:00Z", false),
        ("2026-11-24T16:59:59Z", true),
        ("2026-11-28T10:00:00Z", false),
    ] {
        assert_eq!(is_open(&office, text), open, "{text}");
    }
    assert_eq!(office.next_open(at("2026-11-27T17:00:00Z")), Some(at("2026-11-30T09:00:00Z")), "over the weekend");
    let shanghai = calendar("Asia/Shanghai", vec![recurring("office", "0 9 * * 1-5", 8)], vec![]);
    assert!(is_open(&shanghai, "2026-11-24T01:00:00Z") && !is_open(&shanghai, "2026-11-24T10:00:00Z"));
}

#[test]
fn r25_a_freeze_wins_over_a_window_and_alone_closes_what_is_open() {
    let window = vec![recurring("night", "0 22 * * *", 4)];
    let freeze = vec![dated("festival", "2027-02-05T00:00", "2027-02-13T00:00")];
    let both = calendar("Asia/Shanghai", window, freeze.clone());
    let inside = at("2027-02-06T14:30:00Z");
    let WindowState::Frozen { freeze: name, ends_at, opens_at } = both.state_at(inside) else { panic!("frozen") };
    assert_eq!(
        (name.as_str(), ends_at, opens_at),
        ("festival", at("2027-02-12T16:00:00Z"), Some(at("2027-02-12T16:00:00Z"))),
        "the night window is open at midnight"
    );
    let only = calendar("Asia/Shanghai", vec![], freeze);
    assert!(
        !is_open(&only, "2027-02-12T15:59:59Z")
            && is_open(&only, "2027-02-12T16:00:00Z")
            && is_open(&only, "2027-01-01T00:00:00Z")
    );
    assert!(is_open(&calendar("UTC", vec![], vec![]), "2027-01-01T00:00:00Z"));
}

#[test]
fn a26_a_window_that_is_cut_by_a_freeze_opens_again_when_it_ends() {
    let cut = calendar("UTC", vec![recurring("w", "0 8 * * *", 10)], vec![recurring("lunch", "0 12 * * *", 1)]);
    let WindowState::Open { closes_at, .. } = cut.state_at(at("2026-06-01T09:00:00Z")) else { panic!("open") };
    assert_eq!(closes_at, Some(at("2026-06-01T12:00:00Z")));
    assert_eq!(cut.next_open(at("2026-06-01T12:30:00Z")), Some(at("2026-06-01T13:00:00Z")));
}

#[test]
fn r25_overlapping_occurrences_are_one_opening() {
    let always = calendar("UTC", vec![recurring("w", "0 * * * *", 2)], vec![]);
    let WindowState::Open { closes_at, .. } = always.state_at(at("2026-06-01T09:30:00Z")) else { panic!("open") };
    assert_eq!(closes_at, None);
    let two = calendar("UTC", vec![recurring("a", "0 8 * * *", 2), recurring("b", "0 10 * * *", 2)], vec![]);
    let WindowState::Open { window, closes_at } = two.state_at(at("2026-06-01T08:00:00Z")) else { panic!("open") };
    assert_eq!((window.as_deref(), closes_at), (Some("a"), Some(at("2026-06-01T12:00:00Z"))));
}

#[test]
fn a25_windows_across_the_year_end_and_changes_of_clocks_last_as_long_as_they_say() {
    let night = calendar("Europe/Berlin", vec![recurring("night", "0 22 * * *", 6)], vec![]);
    assert!(
        is_open(&night, "2026-12-31T23:30:00Z")
            && is_open(&night, "2027-01-01T02:59:59Z")
            && !is_open(&night, "2027-01-01T03:00:00Z")
    );
    // 28 March 2027: the clocks go forward at 02:00; six hours from 22:00 end at 05:00 summer time.
    assert!(is_open(&night, "2027-03-28T02:59:59Z") && !is_open(&night, "2027-03-28T03:00:00Z"));
    // 25 October 2026: 02:30 happens twice; a freeze until then ends the second time.
    let freeze = calendar("Europe/Berlin", vec![], vec![dated("f", "2026-10-25T00:00", "2026-10-25T02:30")]);
    assert!(!is_open(&freeze, "2026-10-25T01:29:59Z") && is_open(&freeze, "2026-10-25T01:30:00Z"));
}

#[test]
fn month_end_freezes_follow_the_length_of_the_month() {
    let bank = calendar("Asia/Shanghai", vec![], vec![recurring("month-end", "0 18 L * *", 36)]);
    for (text, open) in [
        ("2027-02-28T09:59:59Z", true),
        ("2027-02-28T10:00:00Z", false),
        ("2027-03-01T21:59:59Z", false),
        ("2027-03-01T22:00:00Z", true),
    ] {
        assert_eq!(is_open(&bank, text), open, "{text}");
    }
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let compile = |zone: &str, windows: Vec<PeriodSpec>| {
        Calendar::compile(&CalendarSpec { time_zone: zone.into(), windows, freezes: vec![] }).unwrap_err().to_string()
    };
    assert!(compile("Mars/Olympus", vec![]).contains("Mars/Olympus"));
    assert!(compile("UTC", vec![recurring("never", "0 0 30 2 *", 1)]).contains("never"));
    assert!(compile("UTC", vec![recurring("bad", "99 0 * * *", 1)]).contains("bad"));
    assert!(compile("UTC", vec![recurring("short", "0 0 * * *", 0)]).contains("short"));
    assert!(compile("UTC", vec![dated("d", "2027-13-01T00:00", "2027-02-01T00:00")]).contains("2027-13-01"));
    assert!(compile("UTC", vec![dated("d", "2027-02-01T00:00", "2027-02-01T00:00")]).contains("not after"));
    assert!(
        compile("UTC", vec![recurring("x", "0 0 * * *", 1), recurring("x", "0 1 * * *", 1)]).contains("two periods")
    );
}

#[test]
fn an_instant_is_told_in_the_zone_of_the_calendar() {
    let now = at("2026-11-24T08:00:00Z");
    assert_eq!(describe_instant(at("2026-11-24T14:00:00Z"), now, "Asia/Shanghai"), "22:00 Asia/Shanghai");
    assert_eq!(describe_instant(at("2026-11-24T17:00:00Z"), now, "Asia/Shanghai"), "01:00 Asia/Shanghai on 2026-11-25");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_state_lasts_as_long_as_it_says(seconds in 1_790_000_000_i64..1_900_000_000, minute in 0_u8..60, hour in 0_u8..24, length in 1_i64..30, freeze in 0_u8..24) {
        let calendar = calendar(
            "America/New_York",
            vec![recurring("w", &format!("{minute} {hour} * * 1-5"), length)],
            vec![recurring("f", &format!("15 {freeze} */3 * *"), 2)],
        );
        let now = Timestamp::from_second(seconds).unwrap();
        let view = calendar.view(now);
        let end = view.valid_until.unwrap();
        prop_assert!(end > now);
        let kind = |s: &WindowState| std::mem::discriminant(s);
        for part in 1..8 {
            let between = Timestamp::from_second(seconds + (end.as_second() - seconds) * part / 8).unwrap();
            if between < end {
                prop_assert_eq!(kind(&calendar.state_at(between)), kind(&view.state));
            }
        }
        if let Some(open) = calendar.next_open(now) {
            let opens = matches!(calendar.state_at(open), WindowState::Open { .. });
            prop_assert!(opens);
        }
    }

    #[test]
    fn nothing_that_anybody_writes_panics(zone in ".{0,12}", schedule in "[0-9*/,LW#? -]{0,20}", from in ".{0,20}", at in proptest::num::i64::ANY) {
        for zone in [zone.as_str(), "Asia/Shanghai"] {
            let spec = CalendarSpec {
                time_zone: zone.to_owned(),
                windows: vec![PeriodSpec { name: "w".into(), occurrence: OccurrenceSpec::Recurring { schedule: schedule.clone(), duration_seconds: 3_600 } }],
                freezes: vec![dated("f", &from, "2027-01-01T00:00")],
            };
            let _ = Calendar::compile(&spec);
            let only = CalendarSpec { freezes: vec![], ..spec };
            if let Ok(calendar) = Calendar::compile(&only) {
                let now = Timestamp::from_second(at % 253_402_207_200).unwrap_or(Timestamp::MAX);
                let _ = calendar.view(now);
            }
        }
    }
}
