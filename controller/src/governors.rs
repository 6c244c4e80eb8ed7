//! The governing kinds: enrolment of namespaces, and conditions that tell people what is wrong with what they wrote.

mod webhooks;

use std::sync::{Arc, PoisonError, RwLock};

use interlock_core::{
    change::{INTERLOCK_NAMESPACE, MODE_LABEL, SYSTEM_LABEL, decide::set_condition, facts::SystemFacts},
    object::ObjectId,
    port::{Identity, Port, PortError},
};
use interlock_crds as crds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::index::Index;
use webhooks::{KINDS_GOVERNED, KINDS_READABLE, Named};

/// One pass over what `key` names (see [`crate::watch::Wake`]). Returns when to look again although nothing happened.
pub async fn reconcile<P: Port>(
    port: &P,
    index: &Arc<RwLock<Index>>,
    key: &str,
) -> Result<Option<Timestamp>, PortError> {
    if !port.may_write() {
        return Ok(None);
    }
    let Some(now) = port.now() else {
        return Err(PortError::Unavailable("the API server's time is not known".to_owned()));
    };
    let ask = Ask { port, index, now };
    match key.split_once('/') {
        Some(("system", name)) => ask.system(name).await,
        Some(("plan", key)) => ask.plan(key).await.map(|()| None),
        Some(("namespace", name)) => ask.namespace(name).await.map(|()| None),
        _ => match key {
            "persons" => ask.persons().await.map(|()| None),
            // What names a Calendar heals, or breaks, with it.
            "calendars" => {
                ask.policies().await?;
                ask.plans().await?;
                ask.calendars().await
            }
            "policies" => ask.policies().await.map(|()| None),
            "plans" => ask.plans().await.map(|()| None),
            "garbage" => ask.garbage().await.map(|()| None),
            "sweep" => ask.sweep().await.map(|()| None),
            "webhooks" => ask.webhooks().await,
            _ => Ok(None),
        },
    }
}

/// What is wrong and not watched is looked at again after so long.
const LOOK_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(15);

struct Ask<'a, P> {
    port: &'a P,
    index: &'a Arc<RwLock<Index>>,
    now: Timestamp,
}

impl<P: Port> Ask<'_, P> {
    fn ask<T>(&self, question: impl FnOnce(&Index) -> T) -> T {
        question(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn system(&self, name: &str) -> Result<Option<Timestamp>, PortError> {
        let system = self.ask(|index| index.system(name));
        let labelled = self.ask(|index| index.labelled(name));
        let mut namespaces: Vec<String> = labelled;
        namespaces.extend(system.iter().flat_map(|s| s.spec.namespaces.clone()));
        namespaces.sort();
        namespaces.dedup();
        let mut missing = Vec::new();
        for namespace in &namespaces {
            match self.namespace(namespace).await {
                Err(PortError::NotFound(_)) => missing.push(namespace.clone()),
                other => other?,
            }
        }
        let Some(system) = system else { return Ok(None) };
        missing
            .extend(system.spec.namespaces.iter().filter(|n| self.ask(|index| index.namespace(n).is_none())).cloned());
        missing.sort();
        missing.dedup();
        let executor = self.executor(&system).await;
        let kinds = self.named_kinds(&system).await?;
        // Neither ServiceAccounts nor rights nor definitions are watched.
        let well = executor.is_ok() && kinds.as_ref().is_none_or(Named::is_well);
        self.system_status(&system, &missing, executor, kinds).await?;
        Ok(if well { None } else { self.now.checked_add(LOOK_AGAIN).ok() })
    }

    /// Gives a namespace the labels that its System demands, or takes them away.
    async fn namespace(&self, name: &str) -> Result<(), PortError> {
        let (known, system) = self.ask(|index| (index.namespace(name).cloned(), index.system_of(name)));
        let Some(known) = known.filter(|k| !k.terminating) else { return Ok(()) };
        let wanted = system
            .as_ref()
            .filter(|_| name != INTERLOCK_NAMESPACE)
            .map(|s| (s.resolved.name.clone(), interlock_core::admission::governed::mode_name(s.spec.mode).to_owned()));
        let found = known.system_label.clone().zip(known.mode_label.clone());
        if found == wanted && known.system_label.is_some() == known.mode_label.is_some() {
            return Ok(());
        }
        let (system, mode) = wanted.map_or((Value::Null, Value::Null), |(s, m)| (json!(s), json!(m)));
        let patch = json!({"metadata": {"uid": known.uid, "labels": {SYSTEM_LABEL: system, MODE_LABEL: mode}}});
        let id = ObjectId {
            group: String::new(),
            version: "v1".into(),
            kind: "Namespace".into(),
            namespace: None,
            name: name.to_owned(),
        };
        self.port.merge_patch(&Identity::Controller, "interlock-controller", &id, &patch).await?;
        tracing::info!(namespace = name, system = %patch["metadata"]["labels"][SYSTEM_LABEL], mode = %patch["metadata"]["labels"][MODE_LABEL], "enrolment changed");
        Ok(())
    }

    /// Whether Interlock may act as the System's executor; else what is missing.
    async fn executor(&self, system: &SystemFacts) -> Result<String, String> {
        let Some(account) = system.spec.executor.as_ref().and_then(|e| e.service_account.as_ref()) else {
            return Err("no executor.serviceAccount is named: changes can be approved, but not carried out".to_owned());
        };
        let id = ObjectId {
            group: String::new(),
            version: "v1".into(),
            kind: "ServiceAccount".into(),
            namespace: Some(account.namespace.clone()),
            name: account.name.clone(),
        };
        let user = account.user();
        match self.port.live_get(&Identity::Controller, &id).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("ServiceAccount {}/{} does not exist", account.namespace, account.name)),
            Err(error) => return Err(error.to_string()),
        }
        match self.port.live_get(&Identity::Impersonate(user.clone()), &id).await {
            Err(PortError::Forbidden(why)) if why.contains("impersonate") => Err(format!(
                "Interlock may not act as {user}: its owner grants that with `interlock install --print-executor {}/{}`",
                account.namespace, account.name
            )),
            _ => Ok(format!("changes are carried out as {user}")),
        }
    }

    async fn system_status(
        &self,
        system: &SystemFacts,
        missing: &[String],
        executor: Result<String, String>,
        kinds: Option<Named>,
    ) -> Result<(), PortError> {
        let contested: Vec<String> = self.ask(|index| {
            index
                .contested()
                .iter()
                .filter(|(_, systems)| systems.contains(&system.resolved.name))
                .map(|(namespace, systems)| {
                    format!(
                        "namespace {namespace} is claimed by {}",
                        systems.iter().cloned().collect::<Vec<_>>().join(" and ")
                    )
                })
                .collect()
        });
        let policy = self.ask(|index| index.policy(&system.spec.policy_ref.name).is_some());
        self.status::<crds::System, crds::SystemStatus>("System", &system.resolved.name, |object, status| {
            let generation = object.metadata.generation;
            status.observed_generation = generation;
            let mut set = |type_: &str, problem: Option<(&str, String)>, well: &str| {
                let (holds, reason, message) = match &problem {
                    Some((reason, message)) => (false, *reason, message.as_str()),
                    None => (true, type_, well),
                };
                set_condition(&mut status.conditions, type_, holds, reason, message, generation, self.now);
                problem.map(|(_, message)| message)
            };
            let valid = if !contested.is_empty() {
                Some(("NamespaceContested", contested.join("; ")))
            } else if !policy {
                Some(("NoPolicy", format!("ChangePolicy {} does not exist", system.spec.policy_ref.name)))
            } else {
                None
            };
            let enrolled = (!missing.is_empty())
                .then(|| ("NamespaceMissing", format!("these namespaces do not exist: {}", missing.join(", "))));
            let ready = match &executor {
                Ok(_) => None,
                Err(why) => Some(("ExecutorNotReady", why.clone())),
            };
            let mut problems = vec![
                set("Valid", valid, "the System can be governed as written"),
                set("NamespacesEnrolled", enrolled, "every namespace is enrolled"),
                set("ExecutorReady", ready, executor.as_deref().unwrap_or_default()),
            ];
            match kinds {
                Some(Named { governed, readable }) => problems.extend([
                    set(KINDS_GOVERNED, governed, "the webhooks are called for everything that it names"),
                    set(KINDS_READABLE, readable, "Interlock may read everything that it names"),
                ]),
                None => status.conditions.retain(|c| c.type_ != KINDS_GOVERNED && c.type_ != KINDS_READABLE),
            }
            let problems: Vec<_> = problems.into_iter().flatten().collect();
            status.phase = Some(if problems.is_empty() { "Ready" } else { "NotReady" }.to_owned());
            status.message =
                (!problems.is_empty()).then(|| interlock_core::change::decide::bounded(&problems.join("; "), 1024));
        })
        .await
    }

    async fn garbage(&self) -> Result<(), PortError> {
        let garbage = self.index.write().unwrap_or_else(PoisonError::into_inner).take_garbage();
        for one in garbage {
            crate::change::remove_before(self.port, &one).await?;
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<(), PortError> {
        let removed =
            crate::change::sweep_before(self.port, |uid| self.ask(|index| index.key_of_uid(uid).is_some())).await?;
        if removed > 0 {
            tracing::info!(removed, "before-states of deleted changes were removed");
        }
        Ok(())
    }

    async fn persons(&self) -> Result<(), PortError> {
        let people = self.ask(Index::people);
        for person in people.iter() {
            let conflicts = people.conflicts(&person.name);
            let problem = conflicts.first().map(|(identity, others)| {
                let others: Vec<_> = others.iter().map(ToString::to_string).collect();
                format!(
                    "identity {identity} is also claimed by {}; until that is settled nobody can vote with it",
                    others.join(", ")
                )
            });
            if self.ask(|index| index.person_valid(&person.name.0)) == Some(problem.is_none()) {
                continue;
            }
            self.status::<crds::Person, crds::PersonStatus>("Person", &person.name.0, |object, status| {
                let generation = object.metadata.generation;
                status.observed_generation = generation;
                let (reason, message) = match &problem {
                    Some(problem) => ("IdentityContested", problem.as_str()),
                    None => ("Valid", "every identity belongs to this person alone"),
                };
                set_condition(
                    &mut status.conditions,
                    "Valid",
                    problem.is_none(),
                    reason,
                    message,
                    generation,
                    self.now,
                );
            })
            .await?;
        }
        Ok(())
    }

    async fn policies(&self) -> Result<(), PortError> {
        let policies: Vec<_> = self.ask(|index| index.policies().cloned().collect());
        for policy in policies {
            let types = [crds::ChangeType::Normal, crds::ChangeType::Standard];
            let missing: Vec<_> = types
                .iter()
                .filter_map(|t| interlock_core::change::gates::calendar_name(&policy.spec, *t))
                .filter(|name| self.ask(|index| index.calendar(name).is_none()))
                .map(ToOwned::to_owned)
                .collect();
            let (reason, message) = match missing.first() {
                Some(name) => {
                    ("NoCalendar", format!("Calendar {name} does not exist: no change can pass the gate Window"))
                }
                None => ("Valid", "every reference exists".to_owned()),
            };
            let name = &policy.resolved.name;
            if self.ask(|index| index.policy_told(name) == Some(&(missing.is_empty(), message.clone()))) {
                continue;
            }
            self.status::<crds::ChangePolicy, crds::ChangePolicyStatus>("ChangePolicy", name, |object, status| {
                let generation = object.metadata.generation;
                status.observed_generation = generation;
                set_condition(
                    &mut status.conditions,
                    "Valid",
                    missing.is_empty(),
                    reason,
                    &message,
                    generation,
                    self.now,
                );
            })
            .await?;
        }
        Ok(())
    }

    async fn plans(&self) -> Result<(), PortError> {
        let plans: Vec<_> = self.ask(|index| index.rollout_plans().map(ToOwned::to_owned).collect());
        for plan in plans {
            self.plan(&plan).await?;
        }
        Ok(())
    }

    async fn plan(&self, key: &str) -> Result<(), PortError> {
        let Some(wrong) = self.ask(|index| index.untold_of_plan(key)) else { return Ok(()) };
        self.status::<crds::RolloutPlan, crds::RolloutPlanStatus>("RolloutPlan", key, |object, status| {
            let generation = object.metadata.generation;
            status.observed_generation = generation;
            let (reason, message) = match &wrong {
                Some((reason, why)) => (*reason, why.as_str()),
                None => ("Valid", "it can be carried out as written"),
            };
            set_condition(&mut status.conditions, "Valid", wrong.is_none(), reason, message, generation, self.now);
        })
        .await
    }

    async fn calendars(&self) -> Result<Option<Timestamp>, PortError> {
        use interlock_core::calendar::WindowState;
        let calendars: Vec<_> = self.ask(|index| index.calendars().cloned().collect());
        let mut wake_at: Option<Timestamp> = None;
        for calendar in calendars {
            let view = calendar.compiled.as_ref().map(|c| c.view(self.now));
            let (phase, until) = match &view {
                Err(_) => ("Invalid", None),
                Ok(view) => (
                    match view.state {
                        WindowState::Open { .. } => "Open",
                        WindowState::Frozen { .. } => "Frozen",
                        WindowState::Outside { .. } => "Outside",
                    },
                    view.valid_until,
                ),
            };
            wake_at = [wake_at, until].into_iter().flatten().min();
            self.status::<crds::Calendar, crds::CalendarStatus>(
                "Calendar",
                &calendar.resolved.name,
                |object, status| {
                    let generation = object.metadata.generation;
                    status.observed_generation = generation;
                    status.phase = Some(phase.to_owned());
                    status.next_transition = until.map(Time);
                    let (reason, message) = match &view {
                        Ok(_) => ("Valid", "every schedule and date can be understood"),
                        Err(why) => ("BadCalendar", why.as_str()),
                    };
                    set_condition(&mut status.conditions, "Valid", view.is_ok(), reason, message, generation, self.now);
                },
            )
            .await?;
        }
        Ok(wake_at)
    }

    /// Reads the object of this name, or `namespace/name`, lets `change` set its status and writes it if that made a difference.
    async fn status<T, S>(&self, kind: &str, name: &str, change: impl FnOnce(&T, &mut S)) -> Result<(), PortError>
    where
        T: DeserializeOwned,
        S: Serialize + DeserializeOwned + Default,
    {
        let (namespace, name) = name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace), name));
        let id = ObjectId {
            group: crds::GROUP.to_owned(),
            version: crds::VERSION.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(ToOwned::to_owned),
            name: name.to_owned(),
        };
        let Some(mut value) = self.port.live_get(&Identity::Controller, &id).await? else { return Ok(()) };
        let unreadable = |error: serde_json::Error| PortError::Invalid(format!("{id} cannot be read: {error}"));
        let object: T = serde_json::from_value(value.clone()).map_err(unreadable)?;
        let mut status: S = value
            .get("status")
            .cloned()
            .map(serde_json::from_value)
            .transpose()
            .map_err(unreadable)?
            .unwrap_or_default();
        change(&object, &mut status);
        let wanted = serde_json::to_value(status).map_err(unreadable)?;
        if value.get("status") == Some(&wanted) {
            return Ok(());
        }
        if let Some(map) = value.as_object_mut() {
            map.insert("status".to_owned(), wanted);
        }
        self.port.replace_status(&value).await?;
        Ok(())
    }
}

/// Conditions by type, for tests and messages.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}
