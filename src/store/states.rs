//! `states.json`: the state of each server, in the format of Wings, which starts those that are running or starting after a reboot.
//!
//! Wings leaves the file behind, and a server that is new to this daemon starts if it ran there. This daemon keeps the file up to date
//! for the way back (ADR 34). A copy of what it wrote last tells whether Wings has run since.
//!
//! Source: lifecycle, "Boot sequence"; quirks, "What survives a restart of the daemon".

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::{Snapshot, Store, StoreError, lock};
use crate::atomic::{self, AtomicError};
use crate::model::{Handled, PowerState, Reason, Requester, ServerId, Timestamp, Verb};
use crate::requests::NewRequest;

/// The file, in the state folder.
pub const STATES_FILE: &str = "states.json";
/// What this daemon wrote into it last.
pub const STATES_COPY: &str = ".states.json";
/// The largest file that is read, in bytes: 64 bytes for each of a quarter of a million servers.
const MAX_STATES: u64 = 16 * 1024 * 1024;

/// The state of each server.
pub type States = BTreeMap<ServerId, PowerState>;

/// What was found in the state folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FoundStates {
    /// The states; those before the damage where the file is damaged.
    pub states: States,
    /// Wings has written the file since this daemon did.
    pub wings_ran: bool,
    /// Why the file, or the rest of it, cannot be read.
    pub problem: Option<String>,
}

/// Reads the file of a state folder. A missing one has no states.
pub fn read_states(root: &Path) -> FoundStates {
    let path = root.join(STATES_FILE);
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FoundStates::default(),
        Err(error) => {
            return FoundStates {
                problem: Some(format!("cannot read {}: {error}", path.display())),
                ..Default::default()
            };
        }
    };
    let (states, problem) = parse(&text);
    let copy = read(&root.join(STATES_COPY)).ok();
    let wings_ran = copy.is_some_and(|copy| parse(&copy).0 != states);
    let problem = problem.map(|problem| {
        format!("{}: {problem}; what follows is not known, and those servers stay as they are", path.display())
    });
    FoundStates { states, wings_ran, problem }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    File::open(path)?.take(MAX_STATES).read_to_end(&mut text)?;
    Ok(text)
}

/// The states of a text, and what is wrong with it. Wings overwrites the file in place, so a power cut may leave its beginning. Other
/// keys and values are left out.
fn parse(text: &[u8]) -> (States, Option<String>) {
    let mut states = States::new();
    if text.trim_ascii().is_empty() {
        return (states, None);
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = json.deserialize_map(Entries(&mut states)).and_then(|()| json.end());
    let problem = parsed.err().map(|error| error.to_string());
    (states, problem)
}

/// Keeps the entries before an error.
struct Entries<'a>(&'a mut States);

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the state of each server")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let Ok(id) = key.parse() else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: serde_json::Value = map.next_value()?;
            if let Ok(state) = serde_json::from_value(value) {
                self.0.insert(id, state);
            }
        }
        Ok(())
    }
}

/// Whether Wings starts a server with this state after a reboot.
pub fn is_up(state: PowerState) -> bool {
    matches!(state, PowerState::Running | PowerState::Starting)
}

/// The start of a server that Wings ran.
pub fn start_of_wings(at: Timestamp) -> NewRequest {
    let id = format!("wings-{}", at.as_millis());
    NewRequest { id, at, expires_at: None, timeout: None, by: Requester::Takeover, verb: Verb::Start }
}

/// The state for the file: that to which the server's requests lead.
fn state_of(snapshot: &Snapshot, published: PowerState, now: Timestamp) -> PowerState {
    let asked = snapshot.asked(now);
    if asked.install().is_some() {
        // Wings would start it beside its installer, or half installed.
        return PowerState::Offline;
    }
    match asked.power() {
        Some(request) if request.verb.wants_up() && published == PowerState::Running => PowerState::Running,
        Some(request) if request.verb.wants_up() => PowerState::Starting,
        Some(_) if published != PowerState::Offline => PowerState::Stopping,
        _ => published,
    }
}

impl Store {
    /// The start of a server that is new here, where Wings ran it.
    pub fn start_left_by_wings(&self, id: ServerId) -> Option<NewRequest> {
        let states = lock(&self.inner.left_states);
        states.get(&id).copied().filter(|state| is_up(*state)).map(|_| start_of_wings(self.inner.clock.now()))
    }

    /// Reads the states that Wings has left. If it has run since this daemon did, servers that are known here follow it: those that ran
    /// there shall run, and those that were stopped there are no longer asked to run. A container that runs nevertheless is adopted by
    /// the server's first pass. Call before the first pass.
    pub fn take_over_states(&self) {
        let FoundStates { states, wings_ran, problem } = read_states(&self.inner.root);
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
        }
        if wings_ran {
            for snapshot in self.list() {
                let Some(state) = states.get(&snapshot.id) else { continue };
                if let Err(error) = self.follow_wings(&snapshot, *state) {
                    tracing::error!(server.id = %snapshot.id, %error, "cannot take over the state that Wings has left");
                }
            }
        }
        *lock(&self.inner.left_states) = states;
    }

    fn follow_wings(&self, snapshot: &Snapshot, state: PowerState) -> Result<(), StoreError> {
        if snapshot.manifest.is_none() || snapshot.record.parked.is_some() || snapshot.is_being_deleted() {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let asked = snapshot.asked(now);
        let request = asked.power();
        let wants_up = request.as_ref().is_some_and(|request| request.verb.wants_up());
        match request {
            _ if is_up(state) && wants_up => {}
            _ if is_up(state) => {
                self.request(snapshot.id, Some(snapshot.revision), [start_of_wings(now)])?;
            }
            Some(request) if wants_up && asked.install().is_none() => {
                let message = "Wings has run this server since, and it was stopped there".to_owned();
                let (sequence, id, verb) = (request.sequence, request.id, request.verb);
                let handled = Handled { sequence, id, verb, reason: Reason::TakenOver, message, at: now };
                self.commit(snapshot.id, |record| record.power.handled = Some(handled))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The panel has listed all servers: those that Wings left and that are unknown here are no longer kept in the file.
    pub fn forget_left_states(&self) {
        lock(&self.inner.left_states).clear();
        self.inner.revisions.notify();
    }

    /// The states for the file: of all servers, and of those that only Wings knows so far.
    pub fn states(&self) -> States {
        let now = self.inner.clock.now();
        let mut states = lock(&self.inner.left_states).clone();
        for snapshot in self.list() {
            let published = self.status(snapshot.id).map_or_else(PowerState::default, |status| status.state);
            if snapshot.is_being_deleted() || snapshot.manifest.is_none() {
                states.remove(&snapshot.id);
            } else {
                states.insert(snapshot.id, state_of(&snapshot, published, now));
            }
        }
        states
    }

    /// Writes `states.json`, atomically and durably.
    ///
    /// # Errors
    /// The disk's error; the file stays as it was.
    pub fn write_states(&self, states: &States) -> Result<(), AtomicError> {
        let text = serde_json::to_vec(states).unwrap_or_default();
        // The copy comes last: a file that only seems to be of Wings has the states of this daemon, which change nothing.
        for file in [STATES_FILE, STATES_COPY] {
            atomic::write_file(&self.inner.root.join(file), &text, 0o600)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
