//! Whether anything answers at the address of a repository.
//!
//! restic tries for a quarter of an hour to reach a server that is away, and nobody learns why a run does not begin. So the address
//! is tried first: why it does not answer is in the log at once, and the run ends if that lasts longer than a server needs whose pod
//! moves to another node.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{StreamExt as _, stream::FuturesUnordered};
use http::Uri;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{self, Instant},
};

use super::{ending, log, ssh};

/// So long one attempt may take, with the look-up of the name: as restic has it.
const ATTEMPT: Duration = Duration::from_secs(30);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_secs(2);
/// Clouds of which restic asks a host of the bucket, not the one that is named.
const BY_BUCKET: [&str; 4] = ["amazonaws.com", "amazonaws.com.cn", "storage.googleapis.com", "aliyuncs.com"];
/// With one of these restic may reach what this program cannot.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Connects to the server of a repository, if its address names one and no proxy is set.
///
/// # Errors
/// Nobody answered in time: where, and the last reason.
pub(super) async fn reach(repository: &str, patience: Duration) -> Result<(), String> {
    let has_proxy = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let Some((host, port)) = address(repository).filter(|_| !has_proxy) else { return Ok(()) };
    let mut last = String::new();
    tokio::select! {
        reached = try_on(&host, port, patience, &mut last) => reached,
        () = ending::asked() => {
            let why = if last.is_empty() { String::new() } else { format!(" ({last})") };
            Err(format!("no connection to {host}:{port}{why}, and this pod is being ended"))
        }
    }
}

/// Tries again until somebody answers or patience is over; each new reason is told.
async fn try_on(host: &str, port: u16, patience: Duration, last: &mut String) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    let seconds = patience.as_secs();
    loop {
        let now = Instant::now();
        // The last one has time enough to learn why.
        let until = deadline.clamp(now + PAUSE, now + ATTEMPT);
        let Err(why) = attempt(host, port, until).await else { return Ok(()) };
        if deadline <= Instant::now() + PAUSE {
            return Err(format!(
                "no connection to {host}:{port} within {seconds} s ({why}): look whether it runs, and whether the network lets this pod through"
            ));
        }
        if why != *last {
            log::say(&format!("no connection to {host}:{port} yet: {why}; it is tried for {seconds} s in all"));
            *last = why;
        }
        time::sleep(PAUSE).await;
    }
}

/// Looks a host up and connects to it.
///
/// # Errors
/// Why not.
async fn attempt(host: &str, port: u16, until: Instant) -> Result<(), String> {
    match time::timeout_at(until, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => connect(addresses, until).await,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no name server answers".to_owned()),
    }
}

/// Connects to all addresses of a host at once, much as restic does: one that drops what it is sent keeps no other one waiting.
///
/// # Errors
/// None of them answered. What one of them said counts before the silence of another.
async fn connect(addresses: impl Iterator<Item = SocketAddr>, until: Instant) -> Result<(), String> {
    let mut tried: FuturesUnordered<_> = addresses.map(TcpStream::connect).collect();
    let mut said = None;
    loop {
        match time::timeout_at(until, tried.next()).await {
            Ok(Some(Ok(_))) => return Ok(()),
            Ok(Some(Err(error))) => said = Some(error.to_string()),
            Ok(None) => return Err(said.unwrap_or_else(|| "its name has no address".to_owned())),
            Err(_) => {
                let silent = |said: String| format!("{said}; another of its addresses does not answer");
                return Err(said.map_or_else(|| "it does not answer".to_owned(), silent));
            }
        }
    }
}

/// Host and port of a REST server, SFTP server or bucket; none of what is reached in another way.
fn address(repository: &str) -> Option<(String, u16)> {
    let url = match repository.split_once(':')? {
        ("sftp", _) => return ssh::Address::parse(repository).ok().map(|address| (address.host, address.port)),
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
    if BY_BUCKET.iter().any(|cloud| host == *cloud || host.ends_with(&format!(".{cloud}"))) {
        return None;
    }
    Some((host.to_owned(), url.port_u16().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that nobody listens at any more.
    async fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_is_silent_keeps_no_other_one_waiting() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let silent_at = full.local_addr().unwrap();
        // Nobody takes a connection there, so that further ones are dropped.
        let mut open = Vec::new();
        while let Ok(Ok(one)) = time::timeout(Duration::from_millis(300), TcpStream::connect(silent_at)).await {
            open.push(one);
        }
        let answering = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (answering_at, refusing_at) = (answering.local_addr().unwrap(), refusing().await);
        let soon = || Instant::now() + Duration::from_millis(300);
        let late = Instant::now() + Duration::from_mins(1);
        let found = connect([silent_at, refusing_at, answering_at].into_iter(), late).await;
        assert_eq!((found, Instant::now() < late), (Ok(()), true));
        assert_eq!(connect([silent_at].into_iter(), soon()).await, Err("it does not answer".to_owned()));
        let mixed = connect([silent_at, refusing_at].into_iter(), soon()).await.unwrap_err();
        assert!(mixed.contains("refused") && mixed.ends_with("another of its addresses does not answer"), "{mixed}");
    }

    #[tokio::test]
    async fn an_address_is_tried_until_patience_is_over() {
        let address = refusing().await;
        let mut last = String::new();
        let why = try_on("127.0.0.1", address.port(), Duration::from_secs(3), &mut last).await.unwrap_err();
        assert!(why.starts_with(&format!("no connection to {address} within 3 s (")), "{why}");
        assert!(last.contains("refused"), "it was told before, and tried again: {last}");
    }

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
            ("s3:https://s3.cn-north-1.amazonaws.com.cn/bucket", None),
            ("s3:https://storage.googleapis.com/bucket", None),
            ("s3:oss-cn-shanghai.aliyuncs.com/bucket", None),
            ("s3:https://notaliyuncs.com/bucket", Some(("notaliyuncs.com", 443))),
            ("s3:eu-central-1/bucket", None),
            ("rest:http+unix:///run/rest.sock:/teller/", None),
            ("sftp:backup@vault:/srv", Some(("vault", 22))),
            ("sftp://backup@[::1]:2222//srv", Some(("::1", 2222))),
            ("sftp:vault:/srv", None),
            ("azure:container:/teller", None),
            ("/repository", None),
        ] {
            let found = address(repository);
            assert_eq!(found.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{repository}");
        }
    }
}
