//! "Which changes of the last year would the new policy have stopped?": exported changes judged by the core under the
//! policies of another folder, at the instant at which they started.

use std::collections::BTreeMap;

use interlock_controller::{
    change::{Observed, from_index},
    index::Index,
    watch::{self, Told},
};
use interlock_core::{
    change::{
        Content, Decision, Next,
        before::effect,
        decide,
        digest::{BaseValues, base_digest, base_key, base_of},
        facts::{BaseFacts, BaseState, DependencyFacts, EvidenceFacts, SealedFacts, SealedRecords, Vote},
        sealed,
    },
    object::{ObjectId, apply_partial},
    seal::KeyRing,
};
use interlock_crds::{Approval, ChangePhase, ChangeRequest, Evidence, Recorded};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{BadInput, Folder, OpenGate, Source};
use crate::world::key_of;

/// How a change of the past would fare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// `namespace/name`.
    pub change: String,
    /// Its title.
    pub title: String,
    /// When it started then; at this instant it is judged.
    pub started_at: Timestamp,
    /// How it ended then.
    pub phase: ChangePhase,
    /// Whether it would be stopped now.
    pub is_stopped: bool,
    /// The gates that would hold it.
    pub gates: Vec<OpenGate>,
    /// Why, where it is not for gates.
    pub why: String,
}

/// Judges the changes of `export` that ever started under the people, policies, calendars and Systems of `folder`.
///
/// Votes and evidence of the export count as what they were: who gave them was sealed by another installation, whose seal
/// is not checked here. A vote on the content that started counts as a vote on the same content now.
///
/// # Errors
/// An exported object cannot be read.
pub fn replay(folder: &Folder, export: &Folder) -> Result<Vec<Replayed>, BadInput> {
    let mut index = Index::new(KeyRing::default());
    for kind in ["Namespace", "System", "Person", "ChangePolicy", "Calendar"] {
        let of_kind = |source: &&Source| source.object.get("kind").and_then(Value::as_str) == Some(kind);
        for source in folder.sources.iter().filter(of_kind) {
            // Without a number every object would look like the same version of nothing.
            watch::feed(&mut index, kind, Told::Stored(&source.object));
        }
    }
    let past = Past::of(export)?;
    let mut live = Live::of(folder, export);
    let mut started: Vec<_> = past.requests.iter().filter_map(|request| Some((begun(request)?, request))).collect();
    started.sort_by_key(|(at, request)| (*at, request.metadata.name.clone()));
    let mut replayed = Vec::new();
    for (at, request) in started {
        replayed.push(judge(&index, &past, &live, request, at));
        live.carry_out(request);
    }
    Ok(replayed)
}

fn begun(request: &ChangeRequest) -> Option<Timestamp> {
    request.status.as_ref()?.run.as_ref().map(|run| run.started_at.0)
}

/// What was exported.
struct Past {
    requests: Vec<ChangeRequest>,
    votes: Vec<(Vote, Option<Recorded>)>,
    evidence: Vec<EvidenceFacts>,
}

impl Past {
    fn of(export: &Folder) -> Result<Self, BadInput> {
        let keys = KeyRing::default();
        let votes = read::<Approval>(export, "Approval")?
            .into_iter()
            .map(|approval| (sealed::vote(&keys, &approval), approval.spec.recorded))
            .collect();
        let evidence = read::<Evidence>(export, "Evidence")?
            .into_iter()
            .map(|evidence| EvidenceFacts {
                sealed: evidence.spec.recorded.as_ref().map(as_recorded),
                ..sealed::evidence(&keys, &evidence)
            })
            .collect();
        Ok(Self { requests: read(export, "ChangeRequest")?, votes, evidence })
    }
}

fn read<T: DeserializeOwned>(export: &Folder, kind: &str) -> Result<Vec<T>, BadInput> {
    export
        .own(kind)
        .map(|source| {
            serde_json::from_value(source.object.clone())
                .map_err(|error| BadInput(format!("{}: this {kind} cannot be read: {error}", source.place)))
        })
        .collect()
}

fn as_recorded(recorded: &Recorded) -> SealedFacts {
    SealedFacts {
        user: recorded.user.clone(),
        groups: recorded.groups.clone(),
        claims: recorded.claims.iter().map(|claim| (claim.key.clone(), claim.values.clone())).collect(),
        time: recorded.time.0,
        request_uid: recorded.request_uid.clone(),
    }
}

/// What was live, as far as folder and export tell: the folder's objects, and what changes made of them since.
struct Live {
    objects: BTreeMap<String, Value>,
}

impl Live {
    fn of(folder: &Folder, export: &Folder) -> Self {
        let both = folder.sources.iter().chain(&export.sources);
        let objects =
            both.filter_map(|source| ObjectId::of(&source.object).ok().map(|id| (id.key(), source.object.clone())));
        Self { objects: objects.collect() }
    }

    fn base(&self, content: &Content) -> BaseState {
        let mut values = BaseValues::new();
        let mut effects = Vec::new();
        for object in &content.objects {
            let live = self.objects.get(&object.id.key());
            values.insert(base_key(&object.id), base_of(object, live));
            let expected = apply_partial(&object.id.group_kind(), live, &object.manifest);
            effects.push(effect(object, live, Some(&expected)));
        }
        match base_digest(&values) {
            Ok(live) => BaseState::Read(BaseFacts { live, effects, secrets_mac: String::new() }),
            Err(error) => BaseState::Unreadable(error.to_string()),
        }
    }

    /// What a change that succeeded left behind.
    fn carry_out(&mut self, request: &ChangeRequest) {
        let succeeded = request.status.as_ref().is_some_and(|status| status.phase == ChangePhase::Succeeded);
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let Ok(content) = Content::parse(&request.spec, namespace) else { return };
        for object in content.objects.iter().filter(|_| succeeded) {
            let key = object.id.key();
            if object.intent == interlock_core::change::Intent::Delete {
                self.objects.remove(&key);
            } else {
                let after = apply_partial(&object.id.group_kind(), self.objects.get(&key), &object.manifest);
                self.objects.insert(key, after);
            }
        }
    }
}

fn judge(index: &Index, past: &Past, live: &Live, request: &ChangeRequest, at: Timestamp) -> Replayed {
    let observed = observe(index, past, live, request, at);
    let decision = decided(observed, past, request, at);
    let (is_stopped, why) = match &decision.next {
        Next::Start(_) => (false, String::new()),
        Next::Finish(phase, message) => (true, format!("{phase:?}: {message}")),
        _ if decision.status.gates.is_empty() => (true, decision.status.message.clone().unwrap_or_default()),
        _ => (true, String::new()),
    };
    let holding =
        decision.status.gates.iter().filter(|gate| gate.enforced && gate.state != interlock_crds::GateState::Open);
    Replayed {
        change: key(request),
        title: request.spec.title.clone(),
        started_at: at,
        phase: request.status.as_ref().map(|status| status.phase).unwrap_or_default(),
        is_stopped,
        gates: holding
            .map(|gate| OpenGate {
                gate: gate.name.clone(),
                reason: gate.reason.clone(),
                message: gate.message.clone(),
                opens_at: gate.opens_at.as_ref().map(|at| at.0),
            })
            .collect(),
        why,
    }
}

fn key(request: &ChangeRequest) -> String {
    serde_json::to_value(request).map_or_else(|_| String::new(), |object| key_of(&object))
}

/// What there was to see at the instant.
fn observe(index: &Index, past: &Past, live: &Live, request: &ChangeRequest, at: Timestamp) -> Observed {
    let interlock_controller::index::LiveChange { request: mut facts, content, .. } = index.read(request);
    facts.status = interlock_crds::ChangeRequestStatus::default();
    facts.sealed = SealedRecords::default();
    let mut observed = from_index(index, facts, content, at);
    if let Ok(content) = &*observed.content {
        observed.base = live.base(content);
        let digest = content.digest.to_string();
        let artifacts: Vec<_> = content.artifact_digests().into_iter().flatten().collect();
        observed.evidence = past
            .evidence
            .iter()
            .filter(|evidence| evidence.created <= at)
            .filter(|evidence| {
                evidence.content_digest.as_ref() == Some(&digest)
                    || evidence.artifact_digest.as_ref().is_some_and(|digest| artifacts.contains(digest))
            })
            .cloned()
            .collect();
    }
    observed.dependencies = dependencies(past, &observed, at);
    observed
}

fn dependencies(past: &Past, observed: &Observed, at: Timestamp) -> Vec<DependencyFacts> {
    let phase = |on: &str| {
        let other = past.requests.iter().find(|request| key(request) == on)?;
        let status = other.status.as_ref()?;
        let ended = status.finished.as_ref().is_some_and(|finish| finish.at.0 <= at);
        Some(if ended { status.phase } else { ChangePhase::Pending })
    };
    observed
        .dependencies
        .iter()
        .map(|dependency| DependencyFacts { phase: phase(&dependency.key), ..dependency.clone() })
        .collect()
}

/// Decides as the controller does: the base is pinned first, then votes are counted on the digest that follows from it.
fn decided(mut observed: Observed, past: &Past, request: &ChangeRequest, at: Timestamp) -> Decision {
    let first = decide(&observed.facts_in("replay"), at);
    let Next::PinBase(base) = &first.next else { return first };
    observed.request.status.base = Some(base.clone());
    observed.request.sealed.base = true;
    let approved = request.status.as_ref().and_then(|status| status.run.as_ref()).map(|run| run.change_digest.as_str());
    let digest = first.status.change_digest.clone().unwrap_or_default();
    observed.votes = past
        .votes
        .iter()
        .filter(|(vote, _)| vote.change_uid == observed.request.uid && vote.created <= at)
        .map(|(vote, recorded)| {
            let mut vote = vote.clone();
            vote.sealed = recorded.as_ref().map(as_recorded);
            if Some(vote.digest.as_str()) == approved {
                vote.digest.clone_from(&digest);
            }
            vote
        })
        .collect();
    decide(&observed.facts_in("replay"), at)
}
