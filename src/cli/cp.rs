//! `alula cp`: files and directories into a server's directory, and out of it.
//!
//! The daemon reads or writes the server's files, so that they get the right owner and count for the disk limit. Without a daemon
//! this program does the same in the state folder.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use serde::Serialize;

use super::arguments::Cp;
use super::client::Client;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Printer, bytes as size};
use super::server::ServerView;
use crate::config::NodeConfig;
use crate::files::account::limit_of;
use crate::files::denylist::Denylist;
use crate::files::tree::{Follow, Tree};
use crate::files::tree_stream::{self, Copied, StreamError};
use crate::files::user_path::UserPath;
use crate::files::{DiskAccount, Layout};
use crate::model::ServerId;
use crate::tasks::Blocking;

/// The time between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(200);
static NEVER: AtomicBool = AtomicBool::new(false);

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Server { name: &'a str, path: &'a OsStr },
    Local(&'a Path),
}

/// The result, in JSON and YAML.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    uuid: ServerId,
    #[serde(flatten)]
    copied: Copied,
}

/// Copies what the arguments say.
///
/// # Errors
/// Not exactly one side is a server, the name matches none, or the copy fails; what was copied before stays.
pub async fn run(node: &Node, arguments: &Cp, printer: Printer) -> Result<(), CliError> {
    let (from, to) = (side(&arguments.from), side(&arguments.to));
    let (name, path) = match (&from, &to) {
        (Side::Server { name, path }, Side::Local(_)) | (Side::Local(_), Side::Server { name, path }) => (*name, *path),
        _ => {
            let message = "one side has to be SERVER:PATH and the other one a path of this host; write ./ before a local name \
                           with a colon";
            return Err(CliError::Usage(message.into()));
        }
    };
    let path = UserPath::parse(path).map_err(|error| CliError::Usage(error.to_string()))?;
    let servers = node.pick(std::slice::from_ref(&name.to_owned())).await?;
    let Some(server) = servers.first() else { return Ok(()) };
    let copied = match (&from, &to) {
        (_, Side::Local(target)) => copy_out(node, server, path, local_target(target, &from)).await,
        (Side::Local(source), _) => copy_in(node, server, path, source).await,
        (Side::Server { .. }, Side::Server { .. }) => return Ok(()),
    }?;
    let report = Report { uuid: server.uuid, copied };
    printer.print(&report, || summary(&report.copied))
}

fn side(argument: &OsStr) -> Side<'_> {
    let bytes = argument.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let name = colon.and_then(|at| std::str::from_utf8(&bytes[..at]).ok().map(|name| (name, at)));
    match name.filter(|(name, _)| !name.is_empty() && !name.contains('/')) {
        Some((name, at)) => Side::Server { name, path: OsStr::from_bytes(&bytes[at + 1..]) },
        None => Side::Local(Path::new(argument)),
    }
}

/// Where a copy is written on this host: into a directory that exists, under the name that it has.
fn local_target(target: &Path, from: &Side<'_>) -> PathBuf {
    let Side::Server { name, path } = from else { return target.to_owned() };
    let last = Path::new(path).file_name().unwrap_or(OsStr::new(name));
    if target.is_dir() { target.join(last) } else { target.to_owned() }
}

async fn copy_out(node: &Node, server: &ServerView, path: UserPath, target: PathBuf) -> Result<Copied, CliError> {
    let (writer, reader) = tree_stream::pipe();
    let mut progress = Progress::new();
    let receive = Blocking::Pool.run(move || {
        let received = tree_stream::receive_locally(&target, reader, |copied| progress.show(copied));
        progress.end();
        received
    });
    match &node.endpoint {
        Endpoint::Daemon(client) => {
            let mut pieces = client.stream(&files_of(server.uuid, &path, None)).await?;
            let forward = async move {
                while let Some(piece) = pieces.try_next().await.map_err(|error| client.lost(&error))? {
                    if writer.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let (forwarded, received) = tokio::join!(forward, receive);
            let copied = received.map_err(failed);
            // The side that has failed first says why.
            if matches!(&copied, Err(CliError::Failed(_))) { copied } else { forwarded.and(copied) }
        }
        Endpoint::Folder(_, config) => {
            let tree = server_tree(config, server, false).await?;
            let send = Blocking::Pool.run(move || tree_stream::send(&tree, &path, &NEVER, writer));
            let (_, received) = tokio::join!(send, receive);
            received.map_err(failed)
        }
    }
}

async fn copy_in(node: &Node, server: &ServerView, path: UserPath, source: &Path) -> Result<Copied, CliError> {
    let source = source.canonicalize().map_err(|cause| CliError::File {
        action: "copy",
        path: source.to_owned(),
        source: cause,
    })?;
    let name = source.file_name().unwrap_or_default().to_owned();
    let (folder, from) = match source.parent() {
        Some(parent) if !source.is_dir() => (parent.to_owned(), UserPath::root().child(&name)),
        _ => (source.clone(), UserPath::root()),
    };
    let local = tree_stream::local_tree(&folder).map_err(failed)?;
    let (writer, reader) = tree_stream::pipe();
    let send = Blocking::Pool.run(move || tree_stream::send(&local, &from, &NEVER, writer));
    match &node.endpoint {
        Endpoint::Daemon(client) => {
            let route = files_of(server.uuid, &path, Some(&name));
            let (sent, answer) = tokio::join!(send, upload(client, &route, reader));
            match (sent, answer) {
                (_, Ok(copied)) => Ok(copied),
                // The answer says less than what this side has noticed itself.
                (Err(error @ StreamError::Tree(_)), Err(_)) => Err(failed(error)),
                (_, Err(error)) => Err(error),
            }
        }
        Endpoint::Folder(_, config) => {
            let tree = server_tree(config, server, true).await?;
            let mut progress = Progress::new();
            let receive = Blocking::Pool.run(move || {
                let is_directory = tree.stat(&path, Follow::Yes).is_ok_and(|entry| entry.is_directory());
                let path = if is_directory { path.child(&name) } else { path };
                let received = tree_stream::receive(&tree, &path, reader, |copied| progress.show(copied));
                progress.end();
                received
            });
            let (_, received) = tokio::join!(send, receive);
            received.map_err(failed)
        }
    }
}

async fn upload(client: &Client, route: &str, reader: tree_stream::PipeReader) -> Result<Copied, CliError> {
    let (mut progress, mut sent) = (Progress::new(), Copied::default());
    let pieces = reader.into_stream().inspect_ok(move |piece| {
        sent.bytes += piece.len() as u64;
        progress.show(&sent);
    });
    let answer = client.upload(route, pieces).await;
    Progress::new().end();
    client.read(&answer?)
}

/// A server's files in the state folder, while no daemon runs.
async fn server_tree(config: &Arc<NodeConfig>, server: &ServerView, write: bool) -> Result<Tree, CliError> {
    let (layout, id) = (Layout::new(config), server.uuid);
    let disk_space = server.manifest.as_ref().map_or(0, |manifest| manifest.spec.settings.build.disk_space);
    let limit = limit_of(disk_space).filter(|_| write);
    Blocking::Pool
        .run(move || {
            let used = if limit.is_some() {
                layout.usage(id, &NEVER).map_or_else(|error| error.bytes, |usage| usage.bytes)
            } else {
                0
            };
            let root = layout.open_data(id).map_err(|error| CliError::Failed(error.to_string()))?;
            Ok(Tree::new(root, Arc::new(Denylist::default()), DiskAccount::new(limit, used)))
        })
        .await
}

/// The route of a path, and of a name below it.
fn files_of(id: ServerId, path: &UserPath, below: Option<&OsStr>) -> String {
    let below = below.map(|name| format!("&below={}", encode(name))).unwrap_or_default();
    format!("/local/servers/{id}/files?path={}{below}", encode(path.as_path().as_os_str()))
}

/// Text for a query.
fn encode(text: &OsStr) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    text.as_bytes().iter().map(encoded).collect()
}

fn failed(error: StreamError) -> CliError {
    CliError::Failed(error.to_string())
}

fn summary(copied: &Copied) -> String {
    let Copied { files, directories, links, bytes, skipped } = *copied;
    let skipped = match skipped {
        0 => String::new(),
        some => format!("; {some} pipes, sockets or devices were left out"),
    };
    format!("{files} files, {directories} new directories, {links} links, {}{skipped}\n", size(bytes))
}

/// The progress of a copy on standard error, if that is a terminal.
struct Progress {
    terminal: bool,
    shown: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: Instant::now() }
    }

    fn show(&mut self, copied: &Copied) {
        if self.terminal && self.shown.elapsed() >= PROGRESS {
            self.shown = Instant::now();
            let files = if copied.files > 0 { format!("{} files, ", copied.files) } else { String::new() };
            // Without a terminal that can be written there is no progress to show.
            let _ = write!(io::stderr(), "\r\x1b[K{files}{}", size(copied.bytes));
        }
    }

    /// Clears the line.
    fn end(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_with_a_colon_before_any_slash_is_a_server() {
        let server = |name, path| Side::Server { name, path: OsStr::new(path) };
        for (text, expected) in [
            ("lobby:", server("lobby", "")),
            ("lobby:/world", server("lobby", "/world")),
            ("lobby:a:b", server("lobby", "a:b")),
            ("./a:b", Side::Local(Path::new("./a:b"))),
            ("/tmp/x:y", Side::Local(Path::new("/tmp/x:y"))),
            (":x", Side::Local(Path::new(":x"))),
            ("file", Side::Local(Path::new("file"))),
        ] {
            assert_eq!(side(OsStr::new(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_route_has_no_byte_that_a_query_lacks() {
        let path = UserPath::parse(OsStr::from_bytes(b"a b/\xff&=%+#")).unwrap();
        let id = crate::testing::server_id(1);
        let route = files_of(id, &path, Some(OsStr::new("x y")));
        assert_eq!(route, format!("/local/servers/{id}/files?path=a%20b/%FF%26%3D%25%2B%23&below=x%20y"));
    }
}
