//! Reading the whole state folder at boot: one `stat` and one read for each server whose files are as they were.

use std::path::Path;
use std::sync::Arc;

use super::fingerprint::FileFingerprint;
use super::{
    CONFIG_FILE, Entry, OVERRIDE_FILE, RECORD_FILE, RECORD_VERSION, Sources, SpecProblem, StoreError, StoredRecord,
    intent,
};
use crate::model::{Closed, InstallOutcome, InstallResult, Manifest, Record, ServerId, Timestamp};

/// Reads every record below the folder, on all cores.
pub(super) fn load_all(servers: &Path) -> Result<Vec<Entry>, StoreError> {
    let disk = |source| StoreError::Disk { action: "list the folder", path: servers.to_owned(), source };
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
    Ok(std::thread::scope(|scope| {
        let parts: Vec<_> = ids
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().filter_map(|id| load(servers, *id)).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    }))
}

/// Reads one record. A folder with neither intent nor facts is no server.
pub(super) fn load(servers: &Path, id: ServerId) -> Option<Entry> {
    let folder = servers.join(id.to_string());
    let stored = read_record(&folder.join(RECORD_FILE));
    let (stored, damage) = match stored {
        Ok(stored) => (stored, None),
        Err(message) => {
            tracing::error!(server.id = %id, "record.json {message}; its facts are lost and are gathered anew");
            (None, Some(message))
        }
    };
    let now = Sources {
        config: FileFingerprint::of(&folder.join(CONFIG_FILE)).ok(),
        overlay: FileFingerprint::of(&folder.join(OVERRIDE_FILE)).ok(),
    };
    match stored {
        Some(stored) if now.config.is_some() && now == stored.files => {
            Some(Entry::new(id, now, stored.last_good.map(Arc::new), stored.facts, None))
        }
        None if now.config.is_none() && damage.is_none() => None,
        stored => Some(read_intent(&folder, id, stored, damage.is_some())),
    }
}

/// Extension of a damaged `record.json`.
const BROKEN: &str = "json.broken";

/// Whether a damaged record was set aside and none was written since.
pub(super) fn facts_were_lost(folder: &Path) -> bool {
    let record = folder.join(RECORD_FILE);
    !record.exists() && record.with_extension(BROKEN).exists()
}

type Stored = StoredRecord<Option<Manifest>, Record>;

fn read_record(path: &Path) -> Result<Option<Stored>, String> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match path.with_extension(BROKEN).exists() {
                true => Err(format!("was damaged when it was last read, and lies beside it as *.{BROKEN}")),
                false => Ok(None),
            };
        }
        // A file with a server's name is no server.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(format!("cannot be read ({error})")),
    };
    let set_aside = |message: String| {
        // Kept for whoever wants to know what was in it.
        let _ = std::fs::rename(path, path.with_extension(BROKEN));
        message
    };
    let stored: Stored =
        serde_json::from_slice(&text).map_err(|error| set_aside(format!("does not parse ({error})")))?;
    if stored.version != RECORD_VERSION {
        return Err(set_aside(format!("has version {}, and this release knows {RECORD_VERSION}", stored.version)));
    }
    Ok(Some(stored))
}

/// The files of intent are new or changed since the record was written: read them. What they mean is recorded at
/// the first look of the reconciler.
fn read_intent(folder: &Path, id: ServerId, stored: Option<Stored>, facts_lost: bool) -> Entry {
    let files = intent::read(folder, id);
    let (last_good, mut record) = match stored {
        Some(stored) => (stored.last_good, stored.facts),
        None => (None, Record::default()),
    };
    let (manifest, problem): (Option<Manifest>, Option<SpecProblem>) = match files.effective() {
        Ok(mut manifest) => {
            if let Some(power) = &record.pending_power {
                manifest.spec.power = Some(power.clone());
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
    Entry::new(id, Sources::default(), manifest.map(Arc::new), record, problem)
}

/// Without its facts nobody knows what was done for a server. Its open wishes count as fulfilled: not starting a server
/// can be mended by anybody, and running an install script over a player's world by nobody.
pub(super) fn assume_all_was_done(record: &mut Record, manifest: &Manifest) {
    let at = Timestamp::default();
    let message = "record.json was damaged; this wish is taken for done. Make a new one if it is not";
    if let Some(power) = &manifest.spec.power {
        record.power.closed = Some(Closed {
            id: power.id.clone(),
            want: Some(power.want),
            reason: "RecordLost".into(),
            message: message.into(),
            at,
        });
    }
    if let Some(install) = &manifest.spec.install {
        record.install.done = Some(InstallResult {
            token: install.token.clone(),
            outcome: InstallOutcome::Succeeded,
            reinstall: install.reinstall,
            exit_code: None,
            reason: "RecordLost".into(),
            message: message.into(),
            at,
            reported: true,
        });
    }
}
