//! `interlock install`: prints or applies everything the cluster needs.
//!
//! What is to be written is planned by pure functions ([`bundle`] and what it joins); only [`apply`] talks to a cluster.

mod apply;
mod bundle;
mod drills;
mod keys;
mod print;
mod rbac;
mod root;
mod url;
mod workload;

use std::{io::Write as _, process::ExitCode, str::FromStr};

use interlock_core::admission::webhooks::{self, Resource};
use jiff::Timestamp;
use kube::Client;

use bundle::{Bundle, Existing};
use root::{RootApprover, RootError};

/// Interlock's namespace.
pub const NAMESPACE: &str = "interlock-system";
/// Name of the controller's ServiceAccount, roles and Deployment.
pub const CONTROLLER: &str = "interlock-controller";
/// Name of the ServiceAccount under whose rights changes of the root System are carried out.
pub const ROOT_EXECUTOR: &str = "interlock-root-executor";
/// Name of the Service in front of the webhook server.
pub const WEBHOOK_SERVICE: &str = "interlock-webhook";

/// The controller's image of this release, where nobody chose another one.
const IMAGE: &str = concat!("interlock:", env!("CARGO_PKG_VERSION"));

/// Print or apply everything that Interlock needs in a cluster.
///
/// Without --apply, manifests are printed and no cluster is asked; they hold new private keys and are meant for a first
/// installation. With --apply, an installation is made or renewed: keys, certificates, a locked root System and images of your own registry stay.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct InstallArgs {
    /// Apply to the cluster (server-side, in order, waiting for the definitions) instead of printing.
    #[arg(long, conflicts_with_all = ["output", "without_keys"])]
    apply: bool,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,

    /// Leave keys, certificates and the root System out: what is left holds no secret and can lie in Git.
    #[arg(long)]
    without_keys: bool,

    /// Image of the controller. Default: with --apply the one that is installed, if it comes from a registry (its name has
    /// a /); else interlock:VERSION of this release.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Image that brings restic to backups whose policy and repository name none. Default: with --apply the one that was
    /// given before; else that of the release.
    #[arg(long, value_name = "IMAGE")]
    restic_image: Option<String>,

    /// Image that copies and restores PostgreSQL where a policy names none. Default: with --apply the one that was given
    /// before; else that of the release.
    #[arg(long, value_name = "IMAGE")]
    postgres_image: Option<String>,

    /// Register webhooks by this URL (`https://127.0.0.1:9443`) for a controller that runs outside the cluster;
    /// Deployment and Service are left out.
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    webhook_url: Option<String>,

    /// A person who votes on changes of Systems, Persons, policies and calendars: the user name that the API server
    /// reports, and a name for people. Give it for at least two people, better three: nobody votes on their own change.
    #[arg(long = "root-approver", value_name = "USER[=NAME]")]
    root_approvers: Vec<RootApprover>,

    /// Lock the root System: from then on only approved changes write Systems, Persons, policies and calendars.
    #[arg(long, conflicts_with = "without_keys")]
    lock: bool,

    /// A resource that every System governs beside the default, such as cert-manager.io/certificates, and that the
    /// controller may read. What one System governs beside it stands in its governs.add and needs no installation.
    #[arg(long = "govern", value_name = "GROUP/RESOURCE")]
    extra: Vec<Resource>,

    /// A user that stands for kubelets, such as kwok's: it may remove pods that are already being deleted.
    #[arg(long = "node-agent", value_name = "USER")]
    node_agents: Vec<String>,

    /// Print instead the Role and RoleBinding by which the owner of a ServiceAccount lets Interlock act as it.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["apply", "without_keys", "root_approvers", "lock"])]
    print_executor: Option<ExecutorName>,

    /// With --print-executor: print also a Role to start from for the executor itself, which writes what is governed.
    #[arg(long, requires = "print_executor")]
    with_role: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// YAML documents.
    Yaml,
    /// One JSON List.
    Json,
}

/// A ServiceAccount.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAccount<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// `NAMESPACE/NAME` of an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExecutorName {
    namespace: String,
    name: String,
}

impl FromStr for ExecutorName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |text: &str| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            !text.is_empty() && text.len() <= 253 && text.bytes().all(inner)
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && !namespace.contains('.') && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write NAMESPACE/NAME of a ServiceAccount".to_owned()),
        }
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    url::host_of(text)?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// Why an installation was not made.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The root System cannot be set up as asked.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A key that exists, or a certificate to be made, is unusable.
    #[error("Secret {NAMESPACE}/{secret}: {why}; it was left as it is")]
    Key {
        /// Name of the Secret.
        secret: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The system gave no random numbers.
    #[error("the operating system gave no random numbers")]
    Random,
    /// The API server refused a request or did not answer.
    #[error("{what}: {why}")]
    Api {
        /// What was being done.
        what: String,
        /// The API server's answer.
        why: String,
    },
    /// A definition was not accepted in time.
    #[error("customresourcedefinition {name} is not established after {seconds} s: {why}")]
    NotEstablished {
        /// Name of the definition.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// The last thing that the API server said about it.
        why: String,
    },
    /// What was to be printed could not be.
    #[error("cannot print: {0}")]
    Print(String),
    /// The command needs a cluster and got none.
    #[error("--apply needs a cluster")]
    NoCluster,
}

impl InstallArgs {
    /// Whether the command talks to a cluster. Printing does not.
    pub fn needs_cluster(&self) -> bool {
        self.apply
    }
}

/// Prints, or applies to `client`'s cluster, what `args` ask for; `now` is the time from which certificates count.
pub async fn execute(args: &InstallArgs, client: Option<Client>, now: Timestamp) -> Result<ExitCode, InstallError> {
    if let Some(executor) = &args.print_executor {
        let account = ServiceAccount { namespace: &executor.namespace, name: &executor.name };
        let mut objects = rbac::impersonation(&account).to_vec();
        if args.with_role {
            objects.extend(rbac::suggested_executor_role(&account, &args.extra));
        }
        write(&print::render(&objects, args.output)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.apply {
        let client = client.ok_or(InstallError::NoCluster)?;
        let existing = apply::observe(&client).await?;
        let bundle = Bundle::plan(args, &existing, now)?;
        apply::apply(&client, &bundle).await?;
        write(&bundle.notes())?;
    } else {
        let bundle = Bundle::plan(args, &Existing::default(), now)?;
        eprint!("{}", bundle.notes());
        write(&print::render(&bundle.objects(), args.output)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(text: &str) -> Result<(), InstallError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| InstallError::Print(error.to_string()))
}
