//! The certificate of a drill: what an auditor needs, sealed by Interlock, verified with a key obtained elsewhere.
//!
//! Two files say the same. The JSON is canonical (RFC 8785), so one content has one text; the HTML holds that JSON and is
//! rendered from it alone. To verify, the JSON is written again and the HTML rendered again: a file that differs from that in
//! one byte is refused, wherever the byte stands. A later form of the certificate has a later version; this one is rendered as
//! it is for as long as it can be verified.

use interlock_crds::{CertificateRef, DrillRun, DrillVerdict};
use serde_json::{Value, json};

use super::{html, names, verdict::evidence};
use crate::{
    object::{Digest, canonical_json},
    seal::{Domain, KeyRing, SealKey},
};

/// The form of the certificate.
pub const CERTIFICATE_VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A certificate, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// `certificate.json`.
    pub json: String,
    /// `certificate.html`.
    pub html: String,
    /// What is recorded in the run.
    pub reference: CertificateRef,
}

/// Why there is no certificate, or none that can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No verdict has fallen.
    #[error("a run without verdict has no certificate")]
    NoVerdict,
    /// It cannot be written.
    #[error("the certificate cannot be written: {0}")]
    Write(String),
    /// The file is something else.
    #[error("this is no certificate of a drill: {0}")]
    Malformed(String),
    /// It is of another release.
    #[error("the certificate has version {0}, and this release reads version {CERTIFICATE_VERSION}")]
    Version(u64),
    /// Another key sealed it.
    #[error("it was sealed by key {found}, and the trusted key is {trusted}")]
    OtherKey {
        /// The key that the file names.
        found: String,
        /// The key that is trusted.
        trusted: String,
    },
    /// The seal does not hold.
    #[error("the seal does not hold: the certificate was changed after it was sealed, or was never sealed by this key")]
    Broken,
    /// The file is not as it was written.
    #[error("the file was changed: it is not what its own content is written as")]
    Changed,
}

/// What a certificate says about a run. `system` is the System of its namespace, `release` the version of Interlock.
///
/// # Errors
/// No verdict has fallen.
pub fn content(run: &DrillRun, system: &str, release: &str) -> Result<Value, CertificateError> {
    let status = run.status.as_ref().ok_or(CertificateError::NoVerdict)?;
    status.verdict.filter(|verdict| *verdict != DrillVerdict::Missed).ok_or(CertificateError::NoVerdict)?;
    let mut evidence = evidence(status);
    let mut fault = json!(run.spec.fault_injection);
    if let Some(pinned) = evidence.get_mut("pinned").and_then(Value::as_object_mut) {
        // The digests tell which specs they were; the specs hold queries, which are nobody's but the owner's.
        let spec = pinned.remove("spec").unwrap_or_default();
        pinned.remove("policySpec");
        if fault.is_null() {
            fault = spec.get("faultInjection").cloned().unwrap_or_default();
        }
    }
    Ok(json!({
        "version": CERTIFICATE_VERSION,
        "kind": "DrillCertificate",
        "release": release,
        "system": system,
        "run": {
            "name": run.metadata.name, "namespace": run.metadata.namespace, "uid": run.metadata.uid,
            "drill": run.spec.drill_ref.name, "trigger": run.spec.trigger, "slot": run.spec.slot,
            "requester": run.spec.requester,
        },
        "evidence": evidence,
        "evidenceDigest": status.evidence_digest,
        "faultInjection": fault,
    }))
}

/// Seals a content.
///
/// # Errors
/// It cannot be written.
pub fn seal(run: &str, content: &Value, key: &SealKey) -> Result<Sealed, CertificateError> {
    let signature =
        key.seal(Domain::Certificate, content).map_err(|error| CertificateError::Write(error.to_string()))?;
    let json = text(&json!({"certificate": content, "keyId": key.id(), "seal": signature}))?;
    let html = html::page(&json, content, key.id());
    let reference = CertificateRef {
        config_map: names::certificate(run),
        digest: Digest::of_bytes(json.as_bytes()).to_string(),
        key_id: key.id().to_owned(),
        signature,
    };
    Ok(Sealed { json, html, reference })
}

/// The ConfigMap with both files. It belongs to the run.
pub fn config_map(run: &super::objects::RunRef<'_>, sealed: &Sealed) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
        "metadata": {
            "name": sealed.reference.config_map, "namespace": run.namespace, "labels": run.labels("drill-certificate"),
            "ownerReferences": run.owner(),
        },
        "data": {"certificate.json": sealed.json, "certificate.html": sealed.html},
    })
}

/// Whether a ConfigMap holds the certificate that a run recorded.
pub fn is_stored(map: &Value, recorded: &CertificateRef) -> bool {
    let json = map.pointer("/data/certificate.json").and_then(Value::as_str);
    json.is_some_and(|json| Digest::of_bytes(json.as_bytes()) == *recorded.digest)
}

/// Verifies a file, JSON or HTML, with a public key of 32 bytes that was obtained elsewhere, and returns what it certifies.
///
/// # Errors
/// It cannot be believed; the sentence says why.
pub fn verify(file: &str, public: &[u8]) -> Result<Value, CertificateError> {
    if file.len() > MAX_BYTES {
        return Err(CertificateError::Malformed(format!("it is larger than {MAX_BYTES} bytes")));
    }
    let is_html = !file.starts_with('{');
    let json = if is_html {
        html::embedded(file).ok_or_else(|| CertificateError::Malformed("there is no certificate in it".into()))?
    } else {
        file
    };
    let envelope: Value = serde_json::from_str(json).map_err(|error| CertificateError::Malformed(error.to_string()))?;
    let part =
        |name: &str| envelope.get(name).ok_or_else(|| CertificateError::Malformed(format!("{name} is missing in it")));
    let (content, key, seal) = (part("certificate")?, part("keyId")?, part("seal")?);
    match content.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(CERTIFICATE_VERSION) => {}
        Some(version) => return Err(CertificateError::Version(version)),
        None => return Err(CertificateError::Malformed("it has no version".into())),
    }
    let mut ring = KeyRing::default();
    let trusted = ring.insert(public);
    let found = key.as_str().unwrap_or_default();
    if found != trusted {
        return Err(CertificateError::OtherKey { found: found.chars().take(64).collect(), trusted });
    }
    if !ring.verify(Domain::Certificate, content, &trusted, seal.as_str().unwrap_or_default()) {
        return Err(CertificateError::Broken);
    }
    // Of what was read: a member beside these three is not sealed.
    let written = text(&json!({"certificate": content, "keyId": key, "seal": seal}))?;
    let same = if is_html { html::page(&written, content, &trusted) == file } else { written == file };
    if same { Ok(content.clone()) } else { Err(CertificateError::Changed) }
}

fn text(envelope: &Value) -> Result<String, CertificateError> {
    let bytes = canonical_json(envelope).map_err(|error| CertificateError::Write(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| CertificateError::Write(error.to_string()))
}
