//! A scripted engine on a unix socket.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::runtime::docker::{Address, DockerRuntime};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: String,
}

/// An answer of the engine.
pub enum Answer {
    Reply {
        status: u16,
        body: Vec<u8>,
    },
    /// No answer on an open connection.
    Silence,
    /// Upgrades the connection and echoes.
    Upgrade,
    /// A part of a body, then the end of the connection.
    CutOff {
        body: Vec<u8>,
    },
    /// A part of a body, then a wait for the client to close the connection.
    Endless {
        body: Vec<u8>,
    },
}

impl Answer {
    pub fn json(status: u16, body: &str) -> Self {
        Self::Reply { status, body: body.into() }
    }

    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, &serde_json::json!({"message": message}).to_string())
    }

    pub fn empty(status: u16) -> Self {
        Self::Reply { status, body: Vec::new() }
    }
}

type Script = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

struct Shared {
    script: Script,
    version: String,
    requests: Mutex<Vec<Request>>,
    closed_by_client: AtomicUsize,
    changed: watch::Sender<()>,
}

/// Dropping it closes all connections.
pub struct ScriptedEngine {
    shared: Arc<Shared>,
    socket: PathBuf,
    _folder: Option<tempfile::TempDir>,
    _tasks: JoinSet<()>,
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl ScriptedEngine {
    /// An engine with this API version. The script does not get requests for `/version`.
    pub fn start(version: &str, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Self::start_at(&folder.path().join("engine.sock"), version, script);
        engine._folder = Some(folder);
        engine
    }

    /// An engine on this socket.
    pub fn start_at(socket: &Path, version: &str, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            version: version.into(),
            requests: Mutex::default(),
            closed_by_client: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
        });
        let listener = UnixListener::bind(socket).unwrap();
        let mut tasks = JoinSet::new();
        let serve = shared.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(converse(serve.clone(), connection));
            }
        });
        Self { shared, socket: socket.into(), _folder: None, _tasks: tasks }
    }

    /// A client of this engine.
    pub fn runtime(&self) -> DockerRuntime {
        DockerRuntime::connect(Address::Unix(self.socket.clone()), crate::testing::test_host())
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    /// Number of endless answers whose connection the client closed.
    pub fn closed_by_client(&self) -> usize {
        self.shared.closed_by_client.load(Ordering::SeqCst)
    }

    pub async fn wait_for_close(&self) {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            while self.closed_by_client() == 0 {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("the connection stays open");
    }
}

async fn converse(shared: Arc<Shared>, connection: UnixStream) {
    let mut connection = BufReader::new(connection);
    while let Some(request) = read_request(&mut connection).await {
        let negotiating = request.path == "/version";
        let answer = match negotiating {
            true => Answer::json(
                200,
                &serde_json::json!({"ApiVersion": shared.version, "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"})
                    .to_string(),
            ),
            false => (shared.script)(&request),
        };
        shared.requests.lock().unwrap().push(request);
        if !reply(&shared, &mut connection, answer).await {
            return;
        }
    }
}

async fn read_request(connection: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    connection.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let (method, target) = line.split_once(' ')?;
    let target = target.split(' ').next()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        connection.read_line(&mut header).await.ok().filter(|read| *read > 0)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Request { method: method.into(), path: path.into(), query: query.into(), body })
}

/// Answers. Returns whether the connection stays open.
async fn reply(shared: &Shared, connection: &mut BufReader<UnixStream>, answer: Answer) -> bool {
    let stream = connection.get_mut();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
    match answer {
        Answer::Reply { status, body } => {
            let length = if status == 304 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{length}\r\n");
            stream.write_all(&[head.as_bytes(), &body].concat()).await.is_ok()
        }
        Answer::Silence => std::future::pending().await,
        Answer::Upgrade => {
            let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            if stream.write_all(head.as_bytes()).await.is_ok() {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
            false
        }
        Answer::CutOff { body } => {
            let _ = stream.write_all(&[chunked.as_bytes(), &chunk(&body)].concat()).await;
            false
        }
        Answer::Endless { body } => {
            let _ = stream.write_all(&[chunked.as_bytes(), &chunk(&body)].concat()).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            shared.closed_by_client.fetch_add(1, Ordering::SeqCst);
            shared.changed.send_replace(());
            false
        }
    }
}
