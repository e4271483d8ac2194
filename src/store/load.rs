//! Reading the state folder at boot: one `stat` and one read for each file of a server whose manifest files are unchanged.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::entry::Revisions;
use super::fingerprint::FileFingerprint;
use super::stored::{self, FolderId, Sources, StoredRecord, StoredRequests};
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE, Snapshot, SpecProblem, StoreError, lock, manifests,
    write,
};
use crate::atomic::{self, AtomicError};
use crate::model::record::AppliedLimits;
use crate::model::{
    Handled, InstallOutcome, InstallRecord, InstallResult, Manifest, PowerState, Reason, Record, Requests, ServerId,
    Timestamp, Verb,
};
use crate::requests;
use crate::tasks::panic_text;

/// What may be done to the files that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Leftovers are removed, and files that cannot be used are quarantined.
    Write,
    /// No file is changed.
    Read,
}

/// Reads every server below the folder, on all cores.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn load_all(
    servers: &Path,
    access: Access,
    revisions: &Revisions,
    now: Timestamp,
) -> Result<Vec<Entry>, StoreError> {
    let disk = AtomicError::at("list the folder", servers);
    let mut ids = Vec::new();
    for item in std::fs::read_dir(servers).map_err(&disk)? {
        let name = item.map_err(&disk)?.file_name();
        match name.to_str().map(str::parse::<ServerId>) {
            Some(Ok(id)) => ids.push(id),
            _ if name.as_encoded_bytes().starts_with(b".") => {}
            _ => tracing::warn!(name = ?name, "ignoring a folder in servers/ whose name is not a UUID"),
        }
    }
    ids.sort_unstable();
    let loaded = atomic::in_parallel(&ids, |id| {
        if access == Access::Write {
            tidy(&servers.join(id.to_string()));
        }
        let found = load(servers, *id, access, revisions, now);
        if found.is_none() && access == Access::Write {
            // The end of a removal that a crash has interrupted: it fails if the folder is not empty.
            let _ = std::fs::remove_dir(servers.join(id.to_string()));
        }
        found
    });
    Ok(loaded.into_iter().flatten().collect())
}

/// Removes temporary files that a crash has left in a server's folder. Files with other names do not belong to the store.
fn tidy(folder: &Path) {
    match atomic::clean_leftovers(folder, |file| [CONFIG_FILE, REQUESTS_FILE, RECORD_FILE].contains(&file)) {
        Ok(()) => {}
        // A file with a server's name is not a server.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {}
        Err(error) => tracing::warn!(%error, "leftovers of a crash stay in a server's folder"),
    }
}

/// What the store's files contain about a server.
#[derive(Default)]
struct Past {
    files: Sources,
    last_good: Option<Manifest>,
    record: Record,
    requests: Requests,
    /// A file could not be used, so its content is not known.
    lost: bool,
}

/// Reads one server. A folder with neither a manifest nor a record is not a server. A manifest whose symbolic link leads nowhere is a
/// problem of its server.
pub(super) fn load(
    servers: &Path,
    id: ServerId,
    access: Access,
    revisions: &Revisions,
    now: Timestamp,
) -> Option<Entry> {
    contain_panic(id, revisions, || read_server(servers, id, access, revisions, now))
}

/// Reads one server. A panic is a problem of this server: the others are loaded.
fn contain_panic(id: ServerId, revisions: &Revisions, read: impl FnOnce() -> Option<Entry>) -> Option<Entry> {
    std::panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let message = format!(
            "reading the server's files failed (bug, please report): {}; nothing is done with this server until its files can be read",
            panic_text(panic.as_ref())
        );
        Some(quarantined_entry(id, revisions, message))
    })
}

fn read_server(servers: &Path, id: ServerId, access: Access, revisions: &Revisions, now: Timestamp) -> Option<Entry> {
    let folder = servers.join(id.to_string());
    let found = Sources {
        config: FileFingerprint::of(&folder.join(CONFIG_FILE)).ok(),
        overlay: FileFingerprint::of(&folder.join(OVERRIDE_FILE)).ok(),
    };
    let record = read_or_quarantine(&folder.join(RECORD_FILE), id, access);
    if found.config.is_none() && !manifests::is_there(&folder) && matches!(record, Loaded::New) {
        if access == Access::Write {
            remove_unfinished(&folder.join(REQUESTS_FILE));
        }
        return None;
    }
    let requests = read_or_quarantine(&folder.join(REQUESTS_FILE), id, access);
    let (record, requests) = without_older_copies(record, requests, &folder, id, access);
    match (&record, &requests) {
        (Loaded::Unreadable(why), _) => return Some(quarantined_entry(id, revisions, unreadable(RECORD_FILE, why))),
        (_, Loaded::Unreadable(why)) => return Some(quarantined_entry(id, revisions, unreadable(REQUESTS_FILE, why))),
        _ => {}
    }
    let past = past(record, requests, &folder, id);
    Some(read_spec(&folder, id, revisions, past, found, now))
}

/// Each of the two files says how far the other one was at least. One that is behind is an older copy, from a backup. It counts as
/// lost: with its content an install script would run again, over the files that it has written.
fn without_older_copies(
    record: Loaded<RecordFile>,
    requests: Loaded<RequestsFile>,
    folder: &Path,
    id: ServerId,
    access: Access,
) -> (Loaded<RecordFile>, Loaded<RequestsFile>) {
    let (Loaded::Known(known), Loaded::Known(asked)) = (&record, &requests) else { return (record, requests) };
    let of_another = asked.server != id || known.last_good.as_ref().is_some_and(|last| last.metadata.uuid != id);
    // While a server is created again after its deletion, its record is reset first.
    if of_another || requests::deletion(&asked.requests).is_some() {
        return (record, requests);
    }
    let record_behind = requests::installed_through(&known.record) < asked.requests.installed_through;
    let requests_behind = asked.requests.sequence < requests::sequence_in(&known.record);
    if record_behind {
        return (older_copy(&folder.join(RECORD_FILE), id, access), requests);
    }
    if requests_behind {
        return (record, older_copy(&folder.join(REQUESTS_FILE), id, access));
    }
    (record, requests)
}

fn older_copy<T>(path: &Path, id: ServerId, access: Access) -> Loaded<T> {
    let file = path.file_name().unwrap_or_default().display();
    tracing::error!(server.id = %id, %file, "a file of the store is an older copy; earlier requests count as completed");
    if access == Access::Write
        && let Err(error) = stored::quarantine(path)
    {
        return Loaded::Unreadable(format!("is an older copy, and cannot be quarantined ({error})"));
    }
    Loaded::Lost
}

/// Removes the requests of a create that was cut off, so that a manifest written into the folder later does not find them.
fn remove_unfinished(requests: &Path) {
    match atomic::remove_file(requests) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            tracing::warn!("{error}");
        }
        _ => {}
    }
}

fn past(record: Loaded<RecordFile>, requests: Loaded<RequestsFile>, folder: &Path, id: ServerId) -> Past {
    let record_lost = matches!(record, Loaded::Lost);
    let requests_lost = matches!(requests, Loaded::Lost);
    let mut past = Past { lost: record_lost || requests_lost, ..Past::default() };
    if let Loaded::Known(stored) = record {
        (past.files, past.last_good, past.record) = (stored.files, stored.last_good, stored.record);
    }
    if let Loaded::Known(stored) = requests {
        past.requests = requests_of_this_folder(*stored, folder, id);
    }
    drop_another_servers(&mut past, id);
    if requests_lost {
        // A sequence above 0 has the file written again even without a request: otherwise it would count as lost at each start.
        past.requests.sequence = requests::last_sequence(&past.requests, &past.record).max(1);
        past.requests.lost = true;
    }
    if past.lost {
        assume_all_was_done(&mut past, record_lost, requests_lost);
    }
    past
}

/// Removes the requests that do not apply to a folder that was copied, renamed or restored. A deletion applied to another folder, so
/// restored files are kept. Of another server's requests only the handled values of the fields about files apply: the files are a
/// copy of those for which they were handled.
fn requests_of_this_folder(stored: RequestsFile, folder: &Path, id: ServerId) -> Requests {
    let StoredRequests { server, folder: deleted, mut requests, .. } = stored;
    if server != id {
        requests.accepted.clear();
        requests.installed_through = 0;
        requests.declared.power = None;
        return requests;
    }
    if requests::deletion(&requests).is_some() && deleted != FolderId::of(folder) {
        tracing::warn!(server.id = %id, "the folder was copied or restored while its server was being deleted and is kept; delete the server again to remove it");
        requests.accepted.retain(|request| request.verb != Verb::Delete);
    }
    requests
}

/// From another server's record only the installation applies: the files are a copy of those that it wrote.
fn drop_another_servers(past: &mut Past, id: ServerId) {
    if past.last_good.as_ref().is_none_or(|last| last.metadata.uuid == id) {
        return;
    }
    tracing::warn!(server.id = %id, "record.json belongs to another server; only its installation is used");
    let done = past.record.install.done.take().map(|done| InstallResult { reported: true, ..done });
    past.record = Record { install: InstallRecord { done, ..InstallRecord::default() }, ..Record::default() };
    past.last_good = None;
    past.files = Sources::default();
}

type RecordFile = StoredRecord<Option<Manifest>, Record>;
type RequestsFile = StoredRequests<Requests>;

/// A file of the store after reading.
enum Loaded<T> {
    Known(Box<T>),
    /// There is no file.
    New,
    /// The file could not be used, and is quarantined.
    Lost,
    /// The file may be complete, and cannot be read.
    Unreadable(String),
}

/// Reads a file of the store. A file that cannot be used is quarantined where that is allowed.
fn read_or_quarantine<T: DeserializeOwned>(path: &Path, id: ServerId, access: Access) -> Loaded<T> {
    let lost = |why: &str| {
        let file = path.file_name().unwrap_or_default().display();
        tracing::error!(server.id = %id, %file, why, "a file of the store is lost; earlier requests count as completed");
        Loaded::Lost
    };
    let why = match std::fs::read(path).map(|text| serde_json::from_slice(&text)) {
        Ok(Ok(stored)) => return Loaded::Known(Box::new(stored)),
        Ok(Err(error)) => format!("does not parse ({error})"),
        Err(error) if error.kind() == io::ErrorKind::NotFound && stored::was_quarantined(path) => {
            return lost("was quarantined earlier");
        }
        // A file with a server's name is not a server.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Loaded::New;
        }
        Err(error) if access == Access::Read || is_the_nodes(&error) => {
            return Loaded::Unreadable(format!("cannot be read ({error}{})", atomic::remedy(error.kind())));
        }
        Err(error) => format!("cannot be read ({error})"),
    };
    if access == Access::Write
        && let Err(error) = stored::quarantine(path)
    {
        return Loaded::Unreadable(format!("{why}, and cannot be quarantined ({error})"));
    }
    lost(&why)
}

fn unreadable(file: &str, why: &str) -> String {
    format!(
        "{file} {why}; nothing is done with this server until the file can be read: check its owner and its disk, or rename it to {file}.broken if its content does not matter"
    )
}

/// A server with a file that exists and cannot be read: nothing is done with the server, and the file is not overwritten.
fn quarantined_entry(id: ServerId, revisions: &Revisions, message: String) -> Entry {
    tracing::error!(server.id = %id, "{message}");
    let problem = SpecProblem { reason: Reason::RecordUnreadable, message: message.clone() };
    let entry = Entry::empty(id, revisions);
    entry.publish(|next| next.problem = Some(problem));
    lock(&entry.write).quarantine = Some(message);
    entry
}

/// Whether the node was short of a resource for a moment: nothing is wrong with the file.
fn is_the_nodes(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The spec in effect: the one in the record, if the files are those from which it was read. A changed spec is recorded by the
/// first pass.
fn read_spec(folder: &Path, id: ServerId, revisions: &Revisions, past: Past, found: Sources, now: Timestamp) -> Entry {
    let Past { files, last_good, mut record, mut requests, lost } = past;
    // A record was written again, and the requests do not state it yet.
    let stale = !lost && requests.completed_through.take().is_some();
    let first = last_good.is_none();
    // Read later, when it is complete: until then the last good spec is in effect.
    let is_written = found.are_written(&files, now);
    let unchanged = !first && !lost && found.config.is_some() && (found == files || is_written);
    let (manifest, problem): (Option<Manifest>, Option<SpecProblem>) = match unchanged {
        true => (last_good, None),
        false => match manifests::read(folder, id).effective() {
            Ok(manifest) => (Some(manifest), None),
            Err(problem) => (last_good, Some(problem)),
        },
    };
    let mut unrecorded = stale || (!unchanged && (problem.is_none() || lost));
    if let (Some(manifest), None) = (&manifest, &problem) {
        if !unchanged {
            record.accept_hash(manifest.hash(), now);
        }
        if let Some(declared) = requests::declare(&requests, &record, &manifest.spec, now, first) {
            requests = declared;
            unrecorded = true;
        }
    }
    let snapshot = Snapshot {
        id,
        revision: 0,
        manifest: manifest.map(Arc::new),
        requests: Arc::new(requests),
        record: Arc::new(record),
        problem,
        unrecorded,
    };
    // Empty if something is to be recorded: the `refresh` of the first pass reads the files again.
    let sources = match (unrecorded, is_written) {
        (true, _) => Sources::default(),
        (false, true) => files,
        (false, false) => found,
    };
    let entry = Entry::new(revisions, sources, snapshot);
    if lost {
        // The state that the panel may show is no evidence of the server's state.
        Arc::make_mut(&mut write(&entry.status)).state = PowerState::Offline;
    }
    entry
}

/// Takes every request for completed that a lost file may have described: a server that stays offline can be started again, but
/// files that an install script has overwritten cannot be restored (ADR 6).
fn assume_all_was_done(past: &mut Past, record_lost: bool, requests_lost: bool) {
    let (record, requests) = (&mut past.record, &past.requests);
    let (at, reason) = (Timestamp::default(), Reason::RecordLost);
    let message = "a file of this server was damaged, or an older copy; earlier requests count as completed. Request again what is not done";
    // Without a manifest the manager is not known. A server that no panel manages ignores what follows.
    let of_panel = past.last_good.as_ref().is_none_or(Manifest::is_managed_by_panel);
    // Requests that were accepted after the record was lost, and before another one was written, are not completed.
    let sequence = requests.completed_through.unwrap_or_else(|| requests::last_sequence(requests, record));
    let earlier = || requests.accepted.iter().rev().filter(|request| request.sequence <= sequence);
    let power = earlier().find(|request| request.verb.is_power());
    if record_lost && sequence > 0 {
        let (id, verb) = power.map_or((String::new(), Verb::Stop), |power| (power.id.clone(), power.verb));
        record.power.handled = Some(Handled { sequence, id, verb, reason, message: message.into(), at });
    }
    let install = earlier().find_map(|request| match request.verb {
        Verb::Install { reinstall, .. } => Some((request.id.clone(), request.sequence, reinstall)),
        _ => None,
    });
    let begun = record.install.begun.clone().map(|begun| (begun, sequence, false));
    let install = match (record_lost, requests_lost) {
        (true, false) => install,
        (false, _) => begun,
        // Nothing is known, and the panel may be waiting for a result.
        (true, true) => Some(("lost".into(), sequence, false)),
    };
    if let (Some((token, sequence, reinstall)), None) = (install, &record.install.done) {
        record.install.done = Some(InstallResult {
            token,
            sequence,
            outcome: InstallOutcome::Succeeded,
            reinstall,
            exit_code: None,
            reason,
            message: message.into(),
            at,
            reported: true,
        });
    }
    if record_lost {
        // The limits of a running container may differ from those in its label.
        record.power.limits = Some(AppliedLimits::default());
        past.requests.completed_through = Some(sequence);
    }
    if of_panel {
        // The panel may show any state, and a pending installation: with these values `offline` is reported, and the panel's flags
        // are reset.
        record.last_reported = Some(PowerState::Running);
        record.install.reset_owed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_the_node_is_not_an_error_of_the_file() {
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::IO, false), (Errno::ACCESS, false)]
        {
            assert_eq!(is_the_nodes(&io::Error::from_raw_os_error(errno.raw_os_error())), expected, "{errno:?}");
        }
    }

    #[test]
    fn a_panic_while_a_server_is_read_quarantines_that_server() {
        let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let entry = contain_panic(id, &Revisions::default(), || panic!("of a parser")).unwrap();
        let problem = crate::store::read(&entry.snapshot).problem.clone().unwrap();
        assert_eq!(problem.reason, Reason::RecordUnreadable);
        assert!(problem.message.contains("of a parser"), "{}", problem.message);
        assert!(lock(&entry.write).quarantine.is_some(), "its files are not overwritten");
    }
}
