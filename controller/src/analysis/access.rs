//! Credentials and authorities for one server, from Secrets and ConfigMaps.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use interlock_core::analysis::origin::Origin;
use interlock_core::object::ObjectId;
use interlock_core::port::{Identity, Port, PortError};
use interlock_crds::{Analysis, NameRef, ServerTls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// Type of a Secret with credentials for analyses. No other is read, so that a plan cannot send any Secret of its namespace
/// to a server of its choice.
pub const SECRET_TYPE: &str = "interlock.dev/analysis";
/// Annotation of such a Secret: the servers that it is for, as `https://HOST:PORT`, separated by blanks or commas.
pub const ORIGINS_ANNOTATION: &str = "interlock.dev/origins";

/// How to approach a server. Shows nothing of what it holds.
#[derive(Clone, Default)]
pub struct Access {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    pub(super) authority: Option<Arc<Vec<CertificateDer<'static>>>>,
    pub(super) server_name: Option<String>,
    /// The only servers that credentials may be sent to.
    origins: Vec<Origin>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("origins", &self.origins).finish_non_exhaustive()
    }
}

/// Why a server cannot be approached. Never contains a value of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// An object that is referred to does not exist.
    #[error("{kind} {name} does not exist in namespace {namespace}")]
    Absent {
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// It could not be read.
    #[error("{kind} {name} cannot be read: {why}")]
    Unread {
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The API server's words.
        why: PortError,
    },
    /// It is not what it should be.
    #[error("{kind} {name} cannot be used: {why}")]
    Unusable {
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl Access {
    /// Reads what `analysis` needs, as `identity`, from `namespace`.
    pub async fn read<P: Port>(
        port: &P,
        identity: &Identity,
        namespace: &str,
        analysis: &Analysis,
    ) -> Result<Self, AccessError> {
        let prometheus = analysis.prometheus.as_ref().or(analysis.compare.as_ref().map(|compare| &compare.metric));
        let (secret, tls) = match (prometheus, &analysis.http) {
            (Some(metric), _) => (metric.secret_ref.as_ref(), metric.tls.as_ref()),
            (None, Some(metric)) => (metric.secret_ref.as_ref(), metric.tls.as_ref()),
            (None, None) => (None, None),
        };
        let mut access = Self::default();
        if let Some(NameRef { name }) = secret {
            access.credentials(name, &get(port, identity, "Secret", namespace, name).await?)?;
        }
        if let Some(tls) = tls {
            access.server_name.clone_from(&tls.server_name);
            if let Some((kind, NameRef { name })) = authority_of(tls) {
                let object = get(port, identity, kind, namespace, name).await?;
                access.authority(kind, name, &object)?;
            }
        }
        Ok(access)
    }

    /// Whether credentials are there that must not be sent to `origin`; the reason, for a person.
    pub(super) fn forbids(&self, origin: &Origin) -> Option<String> {
        if self.authorization.is_none() && self.identity.is_none() {
            return None;
        }
        if !origin.https {
            return Some("credentials are sent over https only".to_owned());
        }
        let listed = self.origins.contains(origin);
        (!listed).then(|| format!("the Secret's annotation {ORIGINS_ANNOTATION} does not list {origin}"))
    }

    fn credentials(&mut self, name: &str, secret: &Value) -> Result<(), AccessError> {
        let unusable = |why: String| AccessError::Unusable { kind: "Secret", name: name.to_owned(), why };
        if secret.get("type").and_then(Value::as_str) != Some(SECRET_TYPE) {
            return Err(unusable(format!("its type must be {SECRET_TYPE}")));
        }
        let listed = secret.pointer("/metadata/annotations").and_then(|all| all.get(ORIGINS_ANNOTATION));
        for text in listed.and_then(Value::as_str).unwrap_or_default().split([' ', ',', '\n']).filter(|t| !t.is_empty())
        {
            let origin = Origin::of(text).filter(|origin| origin.https);
            self.origins.push(
                origin.ok_or_else(|| unusable(format!("{ORIGINS_ANNOTATION} lists what is no https://HOST:PORT")))?,
            );
        }
        if self.origins.is_empty() {
            let why = format!(
                "annotate it with {ORIGINS_ANNOTATION}: the servers it is for, such as https://prometheus.example:9090"
            );
            return Err(unusable(why));
        }
        let value =
            |key: &'static str| text_of(secret, "data", key).map_err(|why| unusable(format!("its key {key} {why}")));
        let header = |text: String| {
            let mut header = HeaderValue::try_from(text)
                .map_err(|_| unusable("a value has characters that no header can have".into()))?;
            header.set_sensitive(true);
            Ok(header)
        };
        if let Some(token) = value("token")? {
            self.authorization = Some(header(format!("Bearer {}", token.trim()))?);
        } else if let (Some(user), Some(password)) = (value("username")?, value("password")?) {
            self.authorization = Some(header(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))?);
        }
        if let (Some(certificate), Some(key)) = (value("tls.crt")?, value("tls.key")?) {
            let chain =
                certificates(&certificate).ok_or_else(|| unusable("its key tls.crt holds no certificate".into()))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| unusable("its key tls.key holds no private key".into()))?;
            self.identity = Some(Arc::new((chain, key)));
        }
        if self.authorization.is_none() && self.identity.is_none() {
            return Err(unusable("it needs token, or username and password, or tls.crt and tls.key".into()));
        }
        Ok(())
    }

    fn authority(&mut self, kind: &'static str, name: &str, object: &Value) -> Result<(), AccessError> {
        let unusable = |why: &str| AccessError::Unusable { kind, name: name.to_owned(), why: why.to_owned() };
        let text = if kind == "Secret" {
            text_of(object, "data", "ca.crt").map_err(|why| unusable(&format!("its key ca.crt {why}")))?
        } else {
            object.pointer("/data/ca.crt").and_then(Value::as_str).map(ToOwned::to_owned)
        };
        let found = text.as_deref().and_then(certificates);
        self.authority = Some(Arc::new(found.ok_or_else(|| unusable("it needs certificates under ca.crt"))?));
        Ok(())
    }
}

fn authority_of(tls: &ServerTls) -> Option<(&'static str, &NameRef)> {
    match (&tls.ca_secret_ref, &tls.ca_config_map_ref) {
        (Some(secret), _) => Some(("Secret", secret)),
        (None, Some(map)) => Some(("ConfigMap", map)),
        (None, None) => None,
    }
}

async fn get<P: Port>(
    port: &P,
    identity: &Identity,
    kind: &'static str,
    namespace: &str,
    name: &str,
) -> Result<Value, AccessError> {
    let id = ObjectId {
        group: String::new(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    let read = port.live_get(identity, &id).await;
    let read = read.map_err(|why| AccessError::Unread { kind, name: name.to_owned(), why })?;
    read.ok_or_else(|| AccessError::Absent { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// A value of a Secret; the error says what is wrong and nothing of the value.
fn text_of(secret: &Value, field: &str, key: &str) -> Result<Option<String>, &'static str> {
    let Some(encoded) = secret.get(field).and_then(|data| data.get(key)) else { return Ok(None) };
    let bytes = STANDARD.decode(encoded.as_str().ok_or("is no text")?).map_err(|_| "is not base64")?;
    String::from_utf8(bytes).map(Some).map_err(|_| "is not UTF-8")
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.ok().filter(|certificates| !certificates.is_empty())
}
