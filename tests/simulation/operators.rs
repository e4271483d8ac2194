//! What operators do without the API: edit files, write whole servers, use Docker directly, remove servers from the panel.

use std::path::Path;

use alula::model::{Install, Manifest, Power, Role, Timestamp};
use alula::requests::declared;
use alula::runtime::container_name;
use alula::store::{Applied, RECORD_FILE, Snapshot, manifests};
use alula::yaml;
use serde_json::json;

use crate::daemon::Daemon;
use crate::expected::{Asked, on_disk};
use crate::scenario::{Play, Server};
use crate::setup::{GAME, OTHER_GAME, by_hand};

/// Percent of a core that an override allows.
pub const OVERRIDDEN_CPU: i64 = 150;

/// Replaces a file as editors do: under another name first.
fn replace_file(path: &Path, text: &str) {
    let temporary = path.with_file_name(".edited");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

impl Server {
    /// A later installation is asked for than the one whose result is recorded.
    pub fn notice_later_installation(&mut self, snapshot: &Snapshot, now: Timestamp) {
        if let (Some(_), Some(done)) = (snapshot.asked(now).install(), &snapshot.record.install.done) {
            self.superseded_install = Some(done.token.clone());
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
        let folder = daemon.node.context.store.folder(id);
        if daemon.node.context.store.get(id).is_some() || folder.join("config.yml").exists() {
            return;
        }
        let start = self.rng.permille(500);
        let mut manifest = by_hand(id, self.note(), start);
        manifest.spec.power = *self.rng.pick(&[None, None, Some(Power::Up), Some(Power::Down)]);
        // A new server does not run, so `restartedAt` is no request.
        manifest.spec.restarted_at = self.rng.permille(400).then(|| self.note());
        if self.rng.permille(200) {
            manifest.spec.install = None;
        }
        let applied = self.rng.permille(500);
        self.log(|| format!("create {at} by hand, applied={applied} {:?}", declared(&manifest.spec)));
        self.tally.requests += 1;
        let text = manifests::render(&manifest).unwrap();
        // It may be on disk or not when the daemon crashes.
        self.servers[at].asked = Asked::default();
        self.servers[at].deleted = false;
        self.servers[at].created = match applied {
            true => self.apply(daemon, at, &text),
            false => {
                std::fs::create_dir_all(&folder).unwrap();
                replace_file(&folder.join("config.yml"), &text);
                self.noticed(daemon, at);
                true
            }
        };
    }

    /// Applies a file. Returns whether the daemon accepted it.
    fn apply(&mut self, daemon: &Daemon, at: usize, text: &str) -> bool {
        let id = self.servers[at].id;
        let apply = std::panic::AssertUnwindSafe(|| daemon.node.context.store.apply(id, text, false));
        let store = &daemon.node.context.store;
        let before = store.get(id);
        // The daemon has not seen this file yet, and accepts it before the applied one.
        let unseen = before.is_none().then(|| manifests::read(&store.folder(id), id).effective().ok()).flatten();
        let applied = std::panic::catch_unwind(apply);
        self.log(|| format!("apply {at}: {:?}", applied.as_ref().map(|applied| applied.is_ok()).ok()));
        let server = &mut self.servers[at];
        match applied {
            Ok(applied) => {
                let written = matches!(applied, Ok(Applied::Created | Applied::Changed));
                let installs = match (&before, &unseen) {
                    _ if !written => false,
                    (Some(before), _) => server.asked.recorded(before),
                    (None, Some(unseen)) => server.asked.found(unseen),
                    (None, None) => false,
                };
                if installs {
                    server.unchanged_since = None;
                }
                applied.is_ok()
            }
            Err(_) => {
                server.asked.unanswered(&daemon.node.context.store.folder(id), id);
                server.unchanged_since = None;
                false
            }
        }
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

    /// An operator edits files by hand, with and without mistakes.
    pub fn edit(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let path = daemon.node.context.store.folder(id).join("config.yml");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        if text.contains("\tbroken") {
            return;
        }
        let folder = daemon.node.context.store.folder(id);
        let before = on_disk(&folder, id);
        let kind = self.rng.below(18);
        self.log(|| format!("edit {at} kind {kind}"));
        match kind {
            0 => replace_file(&path, &format!("# a note by hand\n{text}")),
            1 | 2 => {
                // A folder with neither a manifest nor a record is no server.
                if kind == 1 || !path.with_file_name(RECORD_FILE).exists() {
                    replace_file(&path, &format!("{text}\n\tbroken: ["));
                } else {
                    std::fs::remove_file(&path).unwrap();
                }
                // Fixed at the end, as a person would do. Until then the last good spec is the accepted one.
                std::fs::write(path.with_file_name(".saved.yml"), &text).unwrap();
            }
            3 | 4 => self.edit_override(at, &path),
            5..=12 => self.edit_manifest(kind, &path, &text),
            13 => self.apply_again(daemon, at, &path, &text),
            14 => {
                if let Some(earlier) = self.earlier(at) {
                    // The panel's script is the newest one, as where a file is applied.
                    let script = yaml::parse::<Manifest>(&text).unwrap().spec.script;
                    change(&path, &earlier, |manifest| manifest.spec.script = script);
                }
            }
            _ => self.edit_power(&path, &text),
        }
        if !matches!(kind, 1 | 2) {
            self.servers[at].texts.push(text);
        }
        let after = on_disk(&folder, id);
        if after.is_some() && before != after {
            self.tally.requests += 1;
            let snapshot = daemon.node.context.store.get(id);
            self.servers[at].asked.edited(snapshot.as_deref());
        }
        self.log(|| format!("{at} declares {after:?}"));
        self.noticed(daemon, at);
        let crashes = daemon.node.context.store.get(id).is_some_and(|snapshot| snapshot.is_being_deleted());
        if crashes {
            // What is written into a folder on its way out may go with it.
            self.servers[at].overridden = false;
        }
    }

    /// An override of the limits, and now and then of a declarative field.
    fn edit_override(&mut self, at: usize, path: &Path) {
        let mut spec = json!({"settings": {"build": {"cpu_limit": OVERRIDDEN_CPU}}});
        match self.rng.below(6) {
            0 => spec["power"] = json!("up"),
            1 => spec["power"] = json!("down"),
            2 => spec["restartedAt"] = json!(self.note()),
            _ => {}
        }
        if self.rng.permille(400) {
            let policy = ["Always", "OnFailure", "Never"][self.rng.below(3) as usize];
            spec["restart"] = json!({"policy": policy, "backoff": "5s", "maxBackoff": "40s", "resetAfter": "2m"});
        }
        if self.rng.permille(300) {
            spec["resources"] = json!({"cpuStartBoost": 4 * OVERRIDDEN_CPU});
            spec["priority"] = json!(self.rng.below(3));
        }
        replace_file(&path.with_file_name("override.yml"), &yaml::to_string(&json!({"spec": spec})).unwrap());
        self.servers[at].overridden = true;
    }

    fn edit_manifest(&mut self, kind: u64, path: &Path, text: &str) {
        let note = self.note();
        let (memory, then_start) = (i64::try_from(64 + self.rng.below(4096)).unwrap(), self.rng.permille(500));
        change(path, text, |manifest| {
            let spec = &mut manifest.spec;
            match kind {
                5 | 6 => spec.install = Some(Install { version: Some(note), then_start, timeout: None }),
                // Nothing is asked for by what is taken away, nor by `thenStart` alone.
                7 => match &mut spec.install {
                    Some(install) if then_start => install.then_start = !install.then_start,
                    install => *install = None,
                },
                8 => spec.suspended = !spec.suspended,
                9 => spec.settings.build.memory_limit = memory,
                10 => spec.restarted_at = then_start.then_some(note),
                11 => spec.restarted_at = Some(note),
                _ => {
                    let image = &mut spec.settings.container.image;
                    *image = if image == GAME { OTHER_GAME.into() } else { GAME.into() };
                }
            }
        });
    }

    fn edit_power(&mut self, path: &Path, text: &str) {
        let power = *self.rng.pick(&[Some(Power::Up), Some(Power::Up), Some(Power::Down), None]);
        change(path, text, |manifest| manifest.spec.power = power);
    }

    /// The same file again, or one that was there before.
    fn apply_again(&mut self, daemon: &Daemon, at: usize, path: &Path, text: &str) {
        let earlier = self.earlier(at).filter(|_| self.rng.permille(500));
        match earlier {
            // Without the script, if it is an old text: the panel's stays.
            Some(earlier) => drop(self.apply(daemon, at, &earlier)),
            None if self.servers[at].of_file && self.rng.permille(700) => drop(self.apply(daemon, at, text)),
            None => replace_file(path, text),
        }
    }

    fn earlier(&mut self, at: usize) -> Option<String> {
        let count = self.servers[at].texts.len() as u64;
        let chosen = usize::try_from(self.rng.below(count.max(1))).unwrap();
        self.servers[at].texts.get(chosen).cloned()
    }

    /// Fixes a broken or lost file, as a person would do. Edits from before it broke that were never read are accepted now.
    pub fn restore_manifest(&mut self, daemon: &Daemon, at: usize) {
        let path = daemon.node.context.store.folder(self.servers[at].id).join("config.yml");
        let saved = path.with_file_name(".saved.yml");
        if saved.exists() {
            std::fs::rename(&saved, path).unwrap();
        }
    }

    /// Another program uses Docker. Servers that should run come up again.
    pub fn interfere(&mut self, at: usize) {
        let id = self.servers[at].id;
        // A call about a parked server's container would count as the daemon's.
        if self.servers[at].parked.is_some() || self.machine.panel.lock().elsewhere.contains_key(&id) {
            return;
        }
        let name = container_name(id, Role::Server);
        let killed = if self.rng.permille(500) {
            self.machine.engine.kill_outside(&name)
        } else {
            self.machine.engine.remove_outside(&name)
        };
        self.log(|| format!("interfere with {at}: {killed}"));
    }

    /// The panel stops listing a server, or lists it again.
    pub fn list_or_not(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let mut panel = self.machine.panel.lock();
        let change = if let Some(mut side) = panel.servers.remove(&server.id) {
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
        self.log(|| format!("{at} is {change}"));
    }
}

/// Applies a change to a file's text.
fn change(path: &Path, text: &str, change: impl FnOnce(&mut Manifest)) {
    let mut manifest: Manifest = yaml::parse(text).unwrap();
    change(&mut manifest);
    replace_file(path, &manifests::render(&manifest).unwrap());
}
