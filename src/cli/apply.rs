//! `alula apply`: servers are to be as files say.
//!
//! All files are read and checked first; one that is wrong keeps all of them from being applied.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use super::arguments::Apply;
use super::error::CliError;
use super::node::{Door, Node};
use super::output::{Cell, Paint, Printer, Progress, Tone, table, tell};
use super::validate;
use crate::model::{ManagedBy, Manifest, ServerId};

struct Document {
    path: PathBuf,
    text: String,
    manifest: Manifest,
}

/// What became of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    uuid: ServerId,
    name: String,
    result: String,
    dry_run: bool,
    file: String,
}

#[derive(Deserialize)]
struct Answer {
    result: String,
}

/// Applies files.
///
/// # Errors
/// A file that is wrong, a disk or a daemon that refuses.
pub async fn run(node: &Node, arguments: &Apply, printer: Printer) -> Result<(), CliError> {
    let documents = read_all(&arguments.files)?;
    let mut outcomes = Vec::new();
    let mut failed = false;
    let mut progress = Progress::new("applying", documents.len());
    for document in &documents {
        match apply(node, document, arguments.dry_run).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error @ CliError::Daemon { .. }) => return Err(error),
            Err(error) => {
                failed = true;
                tell(&format!("error: {}: {error}", document.path.display()));
            }
        }
        progress.step();
    }
    drop(progress);
    printer.print(&outcomes, || if outcomes.is_empty() { String::new() } else { text(&outcomes, printer.paint) })?;
    say_more(node, arguments, &documents, &outcomes);
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, CliError> {
    let mut documents = Vec::new();
    let mut owners: BTreeMap<ServerId, PathBuf> = BTreeMap::new();
    let mut wrong = 0;
    for path in paths {
        for path in validate::files_in(path)? {
            let text = validate::read(&path)?;
            match validate::check_server(&path, &text) {
                Ok(manifest) => {
                    if let Some(other) = owners.insert(manifest.metadata.uuid, path.clone()) {
                        wrong += 1;
                        tell(&format!(
                            "error: {} and {} are about the same server {}; keep one of them",
                            other.display(),
                            path.display(),
                            manifest.metadata.uuid
                        ));
                    }
                    documents.push(Document { path, text, manifest });
                }
                Err(fault) => {
                    wrong += 1;
                    tell(&format!("error: {}", validate::line(&path.display().to_string(), &fault)));
                }
            }
        }
    }
    if wrong > 0 {
        tell("nothing was applied");
        return Err(CliError::Reported);
    }
    Ok(documents)
}

async fn apply(node: &Node, document: &Document, dry_run: bool) -> Result<Outcome, CliError> {
    let uuid = document.manifest.metadata.uuid;
    let result = match &node.door {
        Door::Folder(store) => store.apply(uuid, &document.text, dry_run)?.word().to_owned(),
        Door::Daemon(client) => {
            let path = format!("/local/servers/{uuid}?dry_run={dry_run}");
            let answer = client.call(Method::PUT, &path, Bytes::from(document.text.clone())).await?;
            client.read::<Answer>(&answer)?.result
        }
    };
    let name = document.manifest.spec.settings.meta.name.clone();
    Ok(Outcome { uuid, name, result, dry_run, file: document.path.display().to_string() })
}

fn text(outcomes: &[Outcome], paint: Paint) -> String {
    let row = |outcome: &Outcome| {
        let tone = if outcome.result == "unchanged" { Tone::Dim } else { Tone::Good };
        let result = if outcome.dry_run { format!("{} (dry run)", outcome.result) } else { outcome.result.clone() };
        vec![
            Cell::plain(outcome.uuid.to_string()),
            Cell::plain(&outcome.name),
            Cell::new(tone, result),
            Cell::plain(&outcome.file),
        ]
    };
    let rows: Vec<Vec<Cell>> = outcomes.iter().map(row).collect();
    table(paint, "", &["UUID", "NAME", "RESULT", "FILE"], &rows)
}

/// What a person should know beside the result.
fn say_more(node: &Node, arguments: &Apply, documents: &[Document], outcomes: &[Outcome]) {
    let changed = outcomes.iter().any(|outcome| outcome.result != "unchanged");
    if arguments.dry_run || !changed {
        return;
    }
    let of_panel = documents.iter().any(|document| document.manifest.metadata.managed_by == ManagedBy::Panel);
    if of_panel && node.config.panel.is_some() {
        tell(
            "for servers with managedBy: panel the panel's next word on settings, process and script counts; changes \
             that shall stay belong in override.yml",
        );
    }
    node.warn_without_daemon("the files are in place, and are carried out when it runs (`alula run`)");
}
