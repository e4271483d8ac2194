//! `alula export` and `alula import`: a server is moved to another node by hand.

use std::io::{self, IsTerminal, Read, Write};

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::arguments::Export;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Printer, notify, print_bytes};
use super::server::ServerView;
use crate::archive::backup::{Hashes, IgnoreList, WriteOptions};
use crate::archive::export::write_server;
use crate::archive::spawn_helper;
use crate::files::Layout;
use crate::files::trash::DeletedServer;
use crate::files::tree_stream::pipe;
use crate::model::{Phase, ServerId};
use crate::progress::Progress;
use crate::store::OVERRIDE_FILE;
use crate::tasks::Blocking;

/// Bytes that are read from standard input at once.
const BLOCK: usize = 256 << 10;

/// Writes a server to standard output.
///
/// # Errors
/// The name matches no server, it has no valid manifest, or its files cannot be read.
pub async fn export(node: &Node, arguments: &Export) -> Result<(), CliError> {
    if io::stdout().is_terminal() {
        return Err(CliError::Usage("the server is written to standard output: redirect it into a file".into()));
    }
    let servers = node.pick(std::slice::from_ref(&arguments.one.server)).await?;
    let Some(server) = servers.first() else { return Ok(()) };
    if server.phase() == Phase::Online {
        notify("the server runs: what it changes meanwhile may be missing; stop it first to move it");
    }
    match &node.endpoint {
        Endpoint::Daemon(client) => {
            let path = format!("/local/servers/{}/export?backups={}", server.uuid, arguments.with_backups);
            let mut pieces = client.stream(&path).await?;
            while let Some(piece) = pieces.try_next().await.map_err(|error| client.lost(&error))? {
                print_bytes(&piece)?;
            }
            Ok(())
        }
        Endpoint::Folder(store, config) => {
            let path = store.folder(server.uuid).join(OVERRIDE_FILE);
            let described = describe(server, arguments.with_backups, std::fs::read_to_string(path).ok());
            let (layout, level) = (Layout::new(config), config.backups.level);
            let written = Blocking::Pool.run(move || {
                let options = WriteOptions {
                    ignore: &IgnoreList::default(),
                    level,
                    hashes: Hashes::default(),
                    spawn: spawn_helper(Blocking::Pool),
                    pace: None,
                    progress: &Progress::new(),
                };
                write_server(&layout, &described, io::BufWriter::new(io::stdout()), options)
            });
            written.await.map_err(|error| CliError::Failed(error.to_string()))
        }
    }
}

fn describe(server: &ServerView, with_backups: bool, r#override: Option<String>) -> DeletedServer {
    let mut record = server.record.clone();
    record.backups.retain(|backup| with_backups && backup.is_kept_here());
    DeletedServer {
        server: server.uuid,
        at: server.record.created_at.unwrap_or_default(),
        manifest: server.manifest.clone(),
        r#override,
        record,
        declared: server.requests.declared.clone(),
        data: None,
        backups: None,
    }
}

/// The result, in JSON and YAML.
#[derive(Debug, Serialize, Deserialize)]
struct Imported {
    uuid: ServerId,
}

/// Reads a server from standard input.
///
/// # Errors
/// No daemon runs, the stream is damaged or incomplete, or the server is on this node already.
pub async fn import(node: &Node, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    if io::stdin().is_terminal() {
        return Err(CliError::Usage("the server is read from standard input: `alula import < FILE`".into()));
    }
    let (mut writer, reader) = pipe();
    // It ends with the input, or with the connection.
    let read = Blocking::Pool.run(move || {
        let (mut input, mut block) = (io::stdin().lock(), vec![0; BLOCK]);
        loop {
            match input.read(&mut block)? {
                0 => return writer.flush(),
                length => writer.write_all(&block[..length])?,
            }
        }
    });
    let (_, answer) = tokio::join!(read, client.upload("/local/import", reader.into_stream()));
    let imported: Imported = client.read(&answer?)?;
    notify("it is not started by itself: `alula power start`; delete it on the other node when it runs here");
    printer.print(&imported, || format!("{}: imported\n", imported.uuid))
}
