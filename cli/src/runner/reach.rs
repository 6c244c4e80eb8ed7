//! Whether anything answers at the address of a repository.
//!
//! restic tries for a quarter of an hour to reach a server that is away, and nobody learns why a run does not begin. So the address
//! is tried first, for [`LIMIT`]: long enough for a network that is set up late or a server that is started again.

use std::time::Duration;

use http::Uri;
use tokio::{
    net::TcpStream,
    time::{self, Instant},
};

use super::{ending, log};

/// So long an address is tried.
const LIMIT: Duration = Duration::from_secs(30);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// With one of these restic may reach what this program cannot.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Connects to the server of a repository, if its address names one and no proxy is set.
///
/// # Errors
/// Nobody answered in time: where, and the last reason.
pub(super) async fn reach(repository: &str) -> Result<(), String> {
    let has_proxy = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let Some((host, port)) = address(repository).filter(|_| !has_proxy) else { return Ok(()) };
    let deadline = Instant::now() + LIMIT;
    let mut last = String::new();
    loop {
        let tried = tokio::select! {
            tried = time::timeout_at(deadline, TcpStream::connect((host.as_str(), port))) => tried,
            () = ending::asked() => return Err(format!("no connection to {host}:{port}, and this pod is being ended")),
        };
        match tried {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => {
                let why = error.to_string();
                if why != last {
                    log::say(&format!("{host}:{port} cannot be reached yet: {why}"));
                    last = why;
                }
            }
            Err(_) if last.is_empty() => "it does not answer".clone_into(&mut last),
            Err(_) => {}
        }
        if deadline <= Instant::now() + PAUSE {
            return Err(format!(
                "no connection to {host}:{port} within {} s ({last}): look whether it runs, and whether the network lets this pod through",
                LIMIT.as_secs()
            ));
        }
        time::sleep(PAUSE).await;
    }
}

/// Host and port of a REST server or bucket; none of what is reached in another way.
fn address(repository: &str) -> Option<(String, u16)> {
    let url = match repository.split_once(':')? {
        ("rest", url) => url.to_owned(),
        ("s3", url) if url.starts_with("http") => url.to_owned(),
        ("s3", place) => {
            let place = place.strip_prefix("//").unwrap_or(place);
            let host = place.split('/').next()?;
            // It may be a region.
            host.contains(['.', ':']).then(|| format!("https://{place}"))?
        }
        _ => return None,
    };
    let url: Uri = url.parse().ok()?;
    let port = match url.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    // Of Amazon's hosts restic asks others than the one that is named.
    if host.ends_with("amazonaws.com") {
        return None;
    }
    Some((host.to_owned(), url.port_u16().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_reached_by_its_address_is_tried() {
        for (repository, expected) in [
            ("rest:https://vault/teller", Some(("vault", 443))),
            ("rest:http://bob:p%40ss@vault.backup.svc:8000/", Some(("vault.backup.svc", 8000))),
            ("rest:http://[::1]:8000/", Some(("::1", 8000))),
            ("s3:http://minio:9000/bucket/teller", Some(("minio", 9000))),
            ("s3:minio.example:9000/bucket", Some(("minio.example", 9000))),
            ("s3://storage.example/bucket", Some(("storage.example", 443))),
            ("s3:s3.eu-central-1.amazonaws.com/bucket", None),
            ("s3:eu-central-1/bucket", None),
            ("rest:http+unix:///run/rest.sock:/teller/", None),
            ("sftp:backup@vault:/srv", None),
            ("azure:container:/teller", None),
            ("/repository", None),
        ] {
            let found = address(repository);
            assert_eq!(found.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{repository}");
        }
    }
}
