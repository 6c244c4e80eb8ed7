//! Seals: Ed25519 signatures by which Interlock recognises what it recorded itself.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    digest::{Context, SHA256},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde::Serialize;

/// What a seal is about; part of what is signed, so that a seal of one kind is worthless for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// An Approval.
    Approval,
    /// Evidence.
    Evidence,
    /// An Action.
    Action,
    /// A pinned base.
    Base,
    /// A run record.
    Run,
    /// The end of a change.
    Finish,
    /// The certificate of a drill.
    Certificate,
}

impl Domain {
    const fn tag(self) -> &'static str {
        match self {
            Self::Approval => "interlock.dev/v1 approval",
            Self::Evidence => "interlock.dev/v1 evidence",
            Self::Action => "interlock.dev/v1 action",
            Self::Base => "interlock.dev/v1 base",
            Self::Run => "interlock.dev/v1 run",
            Self::Finish => "interlock.dev/v1 finish",
            Self::Certificate => "interlock.dev/v1 drill-certificate",
        }
    }
}

/// The private key of an installation.
pub struct SealKey {
    pair: Ed25519KeyPair,
    id: String,
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The seed has the wrong length.
    #[error("the seed of a seal key has 32 bytes, this one has {0}")]
    Seed(usize),
    /// What is to be sealed has no canonical form.
    #[error("what is to be sealed has no canonical JSON: {0}")]
    Canonical(String),
}

impl SealKey {
    /// The key of a 32-byte seed.
    pub fn from_seed(seed: &[u8]) -> Result<Self, SealError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SealError::Seed(seed.len()))?;
        let id = key_id(pair.public_key().as_ref());
        Ok(Self { pair, id })
    }

    /// First 16 hexadecimal digits of the SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Seals `payload`; base64.
    pub fn seal(&self, domain: Domain, payload: &impl Serialize) -> Result<String, SealError> {
        Ok(BASE64.encode(self.pair.sign(&message(domain, payload)?).as_ref()))
    }
}

/// Public keys by id: the present one and earlier ones whose seals still count.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: BTreeMap<String, Vec<u8>>,
    genuine: Arc<Genuine>,
}

/// Most seals in each half of [`Genuine`].
const REMEMBERED: usize = 4096;

/// Seals that were found genuine, by the SHA-256 of key, seal and message: each pass over a change meets the same ones.
/// When the younger half is full, the older one is forgotten.
#[derive(Debug, Default)]
struct Genuine(Mutex<[HashSet<[u8; 32]>; 2]>);

impl Genuine {
    fn knows(&self, seal: &[u8; 32]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|half| half.contains(seal))
    }

    fn remember(&self, seal: [u8; 32]) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *halves;
        if young.len() >= REMEMBERED {
            *old = mem::take(young);
        }
        young.insert(seal);
    }
}

impl KeyRing {
    /// Adds a public key of 32 bytes and returns its id.
    pub fn insert(&mut self, public: &[u8]) -> String {
        let id = key_id(public);
        self.keys.insert(id.clone(), public.to_vec());
        id
    }

    /// Whether `seal` was made over `payload` by the key `id` of this ring.
    pub fn verify(&self, domain: Domain, payload: &impl Serialize, id: &str, seal: &str) -> bool {
        let Some(key) = self.keys.get(id) else {
            return false;
        };
        self.check(domain, payload, key, seal)
    }

    /// Whether `seal` was made over `payload` by any key of this ring.
    pub fn verify_any(&self, domain: Domain, payload: &impl Serialize, seal: &str) -> bool {
        self.keys.values().any(|key| self.check(domain, payload, key, seal))
    }

    fn check(&self, domain: Domain, payload: &impl Serialize, key: &[u8], seal: &str) -> bool {
        let (Ok(seal), Ok(message)) = (BASE64.decode(seal), message(domain, payload)) else {
            return false;
        };
        let print = fingerprint(key, &seal, &message);
        let is_genuine =
            self.genuine.knows(&print) || UnparsedPublicKey::new(&ED25519, key).verify(&message, &seal).is_ok();
        if is_genuine {
            self.genuine.remember(print);
        }
        is_genuine
    }
}

/// Each part is preceded by its length, so that no two triples read the same.
fn fingerprint(key: &[u8], seal: &[u8], message: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in [key, seal, message] {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    let mut print = [0; 32];
    print.copy_from_slice(hash.finish().as_ref());
    print
}

fn key_id(public: &[u8]) -> String {
    let hash = ring::digest::digest(&SHA256, public);
    hash.as_ref().iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn message(domain: Domain, payload: &impl Serialize) -> Result<Vec<u8>, SealError> {
    let mut bytes = domain.tag().as_bytes().to_vec();
    bytes.push(0);
    let json = serde_json_canonicalizer::to_vec(payload).map_err(|error| SealError::Canonical(error.to_string()))?;
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_seal_counts_for_its_payload_its_domain_and_its_key_only() {
        let key = SealKey::from_seed(&[7; 32]).unwrap();
        let other = SealKey::from_seed(&[8; 32]).unwrap();
        let mut ring = KeyRing::default();
        let id = ring.insert(key.public());
        assert_eq!(id, key.id());
        let seal = key.seal(Domain::Approval, &json!({"b": 1, "a": 2})).unwrap();
        assert!(ring.verify(Domain::Approval, &json!({"a": 2, "b": 1}), &id, &seal), "key order does not matter");
        assert!(!ring.verify(Domain::Approval, &json!({"a": 2, "b": 2}), &id, &seal));
        assert!(!ring.verify(Domain::Action, &json!({"a": 2, "b": 1}), &id, &seal));
        assert!(!ring.verify(Domain::Approval, &json!({"a": 2, "b": 1}), other.id(), &seal));
        let forged = other.seal(Domain::Approval, &json!({"a": 2, "b": 1})).unwrap();
        assert!(!ring.verify(Domain::Approval, &json!({"a": 2, "b": 1}), &id, &forged));
        assert!(!ring.verify(Domain::Approval, &json!({"a": 2, "b": 1}), &id, "not base64!"));
        assert_eq!(SealKey::from_seed(&[1; 5]).unwrap_err(), SealError::Seed(5));
    }
    #[test]
    fn what_was_found_genuine_is_known_again_and_nothing_else_is() {
        let key = SealKey::from_seed(&[7; 32]).unwrap();
        let mut ring = KeyRing::default();
        let id = ring.insert(key.public());
        let seal = |number: usize| key.seal(Domain::Approval, &number).unwrap();
        let known = |ring: &KeyRing| ring.genuine.0.lock().unwrap().iter().map(HashSet::len).sum::<usize>();
        let first = seal(0);
        for _ in 0..3 {
            assert!(ring.verify(Domain::Approval, &0, &id, &first));
            assert!(!ring.verify(Domain::Approval, &1, &id, &first));
            assert!(!ring.verify(Domain::Action, &0, &id, &first));
            assert_eq!(known(&ring), 1, "what is not genuine is not remembered");
        }
        for number in 0..3 * REMEMBERED {
            ring.genuine.remember(fingerprint(&[], &[], &number.to_le_bytes()));
            assert!(known(&ring) <= 2 * REMEMBERED);
        }
        assert!(ring.verify(Domain::Approval, &0, &id, &first), "what was forgotten is verified anew");
        assert!(!ring.verify(Domain::Approval, &1, &id, &first));
    }
}
