//! `alula validate`: what is wrong with files, before a node reads them.
//!
//! A file's text says what it is: a record of a server, the node's configuration, or, by its name, an `override.yml`,
//! which is read together with the `config.yml` beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Validate;
use super::error::CliError;
use super::output::{Printer, Tone, clean, print, tell};
use crate::config::{self, ConfigError, Surroundings};
use crate::model::{Manifest, ServerId};
use crate::store::{CONFIG_FILE, OVERRIDE_FILE, SpecProblem, intent};
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

/// Checks files.
///
/// # Errors
/// One of them is not as it should be.
pub fn run(arguments: &Validate, printer: Printer) -> Result<(), CliError> {
    let mut findings = Vec::new();
    for path in &arguments.files {
        let finding = check(path)?;
        if printer.format == super::output::Format::Table {
            match &finding.fault {
                None => print(&ok_line(&finding, printer))?,
                Some(fault) => tell(&format!("error: {}", line(&finding.file, fault))),
            }
        }
        findings.push(finding);
    }
    if printer.format != super::output::Format::Table {
        printer.print(&findings, String::new)?;
    }
    if findings.iter().all(|finding| finding.valid) { Ok(()) } else { Err(CliError::Reported) }
}

fn ok_line(finding: &Finding, printer: Printer) -> String {
    let what = match (finding.kind, finding.uuid) {
        (Kind::Server, Some(uuid)) => format!("server {uuid}"),
        (Kind::Override, Some(uuid)) => format!("override of server {uuid}"),
        (Kind::Node, _) => "configuration of a node".into(),
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
    let limit = intent::MAX_FILE + 1;
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

fn check(path: &Path) -> Result<Finding, CliError> {
    let text = read(path)?;
    let kind = kind_of(path, &text);
    let checked = match kind {
        Kind::Server => check_server(path, &text).map(|manifest| Some(manifest.metadata.uuid)),
        Kind::Override => check_override(path, &text)?.map(Some),
        Kind::Node => check_node(path).map(|()| None),
    };
    let file = if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() };
    Ok(match checked {
        Ok(uuid) => Finding { file, kind, valid: true, uuid, fault: None },
        Err(fault) => Finding { file, kind, valid: false, uuid: None, fault: Some(fault) },
    })
}

fn kind_of(path: &Path, text: &str) -> Kind {
    if path.file_name().is_some_and(|name| name == OVERRIDE_FILE) {
        return Kind::Override;
    }
    let value = yaml::parse_value(text).unwrap_or_default();
    let has = |keys: &[&str]| keys.iter().any(|key| value.get(key).is_some());
    if has(&["apiVersion", "kind", "metadata", "spec"]) {
        return Kind::Server;
    }
    // Keys that only a node's file has.
    let of_node = has(&["remote", "token", "token_id", "api", "system", "docker", "alula", "allowed_mounts", "debug"]);
    if of_node && path != Path::new("-") { Kind::Node } else { Kind::Server }
}

/// Checks a record of a server. In a folder that is named by a UUID it must be that server's.
///
/// # Errors
/// What is wrong with it.
pub fn check_server(path: &Path, text: &str) -> Result<Manifest, Fault> {
    let manifest: Manifest = yaml::parse(text)?;
    let uuid = folder_id(path).unwrap_or(manifest.metadata.uuid);
    intent::validate(&manifest, uuid).map_err(|problem| senseless(&problem, text))?;
    Ok(manifest)
}

/// The UUID that names the folder of a server's own `config.yml` or `override.yml`.
fn folder_id(path: &Path) -> Option<ServerId> {
    let own = path.file_name().is_some_and(|name| name == CONFIG_FILE || name == OVERRIDE_FILE);
    let path = std::path::absolute(path).ok().filter(|_| own)?;
    path.parent()?.file_name()?.to_str()?.parse().ok()
}

fn check_override(path: &Path, text: &str) -> Result<Result<ServerId, Fault>, CliError> {
    let config = path.with_file_name(CONFIG_FILE);
    let base = read(&config).map_err(|error| {
        CliError::Failed(format!(
            "{} is read together with the file that it changes, and that is not there: {error}",
            path.display()
        ))
    })?;
    let base_manifest = match check_server(&config, &base) {
        Ok(manifest) => manifest,
        Err(fault) => {
            let why = format!(
                "{}: its file is not valid itself: {}",
                path.display(),
                line(&config.display().to_string(), &fault)
            );
            return Err(CliError::Failed(why));
        }
    };
    let uuid = base_manifest.metadata.uuid;
    let merged = || -> Result<ServerId, Fault> {
        let manifest = intent::merge(&base, text)?;
        intent::validate(&manifest, uuid).map_err(|problem| senseless(&problem, text))?;
        Ok(uuid)
    };
    Ok(merged())
}

fn check_node(path: &Path) -> Result<(), Fault> {
    match config::load(path, Surroundings::of_this_process()) {
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
        Err(other) => Err(Fault { line: None, column: None, key: None, message: other.to_string(), help: None }),
    }
}

fn senseless(problem: &SpecProblem, text: &str) -> Fault {
    let place = intent::place_of(problem, text);
    Fault {
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        key: None,
        message: problem.message.clone(),
        help: None,
    }
}

impl From<YamlError> for Fault {
    fn from(error: YamlError) -> Self {
        Self { line: error.line, column: error.column, key: error.path, message: error.message, help: error.help }
    }
}

/// The files that a path stands for: itself, or in a folder each `*.yml`, `*.yaml` and `*/config.yml`, hidden ones left out.
///
/// # Errors
/// The folder cannot be read, or holds none.
pub fn files_in(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| CliError::File { action: "list the folder", path: path.to_owned(), source };
    let mut files = Vec::new();
    for item in std::fs::read_dir(path).map_err(failed)? {
        let item = item.map_err(failed)?.path();
        let name = item.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = item.join(CONFIG_FILE);
        if name.starts_with('.') {
            continue;
        }
        if item.is_dir() && own.is_file() {
            files.push(own);
        } else if item.is_file() && (name.ends_with(".yml") || name.ends_with(".yaml")) && name != OVERRIDE_FILE {
            files.push(item);
        }
    }
    files.sort();
    if files.is_empty() {
        let message =
            format!("{}: no records in this folder; they would be named *.yml, *.yaml or */config.yml", path.display());
        return Err(CliError::Failed(message));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
