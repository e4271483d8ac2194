//! What the cases of kills share: a server whose files are operated on, random instants, and what they have hit.
//!
//! `ALULA_KILLS` is the number of kills of each case; 5 without it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use crate::daemon_process::{Node, NodeOptions, skipped, until, with_node};
use crate::options;
use crate::panel_sim::SimBackup;
use crate::trees::{Content, Rng, content};

pub const MIB: usize = 1 << 20;

pub fn kills() -> u32 {
    std::env::var("ALULA_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(5)
}

/// When the kills of a case come, and what they have hit.
pub struct Tally {
    name: &'static str,
    pub rng: Rng,
    /// How long the operation takes without a kill.
    pub takes: Duration,
    pub kills: u32,
    /// Kills while there was still something to do.
    under_way: u32,
    /// What was going on, and how often.
    moments: BTreeMap<&'static str, u32>,
}

impl Tally {
    pub fn new(name: &'static str) -> Self {
        let seed = name.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let takes = Duration::from_secs(3);
        Self { name, rng: Rng(seed), takes, kills: 0, under_way: 0, moments: BTreeMap::new() }
    }

    /// A random part of the time that the operation takes.
    pub fn delay(&mut self) -> Duration {
        let range = u64::try_from(self.takes.as_micros()).expect("a short time") * 105 / 100;
        // More of them early: what follows a kill takes less time than the whole.
        Duration::from_micros(self.rng.below(range).min(self.rng.below(range)))
    }

    /// An instant of the operation. A few kills are spread over all of it.
    pub fn spread(&mut self) -> Duration {
        let part = u64::from(self.kills % 5);
        let range = u64::try_from(self.takes.as_micros()).expect("a short time") * 105 / 500;
        Duration::from_micros(part * range + self.rng.below(range))
    }

    pub fn note(&mut self, moment: &'static str) {
        *self.moments.entry(moment).or_default() += 1;
    }

    /// Whether there are more kills to come: until one has come in time, but not for ever.
    pub fn goes_on(&self) -> bool {
        self.kills < kills() || self.under_way == 0 && self.kills < 4 * kills()
    }

    /// Counts a kill that there was something left to do at.
    pub fn hit(&mut self, under_way: bool) {
        self.under_way += u32::from(under_way);
    }

    /// Prints what was hit. At least one kill must have come in time.
    pub fn end(&self) {
        eprintln!("kills of {}: {}, {} under way ({:?})", self.name, self.kills, self.under_way, self.moments);
        assert!(self.under_way > 0, "the kills of {} come when everything is done", self.name);
    }
}

/// A server whose files are backed up and restored, and what its kills have hit.
pub struct Case<'a> {
    pub node: &'a mut Node,
    pub id: String,
    pub tally: Tally,
}

pub async fn case(name: &'static str, test: impl AsyncFnOnce(&mut Case<'_>)) {
    case_with(name, json!({"system": {"backups": {"write_limit": 2, "upload_limit": 2}}}), test).await;
}

/// The same with another configuration.
pub async fn case_with(name: &'static str, config: Value, test: impl AsyncFnOnce(&mut Case<'_>)) {
    if skipped() {
        return;
    }
    with_node(NodeOptions { config, debug: false, ..options() }, async |node| {
        node.boot().await;
        let id = server(node).await;
        let mut case = Case { node, id, tally: Tally::new(name) };
        test(&mut case).await;
        case.tally.end();
    })
    .await;
}

/// What cannot be observed again of a server.
pub fn record(node: &Node, id: &str) -> Value {
    let path = node.folder.path().join("root/servers").join(id).join("record.json");
    let stored: Value = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    stored["record"].clone()
}

/// The hidden names beside a data directory.
pub fn siblings(node: &Node, id: &str) -> Vec<String> {
    let entries = fs::read_dir(node.data(id).parent().expect("a parent")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let prefix = format!(".{id}.");
    names.filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned)).collect()
}

/// A server without an install script, offline.
pub async fn server(node: &mut Node) -> String {
    let id = node.define("true");
    node.panel.edit(&id, |server| server.settings["skip_egg_scripts"] = json!(true));
    node.create(&id, false).await;
    node.panel.wait_install(0, &id).await;
    until("the data directory", async || node.data(&id).is_dir().then_some(())).await;
    id
}

impl Case<'_> {
    pub fn data(&self) -> PathBuf {
        self.node.data(&self.id)
    }

    pub fn content(&self) -> Content {
        content(&self.data()).expect("the files of the server")
    }

    pub fn folder(&self) -> PathBuf {
        self.node.folder.path().join("root/backups").join(&self.id)
    }

    pub fn archive(&self, backup: &str) -> PathBuf {
        self.folder().join(format!("{backup}.tar.gz"))
    }

    pub fn record(&self) -> Value {
        record(self.node, &self.id)
    }

    pub fn known(&self, backup: &str) -> Option<Value> {
        self.record()["backups"].as_array()?.iter().find(|known| known["id"] == backup).cloned()
    }

    pub fn siblings(&self) -> Vec<String> {
        siblings(self.node, &self.id)
    }

    pub fn new_backup(&self, links: Value) -> String {
        let backup = Uuid::new_v4().to_string();
        self.node.panel.with(|panel| panel.backups.push(SimBackup::new(&backup, links)));
        backup
    }

    pub fn on_panel(&self, backup: &str) -> SimBackup {
        self.node.panel.with(|panel| panel.backup(backup).expect("a backup of the panel").clone())
    }

    pub async fn back_up(&self, backup: &str, adapter: &str) {
        let body = json!({"adapter": adapter, "uuid": backup, "ignore": ""});
        assert_eq!(self.node.post(&format!("/api/servers/{}/backup", self.id), body).await, 202);
    }

    pub async fn restore(&self, backup: &str, truncate: bool) -> u16 {
        let body = json!({"adapter": "wings", "truncate_directory": truncate, "download_url": ""});
        self.node.post(&format!("/api/servers/{}/backup/{backup}/restore", self.id), body).await
    }

    pub async fn reported(&self, backup: &str) -> Value {
        until("the report", async || self.on_panel(backup).reports.first().cloned()).await
    }

    /// A complete backup that the panel has.
    pub async fn complete_backup(&mut self) -> String {
        let (backup, begun) = (self.new_backup(Value::Null), Instant::now());
        self.back_up(&backup, "wings").await;
        assert_eq!(self.reported(&backup).await["successful"], true);
        self.tally.takes = begun.elapsed();
        until("the end of the report", async || (self.known(&backup)?["reported"] == true).then_some(())).await;
        backup
    }

    /// Waits for a random part of the time that the operation takes.
    pub async fn random_instant(&mut self) {
        tokio::time::sleep(self.tally.delay()).await;
    }

    pub fn kill(&mut self) {
        self.node.kill();
        self.tally.kills += 1;
    }

    pub fn note(&mut self, moment: &'static str) {
        self.tally.note(moment);
    }

    /// What the disk says that a backup was about.
    pub fn moment_of_backup(&self, backup: &str) -> &'static str {
        let known = self.known(backup).unwrap_or_default();
        match () {
            () if known["reported"] == true || !self.on_panel(backup).reports.is_empty() => "reported",
            () if !known["result"].is_null() => "result in the record",
            () if self.folder().join(format!("{backup}.upload")).exists() => "during the upload",
            () if !known["archive"].is_null() => "archive in the record",
            () if self.archive(backup).exists() => "archive complete",
            () if self.folder().join(format!(".{backup}.tar.gz.new")).exists() => "while it is written",
            () => "before it is written",
        }
    }

    /// Notes what a kill has hit of a backup.
    pub fn note_backup(&mut self, backup: &str) {
        let moment = self.moment_of_backup(backup);
        self.note(moment);
        self.tally.hit(moment != "reported");
    }

    /// The archive is whole, as the panel knows it, and has these files.
    pub fn check_archive(&self, backup: &str, report: &Value, expected: &Content) {
        let bytes = fs::read(self.archive(backup)).expect("the archive");
        check_report(report, &bytes);
        assert_eq!(&unpacked(&self.archive(backup)), expected, "the archive of {backup}");
    }

    /// The names in the folder of backups.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

pub fn check_report(report: &Value, archive: &[u8]) {
    let hash: String = Sha1::digest(archive).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(report["successful"], true, "{report}");
    assert_eq!((&report["checksum"], &report["size"]), (&json!(hash), &json!(archive.len())), "{report}");
}

/// What GNU tar makes of an archive. It restores no attributes of directories.
pub fn unpacked(archive: &Path) -> Content {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tar = Command::new("tar");
    tar.args(["--warning=no-unknown-keyword", "-xpzf"]).arg(archive).arg("-C").arg(folder.path());
    let output = tar.output().expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    without_directories(&content(folder.path()).expect("a folder"))
}

pub fn without_directories(content: &Content) -> Content {
    content
        .iter()
        .filter(|(_, what)| !what.starts_with("directory"))
        .map(|(path, what)| (path.clone(), what.clone()))
        .collect()
}

pub fn identity(path: &Path) -> Option<(u64, i64, i64)> {
    path.metadata().ok().map(|found| (found.ino(), found.mtime(), found.mtime_nsec()))
}
