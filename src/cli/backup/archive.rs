//! `alula backup export`, `ls` and `cat`: the archive of a backup is read as it arrives, from the daemon or from its file.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::UNIX_EPOCH;

use futures_util::TryStreamExt;
use serde::Serialize;

use super::super::arguments::{BackupOf, CatBackup, ListBackup};
use super::super::client::Client;
use super::super::error::CliError;
use super::super::node::{Endpoint, Node};
use super::super::output::{Cell, Printer, bytes as size, print_bytes, table};
use super::list::Entry;
use super::{ServerView, one_backup};
use crate::archive::backup::{Item, ItemKind, OneFile, list, read_one};
use crate::files::Layout;
use crate::files::tree_stream::{PipeWriter, pipe};
use crate::files::user_path::UserPath;
use crate::model::Timestamp;
use crate::progress::Progress;
use crate::tasks::Blocking;

/// Bytes that are written at once.
const BLOCK: usize = 256 << 10;

/// Writes the archive to standard output.
///
/// # Errors
/// There is no archive, or it cannot be read or written.
pub async fn export(node: &Node, named: &BackupOf) -> Result<(), CliError> {
    let (server, entry) = one_backup(node, named).await?;
    read(node, &server, &entry, |mut source| {
        let mut block = vec![0; BLOCK];
        loop {
            match source.read(&mut block).map_err(unreadable)? {
                0 => return Ok(()),
                length => print_bytes(&block[..length])?,
            }
        }
    })
    .await
}

/// An entry of an archive, in JSON and YAML.
#[derive(Debug, Serialize)]
struct File {
    path: String,
    kind: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    mode: String,
    modified: Timestamp,
}

/// Lists the files in a backup.
///
/// # Errors
/// There is no archive, it is damaged, or has nothing at the path.
pub async fn ls(node: &Node, arguments: &ListBackup, printer: Printer) -> Result<(), CliError> {
    let below = arguments.path.as_deref().map(UserPath::parse).transpose();
    let below = below.map_err(|error| CliError::Usage(error.to_string()))?.unwrap_or(UserPath::root());
    let below = below.as_path().as_os_str().as_bytes().to_vec();
    let (server, entry) = one_backup(node, &arguments.backup).await?;
    let path = String::from_utf8_lossy(&below).into_owned();
    let files = read(node, &server, &entry, move |source| {
        let mut files = Vec::new();
        let take = |item: Item| {
            if is_below(&item.name, &below) {
                files.push(File::of(&item));
            }
        };
        list(source, &Progress::new(), take).map_err(|error| CliError::Failed(error.to_string()))?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        files.dedup_by(|one, other| one.path == other.path);
        Ok(files)
    })
    .await?;
    if files.is_empty() {
        return Err(CliError::Failed(format!("the backup {} has nothing at {path:?}", entry.backup)));
    }
    printer.print(&files, || text(&files, printer.width))
}

/// Writes a file of a backup to standard output.
///
/// # Errors
/// There is no archive, it is damaged before the file's end, or has no file at the path.
pub async fn cat(node: &Node, arguments: &CatBackup) -> Result<(), CliError> {
    let path = UserPath::parse(&arguments.path).map_err(|error| CliError::Usage(error.to_string()))?;
    let name = path.as_path().as_os_str().as_bytes().to_vec();
    let (server, entry) = one_backup(node, &arguments.backup).await?;
    let backup = entry.backup;
    let found = read(node, &server, &entry, move |source| {
        read_one(source, &name, io::stdout().lock(), &Progress::new())
            .map_err(|error| CliError::Failed(error.to_string()))
    });
    let shown = path.as_path().display();
    match found.await? {
        OneFile::Read(_) => io::stdout().flush().map_err(unreadable),
        OneFile::Missing => {
            Err(CliError::Failed(format!("the backup {backup} has nothing at {shown}; see `alula backup ls`")))
        }
        OneFile::Other(ItemKind::Symlink(target) | ItemKind::HardLink(target)) => {
            let target = String::from_utf8_lossy(&target).into_owned();
            Err(CliError::Failed(format!("{shown} is a link to {target:?}: name that file")))
        }
        OneFile::Other(_) => Err(CliError::Failed(format!("{shown} is no file; see `alula backup ls`"))),
    }
}

/// Reads the archive of a backup with blocking work.
async fn read<T: Send + 'static>(
    node: &Node,
    server: &ServerView,
    entry: &Entry,
    work: impl FnOnce(Box<dyn Read + Send>) -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    match &node.endpoint {
        Endpoint::Daemon(client) => {
            let (writer, reader) = pipe();
            let path = format!("/local/servers/{}/backups/{}/archive", server.uuid, entry.backup);
            let forward = forward(client, &path, writer);
            let work = Blocking::Pool.run(move || work(Box::new(reader)));
            let (forwarded, done) = tokio::join!(forward, work);
            // An archive that breaks off is damaged for its reader.
            forwarded.and(done)
        }
        Endpoint::Folder(_, config) => {
            let opened = Layout::new(config).open_backup(server.uuid, entry.backup);
            let opened = opened.map_err(|error| CliError::Failed(error.to_string()))?;
            let gone = || CliError::Failed(format!("there is no archive of the backup {} on this node", entry.backup));
            let (file, _) = opened.ok_or_else(gone)?;
            Blocking::Pool.run(move || work(Box::new(file))).await
        }
    }
}

async fn forward(client: &Client, path: &str, writer: PipeWriter) -> Result<(), CliError> {
    let mut pieces = client.stream(path).await?;
    while let Some(piece) = pieces.try_next().await.map_err(|error| client.lost(&error))? {
        // The reader needs no more.
        if writer.send(piece).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn is_below(name: &[u8], path: &[u8]) -> bool {
    let rest = name.strip_prefix(path);
    path.is_empty() || path == b"." || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl File {
    fn of(item: &Item) -> Self {
        let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
        let (kind, target) = match &item.kind {
            ItemKind::Directory => ("directory", None),
            ItemKind::File => ("file", None),
            ItemKind::Symlink(target) => ("symlink", text(target)),
            ItemKind::HardLink(target) => ("hardlink", text(target)),
            ItemKind::Special => ("special", None),
        };
        let mode = item.meta.mode.map(|mode| format!("{mode:04o}")).unwrap_or_default();
        let modified = item.meta.modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let modified = Timestamp::default() + modified;
        Self { path: item.shown(), kind, size: item.size, target, mode, modified }
    }
}

fn text(files: &[File], width: Option<usize>) -> String {
    let row = |file: &File| {
        let path = match &file.target {
            Some(target) => format!("{} -> {target}", file.path),
            None => file.path.clone(),
        };
        vec![
            Cell::plain(&file.mode),
            Cell::plain(file.kind),
            Cell::plain(size(file.size)),
            Cell::plain(file.modified.to_string()),
            Cell::plain(path),
        ]
    };
    table("", width, &["MODE", "KIND", "SIZE", "MODIFIED", "PATH"], files.iter().map(row).collect())
}

fn unreadable(error: io::Error) -> CliError {
    CliError::Failed(format!("cannot read the archive: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_itself_and_what_is_below_it() {
        for (name, path, expected) in [
            ("world/level.dat", "", true),
            ("world/level.dat", ".", true),
            ("world/level.dat", "world", true),
            ("world", "world", true),
            ("world2/level.dat", "world", false),
            ("a/world", "world", false),
        ] {
            assert_eq!(is_below(name.as_bytes(), path.as_bytes()), expected, "{name} {path}");
        }
    }
}
