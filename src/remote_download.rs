//! Downloads files from the internet into a server's directory ("pull"), and archives of backups for a restore (`backup`).
//!
//! The URL comes from a user, so a request must not reach the node's own networks: see `address`. The file is written under a
//! temporary name and renamed when it is complete; its size is charged to the server's disk limit before the first byte.
//!
//! Source: HTTP API, "Files", pull; "Backups".

mod address;
mod backup;
mod error;
mod name;
mod reader;
mod request;

use std::ffi::OsStr;
use std::io::Write;

use bytes::{Bytes, BytesMut};
use url::Url;

pub use address::is_allowed;
pub use backup::{BackupDownloads, BackupLinkError, BackupStream};
pub use error::DownloadError;
pub use reader::BackupReader;
pub use request::Downloads;

use crate::files::tree::{Incoming, NewFile, Tree, TreeError};
use crate::files::user_path::UserPath;
use crate::progress::Progress;
use crate::tasks::Blocking;
use request::{Found, failed};

/// The mode of downloaded files.
const MODE: u32 = 0o644;

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// A file to download.
#[derive(Debug, Clone)]
pub struct RemoteFile {
    /// Where it is.
    pub url: Url,
    /// The directory that it is written into.
    pub directory: UserPath,
    /// Its name here.
    pub name: Option<String>,
    /// Whether the name that its server gives it takes precedence.
    pub use_header: bool,
    /// Redirects that are followed.
    pub max_redirects: u32,
}

impl RemoteFile {
    /// The name here, unless its server gives it another one.
    fn own_name(&self) -> Option<String> {
        self.name.clone().filter(|name| !name.is_empty()).or_else(|| name::from_url(&self.url))
    }
}

/// Downloads a file and returns its path. An existing file is replaced when the new one is complete.
///
/// # Errors
/// Nothing was written.
pub async fn download(
    downloads: &Downloads,
    file: &RemoteFile,
    tree: &Tree,
    blocking: Blocking,
    progress: &Progress,
) -> Result<UserPath, DownloadError> {
    let fetched = fetch(downloads, file, tree, blocking, progress);
    tokio::select! {
        biased;
        () = progress.when_cancelled() => Err(DownloadError::Cancelled),
        result = fetched => result,
    }
}

async fn fetch(
    downloads: &Downloads,
    file: &RemoteFile,
    tree: &Tree,
    blocking: Blocking,
    progress: &Progress,
) -> Result<UserPath, DownloadError> {
    let found = downloads.find(&file.url, file.max_redirects).await?;
    let given = found.name.clone().filter(|_| file.use_header);
    let name = given.or_else(|| file.own_name()).ok_or(DownloadError::NoName)?;
    let path = file.directory.join_clamped(OsStr::new(&name)).map_err(TreeError::from)?;
    progress.set_total(found.length);
    let new = NewFile { mode: MODE, keep_mode: false, size: Some(found.length) };
    let (tree, target) = (tree.clone(), path.clone());
    let incoming = blocking.run(move || tree.create(&target, new)).await?;
    let incoming = receive(found, incoming, blocking, progress).await?;
    let path = incoming.path().clone();
    blocking.run(move || incoming.commit()).await?;
    Ok(path)
}

async fn receive(
    mut found: Found,
    mut incoming: Incoming,
    blocking: Blocking,
    progress: &Progress,
) -> Result<Incoming, DownloadError> {
    let mut received = 0;
    let mut piece = BytesMut::with_capacity(PIECE);
    loop {
        let chunk = match found.response.chunk().await {
            Ok(chunk) => chunk,
            Err(_) if received > 0 => return Err(DownloadError::BrokenOff { received, length: found.length }),
            Err(error) => return Err(failed(error)),
        };
        if let Some(chunk) = &chunk {
            received += chunk.len() as u64;
            progress.add(chunk.len() as u64);
            piece.extend_from_slice(chunk);
        }
        if piece.len() >= PIECE || chunk.is_none() {
            incoming = write(incoming, piece.split().freeze(), blocking).await?;
        }
        match chunk {
            Some(_) => {}
            None if received == found.length => return Ok(incoming),
            None => return Err(DownloadError::BrokenOff { received, length: found.length }),
        }
    }
}

async fn write(mut incoming: Incoming, piece: Bytes, blocking: Blocking) -> Result<Incoming, DownloadError> {
    let written = blocking.run(move || {
        let written = incoming.write_all(&piece);
        written.map_err(TreeError::io("write", incoming.path())).map(|()| incoming)
    });
    Ok(written.await?)
}

#[cfg(test)]
mod tests;
