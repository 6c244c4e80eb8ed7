//! Free ports of the loopback interface.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// `N` distinct ports that were free a moment ago. Another process may take one before it is used, so whoever uses
/// them must be ready to ask again.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    // All listeners stay open until every port is known: the kernel cannot hand out one of them twice.
    let mut listeners = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Whether a component's log says that its port was taken by somebody else in the meantime.
pub(crate) fn says_port_taken(log: &str) -> bool {
    log.contains("address already in use")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::{free_ports, says_port_taken};

    #[test]
    fn ports_are_distinct_and_free_for_others() {
        let ports: [u16; 20] = free_ports().unwrap();
        assert_eq!(BTreeSet::from(ports).len(), ports.len());
        // Another process may take one of them in between, as the function says, but not all.
        assert!(ports.iter().any(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()));
    }

    #[test]
    fn recognizes_the_kernels_words_for_a_taken_port() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let refusal = TcpListener::bind(("127.0.0.1", port)).unwrap_err();
        assert!(says_port_taken(&refusal.to_string().to_lowercase()));
        assert!(says_port_taken("failed to listen on 127.0.0.1:6443: bind: address already in use"));
        assert!(!says_port_taken("connection refused"));
    }
}
