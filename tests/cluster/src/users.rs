//! The people of the running example, each an ordinary user with a client certificate.

/// Somebody who may call the API: a name and the groups it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestUser {
    /// The certificate's common name, which Kubernetes takes for the user name.
    pub name: &'static str,
    /// The certificate's organizations, which Kubernetes takes for the groups.
    pub groups: &'static [&'static str],
}

/// The users of every cluster. None has any permission until a test or an installation binds a role to a group.
pub const USERS: [TestUser; 7] = [
    TestUser { name: "alice", groups: &["developers"] },
    TestUser { name: "bob", groups: &["sre"] },
    TestUser { name: "carol", groups: &["sre"] },
    TestUser { name: "dave", groups: &["branch-ops"] },
    TestUser { name: "erin", groups: &["sre", "branch-ops"] },
    TestUser { name: "frank", groups: &["incident-commander", "sre"] },
    TestUser { name: "mallory", groups: &["developers"] },
];

/// The user of that name, if there is one.
pub fn find(name: &str) -> Option<TestUser> {
    USERS.into_iter().find(|user| user.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{USERS, find};

    #[test]
    fn names_are_distinct_and_found() {
        let names: BTreeSet<_> = USERS.iter().map(|user| user.name).collect();
        assert_eq!(names.len(), USERS.len());
        assert_eq!(find("erin").map(|erin| erin.groups), Some(["sre", "branch-ops"].as_slice()));
        assert_eq!(find("trent"), None);
    }
}
