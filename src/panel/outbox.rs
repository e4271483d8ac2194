//! Facts that the panel does not have yet: `{root}/outbox/`.
//!
//! A fact happened once and cannot be observed again, so it lies on disk until the panel has it or has definitely refused
//! it. One file per fact, named after what it is about, so that noting the same fact twice leaves one. [`Outbox::put`]
//! returns when the fact would survive a power cut. Nothing is kept in memory but a count: the folder is the truth.
//!
//! A file that cannot be understood is set aside as `{name}.broken`, with an error in the log; it is never removed.
//!
//! All calls block on the disk: asynchronous callers use a blocking thread.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::model::{ServerId, Timestamp};

/// Facts beyond which the log warns that nobody takes them.
pub const CROWDED: usize = 10_000;
/// Longest file that is read, bytes; a fact has a few hundred.
const MAX_FILE: u64 = 64 << 10;
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
const SUFFIX: &str = ".json";

/// Something that happened once and that the panel must hear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fact {
    /// An installation is over (`POST /api/remote/servers/{uuid}/install`).
    InstallResult {
        /// The server.
        server: ServerId,
        /// Which installation, by the token of its intent.
        token: String,
        /// How it ended.
        successful: bool,
        /// Whether it was a reinstallation.
        reinstall: bool,
        /// When it ended.
        at: Timestamp,
    },
}

impl Fact {
    /// What the fact is about: two facts with one key are the same fact, of which the later counts.
    pub fn key(&self) -> String {
        let Fact::InstallResult { server, token, .. } = self;
        Self::install_key(*server, token)
    }

    /// The key of an installation's result.
    pub fn install_key(server: ServerId, token: &str) -> String {
        let digest = Sha256::digest(token.as_bytes());
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{server}-{hex}")
    }

    /// The server that it is about.
    pub fn server(&self) -> ServerId {
        let Fact::InstallResult { server, .. } = self;
        *server
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        let Fact::InstallResult { at, .. } = self;
        *at
    }
}

/// The folder of facts.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
    // Held during each change, so that a comparison and the removal that follows from it are one step.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Facts on disk, as far as this process has seen them come and go.
    count: usize,
    /// Names of files that can be neither read nor set aside; their error was logged.
    complained: BTreeSet<String>,
}

impl State {
    /// Whether this is the first complaint about a file.
    fn complain(&mut self, key: &str) -> bool {
        self.complained.len() < CROWDED && self.complained.insert(key.to_owned())
    }
}

impl Outbox {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|error| failed("create the folder", parent, &error))?;
        }
        match atomic::create_dir(&dir, DIR_MODE) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        atomic::clean_leftovers(&dir, |_| true)?;
        let outbox = Self { dir, state: Mutex::default() };
        let count = outbox.keys()?.len();
        outbox.lock().count = count;
        Ok(outbox)
    }

    /// Notes a fact. When this returns, the fact survives a power cut. A fact that is there already costs nothing;
    /// one with the same key and other content takes its place.
    ///
    /// # Errors
    /// The disk is full, read-only or broken. The fact is not noted.
    pub fn put(&self, fact: &Fact) -> io::Result<()> {
        let key = fact.key();
        let mut state = self.lock();
        let known = self.read(&mut state, &key).unwrap_or_default();
        if known.as_ref() == Some(fact) {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec_pretty(fact)?;
        bytes.push(b'\n');
        atomic::write_file(&self.path(&key), &bytes, FILE_MODE)?;
        if known.is_none() {
            state.count += 1;
            if state.count > CROWDED && state.count.is_multiple_of(CROWDED / 10) {
                tracing::warn!(
                    facts = state.count,
                    folder = %self.dir.display(),
                    "reports for the panel pile up: check that the panel is there and accepts this node's token"
                );
            }
        }
        Ok(())
    }

    /// All facts, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read. A file that cannot be read is left where it is, with an error in the log.
    pub fn pending(&self) -> io::Result<Vec<Fact>> {
        let mut state = self.lock();
        let mut facts = Vec::new();
        for key in self.keys()? {
            match self.read(&mut state, &key) {
                Ok(fact) => facts.extend(fact.map(|fact| (fact.at(), key, fact))),
                // The others are not to wait for this one.
                Err(error) if state.complain(&key) => {
                    tracing::error!(%error, "a report for the panel cannot be read and waits: check the disk");
                }
                Err(_) => {}
            }
        }
        state.count = facts.len();
        facts.sort_by(|(at, key, _), (other_at, other_key, _)| (at, key).cmp(&(other_at, other_key)));
        Ok(facts.into_iter().map(|(_, _, fact)| fact).collect())
    }

    /// The fact with this key.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, key: &str) -> io::Result<Option<Fact>> {
        self.read(&mut self.lock(), key)
    }

    /// Removes the fact with this key. One that is not there is removed already.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, key: &str) -> io::Result<()> {
        self.unlink(&mut self.lock(), key)
    }

    /// Removes a fact that the panel has, unless a later one has taken its place. False if one has.
    ///
    /// # Errors
    /// It cannot be read or removed.
    pub fn settle(&self, fact: &Fact) -> io::Result<bool> {
        let key = fact.key();
        let mut state = self.lock();
        match self.read(&mut state, &key)? {
            Some(other) if other != *fact => Ok(false),
            Some(_) => self.unlink(&mut state, &key).map(|()| true),
            None => Ok(true),
        }
    }

    fn unlink(&self, state: &mut State, key: &str) -> io::Result<()> {
        match atomic::remove_file(&self.path(key)) {
            Ok(()) => state.count = state.count.saturating_sub(1),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Names of all facts' files, without their ending. What has another ending is none of ours.
    fn keys(&self) -> io::Result<Vec<String>> {
        let read = |error: io::Error| failed("read the folder", &self.dir, &error);
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            keys.extend(key.filter(|key| !key.starts_with('.')).map(str::to_owned));
        }
        Ok(keys)
    }

    /// Reads a fact; a file that cannot be understood is set aside.
    fn read(&self, state: &mut State, key: &str) -> io::Result<Option<Fact>> {
        let path = self.path(key);
        let kind = match fs::symlink_metadata(&path) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("look at", &path, &error)),
        };
        if !kind.is_file() {
            self.set_aside(state, key, "it is not a regular file");
            return Ok(None);
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| failed("read", &path, &error))?;
        match understand(key, &bytes) {
            Ok(fact) => Ok(Some(fact)),
            Err(reason) => {
                self.set_aside(state, key, &reason);
                Ok(None)
            }
        }
    }

    /// Gives a file a name under which it is no longer read. If that cannot be, the file is ignored; either way the
    /// error is logged once.
    fn set_aside(&self, state: &mut State, key: &str, reason: &str) {
        let path = self.path(key);
        let aside = (0..1_000).map(|attempt| match attempt {
            0 => self.dir.join(format!("{key}{SUFFIX}.broken")),
            _ => self.dir.join(format!("{key}{SUFFIX}.broken.{attempt}")),
        });
        let free = aside.into_iter().find(|aside| fs::symlink_metadata(aside).is_err());
        let renamed = free.ok_or_else(|| io::Error::from(ErrorKind::AlreadyExists)).and_then(|aside| {
            fs::rename(&path, &aside)?;
            Ok(aside)
        });
        match renamed {
            Ok(aside) => tracing::error!(
                file = %aside.display(),
                reason,
                "a report for the panel cannot be understood and is set aside: repair it and give it its old name, or remove it"
            ),
            Err(error) if state.complain(key) => {
                tracing::error!(
                    file = %path.display(),
                    reason,
                    %error,
                    "a report for the panel cannot be understood, is ignored, and cannot be set aside: repair or remove it"
                );
            }
            Err(_) => {}
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}{SUFFIX}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is a count and a set of names: a panic elsewhere leaves nothing half-done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn understand(key: &str, bytes: &[u8]) -> Result<Fact, String> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is longer than {MAX_FILE} bytes"));
    }
    let fact: Fact = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match fact.key() {
        expected if expected == key => Ok(fact),
        expected => Err(format!("its content belongs in {expected}{SUFFIX}")),
    }
}

fn failed(action: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
