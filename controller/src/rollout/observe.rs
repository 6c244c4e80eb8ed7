//! Reading: the Rollout, its change and the objects, as they were told last.
//!
//! All of it may be behind. What follows is recorded only if the Rollout is still the one that was told, and written only to
//! objects that are; the webhook asks the server. If it turns out to be behind, [`doubt`] has the next pass read it all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use interlock_core::{
    change::{facts::Vote, gradual},
    object::ObjectId,
    people::People,
    port::{Identity, Port, PortError, live_of},
    rollout::{
        CommandFact, GateFact, LiveObjects, RefusedWrite, RolloutFacts, TargetFacts, WindowFact, known,
        live::{self, Read},
        sign_off::SignOffFacts,
    },
};
use interlock_crds::{self as crds, Rollout, RolloutPhase, RolloutStatus, RunRecord, StepGate};
use jiff::Timestamp;

use crate::change::{Context, observe_one, plan};

/// What is known of a Rollout beside the objects.
pub struct Observed {
    /// As it was told.
    pub rollout: Arc<Rollout>,
    /// resourceVersion under which it was told or recorded last.
    pub resource_version: Option<String>,
    /// The run of its change, and what it releases itself; none if the change does not run or does not make this Rollout.
    pub run: Option<(RunRecord, Option<Arc<TargetFacts>>)>,
    commands: Vec<CommandFact>,
    window: Option<WindowFact>,
    gates: BTreeMap<StepGate, GateFact>,
    return_asked: Option<String>,
    /// The write that was refused last.
    pub refused: Option<RefusedWrite>,
    superseded_by: Option<String>,
    known_good: Option<String>,
    wave_windows: BTreeMap<String, GateFact>,
    signing: Option<Signing>,
    status: RolloutStatus,
}

/// What Rollouts release, as it was worked out from the sealed plans of their changes; only of those that were looked at
/// last, as each pass needs it. A Rollout of another generation, or of another plan, is another one.
#[derive(Debug, Default)]
pub struct Released(Mutex<(u64, BTreeMap<String, Kept>)>);

#[derive(Debug)]
struct Kept {
    generation: Option<i64>,
    digest: String,
    used: u64,
    target: Arc<TargetFacts>,
}

/// So many of them are kept.
const RELEASED: usize = 64;

impl Released {
    fn get(&self, rollout: &Rollout, run: &RunRecord) -> Option<Arc<TargetFacts>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let (used, all) = &mut *kept;
        let found = all.get_mut(rollout.metadata.uid.as_deref()?)?;
        let is_it = found.generation == rollout.metadata.generation && found.digest == run.before_digest;
        is_it.then(|| {
            found.used = *used;
            Arc::clone(&found.target)
        })
    }

    fn keep(&self, rollout: &Rollout, run: &RunRecord, target: &Arc<TargetFacts>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = kept.0;
        if kept.1.len() >= RELEASED
            && let Some(oldest) = kept.1.iter().min_by_key(|(_, kept)| kept.used).map(|(uid, _)| uid.clone())
        {
            kept.1.remove(&oldest);
        }
        let (generation, digest) = (rollout.metadata.generation, run.before_digest.clone());
        let uid = rollout.metadata.uid.clone().unwrap_or_default();
        kept.1.insert(uid, Kept { generation, digest, used, target: Arc::clone(target) });
    }
}

/// What signatures are judged by.
struct Signing {
    change_uid: String,
    requester: String,
    votes: Vec<Vote>,
    people: Arc<People>,
    contributors: BTreeSet<String>,
}

impl Signing {
    fn facts(&self) -> SignOffFacts<'_> {
        SignOffFacts {
            change_uid: &self.change_uid,
            votes: &self.votes,
            people: &self.people,
            requester: &self.requester,
            contributors: &self.contributors,
        }
    }
}

impl Observed {
    /// What was recorded last.
    pub const fn status(&self) -> &RolloutStatus {
        &self.status
    }

    /// What was just recorded, and the version under which.
    pub fn recorded(&mut self, status: RolloutStatus, version: Option<String>) {
        self.status = status;
        self.resource_version = version.or(self.resource_version.take());
    }

    /// Whether versions are compared: see [`Self::look_back`].
    fn looks_at_templates(&self) -> bool {
        self.status.phase == RolloutPhase::Pending && self.rollout.spec.plan.fast_track.is_some()
    }

    /// Before it begins: whether what is wanted needs no new proof.
    pub fn look_back<P: Port>(&mut self, context: &Context<P>, objects: &LiveObjects, now: Timestamp) {
        let spec = &self.rollout.spec;
        let target = self.run.as_ref().and_then(|(_, target)| target.as_deref());
        self.known_good = target.filter(|_| self.status.phase == RolloutPhase::Pending).and_then(|target| {
            spec.plan.fast_track?;
            let earlier = context.ask(|index| index.rollouts_of(&spec.targets));
            known::known_good(spec, target, objects, &earlier, now)
        });
    }

    /// The facts in the form in which the core takes them.
    pub fn facts<'a>(&'a self, live: &'a LiveObjects) -> RolloutFacts<'a> {
        let meta = &self.rollout.metadata;
        RolloutFacts {
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
            uid: meta.uid.as_deref().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            spec: &self.rollout.spec,
            status: &self.status,
            change_active: self.run.is_some(),
            target: self.run.as_ref().and_then(|(_, target)| target.as_deref()),
            live,
            analyses: &[],
            commands: &self.commands,
            sign_offs: self.signing.as_ref().map(Signing::facts),
            gates: &self.gates,
            window: self.window.as_ref(),
            wave_windows: &self.wave_windows,
            superseded_by: self.superseded_by.as_deref(),
            known_good: self.known_good.as_deref(),
            return_asked: self.return_asked.as_deref(),
            refused: self.refused.as_ref(),
        }
    }
}

/// The Rollout `key` and what is known of its change.
pub async fn rollout<P: Port>(
    context: &Context<P>,
    key: &str,
    told: Arc<Rollout>,
    now: Timestamp,
) -> Result<Option<Observed>, PortError> {
    let Some((namespace, name)) = key.split_once('/') else { return Ok(None) };
    let rollout = if context.doubted.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
        match own::<_, Rollout>(context, "Rollout", namespace, name).await {
            Ok(None) => return Ok(None),
            Ok(Some(read)) => Arc::new(read),
            Err(error) => {
                context.doubted.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
                return Err(error);
            }
        }
    } else {
        told
    };
    let status = rollout.status.clone().unwrap_or_default();
    let mut observed = Observed {
        resource_version: rollout.metadata.resource_version.clone(),
        run: None,
        commands: Vec::new(),
        window: None,
        gates: BTreeMap::new(),
        return_asked: None,
        refused: context.refused.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned(),
        superseded_by: None,
        known_good: None,
        wave_windows: BTreeMap::new(),
        signing: None,
        status,
        rollout,
    };
    let of = &observed.rollout.spec.change_request;
    let live = context.ask(|index| index.live(&format!("{namespace}/{}", of.name)));
    let Some(live) = live.filter(|live| live.request.uid == of.uid) else { return Ok(Some(observed)) };
    let change = observe_one(context, &live, now);
    let Some(run) = change.request.run().filter(|_| change.request.is_running()).cloned() else {
        return Ok(Some(observed));
    };
    let part_of = observed.rollout.spec.part_of.as_ref();
    let parent = part_of.and_then(|of| context.ask(|index| index.rollout(&format!("{namespace}/{}", of.name))));
    let parent = parent.as_deref();
    let mut target = context.released.get(&observed.rollout, &run);
    if target.is_none() {
        let before = plan(context, &change.request.uid, &run).await?;
        if !gradual::belongs(&observed.rollout, parent, &before) {
            return Ok(Some(observed));
        }
        target = gradual::target(&observed.rollout, &before).map(Arc::new);
        if let Some(target) = target.as_ref().filter(|_| part_of.is_none()) {
            context.released.keep(&observed.rollout, &run, target);
        }
    }
    let wave = parent.and_then(|parent| gradual::wave_of(&observed.rollout, parent));
    let calendar = |name: &str| context.ask(|index| index.calendar_named(name, now));
    let uid = observed.rollout.metadata.uid.clone().unwrap_or_default();
    let given = context.ask(|index| index.commands(&uid));
    let facts = change.facts(context);
    observed.commands = gradual::commands(&facts, &observed.rollout, &given, now);
    observed.signing = Some(Signing {
        change_uid: facts.request.uid.clone(),
        requester: facts.request.spec.requester.clone(),
        votes: facts.votes.to_vec(),
        people: Arc::clone(&change.people),
        contributors: gradual::contributors(&facts),
    });
    observed.window = match wave.and_then(|wave| wave.calendar_ref.as_ref()) {
        Some(own) => gradual::window(&calendar(&own.name)),
        None => gradual::window(&change.calendar),
    };
    for named in observed.rollout.spec.plan.waves.iter().flatten().filter_map(|wave| wave.calendar_ref.as_ref()) {
        let window = gradual::window(&calendar(&named.name));
        observed.wave_windows.insert(named.name.clone(), gradual::window_gate(window.as_ref()));
    }
    observed.gates = gradual::step_gates(&facts, observed.window.as_ref(), now);
    observed.return_asked = match parent {
        Some(parent) => gradual::wave_returns(&observed.rollout, parent),
        None => gradual::return_asked(&run),
    };
    // One that is at rest looks at its waves no more, so that nobody would wait for what begins again in them.
    let is_over = |parent: &Rollout| parent.status.as_ref().is_some_and(|status| status.phase.is_at_rest());
    if observed.status.phase.is_at_rest() && parent.is_some_and(is_over) {
        observed.commands.clear();
    }
    // A wave's Rollouts hear of it from the one that made them.
    if parent.is_none() {
        let workloads = observed.rollout.spec.targets.iter().map(live::workload_id);
        observed.superseded_by = context.ask(|index| index.newer(workloads, &change.request));
    }
    observed.run = Some((run, target));
    Ok(Some(observed))
}

/// The objects that a decision looks at. From now on each change of them wakes the Rollout.
pub async fn live<P: Port>(context: &Context<P>, waiter: &str, observed: &Observed) -> Result<LiveObjects, PortError> {
    let mut objects = LiveObjects::default();
    let Some((_, target)) = &observed.run else { return Ok(objects) };
    let uid = observed.rollout.metadata.uid.as_deref().unwrap_or_default();
    let facts = observed.facts(&objects);
    let mut reads = match target {
        Some(target) => live::reads(&observed.rollout.spec, target, uid),
        None => live::reads_of_waves(&facts),
    };
    reads.extend(live::jobs(&facts).into_iter().map(Read::One));
    let awaited = |read: &Read| match read {
        Read::One(id) | Read::Of(id, _) => Some(id.clone()),
        Read::All(..) | Read::Labelled(..) => None,
    };
    let mut watched: Vec<_> = reads.iter().filter_map(awaited).collect();
    // Disruption budgets may allow more at any moment; nobody knows their names before.
    for read in &reads {
        if let Read::All(group, version, kind @ "PodDisruptionBudget", namespace) = read {
            let found = context.port.live_list(group, version, kind, Some(namespace)).await?;
            watched.extend(found.iter().filter_map(|budget| ObjectId::of(budget).ok()));
        }
    }
    // Before the first read: what changes in between wakes it then.
    context.port.watch(waiter, &watched);
    for read in &reads {
        let found = match read {
            Read::One(id) => context.port.told(id, None).await,
            // A version is recognised by its template, which is not told.
            Read::Of(id, labels) if id.kind == "ReplicaSet" && observed.looks_at_templates() => {
                live_of(&context.port, id, labels.as_deref()).await
            }
            Read::Of(id, labels) => context.port.told(id, labels.as_deref()).await,
            Read::All(group, version, kind, namespace) => {
                context.port.live_list(group, version, kind, Some(namespace)).await
            }
            Read::Labelled(group, version, kind, namespace, labels) => {
                context.port.live_list_labelled(group, version, kind, Some(namespace), labels).await
            }
        };
        match found {
            Ok(found) => found.into_iter().for_each(|object| objects.insert(object)),
            // Of a kind that the cluster does not know there is no object.
            Err(PortError::UnknownKind { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    objects.count_endpoints();
    Ok(objects)
}

/// What was told turned out to be behind: the next pass reads it from the server.
pub fn doubt<P: Port>(context: &Context<P>, key: &str, waiter: &str) {
    context.doubted.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    context.port.doubt(waiter, None);
}

/// Whether the Rollout still stands as it was told or recorded last.
pub async fn stands<P: Port>(context: &Context<P>, observed: &Observed) -> Result<bool, PortError> {
    let meta = &observed.rollout.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let read: Option<Rollout> = own(context, "Rollout", namespace, name).await?;
    Ok(read.is_some_and(|read| {
        read.metadata.uid == meta.uid && read.metadata.resource_version == observed.resource_version
    }))
}

async fn own<P: Port, T: serde::de::DeserializeOwned>(
    context: &Context<P>,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<T>, PortError> {
    let id = ObjectId {
        group: crds::GROUP.to_owned(),
        version: crds::VERSION.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    let found = context.port.live_get(&Identity::Controller, &id).await?;
    let parsed = found.map(serde_json::from_value).transpose();
    parsed.map_err(|error| PortError::Invalid(format!("{id} cannot be read: {error}")))
}
