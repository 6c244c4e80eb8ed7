use super::*;

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::compile(cron, &time_zone(zone).unwrap()).unwrap()
}

fn occurrences(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
    let found: Vec<_> = schedule.occurrences(at(from), at(until)).collect();
    for instant in &found {
        assert_eq!(schedule.latest_at_or_before(*instant), Some(*instant), "both directions agree");
    }
    assert_eq!(schedule.count(at(from), at(until)), found.len() as u64);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn b4_a_time_that_the_clocks_skip_happens_once_at_the_change() {
    let (from, until) = ("2027-03-27T12:00:00Z", "2027-03-29T12:00:00Z");
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(occurrences(&daily, from, until), ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
    let twice = schedule("30 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        occurrences(&twice, from, "2027-03-29T00:00:00Z"),
        ["2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z"],
        "a list of hours is no reason to leave one out"
    );
    let often = schedule("*/20 * * * *", "Europe/Berlin");
    assert_eq!(
        occurrences(&often, "2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z"),
        ["2027-03-28T00:40:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:20:00Z"],
        "skipped ones do not pile up"
    );
    let before = schedule("0 0 * * *", "Europe/London");
    assert_eq!(occurrences(&before, "2027-03-28T00:00:00Z", "2027-03-28T12:00:00Z"), ["2027-03-28T00:00:00Z"]);
}

#[test]
fn b4_a_day_that_the_clocks_skip_or_that_starts_at_one_o_clock() {
    // Beirut skips from 00:00 to 01:00; Apia left out 30 December 2011; Lord Howe skips half an hour.
    let midnight = schedule("0 0 * * *", "Asia/Beirut");
    assert_eq!(occurrences(&midnight, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), ["2026-03-28T22:00:00Z"]);
    let apia = schedule("0 12 * * *", "Pacific/Apia");
    assert_eq!(
        occurrences(&apia, "2011-12-29T00:00:00Z", "2011-12-31T20:00:00Z"),
        ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
    );
    let half = schedule("15 2 * * *", "Australia/Lord_Howe");
    assert_eq!(occurrences(&half, "2026-10-03T12:00:00Z", "2026-10-04T12:00:00Z"), ["2026-10-03T15:30:00Z"]);
}

#[test]
fn b5_a_time_that_the_clocks_repeat_happens_the_first_time_only() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    let found = occurrences(&daily, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    assert_eq!(daily.next_after(at("2026-10-25T00:45:00Z")), Some(at("2026-10-26T01:30:00Z")));
    for now in ["2026-10-25T00:59:59Z", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"] {
        assert_eq!(daily.latest_at_or_before(at(now)), Some(at("2026-10-25T00:30:00Z")), "{now}");
    }
    let newfoundland = schedule("30 1 * * *", "America/St_Johns");
    let found = occurrences(&newfoundland, "2026-11-01T00:00:00Z", "2026-11-02T12:00:00Z");
    assert_eq!(found, ["2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"]);
    let utc = schedule("30 2 * * *", "UTC");
    assert_eq!(occurrences(&utc, "2026-10-25T00:00:00Z", "2026-10-26T00:00:00Z"), ["2026-10-25T02:30:00Z"]);
}

#[test]
fn the_zone_database_is_the_one_inside() {
    for name in ["Asia/Shanghai", "America/St_Johns", "UTC", "Europe/Berlin", "asia/shanghai"] {
        assert!(time_zone(name).is_ok(), "{name}");
    }
    assert_eq!(time_zone("Mars/Olympus"), Err(UnknownTimeZone { name: "Mars/Olympus".into() }));
}

#[test]
fn missed_slots_are_counted_and_the_latest_found_without_visiting_each() {
    let minutely = schedule("* * * * *", "Europe/Berlin");
    let (from, until) = (at("1970-01-01T00:00:00Z"), at("2170-01-01T00:00:00Z"));
    assert_eq!(minutely.latest_at_or_before(at("2031-05-05T05:05:59Z")), Some(at("2031-05-05T05:05:00Z")));
    // The second of two hours that are the same has none: one each autumn from 1980 to 2169.
    let all = (until.as_second() - from.as_second()) / 60;
    assert_eq!(minutely.count(from, until), (all - 190 * 60) as u64);
    assert_eq!(schedule("0 22 * * 1-5", "UTC").count(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")), 261);
    assert_eq!(minutely.count(until, from), 0);
    assert_eq!(minutely.count(from, from), 0);
    assert_eq!(minutely.count(from, at("1970-01-01T00:00:00.000000001Z")), 1);
}

#[test]
fn the_rarest_dates_are_found() {
    let leap = schedule("0 0 29 2 *", "UTC");
    assert_eq!(leap.next_after(at("2096-03-01T00:00:00Z")), Some(at("2104-02-29T00:00:00Z")));
    assert_eq!(leap.latest_at_or_before(at("2104-02-28T00:00:00Z")), Some(at("2096-02-29T00:00:00Z")));
    let monday = schedule("0 0 29 2 +1", "UTC");
    assert_eq!(monday.next_after(at("2072-03-01T00:00:00Z")), Some(at("2112-02-29T00:00:00Z")), "40 years across 2100");
    assert_eq!(monday.latest_at_or_before(at("2112-02-28T00:00:00Z")), Some(at("2072-02-29T00:00:00Z")));
}

#[test]
fn the_dialect_is_that_of_croner() {
    for (cron, expected) in [
        ("0 18 L * *", "2027-02-28T18:00:00Z"),
        ("0 18 LW * *", "2027-02-26T18:00:00Z"),
        ("0 18 13W * *", "2027-02-12T18:00:00Z"),
        ("0 18 * * 5#2", "2027-02-12T18:00:00Z"),
        ("0 18 * * 5L", "2027-02-26T18:00:00Z"),
        ("0 18 * * sun", "2027-02-07T18:00:00Z"),
        ("0 18 * * 7", "2027-02-07T18:00:00Z"),
        ("0 18 10 * 3", "2027-02-03T18:00:00Z"),
        ("0 18 10 * +3", "2027-02-10T18:00:00Z"),
        ("0 18 ? MAR *", "2027-03-01T18:00:00Z"),
        ("@monthly", "2027-03-01T00:00:00Z"),
        ("59-59/1 23 * * *", "2027-02-01T23:59:00Z"),
    ] {
        assert_eq!(
            schedule(cron, "UTC").next_after(at("2027-02-01T12:00:00Z")).unwrap().to_string(),
            expected,
            "{cron}"
        );
    }
}

#[test]
fn impossible_and_malformed_schedules_are_refused_with_a_reason() {
    let compile = |cron: &str| Schedule::compile(cron, &jiff::tz::TimeZone::UTC);
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 * * L", ", 0 * * *", "0 0 30 2 +1", "0 0 8 * +1#1"] {
        assert!(matches!(compile(never), Err(ScheduleError::Never { .. })), "{never}");
    }
    let long = "0,".repeat(500) + "0 0 * * *";
    for bad in ["", "* * *", "61 * * * *", "a b c d e", "0 0 * * * *", "0 0 * * * * *", "*/0 * * * *", "@reboot", &long]
    {
        assert!(matches!(compile(bad), Err(ScheduleError::Invalid { .. })), "{bad}");
    }
    for fine in ["0 0 29 2 *", "0 0 30 2 1", "0 0 29 2 +1", "0 0 31 * *", "0 0 * 2 1#5"] {
        assert!(compile(fine).is_ok(), "{fine}");
    }
}
