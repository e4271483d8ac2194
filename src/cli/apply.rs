//! `alula apply`: servers are to be as files say.
//!
//! All files are read and checked first; one that is wrong keeps all of them from being applied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use super::arguments::{Apply, NodeArguments};
use super::client::Client;
use super::done::{judged, not_tried};
use super::error::CliError;
use super::node::Node;
use super::output::{Cell, Format, Paint, Printer, Progress, Tone, table, tell};
use super::validate::{self, Fault, Kind, shown};
use crate::model::{ManagedBy, Manifest, ServerId};
use crate::store::CONFIG_FILE;

struct Document {
    path: PathBuf,
    text: String,
    manifest: Manifest,
}

/// What became of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<ServerId>,
    name: String,
    result: String,
    dry_run: bool,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Outcome {
    fn of(document: &Document, result: &str, dry_run: bool) -> Self {
        Self {
            uuid: Some(document.manifest.metadata.uuid),
            name: document.manifest.spec.settings.meta.name.clone(),
            result: result.into(),
            dry_run,
            file: shown(&document.path),
            error: None,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    result: String,
}

/// Applies files.
///
/// # Errors
/// A file is wrong, no daemon runs, or the daemon refuses.
pub async fn run(node: &NodeArguments, arguments: &Apply, printer: Printer) -> Result<(), CliError> {
    let documents = match read_all(&arguments.files) {
        Ok(documents) => documents,
        Err(faults) => return reject(&faults, arguments.dry_run, printer),
    };
    let node = Node::open(node)?;
    let client = node.daemon()?;
    let mut outcomes = Vec::new();
    let mut progress = Progress::new("applying", documents.len());
    for document in &documents {
        match apply(client, document, arguments.dry_run).await {
            Ok(result) => outcomes.push(Outcome::of(document, &result, arguments.dry_run)),
            Err(error) => {
                let text = said(&error);
                tell(&format!("error: {}: {text}", shown(&document.path)));
                let outcome = Outcome::of(document, "failed", arguments.dry_run);
                outcomes.push(Outcome { error: Some(text), ..outcome });
                if error.is_of_daemon() {
                    not_tried(documents.len() - outcomes.len());
                    break;
                }
            }
        }
        progress.step();
    }
    drop(progress);
    let printed = printer.print(&outcomes, || text(&outcomes, printer.paint));
    say_more(&node, arguments, &documents, &outcomes);
    judged(printed, outcomes.iter().all(|outcome| outcome.error.is_none()))
}

/// A message that names a server's file by its path, and once more by its name, names it once.
fn said(error: &CliError) -> String {
    let again = format!("/{CONFIG_FILE}: {CONFIG_FILE}: ");
    error.to_string().replace(&again, &format!("/{CONFIG_FILE}: "))
}

/// Nothing is applied, since some files are wrong.
fn reject(faults: &[(PathBuf, Fault)], dry_run: bool, printer: Printer) -> Result<(), CliError> {
    let outcome = |(path, fault): &(PathBuf, Fault)| {
        let error = validate::line(&shown(path), fault);
        tell(&format!("error: {error}"));
        let (file, result) = (shown(path), "invalid".into());
        Outcome { uuid: None, name: String::new(), result, dry_run, file, error: Some(error) }
    };
    let outcomes: Vec<Outcome> = faults.iter().map(outcome).collect();
    tell("nothing was applied");
    let printed = match printer.format {
        Format::Table => Ok(()),
        Format::Json | Format::Yaml => printer.print(&outcomes, String::new),
    };
    judged(printed, false)
}

/// Every record that the paths stand for, or what is wrong with some of them.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, Vec<(PathBuf, Fault)>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut owners: BTreeMap<ServerId, PathBuf> = BTreeMap::new();
    let mut faults = Vec::new();
    for path in paths {
        let files = validate::files_in(path).unwrap_or_else(|error| {
            faults.push((path.clone(), Fault::of_reading(&error)));
            Vec::new()
        });
        let mut records = 0;
        for file in files {
            match read(&file, path.is_dir()) {
                Ok(None) => continue,
                Ok(Some(document)) => {
                    let uuid = document.manifest.metadata.uuid;
                    if let Some(other) = owners.insert(uuid, file.clone()) {
                        let message = format!("it is about the server {uuid}, and so is {}", shown(&other));
                        faults.push((file, Fault { help: Some("keep one of them".into()), ..Fault::new(message) }));
                    }
                    documents.push(document);
                }
                Err(fault) => faults.push((file, fault)),
            }
            records += 1;
        }
        if records == 0 && faults.is_empty() {
            faults.push((path.clone(), Fault::new("there is no record of a server in this folder".into())));
        }
    }
    if faults.is_empty() { Ok(documents) } else { Err(faults) }
}

/// A file's record; nothing for one that came with its folder and is no record.
fn read(path: &Path, of_folder: bool) -> Result<Option<Document>, Fault> {
    let text = validate::read(path).map_err(|error| Fault::of_reading(&error))?;
    let (what, next) = match validate::kind_of(path, &text) {
        Kind::Override => {
            ("an operator's changes to a server", "put it into the server's own folder, beside its config.yml")
        }
        Kind::Node => ("the configuration of a node", "run that node with `alula run --config FILE`"),
        Kind::Server | Kind::Folder => {
            let manifest = validate::check_server(path, &text)?;
            return Ok(Some(Document { path: path.to_owned(), text, manifest }));
        }
    };
    if of_folder {
        tell(&format!("left out: {}: it is {what}, not a record of a server", shown(path)));
        return Ok(None);
    }
    let message = format!("it is {what}, not a record of a server");
    Err(Fault { help: Some(next.into()), ..Fault::new(message) })
}

/// Has the daemon apply one file, and gives the word for what that changed.
async fn apply(client: &Client, document: &Document, dry_run: bool) -> Result<String, CliError> {
    let path = format!("/local/servers/{}?dry_run={dry_run}", document.manifest.metadata.uuid);
    let answer = client.call(Method::PUT, &path, Bytes::from(document.text.clone())).await?;
    Ok(client.read::<Answer>(&answer)?.result)
}

fn text(outcomes: &[Outcome], paint: Paint) -> String {
    let done = outcomes.iter().filter(|outcome| outcome.error.is_none());
    let row = |outcome: &Outcome| {
        let tone = if outcome.result == "unchanged" { Tone::Dim } else { Tone::Good };
        let result = if outcome.dry_run { format!("{} (dry run)", outcome.result) } else { outcome.result.clone() };
        vec![
            Cell::plain(outcome.uuid.map(|uuid| uuid.to_string()).unwrap_or_default()),
            Cell::plain(&outcome.name),
            Cell::new(tone, result),
            Cell::plain(&outcome.file),
        ]
    };
    let rows: Vec<Vec<Cell>> = done.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(paint, "", &["UUID", "NAME", "RESULT", "FILE"], &rows)
}

/// What a person should know beside the result.
fn say_more(node: &Node, arguments: &Apply, documents: &[Document], outcomes: &[Outcome]) {
    let changed = outcomes.iter().any(|outcome| outcome.error.is_none() && outcome.result != "unchanged");
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
}
