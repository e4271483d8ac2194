//! Reading the whole state folder at boot: one `stat` and one read for each server whose files are as they were.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use rustix::io::Errno;

use super::entry::Revisions;
use super::fingerprint::FileFingerprint;
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, Place, RECORD_FILE, RECORD_VERSION, Sources, SpecProblem, StoreError,
    StoredRecord, intent, write,
};
use crate::atomic;
use crate::model::{
    Closed, InstallOutcome, InstallRecord, InstallResult, ManagedBy, Manifest, PowerState, Reason, Record, ServerId,
    Timestamp, Want,
};

/// What may be done to the files that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Leftovers are removed, and records that are of no use are set aside.
    Write,
    /// All of it stays as it is.
    Read,
}

/// Reads every record below the folder, on all cores.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn load_all(servers: &Path, access: Access, revisions: &Revisions) -> Result<Vec<Entry>, StoreError> {
    let disk =
        |source| StoreError::Disk { action: "list the folder", path: servers.to_owned(), source: advised(source) };
    let mut ids = Vec::new();
    for item in std::fs::read_dir(servers).map_err(disk)? {
        let name = item.map_err(disk)?.file_name();
        match name.to_str().map(str::parse::<ServerId>) {
            Some(Ok(id)) => ids.push(id),
            _ if name.as_encoded_bytes().starts_with(b".") => {}
            _ => tracing::warn!(name = ?name, "a folder in servers/ is not named by a UUID and is left alone"),
        }
    }
    ids.sort_unstable();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = ids.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let load = |id: &ServerId| {
            if access == Access::Write {
                tidy(&servers.join(id.to_string()));
            }
            load(servers, *id, access, revisions)
        };
        let read = |part| move || Vec::from_iter(<[ServerId]>::iter(part).filter_map(load));
        let parts: Vec<_> = ids.chunks(share).map(|part| scope.spawn(read(part))).collect();
        Ok(parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect())
    })
}

/// Removes what writers that were cut off have left in a server's folder; other names are other people's.
fn tidy(folder: &Path) {
    match atomic::clean_leftovers(folder, |file| [CONFIG_FILE, RECORD_FILE].contains(&file)) {
        Ok(_) => {}
        // A file with a server's name is no server.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {}
        Err(error) => tracing::warn!("{error}"),
    }
}

/// Reads one record. A folder with neither intent nor facts is no server.
pub(super) fn load(servers: &Path, id: ServerId, access: Access, revisions: &Revisions) -> Option<Entry> {
    let folder = servers.join(id.to_string());
    let (stored, lost) = match facts(&folder.join(RECORD_FILE), id, access) {
        Facts::Known(stored) => (Some(Box::new(of_this_place(*stored, &folder, id))), false),
        Facts::New => (None, false),
        Facts::Lost => (None, true),
        Facts::OutOfReach(what) => return Some(sealed_entry(id, revisions, &what)),
    };
    let now = Sources {
        config: FileFingerprint::of(&folder.join(CONFIG_FILE)).ok(),
        overlay: FileFingerprint::of(&folder.join(OVERRIDE_FILE)).ok(),
    };
    match stored {
        Some(stored) if now.config.is_some() && now == stored.files => {
            Some(Entry::new(id, revisions, now, stored.last_good.map(Arc::new), stored.facts, None))
        }
        None if now.config.is_none() && !lost => None,
        stored => Some(read_intent(&folder, id, revisions, stored, lost)),
    }
}

/// Which folder it is.
pub(super) fn place(folder: &Path) -> Option<Place> {
    let found = std::fs::metadata(folder).ok()?;
    let born = found.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let born_ns = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    Some(Place { inode: found.ino(), born_ns })
}

/// What still holds of a record in a folder that somebody has copied, renamed or put back. A deletion was that of another
/// folder: whoever rescues files must not see them removed. From another server's record only what was done to the files
/// counts, which are a copy of those that it was done to.
fn of_this_place(mut stored: Stored, folder: &Path, id: ServerId) -> Stored {
    let elsewhere = || stored.folder.is_some() && stored.folder != place(folder);
    let another = stored.last_good.as_ref().is_some_and(|last| last.metadata.uuid != id);
    if stored.facts.deletion.is_some() && (another || elsewhere()) {
        tracing::warn!(server.id = %id, "the folder was copied or put back while its server was being deleted; it is kept. Delete the server again if it should go");
        stored.facts.deletion = None;
    }
    if another {
        tracing::warn!(server.id = %id, "record.json is that of another server; what was installed counts, the rest does not");
        let install = stored.facts.install;
        let done = install.done.map(|done| InstallResult { reported: true, ..done });
        let install = InstallRecord { done, past: install.past, ..InstallRecord::default() };
        stored.facts = Record { install, ..Record::default() };
        stored.last_good = None;
        stored.files = Sources::default();
    }
    stored
}

/// What is known of a server's past.
enum Facts {
    Known(Box<Stored>),
    /// It has none.
    New,
    /// They were of no use, and lie beside the place of the record.
    Lost,
    /// They may be whole, and cannot be read.
    OutOfReach(String),
}

/// Reads a record. One that is of no use is set aside, where that is allowed.
fn facts(path: &Path, id: ServerId, access: Access) -> Facts {
    let why = match (read_record(path), access) {
        (Found::Whole(stored), _) => return Facts::Known(stored),
        (Found::Nothing, _) => return Facts::New,
        (Found::SetAside, _) => "was set aside when it was last read".to_owned(),
        (Found::Damaged(why), Access::Read) => format!("{why}; the daemon sets it aside when it runs"),
        (Found::Unreadable(error), Access::Read) => {
            return Facts::OutOfReach(format!("cannot be read ({})", advised(error)));
        }
        (Found::Unreadable(error), Access::Write) if is_the_nodes(&error) => {
            return Facts::OutOfReach(format!("cannot be read now ({error})"));
        }
        (Found::Damaged(why), Access::Write) => match set_aside(path) {
            Ok(()) => format!("{why} and is set aside"),
            Err(error) => return Facts::OutOfReach(format!("{why}, and cannot be set aside ({error})")),
        },
        (Found::Unreadable(error), Access::Write) => match set_aside(path) {
            Ok(()) => format!("cannot be read ({error}) and is set aside"),
            Err(second) => return Facts::OutOfReach(format!("cannot be read ({error}) or set aside ({second})")),
        },
    };
    tracing::error!(server.id = %id, "record.json {why}; its facts are lost and are gathered anew");
    Facts::Lost
}

/// A server whose facts are there and out of reach: nothing is done about it, and nothing written over them.
fn sealed_entry(id: ServerId, revisions: &Revisions, what: &str) -> Entry {
    let message = format!(
        "record.json {what}; nothing is done with this server until it can be read: see who owns the file and whether its disk is well, or rename it to record.json.broken if its facts do not matter"
    );
    tracing::error!(server.id = %id, "{message}");
    let problem = SpecProblem { reason: Reason::RecordUnreadable, message: message.clone() };
    let entry = Entry::new(id, revisions, Sources::default(), None, Record::default(), Some(problem));
    Entry { sealed: RwLock::new(Some(message)), ..entry }
}

/// An error with what a person at a terminal may do about it.
fn advised(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(error.kind(), format!("{error}; run this as root")),
        _ => error,
    }
}

/// Whether the node was short of something for a moment: nothing is wrong with the file.
fn is_the_nodes(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Extension of a damaged `record.json`.
const BROKEN: &str = "json.broken";

/// Whether a damaged record was set aside and none was written since.
pub(super) fn facts_were_lost(folder: &Path) -> bool {
    let record = folder.join(RECORD_FILE);
    !record.exists() && record.with_extension(BROKEN).exists()
}

type Stored = StoredRecord<Option<Manifest>, Record>;

/// What lies where a record should.
enum Found {
    Whole(Box<Stored>),
    Nothing,
    /// A record that was of no use lies beside it.
    SetAside,
    /// It says nothing that this release understands.
    Damaged(String),
    /// What it says cannot be known.
    Unreadable(io::Error),
}

fn read_record(path: &Path) -> Found {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if path.with_extension(BROKEN).exists() { Found::SetAside } else { Found::Nothing };
        }
        // A file with a server's name is no server.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Found::Nothing,
        Err(error) => return Found::Unreadable(error),
    };
    match serde_json::from_slice::<Stored>(&text) {
        Ok(stored) if stored.version == RECORD_VERSION => Found::Whole(Box::new(stored)),
        Ok(stored) => {
            Found::Damaged(format!("has version {}, and this release knows {RECORD_VERSION}", stored.version))
        }
        Err(error) => Found::Damaged(format!("does not parse ({error})")),
    }
}

/// Keeps a record that is of no use for whoever wants to know what was in it.
fn set_aside(path: &Path) -> io::Result<()> {
    std::fs::rename(path, path.with_extension(BROKEN))
}

/// The files of intent are new or changed since the record was written: read them. What they mean is recorded at
/// the first look of the reconciler.
fn read_intent(
    folder: &Path,
    id: ServerId,
    revisions: &Revisions,
    stored: Option<Box<Stored>>,
    facts_lost: bool,
) -> Entry {
    let files = intent::read(folder, id);
    let (last_good, mut record) = match stored {
        Some(stored) => (stored.last_good, stored.facts),
        None => (None, Record::default()),
    };
    let (manifest, problem): (Option<Manifest>, Option<SpecProblem>) = match files.effective() {
        Ok(mut manifest) => {
            if record.pending_counts(manifest.spec.power.as_ref()) {
                manifest.spec.power = record.pending_power.clone();
            }
            let before = last_good.as_ref().and_then(|last: &Manifest| last.spec.power.as_ref());
            record.supersede_power(before, manifest.spec.power.as_ref());
            let hash = manifest.hash();
            if hash != record.accepted_hash {
                record.generation += 1;
                record.accepted_hash = hash;
            }
            (Some(manifest), None)
        }
        Err(problem) => (last_good, Some(problem)),
    };
    if let (true, Some(manifest)) = (facts_lost, &manifest) {
        assume_all_was_done(&mut record, manifest);
    }
    // Left empty, so that `refresh` (the first thing a pass does after boot) records what was accepted here.
    let entry = Entry::new(id, revisions, Sources::default(), manifest.map(Arc::new), record, problem);
    if facts_lost {
        // What the panel may show of it is no evidence of the server's state.
        Arc::make_mut(&mut write(&entry.status)).state = PowerState::Offline;
    }
    entry
}

/// Completes every request in a manifest whose record was lost: a server that stays down can be started by anybody, and a
/// world over which the install script ran again cannot be restored by anybody (ADR 6).
pub(super) fn assume_all_was_done(record: &mut Record, manifest: &Manifest) {
    let at = Timestamp::default();
    let message = "record.json was damaged; this wish is taken for done. Make a new one if it is not";
    let mut close = |id: String, want: Want| {
        let (reason, message) = (Reason::RecordLost, message.into());
        record.close_power(Closed { id, want: Some(want), reason, message, at });
    };
    if let Some(install) = manifest.spec.install.as_ref().filter(|install| install.then_start) {
        close(format!("install:{}", install.token), Want::Up);
    }
    if let Some(power) = &manifest.spec.power {
        close(power.id.clone(), power.want);
    }
    let of_panel = manifest.metadata.managed_by == ManagedBy::Panel;
    // The panel may show any state: with this one `offline` is reported, too.
    record.told = of_panel.then_some(PowerState::Running);
    if let Some(install) = &manifest.spec.install {
        record.install.done = Some(InstallResult {
            token: install.token.clone(),
            outcome: InstallOutcome::Succeeded,
            reinstall: install.reinstall,
            exit_code: None,
            reason: Reason::RecordLost,
            message: message.into(),
            at,
            reported: true,
        });
        record.install.reset_owed = of_panel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_their_remedy() {
        let denied = advised(io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error()));
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert!(denied.to_string().ends_with("; run this as root"), "{denied}");
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::IO, false), (Errno::ACCESS, false)]
        {
            assert_eq!(is_the_nodes(&io::Error::from_raw_os_error(errno.raw_os_error())), expected, "{errno:?}");
        }
    }
}
