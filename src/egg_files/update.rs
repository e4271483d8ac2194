//! Reads and writes the configuration files of one server.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{MAX_BYTES, Parser, Placeholders, Replacement, apply, diff, file_path};
use serde::{Deserialize, Serialize};

use crate::files::{Layout, Root};
use crate::model::settings::ConfigFile;
use crate::model::{Manifest, ServerId};

/// The mode of a file that is created.
const MODE: u32 = 0o644;

/// The configuration files of a server, and the values for them.
#[derive(Debug)]
pub struct EggFiles {
    server: ServerId,
    layout: Layout,
    /// Path and entries of each file, in the order of the egg.
    files: Vec<(String, Vec<ConfigFile>)>,
    placeholders: Placeholders,
}

/// What a start makes of one file.
#[derive(Debug)]
struct FileUpdate {
    /// Path below the server's directory.
    path: String,
    /// The bytes before and after, if they differ. `None` before: the file is created.
    change: Option<(Option<Vec<u8>>, Vec<u8>)>,
    /// What could not be done, for people.
    warnings: Vec<String>,
    /// The mode of the file.
    mode: u32,
}

/// What a start makes of a file, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path below the server's directory.
    pub path: String,
    /// In the unified format; empty if nothing changes.
    pub diff: String,
    /// What cannot be done.
    pub warnings: Vec<String>,
}

/// What could not be done with a file, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileWarning {
    /// Path below the server's directory.
    pub path: String,
    /// What, and why.
    pub message: String,
}

impl EggFiles {
    /// The files of a manifest. `interface` is the address at which the server's container reaches the host.
    pub fn new(layout: &Layout, manifest: &Manifest, interface: String) -> Self {
        let mut files: Vec<(String, Vec<ConfigFile>)> = Vec::new();
        for entry in &manifest.spec.process.configs {
            let path = file_path(&entry.file, &manifest.spec.settings).into_owned();
            match files.iter_mut().find(|(other, _)| *other == path) {
                Some((_, entries)) => entries.push(entry.clone()),
                None => files.push((path, vec![entry.clone()])),
            }
        }
        let placeholders = Placeholders::new(manifest, interface);
        Self { server: manifest.metadata.uuid, layout: layout.clone(), files, placeholders }
    }

    /// What [`write`](Self::write) would do. Nothing is written. Ends early when `cancelled` is set.
    pub fn preview(&self, cancelled: &AtomicBool) -> Vec<FileChange> {
        self.each(cancelled, |_, FileUpdate { path, change, warnings, .. }| {
            let diff = change.map(|(before, after)| diff::unified(before.as_deref(), &after)).unwrap_or_default();
            FileChange { path, diff, warnings }
        })
    }

    /// Updates all files. One that cannot be updated stays as it is, and the others are updated nevertheless. Ends early when
    /// `cancelled` is set.
    pub fn write(&self, cancelled: &AtomicBool) -> Vec<FileWarning> {
        let warnings = self.each(cancelled, |root, FileUpdate { path, change, mut warnings, mode }| {
            // A job that was replaced meanwhile must not undo what the server has written since.
            if let (Some(root), Some((_, new))) = (root, change.filter(|_| !cancelled.load(Ordering::Relaxed)))
                && let Err(error) = root.replace_file(Path::new(&path), &new, mode)
            {
                warnings.push(format!("cannot write it: {error}"));
            }
            warnings.into_iter().map(move |message| FileWarning { path: path.clone(), message })
        });
        warnings.into_iter().flatten().collect()
    }

    /// Calls `each` with each file's update. There is no root if the server's directory cannot be opened.
    fn each<T>(&self, cancelled: &AtomicBool, each: impl Fn(Option<&Root>, FileUpdate) -> T) -> Vec<T> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let root = match self.layout.open_data(self.server) {
            Ok(root) => root,
            Err(error) => {
                let warnings = vec![error.to_string()];
                return vec![each(None, FileUpdate { path: String::new(), change: None, warnings, mode: MODE })];
            }
        };
        let files = self.files.iter().take_while(|_| !cancelled.load(Ordering::Relaxed));
        files.map(|(path, entries)| each(Some(&root), self.update(&root, path, entries))).collect()
    }

    /// What the entries of one file make of it.
    fn update(&self, root: &Root, path: &str, entries: &[ConfigFile]) -> FileUpdate {
        let mut update = FileUpdate { path: path.to_owned(), change: None, warnings: Vec::new(), mode: MODE };
        let before = match read(root, Path::new(path)) {
            Ok(Some((bytes, mode))) => {
                update.mode = mode;
                Some(bytes)
            }
            Ok(None) => None,
            Err(error) => {
                update.warnings.push(format!("cannot read it: {error}"));
                return update;
            }
        };
        let mut after = None;
        for entry in entries {
            match self.edited(entry, after.as_deref().or(before.as_deref()), &mut update.warnings) {
                Ok(Some(edited)) => after = Some(edited),
                Ok(None) => {}
                Err(why) => update.warnings.push(why),
            }
        }
        update.change = after.filter(|after| before.as_ref() != Some(after)).map(|after| (before, after));
        update
    }

    /// The new bytes of a file; `None` if nothing changes.
    fn edited(
        &self,
        entry: &ConfigFile,
        bytes: Option<&[u8]>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some(parser) = Parser::named(&entry.parser) else {
            return Err(format!("the parser {:?} is unknown", entry.parser));
        };
        if bytes.is_none() && !entry.create_file {
            return Ok(None);
        }
        let (replacements, mut omitted) = Replacement::prepare(&entry.replace, &self.placeholders);
        let edited = apply(parser, bytes.unwrap_or_default(), &replacements).map_err(|error| error.to_string())?;
        omitted.extend(edited.omitted);
        warnings.extend(omitted.iter().map(|omission| format!("{:?} is left out: {}", omission.key, omission.why)));
        // A file that is missing is created, also if it stays empty.
        Ok(edited.bytes.or_else(|| bytes.is_none().then(Vec::new)))
    }
}

/// The bytes and the mode of a file; `None` if it is missing.
fn read(root: &Root, path: &Path) -> io::Result<Option<(Vec<u8>, u32)>> {
    let (file, stat) = match root.open_file(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    // One byte more than the limit, which the parser rejects.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some((bytes, stat.st_mode & 0o777)))
}

#[cfg(test)]
mod tests;
