//! Kubernetes quantities (`500m`, `1Gi`, `1e3`) with exact arithmetic.

use std::{cmp::Ordering, str::FromStr};

use serde_json::Value;

/// An exact decimal number of any size. Two quantities are equal when they mean the same amount: `1000m` is `1`, and
/// `1Gi` is `1024Mi`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quantity {
    negative: bool,
    /// Decimal digits without leading and trailing zeros; empty for zero.
    digits: Vec<u8>,
    /// The power of ten of the last digit; 0 for zero.
    exponent: i64,
}

/// The text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a quantity such as 500m, 2 or 1Gi")]
pub struct QuantityError(String);

impl Quantity {
    /// The quantity that a field holds; the API accepts strings and numbers.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.parse().ok(),
            // serde_json writes the shortest decimal that is this double, which is what was written.
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    fn normal(negative: bool, digits: &[u8], exponent: i64) -> Self {
        let start = digits.iter().take_while(|digit| **digit == 0).count();
        let trailing = digits.iter().rev().take_while(|digit| **digit == 0).count();
        let digits: Vec<u8> = digits.get(start..digits.len() - trailing).unwrap_or_default().to_vec();
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        Self { negative, digits, exponent: exponent + trailing as i64 }
    }

    fn magnitude_cmp(&self, other: &Self) -> Ordering {
        // With no leading zeros, the number whose first digit has the higher power of ten is larger.
        let top = |quantity: &Self| quantity.exponent + quantity.digits.len() as i64;
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => top(self).cmp(&top(other)).then_with(|| self.digits.cmp(&other.digits)),
        }
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.magnitude_cmp(other),
            (true, true) => other.magnitude_cmp(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text).ok_or_else(|| QuantityError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_number = |character: char| character.is_ascii_digit() || character == '.';
    let (number, suffix) =
        unsigned.split_at(unsigned.find(|character| !is_number(character)).unwrap_or(unsigned.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
    let (power_of_1024, power_of_ten) = scale(suffix)?;
    for _ in 0..power_of_1024 {
        times_1024(&mut digits);
    }
    Some(Quantity::normal(negative, &digits, i64::from(power_of_ten) - fraction.len() as i64))
}

/// The powers of 1024 and of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u8, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (1, 0),
        "Mi" => (2, 0),
        "Gi" => (3, 0),
        "Ti" => (4, 0),
        "Pi" => (5, 0),
        "Ei" => (6, 0),
        exponent => (0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

fn times_1024(digits: &mut Vec<u8>) {
    let mut carry: u32 = 0;
    for digit in digits.iter_mut().rev() {
        carry += u32::from(*digit) * 1024;
        *digit = (carry % 10) as u8;
        carry /= 10;
    }
    while carry > 0 {
        digits.insert(0, (carry % 10) as u8);
        carry /= 10;
    }
}
