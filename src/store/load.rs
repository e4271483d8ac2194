//! Reading the whole state folder at boot: one `stat` and one read for each server whose files are as they were.

use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};

use rustix::io::Errno;

use super::entry::Revisions;
use super::fingerprint::FileFingerprint;
use super::stored::{self, FolderId, Found, Sources, StoredRecord, StoredRequests, Versioned};
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE, Snapshot, SpecProblem, StoreError, manifests, write,
};
use crate::atomic;
use crate::model::record::AppliedLimits;
use crate::model::{
    Handled, InstallOutcome, InstallRecord, InstallResult, ManagedBy, Manifest, PowerState, Reason, Record, Requests,
    ServerId, Timestamp, Verb,
};
use crate::requests;

/// What may be done to the files that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Leftovers are removed, and files that are of no use are set aside.
    Write,
    /// All of it stays as it is.
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
            load(servers, *id, access, revisions, now)
        };
        let read = |part| move || Vec::from_iter(<[ServerId]>::iter(part).filter_map(load));
        let parts: Vec<_> = ids.chunks(share).map(|part| scope.spawn(read(part))).collect();
        Ok(parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect())
    })
}

/// Removes what writers that were cut off have left in a server's folder; other names are other people's.
fn tidy(folder: &Path) {
    match atomic::clean_leftovers(folder, |file| [CONFIG_FILE, REQUESTS_FILE, RECORD_FILE].contains(&file)) {
        Ok(_) => {}
        // A file with a server's name is no server.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {}
        Err(error) => tracing::warn!("{error}"),
    }
}

/// What is known of a server's past.
struct Past {
    files: Sources,
    last_good: Option<Manifest>,
    record: Record,
    requests: Requests,
    /// A file of it was of no use, so what it said is not known.
    lost: bool,
}

/// Reads one server. A folder with neither a manifest nor a record is no server.
pub(super) fn load(
    servers: &Path,
    id: ServerId,
    access: Access,
    revisions: &Revisions,
    now: Timestamp,
) -> Option<Entry> {
    let folder = servers.join(id.to_string());
    let found = Sources {
        config: FileFingerprint::of(&folder.join(CONFIG_FILE)).ok(),
        overlay: FileFingerprint::of(&folder.join(OVERRIDE_FILE)).ok(),
    };
    let record = facts(&folder.join(RECORD_FILE), id, access);
    if found.config.is_none() && matches!(record, Facts::New) {
        return None;
    }
    let requests = facts(&folder.join(REQUESTS_FILE), id, access);
    match (&record, &requests) {
        (Facts::OutOfReach(what), _) => return Some(quarantined_entry(id, revisions, RECORD_FILE, what)),
        (_, Facts::OutOfReach(what)) => return Some(quarantined_entry(id, revisions, REQUESTS_FILE, what)),
        _ => {}
    }
    let past = past(record, requests, &folder, id);
    Some(read_spec(&folder, id, revisions, past, found, now))
}

fn past(record: Facts<RecordFile>, requests: Facts<RequestsFile>, folder: &Path, id: ServerId) -> Past {
    let record_lost = matches!(record, Facts::Lost);
    let requests_lost = matches!(requests, Facts::Lost);
    let mut past = Past {
        files: Sources::default(),
        last_good: None,
        record: Record::default(),
        requests: Requests::default(),
        lost: record_lost || requests_lost,
    };
    if let Facts::Known(stored) = record {
        (past.files, past.last_good, past.record) = (stored.files, stored.last_good, stored.facts);
    }
    if let Facts::Known(stored) = requests {
        past.requests = requests_of_this_folder(*stored, folder, id);
    }
    drop_another_servers(&mut past, id);
    if requests_lost {
        // Not as in a new server, whose requests are written with the first one: this file is written in any case, or it would
        // count as lost at each start of the daemon.
        past.requests.sequence = requests::last_sequence(&past.requests, &past.record).max(1);
        past.requests.lost = true;
    }
    if past.lost {
        assume_all_was_done(&mut past, record_lost, requests_lost);
    }
    past
}

/// What still holds of requests in a folder that was copied, renamed or put back. A deletion was that of another folder: files
/// that were rescued are not removed. Of another server's requests only the handled values of the fields that are about files
/// count, which are a copy of those that they were handled for.
fn requests_of_this_folder(stored: RequestsFile, folder: &Path, id: ServerId) -> Requests {
    let StoredRequests { server, folder: place, mut requests, .. } = stored;
    if server != id {
        requests.accepted.clear();
        requests.declared.power = None;
        return requests;
    }
    if requests::deletion(&requests).is_some() && place != FolderId::of(folder) {
        tracing::warn!(server.id = %id, "the folder was copied or put back while its server was being deleted; it is kept. Delete the server again if it should go");
        requests.accepted.retain(|request| request.verb != Verb::Delete);
    }
    requests
}

/// From another server's record only what was done to the files counts, which are a copy of those that it was done to.
fn drop_another_servers(past: &mut Past, id: ServerId) {
    if past.last_good.as_ref().is_none_or(|last| last.metadata.uuid == id) {
        return;
    }
    tracing::warn!(server.id = %id, "record.json is that of another server; what was installed counts, the rest does not");
    let done = past.record.install.done.take().map(|done| InstallResult { reported: true, ..done });
    past.record = Record { install: InstallRecord { done, ..InstallRecord::default() }, ..Record::default() };
    past.last_good = None;
    past.files = Sources::default();
}

type RecordFile = StoredRecord<Option<Manifest>, Record>;
type RequestsFile = StoredRequests<Requests>;

/// What is known of a file of the store.
enum Facts<T> {
    Known(Box<T>),
    /// There is none.
    New,
    /// It was of no use, and lies beside its place.
    Lost,
    /// It may be complete, and cannot be read.
    OutOfReach(String),
}

/// Reads a file of the store. One that is of no use is set aside, where that is allowed.
fn facts<T: Versioned>(path: &Path, id: ServerId, access: Access) -> Facts<T> {
    let file = path.file_name().unwrap_or_default().display();
    let why = match (stored::read(path), access) {
        (Found::Known(stored), _) => return Facts::Known(Box::new(stored)),
        (Found::Nothing, _) => return Facts::New,
        (Found::SetAside, _) => "was set aside when it was last read".to_owned(),
        (Found::Damaged(why), Access::Read) => format!("{why}; the daemon sets it aside when it runs"),
        (Found::Unreadable(error), Access::Read) => {
            return Facts::OutOfReach(format!("cannot be read ({})", advised(error)));
        }
        (Found::Unreadable(error), Access::Write) if is_the_nodes(&error) => {
            return Facts::OutOfReach(format!("cannot be read now ({error})"));
        }
        (Found::Damaged(why), Access::Write) => match stored::set_aside(path) {
            Ok(()) => format!("{why} and is set aside"),
            Err(error) => return Facts::OutOfReach(format!("{why}, and cannot be set aside ({error})")),
        },
        (Found::Unreadable(error), Access::Write) => match stored::set_aside(path) {
            Ok(()) => format!("cannot be read ({error}) and is set aside"),
            Err(second) => return Facts::OutOfReach(format!("cannot be read ({error}) or set aside ({second})")),
        },
    };
    tracing::error!(server.id = %id, "{file} {why}; what it said is lost, and requests are taken for completed");
    Facts::Lost
}

/// A server of which a file is there and out of reach: nothing is done about it, and nothing written over the file.
fn quarantined_entry(id: ServerId, revisions: &Revisions, file: &str, what: &str) -> Entry {
    let message = format!(
        "{file} {what}; nothing is done with this server until it can be read: see who owns the file and whether its disk is well, or rename it to {file}.broken if what it says does not matter"
    );
    tracing::error!(server.id = %id, "{message}");
    let problem = SpecProblem { reason: Reason::RecordUnreadable, message: message.clone() };
    let entry = Entry::empty(id, revisions);
    entry.publish(|next| next.problem = Some(problem));
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

/// The spec in effect: the one in the record where the files are those that it was read from. What changed files mean is
/// recorded at the reconciler's first pass.
fn read_spec(folder: &Path, id: ServerId, revisions: &Revisions, past: Past, found: Sources, now: Timestamp) -> Entry {
    let Past { files, last_good, mut record, mut requests, lost } = past;
    // There is a record again, and the requests do not say so yet.
    let stale = !lost && requests.completed_through.take().is_some();
    let first = last_good.is_none();
    let unchanged = !first && !lost && found.config.is_some() && found == files;
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
            record.accept_hash(manifest.hash());
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
    // Left empty where something is to be recorded: `refresh`, the first thing a pass does, finds that the files were not read.
    let sources = if unrecorded { Sources::default() } else { found };
    let entry = Entry::new(revisions, sources, snapshot);
    if lost {
        // What the panel may show of it is no evidence of the server's state.
        Arc::make_mut(&mut write(&entry.status)).state = PowerState::Offline;
    }
    entry
}

/// Takes every request for completed that a lost file may have been about: a server that stays down can be started again, and a
/// world over which the install script ran again cannot be restored (ADR 6).
fn assume_all_was_done(past: &mut Past, record_lost: bool, requests_lost: bool) {
    let (record, requests) = (&mut past.record, &past.requests);
    let (at, reason) = (Timestamp::default(), Reason::RecordLost);
    let message = "a file of this server was damaged; what was asked before is taken for done. Ask again if it is not";
    // A manifest that cannot be read does not say whose server it is. One that no panel manages ignores what follows.
    let of_panel = past.last_good.as_ref().is_none_or(|last| last.metadata.managed_by == ManagedBy::Panel);
    // What was accepted since the record was lost, and before another one could be written, is not done.
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
        // Nothing is known. The panel may wait for a result all the same.
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
        // The limits of a container that runs may be others than its label says.
        record.power.limits = Some(AppliedLimits::default());
        past.requests.completed_through = Some(sequence);
    }
    if of_panel {
        // The panel may show any state, and an installation that is not done: with these, `offline` is reported, and the panel's
        // flags are reset.
        record.last_reported = Some(PowerState::Running);
        record.install.reset_owed = true;
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
