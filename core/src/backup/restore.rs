//! What a Job that restores reads. A change makes it and nobody owns it, so it says itself what it needs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{observed, plan::PlannedRecovery};

/// Value of the label `app.kubernetes.io/component` of Jobs that restore, and of their pods.
pub const COMPONENT: &str = "restore";
/// Annotation of such a Job: the BackupRepository of its namespace that it reads.
pub const REPOSITORY_ANNOTATION: &str = "interlock.dev/restore-repository";
/// Annotation of such a Job: ids of the snapshots that it needs, with a comma between two.
pub const SNAPSHOTS_ANNOTATION: &str = "interlock.dev/restore-snapshots";

/// What a Job that restores reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// `namespace/name` of the BackupRepository.
    pub repository: String,
    /// Ids of the snapshots.
    pub snapshots: BTreeSet<String>,
}

/// What a Job reads; none if it restores nothing.
pub fn reads(job: &Value) -> Option<Reads> {
    let namespace = job.pointer("/metadata/namespace")?.as_str()?;
    let annotation = |name: &str| job.pointer("/metadata/annotations")?.get(name)?.as_str();
    let repository = annotation(REPOSITORY_ANNOTATION)?;
    let snapshots = annotation(SNAPSHOTS_ANNOTATION).unwrap_or_default().split(',');
    Some(Reads {
        repository: format!("{namespace}/{repository}"),
        snapshots: snapshots.filter(|id| !id.is_empty()).map(ToOwned::to_owned).collect(),
    })
}

/// What [`reads`] finds in a Job that restores this snapshot, and the base that it needs.
pub(super) fn annotations(repository: &str, snapshot: &str, recovery: Option<&PlannedRecovery>) -> Value {
    let base = recovery.and_then(|recovery| recovery.base.as_deref());
    let snapshots: Vec<_> = base.into_iter().chain([snapshot]).collect();
    json!({REPOSITORY_ANNOTATION: repository, SNAPSHOTS_ANNOTATION: snapshots.join(",")})
}

/// Whether anything may still read the repository `namespace/name`: of these Jobs that restore, or of their pods, of which
/// nobody knows what they read.
pub fn may_read(jobs: &[Value], pods: &[Value], repository: &str) -> bool {
    let of_repository = |job: &Value| reads(job).is_some_and(|reads| reads.repository == repository);
    let phase = |pod: &Value| pod.pointer("/status/phase").and_then(Value::as_str).map(ToOwned::to_owned);
    let runs = |pod: &Value| !matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
    jobs.iter().any(|job| of_repository(job) && !observed::is_terminal(job)) || pods.iter().any(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(ended: bool, recovery: Option<&PlannedRecovery>) -> Value {
        let conditions = json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-23T08:00:00Z"}]);
        json!({
            "metadata": {"namespace": "teller", "annotations": annotations("vault", "newest", recovery)},
            "status": {"conditions": if ended { conditions } else { json!([]) }},
        })
    }

    #[test]
    fn a_job_says_what_it_reads_with_the_base_that_it_needs() {
        let base = PlannedRecovery { base: Some("base".to_owned()), until: None };
        let snapshots = |job: &Value| reads(job).map(|reads| (reads.repository, Vec::from_iter(reads.snapshots)));
        let vault = "teller/vault".to_owned();
        assert_eq!(snapshots(&job(false, None)), Some((vault.clone(), vec!["newest".to_owned()])));
        assert_eq!(snapshots(&job(false, Some(&base))), Some((vault, vec!["base".to_owned(), "newest".to_owned()])));
        assert_eq!(reads(&json!({"metadata": {"namespace": "teller"}})), None, "any other Job");
    }

    #[test]
    fn a_job_that_has_not_ended_may_read_its_repository_and_a_pod_that_runs_any() {
        let pod = |phase: &str| json!({"status": {"phase": phase}});
        assert!(may_read(&[job(false, None)], &[], "teller/vault"));
        assert!(!may_read(&[job(false, None)], &[], "teller/other"));
        assert!(!may_read(&[job(true, None)], &[pod("Succeeded"), pod("Failed")], "teller/vault"));
        assert!(may_read(&[], &[pod("Running")], "teller/vault"), "its Job was deleted");
    }
}
