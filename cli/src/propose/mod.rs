//! `interlock propose`: a ChangeRequest made of plain manifests.
//!
//! The manifests are read ([`manifests`]), placed in namespaces ([`place`]), their Secrets taken out ([`staging`]), what
//! they would change is tried on the server ([`preview`]) and shown ([`render`]); only then is anything stored.

mod api;
mod args;
mod ownership;
mod place;
mod preview;
mod render;
mod request;
mod staging;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use interlock_core::{
    change::{Content, ContentObject, Intent},
    object::ObjectId,
};
use interlock_crds::{ChangeRequest, ChangeRequestSpec, Content as ContentSpec, Contingency, NameRef};
use kube::{Api, api::PostParams};
use serde_json::Value;

pub use args::{Failure, ProposeArgs};

use crate::{
    context::Context,
    error::CliError,
    manifests,
    output::{self, Format},
    ui::Ui,
};
use api::Cluster;
use preview::{Effect, Preview};
use staging::Staged;

/// Proposes a change.
pub async fn execute(args: &ProposeArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let asks = may_ask(args)?;
    these(manifests::read(&args.files)?, asks, args, context, ui).await
}

/// Proposes a change of these objects; `args` says everything but which. Asks first if `asks`.
pub async fn these(
    mut objects: Vec<Value>,
    asks: bool,
    args: &ProposeArgs,
    context: &Context,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let ids: Result<Vec<ObjectId>, _> = objects.iter().map(ObjectId::of).collect();
    let ids = ids.map_err(|error| CliError::Usage(error.to_string()))?;
    let cluster = Cluster::discover(context.client.clone(), &ids).await?;
    let default = context.namespace_or_default();
    let namespace = place::place(&mut objects, cluster.kinds(), context.namespace.as_deref(), &default)?;
    place::operate(&mut objects, args.operation())?;
    let (staged, notes) = staging::take(&mut objects, &namespace)?;

    let mut spec = draft(args, objects, &staged, context.whoami().await?);
    let content = Content::parse(&spec, &namespace).map_err(|problems| {
        let all: Vec<_> = problems.into_iter().map(|p| p.message).collect();
        CliError::Usage(all.join("\n"))
    })?;
    let previews = preview::preview(&cluster, &with_values(&content.objects, &staged)).await?;
    if spec.title.is_empty() {
        spec.title = request::title(&previews, &namespace);
    }
    let name = args.name.clone().unwrap_or_else(|| request::name(&spec.title, &content.digest));
    spec.content.secret_refs = references(&staged, &name);
    let mut change = ChangeRequest::new(&name, spec);
    change.metadata.namespace = Some(namespace.clone());

    if args.output == Format::Table {
        ui.heading(&format!("{} ({namespace}/{name})", render::plain(&change.spec.title)));
        shown(&previews, &notes, ui);
        ui.line(&format!("content digest: {}", content.digest));
    }
    // Everything that the schema and Interlock refuse is refused here, before a Secret is staged.
    let changes: Api<ChangeRequest> = Api::namespaced(context.client.clone(), &namespace);
    changes.create(&PostParams { dry_run: true, ..PostParams::default() }, &change).await?;
    if args.dry_run {
        if args.output == Format::Table {
            ui.line(&ui.dim("dry run: nothing is created; this would be:"));
        }
        let format = if args.output == Format::Table { Format::Yaml } else { args.output };
        output::print(&change, format, ui)?;
        return Ok(ExitCode::SUCCESS);
    }
    if asks && !agreed(&name, ui)? {
        ui.line("nothing is proposed");
        return Ok(ExitCode::FAILURE);
    }
    let created = create(context, &changes, change, &staged, &name, &namespace).await?;
    if args.output == Format::Table {
        ui.line(&ui.good(&format!("changerequest/{name} created")));
        ui.line(&ui.dim(&format!("next: interlock why cr/{name} -n {namespace}")));
    } else {
        output::print(&created, args.output, ui)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether to ask before proposing; where nobody can answer, `--yes` must say it.
pub fn may_ask(args: &ProposeArgs) -> Result<bool, CliError> {
    if args.yes || args.dry_run {
        return Ok(false);
    }
    let from_input = args.files.iter().any(|f| f == Path::new("-"));
    if from_input || args.output != Format::Table || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(CliError::Usage(
            "nobody can be asked here whether to propose this: say --yes, or look at it first with --dry-run"
                .to_owned(),
        ));
    }
    Ok(true)
}

fn agreed(name: &str, ui: Ui) -> Result<bool, CliError> {
    ui.raw(&format!("propose this change as {name}? [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| CliError::Other(error.to_string()))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn shown(previews: &[Preview], notes: &[String], ui: Ui) {
    for line in render::lines(previews, ui) {
        ui.line(&line);
    }
    for note in notes {
        ui.wrap(&ui.warn(&format!("! {}", render::plain(note))), 2);
    }
    if previews.iter().all(|p| p.effect == Effect::Nothing) {
        ui.line(&ui.warn("! nothing would change: everything is as the manifests say already"));
    }
}

/// The request without what is inferred from its preview.
fn draft(args: &ProposeArgs, manifests: Vec<Value>, staged: &[Staged], requester: String) -> ChangeRequestSpec {
    ChangeRequestSpec {
        title: args.title.clone().unwrap_or_default(),
        reason: args.reason.clone(),
        requester,
        type_: args.change_type(),
        minimum_risk: args.minimum_risk(),
        content: ContentSpec {
            manifests: (!manifests.is_empty()).then_some(manifests),
            git: None,
            secret_refs: references(staged, "proposal"),
        },
        rollout_plan_ref: args.rollout_plan.clone().map(|name| NameRef { name }),
        contingency: Contingency { on_failure: args.on_failure(), ..Contingency::default() },
        schedule: args.schedule(),
        depends_on: args.depends_on.clone(),
        fixes: Vec::new(),
        milestone: None,
        progress_deadline: args.progress_deadline,
    }
}

fn references(staged: &[Staged], change: &str) -> Vec<interlock_crds::SecretRef> {
    staged.iter().enumerate().map(|(index, secret)| secret.reference(change, index + 1, None)).collect()
}

/// The objects as they will be written: staged Secrets with their values, as only the API server may see them.
fn with_values(objects: &[ContentObject], staged: &[Staged]) -> Vec<ContentObject> {
    let mut objects = objects.to_vec();
    for object in objects.iter_mut().filter(|o| o.intent != Intent::Delete) {
        if let Some(secret) = object.staged.and_then(|index| staged.get(index))
            && let Some(fields) = object.manifest.as_object_mut()
        {
            fields.insert("data".to_owned(), secret.data());
        }
    }
    objects
}

async fn create(
    context: &Context,
    changes: &Api<ChangeRequest>,
    mut change: ChangeRequest,
    staged: &[Staged],
    name: &str,
    namespace: &str,
) -> Result<ChangeRequest, CliError> {
    let (stored, references) = staging::store(&context.client, staged, name, namespace).await?;
    change.spec.content.secret_refs = references;
    match changes.create(&PostParams::default(), &change).await {
        Ok(created) => Ok(created),
        Err(error) => {
            let error = CliError::from_kube(error);
            Err(staging::with_left(error, &stored.take_back().await))
        }
    }
}

#[cfg(test)]
mod tests;
