//! How exposed data is, by policy: from objects alone, so that a restart changes no number.
//!
//! Of all metrics these alone carry names of objects, because an alarm without them says nothing: one set of values for
//! each BackupPolicy and BackupRepository.

use interlock_crds::{BackupPolicy, BackupRepository, MaintenanceOutcome, ScheduleStatus, SlotCount};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::index::RunsSummary;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Named {
    namespace: String,
    name: String,
}

impl Named {
    pub fn of(key: &str) -> Self {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// What is not known (any more) has no value: a controller that was restarted would not have one either.
pub(super) fn set_or_remove(family: &Family<Named, Gauge>, named: &Named, value: Option<i64>) {
    match value {
        Some(value) => {
            family.get_or_create(named).set(value);
        }
        None => {
            family.remove(named);
        }
    }
}

/// Gauges by policy or repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Backups {
    exposed_since: Family<Named, Gauge>,
    objective: Family<Named, Gauge>,
    last_success: Family<Named, Gauge>,
    failures: Family<Named, Gauge>,
    points: Family<Named, Gauge>,
    duration: Family<Named, Gauge>,
    missed: Family<Named, Gauge>,
    skipped: Family<Named, Gauge>,
    overdue: Family<Named, Gauge>,
    size: Family<Named, Gauge>,
    checked: Family<Named, Gauge>,
    check_failed: Family<Named, Gauge>,
}

impl Backups {
    pub fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        let mut add =
            |name: &str, help: &str, family: &Family<Named, Gauge>| registry.register(name, help, family.clone());
        add(
            "backup_exposed_since_timestamp_seconds",
            "Time of the data of the newest good recovery point; without one, of the policy's creation",
            &all.exposed_since,
        );
        add("backup_objective_seconds", "objectives.rpo of the policy", &all.objective);
        add("backup_last_success_timestamp_seconds", "When a run last succeeded", &all.last_success);
        add("backup_consecutive_failures", "Runs in a row that did not succeed", &all.failures);
        add("backup_points", "Recovery points", &all.points);
        add(
            "backup_last_duration_seconds",
            "How long the newest run that ended took, from when its Job was made",
            &all.duration,
        );
        add("backup_missed_slots", "Slots without a run, as nothing could begin it in time", &all.missed);
        add(
            "backup_skipped_slots",
            "Slots without a run, as an earlier run or another schedule was there",
            &all.skipped,
        );
        add("backup_overdue", "1 if a slot was missed and nothing was begun since", &all.overdue);
        add("backup_repository_size_bytes", "Size of the repository after its last prune", &all.size);
        add("backup_repository_checked_timestamp_seconds", "When the repository was last checked", &all.checked);
        add("backup_repository_check_failed", "1 if the last check failed", &all.check_failed);
        all
    }

    pub fn policy(&self, key: &str, policy: Option<&BackupPolicy>, runs: &RunsSummary) {
        let named = Named::of(key);
        let Some(policy) = policy else {
            for family in [
                &self.exposed_since,
                &self.objective,
                &self.last_success,
                &self.failures,
                &self.points,
                &self.duration,
                &self.missed,
                &self.skipped,
                &self.overdue,
            ] {
                family.remove(&named);
            }
            return;
        };
        self.slots(&named, policy);
        let created = policy.metadata.creation_timestamp.as_ref().map(|at| at.0.as_second());
        let since = runs.last_good.as_ref().map(|point| point.data_time.0.as_second()).or(created);
        self.exposed_since.get_or_create(&named).set(since.unwrap_or_default());
        let rpo = policy.spec.objectives.as_ref().and_then(|objectives| objectives.rpo);
        let values = [
            (&self.objective, rpo.map(interlock_crds::Duration::seconds)),
            (&self.last_success, runs.last_success.map(jiff::Timestamp::as_second)),
            (&self.duration, runs.last_run_seconds),
        ];
        for (family, value) in values {
            set_or_remove(family, &named, value);
        }
        self.failures.get_or_create(&named).set(i64::from(runs.consecutive_failures));
        self.points.get_or_create(&named).set(i64::from(runs.points));
    }

    /// Slots that passed without a run, over all schedules.
    fn slots(&self, named: &Named, policy: &BackupPolicy) {
        let status = policy.status.as_ref();
        let total = |of: fn(&ScheduleStatus) -> Option<&SlotCount>| {
            let counts = status.into_iter().flat_map(|status| &status.schedules).filter_map(of);
            i64::try_from(counts.map(|count| count.total).sum::<u64>()).unwrap_or(i64::MAX)
        };
        self.missed.get_or_create(named).set(total(|schedule| schedule.missed_slots.as_ref()));
        self.skipped.get_or_create(named).set(total(|schedule| schedule.skipped_slots.as_ref()));
        let overdue =
            status.is_some_and(|status| status.conditions.iter().any(|c| c.type_ == "Overdue" && c.status == "True"));
        self.overdue.get_or_create(named).set(i64::from(overdue));
    }

    pub fn repository(&self, key: &str, repository: Option<&BackupRepository>) {
        let named = Named::of(key);
        let Some(status) = repository.map(|repository| repository.status.clone().unwrap_or_default()) else {
            for family in [&self.size, &self.checked, &self.check_failed] {
                family.remove(&named);
            }
            return;
        };
        if let Some(bytes) = status.size_bytes {
            self.size.get_or_create(&named).set(bytes);
        }
        if let Some(check) = &status.last_check {
            let at = check.finished_at.as_ref().map(|at| at.0.as_second());
            self.checked.get_or_create(&named).set(at.unwrap_or_default());
            self.check_failed.get_or_create(&named).set(i64::from(check.outcome == Some(MaintenanceOutcome::Failed)));
        }
    }
}
