//! The cluster, the user and the namespace of a command.

use clap::Args;
use interlock_crds::ChangeRequest;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::CliError;

/// Options that every command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// Namespace of the change. Default: the one of the kubeconfig's context.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Kubeconfig file. Default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Context in the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Act as this user (needs the right to impersonate).
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as a member of this group.
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "as_user")]
    pub as_group: Vec<String>,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: crate::ui::Color,
}

/// A cluster to talk to.
#[derive(Clone)]
pub struct Context {
    /// The client, as the user of the kubeconfig or as `--as` says.
    pub client: Client,
    /// Namespace given with `-n`.
    pub namespace: Option<String>,
    default_namespace: String,
}

impl Globals {
    /// The configuration that the options select.
    pub async fn config(&self) -> Result<Config, CliError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let trouble =
            |error: &dyn std::fmt::Display| CliError::Usage(format!("the kubeconfig cannot be used: {error}"));
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|e| trouble(&e))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|e| trouble(&e))?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|e| trouble(&e))?,
            None => Config::infer().await.map_err(|e| trouble(&e))?,
        };
        if self.as_user.is_some() {
            config.auth_info.impersonate.clone_from(&self.as_user);
            config.auth_info.impersonate_groups = (!self.as_group.is_empty()).then(|| self.as_group.clone());
        }
        Ok(config)
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Context, CliError> {
        let mut config = self.config().await?;
        let default_namespace = config.default_namespace.clone();
        // A refusal of a webhook that is away must be told at once, not after minutes of trying again.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|e| CliError::Cluster(e.to_string()))?;
        Ok(Context { client, namespace: self.namespace.clone(), default_namespace })
    }
}

impl Context {
    /// The namespace of `-n`, or of the kubeconfig's context.
    pub fn namespace_or_default(&self) -> String {
        self.namespace.clone().unwrap_or_else(|| self.default_namespace.clone())
    }

    /// User name under which the API server knows the caller.
    pub async fn whoami(&self) -> Result<String, CliError> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        review
            .status
            .and_then(|s| s.user_info)
            .and_then(|u| u.username)
            .ok_or_else(|| CliError::Other("the API server does not say who you are".to_owned()))
    }

    /// Changes of the namespace.
    pub fn changes(&self) -> Api<ChangeRequest> {
        Api::namespaced(self.client.clone(), &self.namespace_or_default())
    }

    /// The change called `name`: `cr/NAME`, `changerequest/NAME` or `NAME`.
    pub async fn change(&self, name: &str) -> Result<ChangeRequest, CliError> {
        let name = change_name(name)?;
        let namespace = self.namespace_or_default();
        let found = self.changes().get_opt(&name).await?.ok_or_else(|| {
            CliError::NotFound(format!(
                "there is no ChangeRequest {name} in namespace {namespace}; name another with -n"
            ))
        })?;
        Ok(harmless(found))
    }
}

/// The object without characters that would act on a terminal: its texts were written by somebody whose change may be
/// about to be voted on.
pub fn harmless<T: Serialize + DeserializeOwned>(object: T) -> T {
    let Ok(mut value) = serde_json::to_value(&object) else { return object };
    disarm(&mut value);
    serde_json::from_value(value).unwrap_or(object)
}

fn disarm(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) if text.chars().any(acts) => {
            *text = text.chars().map(|c| if acts(c) { '\u{fffd}' } else { c }).collect();
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(disarm),
        serde_json::Value::Object(map) => map.values_mut().for_each(disarm),
        _ => {}
    }
}

/// Control characters, and those that change the direction of writing.
fn acts(character: char) -> bool {
    (character.is_control() && character != '\n' && character != '\t')
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The name in `cr/NAME`, `changerequest/NAME`, `changerequests/NAME` or `NAME`.
pub fn change_name(text: &str) -> Result<String, CliError> {
    match text.split_once('/') {
        None if !text.is_empty() => Ok(text.to_owned()),
        None => Err(CliError::Usage("the name of the change is empty; write cr/NAME".to_owned())),
        Some(("cr" | "changerequest" | "changerequests" | "changerequest.interlock.dev", name))
            if !name.is_empty() && !name.contains('/') =>
        {
            Ok(name.to_owned())
        }
        Some((kind, _)) => Err(CliError::Usage(format!("{kind} is not a kind of this command; write cr/NAME"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_with_or_without_its_kind() {
        for text in ["cr/a", "changerequest/a", "a"] {
            assert_eq!(change_name(text).unwrap(), "a");
        }
        for text in ["deploy/a", "cr/a/b", "", "cr/"] {
            assert!(matches!(change_name(text), Err(CliError::Usage(_))), "{text}");
        }
    }

    #[test]
    fn what_a_requester_writes_cannot_act_on_the_screen_of_an_approver() {
        let spec =
            serde_json::json!({"title": "a\u{1b}[2Jb\u{202e}c", "reason": "r", "requester": "alice", "content": {}});
        let change = ChangeRequest::new("x", serde_json::from_value(spec).unwrap());
        assert_eq!(harmless(change).spec.title, "a\u{fffd}[2Jb\u{fffd}c");
    }
}
