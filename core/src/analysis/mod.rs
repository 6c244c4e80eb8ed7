//! Analysis: whether the values that are measured during a release are as they must be.
//!
//! [`validate()`] says at admission what is wrong with an [`Analysis`](interlock_crds::Analysis). [`run`] is the state
//! machine: when to measure, and what the measurements so far say. What a provider saw comes in as an
//! [`Observation`]; [`Judge`] turns it into the outcome of one measurement, by [`condition`]s in CEL or by comparing
//! samples with [`statistics`]. [`template`] puts names into queries, and [`job`] describes Jobs that measure.

pub mod compare;
pub mod condition;
pub mod job;
pub mod judge;
mod limits;
pub mod observation;
pub mod origin;
pub mod question;
pub mod run;
pub mod statistics;
pub mod template;
pub mod validate;

pub use judge::{Judge, Judged};
pub use limits::limits;
pub use observation::{JobEnd, Observation, Series};
pub use question::{Answer, Exec, Question};
pub use run::{Next, Recorded, SampleRange, Slot, decide, overall, postpone, record, start, stop};
pub use template::{Subject, Track};
pub use validate::{Finding, validate};

/// Most samples of one series that are asked for.
pub const MAX_SAMPLES: u32 = 1_000;
/// Longest time for one answer, in seconds.
pub const MAX_TIMEOUT_SECONDS: i64 = 60;

/// The longest beginning of `text` with at most `limit` bytes, with an ellipsis where something is missing.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(limit.saturating_sub(3))])
}

/// A number as people write it: at most four digits that count, no trailing zeros.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.abs().to_string().replace("inf", if value < 0.0 { "-infinity" } else { "infinity" });
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12);
    if value.abs() >= 1e15 || value.abs() < 1e-9 {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `1 failure`, `2 failures`.
pub(crate) fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
