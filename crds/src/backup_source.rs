//! What a BackupPolicy copies.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{GroupKind, NameRef},
    rules,
};

/// What is copied: exactly one of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.files), has(self.postgres), has(self.command), has(self.objects)].filter(x, x).size() == 1").message("give exactly one of source.files, source.postgres, source.command and source.objects"))]
pub struct BackupSource {
    /// Files of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSource>,
    /// Databases of a PostgreSQL server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSource>,
    /// The output of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSource>,
    /// The Kubernetes objects of the System.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsSource>,
}

/// Files of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesSource {
    /// Name of the PersistentVolumeClaim, in this namespace. It is mounted read-only.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub persistent_volume_claim: String,
    /// Paths on the volume. Default: `/`.
    #[serde(default = "everything")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024), regex(pattern = rules::PATH)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub paths: Vec<String>,
    /// What is left out, as patterns of restic such as `*.tmp`. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Vec<String>,
    /// A volume without files is a good recovery point. Default: false, it fails: most often the wrong volume was mounted.
    #[serde(default)]
    pub allow_empty: bool,
}

fn everything() -> Vec<String> {
    vec!["/".to_owned()]
}

/// Databases of a PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.mode) && self.mode == 'Physical') == has(self.wal)").message("mode Physical needs wal (where the write-ahead log is spooled), and mode Logical has none"))]
#[x_kube(validation = Rule::new("!(has(self.mode) && self.mode == 'Physical' && has(self.databases))").message("mode Physical copies the whole server: leave out databases"))]
pub struct PostgresSource {
    /// Host name, most often that of a Service.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub host: String,
    /// Port. Default: 5432.
    #[serde(default = "postgres_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Secret with `username` and `password`, and `ca.crt` if sslMode verifies.
    pub secret_ref: NameRef,
    /// Databases, each dumped in one transaction; roles and tablespaces always come along. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_\-.]*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub databases: Vec<String>,
    /// Logical (dumps) or Physical (base copies and write-ahead log). Default: Logical.
    #[serde(default)]
    pub mode: PostgresMode,
    /// How the connection is secured. Default: VerifyFull.
    #[serde(default)]
    pub ssl_mode: SslMode,
    /// Image with the server's client programs, of the server's major version or newer. Default: the one that this release
    /// of Interlock was tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = rules::IMAGE))]
    pub image: Option<String>,
    /// The write-ahead log of mode Physical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalSpool>,
}

fn postgres_port() -> u16 {
    5432
}

/// How a PostgreSQL server is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PostgresMode {
    /// By pg_dump, one transaction a database.
    #[default]
    Logical,
    /// By pg_basebackup and a received write-ahead log, for recovery of any moment.
    Physical,
}

/// How a connection to PostgreSQL is secured, as libpq has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SslMode {
    /// Plain.
    Disable,
    /// Encrypted, to whoever answers.
    Require,
    /// Encrypted, the certificate is verified.
    VerifyCa,
    /// Encrypted, certificate and host name are verified.
    #[default]
    VerifyFull,
}

/// Where the write-ahead log is received. A schedule in mode Incremental copies what was completed since the last one: the
/// recovery point is never newer than that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalSpool {
    /// PersistentVolumeClaim for received segments, in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub persistent_volume_claim: String,
    /// Replication slot, made by Interlock. The server must limit it by `max_slot_wal_keep_size`, or a full spool would fill
    /// the server's disk. Default: interlock.
    #[serde(default = "slot")]
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::SQL_NAME))]
    pub slot: String,
}

fn slot() -> String {
    "interlock".to_owned()
}

/// The output of a command, copied as one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandSource {
    /// Image in which the command runs.
    #[schemars(length(min = 1, max = 512), regex(pattern = rules::IMAGE))]
    pub image: String,
    /// Command and its arguments, without a shell. What it writes to its standard output is copied; if it does not end with
    /// 0, nothing was copied.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Secret whose keys become environment variables of the command. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// Name of the file in the recovery point. Default: output.
    #[serde(default = "output")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._\-]*$"))]
    pub file_name: String,
}

fn output() -> String {
    "output".to_owned()
}

/// The Kubernetes objects of the System to which this namespace belongs, as manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsSource {
    /// Kinds beside the governed ones. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub add: Vec<GroupKind>,
    /// Governed kinds that are left out. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exclude: Vec<GroupKind>,
    /// Secrets of this namespace too, and not those of the System's other ones, which need a policy there; the repository encrypts
    /// them. Default: false.
    #[serde(default)]
    pub include_secrets: bool,
}
