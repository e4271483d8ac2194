//! The backups that go with a server, and its install log, as one tree.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use uuid::Uuid;

use super::sending::Log;
use crate::files::install_log;
use crate::files::tree::{Entry, TreeError};
use crate::files::user_path::UserPath;
use crate::replication::{ManifestWriter, ReplicationError, Scan, Summary, scan_files};
use crate::transfer::{INSTALL_LOG, backup_of};

/// What goes with a server.
#[derive(Clone)]
pub(super) struct Extras {
    log: Log,
    backups: Vec<Uuid>,
}

impl Extras {
    pub(super) fn new(log: Log, mut backups: Vec<Uuid>) -> Self {
        backups.sort_unstable();
        backups.dedup();
        Self { log, backups }
    }

    /// Writes their manifest. A backup that is not here does not go.
    pub(super) fn scan<R: Read, W: Write>(
        &self,
        options: Scan<'_, R>,
        to: ManifestWriter<W>,
    ) -> Result<(W, Summary), ReplicationError> {
        let mut files = Vec::new();
        // In the order of their names.
        for id in &self.backups {
            let path = UserPath::root().child(format!("{id}.tar.gz").as_ref());
            match self.open(&path) {
                Ok((file, entry)) => files.push((path, file, entry)),
                Err(TreeError::NotFound(_)) => {
                    self.log.line(&format!("The backup {id} is not on this node and is not transferred."));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let path = UserPath::root().child(INSTALL_LOG.as_ref());
        // Problems with the log are no problems of the transfer.
        if let Ok((file, entry)) = self.open(&path) {
            files.push((path, file, entry));
        }
        scan_files(files, options, to)
    }

    pub(super) fn open(&self, path: &UserPath) -> Result<(File, Entry), TreeError> {
        let (layout, server) = (&self.log.context.node.layout, self.log.server);
        let found = match backup_of(path.as_path().as_os_str().as_bytes()) {
            Some(backup) => layout.open_backup(server, backup),
            None => install_log::open(layout, server),
        };
        let failed = |error| TreeError::io("open", path)(std::io::Error::other(error));
        found.map_err(failed)?.ok_or_else(|| TreeError::NotFound(path.clone()))
    }
}
