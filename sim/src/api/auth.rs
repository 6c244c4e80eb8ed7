//! Who may do what: everything, but for what a list of rules denies.

use interlock_core::admission::User;

use super::error::ApiError;
use super::registry::KindInfo;

/// What is denied. A part that is none stands for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyRule {
    /// User name.
    pub user: Option<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: Option<String>,
    /// API group; the core group is the empty text.
    pub group: Option<String>,
    /// Lower-case plural, with the subresource after a slash if one is meant: `deployments`, `deployments/status`.
    pub resource: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
}

/// One question to the [`Authorizer`].
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who.
    pub user: &'a User,
    /// The verb.
    pub verb: &'a str,
    /// The kind.
    pub info: &'a KindInfo,
    /// The subresource.
    pub subresource: Option<&'a str>,
    /// The namespace; empty for cluster-wide access.
    pub namespace: &'a str,
    /// The name; empty for all.
    pub name: &'a str,
}

/// The rules of denial.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    denied: Vec<DenyRule>,
}

impl Authorizer {
    /// Takes a permission away.
    pub fn deny(&mut self, rule: DenyRule) {
        self.denied.push(rule);
    }

    /// Gives back what exactly this rule took, and says whether it was there.
    pub fn allow(&mut self, rule: &DenyRule) -> bool {
        let before = self.denied.len();
        self.denied.retain(|denied| denied != rule);
        self.denied.len() < before
    }

    /// Gives everything back.
    pub fn allow_all(&mut self) {
        self.denied.clear();
    }

    /// Judges one access.
    ///
    /// # Errors
    /// 403 when a rule denies it.
    pub fn check(&self, access: &Access<'_>) -> Result<(), ApiError> {
        let Access { user, verb, info, subresource, namespace, name } = *access;
        let plural = match subresource {
            Some(subresource) => format!("{}/{subresource}", info.plural),
            None => info.plural.clone(),
        };
        let fits = |wanted: Option<&String>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        let denied = self.denied.iter().any(|rule| {
            fits(rule.user.as_ref(), &user.name)
                && fits(rule.verb.as_ref(), verb)
                && fits(rule.group.as_ref(), &info.group)
                && fits(rule.resource.as_ref(), &plural)
                && fits(rule.namespace.as_ref(), namespace)
        });
        if !denied {
            return Ok(());
        }
        let place = match namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let why = format!(
            "User \"{}\" cannot {verb} resource \"{plural}\" in API group \"{}\" {place}",
            user.name, info.group
        );
        Err(ApiError::forbidden(&info.resource(), if verb == "create" { "" } else { name }, &why))
    }
}
