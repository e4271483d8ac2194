//! `alula validate`: checks files before a node reads them.
//!
//! The keys of a file decide whether it is a manifest or the node's configuration. An `override.yml` is known by its name, and
//! checked together with the `config.yml` in the same folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Validate;
use super::error::{CliError, remedy};
use super::outcome::judged;
use super::output::{Printer, clean, notify, paint, tone};
use crate::config::{self, ConfigError, HostEnvironment, Loaded, Problem};
use crate::model::{Manifest, ServerId};
use crate::store::{CONFIG_FILE, OVERRIDE_FILE, SpecProblem, manifests};
use crate::yaml::{self, YamlError};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A manifest.
    Server,
    /// The operator's patch of a manifest.
    Override,
    /// The node's configuration.
    Node,
    /// A folder that cannot be read.
    Folder,
}

/// The result for a file.
#[derive(Debug, Serialize)]
pub struct Finding {
    file: String,
    kind: Kind,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<ServerId>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    fault: Option<YamlError>,
    /// Further faults of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<YamlError>,
    /// The configuration of a valid file of a node.
    #[serde(skip)]
    loaded: Option<Loaded>,
}

impl Finding {
    fn new(path: &Path, kind: Kind, result: Result<Option<ServerId>, Vec<YamlError>>) -> Self {
        let (valid, file) = (result.is_ok(), display_name(path));
        let (uuid, faults) = result.map_or_else(|faults| (None, faults), |uuid| (uuid, Vec::new()));
        let mut more = faults.into_iter();
        let fault = more.next();
        Self { file, kind, valid, uuid, fault, more: more.collect(), loaded: None }
    }

    /// Prints the warnings about a node's file, and adds what keeps a daemon from starting with it on this host.
    async fn check_host(&mut self, path: &Path, on_host: impl AsyncFn(&Loaded) -> Vec<Problem>) {
        let Some(loaded) = self.loaded.take() else { return };
        loaded.notices.iter().for_each(|notice| notify(&format!("warning: {notice}")));
        let (problems, text) = (on_host(&loaded).await, read(path).unwrap_or_default());
        let mut faults = problems.into_iter().map(|problem| config::located(&text, problem));
        self.fault = faults.next();
        (self.valid, self.more) = (self.fault.is_none(), faults.collect());
    }

    fn ok_line(&self) -> String {
        let what = match (self.kind, self.uuid) {
            (Kind::Server, Some(uuid)) => format!("server {uuid}"),
            (Kind::Override, Some(uuid)) => format!("override of server {uuid}"),
            _ => "configuration of a node".into(),
        };
        format!("{}: {} ({what})\n", clean(&self.file), paint(tone::GOOD, "ok"))
    }
}

/// A path in messages.
pub fn display_name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() }
}

/// Checks files. A folder stands for every file in it that a node would read. Of a valid file of a node `on_host` checks whether a
/// daemon could start with it here.
///
/// # Errors
/// A file is invalid.
pub async fn run(
    arguments: &Validate,
    printer: Printer,
    on_host: impl AsyncFn(&Loaded) -> Vec<Problem>,
) -> Result<(), CliError> {
    let mut findings = Vec::new();
    for path in &arguments.files {
        match files_in(path) {
            Ok(files) => {
                for file in &files {
                    let mut finding = check(file);
                    finding.check_host(file, &on_host).await;
                    findings.push(finding);
                }
            }
            Err(error) => findings.push(Finding::new(path, Kind::Folder, Err(vec![error.into()]))),
        }
    }
    reject_duplicates(&mut findings);
    for finding in &findings {
        for fault in finding.fault.iter().chain(&finding.more) {
            notify(&format!("error: {}", line_for(&finding.file, fault)));
        }
    }
    let valid = || findings.iter().filter(|finding| finding.valid);
    let printed = printer.print(&findings, || valid().map(Finding::ok_line).collect());
    judged(printed, valid().count() == findings.len())
}

/// Two manifests of one server cannot both be in a node's folder.
fn reject_duplicates(findings: &mut [Finding]) {
    let mut owners = BTreeMap::new();
    for finding in findings.iter_mut().filter(|finding| matches!(finding.kind, Kind::Server)) {
        let Some(uuid) = finding.uuid else { continue };
        if let Some(other) = owners.insert(uuid, finding.file.clone()) {
            (finding.valid, finding.uuid) = (false, None);
            finding.fault = Some(duplicate(&other, uuid));
        }
    }
}

/// The fault of a second manifest of a server.
pub fn duplicate(other: &str, uuid: ServerId) -> YamlError {
    YamlError::new(format!("{other} is a manifest of the same server {uuid}")).help("keep one of them")
}

/// Reads a file; `-` is standard input. A file above the size limit is cut just above the limit, so that its parser rejects it.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let limit = manifests::MAX_FILE + 1;
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(failed)?;
    if bytes.len() as u64 == limit {
        // The cut may have split the last character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))
}

fn check(path: &Path) -> Finding {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return Finding::new(path, kind_of(path, ""), Err(vec![error.into()])),
    };
    let kind = kind_of(path, &text);
    let result = match kind {
        Kind::Server => check_server(path, &text).map(|manifest| Some(manifest.metadata.uuid)),
        Kind::Override => check_override(path, &text).map(Some),
        Kind::Node | Kind::Folder => {
            let loaded = load_node(path);
            let (result, loaded) = loaded.map_or_else(|faults| (Err(faults), None), |loaded| (Ok(None), Some(loaded)));
            return Finding { loaded, ..Finding::new(path, kind, result) };
        }
    };
    Finding::new(path, kind, result)
}

/// Keys that only a manifest has.
const OF_MANIFEST: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
/// Keys that only a node's file has.
const OF_NODE: [&str; 9] =
    ["remote", "token", "token_id", "api", "system", "docker", "alula", "allowed_mounts", "debug"];

/// The kind of a file, by its name and folder, or else by its keys.
pub fn kind_of(path: &Path, text: &str) -> Kind {
    let named = |name: &str| path.file_name().is_some_and(|found| found == name);
    if named(OVERRIDE_FILE) {
        return Kind::Override;
    }
    let has = |keys: &[&str]| match yaml::parse_value(text) {
        Ok(value) => keys.iter().any(|key| value.get(key).is_some()),
        // In a text that is not YAML, keys begin a line.
        Err(_) => {
            let begins = |line: &str, key: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
            text.lines().any(|line| keys.iter().any(|key| begins(line, key)))
        }
    };
    if folder_id(path).is_some() || has(&OF_MANIFEST) {
        return Kind::Server;
    }
    // Outside of a server's folder, any other config.yml is a node's.
    if named(CONFIG_FILE) || (has(&OF_NODE) && path != Path::new("-")) { Kind::Node } else { Kind::Server }
}

/// Checks a manifest. In a folder that is named by a UUID it must be that server's.
///
/// # Errors
/// Everything that is wrong with the manifest.
pub fn check_server(path: &Path, text: &str) -> Result<Manifest, Vec<YamlError>> {
    let manifest: Manifest = yaml::parse_or_list(text)?;
    let uuid = folder_id(path).unwrap_or(manifest.metadata.uuid);
    check_rules(&manifest, uuid, text)?;
    Ok(manifest)
}

fn check_rules(manifest: &Manifest, uuid: ServerId, text: &str) -> Result<(), Vec<YamlError>> {
    let mistakes: Vec<YamlError> =
        manifests::mistakes(manifest, uuid).iter().map(|problem| invalid(problem, text)).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The UUID that names the folder of a server's own `config.yml` or `override.yml`.
fn folder_id(path: &Path) -> Option<ServerId> {
    let own = path.file_name().is_some_and(|name| name == CONFIG_FILE || name == OVERRIDE_FILE);
    let path = std::path::absolute(path).ok().filter(|_| own)?;
    path.parent()?.file_name()?.to_str()?.parse().ok()
}

fn check_override(path: &Path, text: &str) -> Result<ServerId, Vec<YamlError>> {
    let config = path.with_file_name(CONFIG_FILE);
    let base = read(&config).map_err(|error| {
        let message = format!("it needs the {CONFIG_FILE} in the same folder, which cannot be read: {error}");
        vec![YamlError::new(message).help("put both into one folder")]
    })?;
    let manifest = check_server(&config, &base).map_err(|faults| {
        let first = faults.first().map(|fault| line_for(&display_name(&config), fault)).unwrap_or_default();
        let message = format!("the manifest that it patches is invalid: {first}");
        vec![YamlError::new(message).help("fix that file first")]
    })?;
    let uuid = manifest.metadata.uuid;
    check_rules(&manifests::merge_or_list(&base, text)?, uuid, text)?;
    Ok(uuid)
}

fn load_node(path: &Path) -> Result<Loaded, Vec<YamlError>> {
    config::load(path, HostEnvironment::of_this_process()).map_err(|error| match error {
        ConfigError::Invalid { faults, .. } => faults,
        other => vec![YamlError::new(other.to_string())],
    })
}

fn invalid(problem: &SpecProblem, text: &str) -> YamlError {
    at(manifests::position_of(problem, text), YamlError::new(problem.message.clone()))
}

fn at(position: Option<(usize, usize)>, fault: YamlError) -> YamlError {
    let (line, column) = position.unzip();
    YamlError { line, column, ..fault }
}

/// A fault on one line, in the form of compilers: `file:line:column: key: message; help`.
pub fn line_for(file: &str, fault: &YamlError) -> String {
    let position = fault.line.map(|line| format!(":{line}:{}", fault.column.unwrap_or(1))).unwrap_or_default();
    format!("{file}{position}: {}", YamlError { line: None, ..fault.clone() })
}

impl From<CliError> for YamlError {
    fn from(error: CliError) -> Self {
        Self::new(match error {
            // The line of the fault begins with the path.
            CliError::File { action, source, .. } => format!("cannot {action} it: {source}{}", remedy(source.kind())),
            other => other.to_string(),
        })
    }
}

/// The files that a path stands for: the path itself; in a server's folder the files of its manifest; in any other folder each
/// `*.yml`, `*.yaml`, `*/config.yml` and `*/override.yml`, and those of `servers/*/`. Hidden files are ignored.
///
/// # Errors
/// The folder cannot be read, or has no such file.
pub fn files_in(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = manifest_of(path);
    if folder_id(&path.join(CONFIG_FILE)).is_none() {
        files.clear();
        for item in items(path)? {
            let name = item.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if item.is_file() && (name.ends_with(".yml") || name.ends_with(".yaml")) {
                files.push(item);
            } else if item.is_dir() {
                files.extend(manifest_of(&item));
                if name == "servers" {
                    files.extend(items(&item)?.iter().flat_map(|server| manifest_of(server)));
                }
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::Failed(format!(
            "{}: no files in this folder that a node would read; they would be named *.yml, *.yaml, */config.yml or \
             servers/*/config.yml",
            path.display()
        )));
    }
    Ok(files)
}

/// The files and folders in a folder that are not hidden.
fn items(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |source| CliError::File { action: "list", path: folder.to_owned(), source };
    let items: io::Result<Vec<_>> = std::fs::read_dir(folder).map_err(failed)?.collect();
    let items = items.map_err(failed)?.into_iter();
    Ok(items.filter(|item| !item.file_name().as_encoded_bytes().starts_with(b".")).map(|item| item.path()).collect())
}

/// The files of a manifest in a server's folder.
fn manifest_of(folder: &Path) -> Vec<PathBuf> {
    let named = [CONFIG_FILE, OVERRIDE_FILE].map(|name| folder.join(name));
    named.into_iter().filter(|file| file.is_file()).collect()
}

#[cfg(test)]
mod tests;
