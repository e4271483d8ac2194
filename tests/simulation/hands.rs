//! What people do behind the daemon's back: edit files, write whole servers, work on Docker, take servers off the panel.

use std::path::Path;

use alula::model::{ContainerState, Manifest, PowerIntent, Record, Role, ServerId, Want};
use alula::reconcile::plan::{open_install, wish};
use alula::runtime::container_name;
use alula::store::{Snapshot, intent};
use alula::yaml;

use crate::daemon::Daemon;
use crate::furnish::{GAME, OTHER_GAME, by_hand, install_by_hand};
use crate::scenario::{Expect, Play, Server};

/// Percent of a core that an override allows.
pub const OVERRIDDEN_CPU: i64 = 150;

/// Replaces a file as editors do: under another name first.
fn put(path: &Path, text: &str) {
    let aside = path.with_file_name(".edited");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, path).unwrap();
}

impl Server {
    /// Once its wish by hand is on record, no crash makes the daemon forget it.
    pub fn forget_recorded(&mut self, snapshot: &Snapshot) {
        let power = snapshot.manifest.as_ref().and_then(|manifest| manifest.spec.power.as_ref());
        self.unrecorded.take_if(|wish| !snapshot.unrecorded && power.is_some_and(|power| power.id == *wish));
    }

    /// A later installation is wanted than the one whose result is recorded.
    pub fn notice_later_installation(&mut self, snapshot: &Snapshot) {
        let open = snapshot.manifest.as_ref().and_then(|manifest| open_install(manifest, &snapshot.record));
        if let (Some(_), Some(done)) = (open, &snapshot.record.install.done) {
            self.outdone = Some(done.token.clone());
        }
    }

    /// The file is put back as it was before it was broken. To a daemon that has no record of the wish in it, the wish comes
    /// with the file: later than all that was asked for while the file was broken.
    fn put_back(&mut self, manifest: Manifest) {
        let power = manifest.spec.power.filter(|power| self.unrecorded.as_ref() == Some(&power.id));
        match power.map(|power| power.want) {
            Some(Want::Up) => self.expect = Expect::Up,
            Some(Want::Down) => self.expect = Expect::Down,
            None => {}
        }
    }

    /// With an installation goes the start that it asked for; a start that was accepted meanwhile was taken for that one.
    /// What is left is the power that was asked for beside it.
    fn lose_start(&mut self, record: &Record, file: &Manifest) {
        let pending = record.pending_power.as_ref().filter(|_| record.pending_counts(file.spec.power.as_ref()));
        let power = pending.or(file.spec.power.as_ref());
        let up = power.is_some_and(|power| power.want == Want::Up && !record.power_closed(&power.id, power.want));
        if self.expect == Expect::Up && !up {
            self.expect = Expect::Down;
        }
    }
}

impl Play {
    fn note(&mut self) -> String {
        self.notes += 1;
        format!("hand-{:03}", self.notes)
    }

    /// A server of a file: a folder is written, or a file is applied.
    pub async fn create_by_hand(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let folder = daemon.world.store.folder(id);
        if daemon.world.store.get(id).is_some() || folder.join("config.yml").exists() {
            return;
        }
        let start = self.rng.permille(500);
        let token = self.note();
        let text = intent::render(&by_hand(id, token.clone(), start)).unwrap();
        let applied = self.rng.permille(500);
        self.say(|| format!("create {at} by hand, applied={applied} start={start}"));
        self.tally.wishes += 1;
        if applied {
            let apply = std::panic::AssertUnwindSafe(|| daemon.world.store.apply(id, &text, false));
            match std::panic::catch_unwind(apply) {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    // It may be on disk or not.
                    self.servers[at].expect = Expect::Either;
                    self.servers[at].deleted = false;
                    return;
                }
            }
        } else {
            std::fs::create_dir_all(&folder).unwrap();
            put(&folder.join("config.yml"), &text);
            self.noticed(daemon, at);
            self.servers[at].unseen = Some(token);
        }
        let server = &mut self.servers[at];
        server.expect = if start { Expect::Up } else { Expect::Down };
        server.created = true;
        server.deleted = false;
        server.installs = 1;
    }

    /// The watch notices a change at once, later, or never; then a rescan finds it.
    fn noticed(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        match self.rng.below(10) {
            0..=6 if self.watched => daemon.edited(id),
            7..=8 if self.watched => self.late.push_back(id),
            _ => {}
        }
    }

    /// Somebody edits files by hand, well or badly.
    pub fn edit(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let path = daemon.world.store.folder(id).join("config.yml");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        if text.contains("\tbroken") {
            return;
        }
        let kind = self.rng.below(14);
        let before = self.servers[at].expect;
        self.say(|| format!("edit {at} kind {kind}"));
        match kind {
            0 => put(&path, &format!("# a note by hand\n{text}")),
            1 | 2 => {
                if kind == 1 {
                    put(&path, &format!("{text}\n\tbroken: ["));
                } else {
                    std::fs::remove_file(&path).unwrap();
                }
                // Put right again at the end, as a person would.
                std::fs::write(path.with_file_name(".saved.yml"), text).unwrap();
                self.servers[at].expect = Expect::Either;
            }
            3 | 4 => {
                let over = format!("spec:\n  settings:\n    build:\n      cpu_limit: {OVERRIDDEN_CPU}\n");
                put(&path.with_file_name("override.yml"), &over);
                self.servers[at].overridden = true;
            }
            5..=7 => self.edit_power(daemon, at, &path, &text),
            8 => {
                let token = self.note();
                let then_start = self.rng.permille(500);
                let install = install_by_hand(token.clone(), then_start);
                edit_manifest(&path, &text, |manifest| manifest.spec.install = Some(install));
                let server = &mut self.servers[at];
                // What the latest power wish was is up to the file.
                server.expect = Expect::Either;
                server.installs += 1;
                server.unseen = Some(token);
            }
            9 => edit_manifest(&path, &text, |manifest| manifest.spec.suspended = !manifest.spec.suspended),
            10 => {
                let memory = i64::try_from(64 + self.rng.below(4096)).unwrap();
                edit_manifest(&path, &text, |manifest| manifest.spec.settings.build.memory_limit = memory);
            }
            11 => {
                // Somebody wants no installation any more, or wants it to end. Who promised one is not asked.
                let abort = self.rng.permille(500);
                edit_manifest(&path, &text, |manifest| match &mut manifest.spec.install {
                    Some(install) if abort => install.abort = true,
                    install => *install = None,
                });
                self.withdraw_installation(daemon, id);
                self.servers[at].expect = Expect::Either;
            }
            _ => edit_manifest(&path, &text, |manifest| {
                let image = &mut manifest.spec.settings.container.image;
                *image = if image == GAME { OTHER_GAME.into() } else { GAME.into() };
            }),
        }
        self.noticed(daemon, at);
        let deletion = daemon.world.store.get(id).and_then(|snapshot| snapshot.record.deletion.clone());
        if let Some(deletion) = deletion {
            // What is written into a folder on its way out stays only where it is wanted again.
            self.servers[at].overridden = false;
            self.servers[at].expect = if deletion.recreate { Expect::Either } else { before };
        }
    }

    /// A person wants an installation no more that the panel was promised. One that has ended is reported all the same.
    fn withdraw_installation(&self, daemon: &Daemon, id: ServerId) {
        let snapshot = daemon.world.store.get(id);
        let done = snapshot.as_ref().and_then(|snapshot| snapshot.record.install.done.as_ref());
        if done.is_some_and(|done| !done.reported) {
            return;
        }
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.promised = false;
            side.installing = false;
        }
    }

    /// Puts a broken or lost file right again, as a person would. What was edited before it broke, and was never read since,
    /// comes in force now: also that an installation is no longer wanted, which the panel was promised meanwhile.
    pub fn put_right(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let path = daemon.world.store.folder(id).join("config.yml");
        let saved = path.with_file_name(".saved.yml");
        let Ok(text) = std::fs::read_to_string(&saved) else { return };
        std::fs::rename(&saved, path).unwrap();
        let manifest: Manifest = yaml::parse(&text).unwrap();
        if manifest.spec.install.is_none() {
            self.withdraw_installation(daemon, id);
            let stopped =
                self.machine.docker.state_of(&container_name(id, Role::Server)) != Some(ContainerState::Running);
            if let Some(snapshot) =
                daemon.world.store.get(id).filter(|snapshot| stopped && is_up_for_installation(snapshot))
            {
                self.servers[at].lose_start(&snapshot.record, &manifest);
            }
        }
        if daemon.world.store.get(id).is_some_and(|snapshot| snapshot.wanted()) {
            self.servers[at].put_back(manifest);
        }
    }

    fn edit_power(&mut self, daemon: &Daemon, at: usize, path: &Path, text: &str) {
        let wish = self.note();
        let up = self.rng.permille(600);
        let want = if up { Want::Up } else { Want::Down };
        let power =
            PowerIntent { id: wish.clone(), want, how: Default::default(), requested_at: None, expires_at: None };
        edit_manifest(path, text, |manifest| manifest.spec.power = Some(power));
        let snapshot = daemon.world.store.get(self.servers[at].id);
        // A wish that waits in the record wins over the file.
        let pending = snapshot.is_none_or(|snapshot| snapshot.record.pending_power.is_some());
        let server = &mut self.servers[at];
        server.expect = match up {
            _ if pending => Expect::Either,
            true => Expect::Up,
            false => Expect::Down,
        };
        server.unseen = Some(wish.clone());
        server.unrecorded = Some(wish);
    }

    /// Somebody else works on Docker. What should run comes up again.
    pub fn interfere(&mut self, at: usize) {
        let id = self.servers[at].id;
        // What is done to a parked server's container would be taken for the daemon's work.
        if self.servers[at].parked.is_some() || self.machine.panel.lock().elsewhere.contains_key(&id) {
            return;
        }
        let name = container_name(id, Role::Server);
        let killed = if self.rng.permille(500) {
            self.machine.docker.kill_outside(&name)
        } else {
            self.machine.docker.remove_outside(&name)
        };
        self.say(|| format!("interfere with {at}: {killed}"));
    }

    /// The panel stops listing a server, or has it again.
    pub fn list_or_not(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let mut panel = self.machine.panel.lock();
        let said = if let Some(mut side) = panel.servers.remove(&server.id) {
            side.promised = false;
            side.installing = false;
            panel.elsewhere.insert(server.id, side);
            "no longer listed"
        } else if let Some(side) = panel.elsewhere.remove(&server.id) {
            panel.servers.insert(server.id, side);
            "listed again"
        } else {
            return;
        };
        drop(panel);
        self.say(|| format!("{at} is {said}"));
    }
}

/// Whether the server is to be up because an installation says so, be it done or not.
fn is_up_for_installation(snapshot: &Snapshot) -> bool {
    let Some(manifest) = &snapshot.manifest else { return false };
    let follows = open_install(manifest, &snapshot.record).is_some_and(|install| install.then_start);
    follows || wish(manifest, &snapshot.record).is_some_and(|wish| wish.install.is_some())
}

/// Works a change into a file, as a person does who leaves the rest alone.
fn edit_manifest(path: &Path, text: &str, change: impl FnOnce(&mut Manifest)) {
    let before: Manifest = yaml::parse(text).unwrap();
    let mut after = before.clone();
    change(&mut after);
    put(path, &intent::edit(text, &before, &after).unwrap());
}
