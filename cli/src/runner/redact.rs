//! Keeping credentials out of logs and results.

/// Variables that hold no secret, though pods have them.
const PLAIN: [&str; 13] = [
    "HOME",
    "HOSTNAME",
    "INTERLOCK_DRILL_PLAN",
    "INTERLOCK_PLAN",
    "LANG",
    "PATH",
    "PGDATABASE",
    "PGHOST",
    "PGPORT",
    "PWD",
    "RESTIC_CACHE_DIR",
    "SHLVL",
    "TMPDIR",
];
/// Shorter values would blacken every line.
const SHORTEST: usize = 4;

/// Values that must not be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of this process's environment, and of these files' lines.
    pub fn of_environment(more: impl IntoIterator<Item = String>) -> Self {
        let variables = std::env::vars().filter(|(name, _)| !PLAIN.contains(&name.as_str()));
        let is_place = |name: &str| ["_DIR", "_FILE", "_PATH", "_HOST", "_PORT"].iter().any(|end| name.ends_with(end));
        let variables = variables.filter(|(name, _)| !name.starts_with("KUBERNETES_") && !is_place(name));
        let mut values: Vec<_> = variables.map(|(_, value)| value).chain(more).collect();
        values.retain(|value| value.len() >= SHORTEST && value != "true" && value != "false");
        // The longest first: one may contain another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// The text without them, and without a password in an address.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "***");
            }
        }
        without_userinfo(&text)
    }
}

/// `scheme://user:password@host` becomes `scheme://***@host`.
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '"').unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                out.push_str("***@");
                out.push_str(host);
            }
            _ => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_passwords_in_addresses_are_left_out() {
        let secrets = Secrets(vec!["hunter2-long".into(), "hunter2".into()]);
        assert_eq!(secrets.redact("password hunter2-long of hunter2"), "password *** of ***");
        assert_eq!(
            secrets.redact("open rest:https://bob:pw@vault:8000/x failed"),
            "open rest:https://***@vault:8000/x failed"
        );
        assert_eq!(secrets.redact("see https://restic.net and a@b"), "see https://restic.net and a@b");
    }
}
