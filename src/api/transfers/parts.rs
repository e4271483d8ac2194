//! Reads the parts of a form, in any order.

use std::sync::Arc;

use multer::{Field, Multipart};

use super::held::Held;
use crate::api::form::{Pieces, Unread};
use crate::tasks::Blocking;
use crate::transfer::{Destination, PartName, PipeReader, ReceiveError, Received, pipe};

/// The longest text of a part, in bytes.
const MAX_TEXT: usize = 4096;

/// Reads a form to its end.
///
/// # Errors
/// The form is invalid or breaks off, or a part cannot be stored.
pub async fn read_parts(
    pieces: Pieces<'_>,
    boundary: String,
    destination: &Destination,
    held: &Arc<Held>,
) -> Result<Received, ReceiveError> {
    let unread = pieces.unread();
    let mut form = Multipart::new(pieces, boundary);
    let mut received = Received::default();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        unread.reset();
        let name = PartName::read(field.name().unwrap_or_default(), field.file_name())?;
        let (to, held) = (destination.clone(), held.clone());
        match name {
            PartName::Archive => {
                received.check_archive()?;
                received.add_archive(store(field, &unread, held, move |part| to.archive(part)).await?);
            }
            PartName::Backup(id) => {
                received.check_backup(id)?;
                received.add_backup(id, store(field, &unread, held, move |part| to.backup(id, part)).await?);
            }
            PartName::InstallLog => store(field, &unread, held, move |part| to.install_log(part)).await?,
            PartName::ArchiveChecksum => received.add_archive_checksum(&text(field, &unread).await?),
            PartName::BackupChecksum(id) => received.add_backup_checksum(id, &text(field, &unread).await?)?,
            PartName::Unknown => drain(field, &unread).await?,
        }
    }
    Ok(received)
}

/// Hands a part to a thread that stores it.
async fn store<T: Send + 'static>(
    mut field: Field<'_>,
    unread: &Unread,
    held: Arc<Held>,
    work: impl FnOnce(PipeReader) -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, ReceiveError> {
    let (sender, receiver) = pipe();
    // Always on a thread: the two sides wait for each other.
    let stored = Blocking::Pool.run(move || {
        let stored = work(receiver.into_reader());
        drop(held);
        stored
    });
    let feed = async {
        while let Some(piece) = field.chunk().await.map_err(broken)? {
            unread.reset();
            if sender.send(piece).await.is_err() {
                // The thread has ended, with an error of its own.
                return Ok(());
            }
        }
        let _ended = sender.finish().await;
        Ok(())
    };
    let (fed, stored) = tokio::join!(feed, stored);
    fed.and(stored)
}

/// The text of a part.
async fn text(mut field: Field<'_>, unread: &Unread) -> Result<String, ReceiveError> {
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        unread.reset();
        text.extend_from_slice(&piece);
        if text.len() > MAX_TEXT {
            return Err(ReceiveError::TooMany("a checksum of the form is too long"));
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn drain(mut field: Field<'_>, unread: &Unread) -> Result<(), ReceiveError> {
    while field.chunk().await.map_err(broken)?.is_some() {
        unread.reset();
    }
    Ok(())
}

fn broken(error: multer::Error) -> ReceiveError {
    ReceiveError::Broken(error.to_string())
}
