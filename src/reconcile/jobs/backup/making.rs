//! Makes the archive of a backup. Blocking.

use std::sync::Arc;

use uuid::Uuid;

use crate::archive::spawn_helper;
use crate::archive::backup::{self, Change, Contents, DefaultList, Hashes, IgnoreList, WriteOptions, Written};
use crate::files::Layout;
use crate::model::backup::MAX_CHANGED;
use crate::model::{Backup, BackupArchive, BackupSource, ServerId};
use crate::progress::Progress;
use crate::reconcile::context::Context;

/// The longest name of a changed file that is kept, in characters.
const MAX_NAME: usize = 200;

/// What an archive is made of.
pub(super) struct Making {
    context: Arc<Context>,
    server: ServerId,
    id: Uuid,
    ignore: String,
    progress: Progress,
}

impl Making {
    pub(super) fn new(context: &Arc<Context>, server: ServerId, backup: &Backup, progress: &Progress) -> Self {
        let (id, ignore) = (backup.id, backup.ignore.clone());
        Self { context: context.clone(), server, id, ignore, progress: progress.clone() }
    }

    /// Uses the archive that an earlier run has completed, or makes one.
    ///
    /// # Errors
    /// For people: what was attempted, and why it failed. Nothing is left.
    pub(super) fn run(self) -> Result<BackupArchive, String> {
        match self.completed()? {
            Some(archive) => Ok(archive),
            None => self.make(),
        }
    }

    fn layout(&self) -> &Layout {
        &self.context.node.layout
    }

    /// An archive has its name only when it is complete, so one that is there is read for its checksum. One that turns out damaged is
    /// made again.
    fn completed(&self) -> Result<Option<BackupArchive>, String> {
        let opened = self.layout().open_backup(self.server, self.id).map_err(|error| error.to_string())?;
        let Some((file, entry)) = opened else { return Ok(None) };
        self.progress.set_total(entry.size);
        let hashes = Hashes { sha1: true, sha256: false };
        Ok(match backup::verify(file, hashes, None, &self.progress) {
            Ok(Contents { bytes, digests, content, changes, .. }) => Some(BackupArchive {
                sha1: digests.sha1.unwrap_or_default(),
                bytes,
                content,
                source: BackupSource::Live,
                changed: names(&changes.listed),
                changed_count: changes.count,
            }),
            Err(_) if self.progress.is_cancelled() => return Err("cancelled".to_owned()),
            Err(error) => {
                tracing::warn!(server.id = %self.server, backup.id = %self.id, %error, "a damaged archive is made again");
                None
            }
        })
    }

    fn make(self) -> Result<BackupArchive, String> {
        let (layout, server) = (self.layout(), self.server);
        let source = layout.quiet_source(server, || (), self.progress.cancelled()).map_err(|error| error.to_string())?;
        let ignore = self.ignore_list(source.tree())?;
        let estimate = backup::estimate(source.tree(), &ignore, &self.progress).map_err(|error| error.to_string())?;
        let mut archive = layout.create_backup(server, self.id).map_err(|error| error.to_string())?;
        let free = layout.free_for_backups().map_err(|error| error.to_string())?;
        let needed = estimate.max_archive();
        if needed > free {
            return Err(format!(
                "the archive may need {needed} bytes, and {free} bytes are free: free space in {}",
                layout.backups(server).display()
            ));
        }
        let pace = |bytes| self.context.operations.backup_rate().take_blocking(bytes);
        let options = WriteOptions {
            ignore: &ignore,
            level: self.context.node.config.backups.level,
            hashes: Hashes { sha1: true, sha256: false },
            spawn: spawn_helper(self.context.store.blocking()),
            pace: Some(&pace),
            progress: &self.progress,
        };
        let written = backup::write(source.tree(), &mut archive, options);
        let (_, written) = written.map_err(|error| error.to_string())?;
        if self.progress.is_cancelled() {
            return Err("cancelled".to_owned());
        }
        archive.keep().map_err(|error| error.to_string())?;
        Ok(facts(&written, source.kind()))
    }

    fn ignore_list(&self, tree: &crate::files::tree::Tree) -> Result<IgnoreList, String> {
        if !self.ignore.trim().is_empty() {
            return IgnoreList::parse(&self.ignore).map_err(|error| error.to_string());
        }
        let DefaultList { list, note } = DefaultList::read(tree);
        if let Some(note) = note {
            self.context.console.announce(self.server, &note);
        }
        Ok(list)
    }
}

fn facts(written: &Written, source: BackupSource) -> BackupArchive {
    BackupArchive {
        sha1: written.digests.sha1.clone().unwrap_or_default(),
        bytes: written.bytes,
        content: written.content,
        source,
        changed: names(&written.changes.listed),
        changed_count: written.changes.count,
    }
}

/// The first names, as far as they are shown.
fn names(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| String::from_utf8_lossy(&change.path).chars().take(MAX_NAME).collect();
    changes.iter().take(MAX_CHANGED).map(name).collect()
}
