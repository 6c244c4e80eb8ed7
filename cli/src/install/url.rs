//! The URL under which webhooks are registered.

use std::net::IpAddr;

/// The host of a webhook URL: what stands in the certificate for it.
pub fn host_of(url: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("--webhook-url {url:?}: {why}, such as https://127.0.0.1:9443"));
    let Some(rest) = url.strip_prefix("https://") else { return refuse("the API server calls https only") };
    let authority = rest.trim_end_matches('/');
    if authority.contains(['/', '?', '#', '@']) {
        return refuse("give scheme, host and port only");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port.strip_prefix(':')),
            _ => return refuse("that is no IPv6 address in brackets"),
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |host: &str| {
        !host.is_empty()
            && host.split('.').all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    if host.parse::<IpAddr>().is_err() && !is_name(host) {
        return refuse("give a host name or an address");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return refuse("that is no port");
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_a_name_or_an_address() {
        assert_eq!(host_of("https://127.0.0.1:9443").unwrap(), "127.0.0.1");
        assert_eq!(host_of("https://[::1]:9443/").unwrap(), "::1");
        assert_eq!(host_of("https://interlock.bank.example").unwrap(), "interlock.bank.example");
        for bad in [
            "http://a:1",
            "https://",
            "https://a:b",
            "https://u@a",
            "https://a/p",
            "https://a?q",
            "https://[a]:1",
            "https://a b",
        ] {
            assert!(host_of(bad).is_err(), "{bad}");
        }
    }
}
