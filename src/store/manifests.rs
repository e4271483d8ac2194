//! The files of intent of one server: read, laid over each other, validated.
//!
//! `config.yml` is a whole manifest; `override.yml` has the same shape with everything optional and wins.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::fingerprint::{FileFingerprint, now_ns};
pub use super::rules::validate;
use super::{CONFIG_FILE, OVERRIDE_FILE, Sources, SpecProblem};
use crate::model::{ManagedBy, Manifest, Reason, ServerId};
use crate::yaml::{self, YamlError};

/// The largest file of intent that is read, bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// What the two files said when they were read together.
pub struct Files {
    id: ServerId,
    config: io::Result<(String, FileFingerprint)>,
    overlay: io::Result<(String, FileFingerprint)>,
    /// When reading began, in nanoseconds since 1970.
    read_at_ns: i64,
}

/// Reads both files.
pub fn read(folder: &Path, id: ServerId) -> Files {
    let read_at_ns = now_ns();
    let (config, overlay) = (read_file(&folder.join(CONFIG_FILE)), read_file(&folder.join(OVERRIDE_FILE)));
    Files { id, config, overlay, read_at_ns }
}

/// What both files look like now, without reading them; `None` where the file system does not say.
pub(super) fn fingerprints(folder: &Path) -> Option<Sources> {
    let of = |file| match FileFingerprint::of(&folder.join(file)) {
        Ok(fingerprint) => Some(Some(fingerprint)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
        Err(_) => None,
    };
    Some(Sources { config: of(CONFIG_FILE)?, overlay: of(OVERRIDE_FILE)? })
}

fn read_file(path: &Path) -> io::Result<(String, FileFingerprint)> {
    // Taken before the text: a change in between leaves a fingerprint that no longer fits, and so is read again.
    let metadata = std::fs::metadata(path)?;
    let fingerprint = FileFingerprint::from(&metadata);
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        let text = format!("{} bytes, and at most {MAX_FILE} are read; is this the right file?", metadata.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok((std::fs::read_to_string(path)?, fingerprint))
}

impl Files {
    pub(super) fn sources(&self) -> Sources {
        Sources {
            config: self.config.as_ref().ok().map(|(_, fingerprint)| *fingerprint),
            overlay: self.overlay.as_ref().ok().map(|(_, fingerprint)| *fingerprint),
        }
    }

    /// The fingerprints, if no later change can have the same ones: the files were read so long after their last change that
    /// the kernel's clock has gone on.
    pub(super) fn settled(&self) -> Option<Sources> {
        let settled = |file: &io::Result<(String, FileFingerprint)>| match file {
            Ok((_, fingerprint)) => !fingerprint.recently(self.read_at_ns),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        (settled(&self.config) && settled(&self.overlay)).then(|| self.sources())
    }

    /// Tells these texts from others, see [`digest`]; `None` where one cannot be read.
    pub(super) fn digest(&self) -> Option<String> {
        let (config, _) = self.config.as_ref().ok()?;
        let overlay = match &self.overlay {
            Ok((overlay, _)) => Some(overlay.as_str()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return None,
        };
        Some(digest(config, overlay))
    }

    /// `config.yml` alone: its text and what it means.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn base(&self) -> Result<(String, Manifest), SpecProblem> {
        let (text, _) = self.config.as_ref().map_err(|error| unreadable(CONFIG_FILE, error))?;
        let manifest: Manifest = yaml::parse(text).map_err(|error| invalid(CONFIG_FILE, error))?;
        validate(&manifest, self.id).map_err(|problem| placed(CONFIG_FILE, text, problem))?;
        Ok((text.clone(), manifest))
    }

    /// Both files together: the intent that they mean.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn effective(&self) -> Result<Manifest, SpecProblem> {
        let (text, manifest) = self.base()?;
        let overlay = match &self.overlay {
            Ok((overlay, _)) => overlay,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(manifest),
            Err(error) => return Err(unreadable(OVERRIDE_FILE, error)),
        };
        let manifest = merge(&text, overlay).map_err(|error| invalid(OVERRIDE_FILE, error))?;
        validate(&manifest, self.id).map_err(|problem| placed(OVERRIDE_FILE, overlay, problem))?;
        Ok(manifest)
    }

    /// What is wrong with the files, if anything is.
    pub fn problem(&self) -> Option<SpecProblem> {
        self.effective().err()
    }
}

/// Digest of the texts of both files: equal ones need not be parsed again.
pub(super) fn digest(config: &str, overlay: Option<&str>) -> String {
    crate::model::manifest::digest(&(config, overlay))
}

fn unreadable(file: &str, error: &io::Error) -> SpecProblem {
    if error.kind() == io::ErrorKind::NotFound {
        return SpecProblem {
            reason: Reason::SpecMissing,
            message: format!(
                "{file} has vanished; the last good intent stays in force and nothing is deleted. Put the file back, or run `alula delete` to delete the server"
            ),
        };
    }
    SpecProblem { reason: Reason::SpecInvalid, message: format!("{file} cannot be read: {error}") }
}

fn invalid(file: &str, error: YamlError) -> SpecProblem {
    SpecProblem { reason: Reason::SpecInvalid, message: format!("{file}: {error}") }
}

/// What the text of a `config.yml` means with that of an `override.yml` laid over it.
///
/// # Errors
/// What is wrong with the override, at its place in it.
pub fn merge(config: &str, overlay: &str) -> Result<Manifest, YamlError> {
    let over = yaml::parse_value(overlay)?;
    if over.is_null() {
        return yaml::parse(config);
    }
    let mut value = yaml::parse_value(config)?;
    lay_over(&mut value, over);
    // Through text once more, for the same wording (and nearest-key help) as a broken `config.yml` gets.
    yaml::parse(&yaml::to_string(&value)?).map_err(|mut error| {
        // Lines of the merged text mean nothing to anybody.
        let place = error.path.as_deref().and_then(|path| locate(overlay, path));
        (error.line, error.column) = (place.map(|(line, _)| line), place.map(|(_, column)| column));
        error
    })
}

/// Where a dotted path of keys stands in a text, or the last of its parents that is there: line and column.
fn locate(text: &str, path: &str) -> Option<(usize, usize)> {
    let path = path.replace('[', ".").replace(']', "");
    let keys: Vec<&str> = path.split('.').collect();
    (1..=keys.len()).rev().find_map(|length| yaml::locate(text, &keys[..length]))
}

/// Where in a text the key stands with which a problem's message begins: line and column.
pub fn place_of(problem: &SpecProblem, text: &str) -> Option<(usize, usize)> {
    let key = problem.message.split([' ', ':']).next()?;
    (key.starts_with("metadata.") || key.starts_with("spec.")).then(|| locate(text, key))?
}

/// A problem with its file and its place in it.
fn placed(file: &str, text: &str, problem: SpecProblem) -> SpecProblem {
    let message = match place_of(&problem, text) {
        Some((line, column)) => format!("{file}: line {line}, column {column}: {}", problem.message),
        None => format!("{file}: {}", problem.message),
    };
    SpecProblem { message, ..problem }
}

/// Maps merge, everything else replaces.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// The text of a manifest that the daemon writes.
///
/// # Errors
/// Never for values that JSON can express.
pub fn render(manifest: &Manifest) -> Result<String, YamlError> {
    let head = match manifest.metadata.managed_by {
        ManagedBy::Panel => {
            "# Written by alula from the panel's configuration, and replaced at each sync. Put your own changes into\n# override.yml beside this file.\n"
        }
        ManagedBy::File => "",
    };
    Ok(format!("{head}{}", yaml::to_string(manifest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_settled_once_the_clock_has_gone_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG_FILE);
        std::fs::write(&path, "one").unwrap();
        let changed_at = FileFingerprint::of(&path).unwrap().ctime_ns;
        let mut files = read(folder.path(), "550e8400-e29b-41d4-a716-446655440000".parse().unwrap());
        files.read_at_ns = changed_at + 1_000_000;
        assert_eq!(files.settled(), None, "a write in this moment may leave the same fingerprint");
        files.read_at_ns = changed_at + 2_000_000_000;
        assert_eq!(files.settled(), fingerprints(folder.path()));
        files.overlay = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(files.settled(), None);
    }
}
