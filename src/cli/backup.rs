//! `alula backup`: what people do with backups. Commands that change something are requests to the daemon; those that only read use
//! the files where no daemon runs.

mod archive;
mod list;
mod wait;

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::arguments::{
    Backup as Command, BackupOf, CreateBackup, DeleteBackup, RestoreBackup, UndoRestore, VerifyBackups,
};
use super::client::Client;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::outcome::judged;
use super::output::{Printer, notify};
use super::requests::confirm;
use super::server::ServerView;
use crate::files::Layout;
use crate::files::backup_files::BackupFile;
use crate::model::{Backup, FormerFiles, Restore, ServerId};
use list::Entry;

/// The word for the latest complete backup.
const LATEST: &str = "latest";
/// Characters of a backup's id that are enough where they are unique.
const MIN_ID: usize = 4;

/// What is known of a server's backups.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    pub backups: Vec<Backup>,
    pub files: Vec<BackupFile>,
    pub restore: Option<Restore>,
    pub former_files: Option<FormerFiles>,
}

/// The result of a request, in JSON and YAML.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    uuid: ServerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<Uuid>,
    result: String,
}

/// Executes a sub-command.
///
/// # Errors
/// A name matches no server or backup, no daemon runs where one is needed, or what was requested fails.
pub async fn run(node: &Node, command: &Command, printer: Printer) -> Result<(), CliError> {
    match command {
        Command::Create(create) => self::create(node, create, printer).await,
        Command::List(select) => list::run(node, select, printer).await,
        Command::Restore(restore) => self::restore(node, restore, printer).await,
        Command::Undo(undo) => self::undo(node, undo, printer).await,
        Command::Delete(delete) => self::delete(node, delete, printer).await,
        Command::Verify(verify) => self::verify(node, verify, printer).await,
        Command::Export(backup) => archive::export(node, backup).await,
        Command::Ls(list) => archive::ls(node, list, printer).await,
        Command::Cat(file) => archive::cat(node, file).await,
    }
}

/// What is known of a server's backups: from the daemon, or from the files.
async fn known(node: &Node, server: &ServerView) -> Result<Known, CliError> {
    match &node.endpoint {
        Endpoint::Daemon(client) => client.get(&format!("/local/servers/{}/backups", server.uuid)).await,
        Endpoint::Folder(_, config) => {
            let files = Layout::new(config).list_backups(server.uuid);
            let record = &server.record;
            Ok(Known {
                backups: record.backups.clone(),
                files: files.map_err(|error| CliError::Failed(error.to_string()))?,
                restore: record.restore.clone(),
                former_files: record.former_files.clone(),
            })
        }
    }
}

async fn one_server(node: &Node, name: &str) -> Result<ServerView, CliError> {
    let mut servers = node.pick(std::slice::from_ref(&name.to_owned())).await?;
    servers.pop().ok_or_else(|| CliError::Failed(format!("no server is called {name:?}; see `alula get`")))
}

/// The server and the backup that the arguments name.
async fn one_backup(node: &Node, named: &BackupOf) -> Result<(ServerView, Entry), CliError> {
    let server = one_server(node, &named.one.server).await?;
    let entries = list::entries(server.uuid, &known(node, &server).await?);
    let entry = find(&entries, &named.backup)?.clone();
    Ok((server, entry))
}

/// The backup with this name.
fn find<'a>(entries: &'a [Entry], name: &str) -> Result<&'a Entry, CliError> {
    let lower = name.to_ascii_lowercase();
    if lower == LATEST {
        let complete = entries.iter().filter(|entry| entry.can_be_restored()).max_by_key(|entry| entry.at);
        return complete.ok_or_else(|| CliError::Failed("the server has no complete backup on this node".to_owned()));
    }
    if lower.len() < MIN_ID {
        let message = format!("{name:?} is too short for a backup: write at least {MIN_ID} characters of its UUID");
        return Err(CliError::Usage(message));
    }
    let found: Vec<&Entry> = entries.iter().filter(|entry| entry.backup.to_string().starts_with(&lower)).collect();
    match found.as_slice() {
        [entry] => Ok(entry),
        [] => Err(CliError::Failed(format!("no backup's UUID begins with {name:?}; see `alula backup list`"))),
        several => {
            let message = format!("{name:?} could be any of {} backups; write more of the UUID", several.len());
            Err(CliError::Failed(message))
        }
    }
}

fn report(printer: Printer, server: ServerId, backup: Option<Uuid>, result: &str) -> Result<(), CliError> {
    let report = Report { uuid: server, backup, result: result.to_owned() };
    printer.print(&report, || match backup {
        Some(backup) => format!("{server} backup {backup}: {result}\n"),
        None => format!("{server}: {result}\n"),
    })
}

async fn post(client: &Client, path: &str, body: &serde_json::Value) -> Result<Bytes, CliError> {
    client.call(Method::POST, path, Bytes::from(body.to_string())).await
}

async fn create(node: &Node, arguments: &CreateBackup, printer: Printer) -> Result<(), CliError> {
    #[derive(Deserialize)]
    struct Created {
        backup: Uuid,
    }
    let client = node.daemon()?;
    let ignore = arguments.ignore_file.as_deref().map(read_text).transpose()?.unwrap_or_default();
    let server = one_server(node, &arguments.one.server).await?;
    let path = format!("/local/servers/{}/backups", server.uuid);
    let Created { backup } = client.read(&post(client, &path, &json!({"ignore": ignore})).await?)?;
    if !arguments.wait {
        notify("it is being made: see `alula get operations` and `alula backup list`");
        return report(printer, server.uuid, Some(backup), "accepted");
    }
    let message = wait::for_backup(node, &server, backup).await?;
    report(printer, server.uuid, Some(backup), &message)
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let read = match path.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
        }
        false => std::fs::read_to_string(path),
    };
    read.map_err(|source| CliError::File { action: "read", path: path.to_owned(), source })
}

async fn restore(node: &Node, arguments: &RestoreBackup, printer: Printer) -> Result<(), CliError> {
    #[derive(Deserialize)]
    struct Accepted {
        restore: Uuid,
    }
    let client = node.daemon()?;
    let (server, entry) = one_backup(node, &arguments.backup).await?;
    if let Some(why) = entry.why_not_restored() {
        return Err(CliError::Failed(format!("the backup {} cannot be restored: {why}", entry.backup)));
    }
    let (id, backup) = (server.uuid, entry.backup);
    let what = match (arguments.paths.as_slice(), arguments.truncate) {
        ([], false) => "its files replace those with the same names, and the others stay".to_owned(),
        ([], true) => "its files replace all files of the server".to_owned(),
        (paths, _) => format!("{} replace what has the same names", paths.join(", ")),
    };
    let question = format!(
        "Restore the backup {backup} of {id} {}: {what}. The server is stopped meanwhile. Restore?",
        server.name()
    );
    if !arguments.yes && !confirm("restore", &question)? {
        notify("nothing was restored");
        return Err(CliError::Reported);
    }
    let body = json!({"truncate": arguments.truncate, "only": arguments.paths});
    let path = format!("/local/servers/{id}/backups/{backup}/restore");
    let Accepted { restore } = client.read(&post(client, &path, &body).await?)?;
    finish_restore(node, &server, Some(backup), restore, arguments.wait, printer).await
}

async fn undo(node: &Node, arguments: &UndoRestore, printer: Printer) -> Result<(), CliError> {
    #[derive(Deserialize)]
    struct Accepted {
        restore: Uuid,
    }
    let client = node.daemon()?;
    let server = one_server(node, &arguments.one.server).await?;
    let former = known(node, &server).await?.former_files;
    let what = match former.is_some_and(|former| former.undone) {
        false => "bring the files from before its latest restore back, instead of the present ones",
        true => "bring the files of its latest restore back, instead of the present ones",
    };
    let question = format!("{} {}: {what}. The server is stopped meanwhile. Go on?", server.uuid, server.name());
    if !arguments.yes && !confirm("undo a restore", &question)? {
        notify("nothing was changed");
        return Err(CliError::Reported);
    }
    let path = format!("/local/servers/{}/undo-restore", server.uuid);
    let Accepted { restore } = client.read(&post(client, &path, &json!({})).await?)?;
    finish_restore(node, &server, None, restore, arguments.wait, printer).await
}

async fn finish_restore(
    node: &Node,
    server: &ServerView,
    backup: Option<Uuid>,
    token: Uuid,
    wait: bool,
    printer: Printer,
) -> Result<(), CliError> {
    if !wait {
        notify("it is accepted: see `alula get operations`, and `alula describe` for its result");
        return report(printer, server.uuid, backup, "accepted");
    }
    let message = wait::for_restore(node, server, token).await?;
    notify(
        "the files from before are kept for a day, or until the server has run for ten minutes: `alula backup undo`",
    );
    report(printer, server.uuid, backup, &message)
}

async fn delete(node: &Node, arguments: &DeleteBackup, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    let (server, entry) = one_backup(node, &arguments.backup).await?;
    let question = format!("Remove the backup {} of {} {} for good?", entry.backup, server.uuid, server.name());
    if !arguments.yes && !confirm("delete", &question)? {
        notify("nothing was deleted");
        return Err(CliError::Reported);
    }
    let path = format!("/local/servers/{}/backups/{}", server.uuid, entry.backup);
    client.call(Method::DELETE, &path, Bytes::new()).await?;
    if entry.is_of_panel() && node.has_panel {
        notify("the panel still lists this backup: delete it there, too");
    }
    report(printer, server.uuid, Some(entry.backup), "deletion accepted")
}

async fn verify(node: &Node, arguments: &VerifyBackups, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    let servers = node.pick(arguments.server.as_slice()).await?;
    let mut begun = Vec::new();
    for server in &servers {
        let entries = list::entries(server.uuid, &known(node, server).await?);
        let wanted: Vec<&Entry> = match &arguments.backup {
            Some(name) => vec![find(&entries, name)?],
            None => entries.iter().filter(|entry| entry.can_be_verified()).collect(),
        };
        for entry in wanted {
            post(client, &format!("/local/servers/{}/backups/{}/verify", server.uuid, entry.backup), &json!({}))
                .await?;
            begun.push((server, entry.backup));
        }
    }
    if begun.is_empty() {
        notify("there is no archive to verify on this node");
    }
    let (mut reports, mut good) = (Vec::new(), true);
    for (server, backup) in begun {
        let result = match arguments.wait {
            false => "accepted".to_owned(),
            true => {
                let (ok, message) = wait::for_verification(node, server, backup).await?;
                good &= ok;
                format!("{}: {message}", if ok { "intact" } else { "damaged" })
            }
        };
        reports.push(Report { uuid: server.uuid, backup: Some(backup), result });
    }
    if !arguments.wait && !reports.is_empty() {
        notify("they are read one after the other: see `alula backup list` for the results");
    }
    let text =
        |report: &Report| format!("{} backup {}: {}\n", report.uuid, report.backup.unwrap_or_default(), report.result);
    judged(printer.print(&reports, || reports.iter().map(text).collect()), good)
}

#[cfg(test)]
mod tests;
