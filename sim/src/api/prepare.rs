//! The first half of a write: authorisation, merging, defaults, managers.

use std::sync::Arc;

use interlock_core::admission::Operation;
use interlock_core::object::{GroupKind, ObjectId};
use serde_json::Value;

use super::error::{ApiError, Cause};
use super::registry::KindInfo;
use super::store::Key;
use super::write::{Prepared, Verb, Write};
use super::{Access, Api, apply, decode, json, managers, meta, pod_admission, strategy};

impl Api {
    /// Everything up to mutating admission.
    ///
    /// # Errors
    /// Whatever the server answers before it asks a webhook: 403, 404, 409, 400, 422.
    pub fn prepare(&mut self, write: Write) -> Result<Prepared, ApiError> {
        let (info, key) = self.target(&write)?;
        if write.subresource.as_ref().is_some_and(|name| name != "status" || !info.has_status) {
            return Err(ApiError::unknown_kind());
        }
        let verb = match &write.verb {
            Verb::Create(_) => "create",
            Verb::Replace(_) => "update",
            Verb::MergePatch { .. } | Verb::Apply { .. } => "patch",
            Verb::Delete { .. } => "delete",
        };
        self.may(&write, &info, &key, verb)?;
        self.counted += 1;
        let mut prepared = Prepared {
            review_uid: super::uid_of(self.counted),
            requested_name: (!key.name.is_empty()).then(|| key.name.clone()),
            old: self.store.at(&key).cloned(),
            operation: Operation::Update,
            new: None,
            is_mutated: false,
            is_conditional: false,
            write,
            info,
            key,
        };
        // From here on the write is what it does to the object; what was sent goes into that.
        let sent = match &mut prepared.write.verb {
            Verb::Create(object) | Verb::Replace(object) | Verb::Apply { object, .. } => object.take(),
            Verb::MergePatch { patch, .. } => patch.take(),
            Verb::Delete { .. } => Value::Null,
        };
        match prepared.write.verb {
            Verb::Create(_) => self.prepare_create(&mut prepared, sent)?,
            Verb::Replace(_) => self.prepare_replace(&mut prepared, sent)?,
            Verb::MergePatch { .. } => self.prepare_patch(&mut prepared, &sent)?,
            Verb::Apply { force, .. } => self.prepare_apply(&mut prepared, sent, force)?,
            Verb::Delete { ref precondition, .. } => {
                let precondition = precondition.clone();
                super::delete::prepare(&mut prepared, &precondition)?;
            }
        }
        Ok(prepared)
    }

    fn may(&self, write: &Write, info: &KindInfo, key: &Key, verb: &str) -> Result<(), ApiError> {
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let subresource = write.subresource.as_deref();
        self.authorizer.check(&Access { user: &write.user, verb, info, subresource, namespace, name })
    }

    fn target(&self, write: &Write) -> Result<(Arc<KindInfo>, Key), ApiError> {
        match &write.verb {
            Verb::Create(object) | Verb::Replace(object) | Verb::Apply { object, .. } => {
                let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
                let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
                let creates = matches!(write.verb, Verb::Create(_));
                self.target_at((group, version, text("kind")), meta::namespace(object), meta::name(object), creates)
            }
            Verb::MergePatch { id, .. } | Verb::Delete { id, .. } => {
                let ObjectId { group, version, kind, namespace, name } = id;
                self.target_at((group, version, kind), namespace.as_deref().unwrap_or_default(), name, false)
            }
        }
    }

    fn target_at(
        &self,
        (group, version, kind): (&str, &str, &str),
        namespace: &str,
        name: &str,
        creates: bool,
    ) -> Result<(Arc<KindInfo>, Key), ApiError> {
        let info = self.registry.find(group, version, kind)?;
        if info.namespaced && namespace.is_empty() {
            return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
        }
        if !info.namespaced && !namespace.is_empty() {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if name.is_empty() && !creates {
            return Err(ApiError::bad_request("name must be provided"));
        }
        let key = Key { kind: info.group_kind(), namespace: namespace.to_owned(), name: name.to_owned() };
        Ok((Arc::clone(info), key))
    }

    fn prepare_create(&mut self, prepared: &mut Prepared, object: Value) -> Result<(), ApiError> {
        prepared.operation = Operation::Create;
        prepared.old = None;
        let info = Arc::clone(&prepared.info);
        let mut new = decode::decode(&info, object)?;
        managers::record_update(&info, None, &mut new, &self.manager_of(prepared));
        self.admit_new(&info, &prepared.key, &mut new)?;
        prepared.new = Some(new);
        Ok(())
    }

    /// The built-in admission plugins for what is created.
    fn admit_new(&mut self, info: &KindInfo, key: &Key, new: &mut Value) -> Result<(), ApiError> {
        self.check_namespace(info, key)?;
        strategy::clear_deletion(new);
        if info.is("", "Pod") {
            self.check_account(key, new)?;
            self.counted += 1;
            pod_admission::admit(new, &super::suffix_of(self.counted));
        }
        Ok(())
    }

    /// The plugin `ServiceAccount`: a Pod runs as an account that exists. The account `default` may be missing, since not
    /// every simulation has the controller that makes it.
    fn check_account(&self, key: &Key, pod: &Value) -> Result<(), ApiError> {
        let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or("default");
        let accounts = GroupKind::new("", "ServiceAccount");
        if account == "default" || self.store.get(&accounts, &key.namespace, account).is_some() {
            return Ok(());
        }
        let why = format!(
            "error looking up service account {}/{account}: serviceaccount \"{account}\" not found",
            key.namespace
        );
        Err(ApiError::forbidden("pods", &key.name, &why))
    }

    /// The plugin `NamespaceLifecycle`: objects are created only in namespaces that exist and stay.
    fn check_namespace(&self, info: &KindInfo, key: &Key) -> Result<(), ApiError> {
        if key.namespace.is_empty() {
            return Ok(());
        }
        let namespaces = GroupKind::new("", "Namespace");
        let Some(namespace) = self.store.get(&namespaces, "", &key.namespace) else {
            return Err(ApiError::not_found("namespaces", &key.namespace));
        };
        if meta::is_terminating(namespace) {
            let place = &key.namespace;
            let why = format!("unable to create new content in namespace {place} because it is being terminated");
            let cause = Cause::new("metadata.namespace", format!("namespace {place} is being terminated"));
            return Err(ApiError::forbidden(&info.resource(), &key.name, &why).because(vec![cause]));
        }
        Ok(())
    }

    fn prepare_replace(&mut self, prepared: &mut Prepared, mut object: Value) -> Result<(), ApiError> {
        if prepared.old.is_none()
            && prepared.write.subresource.is_none()
            && strategy::allows_create_on_update(&prepared.info)
        {
            self.may(&prepared.write, &prepared.info, &prepared.key, "create")?;
            return self.prepare_create(prepared, object);
        }
        let old = existing(prepared)?;
        let info = Arc::clone(&prepared.info);
        let (resource, name) = (info.resource(), &prepared.key.name);
        let required = meta::resource_version(&object).to_owned();
        prepared.is_conditional = !required.is_empty();
        let (wanted, found) = (meta::uid(&object), meta::uid(&old));
        if !wanted.is_empty() && wanted != found {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
                 failed: UID in precondition: {wanted}, UID in object meta: {found}",
                storage_key(&info, &prepared.key)
            );
            return Err(ApiError::conflict(&resource, name, &why));
        }
        if required.is_empty() && !strategy::allows_unconditional_update(&info) {
            let cause = Cause::new("metadata.resourceVersion", "Invalid value: 0: must be specified for an update");
            return Err(ApiError::invalid(&GroupKind::new(&info.group, &info.plural), name, &[cause]));
        }
        if !required.is_empty() && required.parse::<u64>().is_err() {
            let message = format!("strconv.ParseUint: parsing {}: invalid syntax", Value::from(required));
            return Err(ApiError::new(500, "", message));
        }
        if !required.is_empty() && required != meta::resource_version(&old) {
            return Err(ApiError::modified(&resource, name));
        }
        if prepared.write.subresource.is_some() {
            strategy::leave_out_untouched(&old, &mut object);
        }
        let mut new = decode::decode(&info, object)?;
        strategy::keep_identity(&old, &mut new);
        strategy::before_managers(&info, prepared.write.subresource.as_deref(), &old, &mut new);
        managers::record_update(&info, Some(&old), &mut new, &self.manager_of(prepared));
        prepared.new = Some(new);
        Ok(())
    }

    fn prepare_patch(&self, prepared: &mut Prepared, patch: &Value) -> Result<(), ApiError> {
        let old = existing(prepared)?;
        let info = Arc::clone(&prepared.info);
        check_identity(prepared, &old, patch)?;
        let mut patched = (*old).clone();
        json::merge_patch(&mut patched, patch);
        check_place(prepared, &patched)?;
        let shown = patched.to_string();
        let mut new = decode::decode(&info, patched).map_err(|error| bad_patch(&error, &shown))?;
        strategy::keep_identity(&old, &mut new);
        strategy::before_managers(&info, prepared.write.subresource.as_deref(), &old, &mut new);
        managers::record_update(&info, Some(&old), &mut new, &self.manager_of(prepared));
        prepared.new = Some(new);
        Ok(())
    }

    fn prepare_apply(&mut self, prepared: &mut Prepared, mut object: Value, force: bool) -> Result<(), ApiError> {
        let info = Arc::clone(&prepared.info);
        let (resource, name) = (info.resource(), prepared.key.name.clone());
        if prepared.write.manager.is_empty() {
            let cause = Cause::new("fieldManager", "Required value: is required for apply patch");
            return Err(ApiError::invalid(&GroupKind::new("meta.k8s.io", "PatchOptions"), "", &[cause]));
        }
        let stated = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        if stated.is_some_and(|entries| !entries.is_empty()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        if let Some(old) = prepared.old.clone() {
            check_identity(prepared, &old, &object)?;
        } else {
            if prepared.write.subresource.is_some() {
                return Err(ApiError::not_found(&resource, &name));
            }
            if let Some(uid) = meta::text(&object, "uid") {
                let why =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(ApiError::conflict(&resource, &name, &why));
            }
            self.may(&prepared.write, &info, &prepared.key, "create")?;
            // Nothing is there that could have another version: the precondition is void.
            if !prepared.write.dry_run {
                meta::set(&mut object, "resourceVersion", None);
            }
            prepared.operation = Operation::Create;
        }
        let manager = self.manager_of(prepared);
        let live = prepared.old.clone();
        let merged = apply::apply(&info, live.as_deref(), object, &manager, force)?;
        let mut new = decode::decode(&info, merged)?;
        if let Some(old) = &live {
            strategy::keep_identity(old, &mut new);
            strategy::before_managers(&info, prepared.write.subresource.as_deref(), old, &mut new);
        } else {
            self.admit_new(&info, &prepared.key, &mut new)?;
        }
        prepared.new = Some(new);
        Ok(())
    }

    fn manager_of(&self, prepared: &Prepared) -> managers::Manager {
        managers::Manager {
            name: if prepared.write.manager.is_empty() { "unknown".to_owned() } else { prepared.write.manager.clone() },
            subresource: prepared.write.subresource.clone(),
            time: super::whole_seconds(self.now),
        }
    }
}

fn existing(prepared: &Prepared) -> Result<Arc<Value>, ApiError> {
    prepared.old.clone().ok_or_else(|| ApiError::not_found(&prepared.info.resource(), &prepared.key.name))
}

/// The identity that a patch states: another resourceVersion is a conflict, another uid is an immutable field.
fn check_identity(prepared: &mut Prepared, old: &Value, stated: &Value) -> Result<(), ApiError> {
    let (resource, name) = (prepared.info.resource(), &prepared.key.name);
    if let Some(required) = meta::text(stated, "resourceVersion") {
        prepared.is_conditional = true;
        if required != meta::resource_version(old) {
            return Err(ApiError::modified(&resource, name));
        }
    }
    match meta::text(stated, "uid") {
        Some(uid) if uid != meta::uid(old) => {
            let cause = Cause::new("metadata.uid", format!("Invalid value: \"{uid}\": field is immutable"));
            Err(ApiError::invalid(&prepared.info.group_kind(), name, &[cause]))
        }
        _ => Ok(()),
    }
}

/// A patch moves nothing to another place.
fn check_place(prepared: &Prepared, patched: &Value) -> Result<(), ApiError> {
    let (Key { namespace, name, .. }, stated) = (&prepared.key, meta::name(patched));
    if meta::namespace(patched) != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    if stated != name {
        let why = format!("the name of the object ({stated}) does not match the name on the URL ({name})");
        return Err(ApiError::bad_request(why));
    }
    Ok(())
}

/// Where etcd holds the object.
fn storage_key(info: &KindInfo, key: &Key) -> String {
    let group = if info.is_custom() { format!("{}/", info.group) } else { String::new() };
    let namespace = if key.namespace.is_empty() { String::new() } else { format!("{}/", key.namespace) };
    format!("/registry/{group}{}/{namespace}{}", info.plural, key.name)
}

/// What cannot be read makes a patch invalid, where it makes an object a bad request.
fn bad_patch(error: &ApiError, patched: &str) -> ApiError {
    let why = error
        .message
        .split_once("strict decoding error: ")
        .map_or_else(|| error.message.clone(), |(_, fields)| format!("strict decoding error: {fields}"));
    let detail = format!("Invalid value: {}: {why}", Value::from(patched));
    ApiError::invalid(&GroupKind::new("", ""), "", &[Cause::new("patch", detail)])
}
