//! How well restores are proved, by drill: from objects alone, so that a restart changes no number.

use interlock_core::drill::status::recorded;
use interlock_crds::RestoreDrill;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::backups::{Named, set_or_remove};

/// Gauges by drill.
#[derive(Clone, Debug, Default)]
pub(super) struct Drills {
    last_passed: Family<Named, Gauge>,
    failed: Family<Named, Gauge>,
    overdue: Family<Named, Gauge>,
    rto: Family<Named, Gauge>,
    rto_objective: Family<Named, Gauge>,
    rpo: Family<Named, Gauge>,
    leftovers: Family<Named, Gauge>,
}

impl Drills {
    pub fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        let mut add =
            |name: &str, help: &str, family: &Family<Named, Gauge>| registry.register(name, help, family.clone());
        add(
            "drill_last_passed_timestamp_seconds",
            "When a drill last passed; without a pass, when it was made",
            &all.last_passed,
        );
        add("drill_failed", "1 if the newest run that counts failed", &all.failed);
        add("drill_overdue", "1 if no run passed for twice the time between two slots", &all.overdue);
        add("drill_rto_seconds", "Recovery time that the newest run that counts measured", &all.rto);
        add("drill_rto_objective_seconds", "objectives.rto of the drill", &all.rto_objective);
        add("drill_rpo_seconds", "Recovery point that the newest run that counts measured", &all.rpo);
        add("drill_cleanup_failed", "1 if something of an ended run is left for too long", &all.leftovers);
        all
    }

    pub fn drill(&self, key: &str, drill: Option<&RestoreDrill>) {
        let named = Named::of(key);
        let Some(drill) = drill else {
            for family in [
                &self.last_passed,
                &self.failed,
                &self.overdue,
                &self.rto,
                &self.rto_objective,
                &self.rpo,
                &self.leftovers,
            ] {
                family.remove(&named);
            }
            return;
        };
        let status = drill.status.clone().unwrap_or_default();
        let created = drill.metadata.creation_timestamp.as_ref().map(|at| at.0.as_second());
        let passed = status.last_passed.as_ref().map(|passed| passed.finished_at.0.as_second()).or(created);
        self.last_passed.get_or_create(&named).set(passed.unwrap_or_default());
        // A run with an injected fault, or with another selection, is no news about the drill.
        let results = recorded(&status);
        self.failed.get_or_create(&named).set(i64::from(results.is_failing()));
        let is = |type_: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        self.overdue.get_or_create(&named).set(i64::from(is("DrillOverdue")));
        self.leftovers.get_or_create(&named).set(i64::from(is("CleanupFailed")));
        let objective = drill.spec.objectives.as_ref().and_then(|objectives| objectives.rto);
        let last = results.newest();
        let values = [
            (&self.rto, last.and_then(|last| last.rto_seconds)),
            (&self.rpo, last.and_then(|last| last.rpo_seconds)),
            (&self.rto_objective, objective.map(interlock_crds::Duration::seconds)),
        ];
        for (family, value) in values {
            set_or_remove(family, &named, value);
        }
    }
}
