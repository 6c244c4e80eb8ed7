//! An attempt to connect: any answer of the other side, if only a refusal, means that it is reached.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use interlock_core::drill::report::DrillReport;
use interlock_crds::ProbeResult;
use tokio::{net::TcpStream, time};

/// One attempt waits so long.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Time from one attempt to the next.
const PAUSE: Duration = Duration::from_millis(250);

/// Tries for so many seconds.
pub(super) async fn execute(address: &str, port: u16, seconds: u32, report: &mut DrillReport) {
    let found = match address.parse::<IpAddr>() {
        Ok(address) => dial(SocketAddr::new(address, port), Duration::from_secs(u64::from(seconds))).await,
        Err(_) => {
            eprintln!("error: {address} is no address");
            ProbeResult::NotTried
        }
    };
    println!("{address} port {port}: {found:?}");
    report.probe = Some(found);
    if found == ProbeResult::NotTried { report.exit_code = Some(1) } else { super::done(report) }
}

async fn dial(target: SocketAddr, limit: Duration) -> ProbeResult {
    let begun = Instant::now();
    loop {
        match time::timeout(ATTEMPT.min(limit), TcpStream::connect(target)).await {
            Ok(Ok(_)) => return ProbeResult::Connected,
            Ok(Err(error)) => match error.kind() {
                // The other side spoke.
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => return ProbeResult::Connected,
                // A router, or this node, said that there is no way: nothing came back from the other side.
                ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::PermissionDenied
                | ErrorKind::TimedOut => println!("no way: {error}"),
                _ => {
                    eprintln!("error: no attempt can be made: {error}");
                    return ProbeResult::NotTried;
                }
            },
            Err(_) => println!("no answer"),
        }
        if begun.elapsed() >= limit {
            return ProbeResult::Blocked;
        }
        time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    async fn probed(address: &str, port: u16) -> (Option<ProbeResult>, Option<i32>) {
        let mut report = DrillReport::new("run-1");
        execute(address, port, 1, &mut report).await;
        (report.probe, report.exit_code)
    }

    #[tokio::test]
    async fn an_answer_and_a_refusal_are_a_connection_and_no_address_is_no_attempt() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probed("127.0.0.1", port).await, (Some(ProbeResult::Connected), Some(0)));
        drop(listener);
        assert_eq!(probed("127.0.0.1", port).await, (Some(ProbeResult::Connected), Some(0)), "refused");
        assert_eq!(probed("application", port).await, (Some(ProbeResult::NotTried), Some(1)));
    }

    #[tokio::test]
    async fn silence_is_blocked() {
        // A queue of one that is full: the kernel drops what else comes in.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = time::timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
            held.push(stream);
        }
        assert_eq!(probed("127.0.0.1", at.port()).await, (Some(ProbeResult::Blocked), Some(0)));
    }
}
