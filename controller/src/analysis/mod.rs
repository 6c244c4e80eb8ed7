//! Providers of analyses: they ask a server and report what they saw. What it means is the core's to judge.
//!
//! Addresses come from plans, which people write, so a request goes nowhere else than its address says: http and https
//! only, redirects are not followed, and addresses that lead to the machine itself or to a cloud's metadata are refused
//! ([`guard`]). Credentials come from Secrets that name the servers they are for ([`access`]), and stand in no message.

pub mod access;
pub mod client;
pub mod guard;
mod probe;
mod prometheus;

use interlock_core::analysis::{Observation, Slot, Subject};
use interlock_crds::Analysis;

pub use access::{Access, AccessError};
pub use client::{Client, ClientError};
pub use guard::Guard;

/// Measures once. Jobs are not asked but run: the caller makes them and looks at them.
pub async fn measure(
    client: &Client,
    access: &Access,
    analysis: &Analysis,
    slot: &Slot,
    subject: &Subject,
) -> Observation {
    if let Some(metric) = &analysis.prometheus {
        return prometheus::measure(client, access, metric, subject).await;
    }
    if let Some(metric) = &analysis.http {
        return probe::measure(client, access, metric, subject).await;
    }
    match (&analysis.compare, &slot.samples) {
        (Some(metric), Some(range)) => prometheus::compare(client, access, metric, range, subject).await,
        _ => {
            Observation::Error("there is nothing to ask: the analysis has neither prometheus, http nor compare".into())
        }
    }
}

#[cfg(test)]
mod tests;
