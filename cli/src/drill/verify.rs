//! `drill verify`: whether a certificate can be believed, and what it says.

use std::{fs, io::Read as _, path::Path, process::ExitCode};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use interlock_core::drill::certificate::{CertificateError, verify};
use serde_json::Value;

use crate::{
    context::harmless,
    error::{CliError, exit},
    ui::{Ui, padded},
};

/// A certificate is smaller; so is a key.
const MOST_BYTES: u64 = 2 << 20;
/// What stands before the 32 bytes of an Ed25519 key in PEM.
const PEM_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const LABEL: usize = 16;

/// What is verified, and by what.
///
/// Exit code 0: it is genuine, and the drill passed; 5: it is genuine, and the drill did not pass; 1: it cannot be believed.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The certificate, JSON or HTML.
    #[arg(value_name = "FILE")]
    file: String,
    /// The public key of the installation, obtained otherwise than together with the certificate: base64, or a file with it
    /// (base64, PEM or 32 bytes).
    #[arg(long, value_name = "KEY")]
    trust: String,
}

/// Verifies it.
pub fn execute(args: &VerifyArgs, ui: Ui) -> Result<ExitCode, CliError> {
    let public = key(&args.trust)?;
    let file = String::from_utf8(read(Path::new(&args.file))?)
        .map_err(|_| CliError::Other(format!("{} is no text, so it is no certificate", args.file)))?;
    let content = verify(&file, &public).map_err(|error| told(&args.file, &error))?;
    let content = harmless(content);
    tell(&content, ui);
    let passed = content["evidence"]["verdict"] == "Passed";
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(exit::NOT_SUCCEEDED) })
}

fn told(file: &str, error: &CertificateError) -> CliError {
    let advice = match error {
        CertificateError::OtherKey { .. } => {
            "; it is of another installation, or a forgery: ask the owner of the installation for its key and do not take it from the file"
        }
        CertificateError::Broken | CertificateError::Changed => "; believe nothing in it, and fetch it again",
        CertificateError::Version(_) => "; use a later release of interlock",
        CertificateError::Malformed(_) | CertificateError::NoVerdict | CertificateError::Write(_) => "",
    };
    CliError::Other(format!("{file} cannot be believed: {error}{advice}"))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |error: std::io::Error| CliError::Other(format!("{} cannot be read: {error}", path.display()));
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(failed)?.take(MOST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The 32 bytes of a key.
fn key(given: &str) -> Result<Vec<u8>, CliError> {
    let bytes = if Path::new(given).is_file() { read(Path::new(given))? } else { given.as_bytes().to_vec() };
    if bytes.len() == 32 {
        return Ok(bytes);
    }
    let text: String = String::from_utf8_lossy(&bytes).lines().filter(|line| !line.starts_with("-----")).collect();
    let decoded = BASE64.decode(text.trim()).ok();
    decoded
        .map(|bytes| bytes.strip_prefix(&PEM_PREFIX).map(<[u8]>::to_vec).unwrap_or(bytes))
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| {
            CliError::Usage(
                "--trust is neither a file with a public key nor one in base64: an Ed25519 key has 32 bytes; the owner of the installation finds it in the ConfigMap interlock-seal-public"
                    .to_owned(),
            )
        })
}

/// Who passed what, and when.
fn tell(content: &Value, ui: Ui) {
    let at = |path: &str| text(content.pointer(path).unwrap_or(&Value::Null));
    let line = |label: &str, said: &str| {
        if !said.is_empty() {
            ui.wrap(&format!("  {}{said}", padded(label, LABEL)), LABEL + 2);
        }
    };
    let verdict = at("/evidence/verdict");
    let painted = if verdict == "Passed" { ui.good(&verdict) } else { ui.bad(&verdict) };
    ui.line(&ui.good("genuine: sealed by the trusted key, and not a byte was changed"));
    let drill = ui.strong(&format!("drill {} of {}", at("/run/drill"), at("/system")));
    ui.wrap(&format!("{drill}  {painted} ({})", at("/evidence/reason")), 2);
    line("message", &at("/evidence/message"));
    let because = match (at("/run/slot"), at("/run/requester")) {
        (slot, _) if !slot.is_empty() => format!(", for the slot {slot}"),
        (_, requester) if !requester.is_empty() => format!(", asked for by {requester}"),
        _ => String::new(),
    };
    line("run", &format!("{}/{}{because}", at("/run/namespace"), at("/run/name")));
    line("fault", &at("/faultInjection/fault"));
    line("admitted", &at("/evidence/t0"));
    line("verdict fell", &at("/evidence/finishedAt"));
    line(
        "restored",
        &format!(
            "backup {} with data of {}, {} files, {} bytes",
            at("/evidence/chosen/backup"),
            at("/evidence/chosen/dataTime"),
            at("/evidence/chosen/files"),
            at("/evidence/chosen/bytes")
        ),
    );
    line("recovery time", &measured(&content["evidence"]["rto"]));
    let rpo = &content["evidence"]["rpo"];
    if !rpo.is_null() {
        let range = format!(" lost, between {} s and {} s", text(&rpo["atLeastSeconds"]), text(&rpo["atMostSeconds"]));
        line("recovery point", &measured(rpo).replacen(" s", &format!(" s{range}"), 1));
    }
    for record in content["evidence"]["validations"].as_array().into_iter().flatten() {
        let critical = if record["critical"] == true { "" } else { " (not critical)" };
        let result = [text(&record["number"]), text(&record["boolean"])].concat();
        let result = if result.is_empty() { result } else { format!(", result {result}") };
        let said = format!(
            "{}{critical} {}{result}: {}",
            text(&record["name"]),
            text(&record["verdict"]),
            text(&record["message"])
        );
        line("validation", &said);
    }
    line(
        "isolation",
        &format!(
            "{} was {} from outside and {} from inside",
            at("/evidence/isolation/target"),
            at("/evidence/isolation/outside"),
            at("/evidence/isolation/inside")
        ),
    );
    line("evidence", &at("/evidenceDigest"));
    line("release", &at("/release"));
}

fn measured(value: &Value) -> String {
    let Some(seconds) = value["seconds"].as_i64() else { return String::new() };
    let objective = value["objectiveSeconds"].as_i64().map(|seconds| format!(", objective {seconds} s"));
    let met = match value["met"].as_bool() {
        Some(true) => ", met",
        Some(false) => ", not met",
        None => ", not judged",
    };
    format!("{seconds} s{}{met}", objective.unwrap_or_default())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use interlock_core::{drill::certificate::seal, seal::SealKey};
    use serde_json::json;

    use super::*;
    use crate::ui::Color;

    fn certificate(verdict: &str) -> (String, String, SealKey) {
        let key = SealKey::from_seed(&[7; 32]).unwrap();
        let content = json!({
            "version": 1, "system": "teller", "release": "0.1.0", "run": {"name": "monthly-1", "namespace": "bank", "drill": "monthly"},
            "evidence": {"verdict": verdict, "reason": "Complete", "rto": {"seconds": 510, "objectiveSeconds": 900, "met": true}},
        });
        let sealed = seal("monthly-1", &content, &key).unwrap();
        (sealed.json, sealed.html, key)
    }

    fn verified(file: &str, trust: &str) -> Result<ExitCode, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate");
        fs::write(&path, file).unwrap();
        let args = VerifyArgs { file: path.display().to_string(), trust: trust.to_owned() };
        execute(&args, Ui::new(Color::Never)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_genuine_certificate_is_told_from_a_changed_one_and_one_of_another_key() {
        let (json, html, key) = certificate("Passed");
        let trust = BASE64.encode(key.public());
        assert_eq!([&json, &html].map(|file| verified(file, &trust)), [Ok(ExitCode::SUCCESS), Ok(ExitCode::SUCCESS)]);
        let changed = verified(&json.replace("510", "51"), &trust).unwrap_err();
        assert!(changed.contains("the seal does not hold") && changed.contains("believe nothing"), "{changed}");
        let shown = verified(&html.replacen("510 s", "51 s", 1), &trust).unwrap_err();
        assert!(shown.contains("the file was changed"), "{shown}");
        let other = BASE64.encode(SealKey::from_seed(&[8; 32]).unwrap().public());
        let other = verified(&json, &other).unwrap_err();
        assert!(other.contains(key.id()) && other.contains("another installation"), "{other}");
        assert!(verified("no certificate", &trust).unwrap_err().contains("this is no certificate"));
        let (failed, ..) = certificate("Failed");
        assert_eq!(verified(&failed, &trust), Ok(ExitCode::from(exit::NOT_SUCCEEDED)), "genuine, and no pass");
    }

    #[test]
    fn a_key_is_taken_as_text_file_pem_or_bytes() {
        let key = SealKey::from_seed(&[7; 32]).unwrap();
        let text = BASE64.encode(key.public());
        let pem = BASE64.encode([PEM_PREFIX.as_slice(), key.public()].concat());
        let folder = tempfile::tempdir().unwrap();
        let forms = [
            format!("{text}\n").into_bytes(),
            format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n").into_bytes(),
            key.public().to_vec(),
        ];
        for (number, form) in forms.iter().enumerate() {
            let path = folder.path().join(number.to_string());
            fs::write(&path, form).unwrap();
            assert_eq!(super::key(&path.display().to_string()).unwrap(), key.public(), "{number}");
        }
        assert_eq!(super::key(&text).unwrap(), key.public());
        for wrong in ["", "AAAA", "/no/such/file"] {
            assert!(matches!(super::key(wrong), Err(CliError::Usage(_))), "{wrong}");
        }
    }
}
