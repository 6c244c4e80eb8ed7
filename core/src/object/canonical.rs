//! Bytes that are the same for the same content (RFC 8785), and their digest.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use super::path::{Path, Segment};

/// The largest number that RFC 8785 can carry exactly: it writes every number as an IEEE 754 double.
const LARGEST_EXACT: u64 = (1 << 53) - 1;

/// Why content has no canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number is too large to be written exactly, so two contents could have one digest.
    #[error("the number {number} at {path} is beyond 2^53-1 and has no exact canonical form; write it as a string")]
    Number {
        /// Where it stands.
        path: String,
        /// The number as it was read.
        number: String,
    },
    /// The value cannot be written as JSON.
    #[error("the content cannot be written as JSON: {0}")]
    Serialize(String),
}

/// The RFC 8785 form of a value.
///
/// # Errors
/// When a number lies beyond ±(2^53-1), whether written as an integer or not.
pub fn canonical_json(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    check_numbers(value, &mut Path::root())?;
    serde_json_canonicalizer::to_vec(value).map_err(|error| CanonicalError::Serialize(error.to_string()))
}

fn check_numbers(value: &Value, path: &mut Path) -> Result<(), CanonicalError> {
    match value {
        Value::Number(number) if !is_exact(number) => {
            Err(CanonicalError::Number { path: path.to_string(), number: number.to_string() })
        }
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            path.push(Segment::Index(index));
            check_numbers(item, path)?;
            path.pop();
            Ok(())
        }),
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
            path.push(Segment::Key(name.clone()));
            check_numbers(field, path)?;
            path.pop();
            Ok(())
        }),
        _ => Ok(()),
    }
}

// An integer beyond u64 reaches us as a double, so doubles are bounded too.
fn is_exact(number: &Number) -> bool {
    if let Some(integer) = number.as_i64() {
        integer.unsigned_abs() <= LARGEST_EXACT
    } else if let Some(integer) = number.as_u64() {
        integer <= LARGEST_EXACT
    } else {
        number.as_f64().is_some_and(|double| double.abs() <= LARGEST_EXACT as f64)
    }
}

/// A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let computed = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut digest = [0; 32];
        // SHA-256 always has 32 bytes: zip cannot cut anything off.
        for (to, from) in digest.iter_mut().zip(computed.as_ref()) {
            *to = *from;
        }
        Self(digest)
    }

    /// The digest of a value's canonical JSON.
    ///
    /// # Errors
    /// When the value cannot be written as JSON, or holds a number beyond ±(2^53-1).
    pub fn of_canonical(value: &impl Serialize) -> Result<Self, CanonicalError> {
        let value = serde_json::to_value(value).map_err(|error| CanonicalError::Serialize(error.to_string()))?;
        Ok(Self::of_bytes(&canonical_json(&value)?))
    }

    /// The same for a structure of texts and small whole numbers whose fields stand in the order of their names: writing
    /// it out is canonical already.
    pub(crate) fn of_ordered(value: &impl Serialize) -> Result<Self, CanonicalError> {
        let bytes = serde_json::to_vec(value).map_err(|error| CanonicalError::Serialize(error.to_string()))?;
        Ok(Self::of_bytes(&bytes))
    }
}

/// `sha256:` and 64 digits.
const TEXT_LENGTH: usize = 71;

impl Digest {
    fn write<'a>(&self, text: &'a mut [u8; TEXT_LENGTH]) -> &'a str {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let (prefix, digits) = text.split_at_mut(7);
        prefix.copy_from_slice(b"sha256:");
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl PartialEq<str> for Digest {
    fn eq(&self, other: &str) -> bool {
        self.write(&mut [0; TEXT_LENGTH]) == other
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_LENGTH];
        f.write_str(self.write(&mut text))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no digest in the form `sha256:<64 lower-case hexadecimal digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written sha256: and 64 lower-case hexadecimal digits")]
pub struct DigestParseError;

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        let hex = text.strip_prefix("sha256:").ok_or(DigestParseError)?;
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(DigestParseError);
        }
        let mut digest = [0; 32];
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = (nibble(*high)? << 4) | nibble(*low)?;
        }
        Ok(Self(digest))
    }
}

fn nibble(digit: u8) -> Result<u8, DigestParseError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestParseError),
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
