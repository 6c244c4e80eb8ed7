//! Keeping the webhook configuration in step with what Systems name, and telling each System whether it is.

use std::{collections::BTreeMap, sync::Arc};

use interlock_core::{
    admission::webhooks::{self, Governed, Kinds, answered, flaws, in_step, named, refreshed, remembered},
    change::facts::SystemFacts,
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError},
};
use interlock_crds::{GroupKind, SystemSpec};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Ask, LOOK_AGAIN};
use crate::index::Index;

/// Condition of a System: the webhooks are called for what it names.
pub(super) const KINDS_GOVERNED: &str = "KindsGoverned";
/// Condition of a System: Interlock may read what it names.
pub(super) const KINDS_READABLE: &str = "KindsReadable";

const MANAGER: &str = "interlock-controller";

/// What is wrong with what a System names, as reason and message.
pub(super) struct Named {
    /// Why something of it is not governed.
    pub governed: Option<(&'static str, String)>,
    /// Why a change of it could not be judged.
    pub readable: Option<(&'static str, String)>,
}

impl Named {
    /// Whether nothing is wrong.
    pub(super) const fn is_well(&self) -> bool {
        self.governed.is_none() && self.readable.is_none()
    }
}

impl<P: Port> Ask<'_, P> {
    /// Writes what Systems name into the webhook configuration, if it is not there. Without a configuration there is
    /// nothing to keep in step: who took it away gets rid of Interlock by it.
    pub(super) async fn webhooks(&self) -> Result<Option<Timestamp>, PortError> {
        let Some(live) = self.configuration().await? else { return Ok(None) };
        let systems = self.systems();
        let mut answers = BTreeMap::new();
        for kind in systems.iter().flat_map(|system| named(&system.spec)) {
            if answers.contains_key(&kind) {
                continue;
            }
            let served = match self.port.served(&kind.group, &kind.kind).await {
                Ok(served) => served,
                Err(error) => {
                    tracing::warn!(group = kind.group, kind = kind.kind, %error, "the kind could not be looked up");
                    None
                }
            };
            answers.insert(kind, served);
        }
        let complete = answers.values().all(Option::is_some);
        let kinds = answered(answers, &remembered(&live));
        let governed = wanted(&live, &systems, &kinds);
        if let Some(wanted) = refreshed(&live, &governed, &kinds) {
            self.port.replace(&Identity::Controller, MANAGER, &wanted, DryRun::No).await?;
            let resources: Vec<_> = governed.beside_default().iter().map(ToString::to_string).collect();
            tracing::info!(
                beside_default = resources.join(","),
                cluster_objects = governed.cluster_objects.len(),
                "the webhooks are called for what Systems name"
            );
        }
        Ok(if complete { None } else { self.now.checked_add(LOOK_AGAIN).ok() })
    }

    /// Whether what `system` names beside the default is governed and can be read; none if it names nothing.
    pub(super) async fn named_kinds(&self, system: &SystemFacts) -> Result<Option<Named>, PortError> {
        let spec = &system.spec;
        if spec.cluster_objects.is_empty() && spec.governs.as_ref().is_none_or(|g| g.add.is_empty()) {
            return Ok(None);
        }
        let (mut kinds, mut silent) = (Kinds::new(), Vec::new());
        for kind in named(spec) {
            match self.port.served(&kind.group, &kind.kind).await {
                Ok(Some(served)) => drop(kinds.insert(kind, served)),
                Ok(None) => {}
                Err(error) => silent.push(("KindUnknown", format!("{} could not be looked up: {error}", kind.kind))),
            }
        }
        let mut wrong = silent;
        if wrong.is_empty() {
            wrong.extend(flaws(spec, &kinds).iter().map(|flaw| (flaw.reason(), flaw.message().to_owned())));
        }
        if wrong.is_empty() && !self.is_registered(&kinds).await? {
            wrong.push(("NotRegistered", "the webhooks are not called for all of it yet".to_owned()));
        }
        let readable = self.unreadable(spec, &kinds).await?;
        let governed = wrong.first().map(|(reason, _)| *reason).map(|reason| {
            let messages: Vec<_> = wrong.into_iter().map(|(_, message)| message).collect();
            (reason, messages.join("; "))
        });
        let readable = (!readable.is_empty()).then(|| {
            let why = format!(
                "Interlock may not read {}, so that no change can hold it: `interlock install --apply` grants that for \
                 what Systems name, or bind a ClusterRole with get, list and watch to ServiceAccount \
                 interlock-system/interlock-controller",
                readable.join(", ")
            );
            ("NoRight", why)
        });
        Ok(Some(Named { governed, readable }))
    }

    /// Whether the live configuration says what Systems name, and knows `kinds`.
    async fn is_registered(&self, kinds: &Kinds) -> Result<bool, PortError> {
        let Some(live) = self.configuration().await? else { return Ok(false) };
        let kept = remembered(&live);
        let knows = kinds.iter().all(|(kind, served)| kept.get(kind) == Some(served));
        Ok(knows && in_step(&live, &wanted(&live, &self.systems(), &kept), &kept))
    }

    /// What the controller itself may not read of what `spec` names.
    async fn unreadable(&self, spec: &SystemSpec, kinds: &Kinds) -> Result<Vec<String>, PortError> {
        let objects = spec.cluster_objects.iter().map(|object| (&object.group, &object.kind, object.name.as_str()));
        let added = spec.governs.iter().flat_map(|g| &g.add).map(|kind| (&kind.group, &kind.kind, ""));
        let mut unreadable = Vec::new();
        for (group, kind, name) in added.chain(objects) {
            let kind = GroupKind { group: group.clone(), kind: kind.clone() };
            let Some(served) = kinds.get(&kind) else { continue };
            let asked = json!({"group": group, "resource": served.plural, "name": name, "verb": "get"});
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            });
            let answer = self.port.create(&Identity::Controller, MANAGER, &review, DryRun::No).await?;
            if answer["status"]["allowed"] != true {
                let space = if name.is_empty() { "" } else { " " };
                unreadable.push(format!("{group}/{}{space}{name}", served.plural));
            }
        }
        Ok(unreadable)
    }

    async fn configuration(&self) -> Result<Option<Value>, PortError> {
        let id = ObjectId {
            group: "admissionregistration.k8s.io".to_owned(),
            version: "v1".to_owned(),
            kind: "ValidatingWebhookConfiguration".to_owned(),
            namespace: None,
            name: webhooks::NAME.to_owned(),
        };
        match self.port.live_get(&Identity::Controller, &id).await {
            // A simulated cluster may know no webhooks.
            Err(PortError::UnknownKind { .. }) => Ok(None),
            found => found,
        }
    }

    fn systems(&self) -> Vec<Arc<SystemFacts>> {
        self.ask(|index: &Index| index.systems().cloned().collect())
    }
}

fn wanted(live: &Value, systems: &[Arc<SystemFacts>], kinds: &Kinds) -> Governed {
    Governed::of(webhooks::everywhere(live), systems.iter().map(|system| &system.spec), kinds)
}
