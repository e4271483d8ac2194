//! A real daemon as a child process with its own state folder, configuration, panel simulator and network in the container
//! engine. Its containers, networks and files are removed at the end of the test, whatever its result.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alula::model::{ConditionType, Reason, Status};
use bollard::Docker;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use futures_util::FutureExt;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::images;
use crate::panel_sim::{PanelSim, SimServer};

/// Timeout of awaited states. Generous, since the machine may be busy with other tests.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Interval of the checks for an awaited state.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Options of a test's node.
pub struct NodeOptions {
    /// The daemon's program.
    pub program: PathBuf,
    /// The engine's socket; the default one if `None`.
    pub engine: Option<PathBuf>,
    /// `DOCKER_HOST` of the daemon alone; the engine's socket if `None`.
    pub docker_host: Option<String>,
    /// Merged over the configuration.
    pub config: Value,
    /// Whether the daemon logs in detail.
    pub debug: bool,
}

impl NodeOptions {
    /// A node on the machine's engine.
    pub fn new(program: &str) -> Self {
        Self { program: program.into(), engine: None, docker_host: None, config: json!({}), debug: true }
    }
}

/// A node: a daemon, running or not, with its panel and its engine.
pub struct Node {
    pub panel: PanelSim,
    pub docker: Docker,
    pub image: String,
    pub folder: tempfile::TempDir,
    /// `DOCKER_HOST` of the daemon from its next start on.
    pub docker_host: Option<String>,
    program: PathBuf,
    debug: bool,
    daemon: Option<Child>,
    client: reqwest::Client,
    port: u16,
    network: String,
    servers: Vec<String>,
}

/// Whether to skip tests that need an engine.
pub fn skipped() -> bool {
    let skipped = std::env::var("ALULA_SKIP_DOCKER").is_ok_and(|value| value == "1");
    if skipped {
        eprintln!("skipped: ALULA_SKIP_DOCKER=1, so the real daemon is not tested");
    }
    skipped
}

/// A token of the panel for the console of a server, with all permissions of its user, signed with the node's token.
pub fn console_token(node_token: &str, server: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let claims = json!({
        "iss": "panel", "iat": now, "nbf": now - 300, "exp": now + 600, "jti": "a", "unique_id": format!("{now}"),
        "server_uuid": server, "user_uuid": "f1ee10d5-2058-4647-9489-4cc29abdaac0", "permissions": ["*"],
        "scope": "websocket",
    });
    let key = EncodingKey::from_secret(node_token.as_bytes()).expect("a key");
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token")
}

/// A token of the panel for a link to a server's files, signed with the node's token.
pub fn link_token(node_token: &str, server: &str, scope: &str, file: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let claims = json!({
        "iss": "panel", "iat": now, "nbf": now - 300, "exp": now + 600, "jti": "a", "unique_id": uuid::Uuid::new_v4().to_string(),
        "server_uuid": server, "user_uuid": "f1ee10d5-2058-4647-9489-4cc29abdaac0", "scope": scope, "file_path": file,
    });
    let key = EncodingKey::from_secret(node_token.as_bytes()).expect("a key");
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token")
}

/// A token of the panel that admits the sender of a server, signed with the node's token.
pub fn transfer_token(node_token: &str, server: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let claims = json!({
        "iss": "panel", "iat": now, "nbf": now - 300, "exp": now + 900, "jti": "a",
        "unique_id": uuid::Uuid::new_v4().to_string(), "sub": server, "scope": "transfer",
    });
    let key = EncodingKey::from_secret(node_token.as_bytes()).expect("a key");
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token")
}

/// Runs a test on a node that is not started yet, and cleans up.
pub async fn with_node(options: NodeOptions, test: impl AsyncFnOnce(&mut Node)) {
    let mut node = Node::new(options).await;
    let outcome = AssertUnwindSafe(test(&mut node)).catch_unwind().await;
    if outcome.is_err() {
        eprintln!("---- the end of the daemon's output:\n{}", node.latest_output());
        for id in &node.servers {
            for name in ["config.yml", "record.json", "status.yml"] {
                let path = node.folder.path().join("root/servers").join(id).join(name);
                eprintln!("---- {name} of {id}:\n{}", std::fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    node.clean().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Waits until `find` returns something.
pub async fn until<T>(what: &str, mut find: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "{what} did not happen within {TIMEOUT:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until a path exists.
pub async fn wait_path(path: &Path) {
    until(&format!("{}", path.display()), async || path.exists().then_some(())).await;
}

/// A port without a listener.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// A client of the engine behind a socket, if it answers.
pub async fn engine(socket: Option<&Path>) -> Result<Docker, bollard::errors::Error> {
    let client = match socket {
        None => Docker::connect_with_defaults()?,
        Some(path) => Docker::connect_with_unix(&path.display().to_string(), 120, bollard::API_DEFAULT_VERSION)?,
    };
    client.negotiate_version().await
}

impl Node {
    async fn new(options: NodeOptions) -> Self {
        let docker = engine(options.engine.as_deref()).await.unwrap_or_else(|error| {
            panic!("no container engine answers ({error}): start dockerd, or leave these tests out with ALULA_SKIP_DOCKER=1")
        });
        let image = images::game_image(&docker).await;
        let folder = tempfile::Builder::new().prefix("alula-test-").tempdir().expect("a temporary folder");
        let run = uuid::Uuid::new_v4().simple().to_string();
        let engine_host = options.engine.map(|path| format!("unix://{}", path.display()));
        let node = Self {
            panel: PanelSim::start(),
            docker,
            image,
            folder,
            docker_host: options.docker_host.or(engine_host),
            program: options.program,
            debug: options.debug,
            daemon: None,
            client: reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().expect("a client"),
            port: free_port(),
            network: format!("alula-test-{}", &run[..8]),
            servers: Vec::new(),
        };
        let mut config = node.config();
        merge(&mut config, options.config);
        // JSON is YAML.
        std::fs::write(node.config_path(), serde_json::to_string_pretty(&config).expect("JSON")).expect("a file");
        node
    }

    fn config(&self) -> Value {
        let below = |name: &str| self.folder.path().join(name).display().to_string();
        json!({
            "debug": false,
            "app_name": "Test",
            "uuid": "00000000-0000-4000-8000-000000000000",
            "token_id": self.panel.token_id(),
            "token": self.panel.token(),
            "api": {"host": "127.0.0.1", "port": self.port},
            "system": {
                "root_directory": below("root"),
                "log_directory": below("log"),
                "tmp_directory": below("tmp"),
                "username": "games",
                "timezone": "UTC",
                "user": {"passwd": {"enable": true, "directory": below("passwd")}},
                "machine_id": {"enable": true, "directory": below("machine-id")},
                "enable_log_rotate": false,
                "sftp": {"bind_address": "127.0.0.1", "bind_port": free_port()},
            },
            "docker": {
                "network": {"name": self.network, "network_mode": self.network, "IPv6": false},
                "installer_limits": {"memory": 128, "cpu": 0},
            },
            "remote": self.panel.url(),
        })
    }

    /// A text of the configuration, by its JSON pointer.
    pub fn setting(&self, pointer: &str) -> String {
        let config: Value = serde_json::from_slice(&std::fs::read(self.config_path()).expect("a file")).expect("JSON");
        config.pointer(pointer).and_then(Value::as_str).expect("a text").to_owned()
    }

    /// A number of the configuration, by its JSON pointer.
    pub fn number(&self, pointer: &str) -> u64 {
        let config: Value = serde_json::from_slice(&std::fs::read(self.config_path()).expect("a file")).expect("JSON");
        config.pointer(pointer).and_then(Value::as_u64).expect("a number")
    }

    /// The name of the servers' network.
    pub fn network(&self) -> &str {
        &self.network
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    fn output_path(&self) -> PathBuf {
        self.folder.path().join("daemon.out")
    }

    // ------------------------------------------------------------ the daemon

    /// Starts the daemon, and waits until its API answers.
    pub async fn boot(&mut self) {
        self.spawn();
        self.answers().await;
    }

    /// Starts the daemon, and does not wait.
    pub fn spawn(&mut self) {
        assert!(self.daemon.is_none(), "it runs");
        let output = File::options().append(true).create(true).open(self.output_path()).expect("a file");
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.config_path()).current_dir(self.folder.path());
        command.args(self.debug.then_some("--debug"));
        command.env_remove("WINGS_TOKEN").env_remove("WINGS_TOKEN_ID").env_remove("http_proxy").env("NO_PROXY", "*");
        if let Some(host) = &self.docker_host {
            command.env("DOCKER_HOST", host);
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        self.daemon = Some(command.spawn().expect("the daemon's program"));
    }

    /// Waits until the daemon ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon that runs");
        until("the daemon's end", async || daemon.try_wait().expect("a child")).await
    }

    /// Waits until the API answers.
    pub async fn answers(&mut self) {
        let begun = Instant::now();
        loop {
            if let Ok(answer) = self.request(reqwest::Method::GET, "/api/system").send().await {
                assert_eq!(answer.status(), 200, "the API answers with an unexpected status");
                return;
            }
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().expect("a child"));
            assert!(ended.is_none(), "the daemon ended with {ended:?}:\n{}", self.latest_output());
            assert!(begun.elapsed() < TIMEOUT, "the API does not answer:\n{}", self.latest_output());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Kills the daemon with SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon that runs");
        let ended = daemon.try_wait().expect("a child");
        assert!(
            ended.is_none(),
            "the daemon had ended before it was killed, with {ended:?}:\n{}",
            self.latest_output()
        );
        daemon.kill().expect("a child");
        daemon.wait().expect("a child");
    }

    /// Ends the daemon with SIGTERM, as systemd does, and waits for its end.
    pub fn terminate(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon that runs");
        let pid = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw).expect("its process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        let ended = daemon.wait().expect("a child");
        assert!(ended.success(), "the daemon ended with {ended:?}:\n{}", self.latest_output());
    }

    /// Kills the daemon with SIGKILL, and starts another one.
    pub async fn kill_and_boot(&mut self) {
        self.kill();
        self.boot().await;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon that runs").id()
    }

    /// The end of its output.
    pub fn latest_output(&self) -> String {
        let output = std::fs::read(self.output_path()).unwrap_or_default();
        String::from_utf8_lossy(&output[output.len().saturating_sub(12_000)..]).into_owned()
    }

    // --------------------------------------------------------------- the API

    /// A URL of its API.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(self.panel.token())
    }

    /// The status of the answer to a request with a body.
    pub async fn post(&self, path: &str, body: Value) -> u16 {
        let answer = self.request(reqwest::Method::POST, path).json(&body).send().await.expect("an answer");
        answer.status().as_u16()
    }

    /// The status of the answer to a request without a body.
    pub async fn call(&self, method: reqwest::Method, path: &str) -> u16 {
        self.request(method, path).send().await.expect("an answer").status().as_u16()
    }

    /// The same for a daemon that may be killed meanwhile: no status then.
    pub fn calling(&self, method: reqwest::Method, path: &str) -> impl Future<Output = Option<u16>> + Send + 'static {
        let request = self.request(method, path);
        async move { request.send().await.ok().map(|answer| answer.status().as_u16()) }
    }

    /// Writes a file of a server; the status of the answer.
    pub async fn write_file(&self, id: &str, file: &str, content: Vec<u8>) -> u16 {
        let path = format!("/api/servers/{id}/files/write?file={file}");
        let answer = self.request(reqwest::Method::POST, &path).body(content).send().await.expect("an answer");
        answer.status().as_u16()
    }

    /// The node's token.
    pub fn token(&self) -> &str {
        self.panel.token()
    }

    /// The body of the answer, if that is a success.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.request(reqwest::Method::GET, path).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.json().await.ok()
    }

    /// The body of the answer, which must be a success, unread.
    pub async fn get_bytes(&self, path: &str) -> bytes::Bytes {
        let answer = self.request(reqwest::Method::GET, path).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.bytes().await.expect("a body")
    }

    /// Deletes a server through the API, and waits until the engine has none of its containers.
    pub async fn delete(&self, id: &str) {
        let answer = self.request(reqwest::Method::DELETE, &format!("/api/servers/{id}")).send().await;
        assert_eq!(answer.expect("an answer").status().as_u16(), 204, "deleting {id}");
        until("the container's removal", async || self.container(id).await.is_none().then_some(())).await;
    }

    // --------------------------------------------------------------- servers

    /// A new server of the panel, with this install script. The daemon does not know it yet.
    pub fn define(&mut self, script: &str) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let mut server = SimServer::new(&id, &self.image, &self.image);
        server.script["script"] = json!(script);
        self.panel.add(server);
        self.own(&id);
        id
    }

    /// Containers of this server are removed at the end of the test.
    pub fn own(&mut self, id: &str) {
        self.servers.push(id.to_owned());
    }

    /// Creates a server through the API.
    pub async fn create(&self, id: &str, then_start: bool) {
        let wanted = json!({"uuid": id, "start_on_completion": then_start});
        assert_eq!(self.post("/api/servers", wanted).await, 202, "creating {id}");
    }

    /// A running server.
    pub async fn running_server(&mut self) -> String {
        let id = self.define("echo run >> /mnt/server/runs.txt");
        self.create(&id, true).await;
        self.wait_state(&id, "running").await;
        id
    }

    /// Sends a power request, which must be accepted.
    pub async fn power(&self, id: &str, action: &str) {
        let path = format!("/api/servers/{id}/power");
        assert_eq!(self.post(&path, json!({"action": action})).await, 202, "{action} of {id}");
    }

    /// The state that the API shows.
    pub async fn state(&self, id: &str) -> Option<String> {
        let server = self.get(&format!("/api/servers/{id}")).await?;
        server["state"].as_str().map(str::to_owned)
    }

    /// Waits until the API shows a state.
    pub async fn wait_state(&self, id: &str, state: &str) {
        until(&format!("state {state} of {id}"), async || (self.state(id).await? == state).then_some(())).await;
    }

    /// The content of `status.yml`.
    pub fn status(&self, id: &str) -> Option<Status> {
        let path = self.folder.path().join("root/servers").join(id).join("status.yml");
        serde_yaml::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Waits until a condition has this reason, and returns its message.
    pub async fn wait_condition(&self, id: &str, kind: ConditionType, reason: Reason) -> String {
        until(&format!("{kind:?} of {id} with the reason {reason}"), async || {
            let status = self.status(id)?;
            let condition = status.condition(kind).filter(|condition| condition.reason == reason)?;
            Some(condition.message.clone())
        })
        .await
    }

    /// The server's directory.
    pub fn data(&self, id: &str) -> PathBuf {
        self.folder.path().join("root/servers").join(id).join("data")
    }

    /// A file of the server; empty where there is none.
    pub fn read(&self, id: &str, name: &str) -> String {
        std::fs::read_to_string(self.data(id).join(name)).unwrap_or_default()
    }

    /// Creates an empty file of the server, for a script that waits for it.
    pub fn touch(&self, id: &str, name: &str) {
        std::fs::write(self.data(id).join(name), "").expect("a file");
    }

    /// Waits until a file of the server exists.
    pub async fn wait_file(&self, id: &str, name: &str) {
        wait_path(&self.data(id).join(name)).await;
    }

    /// The log of the last installation.
    pub fn install_log(&self, id: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("log/install/{id}.log"))).unwrap_or_default()
    }

    /// Id of the server's container and whether it runs.
    pub async fn container(&self, name: &str) -> Option<(String, bool)> {
        let found = self.docker.inspect_container(name, None).await.ok()?;
        let running = found.state.and_then(|state| state.running).unwrap_or(false);
        Some((found.id.unwrap_or_default(), running))
    }

    /// Removes containers and the network.
    async fn clean(&mut self) {
        let mut tries = 1;
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
            // The engine may still be creating the network.
            tries = 20;
        }
        let removals = self.servers.iter().flat_map(|id| [id.clone(), format!("{id}_installer")]).map(|name| {
            let docker = self.docker.clone();
            async move {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                let _ = docker.remove_container(&name, Some(options)).await;
            }
        });
        futures_util::future::join_all(removals).await;
        while self.docker.remove_network(&self.network).await.is_err() && tries > 1 {
            tries -= 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Merges `above` into `below`, object by object.
fn merge(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}
