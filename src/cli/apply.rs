//! `alula apply`: creates or changes servers from manifests.
//!
//! All files are read and checked first. If one is invalid, none is applied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::arguments::{Apply, NodeArguments};
use super::error::CliError;
use super::node::Node;
use super::outcome::{Outcome, each, judged};
use super::output::{Printer, notify};
use super::validate::{self, Kind, display_name, line_for};
use crate::model::{ManagedBy, Manifest, ServerId};
use crate::yaml::YamlError;

struct Document {
    path: PathBuf,
    text: String,
    manifest: Manifest,
    dry_run: bool,
}

impl From<&Document> for Outcome {
    fn from(document: &Document) -> Self {
        Self {
            uuid: Some(document.manifest.metadata.uuid),
            name: document.manifest.spec.settings.meta.name.clone(),
            file: Some(display_name(&document.path)),
            dry_run: document.dry_run,
            ..Self::default()
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
/// A file is invalid, no daemon runs, or the daemon rejects a manifest.
pub async fn run(node: &NodeArguments, arguments: &Apply, printer: Printer) -> Result<(), CliError> {
    let dry_run = arguments.dry_run;
    let documents = match read_all(&arguments.files, dry_run) {
        Ok(documents) => documents,
        Err(faults) => return reject(faults, dry_run, printer),
    };
    let node = Node::open(node).await?;
    let client = node.daemon()?;
    let mut changed = false;
    let apply = async |document: &Document| {
        let path = format!("/local/servers/{}?dry_run={dry_run}", document.manifest.metadata.uuid);
        let answer = client.call(Method::PUT, &path, Bytes::from(document.text.clone())).await?;
        let Answer { result } = client.read(&answer)?;
        changed |= result != "unchanged";
        Ok(result)
    };
    let result = each(&documents, printer, apply).await;
    let of_panel = documents.iter().any(|document| document.manifest.metadata.managed_by == ManagedBy::Panel);
    if of_panel && changed && !dry_run && node.has_panel {
        notify(
            "the panel's next sync overwrites settings, process and script of servers with managedBy: panel; put permanent \
             changes into override.yml",
        );
    }
    result
}

/// Reports the invalid files. Nothing is applied.
fn reject(faults: Vec<(PathBuf, YamlError)>, dry_run: bool, printer: Printer) -> Result<(), CliError> {
    let outcome = |(path, fault): (PathBuf, YamlError)| {
        let file = display_name(&path);
        let (error, result) = (Some(line_for(&file, &fault)), "invalid".into());
        notify(&format!("error: {}", line_for(&file, &fault)));
        Outcome { file: Some(file), dry_run, result, error, ..Outcome::default() }
    };
    let outcomes: Vec<Outcome> = faults.into_iter().map(outcome).collect();
    notify("nothing was applied");
    judged(printer.print(&outcomes, String::new), false)
}

/// Reads every manifest that the paths stand for, or returns the faults of the invalid ones.
fn read_all(paths: &[PathBuf], dry_run: bool) -> Result<Vec<Document>, Vec<(PathBuf, YamlError)>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut owners: BTreeMap<ServerId, PathBuf> = BTreeMap::new();
    let mut faults = Vec::new();
    for path in paths {
        let files = validate::files_in(path).unwrap_or_else(|error| {
            faults.push((path.clone(), error.into()));
            Vec::new()
        });
        let mut manifests = 0;
        for file in files {
            match read(&file, path.is_dir()) {
                Ok(None) => continue,
                Ok(Some((text, manifest))) => {
                    let uuid = manifest.metadata.uuid;
                    if let Some(other) = owners.insert(uuid, file.clone()) {
                        faults.push((file.clone(), validate::duplicate(&display_name(&other), uuid)));
                    }
                    documents.push(Document { path: file, text, manifest, dry_run });
                }
                Err(mistakes) => faults.extend(mistakes.into_iter().map(|fault| (file.clone(), fault))),
            }
            manifests += 1;
        }
        if manifests == 0 && faults.is_empty() {
            faults.push((path.clone(), YamlError::new("there is no manifest in this folder")));
        }
    }
    if faults.is_empty() { Ok(documents) } else { Err(faults) }
}

/// Reads a manifest. A file of another kind is a fault, or `None` if the folder was named and not the file.
fn read(path: &Path, of_folder: bool) -> Result<Option<(String, Manifest)>, Vec<YamlError>> {
    let text = validate::read(path).map_err(|error| vec![error.into()])?;
    let (what, help) = match validate::kind_of(path, &text) {
        Kind::Override => ("an operator's patch", "put it into the server's own folder, next to its config.yml"),
        Kind::Node => ("the configuration of a node", "run that node with `alula run --config FILE`"),
        Kind::Server | Kind::Folder => {
            let manifest = validate::check_server(path, &text)?;
            return Ok(Some((text, manifest)));
        }
    };
    if of_folder {
        notify(&format!("left out: {}: it is {what}, not a manifest", display_name(path)));
        return Ok(None);
    }
    Err(vec![YamlError::new(format!("it is {what}, not a manifest")).help(help)])
}
