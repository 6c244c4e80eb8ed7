//! What a Job that restores reads. A change makes it and nobody owns it, so it says itself what it needs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{observed, plan::PlannedRecovery};

/// Value of the label `app.kubernetes.io/component` of Jobs that restore, and of their pods.
pub const COMPONENT: &str = "restore";
/// Annotation of such a Job and of its pods: `namespace/name` of the BackupRepository that it reads.
pub const REPOSITORY_ANNOTATION: &str = "interlock.dev/restore-repository";
/// Annotation of such a Job and of its pods: ids of the snapshots that it needs, with a comma between two.
pub const SNAPSHOTS_ANNOTATION: &str = "interlock.dev/restore-snapshots";

/// What a Job that restores reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// `namespace/name` of the BackupRepository.
    pub repository: String,
    /// Ids of the snapshots.
    pub snapshots: BTreeSet<String>,
}

impl Reads {
    /// Namespace of the BackupRepository.
    pub fn namespace(&self) -> &str {
        self.repository.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

/// What a Job, or a pod of it, reads; none if it restores nothing.
pub fn reads(object: &Value) -> Option<Reads> {
    let annotation = |name: &str| object.pointer("/metadata/annotations")?.get(name)?.as_str();
    let repository = annotation(REPOSITORY_ANNOTATION)?;
    let snapshots = annotation(SNAPSHOTS_ANNOTATION).unwrap_or_default().split(',');
    Some(Reads {
        repository: repository.to_owned(),
        snapshots: snapshots.filter(|id| !id.is_empty()).map(ToOwned::to_owned).collect(),
    })
}

/// What [`reads`] finds in a Job that restores this snapshot, and the base that it needs.
pub(super) fn annotations(repository: &str, snapshot: &str, recovery: Option<&PlannedRecovery>) -> Value {
    let base = recovery.and_then(|recovery| recovery.base.as_deref());
    let snapshots: Vec<_> = base.into_iter().chain([snapshot]).collect();
    json!({REPOSITORY_ANNOTATION: repository, SNAPSHOTS_ANNOTATION: snapshots.join(",")})
}

/// Leaves out what is not in one of these namespaces: what a Job or pod says of a repository is its maker's word.
pub fn retain_in(namespaces: &[String], objects: &mut Vec<Value>) {
    let is_in = |own: &str| namespaces.iter().any(|namespace| namespace == own);
    objects.retain(|object| object.pointer("/metadata/namespace").and_then(Value::as_str).is_some_and(is_in));
}

/// Whether any of these Jobs that restore, or of their pods, may still read the repository `namespace/name`.
pub fn may_read(jobs: &[Value], pods: &[Value], repository: &str) -> bool {
    let of_repository = |object: &&Value| reads(object).is_some_and(|reads| reads.repository == repository);
    observed::may_work(jobs.iter().filter(of_repository), pods.iter().filter(of_repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(ended: bool, recovery: Option<&PlannedRecovery>) -> Value {
        let conditions = json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-23T08:00:00Z"}]);
        json!({
            "metadata": {"annotations": annotations("teller/vault", "newest", recovery)},
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
        assert_eq!(reads(&json!({"metadata": {"name": "any-other"}})), None);
    }

    #[test]
    fn what_has_not_ended_may_read_its_repository() {
        let pod = |phase: &str| {
            let annotations = annotations("teller/vault", "newest", None);
            json!({"metadata": {"annotations": annotations}, "status": {"phase": phase}})
        };
        let vault = "teller/vault";
        assert!(may_read(&[job(false, None)], &[], vault));
        assert!(!may_read(&[job(false, None)], &[pod("Running")], "teller/other"));
        assert!(!may_read(&[job(true, None)], &[pod("Succeeded"), pod("Failed")], vault));
        assert!(may_read(&[], &[pod("Running")], vault), "its Job was deleted");
    }

    #[test]
    fn what_a_pod_of_another_system_says_it_reads_is_not_believed() {
        let of = |namespace: &str| {
            let mut job = job(false, None);
            job["metadata"]["namespace"] = json!(namespace);
            job
        };
        let mut jobs = vec![of("elsewhere")];
        assert!(may_read(&jobs, &[], "teller/vault"));
        retain_in(&["teller".to_owned(), "teller-2".to_owned()], &mut jobs);
        assert!(jobs.is_empty());
        jobs.extend([of("teller-2"), json!({"metadata": {}})]);
        retain_in(&["teller".to_owned(), "teller-2".to_owned()], &mut jobs);
        assert_eq!(jobs, [of("teller-2")]);
    }
}
