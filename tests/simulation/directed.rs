//! Regression tests of known faults: install logs that broke off before their end, servers that are created again, lost files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::{ContainerState, Power, Role, ServerId};
use alula::runtime::container_name;
use alula::store::{DiskOp, RECORD_FILE, REQUESTS_FILE, Snapshot, manifests};
use axum::http::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use crate::daemon::{Daemon, Machine};
use crate::faults::{ProcessFaults, Rates};
use crate::setup::{LAST_LINE, by_hand, panel_side, set_up};

/// One daemon without faults, and one server of its panel.
struct Fixture {
    machine: Machine,
    daemon: Daemon,
    id: ServerId,
}

impl Fixture {
    fn new() -> Self {
        let machine = Machine::new();
        let runs: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        set_up(&machine, 1, &runs, true);
        let id = ServerId::new(uuid::Builder::from_random_bytes([9; 16]).into_uuid());
        machine.panel.lock().servers.insert(id, panel_side(id, "only"));
        let daemon = machine.boot(ProcessFaults::new(1, Rates::default(), None), 1).unwrap();
        Self { machine, daemon, id }
    }

    async fn create(&self) {
        let answer = self.daemon.request(Method::POST, "/api/servers", json!({"uuid": self.id})).await;
        assert_eq!(answer, Some(StatusCode::ACCEPTED));
    }

    async fn power(&self, action: &str) {
        let path = format!("/api/servers/{}/power", self.id);
        let answer = self.daemon.request(Method::POST, &path, json!({"action": action, "wait_seconds": 30})).await;
        assert_eq!(answer, Some(StatusCode::ACCEPTED), "{action}");
    }

    fn state(&self, role: Role) -> Option<ContainerState> {
        self.machine.engine.state_of(&container_name(self.id, role))
    }

    /// Waits until this holds.
    async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        for _ in 0..600 {
            if self.daemon.node.context.store.get(self.id).is_some_and(|snapshot| holds(&snapshot)) {
                return;
            }
            self.daemon.wait(Duration::from_millis(100)).await;
        }
        panic!("timeout: {what}");
    }

    async fn installed(&self) {
        self.until("the installation", |snapshot| snapshot.record.install.done.is_some()).await;
    }

    async fn saves(&self, config: &Path, text: &str) {
        std::fs::write(config, text).unwrap();
        self.daemon.edited(self.id);
        self.daemon.wait(Duration::from_secs(1)).await;
    }
}

fn played(play: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play());
}

/// An engine with live restore stops shortly before a script's end, which breaks every stream. The output from that time is in the
/// log exactly once, whether the engine keeps the whole log or only its end.
pub fn a_log_whose_stream_breaks_just_before_its_end() {
    for (before_end, kept) in [(2, None), (20, None), (20, Some(30)), (49, None), (700, None)] {
        played(async || {
            let fixture = Fixture::new();
            fixture.machine.engine.set_live_restore(true);
            fixture.machine.engine.set_kept_log(kept);
            fixture.create().await;
            while fixture.state(Role::Installer) != Some(ContainerState::Running) {
                fixture.daemon.wait(Duration::from_millis(1)).await;
            }
            fixture.daemon.wait(Duration::from_millis(3000 - before_end)).await;
            assert_eq!(fixture.state(Role::Installer), Some(ContainerState::Running));
            fixture.machine.engine.set_engine_up(false);
            fixture.daemon.wait(Duration::from_secs(5)).await;
            fixture.machine.engine.set_engine_up(true);
            fixture.installed().await;
            let log = std::fs::read_to_string(fixture.daemon.node.context.node.layout.install_log(fixture.id)).unwrap();
            let (_, output) = log.split_once("| Script Output\n").unwrap();
            let lines: Vec<&str> = output.lines().skip(1).collect();
            assert_eq!(lines, ["installing", "half way", LAST_LINE], "{before_end} ms, {kept:?}");
            fixture.daemon.kill().await;
        });
    }
}

/// A server is created again while it is being deleted, and its file is broken: requests from then on count for the new server.
pub fn requests_to_a_server_that_is_made_again() {
    for (earlier, last) in [(None, "start"), (Some("start"), "stop"), (Some("stop"), "start")] {
        for reboots in [false, true] {
            played(async || {
                let mut fixture = Fixture::new();
                fixture.create().await;
                fixture.installed().await;
                fixture.machine.engine.set_engine_up(false);
                let path = format!("/api/servers/{}", fixture.id);
                let answer = fixture.daemon.request(Method::DELETE, &path, json!(null)).await;
                assert_eq!(answer, Some(StatusCode::NO_CONTENT));
                fixture.create().await;
                if let Some(earlier) = earlier {
                    fixture.power(earlier).await;
                }
                let config = fixture.daemon.node.context.store.folder(fixture.id).join("config.yml");
                let complete = std::fs::read_to_string(&config).unwrap();
                fixture.saves(&config, &format!("{complete}\n\tbroken: [")).await;
                fixture.power(last).await;
                if reboots {
                    fixture.daemon.kill().await;
                    fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
                }
                fixture.machine.engine.set_engine_up(true);
                fixture.until("the deletion", |snapshot| !snapshot.is_being_deleted()).await;
                fixture.saves(&config, &complete).await;
                fixture.daemon.wait(Duration::from_secs(120)).await;
                let runs = fixture.state(Role::Server) == Some(ContainerState::Running);
                assert_eq!(runs, last == "start", "{earlier:?}, then {last}, reboots={reboots}");
                fixture.daemon.kill().await;
            });
        }
    }
}

/// An edit of a file while its server is being deleted is no request: an installation would create the server again.
pub fn an_edit_in_the_folder_of_a_server_that_is_being_deleted() {
    for reboots in [false, true] {
        played(async || {
            let mut fixture = Fixture::new();
            fixture.create().await;
            fixture.installed().await;
            fixture.machine.engine.set_engine_up(false);
            let path = format!("/api/servers/{}", fixture.id);
            let answer = fixture.daemon.request(Method::DELETE, &path, json!(null)).await;
            assert_eq!(answer, Some(StatusCode::NO_CONTENT));
            fixture.machine.panel.lock().servers.clear();
            let config = fixture.daemon.node.context.store.folder(fixture.id).join("config.yml");
            let text = std::fs::read_to_string(&config).unwrap();
            let edited = text.replace("spec:\n", "spec:\n  power: up\n  install:\n    version: '2'\n");
            assert_ne!(edited, text);
            fixture.saves(&config, &edited).await;
            if reboots {
                fixture.daemon.kill().await;
                fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
            }
            fixture.machine.engine.set_engine_up(true);
            fixture.daemon.wait(Duration::from_secs(120)).await;
            assert!(
                fixture.daemon.node.context.store.get(fixture.id).is_none(),
                "it is there again, reboots={reboots}"
            );
            fixture.daemon.kill().await;
        });
    }
}

/// Damaged requests of a server without declarative fields are replaced, and a later edit while no daemon runs is a request again.
pub fn an_edit_after_requests_were_lost() {
    played(async || {
        let mut fixture = Fixture::new();
        let id = fixture.id;
        fixture.machine.panel.lock().servers.clear();
        fixture.machine.panel.lock().file_managed.insert(id);
        let folder = fixture.daemon.node.context.store.folder(id);
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("config.yml");
        let mut manifest = by_hand(id, String::new(), false);
        manifest.spec.install = None;
        fixture.saves(&config, &manifests::render(&manifest).unwrap()).await;
        fixture.daemon.kill().await;
        std::fs::write(folder.join(REQUESTS_FILE), "{").unwrap();
        fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
        fixture.daemon.wait(Duration::from_secs(60)).await;
        fixture.daemon.kill().await;
        manifest.spec.power = Some(Power::Up);
        std::fs::write(&config, manifests::render(&manifest).unwrap()).unwrap();
        fixture.daemon = fixture.machine.boot(ProcessFaults::new(3, Rates::default(), None), 3).unwrap();
        fixture.daemon.wait(Duration::from_secs(120)).await;
        assert_eq!(fixture.state(Role::Server), Some(ContainerState::Running));
        fixture.daemon.kill().await;
    });
}

/// The declarative fields of an override count for a server that is created again while it is being deleted.
pub fn an_override_of_a_server_that_is_made_again() {
    for reboots in [false, true] {
        played(async || {
            let mut fixture = Fixture::new();
            fixture.create().await;
            fixture.installed().await;
            fixture.machine.engine.set_engine_up(false);
            let path = format!("/api/servers/{}", fixture.id);
            let answer = fixture.daemon.request(Method::DELETE, &path, json!(null)).await;
            assert_eq!(answer, Some(StatusCode::NO_CONTENT));
            let folder = fixture.daemon.node.context.store.folder(fixture.id);
            fixture.saves(&folder.join("override.yml"), "spec:\n  power: up\n").await;
            // No configuration is fetched and written after the request.
            if let Some(side) = fixture.machine.panel.lock().servers.get_mut(&fixture.id) {
                side.server.settings.skip_egg_scripts = true;
            }
            fixture.create().await;
            if reboots {
                fixture.daemon.kill().await;
                fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
            }
            fixture.machine.engine.set_engine_up(true);
            fixture.daemon.wait(Duration::from_secs(120)).await;
            assert_eq!(fixture.state(Role::Server), Some(ContainerState::Running), "reboots={reboots}");
            fixture.daemon.kill().await;
        });
    }
}

/// The assumed result of a file's server whose record was lost does not hold the panel's reset back: no panel waits for it.
pub fn a_lost_record_of_a_server_of_a_file() {
    played(async || {
        let mut fixture = Fixture::new();
        let id = ServerId::new(uuid::Builder::from_random_bytes([8; 16]).into_uuid());
        fixture.machine.panel.lock().file_managed.insert(id);
        let text = manifests::render(&by_hand(id, "1".into(), false)).unwrap();
        fixture.daemon.node.context.store.apply(id, &text, false).unwrap();
        let folder = fixture.daemon.node.context.store.folder(id);
        fixture.create().await;
        fixture.daemon.wait(Duration::from_secs(2)).await;
        fixture.daemon.kill().await;
        std::fs::write(folder.join(RECORD_FILE), "").unwrap();
        fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
        fixture.daemon.wait(Duration::from_secs(1)).await;
        // The panel has returned its list, and gets no report about its own server's installation.
        fixture.machine.panel.lock().unreachable_until = Some(Instant::now() + Duration::from_secs(3600));
        fixture.daemon.wait(Duration::from_secs(1200)).await;
        let done = fixture.daemon.node.context.store.get(id).unwrap().record.install.done.clone().unwrap();
        assert!(done.reported, "{done:?}");
        fixture.daemon.kill().await;
    });
}

/// The next daemon executes a request that was accepted after the record was lost and before another one was written.
pub fn a_request_while_a_lost_record_cannot_be_written() {
    played(async || {
        let mut fixture = Fixture::new();
        fixture.create().await;
        fixture.installed().await;
        fixture.daemon.wait(Duration::from_secs(60)).await;
        let record = fixture.daemon.node.context.store.folder(fixture.id).join(RECORD_FILE);
        fixture.daemon.kill().await;
        std::fs::write(record, "").unwrap();
        fixture.machine.disk.reject(&[DiskOp::WriteRecord], None, ErrorKind::StorageFull, Duration::from_secs(600));
        fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
        fixture.daemon.wait(Duration::from_secs(10)).await;
        fixture.power("start").await;
        fixture.daemon.kill().await;
        fixture.machine.disk.recover();
        fixture.daemon = fixture.machine.boot(ProcessFaults::new(3, Rates::default(), None), 3).unwrap();
        fixture.daemon.wait(Duration::from_secs(120)).await;
        assert_eq!(fixture.state(Role::Server), Some(ContainerState::Running));
        let requests = fixture.daemon.node.context.store.get(fixture.id).unwrap().requests.clone();
        assert_eq!(requests.completed_through, None, "the record says it now");
        fixture.daemon.kill().await;
    });
}

/// A lost record does not contain the limits that were applied to a running container since its creation: they are applied again.
pub fn limits_of_a_server_whose_record_was_lost() {
    played(async || {
        let mut fixture = Fixture::new();
        let wants = |fixture: &Fixture, memory| {
            let mut panel = fixture.machine.panel.lock();
            panel.servers.get_mut(&fixture.id).unwrap().server.settings.build.memory_limit = memory;
        };
        let name = container_name(fixture.id, Role::Server);
        fixture.create().await;
        fixture.installed().await;
        fixture.power("start").await;
        fixture.daemon.wait(Duration::from_secs(60)).await;
        let made = fixture.machine.engine.limits_of(&name).unwrap();
        wants(&fixture, 512);
        let path = format!("/api/servers/{}/sync", fixture.id);
        fixture.daemon.request(Method::POST, &path, json!([])).await.unwrap();
        assert_ne!(fixture.machine.engine.limits_of(&name), Some(made.clone()));
        wants(&fixture, 0);
        let record = fixture.daemon.node.context.store.folder(fixture.id).join(RECORD_FILE);
        fixture.daemon.kill().await;
        std::fs::write(record, "").unwrap();
        fixture.daemon = fixture.machine.boot(ProcessFaults::new(2, Rates::default(), None), 2).unwrap();
        fixture.daemon.wait(Duration::from_secs(60)).await;
        assert_eq!(fixture.machine.engine.limits_of(&name), Some(made));
        fixture.daemon.kill().await;
    });
}
