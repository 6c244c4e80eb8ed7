//! Where an SFTP repository is, and who logs in there.

use std::fmt;

const DEFAULT_PORT: u16 = 22;

/// A user at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct Address {
    pub user: String,
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Reads the address of a repository as restic does: `sftp:USER@HOST:PATH` or `sftp://USER@HOST:PORT/PATH`.
    ///
    /// # Errors
    /// It does not name a user, as whom nobody is logged in in a pod, or no host.
    pub fn parse(repository: &str) -> Result<Self, String> {
        Self::find(repository).ok_or_else(|| {
            "the address of the repository names no user, no host or no valid port: write sftp:USER@HOST:/PATH, or with a port sftp://USER@HOST:PORT//PATH".to_owned()
        })
    }

    fn find(repository: &str) -> Option<Self> {
        let place = repository.strip_prefix("sftp:")?;
        let login = match place.strip_prefix("//") {
            Some(url) => url.split('/').next()?,
            None => place.split_once(':')?.0,
        };
        let (user, server) = login.rsplit_once('@')?;
        let user = user.split(':').next()?;
        let (host, port) = match server.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") => DEFAULT_PORT,
            Some(port) => port.parse().ok()?,
        };
        let is_whole = !user.is_empty() && !host.is_empty();
        is_whole.then(|| Self { user: user.to_owned(), host: host.to_owned(), port })
    }

    /// The same as an address without a path.
    pub fn url(&self) -> String {
        format!("sftp://{self}/")
    }

    /// What a file of known hosts calls the server.
    pub fn known_as(&self) -> String {
        if self.port == DEFAULT_PORT { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port } = self;
        if host.contains(':') { write!(f, "{user}@[{host}]:{port}") } else { write!(f, "{user}@{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_restic_reads_them() {
        for (repository, expected, known_as) in [
            ("sftp:backup@vault:/srv/restic", "backup@vault:22", "vault"),
            ("sftp:backup@vault:restic", "backup@vault:22", "vault"),
            ("sftp:backup@bank@vault:/srv", "backup@bank@vault:22", "vault"),
            ("sftp://backup@vault//srv/restic", "backup@vault:22", "vault"),
            ("sftp://backup@vault:22//srv", "backup@vault:22", "vault"),
            (
                "sftp://backup@vault.bank.example:2222//srv/a:b",
                "backup@vault.bank.example:2222",
                "[vault.bank.example]:2222",
            ),
            ("sftp://backup@[::1]:2222//srv", "backup@[::1]:2222", "[::1]:2222"),
            ("sftp://backup@[::1]//srv", "backup@[::1]:22", "::1"),
        ] {
            let address = Address::parse(repository).unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.known_as().as_str()),
                (expected, known_as),
                "{repository}"
            );
            assert_eq!(Address::parse(&address.url()), Ok(address), "{repository}");
        }
    }

    #[test]
    fn without_user_or_host_an_address_is_refused() {
        for repository in [
            "sftp:vault:/srv",
            "sftp://vault:2222//srv",
            "sftp:@vault:/srv",
            "sftp:backup@:/srv",
            "sftp:backup@vault/srv",
            "sftp://backup@vault:70000//srv",
            "rest:https://backup@vault/",
        ] {
            let why = Address::parse(repository).unwrap_err();
            assert!(why.contains("sftp:USER@HOST:/PATH"), "{repository}: {why}");
        }
    }
}
