//! What the Secret holds, and what is due: pure functions over certificates and the time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

use super::{Authority, CertError, LEAF_LIFETIME, Leaf, PROPAGATION, after, certificates, der, two_thirds};

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const LEAF_CERTIFICATE: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next-ca.crt";
const NEXT_KEY: &str = "next-ca.key";
const NEXT_PUBLISHED: &str = "next-ca.published";

/// The names under which the webhook is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names, such as `interlock-webhook.interlock-system.svc`.
    pub dns: Vec<String>,
    /// Addresses, where the webhook is registered by URL.
    pub ips: Vec<IpAddr>,
}

impl Names {
    /// The names of a Service inside the cluster.
    pub fn of_service(name: &str, namespace: &str) -> Self {
        let dns = vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
        ];
        Self { dns, ips: Vec::new() }
    }
}

/// The next authority, not yet in use.
#[derive(Debug)]
pub struct Staged {
    /// The authority.
    pub authority: Authority,
    /// Since when every webhook configuration carries it; none until that was seen.
    pub published: Option<Timestamp>,
}

/// Everything the Secret holds.
#[derive(Debug)]
pub struct TlsMaterial {
    /// Signs leaves.
    pub authority: Authority,
    /// Authorities that signed leaves which may still be served, as PEM; without keys.
    pub retired: Vec<String>,
    /// What is served.
    pub leaf: Leaf,
    /// What will sign leaves next.
    pub staged: Option<Staged>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing before this instant.
    Wait(Timestamp),
    /// Issue a new leaf from the present authority.
    Leaf,
    /// Make a new authority and stage it.
    Stage,
    /// Record that every webhook configuration carries the staged authority.
    MarkPublished,
    /// Sign with the staged authority from now on.
    Promote,
}

impl TlsMaterial {
    /// A new authority with a leaf for `names`.
    pub fn new(now: Timestamp, names: &Names) -> Result<Self, CertError> {
        let authority = Authority::new(now)?;
        let leaf = authority.issue(&names.dns, &names.ips, now, after(now, LEAF_LIFETIME))?;
        Ok(Self { authority, retired: Vec::new(), leaf, staged: None })
    }

    /// The PEM bundle that every webhook configuration must carry: the present authority, the staged one, and the
    /// retired ones that are still valid.
    pub fn bundle(&self, now: Timestamp) -> String {
        let mut bundle = self.authority.certificate().to_owned();
        if let Some(staged) = &self.staged {
            bundle.push_str(staged.authority.certificate());
        }
        for retired in self.live_retired(now) {
            bundle.push_str(retired);
        }
        bundle
    }

    /// What is due at `now`. `published` says whether every webhook configuration was seen to carry [`Self::bundle`].
    pub fn due(&self, now: Timestamp, published: bool) -> Renewal {
        // A leaf of the old authority is renewed also while the new one waits: no expiry depends on the rotation.
        let leaf_at = self.leaf.renew_at();
        let leaf_can_grow = self.leaf.not_after() < self.authority.not_after();
        if now >= leaf_at && leaf_can_grow {
            return Renewal::Leaf;
        }
        let leaf_next = if leaf_can_grow { leaf_at } else { self.leaf.not_after() };
        match &self.staged {
            None if now >= self.stage_at() => Renewal::Stage,
            None => Renewal::Wait(leaf_next.min(self.stage_at())),
            Some(Staged { published: None, .. }) if published => Renewal::MarkPublished,
            Some(Staged { published: None, .. }) => Renewal::Wait(leaf_next),
            Some(Staged { published: Some(since), .. }) => {
                let promote_at = after(*since, PROPAGATION);
                if now < promote_at {
                    Renewal::Wait(leaf_next.min(promote_at))
                } else if published {
                    Renewal::Promote
                } else {
                    Renewal::Wait(leaf_next)
                }
            }
        }
    }

    /// Carries out what is due.
    pub fn renewed(self, renewal: Renewal, now: Timestamp, names: &Names) -> Result<Self, CertError> {
        let issue = |authority: &Authority| authority.issue(&names.dns, &names.ips, now, after(now, LEAF_LIFETIME));
        Ok(match renewal {
            Renewal::Wait(_) => self,
            Renewal::Leaf => Self { leaf: issue(&self.authority)?, ..self },
            Renewal::Stage => {
                Self { staged: Some(Staged { authority: Authority::new(now)?, published: None }), ..self }
            }
            Renewal::MarkPublished => {
                Self { staged: self.staged.map(|staged| Staged { published: Some(now), ..staged }), ..self }
            }
            Renewal::Promote => match self.staged {
                None => self,
                Some(staged) => {
                    let mut retired: Vec<String> =
                        self.retired.into_iter().filter(|pem| ends(pem).is_some_and(|end| now < end)).collect();
                    retired.push(self.authority.certificate().to_owned());
                    Self { leaf: issue(&staged.authority)?, authority: staged.authority, retired, staged: None }
                }
            },
        })
    }

    /// The data of the Secret.
    pub fn secret_data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut trusted = self.authority.certificate().to_owned();
        self.retired.iter().for_each(|retired| trusted.push_str(retired));
        let mut data = BTreeMap::from([
            (CA_CERTIFICATE.to_owned(), trusted.into_bytes()),
            (CA_KEY.to_owned(), self.authority.key().as_bytes().to_vec()),
            (LEAF_CERTIFICATE.to_owned(), self.leaf.certificate().as_bytes().to_vec()),
            (LEAF_KEY.to_owned(), self.leaf.key().as_bytes().to_vec()),
        ]);
        if let Some(staged) = &self.staged {
            data.insert(NEXT_CERTIFICATE.to_owned(), staged.authority.certificate().as_bytes().to_vec());
            data.insert(NEXT_KEY.to_owned(), staged.authority.key().as_bytes().to_vec());
            if let Some(since) = staged.published {
                data.insert(NEXT_PUBLISHED.to_owned(), since.to_string().into_bytes());
            }
        }
        data
    }

    /// What a Secret's data hold.
    pub fn from_secret_data(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, CertError> {
        let text = |key: &str| match data.get(key) {
            None => Err(CertError::unreadable(key, "it is missing")),
            Some(bytes) => std::str::from_utf8(bytes).map_err(|_| CertError::unreadable(key, "it is no text")),
        };
        let trusted = text(CA_CERTIFICATE)?;
        let authority = Authority::from_pem(trusted, text(CA_KEY)?)?;
        let retired = certificates(CA_CERTIFICATE, trusted)?.iter().skip(1).map(encode).collect();
        let leaf = Leaf::from_pem(text(LEAF_CERTIFICATE)?, text(LEAF_KEY)?)?;
        let staged = if data.contains_key(NEXT_CERTIFICATE) {
            let published = if data.contains_key(NEXT_PUBLISHED) {
                let since = text(NEXT_PUBLISHED)?.parse();
                Some(since.map_err(|error| CertError::unreadable(NEXT_PUBLISHED, error))?)
            } else {
                None
            };
            Some(Staged { authority: Authority::from_pem(text(NEXT_CERTIFICATE)?, text(NEXT_KEY)?)?, published })
        } else {
            None
        };
        Ok(Self { authority, retired, leaf, staged })
    }

    /// A new authority is due after two thirds of the present one's life, and in any case while two leaves still fit.
    fn stage_at(&self) -> Timestamp {
        let not_after = self.authority.not_after;
        let two_leaves = SignedDuration::from_secs(LEAF_LIFETIME.as_secs() * 2);
        two_thirds(self.authority.not_before, not_after).min(not_after.checked_sub(two_leaves).unwrap_or(not_after))
    }

    fn live_retired(&self, now: Timestamp) -> impl Iterator<Item = &String> {
        self.retired.iter().filter(move |pem| ends(pem).is_some_and(|end| now < end))
    }
}

/// Whether a `caBundle` carries every certificate of `wanted`, in any order.
pub fn trusts(ca_bundle: &[u8], wanted: &str) -> bool {
    let Ok(Ok(present)) = std::str::from_utf8(ca_bundle).map(|text| certificates("caBundle", text)) else {
        return false;
    };
    certificates("bundle", wanted)
        .is_ok_and(|wanted| !wanted.is_empty() && wanted.iter().all(|certificate| present.contains(certificate)))
}

/// A certificate as PEM, in the one form in which bundles are compared.
pub(super) fn encode(certificate: &CertificateDer<'_>) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in BASE64.encode(certificate).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn ends(pem: &str) -> Option<Timestamp> {
    let certificate = certificates(CA_CERTIFICATE, pem).ok()?.into_iter().next()?;
    der::validity(&certificate).ok().map(|(_, end)| end)
}
