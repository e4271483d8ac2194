//! The expected state of one server at the end of a run, which follows from its requests in the order of acceptance.
//!
//! An API request counts once it is answered with 2xx. A declarative field counts at the moment in which the daemon handles a value
//! that differs from the last one. Only that moment is taken from the daemon; this module decides what follows.

use std::path::Path;

use alula::model::{Declared, Manifest, Power, Requester, ServerId, Spec, Timestamp, Verb};
use alula::requests::declared;
use alula::store::{REQUESTS_FILE, Snapshot, Store, manifests};

use crate::check::LAST_STEP;
use crate::scenario::Server;

/// The expected power state at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Up,
    Down,
    /// A request was not answered, or a damaged file has lost requests.
    Either,
}

/// The requests of a server, reduced to what is expected.
#[derive(Debug)]
pub struct Asked {
    pub expect: Expect,
    /// The expectation comes from an installation's `thenStart`.
    pub after_install: bool,
    /// The expectation without that installation, for one that supersedes it.
    without_install: Expect,
    /// A start that may expire. Meanwhile nothing is expected.
    pub expiring: Option<Expiring>,
    /// The request that counts is older than an expired one, which may be the last that was handled.
    pub expired: bool,
    /// The last handled values of declarative fields; `None` where they are unknown.
    handled: Option<Declared>,
    /// It is unknown whether the values on disk are requests.
    unsure: bool,
    /// The daemon has accepted a spec of it.
    known: bool,
}

/// A request that expires when its deadline passes before it has begun.
#[derive(Debug)]
pub struct Expiring {
    id: String,
    at: Timestamp,
    /// The expectation after the deadline.
    before: Expect,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            expect: Expect::Down,
            after_install: false,
            without_install: Expect::Down,
            expiring: None,
            expired: false,
            handled: Some(Declared::default()),
            unsure: false,
            known: false,
        }
    }
}

impl Asked {
    /// A power request without a deadline was accepted.
    pub fn power(&mut self, expect: Expect) {
        (self.expect, self.without_install) = (expect, expect);
        (self.after_install, self.expiring, self.expired) = (false, None, false);
    }

    /// A start or a restart of the API was accepted. `before`: the snapshot before it.
    pub fn up(&mut self, before: &Snapshot, after: &Snapshot, now: Timestamp) {
        let asked = after.asked(now);
        let Some((power, at)) = asked.power().and_then(|power| power.expires_at.map(|at| (power.clone(), at))) else {
            // It may count as the start of an installation's `thenStart`.
            match asked.start_follows() || asked.power().is_some_and(|power| power.after_install) {
                true => (self.expect, self.after_install) = (Expect::Up, true),
                false => self.power(Expect::Up),
            }
            return;
        };
        if self.expiring.as_ref().is_some_and(|expiring| expiring.id == power.id) {
            return;
        }
        let counted = before.asked(now).start_follows()
            || before.asked(now).power().is_some_and(|power| power.verb.wants_up())
            || before.requests.declared != after.requests.declared;
        let before = match (&self.expiring, self.expect) {
            (Some(Expiring { before: Expect::Up, .. }), _) => Expect::Up,
            (Some(_), _) => Expect::Either,
            // An abandoned start does not count again, and one of an installation may not happen.
            (None, Expect::Up) if !counted || self.after_install => Expect::Either,
            (None, expect) => expect,
        };
        self.power(Expect::Either);
        self.expiring = Some(Expiring { id: power.id, at, before });
    }

    /// An installation was accepted.
    pub fn install(&mut self, then_start: bool) {
        if then_start {
            (self.expect, self.after_install, self.expiring) = (Expect::Up, true, None);
        } else if self.after_install {
            (self.expect, self.after_install) = (self.without_install, false);
        }
    }

    /// A request was not answered: it may have been accepted, as may earlier edits.
    pub fn unanswered(&mut self, folder: &Path, server: ServerId) {
        self.power(Expect::Either);
        if self.handled != on_disk(folder, server).map(|(declared, _)| declared) {
            (self.handled, self.unsure) = (None, true);
        }
    }

    /// The last handled values are lost: those of the next valid spec count as handled.
    pub fn lose_handled(&mut self) {
        (self.handled, self.unsure) = (None, false);
    }

    /// The next valid spec counts as the first one.
    pub fn lose_spec(&mut self) {
        self.known = false;
    }

    /// All earlier requests count as completed, also those that are only on disk.
    pub fn lose_requests(&mut self, folder: &Path, expect: Expect) {
        self.power(expect);
        if let Some(stored) = handled_on_disk(folder).filter(|_| self.handled.is_some()) {
            self.handled = Some(stored);
        }
    }

    /// A declarative field was edited.
    pub fn edited(&mut self, snapshot: Option<&Snapshot>) {
        // Values that are only in the daemon's memory: their request is lost with it.
        if snapshot.is_some_and(|snapshot| snapshot.unrecorded) || self.handled.is_none() {
            self.power(Expect::Either);
            (self.handled, self.unsure) = (None, true);
        }
    }

    /// A file was applied. Requests that were only in the daemon's memory are on disk with it, also those of values that the file
    /// reverts. Returns whether an installation is among them.
    pub fn recorded(&mut self, before: &Snapshot) -> bool {
        let (Some(handled), Some(manifest)) = (&self.handled, &before.manifest) else { return false };
        if !before.unrecorded || before.requests.lost {
            return false;
        }
        let (earlier, first) = (handled.clone(), !self.known);
        self.known = true;
        self.handled = Some(before.requests.declared.clone());
        self.handle(&earlier, &before.requests.declared, &manifest.spec, first)
    }

    /// A file was accepted that the daemon had not seen, because another one was applied. Returns whether it requests an installation.
    pub fn found(&mut self, manifest: &Manifest) -> bool {
        let after = declared(&manifest.spec);
        let first = !std::mem::replace(&mut self.known, true);
        let before = self.handled.replace(after.clone());
        before.is_some_and(|before| self.handle(&before, &after, &manifest.spec, first))
    }

    /// Takes over new requests of declarative fields. Returns whether an installation is, or may be, among them.
    pub fn follow(&mut self, store: &Store, id: ServerId, now: Timestamp) -> bool {
        let Some(snapshot) = store.get(id) else {
            (self.handled, self.unsure, self.known) = (Some(Declared::default()), false, false);
            self.expiring = None;
            return false;
        };
        self.expire(&snapshot, now);
        let crashes = snapshot.is_being_deleted() && !snapshot.wanted();
        if snapshot.requests.lost || crashes {
            return false;
        }
        // While the files are invalid the last good spec is the accepted one.
        let files = manifests::read(&store.folder(id), id).effective().ok();
        let Some(manifest) = files.or_else(|| snapshot.manifest.as_deref().cloned()) else { return false };
        let after = declared(&manifest.spec);
        // Values that are only in the daemon's memory are not handled.
        let stored = !snapshot.unrecorded || handled_on_disk(&store.folder(id)).as_ref() == Some(&after);
        if !stored || snapshot.requests.declared != after {
            return false;
        }
        let first = !self.known;
        // A daemon without a record treats the next spec as the first one.
        self.known |= !snapshot.unrecorded;
        match self.handled.replace(after.clone()) {
            Some(before) => self.handle(&before, &after, &manifest.spec, first),
            None => {
                let unsure = std::mem::take(&mut self.unsure);
                if unsure {
                    self.power(Expect::Either);
                }
                unsure
            }
        }
    }

    fn expire(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let Some(Expiring { id, at, before }) = &self.expiring else { return };
        if snapshot.record.power.begun.as_ref() == Some(id) {
            self.power(Expect::Up);
        } else if now >= *at + LAST_STEP {
            self.power(*before);
            self.expired = true;
        }
    }

    fn handle(&mut self, before: &Declared, after: &Declared, spec: &Spec, first: bool) -> bool {
        let installs = after.install_version.is_some() && after.install_version != before.install_version;
        if installs {
            self.install(spec.install.as_ref().is_some_and(|install| install.then_start));
        }
        let restarts = !first && after.restarted_at.is_some() && after.restarted_at != before.restarted_at;
        let changes = after.power != before.power;
        match after.power {
            Some(Power::Down) if changes => self.power(Expect::Down),
            Some(Power::Down) => {}
            Some(Power::Up) if changes => self.power(Expect::Up),
            _ if restarts => self.power(Expect::Up),
            _ => {}
        }
        installs
    }
}

impl Server {
    /// Whether the daemon has accepted a new install request of the panel.
    pub fn was_asked_to_install(before: Option<&Snapshot>, after: &Snapshot) -> bool {
        let known = |id: &String| before.is_some_and(|before| before.requests.accepted.iter().any(|old| old.id == *id));
        after.requests.accepted.iter().any(|request| {
            let install = request.by == Requester::Panel && matches!(request.verb, Verb::Install { .. });
            install && !known(&request.id)
        })
    }
}

/// The requests in the files of a server, if they are valid: the values of the declarative fields, and whether a start follows an
/// installation.
pub fn on_disk(folder: &Path, id: ServerId) -> Option<(Declared, bool)> {
    let manifest = manifests::read(folder, id).effective().ok()?;
    let then_start = manifest.spec.install.as_ref().is_some_and(|install| install.then_start);
    Some((declared(&manifest.spec), then_start))
}

/// The values that were handled last, as `requests.json` has them.
fn handled_on_disk(folder: &Path) -> Option<Declared> {
    let text = std::fs::read(folder.join(REQUESTS_FILE)).ok()?;
    let stored: serde_json::Value = serde_json::from_slice(&text).ok()?;
    serde_json::from_value(stored["declared"].clone()).ok()
}
