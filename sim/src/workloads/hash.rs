//! Names that follow from content.

use serde_json::Value;

const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short hash in the letters that Kubernetes uses for it, which make no words. FNV-1a, as there, but of other bytes:
/// the values differ from those of a real cluster.
pub(super) fn short(parts: &[&str]) -> String {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// The hash of a pod template; collisions of names raise the count.
pub(super) fn template(template: &Value, collisions: i64) -> String {
    // Maps of serde_json are sorted here, so equal templates have equal texts.
    short(&[&template.to_string(), &if collisions == 0 { String::new() } else { collisions.to_string() }])
}

/// Sixty-four hexadecimal digits that look like a digest and follow from the parts.
pub(super) fn digest(parts: &[&str]) -> String {
    let bytes = || parts.iter().flat_map(|part| part.bytes().chain([0]));
    let word = |part: u64| {
        let seed = 0xcbf2_9ce4_8422_2325 ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    [word(0), word(1), word(2), word(3)].map(|word| format!("{word:016x}")).concat()
}
