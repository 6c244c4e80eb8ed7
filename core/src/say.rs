//! Sentences that several places make alike.

use std::fmt::Display;

/// The names of `all`, of many the first five: `a, b and 3 more`.
pub(crate) fn first_of<T: Display>(all: &[T]) -> String {
    const MOST: usize = 5;
    let names: Vec<_> = all.iter().take(MOST).map(ToString::to_string).collect();
    match all.len().saturating_sub(MOST) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
