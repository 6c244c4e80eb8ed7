//! Changes that restore, by the repository that they read.

use std::collections::{BTreeSet, HashMap};

use interlock_core::change::{Content, ContentObject, restores};

use super::{BackupKey, ChangeKey, Index};

/// Keys of changes that have not ended, by that of the repository.
pub(super) type Restores = HashMap<String, BTreeSet<ChangeKey>>;

/// Keys of the repositories that a change reads.
fn read_by(content: &Content) -> BTreeSet<String> {
    content.objects.iter().filter_map(ContentObject::restores).map(|reads| reads.repository).collect()
}

impl Index {
    pub(super) fn remember_restores(&mut self, key: &str, content: &Content) {
        for repository in read_by(content) {
            self.restores.entry(repository.clone()).or_default().insert(key.to_owned());
            self.backups.woken.insert(BackupKey::Repository(repository));
        }
    }

    pub(super) fn forget_restores(&mut self, key: &str, content: &Content) {
        for repository in read_by(content) {
            super::remove_from(&mut self.restores, &repository, key);
            self.backups.woken.insert(BackupKey::Repository(repository));
        }
    }

    /// Changes that restore from a repository.
    pub(super) fn changes_at_repository(&self, repository: &str) -> BTreeSet<ChangeKey> {
        self.restores.get(repository).cloned().unwrap_or_default()
    }

    /// Restores from a repository by changes of its System that have not ended. What others say of it holds nothing.
    pub fn restores_at_repository(&self, repository: &str) -> Vec<restores::OpenRestore> {
        let mut open = Vec::new();
        let system = |namespace: &str| self.claims.get(namespace);
        let own = system(repository.split_once('/').map_or("", |(namespace, _)| namespace));
        for live in self.restores.get(repository).into_iter().flatten().filter_map(|key| self.live(key)) {
            if let (Ok(content), true) = (&*live.content, system(&live.request.namespace) == own) {
                open.extend(restores::open(&live.request, content));
            }
        }
        open.retain(|restore| restore.reads.repository == repository);
        open
    }

    /// Namespaces whose restores count for the repository `namespace/name`: those of its System, or its own alone.
    pub fn namespaces_beside(&self, repository: &str) -> Vec<String> {
        let own = repository.split_once('/').map_or("", |(namespace, _)| namespace);
        let system = self.claims.get(own);
        let of_system = self.claims.iter().filter(|(_, name)| system == Some(*name));
        let mut namespaces: Vec<_> = of_system.map(|(namespace, _)| namespace.clone()).collect();
        if namespaces.is_empty() {
            namespaces.push(own.to_owned());
        }
        namespaces
    }

    /// Ids of the snapshots in a repository that these changes need.
    pub fn held_by_restores(&self, repository: &str) -> BTreeSet<String> {
        self.restores_at_repository(repository).into_iter().flat_map(|restore| restore.reads.snapshots).collect()
    }
}
