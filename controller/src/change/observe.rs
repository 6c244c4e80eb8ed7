//! Reading: what is known from the index, and live reads where a decision must not rest on a cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::{
    change::{
        ChangeFacts, Content, Problem,
        before::effect,
        content::ContentObject,
        digest::{BaseValues, ResolvedPlan, base_digest, base_key, base_of},
        facts::{
            BaseFacts, BaseState, CalendarFacts, Command, DependencyFacts, EvidenceFacts, LaterFacts, PlanFacts,
            PolicyFacts, Preflight, RequestFacts, RunningChange, SystemFacts, Vote,
        },
        gates, sealed,
    },
    drill::proof::Proof,
    object::{Digest, ObjectId, apply_partial, canonical_json},
    people::{People, PersonFacts},
    port::{Identity, Port, PortError},
};
use interlock_crds as crds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Context;
use crate::index::{ChangeEntry, Index, LiveChange, dependency_key, key_of};

/// Facts about one change, owned.
#[derive(Debug)]
pub struct Observed {
    /// The request.
    pub request: RequestFacts,
    /// resourceVersion under which it was read or last written.
    pub resource_version: String,
    /// Its content.
    pub content: Arc<Result<Content, Vec<Problem>>>,
    /// Its System.
    pub system: Option<Arc<SystemFacts>>,
    /// The policy of the System.
    pub policy: Option<Arc<PolicyFacts>>,
    /// The calendar of the policy.
    pub calendar: CalendarFacts,
    /// The RolloutPlan of the request, or of its System.
    pub plan: PlanFacts,
    /// Who is who.
    pub people: Arc<People>,
    /// Votes.
    pub votes: Vec<Vote>,
    /// Evidence.
    pub evidence: Vec<EvidenceFacts>,
    /// Commands.
    pub commands: Vec<Command>,
    /// The live objects.
    pub base: BaseState,
    /// The objects behind `base` in the order of the content, if this pass read them itself.
    pub objects: Vec<Option<Value>>,
    /// Running changes in the way.
    pub running: Vec<RunningChange>,
    /// Changes it depends on.
    pub dependencies: Vec<DependencyFacts>,
    /// Systems that depend on its System.
    pub dependants: BTreeSet<String>,
    /// Failed and all recent endings.
    pub history: (u32, u32),
    /// Whether it could be carried out.
    pub preflight: Preflight,
    /// Facts of other domains.
    pub later: LaterFacts,
}

impl Observed {
    /// The facts in the form in which the core takes them.
    pub fn facts<'a, P: Port>(&'a self, context: &'a Context<P>) -> ChangeFacts<'a> {
        self.facts_in(&context.cluster)
    }

    /// The facts, in the cluster whose kube-system namespace has this uid.
    pub fn facts_in<'a>(&'a self, cluster: &'a str) -> ChangeFacts<'a> {
        ChangeFacts {
            cluster,
            request: &self.request,
            content: &self.content,
            system: self.system.as_deref(),
            policy: self.policy.as_deref(),
            calendar: &self.calendar,
            plan: &self.plan,
            people: &self.people,
            votes: &self.votes,
            evidence: &self.evidence,
            commands: &self.commands,
            base: &self.base,
            running: &self.running,
            dependencies: &self.dependencies,
            dependants: &self.dependants,
            history: self.history,
            preflight: &self.preflight,
            later: &self.later,
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.request.namespace, self.request.name)
    }

    /// The request as an object reference with what Events need.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": crds::API_VERSION,
            "kind": "ChangeRequest",
            "metadata": {
                "namespace": self.request.namespace,
                "name": self.request.name,
                "uid": self.request.uid,
                "resourceVersion": self.resource_version,
            },
        })
    }

    /// User name under whose rights the change is carried out.
    pub fn executor(&self) -> Option<String> {
        let executor = self.system.as_ref()?.spec.executor.as_ref()?;
        executor.service_account.as_ref().map(crds::ServiceAccountRef::user)
    }
}

/// What is known about a change that was just read.
pub fn cached_one<P: Port>(context: &Context<P>, live: &Arc<LiveChange>, now: Timestamp) -> Observed {
    let key = format!("{}/{}", live.request.namespace, live.request.name);
    cached(context, &key, live, now)
}

/// What the index knows about a change.
pub fn cached<P: Port>(context: &Context<P>, key: &str, live: &Arc<LiveChange>, now: Timestamp) -> Observed {
    let (request, resource_version) = newest(context, key, live);
    let remembered = context.recall(key, |memo| (memo.base_for(&request), memo.preflight_for(&request)));
    let (base, preflight) = remembered.unwrap_or((BaseState::Unread, Preflight::NotTried));
    let content = if request.generation == live.request.generation {
        live.content.clone()
    } else {
        Arc::new(Content::parse(&request.spec, &request.namespace))
    };
    let known = Observed { base, preflight, ..context.ask(|index| from_index(index, request, content, now)) };
    Observed { resource_version, ..known }
}

/// What the index knows about a request with this content. Its objects were not read.
pub fn from_index(
    index: &Index,
    request: RequestFacts,
    content: Arc<Result<Content, Vec<Problem>>>,
    now: Timestamp,
) -> Observed {
    let key = format!("{}/{}", request.namespace, request.name);
    let system = index.system_of(&request.namespace);
    let policy = system.as_ref().and_then(|s| index.policy(&s.spec.policy_ref.name));
    let known = content.as_ref().as_ref().ok();
    let restore_proof = restore_proof(index, policy.as_deref(), &request, system.as_deref());
    Observed {
        calendar: index.calendar_facts(policy.as_deref(), request.spec.type_, now),
        plan: index.plan_facts(&request, system.as_deref()),
        people: index.people(),
        votes: index.votes(&request.uid),
        evidence: known.map(|c| index.evidence(c)).unwrap_or_default(),
        commands: index.commands(&request.uid),
        running: known.zip(system.as_deref()).map(|(c, s)| index.running_beside(&key, c, s)).unwrap_or_default(),
        dependencies: dependencies(index, &key, &request),
        dependants: system.as_ref().map(|s| index.dependants(&s.resolved.name)).unwrap_or_default(),
        history: system.as_ref().map(|s| index.history(s, now)).unwrap_or_default(),
        later: LaterFacts { restore_proof, ..LaterFacts::default() },
        resource_version: String::new(),
        objects: Vec::new(),
        base: BaseState::Unread,
        preflight: Preflight::NotTried,
        request,
        content,
        system,
        policy,
    }
}

/// What the drills of the System prove, if the policy asks for it: it costs a look at each of them.
fn restore_proof(
    index: &Index,
    policy: Option<&PolicyFacts>,
    request: &RequestFacts,
    system: Option<&SystemFacts>,
) -> Option<Proof> {
    let demands = gates::demands(&policy?.spec, request.spec.type_)?;
    demands.gates.restore_proof.as_ref()?;
    system.map(|system| index.restore_proof(system))
}

/// The request as the watch knows it, or as this process wrote it last, whichever is newer.
fn newest<P: Port>(context: &Context<P>, key: &str, live: &LiveChange) -> (RequestFacts, String) {
    let seen = live.resource_version.parse::<u64>().unwrap_or(u64::MAX);
    let written = context.recall(key, |memo| match &memo.written {
        Some((version, request, text)) if *version > seen && request.uid == live.request.uid => {
            Some((request.clone(), text.clone()))
        }
        _ => {
            memo.written = None;
            None
        }
    });
    written.flatten().unwrap_or_else(|| (live.request.clone(), live.resource_version.clone()))
}

fn dependencies(index: &Index, key: &str, request: &RequestFacts) -> Vec<DependencyFacts> {
    request
        .spec
        .depends_on
        .iter()
        .map(|on| {
            let on = dependency_key(&request.namespace, on);
            let phase = index.change(&on).map(|entry| match entry {
                ChangeEntry::Ended { phase, .. } => *phase,
                // A phase without a sealed end proves nothing.
                ChangeEntry::Live(live) if live.running => crds::ChangePhase::Running,
                ChangeEntry::Live(live) if live.request.status.phase == crds::ChangePhase::Scheduled => {
                    crds::ChangePhase::Scheduled
                }
                ChangeEntry::Live(_) => crds::ChangePhase::Pending,
            });
            DependencyFacts { phase, cycle: index.depends_in_turn(key, &on), key: on }
        })
        .collect()
}

/// The same facts read live: the request, its votes, their voters, System and policy, and the objects.
pub async fn live<P: Port>(
    context: &Context<P>,
    key: &str,
    cached: &Observed,
    now: Timestamp,
) -> Result<Observed, PortError> {
    let request = &cached.request;
    let object: crds::ChangeRequest = get(context, "ChangeRequest", Some(&request.namespace), &request.name)
        .await?
        .ok_or_else(|| PortError::NotFound(format!("ChangeRequest {key} is gone")))?;
    let fresh = context.ask(|index| index.read(&object)).request;
    if fresh.uid != request.uid || fresh.generation != request.generation {
        return Err(PortError::Conflict(format!("ChangeRequest {key} was edited meanwhile")));
    }
    let votes = votes(context, &fresh).await?;
    let people = people(context, cached, &votes).await?;
    let system = system(context, cached).await?;
    let policy = policy(context, system.as_deref()).await?;
    let plan = plan(context, &fresh, system.as_deref()).await?;
    let mut observed = context.ask(|index| Observed {
        calendar: index.calendar_facts(policy.as_deref(), fresh.spec.type_, now),
        plan,
        evidence: cached.evidence.clone(),
        commands: index.commands(&fresh.uid),
        running: cached
            .content
            .as_ref()
            .as_ref()
            .ok()
            .zip(system.as_deref())
            .map(|(c, s)| index.running_beside(key, c, s))
            .unwrap_or_default(),
        dependencies: dependencies(index, key, &fresh),
        dependants: cached.dependants.clone(),
        history: cached.history,
        later: LaterFacts {
            restore_proof: restore_proof(index, policy.as_deref(), &fresh, system.as_deref()),
            ..cached.later.clone()
        },
        content: cached.content.clone(),
        base: BaseState::Unread,
        objects: Vec::new(),
        preflight: Preflight::NotTried,
        resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        request: fresh,
        system,
        policy,
        people,
        votes,
    });
    // What this pass pinned and has not written yet.
    if observed.request.status.base.is_none() || cached.request.status.base != observed.request.status.base {
        observed.request.status.base.clone_from(&cached.request.status.base);
        observed.request.sealed.base = cached.request.sealed.base;
    }
    (observed.base, observed.objects) = base(context, &observed).await;
    context.memo(key, |memo| memo.remember_base(&observed.request, observed.base.clone()));
    Ok(observed)
}

async fn get<P: Port, T: DeserializeOwned>(
    context: &Context<P>,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<T>, PortError> {
    let id = ObjectId {
        group: crds::GROUP.to_owned(),
        version: crds::VERSION.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(ToOwned::to_owned),
        name: name.to_owned(),
    };
    let found = context.port.live_get(&Identity::Controller, &id).await?;
    found.map(|value| parse(value, &id)).transpose()
}

fn parse<T: DeserializeOwned>(value: Value, id: &ObjectId) -> Result<T, PortError> {
    serde_json::from_value(value).map_err(|error| PortError::Invalid(format!("{id} cannot be read: {error}")))
}

async fn votes<P: Port>(context: &Context<P>, request: &RequestFacts) -> Result<Vec<Vote>, PortError> {
    let about = (".spec.changeRequestUid", request.uid.as_str());
    let namespace = Some(request.namespace.as_str());
    let listed = context.port.live_list_where(crds::GROUP, crds::VERSION, "Approval", namespace, about).await?;
    let keys = context.ask(|index| index.keys().clone());
    Ok(listed
        .into_iter()
        .filter_map(|value| serde_json::from_value::<crds::Approval>(value).ok())
        .filter(|approval| approval.spec.change_request_uid == request.uid)
        .map(|approval| sealed::vote(&keys, &approval))
        .collect())
}

/// The uid of the first of these votes that is no longer there.
pub async fn withdrawn<P: Port>(
    context: &Context<P>,
    request: &RequestFacts,
    uids: &[String],
) -> Result<Option<String>, PortError> {
    if uids.is_empty() {
        return Ok(None);
    }
    let standing: BTreeSet<String> = votes(context, request).await?.into_iter().map(|vote| vote.uid).collect();
    Ok(uids.iter().find(|uid| !standing.contains(*uid)).cloned())
}

/// The Persons of requester and voters, read live; everybody else as known.
async fn people<P: Port>(context: &Context<P>, cached: &Observed, votes: &[Vote]) -> Result<Arc<People>, PortError> {
    let mut people = Arc::clone(&cached.people);
    let users: BTreeSet<&str> =
        votes.iter().map(|v| v.approver.as_str()).chain([cached.request.spec.requester.as_str()]).collect();
    let names: BTreeSet<_> =
        users.into_iter().filter_map(|user| cached.people.person(user)).map(|p| p.name.clone()).collect();
    for name in names {
        match get::<_, crds::Person>(context, "Person", None, &name.0).await? {
            Some(person) => {
                let facts = PersonFacts::of(&name.0, &person.spec);
                if people.person(person.spec.identities.first().map_or("", String::as_str)) != Some(&facts) {
                    Arc::make_mut(&mut people).insert(facts);
                }
            }
            None => Arc::make_mut(&mut people).remove(&name),
        }
    }
    Ok(people)
}

fn resolve(meta: &ObjectMeta) -> interlock_core::change::digest::Resolved {
    interlock_core::change::digest::Resolved {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
    }
}

async fn system<P: Port>(context: &Context<P>, cached: &Observed) -> Result<Option<Arc<SystemFacts>>, PortError> {
    let Some(system) = &cached.system else { return Ok(None) };
    let object: Option<crds::System> = get(context, "System", None, &system.resolved.name).await?;
    Ok(object.map(|o| Arc::new(SystemFacts { resolved: resolve(&o.metadata), spec: o.spec })))
}

async fn plan<P: Port>(
    context: &Context<P>,
    request: &RequestFacts,
    system: Option<&SystemFacts>,
) -> Result<PlanFacts, PortError> {
    let Some((key, is_default)) = plan_key(request, system) else { return Ok(PlanFacts::None) };
    let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
    let object: Option<crds::RolloutPlan> = get(context, "RolloutPlan", Some(namespace), name).await?;
    Ok(object.and_then(|object| plan_facts(&object)).unwrap_or(PlanFacts::Missing { key, is_default }))
}

/// `namespace/name` of the RolloutPlan that a request, or else its System, names; and whether it is the System's.
pub fn plan_key(request: &RequestFacts, system: Option<&SystemFacts>) -> Option<(String, bool)> {
    if let Some(plan) = &request.spec.rollout_plan_ref {
        return Some((format!("{}/{}", request.namespace, plan.name), false));
    }
    let plan = system?.spec.default_rollout_plan_ref.as_ref()?;
    Some((format!("{}/{}", plan.namespace, plan.name), true))
}

/// The facts of a RolloutPlan.
pub fn plan_facts(object: &crds::RolloutPlan) -> Option<PlanFacts> {
    let resolved = ResolvedPlan {
        digest: Digest::of_canonical(&object.spec).ok()?,
        name: key_of(&object.metadata),
        uid: object.metadata.uid.clone().unwrap_or_default(),
    };
    Some(PlanFacts::Known { resolved, spec: Arc::new(object.spec.clone()) })
}

async fn policy<P: Port>(
    context: &Context<P>,
    system: Option<&SystemFacts>,
) -> Result<Option<Arc<PolicyFacts>>, PortError> {
    let Some(system) = system else { return Ok(None) };
    let object: Option<crds::ChangePolicy> = get(context, "ChangePolicy", None, &system.spec.policy_ref.name).await?;
    Ok(object.map(|o| Arc::new(PolicyFacts { resolved: resolve(&o.metadata), spec: o.spec })))
}

/// The live objects of the content and what the change would do to them.
pub async fn base<P: Port>(context: &Context<P>, observed: &Observed) -> (BaseState, Vec<Option<Value>>) {
    let mut objects = Vec::new();
    let state = read_base(context, observed, &mut objects).await;
    (state, objects)
}

async fn read_base<P: Port>(context: &Context<P>, observed: &Observed, objects: &mut Vec<Option<Value>>) -> BaseState {
    let Ok(content) = &*observed.content else { return BaseState::Unread };
    let mut values = BaseValues::new();
    let mut effects = Vec::with_capacity(content.objects.len());
    for object in &content.objects {
        let live = match context.port.live_get(&Identity::Controller, &object.id).await {
            Ok(live) => live,
            // A kind that the change itself defines is not there yet.
            Err(PortError::UnknownKind { .. }) if defines(content, object) => None,
            Err(error) => return BaseState::Unreadable(format!("{}: {error}", object.id)),
        };
        values.insert(base_key(&object.id), base_of(object, live.as_ref()));
        let expected = apply_partial(&object.id.group_kind(), live.as_ref(), &object.manifest);
        effects.push(effect(object, live.as_ref(), Some(&expected)));
        objects.push(live);
    }
    let secrets_mac = match staged_mac(context, observed).await {
        Ok(mac) => mac,
        Err(error) => return BaseState::Unreadable(error.to_string()),
    };
    match base_digest(&values) {
        Ok(live) => BaseState::Read(BaseFacts { live, effects, secrets_mac }),
        Err(error) => BaseState::Unreadable(error.to_string()),
    }
}

/// Whether the content itself defines the kind of `object`.
pub fn defines(content: &Content, object: &ContentObject) -> bool {
    content.objects.iter().any(|other| {
        other.id.kind == "CustomResourceDefinition"
            && other.manifest.pointer("/spec/names/kind").and_then(Value::as_str) == Some(object.id.kind.as_str())
            && other.manifest.pointer("/spec/group").and_then(Value::as_str) == Some(object.id.group.as_str())
    })
}

/// The staged Secrets of the request, by index; none where one is missing or another.
pub async fn staged<P: Port>(context: &Context<P>, request: &RequestFacts) -> Result<Vec<Option<Value>>, PortError> {
    let mut found = Vec::new();
    for reference in &request.spec.content.secret_refs {
        let id = ObjectId {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            namespace: Some(request.namespace.clone()),
            name: reference.name.clone(),
        };
        let secret = context.port.live_get(&Identity::Controller, &id).await?;
        found.push(secret.filter(|s| {
            let same = s.pointer("/metadata/uid").and_then(Value::as_str) == Some(reference.uid.as_str());
            let keys: BTreeSet<_> =
                s.get("data").and_then(Value::as_object).into_iter().flat_map(|d| d.keys()).collect();
            same && s.get("immutable").and_then(Value::as_bool) == Some(true) && keys == reference.keys.iter().collect()
        }));
    }
    Ok(found)
}

async fn staged_mac<P: Port>(context: &Context<P>, observed: &Observed) -> Result<String, PortError> {
    if observed.request.spec.content.secret_refs.is_empty() {
        return Ok(String::new());
    }
    let staged = staged(context, &observed.request).await?;
    let values: BTreeMap<&str, Value> = observed
        .request
        .spec
        .content
        .secret_refs
        .iter()
        .zip(&staged)
        .map(|(reference, secret)| {
            let data = secret.as_ref().and_then(|s| s.get("data")).cloned().unwrap_or(Value::Null);
            (reference.name.as_str(), data)
        })
        .collect();
    let bytes = canonical_json(&json!(values)).map_err(|error| PortError::Invalid(error.to_string()))?;
    Ok(context.hmac(&bytes))
}
