//! Servers that come from other nodes: how each begins to exist here, and how it ends to. The API receives them meanwhile.

use std::sync::Arc;

use uuid::Uuid;

use super::context::Context;
use super::server_state::JobError;
use crate::files::FilesError;
use crate::files::backup_files::BackupFile;
use crate::model::{
    Backup, BackupArchive, FormerFiles, Incoming, IncomingSession, PowerState, Reason, Record, ServerId, Transfer,
    TransferDirection, TransferResult,
};
use crate::retry;
use crate::store::{Snapshot, StoreError};
use crate::sync::{FetchedSpec, new_manifest};

/// Why a server does not come here.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// There is one of this id, and it is used.
    #[error("this node has the server already")]
    Exists,
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server's folders.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl Context {
    /// Whether a server may come here: there is none, or one that the panel no longer lists and that does not run.
    pub fn may_come(&self, id: ServerId) -> bool {
        let free = |snapshot: &Arc<Snapshot>| {
            let stopped = self.store.status(id).is_none_or(|status| status.state == PowerState::Offline);
            snapshot.record.parked.is_some() && !snapshot.is_being_deleted() && stopped
        };
        self.store.get(id).as_ref().is_none_or(free)
    }

    /// Creates a server that comes here. It neither installs nor starts before it has arrived.
    ///
    /// # Errors
    /// There is one already, or the disk's error; nothing has changed then.
    pub async fn begin_incoming(
        &self,
        id: ServerId,
        fetched: FetchedSpec,
        token: Uuid,
        incoming: Incoming,
    ) -> Result<(), NotBegun> {
        if !self.may_come(id) {
            return Err(NotBegun::Exists);
        }
        let layout = self.node.layout.clone();
        let at = self.clock.now();
        let parked = self.store.get(id).and_then(|snapshot| snapshot.record.parked);
        let incoming = Incoming { parked, ..incoming };
        let transfer = Transfer::new(token, at, TransferDirection::Incoming(incoming));
        let began = transfer.clone();
        let create = move |store: &crate::store::Store| match parked {
            None => {
                let mut new = fetched.new_server(id);
                (new.record.transfer, new.requests) = (Some(transfer), Vec::new());
                // On disk before anything else of it is: a daemon that dies finds what to remove. Before a pass may do the same.
                let prepare = |id| {
                    if let Err(error) = layout.prepare(id) {
                        tracing::warn!(server.id = %id, %error, "cannot prepare the folders of a server that comes");
                    }
                };
                store.create_all([new], prepare).pop().map_or(Ok(()), |(_, created)| created.map(drop))
            }
            Some(_) => {
                let edit = |record: &mut Record| {
                    (record.parked, record.transfer) = (None, Some(transfer));
                    fetched.note_in(record);
                };
                store.replace(id, new_manifest(id, fetched.server.clone()), edit, [])
            }
        };
        match self.store.run(create).await {
            Err(StoreError::Exists(_)) => return Err(NotBegun::Exists),
            created => created?,
        }
        match self.store.get(id) {
            Some(snapshot) if snapshot.record.transfer.as_ref() == Some(&began) => {}
            _ => return Err(NotBegun::Exists),
        }
        self.store.event(id, at, Reason::Transferring, "the server is being transferred to this node");
        Ok(())
    }

    /// Ends the session of a server that comes in rounds, and waits until nothing uses its trees.
    pub async fn close_reception(&self, id: ServerId) {
        let receptions = self.receptions.clone();
        self.store.blocking().run(move || receptions.close(id)).await;
    }

    /// Records the backups that are about to get their names.
    ///
    /// # Errors
    /// The disk's error.
    pub async fn expect_backups(&self, id: ServerId, token: Uuid, backups: Vec<Uuid>) -> Result<(), StoreError> {
        let expect = move |record: &mut Record| {
            if let Some(Transfer { direction: TransferDirection::Incoming(incoming), .. }) = record.transfer_mut(token)
            {
                incoming.backups = backups;
            }
        };
        self.store.run(move |store| store.commit(id, expect)).await.map(drop)
    }

    /// Records the backups that are here for good, of a server that comes in rounds.
    ///
    /// # Errors
    /// The disk's error.
    pub async fn record_backups(
        &self,
        id: ServerId,
        token: Uuid,
        backups: Vec<(Uuid, BackupArchive)>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        self.edit_session(id, token, move |session| (session.backups, session.contact) = (Some(backups), at)).await
    }

    /// Records that the source of a server that comes in rounds was heard of.
    ///
    /// # Errors
    /// The disk's error.
    pub async fn note_contact(&self, id: ServerId, token: Uuid) -> Result<(), StoreError> {
        let at = self.clock.now();
        self.edit_session(id, token, move |session| session.contact = at).await
    }

    async fn edit_session(
        &self,
        id: ServerId,
        token: Uuid,
        edit: impl FnOnce(&mut IncomingSession) + Send + 'static,
    ) -> Result<(), StoreError> {
        let edit = move |record: &mut Record| {
            let Some(transfer) = record.transfer_mut(token) else { return };
            if let TransferDirection::Incoming(Incoming { session: Some(session), .. }) = &mut transfer.direction {
                edit(session);
            }
        };
        self.store.run(move |store| store.commit(id, edit)).await.map(drop)
    }

    /// Records that a server is here. Returns whether the transfer was still wanted.
    ///
    /// # Errors
    /// The disk's error; the server counts as not arrived.
    pub async fn complete_incoming(
        self: &Arc<Self>,
        id: ServerId,
        token: Uuid,
        backups: Vec<(Uuid, BackupArchive)>,
        message: String,
    ) -> Result<bool, StoreError> {
        let at = self.clock.now();
        let result = TransferResult { succeeded: true, message: message.clone(), at };
        let is_new = move |record: &Record| record.transfer.as_ref().is_some_and(|transfer| transfer.token == token);
        let arrived = move |record: &mut Record| {
            let Some(transfer) = record.transfer_mut(token).filter(|known| known.is_pending() && !known.cancelled)
            else {
                return;
            };
            transfer.result = Some(result);
            let shared = transfer.incoming().is_some_and(|incoming| incoming.shared);
            record.former_files =
                (!shared).then_some(FormerFiles { restore: token, at, removing: true, undone: false });
            for (id, archive) in backups {
                record.backups.retain(|known| known.id != id);
                record.backups.push(received(id, archive, at));
            }
        };
        // The request that brings the end of a transfer may be cut off at any moment, and none follows.
        let context = self.clone();
        let complete = move |store: &crate::store::Store| {
            let snapshot = store.commit(id, arrived)?;
            let completed = is_new(&snapshot.record) && snapshot.record.pending_transfer().is_none();
            if completed {
                context.accounts.not_measured(id);
                let text = format!("the server was transferred to this node: {message}");
                store.event(id, at, Reason::TransferCompleted, &text);
            }
            context.receptions.remove(id);
            store.wake(id);
            Ok(completed)
        };
        self.store.run(complete).await
    }

    /// Removes what has come of a server, and records that it did not arrive.
    ///
    /// # Errors
    /// The disk's error; call it again.
    pub async fn fail_incoming(&self, id: ServerId, token: Uuid, message: &str) -> Result<(), JobError> {
        let Some(snapshot) = self.store.get(id) else { return Ok(()) };
        let pending = snapshot.record.pending_transfer().filter(|pending| pending.token == token);
        let Some(incoming) = pending.and_then(Transfer::incoming).cloned() else { return Ok(()) };
        let layout = self.node.layout.clone();
        let removed = self.store.blocking().run(move || layout.discard_incoming(id, token, &incoming)).await;
        removed.map_err(|error| JobError::new(retry::FILES, error.to_string()))?;
        let at = self.clock.now();
        let result = TransferResult { succeeded: false, message: message.to_owned(), at };
        let failed = move |record: &mut Record| {
            if let Some(transfer) = record.transfer_mut(token).filter(|transfer| transfer.is_pending()) {
                transfer.result = Some(result);
            }
        };
        self.store.commit_and_wake(id, failed).await?;
        let text = format!("the server was not transferred to this node: {message}");
        self.store.event(id, at, Reason::TransferFailed, &text);
        Ok(())
    }
}

/// The record's entry for a backup that has come with its server.
fn received(id: Uuid, archive: BackupArchive, at: crate::model::Timestamp) -> Backup {
    let mut backup = BackupFile { id, bytes: archive.bytes }.adopted(at);
    if let Some(result) = &mut backup.result {
        result.message = "made on another node".to_owned();
    }
    backup.archive = Some(archive);
    backup
}
