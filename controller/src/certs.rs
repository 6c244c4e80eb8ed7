//! The webhook's certificates: an own authority, leaves that are renewed in time, and their rotation.
//!
//! Everything lies in one Secret, which all replicas read and any of them renews; the Secret's `resourceVersion` lets
//! one win. The API server trusts what the webhook configurations carry as `caBundle`. So a new authority is first
//! *staged*: stored and published beside the old one. Only when every configuration has carried it for
//! [`PROPAGATION`] are leaves issued from it. No certificate is ever served that the API server might not trust yet,
//! and by construction no leaf outlives its authority.

mod der;
mod fresh;
mod kube_store;
mod material;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use fresh::{CertStore, Fresh, Stored, keep_fresh, load_or_create, tell};
pub use kube_store::KubeCertStore;
pub use material::{Names, Renewal, Staged, TlsMaterial, trusts};

/// For how long an authority is valid.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// For how long a leaf is valid.
pub const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Certificates are valid from this long before they were made, for clocks that are behind.
pub const BACKDATED: SignedDuration = SignedDuration::from_hours(1);
/// How long a published authority waits before leaves are issued from it: the API servers learn of it by a watch.
pub const PROPAGATION: SignedDuration = SignedDuration::from_mins(10);

/// Why certificates cannot be made, read or stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// A certificate or key could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(String),
    /// What was read is no certificate or key.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// Such as `tls.crt`.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else stored certificates meanwhile.
    #[error("somebody else stored certificates meanwhile")]
    Conflict,
    /// The store did not answer, or refused.
    #[error("{0}")]
    Unavailable(String),
    /// The time is not known, so that no validity can be set or judged.
    #[error("the API server's time is not known yet")]
    NoTime,
}

impl CertError {
    fn make(error: &rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }

    fn unreadable(what: &str, why: impl fmt::Display) -> Self {
        Self::Unreadable { what: what.to_owned(), why: why.to_string() }
    }
}

/// Makes ring the process's provider of cryptography, once. Safe to call again.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A certificate authority of Interlock's own.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// A server's certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    certificate: String,
    key: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority, valid for ten years from `now`.
    pub fn new(now: Timestamp) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(|error| CertError::make(&error))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("Interlock webhook authority {}", now.strftime("%Y-%m-%d")));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, before(now), after(now, AUTHORITY_LIFETIME));
        let certificate = params.self_signed(&key).map_err(|error| CertError::make(&error))?.pem();
        Self::from_pem(&certificate, &key.serialize_pem())
    }

    /// An authority that was stored. Of several certificates the first is meant.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CertError> {
        let der = first_certificate("ca.crt", certificate)?;
        let (not_before, not_after) = der::validity(&der).map_err(|why| CertError::unreadable("ca.crt", why))?;
        let pair = KeyPair::from_pem(key).map_err(|error| CertError::unreadable("ca.key", error))?;
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|error| CertError::unreadable("ca.crt", error))?;
        Ok(Self { certificate: material::encode(&der), key: key.to_owned(), issuer, not_before, not_after })
    }

    /// A certificate for a server of these names, valid until `not_after` or the end of this authority, whichever
    /// comes first.
    pub fn issue(
        &self,
        dns: &[String],
        ips: &[IpAddr],
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<Leaf, CertError> {
        let key = KeyPair::generate().map_err(|error| CertError::make(&error))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(dns.first().map_or("interlock-webhook", String::as_str));
        for host in dns {
            let host = Ia5String::from_str(host).map_err(|error| CertError::make(&error))?;
            params.subject_alt_names.push(SanType::DnsName(host));
        }
        params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, before(now).max(self.not_before), not_after.min(self.not_after));
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| CertError::make(&error))?.pem();
        Leaf::from_pem(&certificate, &key.serialize_pem())
    }

    /// The certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The end of its validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl Leaf {
    /// A certificate that was stored.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CertError> {
        let der = first_certificate("tls.crt", certificate)?;
        let (not_before, not_after) = der::validity(&der).map_err(|why| CertError::unreadable("tls.crt", why))?;
        KeyPair::from_pem(key).map_err(|error| CertError::unreadable("tls.key", error))?;
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), not_before, not_after })
    }

    /// The certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The end of its validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// When two thirds of its lifetime are over.
    pub fn renew_at(&self) -> Timestamp {
        two_thirds(self.not_before, self.not_after)
    }

    /// Whether it is valid at `now`.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// What the TLS listener serves with this certificate; the provider is stated, not taken from the process.
pub fn server_config(leaf: &Leaf) -> Result<Arc<ServerConfig>, CertError> {
    let chain = certificates("tls.crt", leaf.certificate())?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key().as_bytes())
        .map_err(|error| CertError::unreadable("tls.key", error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| CertError::Make(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| CertError::Make(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, CertError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| CertError::unreadable(what, error))
}

fn first_certificate(what: &str, pem: &str) -> Result<CertificateDer<'static>, CertError> {
    certificates(what, pem)?.into_iter().next().ok_or_else(|| CertError::unreadable(what, "it holds no certificate"))
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "interlock.dev");
    // The common name is bounded to 64 characters; the names that count are the alternative ones.
    name.push(DnType::CommonName, common.chars().take(64).collect::<String>());
    name
}

fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Timestamp| std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = epoch + seconds(not_before);
    params.not_after = epoch + seconds(not_after);
}

fn before(now: Timestamp) -> Timestamp {
    now.checked_sub(BACKDATED).unwrap_or(now)
}

fn after(now: Timestamp, lifetime: SignedDuration) -> Timestamp {
    now.checked_add(lifetime).unwrap_or(now)
}

fn two_thirds(from: Timestamp, until: Timestamp) -> Timestamp {
    from.checked_add(from.duration_until(until) / 3 * 2).unwrap_or(until)
}

#[cfg(test)]
mod tests;
