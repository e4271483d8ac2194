//! Backups and restores with a panel that is away, and crashes in each phase.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::files::Layout;
use alula::files::replacement::Present;
use alula::model::{ContainerState, ManagedBy, Record, Role, ServerId};
use alula::runtime::container_name;
use alula::store::{RECORD_FILE, manifests};
use alula::testing::PanelBackup;
use axum::http::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::daemon::{Daemon, Machine};
use crate::faults::{ProcessFaults, Rates};
use crate::setup::{by_hand, panel_side, set_up};

const BACKUP: Uuid = Uuid::from_u128(0x5555_5555_5555_4555_8555_5555_5555_5555);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server with a file, and daemons that make backups of it.
struct Fixture {
    machine: Machine,
    daemon: Daemon,
    id: ServerId,
    process: u64,
}

impl Fixture {
    async fn new(managed_by: ManagedBy) -> Self {
        let machine = Machine::new();
        let runs: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        set_up(&machine, 1, &runs, true);
        let id = ServerId::new(uuid::Builder::from_random_bytes([9; 16]).into_uuid());
        let of_panel = managed_by == ManagedBy::Panel;
        if of_panel {
            machine.panel.lock().servers.insert(id, panel_side(id, "only"));
        } else {
            machine.panel.lock().file_managed.insert(id);
        }
        let daemon = machine.boot(ProcessFaults::new(1, Rates::default(), None), 1).unwrap();
        let fixture = Self { machine, daemon, id, process: 1 };
        if of_panel {
            assert_eq!(fixture.ask(Method::POST, "", json!({"uuid": id})).await, StatusCode::ACCEPTED);
        } else {
            let mut manifest = by_hand(id, String::new(), false);
            manifest.spec.install = None;
            let text = manifests::render(&manifest).unwrap();
            fixture.daemon.node.context.store.apply(id, &text, false).unwrap();
        }
        fixture.daemon.wait(Duration::from_secs(60)).await;
        fixture.write("old");
        fixture
    }

    async fn ask(&self, method: Method, path: &str, body: serde_json::Value) -> StatusCode {
        let path = match path {
            "" => "/api/servers".to_owned(),
            path => format!("/api/servers/{}/{path}", self.id),
        };
        self.daemon.request(method, &path, body).await.unwrap()
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.machine.config)
    }

    fn record(&self) -> Record {
        self.daemon.node.context.store.get(self.id).unwrap().record.as_ref().clone()
    }

    fn path(&self) -> PathBuf {
        self.layout().data(self.id).join("world")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn world(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn siblings(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().parent().unwrap().parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let prefix = format!(".{}.", self.id);
        names.filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned)).collect()
    }

    fn archive(&self) -> PathBuf {
        self.layout().backup_archive(self.id, BACKUP)
    }

    async fn back_up(&self) {
        let body = json!({"adapter": "wings", "uuid": BACKUP, "ignore": ""});
        assert_eq!(self.ask(Method::POST, "backup", body).await, StatusCode::ACCEPTED);
    }

    async fn backed_up(&self) {
        self.machine.panel.lock().backups.insert(BACKUP, PanelBackup::default());
        self.back_up().await;
        self.daemon.wait(Duration::from_secs(30)).await;
        assert!(self.record().backup(BACKUP).unwrap().result.as_ref().is_some_and(|result| result.succeeded));
    }

    async fn restore(&self, truncate: bool) {
        let body = json!({"adapter": "wings", "truncate_directory": truncate, "download_url": ""});
        let answer = self.ask(Method::POST, &format!("backup/{BACKUP}/restore"), body).await;
        assert_eq!(answer, StatusCode::ACCEPTED);
    }

    async fn reboot(&mut self, crash_at: Option<u64>) {
        self.process += 1;
        let faults = ProcessFaults::new(self.process, Rates::default(), crash_at);
        let next = loop {
            if let Some(next) = self.machine.boot(faults.clone(), self.process) {
                break next;
            }
        };
        std::mem::replace(&mut self.daemon, next).kill().await;
    }

    /// Ends the daemon before it does anything else. `between` happens while none runs.
    async fn crash(self, between: impl FnOnce(&Layout)) -> Self {
        let Self { machine, daemon, id, process } = self;
        daemon.kill().await;
        between(&Layout::new(&machine.config));
        let faults = ProcessFaults::new(process + 1, Rates::default(), None);
        let daemon = machine.boot(faults, process + 1).unwrap();
        Self { machine, daemon, id, process: process + 1 }
    }
}

fn played(play: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play());
}

/// A backup ends, then a restore of it, while the panel is away, and the daemon dies again and again.
pub fn a_panel_that_is_away_for_a_day() {
    played(async || {
        let mut fixture = Fixture::new(ManagedBy::Panel).await;
        fixture.machine.panel.lock().backups.insert(BACKUP, PanelBackup::default());
        fixture.machine.panel.lock().unreachable_until = Some(Instant::now() + DAY);
        fixture.back_up().await;
        fixture.daemon.wait(Duration::from_secs(60)).await;
        let made =
            |fixture: &Fixture| fixture.archive().metadata().map(|found| (found.ino(), found.mtime_nsec())).unwrap();
        let archive = made(&fixture);
        fixture.write("new");
        fixture.restore(true).await;
        for _ in 0..12 {
            fixture.daemon.wait(DAY / 13).await;
            fixture = fixture.crash(|_| ()).await;
            assert_eq!(made(&fixture), archive, "a complete archive is not made again, nor removed");
        }
        assert_eq!(fixture.world(), "old");
        let record = fixture.record();
        assert!(!record.backup(BACKUP).unwrap().reported && !record.restore.as_ref().unwrap().reported);
        fixture.daemon.wait(DAY / 10).await;
        let backup = fixture.machine.panel.lock().backups[&BACKUP].clone();
        assert_eq!((backup.reports.len(), backup.completed, backup.restores), (1, true, vec![true]));
        let record = fixture.record();
        assert!(record.backup(BACKUP).unwrap().reported && record.restore.as_ref().unwrap().reported);
        assert_eq!(made(&fixture), archive);
        fixture.daemon.kill().await;
    });
}

/// The panel has rolled its change back. A crash does not bring the backup back.
pub fn a_backup_that_the_panel_does_not_know() {
    for crashes in [false, true] {
        played(async || {
            let mut fixture = Fixture::new(ManagedBy::Panel).await;
            fixture.back_up().await;
            fixture.daemon.wait(Duration::from_secs(5)).await;
            assert!(fixture.archive().exists(), "the panel may not have committed it");
            if crashes {
                fixture = fixture.crash(|_| ()).await;
            }
            fixture.daemon.wait(Duration::from_secs(120)).await;
            assert!(!fixture.archive().exists() && fixture.record().backups.is_empty());
            assert!(!fixture.archive().parent().unwrap().exists());
            fixture.daemon.kill().await;
        });
    }
}

/// The daemon died in this phase; the next one continues.
pub fn a_crash_in_each_phase() {
    for phase in 0..6 {
        for truncate in [false, true] {
            played(async || {
                let mut fixture = Fixture::new(ManagedBy::Panel).await;
                fixture.backed_up().await;
                fixture.write("new");
                fixture.restore(truncate).await;
                let (id, token) = (fixture.id, fixture.record().restore.unwrap().token);
                let between = move |layout: &Layout| {
                    if phase == 0 {
                        return;
                    }
                    let (present, never) =
                        (if truncate { Present::Discard } else { Present::Keep }, AtomicBool::new(false));
                    let staging = layout.begin_replacement(id, token, present, None, &never).unwrap();
                    let data = layout.data(id);
                    let tree = data.parent().unwrap().join(format!(".{id}.restore/tree"));
                    std::fs::write(tree.join("world"), if phase == 1 { "half" } else { "old" }).unwrap();
                    if phase >= 2 {
                        staging.finish(&never).unwrap();
                    }
                    if phase >= 3 {
                        layout.exchange_replacement(id, token).unwrap();
                    }
                    match phase {
                        // Its folder is about to get its name.
                        4 => std::fs::rename(
                            tree.parent().unwrap().with_file_name(format!(".{id}.before-restore")),
                            tree.parent().unwrap(),
                        )
                        .unwrap(),
                        // An earlier one was being removed.
                        5 => std::fs::create_dir(tree.parent().unwrap().with_file_name(format!(".{id}.removing")))
                            .unwrap(),
                        _ => {}
                    }
                };
                fixture = fixture.crash(between).await;
                fixture.daemon.wait(Duration::from_secs(60)).await;
                let restore = fixture.record().restore.unwrap();
                assert!(
                    restore.reported && restore.result.as_ref().unwrap().succeeded,
                    "{phase} {truncate} {restore:?}"
                );
                assert_eq!(fixture.world(), "old", "{phase} {truncate}");
                assert_eq!(fixture.siblings(), ["before-restore"], "{phase} {truncate}");
                assert_eq!(fixture.machine.panel.lock().backups[&BACKUP].restores, [true], "{phase} {truncate}");
                assert_eq!(fixture.record().former_files.unwrap().restore, token);
                // A day later the former files are gone.
                fixture.daemon.wait(DAY + Duration::from_secs(600)).await;
                assert_eq!((fixture.siblings(), fixture.record().former_files), (Vec::new(), None));
                fixture.daemon.kill().await;
            });
        }
    }
}

/// A restore of a server that runs, with a crash at each write and each call. A server of a file is started again.
pub fn a_crash_at_each_point() {
    for managed_by in [ManagedBy::Panel, ManagedBy::File] {
        for point in 0..40 {
            played(async || {
                let mut fixture = Fixture::new(managed_by).await;
                fixture.backed_up().await;
                fixture.write("new");
                assert_eq!(fixture.ask(Method::POST, "power", json!({"action": "start"})).await, StatusCode::ACCEPTED);
                fixture.daemon.wait(Duration::from_secs(60)).await;
                fixture.restore(true).await;
                fixture.daemon.faults.crash_after(point);
                fixture.daemon.wait(Duration::from_secs(120)).await;
                fixture.reboot(None).await;
                fixture.daemon.wait(Duration::from_secs(300)).await;
                let restore = fixture.record().restore.unwrap();
                assert!(restore.result.as_ref().is_some_and(|result| result.succeeded), "{point}: {restore:?}");
                assert_eq!(
                    (fixture.world(), fixture.siblings()),
                    ("old".into(), vec!["before-restore".into()]),
                    "{point}"
                );
                let state = fixture.machine.engine.state_of(&container_name(fixture.id, Role::Server));
                let runs = state == Some(ContainerState::Running);
                assert_eq!(runs, managed_by == ManagedBy::File, "{managed_by:?} {point}: {restore:?}");
                assert_eq!(fixture.machine.panel.lock().violations, Vec::<String>::new());
                fixture.daemon.kill().await;
            });
        }
    }
}

/// The record of a server is lost while a restore of it is under way: nothing is left of it, and the files are the old or the new ones.
pub fn a_record_that_is_lost() {
    for ready in [false, true] {
        played(async || {
            let mut fixture = Fixture::new(ManagedBy::Panel).await;
            fixture.backed_up().await;
            fixture.write("new");
            fixture.restore(true).await;
            let (id, token) = (fixture.id, fixture.record().restore.unwrap().token);
            let record = fixture.daemon.node.context.store.folder(id).join(RECORD_FILE);
            fixture = fixture
                .crash(move |layout| {
                    let never = AtomicBool::new(false);
                    let staging = layout.begin_replacement(id, token, Present::Discard, None, &never).unwrap();
                    if ready {
                        staging.finish(&never).unwrap();
                        layout.exchange_replacement(id, token).unwrap();
                    }
                    std::fs::write(record, "").unwrap();
                })
                .await;
            fixture.daemon.wait(Duration::from_secs(60)).await;
            assert_eq!(fixture.path().exists(), !ready, "an empty tree took their place");
            let (left, former) = (fixture.siblings(), fixture.record().former_files);
            assert_eq!(left, if ready { vec!["before-restore".to_owned()] } else { Vec::new() });
            assert_eq!(former.map(|former| former.restore), ready.then_some(token), "they are removed in time");
            fixture.daemon.kill().await;
        });
    }
}
