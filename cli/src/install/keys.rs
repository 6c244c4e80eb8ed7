//! The keys of an installation, and the Secrets in which they lie. What is there already is never made anew: with
//! another seal key every recorded vote would be void.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use interlock_controller::certs::{CertError, Names, TlsMaterial};
use interlock_core::seal::SealKey;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};

use super::{InstallError, NAMESPACE, webhooks::labels};

/// Secret with the seed of the seal key.
pub const SEAL: &str = "interlock-seal-key";
/// ConfigMap with the public half of the seal key.
pub const SEAL_PUBLIC: &str = "interlock-seal-public";
/// Secret with the key that values of staged Secrets are digested with.
pub const MAC: &str = "interlock-mac-key";
/// Secret with the certificates of the webhooks.
pub const TLS: &str = "interlock-webhook-tls";

/// The Secrets that an earlier installation left.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// [`SEAL`].
    pub seal: Option<Value>,
    /// [`MAC`].
    pub mac: Option<Value>,
    /// [`TLS`].
    pub tls: Option<Value>,
}

/// The keys of an installation.
pub struct Keys {
    /// Secrets and ConfigMap to write; what exists and stays is not among them.
    pub objects: Vec<Value>,
    /// Identifies the seal key.
    pub seal_id: String,
    /// The public half of the seal key, base64.
    pub seal_public: String,
    /// The certificate authority of the webhooks, PEM in base64.
    pub ca_bundle: String,
}

impl Keys {
    /// The keys that exist, and new ones in place of those that do not.
    pub fn prepare(existing: &Existing, names: &Names, now: Timestamp) -> Result<Self, InstallError> {
        let mut objects = Vec::new();

        let seed = match &existing.seal {
            Some(secret) => data(secret, "seed")?,
            None => random()?.to_vec(),
        };
        let key =
            SealKey::from_seed(&seed).map_err(|error| InstallError::Key { secret: SEAL, why: error.to_string() })?;
        let seal_public = BASE64.encode(key.public());
        if existing.seal.is_none() {
            objects.push(immutable(SEAL, &[("seed", &seed), ("key-id", key.id().as_bytes())]));
        }
        // Written again at each run: it follows from the seed. Immutable like the seed, so that the two cannot part.
        objects.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "namespace": NAMESPACE, "name": SEAL_PUBLIC, "labels": labels() },
            "immutable": true,
            "data": { key.id(): seal_public },
        }));

        if existing.mac.is_none() {
            let key = random()?;
            objects.push(immutable(MAC, &[("key", &key), ("key-id", mac_id(&key).as_bytes())]));
        }

        let (tls, ca_bundle) = certificates(existing.tls.as_ref(), names, now)?;
        objects.extend(tls);
        Ok(Self { objects, seal_id: key.id().to_owned(), seal_public, ca_bundle })
    }
}

/// The Secret of the certificates, unless there is one, and what the API server is to trust, in base64. From then on the
/// controller alone writes it: it renews, and issues another leaf when it is reached by another name.
fn certificates(
    existing: Option<&Value>,
    names: &Names,
    now: Timestamp,
) -> Result<(Option<Value>, String), InstallError> {
    let failed = |error: CertError| InstallError::Key { secret: TLS, why: error.to_string() };
    if let Some(secret) = existing {
        let keys = secret["data"].as_object().into_iter().flat_map(Map::keys);
        let stored: BTreeMap<_, _> =
            keys.map(|key| Ok((key.clone(), data(secret, key)?))).collect::<Result<_, InstallError>>()?;
        let material = TlsMaterial::from_secret_data(&stored).map_err(failed)?;
        return Ok((None, BASE64.encode(material.bundle(now))));
    }
    let material = TlsMaterial::new(now, names).map_err(failed)?;
    let made = material.secret_data();
    let made: Vec<_> = made.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    Ok((Some(secret(TLS, "kubernetes.io/tls", &made)), BASE64.encode(material.bundle(now))))
}

fn immutable(name: &str, data: &[(&str, &[u8])]) -> Value {
    let mut secret = secret(name, "Opaque", data);
    secret["immutable"] = json!(true);
    secret
}

fn secret(name: &str, type_: &str, data: &[(&str, &[u8])]) -> Value {
    let data: Map<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), json!(BASE64.encode(value)))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "namespace": NAMESPACE, "name": name, "labels": labels() },
        "type": type_, "data": data,
    })
}

fn data(secret: &Value, key: &str) -> Result<Vec<u8>, InstallError> {
    let name = match secret["metadata"]["name"].as_str() {
        Some(SEAL) => SEAL,
        Some(MAC) => MAC,
        _ => TLS,
    };
    let encoded = secret["data"][key].as_str().unwrap_or_default();
    match BASE64.decode(encoded) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(InstallError::Key { secret: name, why: format!("it has no data {key:?}") }),
    }
}

fn random() -> Result<[u8; 32], InstallError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| InstallError::Random)?;
    Ok(bytes)
}

/// Names the key without saying anything about it.
fn mac_id(key: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(b"interlock.dev/v1 mac key id\0");
    context.update(key);
    context.finish().as_ref().iter().take(8).fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T05:00:00Z".parse().unwrap()
    }

    fn names(host: &str) -> Names {
        let mut names = Names::of_service("interlock-webhook", "interlock-system");
        names.dns.push(host.to_owned());
        names
    }

    fn named<'a>(keys: &'a Keys, name: &str) -> Option<&'a Value> {
        keys.objects.iter().find(|object| object["metadata"]["name"] == name)
    }

    #[test]
    fn a_second_installation_keeps_every_key() {
        let first = Keys::prepare(&Existing::default(), &names("a"), now()).unwrap();
        for name in [SEAL, MAC] {
            assert_eq!(named(&first, name).unwrap()["immutable"], true, "{name}");
        }
        let existing = Existing {
            seal: named(&first, SEAL).cloned(),
            mac: named(&first, MAC).cloned(),
            tls: named(&first, TLS).cloned(),
        };
        let second = Keys::prepare(&existing, &names("a"), now()).unwrap();
        assert_eq!(second.seal_id, first.seal_id);
        assert_eq!(second.seal_public, first.seal_public);
        assert_eq!(second.ca_bundle, first.ca_bundle);
        let kinds: Vec<_> = second.objects.iter().map(|object| &object["kind"]).collect();
        assert_eq!(kinds, ["ConfigMap"], "no Secret is written again");
        let other = Keys::prepare(&Existing::default(), &names("a"), now()).unwrap();
        assert_ne!(other.seal_id, first.seal_id, "keys are random");
    }

    #[test]
    fn the_key_id_is_that_of_the_public_key() {
        let keys = Keys::prepare(&Existing::default(), &names("a"), now()).unwrap();
        let secret = named(&keys, SEAL).unwrap();
        let seed = BASE64.decode(secret["data"]["seed"].as_str().unwrap()).unwrap();
        assert_eq!(seed.len(), 32);
        assert_eq!(SealKey::from_seed(&seed).unwrap().id(), keys.seal_id);
        assert_eq!(BASE64.decode(secret["data"]["key-id"].as_str().unwrap()).unwrap(), keys.seal_id.as_bytes());
        assert_eq!(named(&keys, SEAL_PUBLIC).unwrap()["data"][&keys.seal_id], json!(keys.seal_public));
        let mac = named(&keys, MAC).unwrap();
        assert_eq!(BASE64.decode(mac["data"]["key"].as_str().unwrap()).unwrap().len(), 32);
        assert_eq!(BASE64.decode(mac["data"]["key-id"].as_str().unwrap()).unwrap().len(), 16);
    }

    #[test]
    fn a_broken_key_is_an_error_and_is_not_replaced() {
        let broken = json!({ "metadata": { "name": SEAL }, "data": { "seed": "YWJj" } });
        let error =
            Keys::prepare(&Existing { seal: Some(broken), ..Existing::default() }, &names("a"), now()).err().unwrap();
        assert!(error.to_string().contains("interlock-seal-key"), "{error}");
    }
}
