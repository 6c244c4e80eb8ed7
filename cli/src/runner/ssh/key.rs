//! The key with which the runner logs in.

use russh::keys::{Algorithm, Error, PrivateKey, PublicKey, decode_secret_key};

/// What helps with a key that cannot be used.
const MAKE_ANOTHER: &str = "make one with `ssh-keygen -t ed25519 -N ''`, put its private half into the Secret, and its public half into authorized_keys of the user at the server";

/// Reads a private key, in the form of OpenSSH or PEM.
///
/// # Errors
/// It cannot be used: why, and what to do.
pub(super) fn decode(text: &str) -> Result<PrivateKey, String> {
    let unusable = |what: &str| Err(format!("ssh-privatekey of the repository's Secret {what}; {MAKE_ANOTHER}"));
    let encrypted = || unusable("is encrypted, and nobody is there who could type its passphrase");
    // In PEM it stands in the first lines.
    if text.contains("ENCRYPTED") {
        return encrypted();
    }
    match decode_secret_key(text, None) {
        Ok(key) if matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. }) => Ok(key),
        Ok(key) => unusable(&format!("is a key of type {}, and only ed25519 and ecdsa are supported", key.algorithm())),
        Err(Error::KeyIsEncrypted) => encrypted(),
        Err(Error::UnsupportedKeyType { .. } | Error::UnknownAlgorithm(_)) => {
            unusable("is an RSA key or one of another type, and only ed25519 and ecdsa are supported")
        }
        Err(error) => unusable(&format!("cannot be read ({error})")),
    }
}

/// The line for `authorized_keys`, without the comment, which may name a person.
pub(super) fn public_line(key: &PrivateKey) -> String {
    let public = PublicKey::new(key.public_key().key_data().clone(), "");
    public.to_openssh().map_or_else(|_| key.algorithm().to_string(), |line| line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use russh::keys::{EcdsaCurve, key::safe_rng, ssh_key::LineEnding};

    use super::*;

    /// With a passphrase, made by ssh-keygen for this test.
    const ENCRYPTED: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDwIokidA
Dcqf6H5T1Sanh+AAAAAQAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIH/h5/aOtUw6XZUi
3uhz8Aftpi4Vvg0kCBVOjSpiUwa3AAAAkK9JO3ntrCRiIwoBRi5cZZ6T1rA6vesktIJI1U
AL2thFfvGgver2/4EWm7WCjpsXYDNOl3UxhymDU/XzXPx0jdzFgzsUe8fQNPPuOuEVTUtu
0GcEDjUr+Jnaq4fCfteM65ISJSwuuqcrFNLwlDbHR24IxoPekwQDggl4PHcNS2UdgReJhw
SDMGGcRLJW1QA02A==
-----END OPENSSH PRIVATE KEY-----
";

    /// RSA, made by ssh-keygen for this test.
    const RSA: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAlwAAAAdzc2gtcn
NhAAAAAwEAAQAAAIEAykXuh4mnWH68HYAbrp5m9x9/wMqIu9AR4iooxyB3igt1+emHUcxM
G/flUXdpGqYa4f2tfmxG6UudrJXioxNPDMsxllDEx22Tr84bpwLpn/XFcxBpwrvzmCUQ5e
de65IQzqj5hbX4XbQjoKSrprrOlgRJJ7ft1wuLy51r9QHoUtEAAAH4uAvt2rgL7doAAAAH
c3NoLXJzYQAAAIEAykXuh4mnWH68HYAbrp5m9x9/wMqIu9AR4iooxyB3igt1+emHUcxMG/
flUXdpGqYa4f2tfmxG6UudrJXioxNPDMsxllDEx22Tr84bpwLpn/XFcxBpwrvzmCUQ5ede
65IQzqj5hbX4XbQjoKSrprrOlgRJJ7ft1wuLy51r9QHoUtEAAAADAQABAAAAgAy3SL+Mj9
CoZvsTyqm3m5F9kXJ1SRNFiVpGfDnIeLtc7RXA8Jjb1w0LEIeGkjzypE4AvJ9t/yc7cbYf
1heaZyWyBP2ik8d/pDd0qxkYdz8w39qgVS5IVb67+IH//0XoCxATiStHeHkR1O+Urtmf0t
ImaplPEVx3qfk9uUx4XvdhAAAAQHwPSoihJZxponKU5+dEG+nZXJ/+LVcd8uRZSUaVd1W/
0PTpeL+JYy0sGHqgaQstuZ+qsISB/gB5UtQaLnvnyDIAAABBAPl5WJNOY/N7/ROHArDbRL
cXFrRxJzpuOAxoWtQuKAfsRJ4EwXNPs2XzlUIwsZfTvEnaV51ufv3MxpNkzCD/Tc8AAABB
AM+QfuKn9+S8SkkWBgZ6PudAyLZz+J2aztcXBdL8sy2fzzma3hG2DZRmouVP0O6CbscP4u
Om5Csr01lndVOGHV8AAAABeAEC
-----END OPENSSH PRIVATE KEY-----
";

    /// RFC 8410, section 10.3.
    const PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

    #[test]
    fn ed25519_and_ecdsa_are_read_and_their_public_half_has_no_comment() {
        for algorithm in [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }] {
            let mut made = PrivateKey::random(&mut safe_rng(), algorithm.clone()).unwrap();
            made.set_comment("alice@laptop");
            let read = decode(&made.to_openssh(LineEnding::LF).unwrap()).unwrap();
            assert_eq!(read.public_key().key_data(), made.public_key().key_data());
            let line = public_line(&read);
            assert!(line.starts_with(algorithm.as_str()) && !line.contains("alice"), "{line}");
        }
        assert_eq!(decode(PKCS8).unwrap().algorithm(), Algorithm::Ed25519);
    }

    #[test]
    fn a_key_that_cannot_be_used_says_why_and_what_to_do() {
        let in_pem = RSA.replace("OPENSSH", "RSA");
        let encrypted_pem = PKCS8.replace("PRIVATE", "ENCRYPTED PRIVATE");
        for (text, expected) in [
            (ENCRYPTED, "is encrypted"),
            (encrypted_pem.as_str(), "is encrypted"),
            (RSA, "is a key of type ssh-rsa"),
            (in_pem.as_str(), "is an RSA key"),
            ("", "cannot be read"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "cannot be read"),
        ] {
            let why = decode(text).unwrap_err();
            assert!(why.contains(expected) && why.contains("ssh-keygen -t ed25519"), "{expected}: {why}");
            assert_eq!(why.lines().count(), 1, "restic tells each line by itself: {why}");
        }
    }
}
