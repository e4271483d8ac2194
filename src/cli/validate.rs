//! `alula validate`: what is wrong with files, before a node reads them.
//!
//! A file's text says what it is: a record of a server, the node's configuration, or, by its name, an `override.yml`,
//! which is read together with the `config.yml` beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Validate;
use super::done::judged;
use super::error::CliError;
use super::output::{Format, Printer, Tone, clean, print, tell};
use crate::config::{self, ConfigError, HostEnvironment};
use crate::model::{Manifest, ServerId};
use crate::store::{CONFIG_FILE, OVERRIDE_FILE, SpecProblem, manifests};
use crate::yaml::{self, YamlError};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A record of a server.
    Server,
    /// The operator's changes to one.
    Override,
    /// The node's configuration.
    Node,
    /// A folder of files.
    Folder,
}

/// What was found in a file.
#[derive(Debug, Serialize)]
pub struct Finding {
    file: String,
    kind: Kind,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<ServerId>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
}

impl Finding {
    fn good(path: &Path, kind: Kind, uuid: Option<ServerId>) -> Self {
        Self { file: shown(path), kind, valid: true, uuid, fault: None }
    }

    fn bad(path: &Path, kind: Kind, fault: Fault) -> Self {
        Self { file: shown(path), kind, valid: false, uuid: None, fault: Some(fault) }
    }
}

/// A path as people named it.
pub fn shown(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() }
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Line, counted from one.
    pub line: Option<usize>,
    /// Column, counted from one.
    pub column: Option<usize>,
    /// The key.
    pub key: Option<String>,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Checks files; a folder stands for every file in it that a node would read.
///
/// # Errors
/// One of them is not as it should be.
pub fn run(arguments: &Validate, printer: Printer) -> Result<(), CliError> {
    let mut findings = Vec::new();
    for path in &arguments.files {
        match files_in(path) {
            Ok(files) => findings.extend(files.iter().map(|file| check(file))),
            Err(error) => findings.push(Finding::bad(path, Kind::Folder, Fault::of_reading(&error))),
        }
    }
    let mut printed = Ok(());
    if printer.format == Format::Table {
        for finding in &findings {
            match &finding.fault {
                None => printed = printed.and_then(|()| print(&ok_line(finding, printer))),
                Some(fault) => tell(&format!("error: {}", line(&finding.file, fault))),
            }
        }
    } else {
        printed = printer.print(&findings, String::new);
    }
    judged(printed, findings.iter().all(|finding| finding.valid))
}

fn ok_line(finding: &Finding, printer: Printer) -> String {
    let what = match (finding.kind, finding.uuid) {
        (Kind::Server, Some(uuid)) => format!("server {uuid}"),
        (Kind::Override, Some(uuid)) => format!("override of server {uuid}"),
        (Kind::Node | Kind::Folder, _) => "configuration of a node".into(),
        (Kind::Server | Kind::Override, None) => "server".into(),
    };
    format!("{}: {} ({what})\n", clean(&finding.file), printer.paint.text(Tone::Good, "ok"))
}

/// A fault on one line, as compilers write it.
pub fn line(file: &str, fault: &Fault) -> String {
    let mut text = file.to_owned();
    if let Some(line) = fault.line {
        text.push_str(&format!(":{line}:{}", fault.column.unwrap_or(1)));
    }
    if let Some(key) = &fault.key {
        text.push_str(&format!(": {key}"));
    }
    text.push_str(&format!(": {}", fault.message));
    if let Some(help) = &fault.help {
        text.push_str(&format!("; {help}"));
    }
    text
}

/// Reads a file as far as a record may be long; `-` is standard input.
///
/// # Errors
/// It cannot be read. One that is too long is cut so that its length is noticed.
pub fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let limit = manifests::MAX_FILE + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    }
    if bytes.len() as u64 == limit {
        // The last character may have been cut in two; nobody reads that far.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))
}

fn check(path: &Path) -> Finding {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return Finding::bad(path, kind_of(path, ""), Fault::of_reading(&error)),
    };
    let kind = kind_of(path, &text);
    let checked = match kind {
        Kind::Server => check_server(path, &text).map(|manifest| Some(manifest.metadata.uuid)),
        Kind::Override => check_override(path, &text).map(Some),
        Kind::Node | Kind::Folder => check_node(path).map(|()| None),
    };
    match checked {
        Ok(uuid) => Finding::good(path, kind, uuid),
        Err(fault) => Finding::bad(path, kind, fault),
    }
}

/// Keys that only a record of a server has.
const OF_RECORD: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
/// Keys that only a node's file has.
const OF_NODE: [&str; 9] =
    ["remote", "token", "token_id", "api", "system", "docker", "alula", "allowed_mounts", "debug"];

/// What a file is: by its name and place, or else by its keys.
pub fn kind_of(path: &Path, text: &str) -> Kind {
    let named = |name: &str| path.file_name().is_some_and(|found| found == name);
    if named(OVERRIDE_FILE) {
        return Kind::Override;
    }
    let has = |keys: &[&str]| match yaml::parse_value(text) {
        Ok(value) => keys.iter().any(|key| value.get(key).is_some()),
        // What cannot be parsed is known by how its lines begin.
        Err(_) => {
            let begins = |line: &str, key: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
            text.lines().any(|line| keys.iter().any(|key| begins(line, key)))
        }
    };
    if folder_id(path).is_some() || has(&OF_RECORD) {
        return Kind::Server;
    }
    // In a server's folder a config.yml is that server's; anywhere else it is a node's, whatever is in it.
    if named(CONFIG_FILE) || (has(&OF_NODE) && path != Path::new("-")) { Kind::Node } else { Kind::Server }
}

/// Checks a record of a server. In a folder that is named by a UUID it must be that server's.
///
/// # Errors
/// What is wrong with it.
pub fn check_server(path: &Path, text: &str) -> Result<Manifest, Fault> {
    let manifest: Manifest = yaml::parse(text)?;
    let uuid = folder_id(path).unwrap_or(manifest.metadata.uuid);
    manifests::validate(&manifest, uuid).map_err(|problem| senseless(&problem, text))?;
    Ok(manifest)
}

/// The UUID that names the folder of a server's own `config.yml` or `override.yml`.
fn folder_id(path: &Path) -> Option<ServerId> {
    let own = path.file_name().is_some_and(|name| name == CONFIG_FILE || name == OVERRIDE_FILE);
    let path = std::path::absolute(path).ok().filter(|_| own)?;
    path.parent()?.file_name()?.to_str()?.parse().ok()
}

fn check_override(path: &Path, text: &str) -> Result<ServerId, Fault> {
    let config = path.with_file_name(CONFIG_FILE);
    let alone = |why: String, help: &str| Fault { help: Some(help.into()), ..Fault::new(why) };
    let base = read(&config).map_err(|error| {
        let why = format!("it is read together with the {CONFIG_FILE} beside it, and that cannot be had: {error}");
        alone(why, "put both into one folder")
    })?;
    let base_manifest = check_server(&config, &base).map_err(|fault| {
        let why = format!("the file that it changes is wrong itself: {}", line(&config.display().to_string(), &fault));
        alone(why, "mend that one first")
    })?;
    let uuid = base_manifest.metadata.uuid;
    let manifest = manifests::merge(&base, text)?;
    manifests::validate(&manifest, uuid).map_err(|problem| senseless(&problem, text))?;
    Ok(uuid)
}

fn check_node(path: &Path) -> Result<(), Fault> {
    match config::load(path, HostEnvironment::of_this_process()) {
        Ok(loaded) => {
            for notice in loaded.notices {
                tell(&format!("warning: {notice}"));
            }
            Ok(())
        }
        Err(ConfigError::Broken { source, .. }) => Err((*source).into()),
        Err(ConfigError::Invalid { at, problem, .. }) => Err(Fault {
            line: at.map(|(line, _)| line),
            column: at.map(|(_, column)| column),
            key: Some(problem.key),
            message: problem.message,
            help: None,
        }),
        Err(other) => Err(Fault::new(other.to_string())),
    }
}

fn senseless(problem: &SpecProblem, text: &str) -> Fault {
    let place = manifests::position_of(problem, text);
    Fault {
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        key: None,
        message: problem.message.clone(),
        help: None,
    }
}

impl Fault {
    /// What is wrong with a file as a whole.
    pub fn new(message: String) -> Self {
        Self { line: None, column: None, key: None, message, help: None }
    }

    /// A file that cannot be read. The line that tells it begins with the path.
    pub fn of_reading(error: &CliError) -> Self {
        Self::new(match error {
            CliError::File { action, source, .. } => format!("cannot {action} it: {source}{}", error.remedy()),
            other => other.to_string(),
        })
    }
}

impl From<YamlError> for Fault {
    fn from(error: YamlError) -> Self {
        Self { line: error.line, column: error.column, key: error.path, message: error.message, help: error.help }
    }
}

/// The files that a path stands for: itself; in a server's folder its files of intent; in any other folder each `*.yml`,
/// `*.yaml`, `*/config.yml` and `*/override.yml`, and those of `servers/` as well, hidden ones left out.
///
/// # Errors
/// The folder cannot be read, or holds none.
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
        let message = format!(
            "{}: no files in this folder that a node would read; they would be named *.yml, *.yaml, */config.yml or \
             servers/*/config.yml",
            path.display()
        );
        return Err(CliError::Failed(message));
    }
    Ok(files)
}

/// What lies in a folder and is not hidden.
fn items(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |source| CliError::File { action: "list", path: folder.to_owned(), source };
    let mut items = Vec::new();
    for item in std::fs::read_dir(folder).map_err(failed)? {
        let item = item.map_err(failed)?;
        if !item.file_name().as_encoded_bytes().starts_with(b".") {
            items.push(item.path());
        }
    }
    Ok(items)
}

/// The files of intent in a server's folder.
fn manifest_of(folder: &Path) -> Vec<PathBuf> {
    let named = [CONFIG_FILE, OVERRIDE_FILE].map(|name| folder.join(name));
    named.into_iter().filter(|file| file.is_file()).collect()
}

#[cfg(test)]
mod tests;
