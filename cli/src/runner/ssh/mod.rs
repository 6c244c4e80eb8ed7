//! `interlock runner ssh`: the program through which restic speaks to an SFTP server.
//!
//! restic starts a program for that and speaks SFTP to its standard input and output. The one it takes by default, OpenSSH's, is in
//! no image that restic runs in here, and refuses a user without a name, as pods have. So it is this program: it logs in with the
//! key of the repository's Secret, at a server whose own key is in `known_hosts` of that Secret, and carries bytes.

mod address;
mod key;
mod known_hosts;

use std::borrow::Cow;
use std::fs;
use std::future;
use std::io::{self, Read as _};
use std::process::ExitCode;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};
use std::thread;
use std::time::Duration;

pub(super) use address::Address;
use interlock_core::backup::plan::{PROGRAMS_PATH, SECRETS_PATH};
use known_hosts::KnownHosts;
use russh::{
    AlgorithmKind, Channel, ChannelMsg, Preferred,
    client::{self, DisconnectReason, Handle, Msg},
    keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::{
    io::{AsyncWriteExt as _, Stdout},
    net::TcpStream,
    sync::mpsc,
    time,
};

use super::Place;

/// So long a connection may take.
const CONNECT: Duration = Duration::from_secs(30);
/// So long it may take then until the server lets the user in and has begun SFTP.
const LOGIN: Duration = Duration::from_mins(1);
/// A server that was silent for so long is asked whether it is there; after the third question without an answer it is not.
const SILENCE: Duration = Duration::from_secs(30);
const QUESTIONS: usize = 3;
/// The same for a server that takes nothing more, so that no question can be sent.
const STALLED: Duration = Duration::from_mins(2);
/// restic tells what this program says in the background, and ends as soon as this program has.
const RELAYED: Duration = Duration::from_millis(500);
/// What is read of standard input at once.
const PART_BYTES: usize = 32 * 1024;
/// How many parts may wait to be sent.
const WAITING_PARTS: usize = 16;
/// What stands before an error of this program where restic tells it.
const MARK: &str = ": error: ";

/// The value of restic's option `sftp.command` by which it starts this program.
pub(super) fn command(place: &Place, repository: &str) -> String {
    let own = std::env::current_exe().unwrap_or_else(|_| place.at(PROGRAMS_PATH).join("interlock"));
    // An address that cannot be read is told by the program itself.
    let address = Address::parse(repository).map_or_else(|_| "sftp:".to_owned(), |address| address.url());
    let (own, root) = (own.display(), place.root().display());
    // restic splits this at spaces outside of quotes.
    format!("'{own}' runner --root '{root}' ssh '{address}'")
}

/// Whether a line of restic's errors is one of this program, or of the server behind it.
pub(super) fn is_told_by_restic(line: &str) -> bool {
    line.starts_with("subprocess ")
}

/// What this program said, of such a line.
pub(super) fn said(line: &str) -> Option<&str> {
    line.split_once(MARK).map(|(_, why)| why)
}

/// Carries SFTP between restic and the server until one of both ends.
pub(super) async fn execute(place: &Place, address: &str) -> ExitCode {
    let done = match Address::parse(address) {
        Ok(address) => {
            let ended = session(place, &address).await;
            ended.map_err(|why| format!("the SSH session of {address} failed: {why}"))
        }
        Err(why) => Err(why),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            time::sleep(RELAYED).await;
            ExitCode::FAILURE
        }
    }
}

async fn session(place: &Place, address: &Address) -> Result<(), String> {
    let secret = |name: &str, what: &str| {
        let path = place.at(SECRETS_PATH).join("repository").join(name);
        fs::read_to_string(path)
            .map_err(|error| format!("{name} of the repository's Secret cannot be read ({error}): {what}"))
    };
    let known = secret("known_hosts", "put the lines there that ssh-keyscan prints for the server, once compared")?;
    let key = key::decode(&secret("ssh-privatekey", "put the private key there with which the user logs in")?)?;
    let ended = Ended::default();
    let server = Server { known: KnownHosts::read(&known, address), ended: ended.clone() };
    let (session, channel) = open(address, key, server).await?;
    let carried = carry(channel).await;
    // The session lives until here.
    drop(session);
    carried.map_err(|why| ended.get().cloned().unwrap_or(why))
}

/// Why the server, or the connection to it, ended the session.
type Ended = Arc<OnceLock<String>>;

/// What is decided about the server.
struct Server {
    known: KnownHosts,
    ended: Ended,
}

/// Why there is no session, or no more.
#[derive(Debug)]
struct Failed(String);

impl From<russh::Error> for Failed {
    fn from(error: russh::Error) -> Self {
        Self(match error {
            russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, .. } => {
                "the server has no host key of type ed25519 or ecdsa: let its administrator make one with `ssh-keygen -A`".to_owned()
            }
            russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => {
                format!("the server has not answered for {} s", STALLED.as_secs())
            }
            error => error.to_string(),
        })
    }
}

impl client::Handler for Server {
    type Error = Failed;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failed> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.known.check(key).map(|()| true).map_err(Failed),
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failed>) -> Result<(), Failed> {
        let (why, passed_on) = match reason {
            DisconnectReason::ReceivedDisconnect(told) => (format!("the server ended it: {:?}", told.message), Ok(())),
            DisconnectReason::Error(Failed(why)) => (why.clone(), Err(Failed(why))),
        };
        // The first reason led to the others.
        let _ = self.ended.set(why);
        passed_on
    }
}

/// Connects, logs in, and has the server begin SFTP.
async fn open(address: &Address, key: PrivateKey, server: Server) -> Result<(Handle<Server>, Channel<Msg>), String> {
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let stream = time::timeout(CONNECT, connecting)
        .await
        .map_err(|_| format!("nothing answers within {} s", CONNECT.as_secs()))?
        .map_err(|error| error.to_string())?;
    // Requests are small, and each waits for an answer.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    time::timeout(LOGIN, log_in(address, key, server, stream))
        .await
        .map_err(|_| format!("the server answers, but nobody is logged in after {} s", LOGIN.as_secs()))?
}

async fn log_in(
    address: &Address,
    key: PrivateKey,
    server: Server,
    stream: TcpStream,
) -> Result<(Handle<Server>, Channel<Msg>), String> {
    let failed = |error: russh::Error| Failed::from(error).0;
    let ended = server.ended.clone();
    let config = Arc::new(config(&server.known));
    let mut session = client::connect_stream(config, stream, server).await.map_err(|Failed(why)| why)?;
    let line = key::public_line(&key);
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    let answer = session.authenticate_publickey(address.user.as_str(), key).await.map_err(failed)?;
    if !answer.success() {
        let user = &address.user;
        return Err(ended.get().cloned().unwrap_or_else(|| {
            format!("the server does not let {user} in with the key ssh-privatekey of the repository's Secret: add its public half to authorized_keys of that user: {line}")
        }));
    }
    let mut channel = session.channel_open_session().await.map_err(failed)?;
    channel.request_subsystem(true, "sftp").await.map_err(failed)?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok((session, channel)),
            Some(ChannelMsg::Failure) => {
                return Err(
                    "the server offers no SFTP: let its administrator set `Subsystem sftp internal-sftp`".to_owned()
                );
            }
            None | Some(ChannelMsg::Close) => {
                return Err(ended.get().cloned().unwrap_or_else(|| "the server ended it before SFTP began".to_owned()));
            }
            Some(_) => {}
        }
    }
}

fn config(known: &KnownHosts) -> client::Config {
    client::Config {
        preferred: Preferred { key: Cow::Owned(known.preferred()), ..Preferred::DEFAULT },
        keepalive_interval: Some(SILENCE),
        keepalive_max: QUESTIONS,
        inactivity_timeout: Some(STALLED),
        ..client::Config::default()
    }
}

/// Carries what restic writes to the server, and what the server writes to restic, each only as fast as it is taken.
async fn carry(channel: Channel<Msg>) -> Result<(), String> {
    let (mut from_server, to_server) = channel.split();
    let mut from_restic = input();
    let restic_ended = AtomicBool::new(false);
    let send = async {
        loop {
            let Some(part) = from_restic.recv().await else {
                restic_ended.store(true, Ordering::Relaxed);
                // If nobody takes it the session has ended, which is seen where it is read.
                let _ = to_server.eof().await;
                break;
            };
            if to_server.data_bytes(part).await.is_err() {
                break;
            }
        }
        future::pending::<()>().await;
    };
    let receive = async {
        let mut output = tokio::io::stdout();
        let mut status = None;
        while let Some(message) = from_server.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let written = write(&mut output, &data).await;
                    if written.is_err() {
                        // Nobody reads it any more.
                        restic_ended.store(true, Ordering::Relaxed);
                        break;
                    }
                }
                ChannelMsg::ExtendedData { data, .. } => eprint!("{}", String::from_utf8_lossy(&data)),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        status
    };
    let status = tokio::select! {
        status = receive => status,
        () = send => None,
    };
    if restic_ended.load(Ordering::Relaxed) {
        return Ok(());
    }
    let status = status.map(|status| format!(" with status {status}")).unwrap_or_default();
    Err(format!("SFTP ended at the server{status}, before restic had ended it"))
}

async fn write(output: &mut Stdout, data: &[u8]) -> io::Result<()> {
    output.write_all(data).await?;
    output.flush().await
}

/// What restic writes. Its thread ends with the process: reading cannot be interrupted.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING_PARTS);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut part = vec![0; PART_BYTES];
        loop {
            match input.read(&mut part) {
                Ok(0) => return,
                Ok(read) => {
                    if sender.blocking_send(part[..read].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn restic_starts_this_program_and_what_it_says_is_found_again() {
        let place = Place { root: PathBuf::from("/a pod") };
        let option = command(&place, "sftp://backup@vault:2222//srv/'a,b'");
        let own = std::env::current_exe().unwrap();
        assert_eq!(option, format!("'{}' runner --root '/a pod' ssh 'sftp://backup@vault:2222/'", own.display()));
        assert!(command(&place, "sftp:vault:/srv").ends_with(" ssh 'sftp:'"));
        let told = "subprocess /interlock/bin/interlock: error: the SSH session of a@b:22 failed: no";
        assert!(is_told_by_restic(told) && !is_told_by_restic("Fatal: no"));
        assert_eq!(said(told), Some("the SSH session of a@b:22 failed: no"));
        assert_eq!(said("subprocess /interlock/bin/interlock: Could not chdir"), None);
    }
}
