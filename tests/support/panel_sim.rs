//! A simulator of the panel's remote API, for tests and benchmarks of the whole daemon.
//!
//! It listens on a random port of the loopback address, on its own thread, so that it answers while the test is busy or
//! blocked. It keeps servers as plain JSON in the panel's format, records every request in order, answers as
//! the panel does (route binding before authentication, paging, validation), and misbehaves on demand: see [`Fault`]
//! and [`PanelSim::pause`]. Waiting is for states, with a deadline, in real time.

#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "panel_sim/answers.rs"]
mod answers;
#[path = "panel_sim/connection.rs"]
mod connection;
#[path = "panel_sim/faults.rs"]
mod faults;
#[path = "panel_sim/transfers.rs"]
mod transfers;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use regex::Regex;
use serde_json::{Value, json};
use tokio::sync::{mpsc as async_mpsc, watch};

use self::connection::Control;
use self::faults::Rule;
pub use self::faults::{ActiveFault, Fault};
pub use self::transfers::{Side, SimTransfer};

/// Timeout of waiting calls.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// A server's installation as the panel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Waits for the node's report.
    Installing,
    /// Installed, or declared so by a reset.
    Normal,
    /// The first installation failed.
    InstallFailed,
    /// A later one failed.
    ReinstallFailed,
}

/// One server of the panel. The three JSON values have the format of the protocol; tests change them freely.
#[derive(Debug, Clone)]
pub struct SimServer {
    pub uuid: String,
    pub settings: Value,
    pub process: Value,
    pub script: Value,
    pub standing: Standing,
    /// Result of the latest install report.
    pub installed: Option<bool>,
    /// The latest container state that was reported.
    pub state: Option<String>,
    /// Its latest transfer, and the part of this node.
    pub transfer: Option<(Side, SimTransfer)>,
}

impl SimServer {
    /// A server that waits for its installation, with images for itself and its installer.
    pub fn new(uuid: &str, image: &str, installer: &str) -> Self {
        let invocation = "sh /home/container/server.sh {{SERVER_PORT}}";
        let settings = json!({
            "id": 1,
            "uuid": uuid,
            "meta": {"name": format!("server {uuid}"), "description": ""},
            "suspended": false,
            "environment": {"MOTD": "hello", "STARTUP": invocation, "P_SERVER_UUID": uuid},
            "invocation": invocation,
            "skip_egg_scripts": false,
            "build": {"memory_limit": 128, "swap": 0, "io_weight": 500, "cpu_limit": 0, "threads": null,
                "disk_space": 1024, "oom_killer": false},
            "container": {"image": image, "requires_rebuild": false},
            "allocations": {"force_outgoing_ip": false, "default": {"ip": "127.0.0.1", "port": 0}, "mappings": {"": []}},
            "egg": {"id": "5da37ef6-58da-4169-90a6-e683e1721247", "file_denylist": [], "features": []},
        });
        let process = json!({
            "startup": {"done": ["ready"], "user_interaction": [], "strip_ansi": false},
            "stop": {"type": "command", "value": "stop"},
            "configs": [],
        });
        let script = json!({"container_image": installer, "entrypoint": "sh",
            "script": "#!/bin/sh\r\necho installed > /mnt/server/installed.txt\r\n"});
        Self {
            uuid: uuid.to_owned(),
            settings,
            process,
            script,
            standing: Standing::Installing,
            installed: None,
            state: None,
            transfer: None,
        }
    }

    fn may_read(&self) -> bool {
        self.transfer.as_ref().is_none_or(|(side, transfer)| transfer.may_read(*side))
    }

    fn is_listed(&self) -> bool {
        self.transfer.as_ref().is_none_or(|(side, transfer)| transfer.owner() == *side)
    }
}

/// A user who may log in over SFTP to one server.
#[derive(Debug, Clone)]
pub struct SftpUser {
    pub uuid: String,
    /// With the server's part.
    pub username: String,
    pub password: String,
    /// Type and key, as `authorized_keys` has them.
    pub key: Option<String>,
    pub server: String,
    pub permissions: Vec<String>,
}

/// A backup of the panel.
#[derive(Debug, Clone)]
pub struct SimBackup {
    pub uuid: String,
    /// The answer to a request for links; `null` for a backup that is not on S3.
    pub links: Value,
    /// Requests for links: each begins a new multipart upload.
    pub uploads: usize,
    /// A successful report was accepted.
    pub completed: bool,
    /// Accepted reports.
    pub reports: Vec<Value>,
    /// Accepted reports of restores.
    pub restores: Vec<bool>,
}

impl SimBackup {
    /// A backup that waits for its report. `links` is the answer to a request for links.
    pub fn new(uuid: &str, links: Value) -> Self {
        Self { uuid: uuid.to_owned(), links, uploads: 0, completed: false, reports: Vec::new(), restores: Vec::new() }
    }
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Position in the record.
    pub index: usize,
    pub at: Instant,
    pub method: String,
    /// Below `/api/remote`.
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The answer's status, once there is one. A request whose connection was dropped never has one.
    pub status: Option<u16>,
    /// When it was answered, or dropped by a fault.
    pub answered: Option<Instant>,
    /// Whether a fault was applied.
    pub faulted: bool,
}

impl Recorded {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self:?} has no JSON: {error}"))
    }

    /// A header's value; empty where absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// The panel's servers and received requests.
#[derive(Default)]
pub struct CallLog {
    /// In the order of their creation, which is that of the list.
    pub servers: Vec<SimServer>,
    pub requests: Vec<Recorded>,
    pub backups: Vec<SimBackup>,
    /// Accepted resets.
    pub resets: usize,
    /// Users who may log in over SFTP.
    pub sftp_users: Vec<SftpUser>,
    /// A panel without a route for container states, such as Pterodactyl's.
    pub without_state_route: bool,
    faults: Vec<Arc<Rule>>,
}

impl CallLog {
    pub fn backup(&self, uuid: &str) -> Option<&SimBackup> {
        self.backups.iter().find(|backup| backup.uuid == uuid)
    }

    pub fn server(&self, uuid: &str) -> Option<&SimServer> {
        self.servers.iter().find(|server| server.uuid == uuid)
    }

    fn server_mut(&mut self, uuid: &str) -> Option<&mut SimServer> {
        self.servers.iter_mut().find(|server| server.uuid == uuid)
    }
}

struct Shared {
    url: String,
    token_id: String,
    token: String,
    call_log: Mutex<CallLog>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, CallLog> {
        self.call_log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The panel, which stops when this is dropped.
pub struct PanelSim {
    shared: Arc<Shared>,
    control: Option<async_mpsc::UnboundedSender<Control>>,
    thread: Option<JoinHandle<()>>,
}

impl PanelSim {
    /// Starts listening.
    pub fn start() -> Self {
        let reserved = connection::bind((Ipv4Addr::LOCALHOST, 0).into());
        let address = reserved.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            url: format!("http://{address}"),
            token_id: "SimTokenId123456".to_owned(),
            token: "sim-token-of-64-characters-".repeat(3)[..64].to_owned(),
            call_log: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let (control, orders) = async_mpsc::unbounded_channel();
        let (served, (listens, listening)) = (shared.clone(), mpsc::channel());
        let thread = std::thread::Builder::new()
            .name("panel-sim".into())
            .spawn(move || connection::run(&served, reserved, &listens, orders))
            .expect("a thread");
        listening.recv_timeout(TIMEOUT).expect("the panel's thread listens");
        Self { shared, control: Some(control), thread: Some(thread) }
    }

    /// `remote` of the node's configuration.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// `token_id` of the node's configuration.
    pub fn token_id(&self) -> &str {
        &self.shared.token_id
    }

    /// `token` of the node's configuration.
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// The panel's address.
    pub fn address(&self) -> SocketAddr {
        self.shared.url.trim_start_matches("http://").parse().expect("an address")
    }

    /// Reads or changes the panel's state.
    pub fn with<T>(&self, act: impl FnOnce(&mut CallLog) -> T) -> T {
        let found = act(&mut self.shared.lock());
        self.shared.changed.send_replace(());
        found
    }

    /// Adds a server.
    pub fn add(&self, server: SimServer) {
        self.with(|call_log| call_log.servers.push(server));
    }

    /// Changes a server.
    pub fn edit(&self, uuid: &str, change: impl FnOnce(&mut SimServer)) {
        self.with(|call_log| change(call_log.server_mut(uuid).expect("a server that was added")));
    }

    /// Removes a server.
    pub fn remove(&self, uuid: &str) {
        self.with(|call_log| call_log.servers.retain(|server| server.uuid != uuid));
    }

    /// Misbehaves until what this returns is dropped. Of several faults for a request the oldest counts.
    pub fn fault(&self, fault: Fault) -> ActiveFault {
        let rule = Rule::new(fault);
        self.with(|call_log| call_log.faults.push(rule.clone()));
        ActiveFault::new(rule, self.shared.clone())
    }

    /// Stops: connections break and new ones are refused. The port stays reserved.
    pub fn pause(&self) {
        self.order(Control::Pause);
    }

    /// Starts again on the same port.
    pub fn resume(&self) {
        self.order(Control::Resume);
    }

    fn order(&self, order: fn(mpsc::Sender<()>) -> Control) {
        let (done, wait) = mpsc::channel();
        let sent = self.control.as_ref().is_some_and(|control| control.send(order(done)).is_ok());
        assert!(sent && wait.recv_timeout(TIMEOUT).is_ok(), "the panel's thread has ended");
    }

    /// A position in the record, for `since`.
    pub fn mark(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// Requests since a mark whose whole path matches the regular expression.
    pub fn matching(&self, since: usize, method: &str, path: &str) -> Vec<Recorded> {
        matching(&self.shared.lock(), since, method, path)
    }

    /// The most requests of a method that were in progress at the same time.
    pub fn most_at_once(&self, method: &str) -> usize {
        let requests = self.matching(0, method, ".*");
        let during = |at: Instant| {
            let under_way = |request: &&Recorded| request.at <= at && request.answered.is_none_or(|end| end > at);
            requests.iter().filter(under_way).count()
        };
        requests.iter().map(|request| during(request.at)).max().unwrap_or(0)
    }

    /// Waits until `find` returns something, and panics with the latest requests if it does not in [`TIMEOUT`].
    pub async fn wait<T>(&self, what: &str, mut find: impl FnMut(&CallLog) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let found = tokio::time::timeout(TIMEOUT, async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = find(&self.shared.lock()) {
                    return found;
                }
                let _ = changed.changed().await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!(
                "the panel has {what} did not happen within {TIMEOUT:?}; it has seen:\n{}",
                self.recent_requests()
            ),
        }
    }

    /// Waits until `count` matching requests were answered since a mark, and returns the last of them.
    pub async fn wait_for(&self, since: usize, method: &str, path: &str, count: usize) -> Recorded {
        assert!(count > 0, "nothing to wait for");
        self.wait(&format!("{count} of {method} {path}"), |call_log| {
            let mut found = matching(call_log, since, method, path);
            found.retain(|request| request.status.is_some());
            (found.len() >= count).then(|| found.swap_remove(count - 1))
        })
        .await
    }

    /// Waits until the panel has accepted this state of a server.
    pub async fn wait_state(&self, since: usize, uuid: &str, state: &str) -> Recorded {
        let path = state_path(uuid);
        self.wait(&format!("state {state} of {uuid}"), |call_log| {
            let found = matching(call_log, since, "POST", &path).into_iter();
            let last_reported = |request: &Recorded| request.json()["data"]["new_state"] == state;
            found.filter(accepted).find(last_reported)
        })
        .await
    }

    /// Waits until the panel has accepted a report about an installation, and returns its body.
    pub async fn wait_install(&self, since: usize, uuid: &str) -> Value {
        let path = format!("/servers/{uuid}/install");
        self.wait(&format!("the install report of {uuid}"), |call_log| {
            matching(call_log, since, "POST", &path).iter().find(|request| accepted(request)).map(Recorded::json)
        })
        .await
    }

    /// All (previous, new) states of a server that were accepted since a mark, in order.
    pub fn states(&self, since: usize, uuid: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let requests = self.matching(since, "POST", &state_path(uuid));
        let bodies = requests.iter().filter(|request| accepted(request)).map(Recorded::json);
        bodies.map(|body| (text(&body["data"]["previous_state"]), text(&body["data"]["new_state"]))).collect()
    }

    /// The latest requests, one a line.
    fn recent_requests(&self) -> String {
        let call_log = self.shared.lock();
        let latest = call_log.requests.iter().rev().take(40).rev();
        latest
            .map(|request| {
                let status = request.status.map_or("-".into(), |status| status.to_string());
                let body = String::from_utf8_lossy(&request.body).chars().take(120).collect::<String>();
                format!("  {} {} → {status} {body}\n", request.method, request.path)
            })
            .collect()
    }
}

impl Drop for PanelSim {
    fn drop(&mut self) {
        self.control = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn state_path(uuid: &str) -> String {
    format!("/servers/{uuid}/container/status")
}

fn accepted(request: &Recorded) -> bool {
    request.status.is_some_and(|status| (200..300).contains(&status))
}

fn matching(call_log: &CallLog, since: usize, method: &str, path: &str) -> Vec<Recorded> {
    let path = Regex::new(&format!("^(?:{path})$")).expect("a regular expression");
    let requests = call_log.requests.iter().skip(since);
    requests.filter(|request| request.method == method && path.is_match(&request.path)).cloned().collect()
}
