//! `alula restore-deleted`: deleted servers that are kept for a while.

use bytes::Bytes;
use http::Method;
use serde::Serialize;

use super::arguments::RestoreDeleted;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Cell, Printer, notify, span, table};
use crate::files::Layout;
use crate::files::trash::DeletedServer;
use crate::model::{ServerId, Timestamp};

/// Characters of a UUID that are enough where they are unique.
const MIN_ID: usize = 4;

/// A deleted server, in JSON and YAML.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    uuid: ServerId,
    name: String,
    deleted_at: Timestamp,
    kept_until: Timestamp,
    /// Local backups that are kept with it.
    backups: usize,
}

/// Lists deleted servers, or brings one back.
///
/// # Errors
/// A name matches no deleted server, or the daemon rejects the request.
pub async fn run(node: &Node, arguments: &RestoreDeleted, printer: Printer) -> Result<(), CliError> {
    let deleted = deleted(node).await?;
    let Some(name) = &arguments.server else {
        if deleted.is_empty() {
            notify("no deleted server is kept");
        }
        let lines: Vec<Line> = deleted.iter().map(Line::of).collect();
        return printer.print(&lines, || text(&lines, printer.width, printer.now));
    };
    let found = find(&deleted, name)?;
    let client = node.daemon()?;
    client.call(Method::POST, &format!("/local/trash/{}/restore", found.name()), Bytes::new()).await?;
    if found.manifest.as_ref().is_some_and(|manifest| manifest.is_managed_by_panel()) {
        notify("its panel no longer lists it: apply its manifest with managedBy: file to run it without the panel");
    }
    notify("it is not started by itself: `alula power start`");
    let line = Line::of(found);
    printer.print(&line, || format!("{} {}: restored\n", line.uuid, super::output::clean(&line.name)))
}

async fn deleted(node: &Node) -> Result<Vec<DeletedServer>, CliError> {
    match &node.endpoint {
        Endpoint::Daemon(client) => client.get("/local/trash").await,
        Endpoint::Folder(_, config) => {
            Layout::new(config).deleted_servers().map_err(|error| CliError::Failed(error.to_string()))
        }
    }
}

/// The latest deletion of the server with this name.
fn find<'a>(deleted: &'a [DeletedServer], name: &str) -> Result<&'a DeletedServer, CliError> {
    let lower = name.to_ascii_lowercase();
    let begins = |deleted: &DeletedServer| lower.len() >= MIN_ID && deleted.server.to_string().starts_with(&lower);
    let matches = |found: &&DeletedServer| begins(found) || (title(found) == name && !name.is_empty());
    let mut found = deleted.iter().filter(matches);
    let Some(first) = found.next() else {
        let message = format!("no deleted server is called {name:?}; see `alula restore-deleted`");
        return Err(CliError::Failed(message));
    };
    match found.all(|other| other.server == first.server) {
        true => Ok(first),
        false => Err(CliError::Failed(format!("{name:?} could be any of several servers; write more of the UUID"))),
    }
}

fn title(deleted: &DeletedServer) -> &str {
    deleted.manifest.as_ref().map(|manifest| manifest.spec.settings.meta.name.as_str()).unwrap_or_default()
}

impl Line {
    fn of(deleted: &DeletedServer) -> Self {
        let backups = deleted.record.backups.iter().filter(|backup| backup.is_kept_here()).count();
        Self {
            uuid: deleted.server,
            name: title(deleted).to_owned(),
            deleted_at: deleted.at,
            kept_until: deleted.kept_until(),
            backups: if deleted.backups.is_some() { backups } else { 0 },
        }
    }
}

fn text(lines: &[Line], width: Option<usize>, now: Timestamp) -> String {
    let row = |line: &Line| {
        vec![
            Cell::plain(line.uuid.to_string()),
            Cell::plain(span(now.since(line.deleted_at))),
            Cell::plain(span(line.kept_until.since(now))),
            Cell::plain(line.backups.to_string()),
            Cell::plain(&line.name),
        ]
    };
    table("", width, &["UUID", "DELETED", "KEPT FOR", "BACKUPS", "NAME"], lines.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;
    use crate::model::{Declared, Record};

    fn deleted() -> Vec<DeletedServer> {
        let deleted = |(number, server): (usize, super::super::server::ServerView)| DeletedServer {
            server: server.uuid,
            at: examples::now() - std::time::Duration::from_secs(3600 * (number as u64 + 1)),
            manifest: server.manifest,
            r#override: None,
            record: Record::default(),
            declared: Declared::default(),
            data: None,
            backups: None,
        };
        examples::servers().into_iter().enumerate().map(deleted).collect()
    }

    #[test]
    fn as_people_see_it() {
        let lines: Vec<Line> = deleted().iter().map(Line::of).collect();
        insta::assert_snapshot!(examples::without_colours(&text(&lines, None, examples::now())));
    }

    #[test]
    fn a_deleted_server_is_found_by_its_name_or_uuid() {
        let mut all = deleted();
        assert_eq!(find(&all, "Old one").unwrap().server, all[2].server);
        assert_eq!(find(&all, "3333").unwrap().server, all[2].server);
        assert!(find(&all, "333").is_err() && find(&all, "").is_err() && find(&all, "dead").is_err());
        let earlier = DeletedServer { at: Timestamp::default(), ..all[2].clone() };
        all.push(earlier);
        assert_eq!(find(&all, "3333").unwrap().at, all[2].at, "the latest deletion");
    }
}
