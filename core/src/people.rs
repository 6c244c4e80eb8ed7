//! Persons: who is who.

use std::collections::{BTreeMap, BTreeSet};

use crate::mutants::{self, Mutant};

/// Name of a Person object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonName(pub String);

impl std::fmt::Display for PersonName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One Person, as far as decisions look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonFacts {
    /// Name of the object.
    pub name: PersonName,
    /// Every user name of this human.
    pub identities: BTreeSet<String>,
    /// Groups beside those that the API server reports.
    pub groups: BTreeSet<String>,
    /// Groups from which the person is barred.
    pub barred: BTreeSet<String>,
}

impl PersonFacts {
    /// The facts of a Person object.
    pub fn of(name: &str, spec: &interlock_crds::PersonSpec) -> Self {
        Self {
            name: PersonName(name.to_owned()),
            identities: spec.identities.iter().cloned().collect(),
            groups: spec.groups.iter().cloned().collect(),
            barred: spec.barred_groups.iter().cloned().collect(),
        }
    }

    /// The groups in which the person counts, given those that the API server reported.
    pub fn effective_groups<'a>(&'a self, reported: &'a [String]) -> BTreeSet<&'a str> {
        let counts = |group: &&String| !self.barred.contains(*group) || mutants::is(Mutant::ForgetWhoIsBarred);
        self.groups.iter().chain(reported).filter(counts).map(String::as_str).collect()
    }
}

/// Whose identity a user name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// Exactly this person's.
    Known(&'a PersonFacts),
    /// Nobody's.
    Unknown,
    /// Several persons claim it, so it is nobody's until that is settled.
    Contested(Vec<&'a PersonName>),
}

/// All Persons, by name and by identity.
#[derive(Clone, Debug, Default)]
pub struct People {
    by_name: BTreeMap<PersonName, PersonFacts>,
    by_identity: BTreeMap<String, BTreeSet<PersonName>>,
}

impl People {
    /// Adds or replaces a person.
    pub fn insert(&mut self, person: PersonFacts) {
        self.remove(&person.name);
        for identity in &person.identities {
            self.by_identity.entry(identity.clone()).or_default().insert(person.name.clone());
        }
        self.by_name.insert(person.name.clone(), person);
    }

    /// Removes a person.
    pub fn remove(&mut self, name: &PersonName) {
        let Some(old) = self.by_name.remove(name) else {
            return;
        };
        for identity in &old.identities {
            if let Some(claims) = self.by_identity.get_mut(identity) {
                claims.remove(name);
                if claims.is_empty() {
                    self.by_identity.remove(identity);
                }
            }
        }
    }

    /// Whose identity `user` is.
    pub fn who(&self, user: &str) -> Who<'_> {
        let Some(claims) = self.by_identity.get(user) else {
            return Who::Unknown;
        };
        let mut names = claims.iter();
        match (names.next(), names.next()) {
            (Some(only), None) => self.by_name.get(only).map_or(Who::Unknown, Who::Known),
            (None, _) => Who::Unknown,
            (Some(_), Some(_)) => Who::Contested(claims.iter().collect()),
        }
    }

    /// The person of `user`, if it is exactly one.
    pub fn person(&self, user: &str) -> Option<&PersonFacts> {
        match self.who(user) {
            Who::Known(person) => Some(person),
            Who::Unknown | Who::Contested(_) => None,
        }
    }

    /// Identities of `name` that another person claims too, with the others.
    pub fn conflicts(&self, name: &PersonName) -> Vec<(String, Vec<PersonName>)> {
        let Some(person) = self.by_name.get(name) else {
            return Vec::new();
        };
        person
            .identities
            .iter()
            .filter_map(|identity| {
                let others: Vec<_> = self.by_identity.get(identity)?.iter().filter(|n| *n != name).cloned().collect();
                (!others.is_empty()).then(|| (identity.clone(), others))
            })
            .collect()
    }

    /// The person of this name.
    pub fn get(&self, name: &PersonName) -> Option<&PersonFacts> {
        self.by_name.get(name)
    }

    /// Every person, by name.
    pub fn iter(&self) -> impl Iterator<Item = &PersonFacts> {
        self.by_name.values()
    }
}

/// Whether a user name is a machine's: never a voter.
pub fn is_machine(user: &str) -> bool {
    user.starts_with("system:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, identities: &[&str]) -> PersonFacts {
        PersonFacts {
            name: PersonName(name.to_owned()),
            identities: identities.iter().map(|i| (*i).to_owned()).collect(),
            groups: BTreeSet::from(["sre".to_owned()]),
            barred: BTreeSet::from(["branch-ops".to_owned()]),
        }
    }

    #[test]
    fn a03_an_identity_that_two_persons_claim_is_nobodys() {
        let mut people = People::default();
        people.insert(person("bob", &["bob", "bob-admin"]));
        people.insert(person("carol", &["carol", "bob-admin"]));
        assert!(matches!(people.who("bob"), Who::Known(p) if p.name.0 == "bob"));
        assert!(matches!(people.who("bob-admin"), Who::Contested(names) if names.len() == 2));
        assert_eq!(people.who("nobody"), Who::Unknown);
        assert_eq!(people.conflicts(&PersonName("bob".into())).len(), 1);

        people.insert(person("carol", &["carol"]));
        assert!(matches!(people.who("bob-admin"), Who::Known(p) if p.name.0 == "bob"), "settled again");
        people.remove(&PersonName("bob".into()));
        assert_eq!(people.who("bob"), Who::Unknown);
    }

    #[test]
    fn a09_a_barred_group_is_gone_even_while_the_token_still_has_it() {
        let reported = ["branch-ops".to_owned(), "ops".to_owned()];
        let bob = person("bob", &["bob"]);
        assert_eq!(bob.effective_groups(&reported), BTreeSet::from(["ops", "sre"]));
    }
}
