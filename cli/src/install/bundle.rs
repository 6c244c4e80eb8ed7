//! Everything an installation consists of, in the order in which it is applied.

use std::fmt::Write as _;

use interlock_controller::certs::Names;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    IMAGE, InstallArgs, InstallError, NAMESPACE, WEBHOOK_SERVICE, drills,
    keys::{self, Keys},
    rbac, root, url,
    webhooks::{self, Governed, Kinds, Target},
    workload,
};

/// What an earlier installation left in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// Its keys.
    pub keys: keys::Existing,
    /// Its root System.
    pub root: root::Existing,
    /// Its `ValidatingWebhookConfiguration`.
    pub validating: Option<Value>,
    /// Its Systems.
    pub systems: Vec<interlock_crds::SystemSpec>,
    /// How the cluster addresses the kinds that they name.
    pub kinds: Kinds,
    /// Its controller's Deployment.
    pub controller: Option<Value>,
}

/// Everything to be written.
pub struct Bundle {
    /// Namespace, definitions, rights, keys: nothing of it is guarded by a webhook.
    pub foundation: Vec<Value>,
    /// The root System, once its kinds are served. Before the webhooks: they fail closed, and no controller may run yet.
    pub root: Vec<Value>,
    /// The controller.
    pub controller: Vec<Value>,
    /// The webhooks, last.
    pub webhooks: Vec<Value>,
    notes: String,
}

impl Bundle {
    /// Plans what `args` ask for where `existing` is there already.
    pub fn plan(args: &InstallArgs, existing: &Existing, now: Timestamp) -> Result<Self, InstallError> {
        let mut notes = String::new();
        let mut foundation = vec![workload::namespace()];
        foundation.extend(definitions()?);
        foundation.extend(workload::service_accounts());
        let governed = governed(args, existing);
        foundation.extend(rbac::controller(&governed));
        foundation.extend(rbac::root_executor());
        foundation.extend(drills::drills());
        foundation.extend(rbac::people());

        let mut ca_bundle = None;
        let mut root = Vec::new();
        if args.without_keys {
            let _ = writeln!(
                notes,
                "left out: keys, certificates, caBundle and the root System; add them with: interlock install --apply"
            );
        } else {
            let keys = Keys::prepare(&existing.keys, &names(args)?, now)?;
            let _ = writeln!(notes, "seal key {}: {}", keys.seal_id, keys.seal_public);
            if !args.apply {
                let _ = writeln!(
                    notes,
                    "what is printed holds new private keys, for a first installation only: keep it secret, and renew with --apply\n\
                     kubectl does not know the kinds of a definition that it has just applied: apply it once more when the controller runs"
                );
            }
            foundation.extend(keys.objects);
            ca_bundle = Some(keys.ca_bundle);
            let plan = root::plan(&args.root_approvers, args.lock, &existing.root)?;
            let _ = notes.write_str(&describe(&plan));
            root = plan.objects;
        }

        let chosen = existing.controller.as_ref().map(workload::chosen).unwrap_or_default();
        let (target, controller) = match &args.webhook_url {
            Some(url) => (Target::Url(url.clone()), Vec::new()),
            None => (
                Target::Service {
                    namespace: NAMESPACE.to_owned(),
                    name: WEBHOOK_SERVICE.to_owned(),
                    port: workload::SERVICE_PORT,
                },
                workload::controller(&images(args, &chosen, &mut notes)).to_vec(),
            ),
        };
        let inputs = webhooks::Inputs {
            target,
            ca_bundle,
            governed,
            node_agents: args.node_agents.clone(),
            own_kinds: webhooks::own_kinds(),
        };
        Ok(Self { foundation, root, controller, webhooks: vec![inputs.mutating(), inputs.validating()], notes })
    }

    /// Everything, in order.
    pub fn objects(&self) -> Vec<Value> {
        [&self.foundation[..], &self.root, &self.controller, &self.webhooks].concat()
    }

    /// What a person should know, one line each.
    pub fn notes(&self) -> String {
        self.notes.clone()
    }
}

/// The images that are asked for, else those that were chosen for the installed controller, which is said.
fn images<'a>(args: &'a InstallArgs, chosen: &'a workload::Chosen, notes: &mut String) -> workload::Images<'a> {
    let mut image = |option: &str, asked: Option<&'a str>, chosen: Option<&'a str>| {
        if let (None, Some(stays)) = (asked, chosen) {
            let release =
                if option == "--image" { concat!("; this is release ", env!("CARGO_PKG_VERSION")) } else { "" };
            let _ =
                writeln!(notes, "{option} {stays} stays, as it is installed{release}; give {option} for another one");
        }
        asked.or(chosen)
    };
    workload::Images {
        controller: image("--image", args.image.as_deref(), chosen.controller.as_deref()).unwrap_or(IMAGE),
        restic: image("--restic-image", args.restic_image.as_deref(), chosen.restic.as_deref()),
        postgres: image("--postgres-image", args.postgres_image.as_deref(), chosen.postgres.as_deref()),
    }
}

/// The definitions of every kind.
fn definitions() -> Result<Vec<Value>, InstallError> {
    let render = |definition| {
        let mut value = serde_json::to_value(definition).map_err(|error| InstallError::Print(error.to_string()))?;
        value["metadata"]["labels"] = webhooks::labels();
        Ok(value)
    };
    interlock_crds::all().into_iter().map(render).collect()
}

/// What is governed beside the default: what is and was asked for, and what Systems name. The controller keeps the
/// latter in step; here it is for the rights to read it.
fn governed(args: &InstallArgs, existing: &Existing) -> Governed {
    let mut everywhere = existing.validating.as_ref().map(webhooks::everywhere).unwrap_or_default();
    everywhere.extend(args.extra.iter().cloned());
    Governed::of(everywhere, &existing.systems, &existing.kinds)
}

/// The names under which the API server calls the webhook server.
fn names(args: &InstallArgs) -> Result<Names, InstallError> {
    let mut names = Names::of_service(WEBHOOK_SERVICE, NAMESPACE);
    if let Some(url) = &args.webhook_url {
        let host = url::host_of(url).map_err(|why| InstallError::Key { secret: keys::TLS, why })?;
        match host.parse() {
            Ok(address) => names.ips.push(address),
            Err(_) => names.dns.push(host),
        }
    }
    Ok(names)
}

fn describe(plan: &root::Plan) -> String {
    let people = match plan.approvers {
        0 => "no root approver yet: add at least two with --root-approver USER[=NAME], then --lock".to_owned(),
        1 => "1 root approver: add another before --lock, as nobody may vote on their own change".to_owned(),
        2 => "2 root approvers, both of whom must vote: neither can request a change of the root System; a third would help"
            .to_owned(),
        many => format!("{many} root approvers, two of whom must vote"),
    };
    let state = if plan.locked {
        "the root System is locked: only approved changes write Systems, Persons, policies and calendars"
    } else {
        "the root System is not locked: whoever has the right in RBAC may write Systems, Persons, policies and calendars; lock it with --lock"
    };
    format!("{people}\n{state}\n")
}

/// Kind, namespace and name of `object`, for people.
pub fn describe_object(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// A List of `objects`, as kubectl reads it.
pub fn list(objects: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: InstallArgs,
    }

    fn args(words: &[&str]) -> InstallArgs {
        Command::parse_from(std::iter::once("install").chain(words.iter().copied())).args
    }

    fn plan(words: &[&str], existing: &Existing) -> Bundle {
        Bundle::plan(&args(words), existing, "2026-11-23T05:00:00Z".parse().unwrap()).unwrap()
    }

    fn kinds(objects: &[Value]) -> Vec<&str> {
        objects.iter().map(|object| object["kind"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_webhooks_come_last_and_the_root_system_before_them() {
        let bundle = plan(&["--root-approver", "a", "--root-approver", "b"], &Existing::default());
        let objects = bundle.objects();
        let kinds = kinds(&objects);
        let at = |kind: &str| kinds.iter().position(|found| *found == kind).unwrap();
        assert_eq!(at("Namespace"), 0);
        assert!(at("CustomResourceDefinition") < at("Person"));
        assert!(at("System") < at("MutatingWebhookConfiguration"));
        assert!(at("Secret") < at("Deployment") && at("Deployment") < at("MutatingWebhookConfiguration"));
        assert_eq!(kinds.last(), Some(&"ValidatingWebhookConfiguration"));
    }

    #[test]
    fn with_a_url_the_controller_runs_elsewhere() {
        let bundle = plan(&["--webhook-url", "https://127.0.0.1:9443/"], &Existing::default());
        assert!(bundle.controller.is_empty());
        let text = serde_json::to_string(&bundle.objects()).unwrap();
        assert!(text.contains("https://127.0.0.1:9443/validate/governed"));
        assert!(!kinds(&bundle.objects()).contains(&"Deployment"));
    }

    #[test]
    fn without_keys_nothing_secret_is_left() {
        let bundle = plan(&["--without-keys"], &Existing::default());
        let objects = bundle.objects();
        for kind in ["Secret", "ConfigMap", "System", "Person"] {
            assert!(!kinds(&objects).contains(&kind), "{kind}");
        }
        assert!(!serde_json::to_string(&objects).unwrap().contains("caBundle"));
    }

    #[test]
    fn installing_again_keeps_what_was_asked_for_and_what_systems_name() {
        let first = plan(&["--govern", "cert-manager.io/certificates"], &Existing::default());
        let system: interlock_crds::SystemSpec = serde_json::from_value(json!({
            "tier": "Medium", "namespaces": ["shop"], "policyRef": {"name": "shop"},
            "governs": {"add": [{"kind": "LimitRange"}]},
            "clusterObjects": [{"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "shop"}],
        }))
        .unwrap();
        let kind = |group: &str, kind: &str| interlock_crds::GroupKind { group: group.into(), kind: kind.into() };
        let served = |plural: &str, namespaced| interlock_core::port::Served { plural: plural.into(), namespaced };
        let existing = Existing {
            validating: first.webhooks.last().cloned(),
            systems: vec![system],
            kinds: Kinds::from([
                (kind("", "LimitRange"), served("limitranges", true)),
                (kind("scheduling.k8s.io", "PriorityClass"), served("priorityclasses", false)),
            ]),
            ..Existing::default()
        };
        let again = plan(&[], &existing);
        let webhooks = again.webhooks.last().unwrap();
        assert_eq!(
            webhooks["metadata"]["annotations"][webhooks::EVERYWHERE],
            "cert-manager.io/certificates",
            "what a System adds is not taken for --govern"
        );
        let text = webhooks.to_string();
        for resource in ["certificates", "limitranges", "priorityclasses"] {
            assert!(text.contains(&format!("\"{resource}\"")), "{resource}");
        }
        // And the controller may read it.
        let role = again.foundation.iter().find(|object| object["kind"] == "ClusterRole").unwrap();
        let rules = role["rules"].to_string();
        for resource in ["certificates", "limitranges", "priorityclasses"] {
            assert!(rules.contains(resource), "{resource}");
        }
    }

    #[test]
    fn installing_again_keeps_images_that_somebody_chose_and_says_so() {
        let words =
            ["--image", "registry.bank.example/interlock:1", "--restic-image", "registry.bank.example/restic:1"];
        let installed = |words: &[&str]| {
            let controller = plan(words, &Existing::default()).controller.first().cloned();
            Existing { controller, ..Existing::default() }
        };
        let container = |bundle: &Bundle| bundle.controller[0]["spec"]["template"]["spec"]["containers"][0].clone();
        let own = installed(&words);
        let again = plan(&[], &own);
        assert_eq!(container(&again), container(&plan(&words, &Existing::default())));
        assert!(again.notes().contains("--image registry.bank.example/interlock:1 stays"), "{}", again.notes());
        let release = concat!("this is release ", env!("CARGO_PKG_VERSION"));
        assert_eq!(again.notes().matches(release).count(), 1, "{}", again.notes());
        assert!(again.notes().contains("--restic-image registry.bank.example/restic:1 stays"), "{}", again.notes());

        let newer = plan(&["--image", "registry.bank.example/interlock:2"], &own);
        assert_eq!(container(&newer)["image"], "registry.bank.example/interlock:2");
        assert!(!newer.notes().contains("--image registry"), "{}", newer.notes());

        let release = plan(&[], &installed(&["--image", "interlock:0.0.1"]));
        assert_eq!(container(&release)["image"], IMAGE, "a release without a registry is followed by the next one");
        assert!(!release.notes().contains("stays"), "{}", release.notes());
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for words in [
            &["--webhook-url", "http://a"][..],
            &["--root-approver", "system:admin"],
            &["--govern", "certificates"],
            &["--govern", "coordination.k8s.io/leases"],
            &["--govern", "*/*"],
            &["--print-executor", "teller"],
            &["--with-role"],
            &["--apply", "--without-keys"],
        ] {
            let all = std::iter::once("install").chain(words.iter().copied());
            assert!(Command::try_parse_from(all).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_manifests_in_git_are_current() {
        let bundle = plan(&["--without-keys"], &Existing::default());
        let yaml = super::super::print::render(&bundle.objects(), super::super::Output::Yaml).unwrap();
        let checked_in = include_str!("../../../manifests/base/interlock.yaml");
        assert!(yaml == checked_in, "renew with: interlock install --without-keys > manifests/base/interlock.yaml");
    }

    #[test]
    fn the_output_is_yaml_that_means_the_same() {
        let bundle = plan(&["--root-approver", "yes=李娜", "--root-approver", "0x10"], &Existing::default());
        let yaml = super::super::print::render(&bundle.objects(), super::super::Output::Yaml).unwrap();
        let back: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(back, bundle.objects());
    }
}
