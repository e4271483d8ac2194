//! Reads and writes the configuration files of one server.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{MAX_BYTES, Parser, Placeholders, Replacement, apply, file_path};
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
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileUpdate {
    /// Path below the server's directory.
    pub path: String,
    /// The bytes before and after, if they differ. `None` before: the file is created.
    pub change: Option<(Option<Vec<u8>>, Vec<u8>)>,
    /// What could not be done, for people.
    pub warnings: Vec<String>,
}

/// What is known of a file while its entries are applied.
#[derive(Default)]
struct Content {
    bytes: Option<Vec<u8>>,
    mode: u32,
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

    /// What [`write`](Self::write) would do. Nothing is written.
    pub fn preview(&self) -> Vec<FileUpdate> {
        self.each(&AtomicBool::new(false), |_, _, _| Ok(()))
    }

    /// Updates all files. One that cannot be updated stays as it is, and the others are updated nevertheless. Ends early when
    /// `cancelled` is set.
    pub fn write(&self, cancelled: &AtomicBool) -> Vec<FileUpdate> {
        self.each(cancelled, |root, update, mode| match &update.change {
            Some((_, new)) => root.replace_file(Path::new(&update.path), new, mode),
            None => Ok(()),
        })
    }

    fn each(
        &self,
        cancelled: &AtomicBool,
        write: impl Fn(&Root, &FileUpdate, u32) -> io::Result<()>,
    ) -> Vec<FileUpdate> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let root = match self.layout.open_data(self.server) {
            Ok(root) => root,
            Err(error) => return vec![FileUpdate { warnings: vec![error.to_string()], ..FileUpdate::default() }],
        };
        let files = self.files.iter().take_while(|_| !cancelled.load(Ordering::Relaxed));
        let updates = files.map(|(path, entries)| {
            let (mut update, mode) = self.update(&root, path, entries);
            if let Err(error) = write(&root, &update, mode) {
                update.change = None;
                update.warnings.push(format!("cannot write it: {error}"));
            }
            update
        });
        updates.collect()
    }

    /// What the entries of one file make of it, and its mode.
    fn update(&self, root: &Root, path: &str, entries: &[ConfigFile]) -> (FileUpdate, u32) {
        let mut update = FileUpdate { path: path.to_owned(), ..FileUpdate::default() };
        let before = match read(root, Path::new(path)) {
            Ok(content) => content,
            Err(error) => {
                update.warnings.push(format!("cannot read it: {error}"));
                return (update, MODE);
            }
        };
        let mut bytes = before.bytes.clone();
        for entry in entries {
            match self.edited(entry, bytes.as_deref(), &mut update.warnings) {
                Ok(Some(edited)) => bytes = Some(edited),
                Ok(None) => {}
                Err(why) => update.warnings.push(why),
            }
        }
        if let Some(bytes) = bytes.filter(|bytes| before.bytes.as_ref() != Some(bytes)) {
            update.change = Some((before.bytes, bytes));
        }
        (update, before.mode)
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

fn read(root: &Root, path: &Path) -> io::Result<Content> {
    let (file, stat) = match root.open_file(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Content { bytes: None, mode: MODE }),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    // One byte more than the limit, which the parser rejects.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Content { bytes: Some(bytes), mode: stat.st_mode & 0o777 })
}
