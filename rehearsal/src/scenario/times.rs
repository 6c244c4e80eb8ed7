//! Moments as scenario files write them: an instant, or a length of time after the start or after the step before.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Deserializer, de};

/// When something happens, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    text: String,
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Instant(Timestamp),
    AfterStart(SignedDuration),
    AfterStep(SignedDuration),
}

impl At {
    /// The instant that is meant.
    pub fn resolve(&self, start: Timestamp, before: Timestamp) -> Option<Timestamp> {
        match self.when {
            When::Instant(at) => Some(at),
            When::AfterStart(length) => start.checked_add(length).ok(),
            When::AfterStep(length) => before.checked_add(length).ok(),
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.when {
            When::Instant(_) => f.write_str(&self.text),
            When::AfterStart(length) => write!(f, "{} after the start", duration_text(length)),
            When::AfterStep(length) => write!(f, "{} after the step before", duration_text(length)),
        }
    }
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let when = match text.strip_prefix('+') {
            Some(rest) => length(rest).map(When::AfterStep),
            None => length(text).map(When::AfterStart).or_else(|| instant(text).map(When::Instant)),
        };
        let when = when.ok_or_else(|| not_a_moment(text))?;
        Ok(Self { text: text.to_owned(), when })
    }
}

fn not_a_moment(text: &str) -> String {
    let text: String = text.chars().take(60).collect();
    format!(
        "{text:?} is no moment: write an offset from the start such as `2d 3h`, one from the step before such as `+10m`, \
         or an instant such as `2026-11-30T17:00+08:00` or `2026-11-30T17:00[Asia/Shanghai]`"
    )
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An instant, with an offset or with a zone in brackets.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp()))
}

/// `2d 3h`, `90s` or `1h30m`: numbers, each with one of the units w, d, h, m and s.
pub(super) fn length(text: &str) -> Option<SignedDuration> {
    let mut total = 0_i64;
    let mut digits = String::new();
    let mut any = false;
    for letter in text.chars() {
        match letter {
            '0'..='9' if digits.len() < 9 => digits.push(letter),
            ' ' if digits.is_empty() => {}
            _ => {
                let unit = match letter {
                    's' => 1,
                    'm' => 60,
                    'h' => 3_600,
                    'd' => 86_400,
                    'w' => 604_800,
                    _ => return None,
                };
                total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
                digits.clear();
                any = true;
            }
        }
    }
    (any && digits.is_empty()).then(|| SignedDuration::from_secs(total))
}

/// Reads a length of time.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    length(&text).ok_or_else(|| {
        let text: String = text.chars().take(60).collect();
        de::Error::custom(format!("{text:?} is no length of time: write one such as 90s, 10m, 4h or 2d 3h"))
    })
}

/// Reads a length of time that may be left out.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SignedDuration>, D::Error> {
    required(deserializer).map(Some)
}

/// `2d 3h`: a length of time in at most two units, for people.
pub fn duration_text(length: SignedDuration) -> String {
    let mut rest = length.as_secs().max(0);
    let mut parts = Vec::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
        if parts.len() == 2 || (!parts.is_empty() && count == 0) {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_offsets_or_instants() {
        let start: Timestamp = "2026-11-23T00:00:00Z".parse().expect("an instant");
        let before = start + SignedDuration::from_hours(1);
        let cases = [
            ("2d 3h", "2026-11-25T03:00:00Z"),
            ("1h30m", "2026-11-23T01:30:00Z"),
            ("0s", "2026-11-23T00:00:00Z"),
            ("+10m", "2026-11-23T01:10:00Z"),
            ("2026-11-30T17:00:00+08:00", "2026-11-30T09:00:00Z"),
            ("2026-11-30T17:00[Asia/Shanghai]", "2026-11-30T09:00:00Z"),
        ];
        for (text, expected) in cases {
            let at: At = text.parse().expect(text);
            assert_eq!(at.resolve(start, before), Some(expected.parse().expect("an instant")), "{text}");
        }
        for text in ["", "3", "3x", "tomorrow", "-2h", "+", "2026-11-30"] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_are_told_in_at_most_two_units() {
        let cases = [(0, "0s"), (59, "59s"), (3_600, "1h"), (3_661, "1h 1m"), (183_600, "2d 3h"), (86_401, "1d")];
        for (seconds, expected) in cases {
            assert_eq!(duration_text(SignedDuration::from_secs(seconds)), expected);
        }
    }
}
