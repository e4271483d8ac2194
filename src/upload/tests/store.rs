//! A store of objects that misbehaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::panel::Part;
use crate::tasks::Tasks;

/// What the store does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Reads the body and answers 200 with an ETag.
    Accept,
    /// The same, when three requests are there.
    Meet,
    /// Accepts without an ETag.
    NoEtag,
    /// Reads the body and answers with this status and code.
    Status(u16, &'static str),
    /// Closes after so many bytes.
    Cut(usize),
    /// Reads so many bytes and no more.
    Stall(usize),
    /// Reads the body and never answers.
    Silent,
    /// Answers 200 before the body.
    Early,
    /// Reads the body and waits until the client is gone. Counts as held.
    Hold,
    /// Answers 503 until [`Store::come_back`].
    Away,
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
    tasks: Tasks,
}

#[derive(Default)]
pub struct State {
    requests: Vec<String>,
    attempts: BTreeMap<u32, u32>,
    /// Bodies by ETag.
    bodies: BTreeMap<String, Vec<u8>>,
    answered: usize,
    at_once: usize,
    max_at_once: usize,
    /// Requests that [`Act::Meet`] has counted.
    met: usize,
    held: usize,
    is_back: bool,
}

impl State {
    pub fn attempts(&self, part: u32) -> u32 {
        self.attempts.get(&part).copied().unwrap_or(0)
    }

    /// Accepted parts.
    pub fn answered(&self) -> usize {
        self.answered
    }

    pub fn is_held(&self) -> bool {
        self.held > 0
    }
}

impl Store {
    pub async fn start(act: impl Fn(u32, u32) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
            tasks: Tasks::new(),
        };
        let (own, act) = (store.clone(), Arc::new(act));
        store.tasks.spawn("store", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (store, act) = (own.clone(), act.clone());
                own.tasks.spawn("connection", async move { drop(store.serve(stream, &*act).await) });
            }
        });
        store
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub fn attempts(&self, part: u32) -> u32 {
        self.lock().attempts(part)
    }

    pub fn max_at_once(&self) -> usize {
        self.lock().max_at_once
    }

    /// The object that consists of these parts.
    pub fn object(&self, parts: &[Part]) -> Vec<u8> {
        let state = self.lock();
        parts.iter().flat_map(|part| state.bodies[&part.etag].clone()).collect()
    }

    /// Ends [`Act::Away`].
    pub fn come_back(&self) {
        self.change(|state| state.is_back = true);
    }

    pub async fn wait(&self, until: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let met = async {
            while !until(&self.lock()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), met).await.expect("the store gets the requests");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    async fn serve(&self, mut stream: TcpStream, act: &(dyn Fn(u32, u32) -> Act + Send + Sync)) -> std::io::Result<()> {
        let mut read = Vec::new();
        let head = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let body = read.split_off(head);
        let text = String::from_utf8(read).unwrap().to_lowercase();
        let field = |after: &str, end: &str| text.split_once(after).unwrap().1.split(end).next().unwrap().to_owned();
        let (part, length): (u32, usize) =
            (field("put /", "?").parse().unwrap(), field("content-length: ", "\r\n").parse().unwrap());
        let attempt = self.change(|state| {
            state.requests.push(text.clone());
            state.at_once += 1;
            state.max_at_once = state.max_at_once.max(state.at_once);
            let attempts = state.attempts.entry(part).or_default();
            *attempts += 1;
            *attempts
        });
        let result = self.answer(&mut stream, body, part, length, act(part, attempt)).await;
        self.change(|state| state.at_once -= 1);
        result
    }

    async fn answer(
        &self,
        stream: &mut TcpStream,
        mut body: Vec<u8>,
        part: u32,
        length: usize,
        act: Act,
    ) -> std::io::Result<()> {
        let wanted = match act {
            Act::Cut(after) | Act::Stall(after) => after.min(length),
            Act::Early => 0,
            _ => length,
        };
        while body.len() < wanted {
            if stream.read_buf(&mut body).await? == 0 {
                return Ok(());
            }
        }
        let etag = format!("\"{part}-{:x}\"", crc32fast::hash(&body));
        let mut headers = format!("200 OK\r\nETag: {etag}");
        let mut page = String::new();
        match act {
            Act::Cut(_) => return Ok(()),
            Act::Stall(_) | Act::Silent => return std::future::pending().await,
            Act::Hold => {
                self.change(|state| state.held += 1);
                while stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
                self.change(|state| state.held -= 1);
                return Ok(());
            }
            Act::Meet => {
                let group = self.change(|state| {
                    state.met += 1;
                    state.met.div_ceil(3) * 3
                });
                self.wait(|state| state.met >= group).await;
            }
            Act::Away if !self.lock().is_back => headers = "503 Away".into(),
            Act::Status(status, code) => {
                headers = format!("{status} X");
                page = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
            }
            Act::NoEtag => headers = "200 OK".into(),
            Act::Accept | Act::Early | Act::Away => {}
        }
        if headers.starts_with("200 OK\r\n") && wanted == length {
            self.change(|state| {
                state.bodies.insert(etag, body);
                state.answered += 1;
            });
        }
        let answer = format!("HTTP/1.1 {headers}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
        stream.write_all(answer.as_bytes()).await?;
        if wanted < length {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
