//! Backups and restores: requests for them, and what must hold of them.
//!
//! Each server has a file, its stamp, whose content says of which time its files are.

use std::io::Read;
use std::path::{Path, PathBuf};

use alula::model::ServerId;
use alula::testing::PanelBackup;
use axum::http::Method;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::daemon::Daemon;
use crate::expected::Expect;
use crate::scenario::Play;

/// The name of the file.
pub const STAMP: &str = "stamp";

/// A backup that was requested.
#[derive(Debug)]
pub struct Backup {
    pub id: Uuid,
    server: ServerId,
    fate: Fate,
}

/// What is expected of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has one result, and its archive is kept.
    Accepted,
    /// It was deleted, or the panel does not know it: nothing of it is left.
    Gone,
    /// Its server was deleted, or a file was damaged, or a request was not answered.
    Unsure,
}

/// The stamps that the files of a server may have.
#[derive(Debug, Default)]
pub struct Stamps {
    /// `None` in it: there is no stamp.
    allowed: Vec<Option<String>>,
    /// A restore by its token, and the stamps that it leaves: without and with success.
    restore: Option<(Uuid, [Option<String>; 2])>,
}

impl Stamps {
    /// Nothing is known.
    pub fn lose(&mut self) {
        *self = Self::default();
    }
}

/// The stamp in an archive.
fn archived(archive: &Path) -> Option<Option<String>> {
    let archive = flate2::read::GzDecoder::new(std::fs::File::open(archive).ok()?);
    let mut stamp = None;
    for entry in tar::Archive::new(archive).entries().ok()? {
        let mut entry = entry.ok()?;
        if entry.path().ok()?.ends_with(STAMP) {
            let mut text = String::new();
            entry.read_to_string(&mut text).ok()?;
            stamp = Some(text);
        }
    }
    Some(stamp)
}

impl Play {
    fn data(&self, id: ServerId) -> PathBuf {
        self.machine.root.path().join(format!("servers/{id}/data"))
    }

    fn stamp(&self, id: ServerId) -> Option<String> {
        std::fs::read_to_string(self.data(id).join(STAMP)).ok()
    }

    fn archive(&self, id: ServerId, backup: Uuid) -> PathBuf {
        self.machine.config.directories.backup.join(format!("{id}/{backup}.tar.gz"))
    }

    /// Changes a server's files, unless they are being restored.
    fn change_files(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let found = daemon.node.context.store.get(id);
        let busy = found.is_none_or(|found| found.record.pending_restore().is_some() || found.is_being_deleted());
        if busy || !self.data(id).is_dir() || self.servers[at].stamps.restore.is_some() {
            return;
        }
        self.notes += 1;
        let stamp = self.notes.to_string();
        std::fs::write(self.data(id).join(STAMP), &stamp).unwrap();
        self.servers[at].stamps.allowed = vec![Some(stamp)];
    }

    /// The panel requests a backup.
    pub async fn back_up(&mut self, daemon: &Daemon, at: usize) {
        let server = self.servers[at].id;
        self.change_files(daemon, at);
        let backup = uuid::Builder::from_random_bytes(
            (u128::from(self.rng.next()) << 64 | u128::from(self.rng.next())).to_be_bytes(),
        )
        .into_uuid();
        // The panel sends the request inside a transaction.
        let visible_from = self.rng.permille(300).then(|| Instant::now() + self.rng.millis(0, 10_000));
        self.machine.panel.lock().backups.insert(backup, PanelBackup { visible_from, ..PanelBackup::default() });
        self.tally.requests += 1;
        let body = json!({"adapter": "wings", "uuid": backup, "ignore": ""});
        let answer = daemon.request(Method::POST, &format!("/api/servers/{server}/backup"), body).await;
        self.log(|| format!("back up {at}: {answer:?}"));
        let fate = match answer {
            Some(status) if status.is_success() => Fate::Accepted,
            // The panel undoes its change.
            _ => {
                self.machine.panel.lock().backups.remove(&backup);
                Fate::Gone
            }
        };
        self.backups.push(Backup { id: backup, server, fate });
    }

    /// The panel requests that a complete backup is restored.
    pub async fn restore(&mut self, daemon: &Daemon, at: usize) {
        let server = self.servers[at].id;
        let complete = |backup: &&Backup| {
            let panel = self.machine.panel.lock();
            let of_panel = panel.backups.get(&backup.id).is_some_and(|side| side.completed);
            backup.server == server && backup.fate == Fate::Accepted && of_panel
        };
        let Some(backup) = self.backups.iter().rfind(complete).map(|backup| backup.id) else { return };
        self.change_files(daemon, at);
        let Some(new) = archived(&self.archive(server, backup)) else { return };
        let (truncate, old) = (self.rng.permille(500), self.stamp(server));
        let new = if truncate { new } else { new.or_else(|| old.clone()) };
        self.tally.requests += 1;
        let body = json!({"adapter": "wings", "truncate_directory": truncate, "download_url": ""});
        let answer =
            daemon.request(Method::POST, &format!("/api/servers/{server}/backup/{backup}/restore"), body).await;
        self.log(|| format!("restore {at} truncate={truncate}: {answer:?}"));
        self.follow(daemon, at);
        let folder = daemon.node.context.store.folder(server);
        let side = &mut self.servers[at];
        match answer {
            Some(status) if status.is_success() => {
                let found = daemon.node.context.store.get(server);
                let token = found.and_then(|found| Some(found.record.restore.as_ref()?.token));
                side.restored = true;
                side.stamps.allowed.extend([old.clone(), new.clone()]);
                side.stamps.restore = token.map(|token| (token, [old, new]));
                // The panel starts it again; a server of a file is started if it ran.
                side.asked.power(if side.of_file { Expect::Either } else { Expect::Down });
            }
            Some(_) => self.tally.rejected += 1,
            None => {
                side.restored = true;
                side.stamps.allowed.extend([old, new]);
                side.asked.unanswered(&folder, server);
            }
        }
    }

    /// The panel deletes a backup.
    pub async fn delete_backup(&mut self, daemon: &Daemon, at: usize) {
        let server = self.servers[at].id;
        let of_server = |backup: &Backup| backup.server == server && backup.fate == Fate::Accepted;
        let count = self.backups.iter().filter(|backup| of_server(backup)).count() as u64;
        let number = usize::try_from(self.rng.below(count.max(1))).unwrap();
        let Some(place) = self.backups.iter().enumerate().filter(|(_, backup)| of_server(backup)).nth(number) else {
            return;
        };
        let (place, backup) = (place.0, place.1.id);
        let answer =
            daemon.request(Method::DELETE, &format!("/api/servers/{server}/backup/{backup}"), json!(null)).await;
        self.log(|| format!("delete a backup of {at}: {answer:?}"));
        match answer {
            Some(status) if status.is_success() => {
                self.backups[place].fate = Fate::Gone;
                self.machine.panel.lock().backups.remove(&backup);
            }
            // Of a server that is parked, or of one whose record was lost. For the panel a 404 means that there is no archive.
            Some(_) | None => self.backups[place].fate = Fate::Unsure,
        }
    }

    /// The backups of a server are not followed any more, nor its files.
    pub fn lose_backups(&mut self, id: ServerId) {
        self.backups.iter_mut().filter(|backup| backup.server == id).for_each(|backup| backup.fate = Fate::Unsure);
        self.servers.iter_mut().filter(|server| server.id == id).for_each(|server| server.stamps.lose());
    }

    /// At every moment the files of a server are the old or the new ones.
    pub fn check_stamp(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        if let Some(found) = daemon.node.context.store.get(id) {
            let restore = found.record.restore.as_ref();
            let stamps = &mut self.servers[at].stamps;
            let ended = stamps.restore.as_ref().and_then(|(token, left)| {
                let result = restore.filter(|restore| restore.token == *token)?.result.as_ref()?;
                Some(left[usize::from(result.succeeded)].clone())
            });
            if let Some(stamp) = ended {
                (stamps.allowed, stamps.restore) = (vec![stamp], None);
            }
        }
        let (allowed, found) = (&self.servers[at].stamps.allowed, self.stamp(id));
        let exists = self.data(id).is_dir();
        assert!(
            allowed.is_empty() || !exists || allowed.contains(&found),
            "seed {}: the files of {at} have the stamp {found:?}, and may have {allowed:?}",
            self.seed
        );
    }

    /// Nothing is left to do for backups and restores.
    pub fn operations_settled(&self, daemon: &Daemon, id: ServerId) -> bool {
        let Some(found) = daemon.node.context.store.get(id) else { return true };
        let of_panel = found.manifest.as_ref().is_some_and(|manifest| manifest.is_managed_by_panel());
        let record = &found.record;
        let open = record
            .backups
            .iter()
            .any(|backup| backup.is_pending() || backup.deleting || of_panel && backup.is_unreported());
        !open && record.pending_restore().is_none() && !(of_panel && record.unreported_restores().next().is_some())
    }

    /// What must hold at the end.
    pub fn check_backups(&mut self, daemon: &Daemon) {
        assert!(daemon.node.context.operations.list().is_empty(), "seed {}: an operation runs", self.seed);
        for at in 0..self.servers.len() {
            self.check_stamp(daemon, at);
            let id = self.servers[at].id;
            let Some(found) = daemon.node.context.store.get(id) else { continue };
            let of_panel = self.machine.panel.lock().servers.contains_key(&id) && !self.servers[at].of_file;
            if found.record.parked.is_some() || found.is_being_deleted() {
                continue;
            }
            self.check_siblings(at, found.record.former_files.is_some());
            for backup in self.backups.iter().filter(|backup| backup.server == id) {
                let known = found.record.backup(backup.id);
                let archive = self.archive(id, backup.id);
                let (seed, told) = (self.seed, format!("{backup:?} of {at}: {known:?}"));
                match backup.fate {
                    Fate::Unsure => {}
                    Fate::Gone => {
                        // Without a report of its own, nothing says that the panel does not know it.
                        assert!(!of_panel || known.is_none() && !archive.exists(), "seed {seed}: {told}");
                    }
                    Fate::Accepted => {
                        let known = known.unwrap_or_else(|| panic!("seed {seed}: {told}"));
                        let result = known.result.as_ref().unwrap_or_else(|| panic!("seed {seed}: {told}"));
                        assert_eq!(archive.exists(), result.succeeded, "seed {seed}: {told}");
                        if of_panel {
                            let panel = self.machine.panel.lock();
                            let reports = &panel.backups[&backup.id].reports;
                            let successes = reports.iter().filter(|report| report.successful).count();
                            assert!(known.reported && !reports.is_empty(), "seed {seed}: {told}");
                            assert_eq!(successes, usize::from(result.succeeded), "seed {seed}: {told} {reports:?}");
                        }
                    }
                }
            }
            self.check_archives(at);
        }
    }

    /// Beside the files of a server are only those that a restore has replaced, and the record knows them.
    fn check_siblings(&self, at: usize, former: bool) {
        let id = self.servers[at].id;
        let entries = std::fs::read_dir(self.machine.root.path().join(format!("servers/{id}"))).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let hidden: Vec<String> = names.filter(|name| name.starts_with(&format!(".{id}."))).collect();
        let expected: Vec<String> = former.then(|| format!(".{id}.before-restore")).into_iter().collect();
        assert_eq!(hidden, expected, "seed {}: beside the files of {at}", self.seed);
    }

    /// The folder of a server's archives has nothing else.
    fn check_archives(&self, at: usize) {
        let id = self.servers[at].id;
        let folder = self.machine.config.directories.backup.join(id.to_string());
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let of = self.backups.iter().find(|backup| name == format!("{}.tar.gz", backup.id));
            let unsure =
                self.backups.iter().any(|backup| backup.fate == Fate::Unsure && name.contains(&backup.id.to_string()));
            let kept = of.is_some_and(|backup| backup.fate == Fate::Accepted || self.servers[at].of_file);
            assert!(unsure || kept, "seed {}: {name} of {at} is left: {of:?}", self.seed);
        }
    }
}
