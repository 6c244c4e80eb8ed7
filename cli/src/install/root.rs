//! The root System: how the kinds by which everything else is governed are governed themselves.

use std::{collections::BTreeSet, str::FromStr};

use serde_json::{Value, json};

use super::{NAMESPACE, ROOT_EXECUTOR, webhooks::labels};

/// Name of the root System and of its ChangePolicy, and the group whose members vote on its changes.
pub const ROOT: &str = "interlock-root";

/// A person who votes on changes of the root System.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootApprover {
    user: String,
    display_name: Option<String>,
}

impl FromStr for RootApprover {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, name) = text.rsplit_once('=').map_or((text, None), |(user, name)| (user, Some(name)));
        if user.is_empty() || user.len() > 1024 || name == Some("") {
            return Err("write USER, as the API server reports it, or USER=NAME".to_owned());
        }
        if user.starts_with("system:") {
            return Err(format!("{user} is a machine; a root approver is a person"));
        }
        if name.is_some_and(|name| name.chars().count() > 128) {
            return Err("a name has at most 128 characters".to_owned());
        }
        Ok(Self { user: user.to_owned(), display_name: name.map(str::to_owned) })
    }
}

/// What an earlier installation left.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// The System [`ROOT`].
    pub system: Option<Value>,
    /// The ChangePolicy [`ROOT`].
    pub policy: Option<Value>,
    /// Every Person.
    pub persons: Vec<Value>,
}

/// Why the root System cannot be set up as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Too few people to lock with.
    #[error(
        "--lock needs two root approvers, there {}: nobody may vote on a change that they requested, so with fewer \
         than two no change to Systems, Persons, policies and calendars could pass any more, not even one that adds \
         an approver; give --root-approver USER[=NAME] twice",
        if *.0 == 1 { "is 1".to_owned() } else { format!("are {}", .0) }
    )]
    TooFew(usize),
    /// The root System is locked.
    #[error(
        "the root System is locked: {0} can only become a root approver by an approved change in namespace {NAMESPACE}; \
         propose it with: interlock propose -n {NAMESPACE} -f person.yaml"
    )]
    Locked(String),
    /// Two given approvers are one person.
    #[error("--root-approver {0} is given twice")]
    Twice(String),
}

/// What is to be written for the root System.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Objects in the order in which they are to be applied: those that are not there as they should be, so that an
    /// installation can be renewed while no controller answers the webhooks. None when the root System is locked.
    pub objects: Vec<Value>,
    /// How many root approvers there are then.
    pub approvers: usize,
    /// Whether the root System is locked then.
    pub locked: bool,
}

/// Plans the root System, its policy and one Person per approver.
///
/// A locked System is left alone: from then on only approved changes write it.
pub fn plan(approvers: &[RootApprover], lock: bool, existing: &Existing) -> Result<Plan, RootError> {
    let mut users = BTreeSet::new();
    if let Some(twice) = approvers.iter().find(|approver| !users.insert(approver.user.as_str())) {
        return Err(RootError::Twice(twice.user.clone()));
    }
    let already: Vec<_> = existing.persons.iter().filter(|person| has(&person["spec"]["groups"], ROOT)).collect();
    let is_new =
        |approver: &&RootApprover| !already.iter().any(|person| has(&person["spec"]["identities"], &approver.user));
    let new: Vec<_> = approvers.iter().filter(is_new).collect();
    let count = already.len() + new.len();
    let mode = existing.system.as_ref().and_then(|system| system["spec"]["mode"].as_str()).unwrap_or("Audit");

    if mode == "Enforce" {
        if let Some(first) = new.first() {
            return Err(RootError::Locked(first.user.clone()));
        }
        return Ok(Plan { objects: Vec::new(), approvers: count, locked: true });
    }
    if lock && count < 2 {
        return Err(RootError::TooFew(count));
    }
    let mut objects = Vec::new();
    let mut taken: BTreeSet<String> =
        existing.persons.iter().filter_map(|person| person["metadata"]["name"].as_str().map(str::to_owned)).collect();
    for approver in approvers {
        let known = existing.persons.iter().find(|person| has(&person["spec"]["identities"], &approver.user));
        objects.push(person(approver, known, &mut taken));
    }
    objects.push(policy(count));
    objects.push(system(if lock { "Enforce" } else { mode }));
    let present: Vec<_> = existing.persons.iter().chain(&existing.policy).chain(&existing.system).collect();
    objects.retain(|object| !present.iter().any(|found| holds(found, object)));
    Ok(Plan { objects, approvers: count, locked: lock })
}

/// Whether `found` says everything that `wanted` says; of a list, every item in any order.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| holds(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => wanted.iter().all(|w| found.iter().any(|f| holds(f, w))),
        _ => found == wanted,
    }
}

fn has(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == text))
}

fn person(approver: &RootApprover, known: Option<&Value>, taken: &mut BTreeSet<String>) -> Value {
    let (name, display_name) = if let Some(person) = known {
        (person["metadata"]["name"].clone(), person["spec"]["displayName"].clone())
    } else {
        let display = approver.display_name.as_deref().unwrap_or(&approver.user);
        let language = if display.is_ascii() { "en" } else { "zh" };
        let display: String = display.chars().take(128).collect();
        (json!(free_name(approver, taken)), json!({ language: display }))
    };
    json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "Person",
        "metadata": { "name": name, "labels": labels() },
        "spec": { "displayName": display_name, "identities": [approver.user], "groups": [ROOT] },
    })
}

/// A name for the Person that no other has.
fn free_name(approver: &RootApprover, taken: &mut BTreeSet<String>) -> String {
    let local = approver.user.rsplit(':').next().unwrap_or_default();
    let local = local.split('@').next().unwrap_or_default();
    let candidates = [approver.display_name.as_deref().unwrap_or_default(), local, &approver.user, "root-approver"];
    // Letters that are not ASCII would leave holes: such a name says less than the user name.
    let base = candidates.iter().filter(|text| text.is_ascii()).map(|text| slug(text)).find(|slug| !slug.is_empty());
    let base = base.unwrap_or_else(|| "root-approver".to_owned());
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

fn slug(text: &str) -> String {
    let words: Vec<_> = text
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-").chars().take(56).collect::<String>().trim_end_matches('-').to_owned()
}

fn policy(approvers: usize) -> Value {
    json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "ChangePolicy",
        "metadata": { "name": ROOT, "labels": labels() },
        "spec": {
            "operators": [ROOT],
            "types": { "normal": { "approvals": { "thresholds": [
                { "name": "root", "count": approvers.clamp(1, 2), "groups": [ROOT] },
            ]}}},
        },
    })
}

fn system(mode: &str) -> Value {
    json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "System",
        "metadata": { "name": ROOT, "labels": labels() },
        "spec": {
            "displayName": { "en": "Interlock itself", "zh": "变更管控自身" },
            "description": "The Systems, Persons, ChangePolicies and Calendars by which everything else is governed",
            "tier": "Critical",
            "mode": mode,
            "namespaces": [NAMESPACE],
            "executor": {
                "type": "Interlock",
                "serviceAccount": { "namespace": NAMESPACE, "name": ROOT_EXECUTOR },
            },
            "policyRef": { "name": ROOT },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approvers(texts: &[&str]) -> Vec<RootApprover> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn existing_after(plan: &Plan) -> Existing {
        let of = |kind: &str| plan.objects.iter().filter(|o| o["kind"] == kind).cloned().collect::<Vec<_>>();
        Existing { system: of("System").pop(), policy: of("ChangePolicy").pop(), persons: of("Person") }
    }

    fn threshold(plan: &Plan) -> &Value {
        let policy = plan.objects.iter().find(|object| object["kind"] == "ChangePolicy").unwrap();
        &policy["spec"]["types"]["normal"]["approvals"]["thresholds"][0]["count"]
    }

    #[test]
    fn what_is_planned_has_the_shape_of_its_types() {
        let plan = plan(&approvers(&["oidc:li.na@bank.example=李娜", "bob"]), false, &Existing::default()).unwrap();
        for object in &plan.objects {
            match object["kind"].as_str().unwrap() {
                "Person" => drop(serde_json::from_value::<interlock_crds::Person>(object.clone()).unwrap()),
                "System" => drop(serde_json::from_value::<interlock_crds::System>(object.clone()).unwrap()),
                _ => {
                    let policy: interlock_crds::ChangePolicy = serde_json::from_value(object.clone()).unwrap();
                    assert!(policy.spec.types.normal.unwrap().approvals.exclude_contributors);
                }
            }
        }
        let names: Vec<_> = plan.objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["li-na", "bob", ROOT, ROOT]);
        assert_eq!(plan.objects[0]["spec"]["displayName"], json!({ "zh": "李娜" }));
        assert_eq!(plan.objects[3]["spec"]["mode"], "Audit", "people adopt step by step");
        assert_eq!(threshold(&plan), 2);
    }

    #[test]
    fn the_threshold_is_the_lesser_of_two_and_the_approvers() {
        for (users, count) in [(&["a"][..], 1), (&["a", "b"], 2), (&["a", "b", "c"], 2)] {
            assert_eq!(threshold(&plan(&approvers(users), false, &Existing::default()).unwrap()), count);
        }
        let first = plan(&approvers(&["a"]), false, &Existing::default()).unwrap();
        let second = plan(&approvers(&["b"]), false, &existing_after(&first)).unwrap();
        assert_eq!(threshold(&second), 2, "approvers of earlier installations count");
        assert_eq!(second.approvers, 2);
    }

    #[test]
    fn locking_is_refused_where_it_would_lock_everybody_out() {
        for users in [&[][..], &["a"]] {
            let error = plan(&approvers(users), true, &Existing::default()).unwrap_err();
            assert_eq!(error, RootError::TooFew(users.len()));
            assert!(error.to_string().contains("--root-approver"), "{error}");
        }
        let plan = plan(&approvers(&["a", "b"]), true, &Existing::default()).unwrap();
        assert!(plan.locked);
        assert_eq!(plan.objects.last().unwrap()["spec"]["mode"], "Enforce");
    }

    #[test]
    fn a_locked_system_is_never_unlocked_or_extended_by_installing_again() {
        let locked = plan(&approvers(&["a", "b"]), true, &Existing::default()).unwrap();
        let again = plan(&approvers(&["a"]), false, &existing_after(&locked)).unwrap();
        assert_eq!((again.objects.len(), again.locked, again.approvers), (0, true, 2));
        let error = plan(&approvers(&["c"]), false, &existing_after(&locked)).unwrap_err();
        assert_eq!(error, RootError::Locked("c".to_owned()));
    }

    #[test]
    fn installing_again_writes_only_what_is_missing() {
        let first = plan(&approvers(&["a", "b"]), false, &Existing::default()).unwrap();
        assert_eq!(plan(&approvers(&["b", "a"]), false, &existing_after(&first)).unwrap().objects, [Value::Null; 0]);
        assert_eq!(plan(&[], false, &existing_after(&first)).unwrap().objects, [Value::Null; 0]);
        let lock = plan(&[], true, &existing_after(&first)).unwrap();
        assert_eq!(lock.objects.len(), 1);
        assert_eq!(lock.objects[0]["spec"]["mode"], "Enforce");
        let third = plan(&approvers(&["c"]), false, &existing_after(&first)).unwrap();
        assert_eq!(third.objects.len(), 1, "the threshold stays two: {:?}", third.objects);
    }

    #[test]
    fn a_person_who_exists_keeps_their_name() {
        let person = json!({
            "metadata": { "name": "wang-wei" },
            "spec": { "displayName": { "zh": "王伟" }, "identities": ["wang", "w.wei"] },
        });
        let existing = Existing { persons: vec![person], ..Existing::default() };
        let plan = plan(&approvers(&["w.wei=Somebody", "wang-wei"]), false, &existing).unwrap();
        assert_eq!(plan.objects[0]["metadata"]["name"], "wang-wei");
        assert_eq!(plan.objects[0]["spec"]["displayName"], json!({ "zh": "王伟" }));
        assert_eq!(plan.objects[1]["metadata"]["name"], "wang-wei-2", "another person of that name is not merged");
    }

    #[test]
    fn approvers_are_people_and_named_once() {
        for bad in ["", "=Li", "a=", "system:serviceaccount:ci:pipeline", "system:admin=X"] {
            assert!(bad.parse::<RootApprover>().is_err(), "{bad:?}");
        }
        let twice = plan(&approvers(&["a", "a=Ann"]), false, &Existing::default()).unwrap_err();
        assert_eq!(twice, RootError::Twice("a".to_owned()));
    }
}
