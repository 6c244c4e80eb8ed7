//! What the programs in the simulated cluster do, as scenario files say it.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// What happens to some workloads. Of each sort of effect, the first behaviour that matches wins.
///
/// ```yaml
/// - image: "*:bad"
///   effect: neverReady
/// - namespace: bank
///   workload: ledger-*
///   effect: { readyAfter: 30s }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Behaviour {
    /// Namespaces it is about, as a pattern in which `*` stands for any text and `?` for one character. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of workloads it is about, as a pattern: of the Deployment, StatefulSet, DaemonSet, CronJob or Job, or of the
    /// pod that belongs to none. For `wantsReplicas`: of the autoscaler's target. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Images it is about, as a pattern; one container that has such an image is enough. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What happens.
    pub effect: Effect,
}

impl Behaviour {
    /// An effect on everything.
    pub const fn of(effect: Effect) -> Self {
        Self { namespace: None, workload: None, image: None, effect }
    }
}

/// What happens. Durations read `30s`, `5m` or `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Effect {
    /// Pods are ready this long after they were given a node; without any behaviour it is `2s`.
    ReadyAfter(#[serde(serialize_with = "jiff::fmt::serde::duration::friendly::compact::required")] SignedDuration),
    /// Pods run but never become ready; pods of Jobs never end. Pods that are ready cease to be.
    NeverReady,
    /// Containers run this long, end with an error and are started again, later each time. They are ready while they run,
    /// from two seconds on.
    CrashLoop {
        /// How long a container runs.
        #[serde(default = "default_crash", serialize_with = "jiff::fmt::serde::duration::friendly::compact::required")]
        after: SignedDuration,
    },
    /// The image cannot be pulled: pods stay Pending.
    ImagePullError,
    /// No node takes the pods: they stay Pending.
    Unschedulable,
    /// Pods of Jobs succeed this long after they were given a node; without any behaviour it is `5s`.
    JobSucceedsAfter(
        #[serde(serialize_with = "jiff::fmt::serde::duration::friendly::compact::required")] SignedDuration,
    ),
    /// Pods of Jobs fail after five seconds; later ones succeed.
    JobFails {
        /// How many runs of one Job fail. Left out: all.
        #[serde(default = "always")]
        times: u32,
    },
    /// Pods take this long to end when they are deleted, at most their grace period; without any behaviour it is `1s`.
    TerminatesAfter(
        #[serde(serialize_with = "jiff::fmt::serde::duration::friendly::compact::required")] SignedDuration,
    ),
    /// The metrics of a HorizontalPodAutoscaler ask for this many replicas; without any behaviour, for what there is.
    WantsReplicas(i64),
}

const fn default_crash() -> SignedDuration {
    SignedDuration::from_secs(1)
}

const fn always() -> u32 {
    u32::MAX
}

/// Whom behaviours are looked up for.
#[derive(Clone, Debug)]
pub(super) struct Subject<'a> {
    pub namespace: &'a str,
    pub workload: &'a str,
    pub images: Vec<&'a str>,
}

impl Subject<'_> {
    fn is_meant_by(&self, behaviour: &Behaviour) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        fits(&behaviour.namespace, self.namespace)
            && fits(&behaviour.workload, self.workload)
            && (behaviour.image.is_none() || self.images.iter().any(|image| fits(&behaviour.image, image)))
    }

    /// What the first behaviour says that is about this subject and has an answer.
    pub fn ask<'b, T: 'b>(&self, behaviours: &'b [Behaviour], answer: impl Fn(&'b Effect) -> Option<T>) -> Option<T> {
        behaviours.iter().filter(|behaviour| self.is_meant_by(behaviour)).find_map(|found| answer(&found.effect))
    }
}

/// Whether a text fits a pattern of `*` (any text) and `?` (one character).
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = letters.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| glob(rest, &text[at..]))
        }
        Some(wanted) => {
            let mut found = text.chars();
            found.next().is_some_and(|letter| wanted == '?' || wanted == letter)
                && glob(letters.as_str(), found.as_str())
        }
    }
}
