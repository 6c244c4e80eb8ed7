//! Which keys a server may show: those that a file of known hosts has for it, in the form of OpenSSH's.
//!
//! Nobody is there who could be asked, so a key that the file does not have is refused. The function of the SSH library is not
//! enough: it does not know `@revoked`, patterns, tabs and several keys of one type.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, parse_public_key_base64, ssh_key::public::KeyData};

use super::address::Address;

/// What the file says of one server.
#[derive(Clone, Debug)]
pub(super) struct KnownHosts {
    address: Address,
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    is_revoked: bool,
    key: KeyData,
}

/// What the file says of a key that the server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Known,
    Revoked,
    /// Another key of the same type is there.
    Another,
    Unknown,
}

impl KnownHosts {
    /// Reads the lines about a server. One that cannot be read says nothing, and so lets nobody pass.
    pub fn read(text: &str, address: &Address) -> Self {
        let name = address.known_as();
        Self { address: address.clone(), keys: text.lines().filter_map(|line| key(line, &name)).collect() }
    }

    /// Types of keys that can be verified, those first that the file has: a server that has several then shows one of them.
    pub fn preferred(&self) -> Vec<Algorithm> {
        let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
        let mut all = vec![Algorithm::Ed25519];
        all.extend(curves.map(|curve| Algorithm::Ecdsa { curve }));
        all.sort_by_key(|algorithm| !self.good().any(|known| known.algorithm() == *algorithm));
        all
    }

    /// Whether the server may show this key.
    ///
    /// # Errors
    /// It may not: why, and what to do.
    pub fn check(&self, shown: &PublicKey) -> Result<(), String> {
        let key = format!("{} key {}", shown.algorithm(), shown.fingerprint(HashAlg::Sha256));
        let name = self.address.known_as();
        let Address { host, port, .. } = &self.address;
        match self.judge(shown.key_data()) {
            Verdict::Known => Ok(()),
            Verdict::Revoked => Err(format!(
                "{name} shows the {key}, which known_hosts of the repository's Secret marks as @revoked; let its administrator make a new host key, and add the line of that"
            )),
            Verdict::Another => Err(format!(
                "{name} shows the {key}, and known_hosts of the repository's Secret has another one: somebody may stand between, or the server has a new key. Ask its administrator, and only if the fingerprint is the server's replace the line"
            )),
            Verdict::Unknown => Err(format!(
                "{name} shows the {key}, and known_hosts of the repository's Secret has no key of that type for it; if the fingerprint is the server's, add the line that `ssh-keyscan -p {port} {host}` prints"
            )),
        }
    }

    fn judge(&self, shown: &KeyData) -> Verdict {
        if self.keys.iter().any(|known| known.is_revoked && known.key == *shown) {
            return Verdict::Revoked;
        }
        if self.good().any(|known| known == shown) {
            return Verdict::Known;
        }
        let has_another = self.good().any(|known| known.algorithm() == shown.algorithm());
        if has_another { Verdict::Another } else { Verdict::Unknown }
    }

    fn good(&self) -> impl Iterator<Item = &KeyData> {
        self.keys.iter().filter(|known| !known.is_revoked).map(|known| &known.key)
    }
}

/// The key of a line, if it is about the server of this name. That of an authority is none that a server may show.
fn key(line: &str, name: &str) -> Option<Key> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    let (is_revoked, hosts) = match first {
        "@revoked" => (true, words.next()?),
        _ if first.starts_with(['@', '#']) => return None,
        _ => (false, first),
    };
    if !means(hosts, name) {
        return None;
    }
    // The type stands before the key, and once more in it.
    let key = parse_public_key_base64(words.nth(1)?).ok()?;
    Some(Key { is_revoked, key: key.key_data().clone() })
}

/// Whether the first field of a line means this server.
fn means(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return is_hash_of(hashed, &name.to_ascii_lowercase());
    }
    let mut is_meant = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(not) if is_like(not.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => is_meant |= is_like(pattern.as_bytes(), name.as_bytes()),
        }
    }
    is_meant
}

/// `SALT|HASH`, of HMAC-SHA1.
fn is_hash_of(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), name.as_bytes(), &hash).is_ok()
}

/// Whether a name fits a pattern with `*` and `?`.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|from| is_like(rest, &name[from..])),
        ([one, rest @ ..], [first, after @ ..]) => {
            (*one == b'?' || one.eq_ignore_ascii_case(first)) && is_like(rest, after)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use russh::keys::{PrivateKey, key::safe_rng};

    use super::*;

    fn made(algorithm: Algorithm) -> PublicKey {
        PrivateKey::random(&mut safe_rng(), algorithm).unwrap().public_key().clone()
    }

    fn ed25519() -> PublicKey {
        made(Algorithm::Ed25519)
    }

    fn ecdsa() -> PublicKey {
        made(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })
    }

    /// Type and key, as a line has them.
    fn text(key: &PublicKey) -> String {
        key.to_openssh().unwrap().trim_end().to_owned()
    }

    fn known(text: &str, repository: &str) -> KnownHosts {
        KnownHosts::read(text, &Address::parse(repository).unwrap())
    }

    fn judged(text: &str, repository: &str, shown: &PublicKey) -> Verdict {
        known(text, repository).judge(shown.key_data())
    }

    const VAULT: &str = "sftp:backup@vault:/srv";
    const AT_2222: &str = "sftp://backup@vault:2222//srv";

    #[test]
    fn a_key_counts_for_the_host_and_the_port_that_its_line_names() {
        let key = ed25519();
        let line = |hosts: &str| format!("# vault:22 SSH-2.0\n\n{hosts} {} backup server\n", text(&key));
        for (hosts, at_22, at_2222) in [
            ("vault", Verdict::Known, Verdict::Unknown),
            ("VAULT,10.0.0.7", Verdict::Known, Verdict::Unknown),
            ("[vault]:2222", Verdict::Unknown, Verdict::Known),
            ("*", Verdict::Known, Verdict::Known),
            ("va?lt", Verdict::Known, Verdict::Unknown),
            ("*,!vault", Verdict::Unknown, Verdict::Known),
            ("vault2", Verdict::Unknown, Verdict::Unknown),
            ("ault", Verdict::Unknown, Verdict::Unknown),
            ("#vault", Verdict::Unknown, Verdict::Unknown),
        ] {
            let found = (judged(&line(hosts), VAULT, &key), judged(&line(hosts), AT_2222, &key));
            assert_eq!(found, (at_22, at_2222), "{hosts}");
        }
        let with_tabs = format!("\tvault\t{}", text(&key).replace(' ', "\t"));
        assert_eq!(judged(&with_tabs, VAULT, &key), Verdict::Known);
    }

    #[test]
    fn hosts_may_be_hashed() {
        // As `ssh-keygen -H` writes vault and [vault]:2222.
        let key = ed25519();
        let hashed = |name: &str| {
            let salt = [7; 20];
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
            format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hmac::sign(&key, name.as_bytes())))
        };
        let line = |name: &str| format!("{} {}", hashed(name), text(&key));
        assert_eq!(judged(&line("vault"), VAULT, &key), Verdict::Known);
        assert_eq!(judged(&line("vault"), AT_2222, &key), Verdict::Unknown);
        assert_eq!(judged(&line("[vault]:2222"), AT_2222, &key), Verdict::Known);
        assert_eq!(judged(&line("[vault]:2222"), VAULT, &key), Verdict::Unknown);
        // From the tests of OpenSSH's format in the library: its host is example.com.
        let foreign = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {}", text(&key));
        assert_eq!(judged(&foreign, "sftp:backup@example.com:/srv", &key), Verdict::Known);
    }

    #[test]
    fn a_revoked_key_and_that_of_an_authority_let_nobody_pass() {
        let (key, other) = (ed25519(), ed25519());
        let both = format!("vault {}\n@revoked * {}\n", text(&key), text(&key));
        assert_eq!(judged(&both, VAULT, &key), Verdict::Revoked);
        assert!(known(&both, VAULT).check(&key).unwrap_err().contains("@revoked"));
        let replaced = format!("vault {}\n@revoked vault {}\n", text(&other), text(&key));
        assert_eq!(judged(&replaced, VAULT, &other), Verdict::Known);
        let authority = format!("@cert-authority vault {}\n@new-marker vault {}\n", text(&key), text(&key));
        assert_eq!(judged(&authority, VAULT, &key), Verdict::Unknown);
    }

    #[test]
    fn another_key_and_none_are_told_apart_with_what_to_do() {
        let (shown, other) = (ed25519(), ed25519());
        let fingerprint = shown.fingerprint(HashAlg::Sha256).to_string();
        let changed = known(&format!("vault {}", text(&other)), VAULT);
        let why = changed.check(&shown).unwrap_err();
        assert!(why.contains("has another one") && why.contains(&format!("ssh-ed25519 key {fingerprint}")), "{why}");
        assert!(why.starts_with("vault shows"), "{why}");
        for lines in [String::new(), format!("vault {}", text(&ecdsa())), "vault ssh-ed25519 AAAA!".to_owned()] {
            let why = known(&lines, AT_2222).check(&shown).unwrap_err();
            assert!(why.starts_with("[vault]:2222 shows") && why.contains(&fingerprint), "{why}");
            assert!(why.contains("`ssh-keyscan -p 2222 vault`"), "{why}");
        }
        // Several keys of one type are all good.
        let several = known(&format!("vault {}\nvault {}", text(&other), text(&shown)), VAULT);
        assert_eq!(several.check(&shown), Ok(()));
    }

    #[test]
    fn a_server_is_asked_for_a_key_that_the_file_has() {
        let of_ecdsa = known(&format!("vault {}", text(&ecdsa())), VAULT).preferred();
        assert_eq!(of_ecdsa[..2], [Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }, Algorithm::Ed25519]);
        assert_eq!(known("", VAULT).preferred()[0], Algorithm::Ed25519);
        assert_eq!(of_ecdsa.len(), 4, "the others can be verified too, if the file gets their lines");
    }
}
