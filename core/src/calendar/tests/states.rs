use super::*;

#[test]
fn r25_start_is_inside_and_end_is_not() {
    let office = calendar("UTC", vec![recurring("office", "0 9 * * 1-5", 480)], vec![]);
    for (text, state) in [
        ("2026-11-24T10:00:00Z", opened("office", "2026-11-24T17:00:00Z")),
        ("2026-11-24T06:00:00Z", outside("office", "2026-11-24T09:00:00Z")),
        ("2026-11-24T08:59:59.999999999Z", outside("office", "2026-11-24T09:00:00Z")),
        ("2026-11-24T09:00:00Z", opened("office", "2026-11-24T17:00:00Z")),
        ("2026-11-24T16:59:59.999999999Z", opened("office", "2026-11-24T17:00:00Z")),
        ("2026-11-24T17:00:00Z", outside("office", "2026-11-25T09:00:00Z")),
        ("2026-11-27T17:00:00Z", outside("office", "2026-11-30T09:00:00Z")),
        ("2026-11-28T10:00:00Z", outside("office", "2026-11-30T09:00:00Z")),
    ] {
        assert_eq!(office.state_at(at(text)), state, "{text}");
    }
}

#[test]
fn r25_the_zone_moves_the_window() {
    for (zone, start, end) in [
        ("Asia/Shanghai", "2026-11-24T01:00:00Z", "2026-11-24T09:00:00Z"),
        ("America/St_Johns", "2026-11-24T12:30:00Z", "2026-11-24T20:30:00Z"),
        ("america/new_york", "2026-11-24T14:00:00Z", "2026-11-24T22:00:00Z"),
        ("UTC", "2026-11-24T09:00:00Z", "2026-11-24T17:00:00Z"),
    ] {
        let office = calendar(zone, vec![recurring("office", "0 9 * * 1-5", 480)], vec![]);
        assert_eq!(office.next_open(at("2026-11-24T00:00:00Z")), Some(at(start)), "{zone}");
        assert_eq!(office.state_at(at(start)), opened("office", end), "{zone}");
    }
}

#[test]
fn r25_the_next_change_is_each_start_and_end() {
    let office = calendar("UTC", vec![recurring("office", "0 9 * * 1-5", 480)], vec![]);
    let mut now = at("2026-11-27T08:00:00Z");
    for text in ["2026-11-27T09:00:00Z", "2026-11-27T17:00:00Z", "2026-11-30T09:00:00Z", "2026-11-30T17:00:00Z"] {
        assert_eq!(office.next_change(now), Some(at(text)));
        assert_eq!(office.view(now).valid_until, Some(at(text)));
        now = at(text);
    }
}

#[test]
fn r25_a_freeze_wins_over_a_window_and_alone_closes_what_is_open() {
    let window = vec![recurring("night", "0 22 * * *", 240)];
    let freeze = vec![dated("festival", "2027-02-05T00:00", "2027-02-13T00:00:00")];
    let both = calendar("Asia/Shanghai", window, freeze.clone());
    assert_eq!(both.state_at(at("2027-02-04T15:59:59Z")), opened("night", "2027-02-04T16:00:00Z"), "cut by the freeze");
    let until = "2027-02-12T16:00:00Z";
    assert_eq!(both.state_at(at("2027-02-04T16:00:00Z")), frozen("festival", until, Some(until)));
    assert_eq!(both.state_at(at("2027-02-06T14:30:00Z")), frozen("festival", until, Some(until)));
    assert_eq!(both.state_at(at(until)), opened("night", "2027-02-12T18:00:00Z"), "midnight is inside the night");

    let only = calendar("Asia/Shanghai", vec![], freeze);
    let before = WindowState::Open { window: None, closes_at: Some(at("2027-02-04T16:00:00Z")) };
    assert_eq!(only.state_at(at("2027-01-01T00:00:00Z")), before);
    assert_eq!(only.state_at(at("2027-02-12T15:59:59Z")), frozen("festival", until, Some(until)));
    let after = CalendarView { state: WindowState::Open { window: None, closes_at: None }, valid_until: None };
    assert_eq!(only.view(at(until)), after, "nothing changes any more");
}

#[test]
fn r25_a_calendar_with_nothing_is_always_open() {
    let empty = calendar("UTC", vec![], vec![]);
    for now in [Timestamp::MIN, at("2027-01-01T00:00:00Z"), Timestamp::MAX] {
        let open = CalendarView { state: WindowState::Open { window: None, closes_at: None }, valid_until: None };
        assert_eq!(empty.view(now), open);
        assert_eq!((empty.next_open(now), empty.next_change(now)), (Some(now), None));
    }
}

#[test]
fn r25_occurrences_that_overlap_are_one_opening() {
    let always = calendar("Europe/Berlin", vec![recurring("w", "* * * * *", 120)], vec![]);
    for text in ["2026-06-01T09:30:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:30:00Z", "2027-03-28T01:00:00Z"] {
        let view = always.view(at(text));
        assert_eq!(view.state, WindowState::Open { window: Some("w".into()), closes_at: None }, "{text}");
        assert_eq!(always.next_change(at(text)), None, "{text}");
        assert_eq!(view.valid_until.unwrap().to_string().get(10..), Some("T00:00:00Z"), "looks again at midnight");
    }
    // From 10:00 to 14:59 each minute starts two hours: open from 10:00 to 16:59.
    let merged = calendar("UTC", vec![recurring("w", "* 10-14 * * *", 120)], vec![]);
    assert_eq!(merged.state_at(at("2026-06-01T10:00:00Z")), opened("w", "2026-06-01T16:59:00Z"));
    assert_eq!(merged.state_at(at("2026-06-01T16:58:59Z")), opened("w", "2026-06-01T16:59:00Z"));
    assert_eq!(merged.state_at(at("2026-06-01T16:59:00Z")), outside("w", "2026-06-02T10:00:00Z"));
}

#[test]
fn adjacent_windows_close_when_the_last_of_them_does() {
    let two = calendar("UTC", vec![recurring("a", "0 8 * * *", 120), recurring("b", "0 10 * * *", 150)], vec![]);
    assert_eq!(two.state_at(at("2026-06-01T08:00:00Z")), opened("a", "2026-06-01T12:30:00Z"));
    assert_eq!(two.next_change(at("2026-06-01T08:00:00Z")), Some(at("2026-06-01T10:00:00Z")), "another window");
    assert_eq!(two.state_at(at("2026-06-01T10:00:00Z")), opened("b", "2026-06-01T12:30:00Z"));
    let overlapping = calendar("UTC", vec![recurring("a", "0 9 * * *", 60), recurring("b", "0 8 * * *", 150)], vec![]);
    assert_eq!(overlapping.state_at(at("2026-06-01T08:30:00Z")), opened("b", "2026-06-01T10:30:00Z"));
    assert_eq!(
        overlapping.state_at(at("2026-06-01T09:30:00Z")),
        opened("a", "2026-06-01T10:30:00Z"),
        "first as written"
    );
}

#[test]
fn a26_a_window_that_is_cut_by_a_freeze_opens_again_when_it_ends() {
    let cut = calendar("UTC", vec![recurring("w", "0 8 * * *", 600)], vec![recurring("lunch", "0 12 * * *", 60)]);
    assert_eq!(cut.state_at(at("2026-06-01T09:00:00Z")), opened("w", "2026-06-01T12:00:00Z"));
    let lunch = frozen("lunch", "2026-06-01T13:00:00Z", Some("2026-06-01T13:00:00Z"));
    assert_eq!(cut.state_at(at("2026-06-01T12:30:00Z")), lunch);
    assert_eq!(cut.state_at(at("2026-06-01T13:00:00Z")), opened("w", "2026-06-01T18:00:00Z"));
}

#[test]
fn a26_a_freeze_that_ends_outside_a_window_opens_with_the_next_one() {
    let bank = calendar(
        "Asia/Shanghai",
        vec![recurring("weeknight", "0 22 * * 1-5", 240)],
        vec![recurring("month-end", "0 18 L * *", 2_160), dated("festival", "2027-02-05T00:00", "2027-02-13T00:00")],
    );
    // 2027-02-13 is a Saturday; Friday's window of the 12th reaches into it, from midnight on.
    let festival = frozen("festival", "2027-02-12T16:00:00Z", Some("2027-02-12T16:00:00Z"));
    assert_eq!(bank.state_at(at("2027-02-10T00:00:00Z")), festival);
    // 2026-11-30 18:00 + 36 h ends on Wednesday 2 December at 06:00, after that night's window.
    let month_end = frozen("month-end", "2026-12-01T22:00:00Z", Some("2026-12-02T14:00:00Z"));
    assert_eq!(bank.state_at(at("2026-11-30T10:00:00Z")), month_end);
    assert_eq!(bank.state_at(at("2026-11-30T09:59:59Z")), outside("weeknight", "2026-12-02T14:00:00Z"));
}

#[test]
fn freezes_that_touch_or_overlap_are_left_only_at_their_last_end() {
    let touching = vec![
        dated("first", "2026-06-01T00:00", "2026-06-02T00:00"),
        dated("second", "2026-06-02T00:00", "2026-06-03T00:00"),
    ];
    let two = calendar("UTC", vec![], touching);
    let end = "2026-06-03T00:00:00Z";
    assert_eq!(two.state_at(at("2026-06-01T12:00:00Z")), frozen("first", "2026-06-02T00:00:00Z", Some(end)));
    assert_eq!(two.next_change(at("2026-06-01T12:00:00Z")), Some(at("2026-06-02T00:00:00Z")));
    assert_eq!(two.state_at(at("2026-06-02T00:00:00Z")), frozen("second", end, Some(end)));

    let nested = vec![
        dated("short", "2026-06-01T00:00", "2026-06-02T00:00"),
        dated("long", "2026-06-01T12:00", "2026-06-03T00:00"),
    ];
    let two = calendar("UTC", vec![], nested);
    assert_eq!(two.state_at(at("2026-06-01T06:00:00Z")), frozen("short", "2026-06-02T00:00:00Z", Some(end)));
    assert_eq!(
        two.next_change(at("2026-06-01T06:00:00Z")),
        Some(at("2026-06-01T12:00:00Z")),
        "the longer one is named"
    );
    assert_eq!(two.state_at(at("2026-06-01T12:00:00Z")), frozen("long", end, Some(end)));
}

#[test]
fn of_freezes_that_end_together_the_first_as_written_is_named() {
    let together = vec![
        dated("late", "2026-06-02T00:00", "2026-06-03T00:00"),
        dated("early", "2026-06-01T00:00", "2026-06-03T00:00"),
    ];
    let two = calendar("UTC", vec![], together);
    let end = "2026-06-03T00:00:00Z";
    assert_eq!(two.state_at(at("2026-06-01T12:00:00Z")), frozen("early", end, Some(end)));
    assert_eq!(two.next_change(at("2026-06-01T12:00:00Z")), Some(at("2026-06-02T00:00:00Z")));
    assert_eq!(two.state_at(at("2026-06-02T00:00:00Z")), frozen("late", end, Some(end)));
}

#[test]
fn a_freeze_without_end_is_not_overtaken_by_those_inside_it() {
    let inside = vec![recurring("short", "0 * * * *", 1), recurring("endless", "0 * * * *", 90)];
    let two = calendar("UTC", vec![], inside);
    assert_eq!(two.next_change(at("2026-06-01T07:30:00Z")), None);
    let inside = vec![recurring("daily", "0 10 * * *", 840), recurring("endless", "0 * * * *", 90)];
    assert_eq!(calendar("UTC", vec![], inside).next_change(at("2026-06-01T07:30:00Z")), None);
}

#[test]
fn a_freeze_that_covers_every_window_never_opens() {
    let covered = calendar("UTC", vec![recurring("w", "0 8 * * *", 60)], vec![recurring("f", "0 7 * * *", 180)]);
    let now = at("2026-06-01T07:30:00Z");
    assert_eq!(covered.state_at(now), frozen("f", "2026-06-01T10:00:00Z", None));
    assert_eq!(covered.next_open(now), None);
    assert_eq!(covered.next_change(now), Some(at("2026-06-01T10:00:00Z")));
    let nothing = WindowState::Outside { next_window: None, opens_at: None };
    assert_eq!(covered.state_at(at("2026-06-01T10:00:00Z")), nothing);
    assert_eq!(covered.next_change(at("2026-06-01T10:00:00Z")), Some(at("2026-06-02T07:00:00Z")));

    let endless = calendar("UTC", vec![], vec![recurring("f", "* * * * *", 120)]);
    let view = endless.view(now);
    assert_eq!(view.state, frozen("f", "2027-07-06T00:00:00Z", None), "at least 400 days");
    assert_eq!((endless.next_change(now), view.valid_until), (None, Some(at("2026-06-02T00:00:00Z"))));
}

#[test]
fn what_lies_beyond_the_horizon_comes_into_sight_at_midnight() {
    let far = calendar("UTC", vec![dated("once", "2028-01-01T12:00", "2028-01-02T00:00")], vec![]);
    let view = far.view(at("2026-11-24T10:00:00Z"));
    assert_eq!(view.state, WindowState::Outside { next_window: None, opens_at: None });
    assert_eq!(view.valid_until, Some(at("2026-11-25T00:00:00Z")));
    assert_eq!(far.next_change(at("2026-11-27T23:59:59Z")), None);
    assert_eq!(far.state_at(at("2026-11-28T00:00:00Z")), outside("once", "2028-01-01T12:00:00Z"));
    assert_eq!(far.view(at("2028-01-02T00:00:00Z")).valid_until, None, "over for ever");
}

#[test]
fn a25_windows_across_the_year_end() {
    let night = calendar("Europe/Berlin", vec![recurring("night", "0 22 * * *", 360)], vec![]);
    assert_eq!(night.state_at(at("2026-12-31T23:30:00Z")), opened("night", "2027-01-01T03:00:00Z"));
    assert_eq!(night.state_at(at("2027-01-01T02:59:59Z")), opened("night", "2027-01-01T03:00:00Z"));
    assert_eq!(night.state_at(at("2027-01-01T03:00:00Z")), outside("night", "2027-01-01T21:00:00Z"));
    let yearly = calendar("Asia/Shanghai", vec![], vec![recurring("closing", "0 12 31 12 *", 2_880)]);
    let until = "2027-01-02T04:00:00Z";
    assert_eq!(yearly.state_at(at("2026-12-31T16:00:00Z")), frozen("closing", until, Some(until)));
    let open = WindowState::Open { window: None, closes_at: Some(at("2027-12-31T04:00:00Z")) };
    assert_eq!(yearly.state_at(at(until)), open);
}

#[test]
fn a25_a_window_lasts_as_long_as_it_says_when_the_clocks_change() {
    let night = calendar("Europe/Berlin", vec![recurring("night", "0 22 * * *", 360)], vec![]);
    // 28 March 2027: forward at 02:00; six hours from 22:00 end at 05:00 local time.
    assert_eq!(night.state_at(at("2027-03-28T02:59:59Z")), opened("night", "2027-03-28T03:00:00Z"));
    assert_eq!(night.state_at(at("2027-03-28T03:00:00Z")), outside("night", "2027-03-28T20:00:00Z"));
    // 25 October 2026: back at 03:00; they end at 03:00 local time.
    assert_eq!(night.state_at(at("2026-10-24T20:00:00Z")), opened("night", "2026-10-25T02:00:00Z"));
    assert_eq!(night.state_at(at("2026-10-25T02:00:00Z")), outside("night", "2026-10-25T21:00:00Z"));
    // St John's: back at 02:00 on 1 November 2026, forward at 02:00 on 14 March 2027.
    let early = calendar("America/St_Johns", vec![recurring("early", "30 1 * * *", 120)], vec![]);
    assert_eq!(early.state_at(at("2026-11-01T05:00:00Z")), opened("early", "2026-11-01T06:00:00Z"), "the first 01:30");
    let skipped = calendar("America/St_Johns", vec![recurring("early", "30 2 * * *", 120)], vec![]);
    assert_eq!(skipped.state_at(at("2027-03-14T05:29:59Z")), outside("early", "2027-03-14T05:30:00Z"));
    assert_eq!(skipped.state_at(at("2027-03-14T05:30:00Z")), opened("early", "2027-03-14T07:30:00Z"), "at 03:00");
}

#[test]
fn a25_a_dated_freeze_in_a_skipped_or_repeated_hour_covers_all_of_it() {
    for (from, until, start, end) in [
        // Repeated from 00:00Z to 02:00Z: starts the first time, ends the second.
        ("2026-10-25T00:00", "2026-10-25T02:30", "2026-10-24T22:00:00Z", "2026-10-25T01:30:00Z"),
        ("2026-10-25T02:30", "2026-10-25T05:00", "2026-10-25T00:30:00Z", "2026-10-25T04:00:00Z"),
        ("2026-10-25T02:30", "2026-10-25T02:30:01", "2026-10-25T00:30:00Z", "2026-10-25T01:30:01Z"),
        // Skipped at 01:00Z.
        ("2027-03-28T00:00", "2027-03-28T02:30", "2027-03-27T23:00:00Z", "2027-03-28T01:00:00Z"),
        ("2027-03-28T02:30", "2027-03-28T05:00", "2027-03-28T01:00:00Z", "2027-03-28T03:00:00Z"),
    ] {
        let freeze = calendar("Europe/Berlin", vec![], vec![dated("f", from, until)]);
        assert_eq!(freeze.next_change(at("2026-06-01T00:00:00Z")), Some(at(start)), "{from}");
        assert_eq!(freeze.state_at(at(start)), frozen("f", end, Some(end)), "{from} {until}");
    }
}

#[test]
fn a_month_end_freeze_follows_the_length_of_the_month() {
    let bank = calendar("Asia/Shanghai", vec![], vec![recurring("month-end", "0 18 L * *", 2_160)]);
    for (text, open) in [
        ("2027-02-28T09:59:59Z", true),
        ("2027-02-28T10:00:00Z", false),
        ("2027-03-01T21:59:59Z", false),
        ("2027-03-01T22:00:00Z", true),
        ("2028-02-28T10:00:00Z", true),
        ("2028-02-29T10:00:00Z", false),
        ("2026-11-30T10:00:00Z", false),
        ("2026-12-31T10:00:00Z", false),
        ("2027-01-01T21:59:59Z", false),
        ("2027-01-01T22:00:00Z", true),
    ] {
        assert_eq!(is_open(&bank, text), open, "{text}");
    }
}

#[test]
fn what_cannot_work_is_refused_by_name_and_with_advice() {
    let refusal = |zone: &str, periods: &[PeriodSpec]| {
        let spec = |windows, freezes| CalendarSpec { time_zone: zone.into(), windows, freezes };
        let error = Calendar::compile(&spec(periods.to_vec(), vec![])).unwrap_err();
        assert_eq!(Calendar::compile(&spec(vec![], periods.to_vec())).unwrap_err(), error, "in both lists");
        error.to_string()
    };
    for zone in ["Mars/Olympus", "", "Etc/Unknown", "UTC+8", "../etc/passwd"] {
        assert!(
            refusal(zone, &[])
                .ends_with("is not a time zone of the IANA database; write one such as Asia/Shanghai or UTC")
        );
    }
    assert_eq!(
        refusal("UTC", &[recurring("never", "0 0 30 2 *", 60)]),
        "never: \"0 0 30 2 *\" never occurs, because no date matches it; correct its day, month or weekday"
    );
    let malformed = refusal("UTC", &[recurring("bad", "99 0 * * *", 60)]);
    assert!(malformed.starts_with("bad: \"99 0 * * *\" is not a cron expression of five fields: "), "{malformed}");
    for minutes in [0, -5, 366 * 1_440 + 1] {
        let told = refusal("UTC", &[recurring("length", "0 0 * * *", minutes)]);
        assert_eq!(
            told,
            format!("length: a duration of {} s is not possible; write one from 1s to 366d", minutes * 60)
        );
    }
    for text in [
        "2027-13-01T00:00",
        "2027-02-29T00:00",
        "2027-02-05",
        "2027-02-05T00:00Z",
        "2027-02-05T00:00+08:00",
        "2027-02-05T24:00",
        "2027-02-05T00:00:60",
        "2027-02-05 00:00",
        "",
        "9999-12-31T23:59:59",
        "２027-02-05T0",
    ] {
        let told = refusal("America/New_York", &[dated("d", text, "2028-01-01T00:00")]);
        assert!(told.starts_with("d: ") && told.contains("write it like 2027-02-05T00:00"), "{text}: {told}");
    }
    assert_eq!(
        refusal("UTC", &[dated("d", "2027-02-01T00:00", "2027-02-01T00:00")]),
        "d: it ends at 2027-02-01T00:00, which is not after its start 2027-02-01T00:00; write a later end"
    );
    assert_eq!(
        refusal("UTC", &[recurring("x", "0 0 * * *", 1), recurring("x", "0 1 * * *", 1)]),
        "two periods are named x; give each its own name"
    );
}

#[test]
fn an_instant_is_told_in_the_zone_of_the_calendar() {
    let now = at("2026-11-24T08:00:00Z");
    for (instant, told) in [
        ("2026-11-24T14:00:00Z", "22:00 Asia/Shanghai"),
        ("2026-11-24T15:59:59Z", "23:59:59 Asia/Shanghai"),
        ("2026-11-24T17:00:00Z", "01:00 Asia/Shanghai on 2026-11-25"),
        ("2026-11-23T15:59:00Z", "23:59 Asia/Shanghai on 2026-11-23"),
    ] {
        assert_eq!(describe_instant(at(instant), now, "Asia/Shanghai"), told);
    }
    assert_eq!(format_local(at("2026-11-24T14:00:00Z"), "Asia/Shanghai"), "22:00 Asia/Shanghai on 2026-11-24");
    assert_eq!(format_local(at("2026-11-24T14:00:00Z"), "Mars/Olympus"), "14:00 UTC on 2026-11-24");
}
