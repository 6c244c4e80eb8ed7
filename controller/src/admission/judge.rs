//! Gathering what the core needs to judge a write.
//!
//! A denial may come from the index. Before a governed write is let through, the change that permits it is read live, and
//! its sealed plan with it; a vote is judged by the request as it stands now, because the index may lag behind what the
//! voter just read.

use std::sync::Arc;

use interlock_core::{
    admission::{
        Denial, MutateAnswer, Operation, Verdict, WriteRequest,
        governed::{self, ActiveRun, GovernedFacts, WaitingChange},
        namespace::{self, NamespaceFacts},
        own::{self, OwnFacts},
    },
    change::{FIELD_MANAGER, ROOT_SYSTEM, before::BeforeState, derive, facts::SystemFacts, gradual},
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError},
    rollout::LiveObjects,
};
use interlock_crds as crds;
use serde_json::Value;

use super::server::{Entry, Judge};
use crate::{
    backup,
    change::{self, Context, Observed, observe_one},
    drill,
};

/// The webhook.
pub struct Webhook<P> {
    context: Arc<Context<P>>,
    controller: String,
}

impl<P> std::fmt::Debug for Webhook<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("controller", &self.controller).finish_non_exhaustive()
    }
}

impl<P: Port + 'static> Judge for Webhook<P> {
    async fn mutate(&self, request: &WriteRequest) -> MutateAnswer {
        own::record(&self.context.keys.seal, request, self.context.port.now())
    }

    async fn validate(&self, entry: Entry, request: &WriteRequest) -> Verdict {
        let judged = match entry {
            Entry::Own => self.own(request).await,
            Entry::Governed | Entry::Cluster => self.governed(request).await,
            Entry::Namespace => self.namespace(request).await,
        };
        let verdict = judged.unwrap_or_else(|error| {
            Verdict::Deny(Denial {
                code: 503,
                reason: "Unknown".to_owned(),
                message: format!("Interlock could not find out whether this may be written ({error}); try again"),
            })
        });
        log(request, &verdict);
        verdict
    }
}

fn log(request: &WriteRequest, verdict: &Verdict) {
    let target = request.target();
    let user = &request.user.name;
    match verdict {
        Verdict::Deny(denial) => {
            tracing::info!(object = target, user, operation = %request.operation, reason = denial.reason, message = denial.message, "denied");
        }
        Verdict::Allow { audit: Some(denial), .. } => {
            tracing::info!(object = target, user, operation = %request.operation, reason = denial.reason, dry_run = request.dry_run, "allowed, Enforce would deny");
        }
        Verdict::Allow { .. } => tracing::debug!(object = target, user, operation = %request.operation, "allowed"),
    }
}

impl<P: Port> Webhook<P> {
    /// A webhook that knows the controller by its user name.
    pub fn new(context: Arc<Context<P>>, controller: String) -> Self {
        Self { context, controller }
    }

    async fn own(&self, request: &WriteRequest) -> Result<Verdict, PortError> {
        let rollout = self.rollout_of(request).await?;
        let change = self.change_of(request, rollout.as_ref()).await?;
        let releases = self.releases(request, change.as_ref()).await?;
        let change = change.as_ref().map(|observed| observed.facts(&self.context));
        let root_system = self.context.ask(|index| index.system(ROOT_SYSTEM));
        let root_runs = match &root_system {
            Some(root) if governed::is_governing(&request.group, &request.kind) => self.runs(root, request).await?,
            _ => Vec::new(),
        };
        let waiting = self.waiting(request);
        let root = root_system.as_ref().map(|system| GovernedFacts {
            system: ROOT_SYSTEM,
            spec: &system.spec,
            runs: &root_runs,
            waiting: &waiting,
        });
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let (people, claims, system, terminating) = self.context.ask(|index| {
            let terminating = index.namespace(namespace).is_some_and(|n| n.terminating);
            (index.people(), index.claims().clone(), index.system_of(namespace), terminating)
        });
        let needed_by = match (request.kind.as_str(), request.operation) {
            ("Backup", Operation::Delete) => {
                let key = format!("{namespace}/{}", request.name.as_deref().unwrap_or_default());
                self.context.ask(|index| index.needing(&key))
            }
            _ => Vec::new(),
        };
        let verdict = own::judge(
            &OwnFacts {
                controller: &self.controller,
                change: change.as_ref(),
                rollout: rollout.as_ref(),
                releases: &releases,
                terminating,
                needed_by: &needed_by,
                root: root.as_ref(),
                people: &people,
                claims: &claims,
                system: system.as_ref().map(|s| (s.resolved.name.as_str(), &s.spec)),
                now: self.context.port.now(),
            },
            request,
        );
        match verdict {
            // What runs code on data is changed like everything else of the System.
            Verdict::Allow { warnings, audit: None } if governed::is_own_and_governed(request) => {
                Ok(self.governed(request).await?.with_warnings(warnings))
            }
            verdict => Ok(verdict),
        }
    }

    /// The change that the object is, or that a vote or command names, with everything known about it.
    async fn change_of(
        &self,
        request: &WriteRequest,
        rollout: Option<&crds::Rollout>,
    ) -> Result<Option<Observed>, PortError> {
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let object = request.object.as_ref().or(request.old.as_ref());
        let text =
            |pointer: &str| object.and_then(|o| o.pointer(pointer)).and_then(Value::as_str).map(ToOwned::to_owned);
        let stored = match (request.kind.as_str(), request.operation) {
            ("ChangeRequest", Operation::Update | Operation::Delete) => request.old.clone(),
            ("Approval", Operation::Create | Operation::Delete) => {
                self.live_change(namespace, text("/spec/changeRequest")).await?
            }
            ("Action", Operation::Create) if rollout.is_none() => {
                self.live_change(namespace, text("/spec/target/name")).await?
            }
            ("Action", Operation::Create) | ("Rollout", Operation::Delete) => {
                let of = rollout.map(|rollout| &rollout.spec.change_request);
                let found = self.live_change(namespace, of.map(|of| of.name.clone())).await?;
                found.filter(|found| {
                    found.pointer("/metadata/uid").and_then(Value::as_str) == of.map(|of| of.uid.as_str())
                })
            }
            _ => None,
        };
        let Some(stored) = stored else { return Ok(None) };
        let Ok(object) = serde_json::from_value::<crds::ChangeRequest>(stored) else { return Ok(None) };
        let Some(now) = self.context.port.now() else {
            return Err(PortError::Unavailable("the API server's time is not known".to_owned()));
        };
        let live = self.context.ask(|index| index.read(&object));
        Ok(Some(observe_one(&self.context, &Arc::new(live), now)))
    }

    /// The Rollout that is deleted, or that a command names.
    async fn rollout_of(&self, request: &WriteRequest) -> Result<Option<crds::Rollout>, PortError> {
        let object = request.object.as_ref().or(request.old.as_ref());
        let text = |pointer: &str| object.and_then(|o| o.pointer(pointer)).and_then(Value::as_str);
        let found = match (request.kind.as_str(), request.operation) {
            ("Rollout", Operation::Delete) => request.old.clone(),
            ("Action", Operation::Create) if text("/spec/target/kind") == Some("Rollout") => {
                let namespace = request.namespace.as_deref().unwrap_or_default();
                self.live_own("Rollout", namespace, text("/spec/target/name").unwrap_or_default()).await?
            }
            _ => None,
        };
        Ok(found.and_then(|found| serde_json::from_value(found).ok()))
    }

    /// The Rollouts of the running change that a vote names.
    async fn releases(
        &self,
        request: &WriteRequest,
        change: Option<&Observed>,
    ) -> Result<Vec<crds::Rollout>, PortError> {
        let is_vote = request.kind == "Approval" && request.operation == Operation::Create;
        let Some(change) = change.filter(|change| is_vote && change.request.is_running()) else {
            return Ok(Vec::new());
        };
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let found = self.context.port.live_list(crds::GROUP, crds::VERSION, "Rollout", Some(namespace)).await?;
        let mut releases: Vec<crds::Rollout> =
            found.into_iter().filter_map(|rollout| serde_json::from_value(rollout).ok()).collect();
        releases.retain(|rollout| rollout.spec.change_request.uid == change.request.uid);
        Ok(releases)
    }

    async fn live_change(&self, namespace: &str, name: Option<String>) -> Result<Option<Value>, PortError> {
        let Some(name) = name else { return Ok(None) };
        self.live_own("ChangeRequest", namespace, &name).await
    }

    async fn live_own(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, PortError> {
        let id = ObjectId {
            group: crds::GROUP.to_owned(),
            version: crds::VERSION.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        };
        self.context.port.live_get(&Identity::Controller, &id).await
    }

    async fn governed(&self, request: &WriteRequest) -> Result<Verdict, PortError> {
        let Some(system) = self.system_of(request) else {
            let enforced = self.context.ask(|index| {
                let namespace = request.namespace.as_deref().and_then(|n| index.namespace(n));
                namespace.is_some_and(|n| n.mode_label.as_deref() == Some("enforce"))
            });
            return Ok(if enforced {
                Verdict::Deny(Denial {
                    code: 403,
                    reason: "UnknownSystem".to_owned(),
                    message: format!(
                        "namespace {} is enrolled, but Interlock knows no System that lists it; try again, and if it stays so ask for the System or the label to be put right",
                        request.namespace.as_deref().unwrap_or_default()
                    ),
                })
            } else {
                Verdict::allow()
            });
        };
        if governed::passes_anyway(&system.spec, request) {
            return Ok(Verdict::allow());
        }
        let waiting = self.waiting(request);
        let judge = |runs: &[ActiveRun]| {
            let facts = GovernedFacts { system: &system.resolved.name, spec: &system.spec, runs, waiting: &waiting };
            governed::judge(&facts, request)
        };
        // Of many releases at once, the one that is known to have to do with the object is asked first.
        if asks_as_executor(&system, request) {
            let executor = request.user.name.as_str();
            if backup::permit::permits(&self.context, executor, request).await?
                || drill::permit::permits(&self.context, executor, request).await?
            {
                return Ok(Verdict::allow());
            }
            for rollout in self.context.ask(|index| index.releases_touching(request)) {
                let Some(release) = self.live_release(&rollout, request).await? else { continue };
                let verdict = judge(&[release]);
                if matches!(&verdict, Verdict::Allow { audit: None, .. }) {
                    return Ok(verdict);
                }
            }
        }
        Ok(judge(&self.runs(&system, request).await?))
    }

    fn system_of(&self, request: &WriteRequest) -> Option<Arc<SystemFacts>> {
        self.context.ask(|index| match &request.namespace {
            Some(namespace) => index.system_of(namespace),
            None => index
                .systems()
                .find(|s| {
                    let name = request.name.as_deref().unwrap_or_default();
                    s.spec
                        .cluster_objects
                        .iter()
                        .any(|c| c.group == request.group && c.kind == request.kind && c.name == name)
                })
                .cloned(),
        })
    }

    /// Changes of the System that run: read live if its executor asks, because then they may let the write pass.
    async fn runs(&self, system: &SystemFacts, request: &WriteRequest) -> Result<Vec<ActiveRun>, PortError> {
        let object = object_id(request).key();
        let mut keys = self.context.ask(|index| index.running_in(system));
        if !asks_as_executor(system, request) {
            return Ok(keys
                .into_iter()
                .filter_map(|key| self.context.ask(|index| index.live(&key)))
                .filter_map(|live| {
                    let key = format!("{}/{}", live.request.namespace, live.request.name);
                    live.request.run().cloned().map(|run| ActiveRun {
                        key,
                        run,
                        before: Arc::new(empty()),
                        rollout: None,
                        live: LiveObjects::default(),
                    })
                })
                .collect());
        }
        // Whatever contains the object comes first: it may have started without the watch having told yet. The others that
        // run matter only if none of those does: contingency Jobs are no object of their change's content.
        let with_object = self.context.ask(|index| index.changes_with(&object));
        let first: Vec<_> =
            with_object.iter().map(|live| format!("{}/{}", live.request.namespace, live.request.name)).collect();
        let runs = self.live_runs(&first, request).await?;
        if !runs.is_empty() {
            return Ok(runs);
        }
        keys.retain(|key| !first.contains(key));
        self.live_runs(&keys, request).await
    }

    async fn live_runs(&self, keys: &[String], request: &WriteRequest) -> Result<Vec<ActiveRun>, PortError> {
        let mut runs = Vec::new();
        for key in keys {
            runs.extend(self.live_run(key, request).await?);
        }
        Ok(runs)
    }

    /// A release that is under way, of a change that is known to run: its Rollout, read live, announces each of its writes. What
    /// the change itself announced is not known here, so that only the Rollout can permit the write.
    async fn live_release(&self, told: &crds::Rollout, request: &WriteRequest) -> Result<Option<ActiveRun>, PortError> {
        let namespace = told.metadata.namespace.as_deref().unwrap_or_default();
        let of = &told.spec.change_request;
        let key = format!("{namespace}/{}", of.name);
        let change = self.context.ask(|index| index.live(&key));
        let Some(change) = change.filter(|change| change.running && change.request.uid == of.uid) else {
            return Ok(None);
        };
        let Some(run) = change.request.run() else { return Ok(None) };
        if told.spec.part_of.is_some() || told.spec.plan.waves.is_some() {
            return self.live_run(&key, request).await;
        }
        let name = told.metadata.name.as_deref().unwrap_or_default();
        let Some(found) = self.live_own("Rollout", namespace, name).await? else { return Ok(None) };
        let Ok(rollout) = serde_json::from_value::<crds::Rollout>(found) else { return Ok(None) };
        let before = change::plan(&self.context, &change.request.uid, run).await?;
        let is_at_rest = rollout.status.as_ref().is_none_or(|status| status.phase.is_at_rest());
        if is_at_rest || !gradual::belongs(&rollout, None, &before) {
            return Ok(None);
        }
        let live = self.bases(&rollout, &before, run, request).await?;
        let run = crds::RunRecord { objects: Vec::new(), ..run.clone() };
        Ok(Some(ActiveRun { key, run, before, rollout: Some(rollout), live }))
    }

    async fn live_run(&self, key: &str, request: &WriteRequest) -> Result<Option<ActiveRun>, PortError> {
        let Some((namespace, name)) = key.split_once('/') else { return Ok(None) };
        let Some(value) = self.live_change(namespace, Some(name.to_owned())).await? else { return Ok(None) };
        let Ok(object) = serde_json::from_value::<crds::ChangeRequest>(value) else { return Ok(None) };
        let change = self.context.ask(|index| index.read(&object)).request;
        let Some(run) = change.run().filter(|_| change.is_running()).cloned() else { return Ok(None) };
        let before = change::plan(&self.context, &change.uid, &run).await?;
        let planned = before.entries.iter().find(|entry| entry.is_rollout());
        let rollout = match planned {
            Some(entry) => self.live_own("Rollout", namespace, &entry.id.name).await?,
            None => None,
        };
        let rollout = rollout.and_then(|rollout| serde_json::from_value::<crds::Rollout>(rollout).ok());
        let rollout = rollout.filter(|rollout| gradual::belongs(rollout, None, &before));
        let rollout = match rollout {
            Some(parent) if parent.spec.plan.waves.is_some() => {
                self.of_wave(&parent, &before, namespace, request).await?.or(Some(parent))
            }
            rollout => rollout,
        };
        let live = match &rollout {
            Some(rollout) => self.bases(rollout, &before, &run, request).await?,
            None => LiveObjects::default(),
        };
        Ok(Some(ActiveRun { key: key.to_owned(), run, before, rollout, live }))
    }

    /// The Rollout of a wave that announced a write.
    async fn of_wave(
        &self,
        parent: &crds::Rollout,
        before: &BeforeState,
        namespace: &str,
        request: &WriteRequest,
    ) -> Result<Option<crds::Rollout>, PortError> {
        let found = self.context.port.live_list(crds::GROUP, crds::VERSION, "Rollout", Some(namespace)).await?;
        let announces = |rollout: &crds::Rollout| {
            let journal = rollout.status.iter().flat_map(|status| &status.journal);
            journal.into_iter().any(|entry| {
                entry.kind == request.kind
                    && Some(&entry.name) == request.name.as_ref()
                    && entry.namespace == request.namespace.as_deref().unwrap_or_default()
            })
        };
        let mut of_waves =
            found.into_iter().filter_map(|rollout| serde_json::from_value::<crds::Rollout>(rollout).ok());
        Ok(of_waves.find(|rollout| announces(rollout) && gradual::belongs(rollout, Some(parent), before)))
    }

    /// What a write of a Rollout is computed from: the Service whose traffic it leads; and what the server makes of an
    /// announced object whose defaults only the server knows.
    async fn bases(
        &self,
        rollout: &crds::Rollout,
        before: &BeforeState,
        run: &crds::RunRecord,
        request: &WriteRequest,
    ) -> Result<LiveObjects, PortError> {
        let (port, mut live) = (&self.context.port, LiveObjects::default());
        if !matches!(request.kind.as_str(), "Service" | "Job") {
            return Ok(live);
        }
        if let Some(needed) = gradual::needs(rollout).filter(|needed| needed.kind == request.kind)
            && let Some(found) = port.live_get(&Identity::Controller, &needed).await?
        {
            live.insert(found);
        }
        let stated = request.object.as_ref().filter(|_| request.operation == Operation::Create);
        let name = stated.and_then(|object| object.pointer("/metadata/name")?.as_str());
        let announced = name.and_then(|name| gradual::announced(rollout, before, &live, &request.kind, name));
        if let Some(announced) = announced {
            let executor = Identity::Impersonate(run.executor.clone());
            live.insert(port.create(&executor, FIELD_MANAGER, &announced, DryRun::Yes).await?);
        }
        Ok(live)
    }

    fn waiting(&self, request: &WriteRequest) -> Vec<WaitingChange> {
        let object = object_id(request).key();
        self.context
            .ask(|index| index.changes_with(&object))
            .iter()
            .filter(|live| !live.running)
            .map(|live| WaitingChange {
                key: format!("{}/{}", live.request.namespace, live.request.name),
                phase: live.request.status.phase,
                waiting_for: live.request.status.waiting_for.clone(),
            })
            .collect()
    }

    async fn namespace(&self, request: &WriteRequest) -> Result<Verdict, PortError> {
        let name = request.name.clone().or_else(|| request.namespace.clone()).unwrap_or_default();
        let system = self.context.ask(|index| index.system_of(&name));
        let permitted = match &system {
            Some(system) if request.operation == Operation::Delete => {
                let mut plain = request.clone();
                plain.namespace = None;
                plain.name = Some(name.clone());
                self.runs(system, &plain)
                    .await?
                    .iter()
                    .any(|run| derive::permits(&run.run, &run.before, &plain).is_ok())
            }
            _ => false,
        };
        let facts = NamespaceFacts {
            controller: &self.controller,
            system: system.as_ref().map(|s| (s.resolved.name.as_str(), s.spec.mode)),
            permitted,
        };
        let mut named = request.clone();
        named.name = Some(name);
        Ok(namespace::judge(&facts, &named))
    }
}

fn empty() -> BeforeState {
    BeforeState {
        format: 1,
        change_uid: String::new(),
        change_digest: String::new(),
        entries: Vec::new(),
        rollout_plan: None,
    }
}

fn object_id(request: &WriteRequest) -> ObjectId {
    ObjectId {
        group: request.group.clone(),
        version: request.version.clone(),
        kind: request.kind.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone().unwrap_or_default(),
    }
}

/// Whether the System's executor writes in earnest. A dry run stores nothing: the worst that what is known, and not read
/// live, may lead to is a warning too many.
fn asks_as_executor(system: &SystemFacts, request: &WriteRequest) -> bool {
    let executor = system.spec.executor.as_ref().and_then(|e| e.service_account.as_ref());
    !request.dry_run && executor.is_some_and(|account| account.user() == request.user.name)
}
