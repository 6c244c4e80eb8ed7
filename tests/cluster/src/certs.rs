//! The cluster's certificates: two authorities, the serving certificates, one client certificate per identity.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use thiserror::Error;

/// `organizationName`, spelled as a custom type: rcgen keeps one value per type, and a user may be in two groups.
const SECOND_ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// Why a certificate could not be made.
#[derive(Debug, Error)]
pub enum CertsError {
    /// The library refused.
    #[error("cannot make the certificate of {subject}")]
    Generate {
        /// Whose certificate.
        subject: String,
        /// The library's reason.
        source: rcgen::Error,
    },
    /// A certificate of this library holds at most two organizations.
    #[error("{subject} is in {count} groups, and a test certificate holds at most two")]
    TooManyGroups {
        /// Whose certificate.
        subject: String,
        /// How many groups were asked for.
        count: usize,
    },
}

/// A certificate and its private key, both PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate_pem: String,
}

/// The key pair that signs service account tokens, both PEM.
pub(crate) struct TokenKeys {
    pub(crate) private_pem: String,
    pub(crate) public_pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self, CertsError> {
        let failed = |source| CertsError::Generate { subject: name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = subject(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// A certificate for a client that authenticates as `user`, member of `groups`.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, CertsError> {
        self.sign(user, subject(user, groups)?, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A certificate for a server that answers to these names (DNS names and IP addresses). It is valid for a client too,
    /// because etcd also calls itself with it.
    pub(crate) fn server(&self, name: &str, answers_to: &[&str]) -> Result<Identity, CertsError> {
        let mut params = subject(name, &[])?;
        let addressed =
            CertificateParams::new(answers_to.iter().map(|&address| address.to_owned()).collect::<Vec<_>>())
                .map_err(|source| CertsError::Generate { subject: name.to_owned(), source })?;
        params.subject_alt_names = addressed.subject_alt_names;
        self.sign(name, params, &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(
        &self,
        name: &str,
        mut params: CertificateParams,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Identity, CertsError> {
        let failed = |source| CertsError::Generate { subject: name.to_owned(), source };
        params.extended_key_usages = usages.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl TokenKeys {
    pub(crate) fn new() -> Result<Self, CertsError> {
        let key = KeyPair::generate()
            .map_err(|source| CertsError::Generate { subject: "service account tokens".to_owned(), source })?;
        Ok(Self { private_pem: key.serialize_pem(), public_pem: key.public_key_pem() })
    }
}

fn subject(name: &str, groups: &[&str]) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    match *groups {
        [] => {}
        [only] => params.distinguished_name.push(DnType::OrganizationName, only),
        [first, second] => {
            params.distinguished_name.push(DnType::OrganizationName, first);
            params.distinguished_name.push(DnType::CustomDnType(SECOND_ORGANIZATION.to_vec()), second);
        }
        _ => {
            return Err(CertsError::TooManyGroups { subject: name.to_owned(), count: groups.len() });
        }
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::{Authority, CertsError};
    use crate::users::USERS;

    #[test]
    fn every_user_gets_a_certificate() {
        let authority = Authority::new("test").unwrap();
        for user in USERS {
            let identity = authority.client(user.name, user.groups).unwrap();
            assert!(identity.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(identity.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        }
    }

    #[test]
    fn a_third_group_is_refused_rather_than_dropped() {
        let refused = Authority::new("test").unwrap().client("grace", &["a", "b", "c"]);
        assert!(matches!(refused, Err(CertsError::TooManyGroups { count: 3, .. })));
    }
}
