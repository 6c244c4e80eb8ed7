//! One request to one server, bounded in time and size.
//!
//! A connection a request: measurements are seconds apart, and a connection that is not kept cannot lead to a server that
//! the name no longer means.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use interlock_core::analysis::origin::Origin;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::{Access, Guard};
use crate::certs::install_crypto_provider;

/// Largest body of an answer, in bytes.
pub const MAX_ANSWER: usize = 1 << 20;
const MAX_HEAD: usize = 64 << 10;

/// Makes requests.
#[derive(Clone, Debug, Default)]
pub struct Client {
    guard: Guard,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub method: Method,
    /// With scheme, host and path.
    pub address: &'a str,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Option<String>,
    pub timeout: Duration,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no answer. Names host and port, never the rest of an address, a header or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("the address is not http://HOST:PORT/... or https://HOST:PORT/...")]
    Address,
    /// A header is none.
    #[error("a header cannot be sent: {0}")]
    Header(String),
    /// Credentials must not go there.
    #[error("nothing was sent to {origin}: {why}")]
    Forbidden {
        /// Where to.
        origin: Origin,
        /// Why not.
        why: String,
    },
    /// The name has no address.
    #[error("{0} cannot be found: its name does not resolve")]
    Unresolved(Origin),
    /// The name leads where requests must not go.
    #[error("nothing was sent to {origin}: its address is refused, because {why}")]
    Refused {
        /// Where to.
        origin: Origin,
        /// Why not.
        why: &'static str,
    },
    /// No connection.
    #[error("{origin} cannot be reached: {why}")]
    Unreachable {
        /// Where to.
        origin: Origin,
        /// The operating system's words.
        why: String,
    },
    /// No encrypted connection.
    #[error("{origin} cannot be trusted or does not speak TLS: {why}")]
    Tls {
        /// Where to.
        origin: Origin,
        /// The words of the TLS library.
        why: String,
    },
    /// The answer broke off or was none.
    #[error("{0} did not answer in HTTP, or its answer broke off")]
    Broken(Origin),
    /// The answer is too large.
    #[error("the answer of {0} is larger than {MAX_ANSWER} bytes: ask for less")]
    TooLarge(Origin),
    /// No answer in time.
    #[error("{origin} has not answered within {seconds}s")]
    TimedOut {
        /// Where to.
        origin: Origin,
        /// The limit.
        seconds: u64,
    },
}

impl Client {
    /// A client that asks only where `guard` lets it.
    pub fn new(guard: Guard) -> Self {
        install_crypto_provider();
        Self { guard }
    }

    pub(super) async fn ask(&self, question: Question<'_>, access: &Access) -> Result<Answer, ClientError> {
        let origin = Origin::of(question.address).ok_or(ClientError::Address)?;
        if let Some(why) = access.forbids(&origin) {
            return Err(ClientError::Forbidden { origin, why });
        }
        let limit = question.timeout;
        let exchange = self.exchange(&origin, question, access);
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { origin, seconds: limit.as_secs() }),
        }
    }

    async fn exchange(&self, origin: &Origin, question: Question<'_>, access: &Access) -> Result<Answer, ClientError> {
        let request = request(origin, question, access)?;
        let stream = self.connect(origin).await?;
        if !origin.https {
            return send(origin, stream, request).await;
        }
        let tls = |why: String| ClientError::Tls { origin: origin.clone(), why };
        let config = tls_config(access).map_err(tls)?;
        let name = access.server_name.clone().unwrap_or_else(|| origin.host.clone());
        let name = ServerName::try_from(name).map_err(|error| tls(error.to_string()))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| tls(error.to_string()))?;
        send(origin, stream, request).await
    }

    async fn connect(&self, origin: &Origin) -> Result<TcpStream, ClientError> {
        let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| ClientError::Unresolved(origin.clone()))?.collect();
        let mut error = ClientError::Unresolved(origin.clone());
        for address in addresses {
            if let Some(why) = self.guard.refuses(address.ip()) {
                // A name that leads both to a server and to where nothing may be sent is no accident.
                return Err(ClientError::Refused { origin: origin.clone(), why });
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(why) => error = ClientError::Unreachable { origin: origin.clone(), why: why.kind().to_string() },
            }
        }
        Err(error)
    }
}

fn request(origin: &Origin, question: Question<'_>, access: &Access) -> Result<Request<Full<Bytes>>, ClientError> {
    let uri: Uri = question.address.parse().map_err(|_| ClientError::Address)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().ok_or(ClientError::Address)?;
    let mut request = Request::new(Full::new(Bytes::from(question.body.unwrap_or_default())));
    *request.method_mut() = question.method;
    *request.uri_mut() = path.parse().map_err(|_| ClientError::Address)?;
    let headers = request.headers_mut();
    headers.extend(question.headers);
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| ClientError::Address)?;
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("interlock/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(authorization) = &access.authorization {
        // Once more where it is sent, whoever called.
        if access.forbids(origin).is_none() {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
    }
    Ok(request)
}

/// Ends the connection with the exchange.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send<S>(origin: &Origin, stream: S, request: Request<Full<Bytes>>) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = || ClientError::Broken(origin.clone());
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| broken())?;
    let _connection = Connection(tokio::spawn(async move {
        // How it ended shows in the answer.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(|_| broken())?;
    let status = response.status();
    match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge(origin.clone())),
        Err(_) => Err(broken()),
    }
}

fn tls_config(access: &Access) -> Result<Arc<ClientConfig>, String> {
    let roots = match &access.authority {
        None => Arc::clone(public_authorities()),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates.iter() {
                roots.add(certificate.clone()).map_err(|error| format!("ca.crt: {error}"))?;
            }
            Arc::new(roots)
        }
    };
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match access.identity.as_deref() {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let set = config.with_client_auth_cert(chain.clone(), key.clone_key());
            set.map_err(|_| "tls.crt and tls.key do not belong together".to_owned())?
        }
    };
    Ok(Arc::new(config))
}

/// What the machine trusts, read once.
fn public_authorities() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}
