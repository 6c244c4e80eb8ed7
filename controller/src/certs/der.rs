//! The validity of an X.509 certificate, read from its DER form (RFC 5280, section 4.1).
//!
//! Only the way to the two times is walked; rustls and the API server judge the rest.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_VERSION: u8 = 0xa0;

/// The first and the last instant at which the certificate is valid.
pub(super) fn validity(certificate: &[u8]) -> Result<(Timestamp, Timestamp), &'static str> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&EXPLICIT_VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm and issuer lie before the validity.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (times, _) = expect(rest, SEQUENCE)?;
    let (tag, not_before, rest) = element(times)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = element(rest)?;
    Ok((not_before, time(tag, not_after)?))
}

fn expect(input: &[u8], wanted: u8) -> Result<(&[u8], &[u8]), &'static str> {
    let (tag, content, rest) = element(input)?;
    if tag == wanted { Ok((content, rest)) } else { Err("it is no X.509 certificate") }
}

/// Tag, content and what follows. Lengths of up to three bytes are far above any certificate.
fn element(input: &[u8]) -> Result<(u8, &[u8], &[u8]), &'static str> {
    const SHORT: &str = "it is cut off";
    let (&tag, rest) = input.split_first().ok_or(SHORT)?;
    let (&first, rest) = rest.split_first().ok_or(SHORT)?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=3).contains(&count) {
            return Err("it has an impossible length");
        }
        let (bytes, rest) = rest.split_at_checked(count).ok_or(SHORT)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
    Ok((tag, content, rest))
}

fn time(tag: u8, content: &[u8]) -> Result<Timestamp, &'static str> {
    const WRONG: &str = "its validity is no time";
    let text = std::str::from_utf8(content).map_err(|_| WRONG)?;
    let full = match tag {
        // RFC 5280: two digits of a year stand for 1950 to 2049.
        UTC_TIME => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return Err(WRONG),
    };
    DateTime::strptime("%Y%m%d%H%M%SZ", &full)
        .and_then(|time| time.to_zoned(TimeZone::UTC))
        .map(|zoned| zoned.timestamp())
        .map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        assert_eq!(time(UTC_TIME, b"261123220000Z"), Ok("2026-11-23T22:00:00Z".parse().expect("time")));
        assert_eq!(time(UTC_TIME, b"991231235959Z"), Ok("1999-12-31T23:59:59Z".parse().expect("time")));
        assert_eq!(time(GENERALIZED_TIME, b"20610101000000Z"), Ok("2061-01-01T00:00:00Z".parse().expect("time")));
        assert!(time(UTC_TIME, b"soon").is_err());
        assert!(time(0x02, b"261123220000Z").is_err());
    }

    #[test]
    fn anything_cut_off_is_an_error() {
        let whole = [0x30, 0x82, 0x00, 0x05, 0x30, 0x03, 0x02, 0x01, 0x07];
        for end in 0..=whole.len() {
            assert!(validity(&whole[..end]).is_err());
        }
        assert!(validity(&[0x30, 0x84, 1, 1, 1, 1]).is_err());
    }
}
