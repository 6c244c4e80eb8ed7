//! Pieces that several kinds share.

use std::{borrow::Cow, fmt, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de};

use crate::rules;

/// A length of time, written as a whole number and one unit: `90s`, `10m`, `4h` or `35d` (a day is 86,400 s).
///
/// CEL's `duration()` knows no `d`, and Go's notation allows values nobody means; so this is a string type of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    seconds: i64,
}

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a length of time: write a whole number and one of s, m, h, d, such as 90s, 10m, 4h or 35d")]
pub struct DurationError {
    text: String,
}

impl Duration {
    /// A length of `seconds`; negative values become zero.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds: if seconds < 0 { 0 } else { seconds } }
    }

    /// The length in seconds.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// The same length for arithmetic on instants.
    pub fn signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(self.seconds)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || DurationError { text: text.chars().take(40).collect() };
        let unit = text.chars().last().ok_or_else(refuse)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(refuse()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let number: i64 = digits.parse().map_err(|_| refuse())?;
        Ok(Self { seconds: number * factor })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.seconds;
        match () {
            () if s > 0 && s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            () if s > 0 && s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            () if s > 0 && s % 60 == 0 => write!(f, "{}m", s / 60),
            () => write!(f, "{s}s"),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": rules::DURATION, "maxLength": 10 })
    }
}

/// A text in the languages in which people read it; at least one must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.en) || has(self.zh)").message("give displayName in en, zh or both"))]
pub struct LocalizedText {
    /// English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub en: Option<String>,
    /// Chinese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub zh: Option<String>,
}

/// A kind of objects, in any of its versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupKind {
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = rules::API_GROUP))]
    pub group: String,
    /// Kind, such as `Deployment`.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::KIND))]
    pub kind: String,
}

/// A reference by name to a cluster-scoped object, or to one in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
}

/// A reference to an object in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedRef {
    /// Namespace of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
}

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Namespace of the ServiceAccount.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub namespace: String,
    /// Name of the ServiceAccount.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
}

impl ServiceAccountRef {
    /// The user name under which the API server knows the ServiceAccount.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// Priority of an incident; P0 is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Priority {
    P0,
    P1,
    P2,
    P3,
    P4,
}

/// Risk of a change, computed from listed factors; a requester may raise it, never lower it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum RiskLevel {
    #[default]
    Low,
    Medium,
    High,
    Critical,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// One claim that the API server's authenticator reported about a user (`userInfo.extra`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Key of the claim.
    #[schemars(length(max = 253))]
    pub key: String,
    /// Values of the claim.
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub values: Vec<String>,
}

/// Who wrote an object, as the API server authenticated them. Written and sealed by Interlock's mutating webhook;
/// whatever a user writes here is replaced. An object without a valid seal never counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// Authenticated user name.
    #[schemars(length(max = 1024))]
    pub user: String,
    /// Groups that the API server reported at this moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub groups: Vec<String>,
    /// Claims that the API server reported at this moment, such as the authentication method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub claims: Vec<Claim>,
    /// When the webhook saw the request (clock of the API server).
    pub time: Time,
    /// Uid of the admission request; seen once only.
    #[schemars(length(max = 64))]
    pub request_uid: String,
    /// Identifies the key that made the seal.
    #[schemars(length(max = 64))]
    pub key_id: String,
    /// Ed25519 signature over the rest of the object's spec, its name and namespace; base64.
    #[schemars(length(max = 128))]
    pub seal: String,
}
