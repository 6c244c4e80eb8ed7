//! Amounts as the server writes them: `1000m` is `1`, `1024Mi` is `1Gi`.

use interlock_core::object::{Quantity, Shape};
use serde_json::Value;

const MILLION: i128 = 1_000_000;
const BILLION: i128 = 1_000_000_000;
const DECIMAL: [(&str, u32); 9] =
    [("n", 0), ("u", 3), ("m", 6), ("", 9), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24)];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Rewrites every amount of a built-in object. Says whether all of them are amounts.
pub(super) fn rewrite(shape: Shape, value: &mut Value) -> bool {
    if let (Shape::Quantity, Value::String(text)) = (shape, &*value) {
        let Some(canonical) = canonical(text) else {
            return text.parse::<Quantity>().is_ok();
        };
        *value = Value::String(canonical);
        return true;
    }
    // What is not an amount is refused, so the rest may stay as it is.
    match value {
        Value::Object(fields) => fields.iter_mut().all(|(name, value)| rewrite(shape.field(name), value)),
        Value::Array(items) => items.iter_mut().all(|item| rewrite(shape.item(), item)),
        _ => true,
    }
}

/// The server's form; none where it would be out of reach, or is written with an exponent.
fn canonical(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    if let Some(power) = BINARY.iter().skip(1).position(|name| *name == suffix) {
        let factor = 1024_i128.checked_pow(u32::try_from(power).ok()? + 1)?;
        let nanos = digits.checked_mul(factor)?.checked_mul(BILLION)?.checked_div(scale)?;
        return Some(if nanos % BILLION == 0 && (nanos / BILLION).abs() >= 1024 {
            binary(nanos / BILLION)
        } else {
            decimal(nanos)
        });
    }
    let (_, power) = DECIMAL.iter().find(|(name, _)| *name == suffix)?;
    let scaled = digits.checked_mul(10_i128.checked_pow(*power)?)?;
    // What is finer than a thousandth is rounded up.
    let fine = scale.checked_mul(MILLION)?;
    let millis = scaled / fine + i128::from(scaled % fine > 0);
    Some(decimal(millis.checked_mul(MILLION)?))
}

fn binary(mut amount: i128) -> String {
    let mut power = 0;
    while amount % 1024 == 0 && power + 1 < BINARY.len() {
        amount /= 1024;
        power += 1;
    }
    format!("{amount}{}", BINARY[power])
}

fn decimal(nanos: i128) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let (mut amount, mut step) = (nanos, 0);
    while amount % 1000 == 0 && step + 1 < DECIMAL.len() {
        amount /= 1000;
        step += 1;
    }
    format!("{amount}{}", DECIMAL[step].0)
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn amounts_are_written_as_the_server_does() {
        for (given, stored) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100Mi", "100Mi"),
            ("1000k", "1M"),
            ("0", "0"),
            ("0.0005", "1m"),
            ("1023", "1023"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(stored), "{given}");
        }
        assert_eq!(canonical("1e3"), None);
    }
}
