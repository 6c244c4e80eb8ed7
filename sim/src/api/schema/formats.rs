//! Formats of texts and numbers. Of those that a server knows, the usual ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex::Regex;

use super::texts::compiled;

/// Whether a text has that format. What is not known here is not looked at.
pub(super) fn fits(format: &str, text: &str) -> bool {
    let matches = |pattern: &str| compiled(pattern).is_none_or(|regex: Regex| regex.is_match(text));
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => matches(r"^\d{4}-\d{2}-\d{2}$") && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => matches(DURATION),
        "uuid" => matches("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, length)| {
            let most = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
            let longest = address.parse::<IpAddr>().ok().map(most);
            longest.is_some_and(|longest| length.parse::<u8>().is_ok_and(|length| length <= longest))
        }),
        "email" => matches(r"^[^@\s<>]+@[^@\s<>]+$"),
        "byte" => matches("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"),
        _ => true,
    }
}

/// Durations as Go writes them, and in words.
const DURATION: &str = r"^(?:0|[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|(?:\d+\s*(?:ns|us|ms|s|sec|m|min|h|d|w|(?:second|minute|hour|day|week)s?))+)$";

/// Whether a whole number has that format.
pub(super) fn holds(format: &str, number: i64) -> bool {
    format != "int32" || i32::try_from(number).is_ok()
}
