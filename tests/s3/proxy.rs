//! A proxy in front of the store, which handles one request after the other of each connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to a `PUT`.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Pass,
    /// Answers for the store.
    Status(u16, &'static str),
    /// Closes after so many bytes of the body.
    Cut(usize),
    /// Reads so many bytes of the body and no more.
    Stall(usize),
    /// Closes when the store has answered.
    LoseAnswer,
    /// Answers 200 with an ETag before the body.
    Early,
    /// Answers 503 for so many seconds since the start, and passes afterwards.
    FailFor(u64),
}

pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    store: SocketAddr,
    began: Instant,
    puts: watch::Sender<usize>,
    /// Attempts by part; requests under way and the most that there were.
    counts: Mutex<(BTreeMap<u32, u32>, usize, usize)>,
    act: Box<dyn Fn(u32, u32) -> Act + Send + Sync>,
}

impl Proxy {
    pub async fn start(store: SocketAddr, act: impl Fn(u32, u32) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            store,
            began: Instant::now(),
            puts: watch::Sender::new(0),
            counts: Mutex::default(),
            act: Box::new(act),
        });
        let (own, mut tasks) = (state.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = own.clone();
                connections.spawn(async move { drop(state.serve(stream).await) });
            }
        });
        Self { address, state, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn puts(&self) -> usize {
        *self.state.puts.borrow()
    }

    pub fn max_at_once(&self) -> usize {
        self.state.counts.lock().unwrap().2
    }

    pub async fn wait_for(&self, puts: usize) {
        self.state.puts.subscribe().wait_for(|count| *count >= puts).await.unwrap();
    }
}

impl State {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut read = Vec::new();
        loop {
            let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
                if client.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            let body = read.split_off(end + 4);
            let head = String::from_utf8(std::mem::take(&mut read)).unwrap();
            if !self.request(&mut client, &head, body).await? {
                return Ok(());
            }
        }
    }

    /// Returns whether the connection can be used again.
    async fn request(&self, client: &mut TcpStream, head: &str, mut body: Vec<u8>) -> std::io::Result<bool> {
        let lower = head.to_lowercase();
        let length = lower
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
        if lower.contains("expect: 100-continue") {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let part = query(head, "partNumber").filter(|_| head.starts_with("PUT ")).and_then(|part| part.parse().ok());
        let Some(part) = part else {
            fill(client, &mut body, length).await?;
            return self.pass(client, head, &body, true).await;
        };
        let attempt = {
            let mut counts = self.counts.lock().unwrap();
            counts.1 += 1;
            counts.2 = counts.2.max(counts.1);
            let attempts = counts.0.entry(part).or_default();
            *attempts += 1;
            *attempts
        };
        self.puts.send_modify(|puts| *puts += 1);
        let result = self.put(client, head, body, length, (self.act)(part, attempt)).await;
        self.counts.lock().unwrap().1 -= 1;
        result
    }

    async fn put(
        &self,
        client: &mut TcpStream,
        head: &str,
        mut body: Vec<u8>,
        length: usize,
        act: Act,
    ) -> std::io::Result<bool> {
        match act {
            Act::Cut(after) => {
                fill(client, &mut body, after).await?;
                return Ok(false);
            }
            Act::Stall(after) => {
                fill(client, &mut body, after).await?;
                return std::future::pending().await;
            }
            Act::Early => {
                let answer = "HTTP/1.1 200 OK\r\nETag: \"lie\"\r\nContent-Length: 0\r\n\r\n";
                client.write_all(answer.as_bytes()).await?;
                return std::future::pending().await;
            }
            _ => fill(client, &mut body, length).await?,
        }
        if is_expired(head) {
            return answer(client, 403, "AccessDenied").await;
        }
        match act {
            Act::Status(status, code) => answer(client, status, code).await,
            Act::FailFor(seconds) if self.began.elapsed() < Duration::from_secs(seconds + 1) => {
                answer(client, 503, "SlowDown").await
            }
            act => self.pass(client, head, &body, !matches!(act, Act::LoseAnswer)).await,
        }
    }

    async fn pass(&self, client: &mut TcpStream, head: &str, body: &[u8], answered: bool) -> std::io::Result<bool> {
        let mut store = TcpStream::connect(self.store).await?;
        let is_kept = |line: &&str| {
            !line.to_lowercase().starts_with("expect:") && !line.to_lowercase().starts_with("connection:")
        };
        let kept: Vec<&str> = head.trim_end().split("\r\n").filter(is_kept).collect();
        store.write_all(format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).as_bytes()).await?;
        store.write_all(body).await?;
        let mut answer = Vec::new();
        store.read_to_end(&mut answer).await?;
        if answered {
            client.write_all(&answer).await?;
        }
        Ok(false)
    }
}

/// Reads until there are so many bytes.
async fn fill(client: &mut TcpStream, body: &mut Vec<u8>, wanted: usize) -> std::io::Result<()> {
    while body.len() < wanted {
        if client.read_buf(body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

async fn answer(client: &mut TcpStream, status: u16, code: &str) -> std::io::Result<bool> {
    let page = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>x</Message></Error>");
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n", page.len());
    client.write_all(head.as_bytes()).await?;
    client.write_all(page.as_bytes()).await?;
    Ok(true)
}

fn query<'a>(head: &'a str, key: &str) -> Option<&'a str> {
    let target = head.split(' ').nth(1)?.split_once('?')?.1;
    target.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// As S3 judges a presigned link.
fn is_expired(head: &str) -> bool {
    let (Some(date), Some(life)) = (query(head, "X-Amz-Date"), query(head, "X-Amz-Expires")) else { return false };
    let (day, time) = date.trim_end_matches('Z').split_once('T').unwrap();
    let text = format!("{}-{}-{}T{}:{}:{}Z", &day[..4], &day[4..6], &day[6..], &time[..2], &time[2..4], &time[4..]);
    let signed: alula::model::Timestamp = alula::model::Timestamp::parse(&text).unwrap();
    alula::clock::Clock::System.now().since(signed) > Duration::from_secs(life.parse().unwrap())
}
