//! What must have been so when a change started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_crds::{ChangeRequest, ChangeType, GROUP, Person};
use interlock_sim::api::meta;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Watchdog, read, starting};
use crate::{
    cluster::Audit,
    port::CONTROLLER,
    world::{World, key_of},
};

/// Whoever the change started for: at least as many distinct people of the right group as its policy demands had
/// approved this very content of this very request, not long ago, and its requester is none of them. Or it is inside a
/// standard template.
pub(super) fn nothing_unapproved_runs(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let key = || key_of(audit.new.as_deref().unwrap_or(&Value::Null));
    if audit.user != CONTROLLER
        && read::change_of(audit).is_some_and(|change| read::is_running(&change))
        && audit.old.as_deref().is_none_or(|old| old.pointer("/status/run").is_none())
    {
        return Err(format!("{} started {}", audit.user, key()));
    }
    let Some(change) = starting(dog, audit) else { return Ok(()) };
    if change.spec.type_ == ChangeType::Standard {
        return inside_template(&change).map_err(|why| format!("{} is no standard change: {why}", key()));
    }
    let voters = voters(dog, world, audit, &change);
    let people = People::new(dog, world);
    if people.of(&change.spec.requester).is_some_and(|requester| voters.contains(requester)) {
        return Err(format!("{} counts the vote of its requester", key()));
    }
    let need = policies(dog, world, &change).iter().map(|policy| demanded(policy)).min().unwrap_or_default();
    if voters.len() < need {
        return Err(format!("{} started with the votes of {voters:?}, {need} are demanded", key()));
    }
    Ok(())
}

/// The people whose approval of exactly this counts.
fn voters(dog: &Watchdog, world: &World, audit: &Audit, change: &ChangeRequest) -> BTreeSet<String> {
    let Some(run) = change.status.as_ref().and_then(|status| status.run.as_ref()) else { return BTreeSet::new() };
    let uid = change.metadata.uid.as_deref().unwrap_or_default();
    let people = People::new(dog, world);
    // An old vote may have expired while the start was on its way.
    let since = audit.at.checked_sub(SignedDuration::from_secs(25)).unwrap_or(audit.at);
    let ages = policies(dog, world, change).into_iter().map(|policy| max_age(&policy));
    let oldest = ages.map(|age| age.map_or(Timestamp::MIN, |age| since.checked_sub(age).unwrap_or(since))).min();
    dog.versions(world, "Approval")
        .iter()
        .filter(|vote| {
            let text = |field: &str| vote.get("spec").and_then(|s| s.get(field)).and_then(Value::as_str);
            let created: Option<Timestamp> =
                vote.pointer("/metadata/creationTimestamp").and_then(Value::as_str).and_then(|t| t.parse().ok());
            run.votes.iter().any(|counted| counted == meta::uid(vote))
                && text("decision") == Some("Approve")
                && text("digest") == Some(run.change_digest.as_str())
                && text("changeRequestUid") == Some(uid)
                && created.is_some_and(|created| oldest.is_none_or(|oldest| created >= oldest))
        })
        .filter_map(|vote| people.of(vote.pointer("/spec/recorded/user")?.as_str()?).cloned())
        .filter(|person| people.is_sre(person))
        .collect()
}

struct People {
    by_identity: BTreeMap<String, String>,
    sre: BTreeSet<String>,
}

impl People {
    fn new(dog: &Watchdog, world: &World) -> Self {
        let mut people = Self { by_identity: BTreeMap::new(), sre: BTreeSet::new() };
        for object in dog.versions(world, "Person") {
            let Ok(person) = serde_json::from_value::<Person>((*object).clone()) else { continue };
            let name = meta::name(&object).to_owned();
            let has = |groups: &[String]| groups.iter().any(|group| group == "sre");
            if has(&person.spec.groups) && !has(&person.spec.barred_groups) {
                people.sre.insert(name.clone());
            }
            people.by_identity.extend(person.spec.identities.into_iter().map(|identity| (identity, name.clone())));
        }
        people
    }

    fn of(&self, identity: &str) -> Option<&String> {
        self.by_identity.get(identity)
    }

    fn is_sre(&self, person: &str) -> bool {
        self.sre.contains(person)
    }
}

/// The policy of the change's System, as it is and as it was a moment ago.
fn policies(dog: &Watchdog, world: &World, change: &ChangeRequest) -> Vec<Arc<Value>> {
    let namespace = change.metadata.namespace.as_deref().unwrap_or_default();
    let systems = world.objects(GROUP, "System");
    let name = systems
        .iter()
        .find(|system| {
            let namespaces = system.pointer("/spec/namespaces").and_then(Value::as_array);
            namespaces.is_some_and(|n| n.iter().any(|n| n.as_str() == Some(namespace)))
        })
        .and_then(|system| system.pointer("/spec/policyRef/name").and_then(Value::as_str));
    let versions = dog.versions(world, "ChangePolicy");
    versions.into_iter().filter(|policy| Some(meta::name(policy)) == name).collect()
}

/// How many distinct people a policy demands at least.
fn demanded(policy: &Value) -> usize {
    let thresholds = policy.pointer("/spec/types/normal/approvals/thresholds").and_then(Value::as_array);
    let binding = thresholds.into_iter().flatten().filter(|threshold| {
        threshold.get("fromRisk").is_none() && threshold.get("shared").and_then(Value::as_bool) != Some(true)
    });
    binding.filter_map(|threshold| threshold.get("count").and_then(Value::as_u64)).sum::<u64>() as usize
}

fn max_age(policy: &Value) -> Option<SignedDuration> {
    policy.pointer("/spec/types/normal/approvals/maxAge").and_then(Value::as_str).and_then(|age| age.parse().ok())
}

/// The one template of the bank's policies: replicas of Deployments, from 2 to 5.
fn inside_template(change: &ChangeRequest) -> Result<(), String> {
    for manifest in change.spec.content.manifests.iter().flatten() {
        let spec = manifest.get("spec").and_then(Value::as_object);
        let replicas = spec.filter(|spec| spec.len() == 1).and_then(|spec| spec.get("replicas")?.as_u64());
        if manifest.get("kind").and_then(Value::as_str) != Some("Deployment")
            || !replicas.is_some_and(|n| (2..=5).contains(&n))
        {
            return Err(format!("it states {manifest}"));
        }
    }
    if change.spec.content.secret_refs.is_empty() { Ok(()) } else { Err("it writes Secrets".to_owned()) }
}

/// Where the policy demands a test report, there was one for exactly this content, by the pipeline, and it had passed.
pub(super) fn evidence_is_there(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = starting(dog, audit).filter(|change| change.spec.type_ == ChangeType::Normal) else {
        return Ok(());
    };
    let demands = |policy: &Arc<Value>| {
        policy.pointer("/spec/types/normal/evidence").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    };
    if !policies(dog, world, &change).iter().all(demands) {
        return Ok(());
    }
    let digest = change.status.as_ref().and_then(|status| status.content_digest.as_deref());
    let found = dog.versions(world, "Evidence").iter().any(|evidence| {
        let text = |pointer: &str| evidence.pointer(pointer).and_then(Value::as_str);
        digest.is_some()
            && text("/spec/subject/contentDigest") == digest
            && text("/spec/result") == Some("Passed")
            && text("/spec/recorded/user") == Some(crate::history::PIPELINE)
    });
    if found { Ok(()) } else { Err(format!("{} started without a test report", change.spec.title)) }
}

/// A change that its policy holds to a calendar starts in no freeze of it.
pub(super) fn nothing_starts_frozen(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(change) = starting(dog, audit) else { return Ok(()) };
    let policies = policies(dog, world, &change);
    let holds = |calendar: &Value| {
        let of_type = |policy: &Value, pointer: &str| {
            policy.pointer(pointer).and_then(Value::as_str) == Some(meta::name(calendar))
        };
        let types = ["/spec/types/normal/calendarRef/name", "/spec/types/standard/calendarRef/name"];
        policies.iter().any(|policy| types.iter().any(|pointer| of_type(policy, pointer)))
    };
    for calendar in world.objects(GROUP, "Calendar").iter().filter(|calendar| holds(calendar)) {
        if let Some((from, to)) = freeze_at(world, calendar, audit.at) {
            return Err(format!("it started at {} in the freeze from {from} to {to}", audit.at));
        }
    }
    Ok(())
}

/// The freeze of a calendar inside which something happened.
pub(super) fn freeze_at(world: &World, calendar: &Value, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let zone = calendar.pointer("/spec/timeZone").and_then(Value::as_str).unwrap_or("UTC");
    let mut freezes = calendar.pointer("/spec/freezes").and_then(Value::as_array).into_iter().flatten();
    freezes.find_map(|freeze| {
        let end = |field: &str| -> Option<Timestamp> {
            let local: jiff::civil::DateTime = freeze.get(field)?.as_str()?.parse().ok()?;
            Some(local.in_tz(zone).ok()?.timestamp())
        };
        let (from, to) = (end("from")?, end("until")?);
        // What was decided in time may be on its way so long, and the time may be reckoned two seconds off.
        let off = SignedDuration::from_secs(2);
        let slack = crate::faults::ON_ITS_WAY + off;
        let inside = |at: Timestamp| at > from + slack && at < to - off;
        (inside(at) && world.before_it_was_set().is_none_or(inside)).then_some((from, to))
    })
}
