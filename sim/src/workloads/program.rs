//! What the programs in pods of Jobs do, where that matters beyond their end.

use std::fmt::Debug;

use jiff::Timestamp;
use serde_json::Value;

/// The programs of a cluster.
pub trait Program: Debug + Send + Sync {
    /// A pod of a Job ran well until `at`: what its containers leave as termination messages, by name. Asked once a pod.
    fn end(&self, pod: &Value, at: Timestamp) -> Vec<(String, String)>;
}
