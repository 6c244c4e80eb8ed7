//! What people see of a repository: phase, conditions and one sentence.

use interlock_crds::{MaintenanceOperation, MaintenanceOutcome, RepositoryPhase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Pass;
use crate::backup::outcome::Reason;

impl Pass<'_> {
    pub(super) fn tell(&mut self) {
        let unreachable = self.unreachable();
        let damaged = self.damaged();
        let running = self.status.active.as_ref().filter(|active| active.started_at.is_some());
        let phase = match running.map(|active| active.operation) {
            _ if !self.facts.problems.is_empty() => RepositoryPhase::Invalid,
            Some(MaintenanceOperation::Check) => RepositoryPhase::Checking,
            Some(MaintenanceOperation::Prune) => RepositoryPhase::Pruning,
            _ if damaged.is_some() => RepositoryPhase::Damaged,
            _ if unreachable.is_some() => RepositoryPhase::Unreachable,
            _ if self.status.repository_id.is_some() => RepositoryPhase::Ready,
            _ => RepositoryPhase::Pending,
        };
        let message = match phase {
            RepositoryPhase::Invalid => self.facts.problems.join("; "),
            RepositoryPhase::Damaged => damaged.clone().unwrap_or_default(),
            RepositoryPhase::Unreachable => unreachable.clone().unwrap_or_default(),
            RepositoryPhase::Checking | RepositoryPhase::Pruning => {
                running.map_or_else(String::new, |active| format!("Job {} runs", active.name))
            }
            RepositoryPhase::Ready => format!("{} recovery points", self.status.points),
            RepositoryPhase::Pending if self.facts.spec.initialize => "it is made by a first Job".to_owned(),
            RepositoryPhase::Pending => "the first run of a policy tells whether it can be used".to_owned(),
        };
        self.status.phase = phase;
        self.status.message = Some(message.chars().take(2_048).collect());
        let valid = match self.facts.problems {
            [] => ("True", "Valid", "everything can be used".to_owned()),
            problems => ("False", "Invalid", problems.join("; ")),
        };
        let ready = match (&unreachable, &damaged, &self.status.repository_id) {
            (Some(why), ..) => ("False", "Unreachable", why.clone()),
            (None, Some(why), _) => ("False", "Damaged", why.clone()),
            (None, None, Some(id)) => ("True", "Opened", format!("repository {id} was opened")),
            (None, None, None) => ("Unknown", "NotOpenedYet", "nothing has opened it yet".to_owned()),
        };
        let mut told = vec![("Valid", valid), ("Ready", ready), ("Checked", self.checked())];
        told.extend(self.rotated().map(|rotated| ("KeyRotated", rotated)));
        self.status.conditions = told
            .into_iter()
            .map(|(type_, (status, reason, message))| self.condition(type_, status, reason, message))
            .collect();
    }

    /// Why runs fail for the repository's sake, if the newest thing that tried to open it could not.
    fn unreachable(&self) -> Option<String> {
        let runs = self.facts.runs;
        let failed_to_make = self
            .status
            .last_initialize
            .as_ref()
            .filter(|last| last.outcome == Some(MaintenanceOutcome::Failed) && self.status.repository_id.is_none())
            .and_then(|last| last.message.clone().map(|why| format!("it could not be made: {why}")));
        let refused = runs.refused.as_ref().filter(|(at, _)| runs.opened_at.is_none_or(|opened| *at > opened));
        failed_to_make.or_else(|| refused.map(|(_, why)| why.clone()))
    }

    fn damaged(&self) -> Option<String> {
        let check = self.status.last_check.as_ref()?;
        (check.reason.as_deref() == Some(Reason::Damaged.name().as_str())).then(|| {
            format!(
                "check {} found damage: {}",
                check.name,
                check.message.as_deref().unwrap_or("see the log of its Job")
            )
        })
    }

    fn checked(&self) -> (&'static str, &'static str, String) {
        match (&self.facts.spec.check, &self.status.last_check) {
            (None, None) => ("Unknown", "NoCheck", "check is not set: nobody reads the repository back".to_owned()),
            (Some(_), None) => ("Unknown", "NotYet", "its first check is still to come".to_owned()),
            (_, Some(last)) if last.outcome == Some(MaintenanceOutcome::Succeeded) => {
                let part = last.part.as_ref().map_or("its structure", |part| part.as_str());
                ("True", "Passed", format!("check {} read {part} and found nothing wrong", last.name))
            }
            (_, Some(last)) => ("False", "Failed", last.message.clone().unwrap_or_default()),
        }
    }

    fn rotated(&self) -> Option<(&'static str, &'static str, String)> {
        let restic = &self.facts.spec.restic;
        let secret = &restic.new_key_secret_ref.as_ref()?.name;
        let (field, old) = match &restic.maintenance_secret_ref {
            Some(maintenance) => ("maintenanceSecretRef, and secretRef if that had the same key,", &maintenance.name),
            None => ("secretRef", &restic.secret_ref.name),
        };
        Some(if self.is_rotated() {
            (
                "True",
                "Rotated",
                format!(
                    "the key of Secret {secret} opens the repository, and the one that Secret {old} had, if it was another, was taken away: let {field} name a Secret with the new key, and leave out newKeySecretRef; until then whatever uses a key that was taken away ends with WrongPassword"
                ),
            )
        } else {
            let why = self.status.last_key_rotation.as_ref().and_then(|last| last.message.clone());
            ("False", "NotYet", why.unwrap_or_else(|| format!("the key of Secret {secret} is still to be added")))
        })
    }

    fn condition(&self, type_: &str, status: &str, reason: &str, message: String) -> Condition {
        let known = self.facts.status.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.facts.generation),
            last_transition_time: known.map_or_else(|| Time(self.facts.now), |c| c.last_transition_time.clone()),
        }
    }
}
