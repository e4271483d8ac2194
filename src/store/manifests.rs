//! The manifest files of one server: read, merged, validated.
//!
//! `config.yml` is a complete manifest. `override.yml` has the same shape with every field optional, and its values win.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::fingerprint::{FileFingerprint, now_ns};
pub use super::rules::{mistakes, validate};
use super::{CONFIG_FILE, OVERRIDE_FILE, Sources, SpecProblem};
use crate::model::{ManagedBy, Manifest, Reason, ServerId};
use crate::yaml::{self, YamlError};

/// The largest manifest file that is read, bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// A file as it was read.
type ReadFile = io::Result<(String, FileFingerprint)>;

/// The two files as they were read together.
pub struct Files {
    id: ServerId,
    config: ReadFile,
    overlay: ReadFile,
    /// When reading began, in nanoseconds since 1970.
    read_at_ns: i64,
}

/// Reads both files.
pub fn read(folder: &Path, id: ServerId) -> Files {
    let read_at_ns = now_ns();
    let (config, overlay) = (read_file(&folder.join(CONFIG_FILE)), read_file(&folder.join(OVERRIDE_FILE)));
    Files { id, config, overlay, read_at_ns }
}

/// The current fingerprints of both files; `None` if the file system does not return one.
pub(super) fn fingerprints(folder: &Path) -> Option<Sources> {
    let of = |file| match FileFingerprint::of(&folder.join(file)) {
        Ok(fingerprint) => Some(Some(fingerprint)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
        Err(_) => None,
    };
    Some(Sources { config: of(CONFIG_FILE)?, overlay: of(OVERRIDE_FILE)? })
}

/// Whether a folder has a `config.yml`. A symbolic link that leads nowhere, in its place or in the place of the folder, counts: a
/// person has put it there.
pub(super) fn is_there(folder: &Path) -> bool {
    let config = folder.join(CONFIG_FILE);
    config.symlink_metadata().is_ok() || dangling(&config).is_some()
}

/// The symbolic link that leads nowhere, if a file is missing because of one: the file or its folder.
fn dangling(path: &Path) -> Option<&Path> {
    [Some(path), path.parent()].into_iter().flatten().find(|path| path.is_symlink() && !path.exists())
}

fn read_file(path: &Path) -> ReadFile {
    // Taken before the text: after a change in between the fingerprint no longer matches, and the file is read again.
    let metadata = std::fs::metadata(path).map_err(|error| match dangling(path) {
        Some(link) => {
            let target = std::fs::read_link(link).unwrap_or_default();
            let (link, target) = (link.display(), target.display());
            io::Error::other(format!(
                "{link} is a symbolic link to {target}, which does not exist; restore its target, or remove it"
            ))
        }
        None => error,
    })?;
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

    /// The fingerprints, if no later change can have the same ones: the kernel's clock has advanced between the last change and the
    /// reading.
    pub(super) fn settled(&self) -> Option<Sources> {
        let settled = |file: &ReadFile| match file {
            Ok((_, fingerprint)) => !fingerprint.recently(self.read_at_ns),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        (settled(&self.config) && settled(&self.overlay)).then(|| self.sources())
    }

    /// The digest of these texts, see [`digest`]; `None` if one cannot be read.
    pub(super) fn digest(&self) -> Option<String> {
        let (config, _) = self.config.as_ref().ok()?;
        Some(digest(config, text_of(&self.overlay).ok()?))
    }

    /// The manifest of `config.yml` alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn base(&self) -> Result<Manifest, SpecProblem> {
        let (text, _) = self.config.as_ref().map_err(|error| unreadable(CONFIG_FILE, error))?;
        parse_config(text, self.id)
    }

    /// The manifest of both files together.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn effective(&self) -> Result<Manifest, SpecProblem> {
        let (text, _) = self.config.as_ref().map_err(|error| unreadable(CONFIG_FILE, error))?;
        merge_and_validate(text, &self.overlay, self.id)
    }

    /// What is wrong with the files, if anything is.
    pub fn problem(&self) -> Option<SpecProblem> {
        self.effective().err()
    }
}

/// The manifest of a text for `config.yml` together with the `override.yml` in a folder.
///
/// # Errors
/// What is wrong with them.
pub(super) fn effective(text: &str, folder: &Path, id: ServerId) -> Result<Manifest, SpecProblem> {
    merge_and_validate(text, &read_file(&folder.join(OVERRIDE_FILE)), id)
}

fn merge_and_validate(text: &str, overlay: &ReadFile, id: ServerId) -> Result<Manifest, SpecProblem> {
    let manifest = parse_config(text, id)?;
    let Some(overlay) = text_of(overlay).map_err(|error| unreadable(OVERRIDE_FILE, error))? else {
        return Ok(manifest);
    };
    let manifest = merge(text, overlay).map_err(|error| invalid(OVERRIDE_FILE, error))?;
    validate(&manifest, id).map_err(|problem| located(OVERRIDE_FILE, overlay, problem))?;
    Ok(manifest)
}

fn parse_config(text: &str, id: ServerId) -> Result<Manifest, SpecProblem> {
    let manifest: Manifest = yaml::parse_strict(text).map_err(|error| invalid(CONFIG_FILE, error))?;
    validate(&manifest, id).map_err(|problem| located(CONFIG_FILE, text, problem))?;
    Ok(manifest)
}

/// The text of an optional file; `None` if there is none.
fn text_of(file: &ReadFile) -> Result<Option<&str>, &io::Error> {
    match file {
        Ok((text, _)) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
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
                "{file} is missing; the last good spec stays in effect and nothing is deleted. Restore the file, or run `alula delete` to delete the server"
            ),
        };
    }
    SpecProblem { reason: Reason::SpecInvalid, message: format!("{file} cannot be read: {error}") }
}

fn invalid(file: &str, error: YamlError) -> SpecProblem {
    SpecProblem { reason: Reason::SpecInvalid, message: format!("{file}: {error}") }
}

/// The manifest of the text of a `config.yml` merged with that of an `override.yml`.
///
/// # Errors
/// What is wrong with the override, with the line in it.
pub fn merge(config: &str, overlay: &str) -> Result<Manifest, YamlError> {
    match merged_text(config, overlay)? {
        None => yaml::parse_strict(config),
        Some(merged) => yaml::parse_strict(&merged).map_err(|error| in_overlay(overlay, error)),
    }
}

/// As [`merge`], but lists every value that has a wrong type, and every unknown or missing key.
///
/// # Errors
/// As [`merge`].
pub fn merge_or_list(config: &str, overlay: &str) -> Result<Manifest, Vec<YamlError>> {
    match merged_text(config, overlay).map_err(|error| vec![error])? {
        None => yaml::parse_or_list(config),
        Some(merged) => yaml::parse_or_list(&merged)
            .map_err(|errors| errors.into_iter().map(|error| in_overlay(overlay, error)).collect()),
    }
}

/// Both texts as one, for the same messages (and nearest-key help) as a broken `config.yml` gets. `None` for an empty override.
fn merged_text(config: &str, overlay: &str) -> Result<Option<String>, YamlError> {
    let over = yaml::parse_value(overlay)?;
    if over.is_null() {
        return Ok(None);
    }
    let mut value = yaml::parse_value(config)?;
    overlay_value(&mut value, over);
    yaml::to_string(&value).map(Some)
}

/// The error of a merged text with its position in the override: the lines of the merged text are in no file.
fn in_overlay(overlay: &str, error: YamlError) -> YamlError {
    let (line, column) = error.path.as_deref().and_then(|path| yaml::locate_nearest(overlay, path)).unzip();
    YamlError { line, column, ..error }
}

/// Line and column of the key in a text with which a problem's message begins.
pub fn position_of(problem: &SpecProblem, text: &str) -> Option<(usize, usize)> {
    let key = problem.message.split([' ', ':']).next()?;
    (key.starts_with("metadata.") || key.starts_with("spec.")).then(|| yaml::locate_nearest(text, key))?
}

/// A problem with its file and its position in it.
fn located(file: &str, text: &str, problem: SpecProblem) -> SpecProblem {
    let message = match position_of(&problem, text) {
        Some((line, column)) => format!("{file}: line {line}, column {column}: {}", problem.message),
        None => format!("{file}: {}", problem.message),
    };
    SpecProblem { message, ..problem }
}

/// Merges maps; any other value replaces the one before.
fn overlay_value(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                overlay_value(base.entry(key).or_insert(Value::Null), value);
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
            "# Written by alula from the panel's configuration, and replaced at each sync. Put your own changes into\n# override.yml in this folder.\n"
        }
        ManagedBy::File => "",
    };
    Ok(format!("{head}{}", yaml::to_string(manifest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_no_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let id: ServerId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        assert!(!is_there(folder.path()));
        assert_eq!(read(folder.path(), id).problem().unwrap().reason, Reason::SpecMissing);
        let server = folder.path().join("server");
        std::os::unix::fs::symlink("gone", &server).unwrap();
        assert!(is_there(&server), "a link in the place of the folder");
        let problem = read(&server, id).problem().unwrap();
        assert!(problem.message.contains("server is a symbolic link to gone, which does not exist"), "{problem:?}");
        for file in [CONFIG_FILE, OVERRIDE_FILE] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(CONFIG_FILE), format!("apiVersion: alula/v1\nkind: Server\nmetadata: {{uuid: {id}}}\nspec: {{settings: {{container: {{image: 'a:1'}}}}}}\n")).unwrap();
            let _ = std::fs::remove_file(folder.path().join(file));
            std::os::unix::fs::symlink("../gone.yml", folder.path().join(file)).unwrap();
            assert!(is_there(folder.path()));
            let problem = read(folder.path(), id).problem().unwrap();
            assert_eq!(problem.reason, Reason::SpecInvalid);
            assert!(problem.message.contains(&format!("{file} is a symbolic link to ../gone.yml")), "{problem:?}");
        }
    }

    #[test]
    fn files_are_settled_once_the_clock_has_advanced() {
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
