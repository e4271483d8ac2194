//! A link between two nodes that is slow, is cut, stands still, or loses an answer.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// What happens once, to the first request whose head contains a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It does not arrive until the link is cut.
    Hold,
    /// It arrives, and the link is cut before its answer.
    LoseAnswer,
    /// It arrives, and the link is cut while it is carried out.
    Cut,
}

/// The link. Clones are the same one.
#[derive(Clone)]
pub struct Link {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: Mutex<SocketAddr>,
    /// The link is cut whenever so many bytes more have passed.
    cuts: Mutex<VecDeque<u64>>,
    mishap: Mutex<Option<(Mishap, &'static str)>>,
    happened: AtomicBool,
    /// Bytes that have passed to the target.
    passed: AtomicU64,
    /// Bytes per second to the target; 0: as many as come.
    rate: AtomicU64,
    /// When the link is free again.
    free: Mutex<Instant>,
    cut: broadcast::Sender<()>,
}

impl Link {
    pub async fn to(url: &str) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(State {
            target: Mutex::new(address(url)),
            cuts: Mutex::default(),
            mishap: Mutex::default(),
            happened: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            free: Mutex::new(Instant::now()),
            cut: broadcast::channel(16).0,
        });
        let link = Self { address: socket.local_addr().unwrap(), state: state.clone() };
        tokio::spawn(async move {
            loop {
                let (near, _) = socket.accept().await.unwrap();
                let state = state.clone();
                let mut cut = state.cut.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cut.recv() => {}
                        () = pass(&state, near) => {}
                    }
                });
            }
        });
        link
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/transfers", self.address)
    }

    pub fn retarget(&self, url: &str) {
        *self.state.target.lock().unwrap() = address(url);
    }

    pub fn cut_after(&self, cuts: impl IntoIterator<Item = u64>) {
        self.state.cuts.lock().unwrap().extend(cuts);
    }

    /// Limits what passes, over all connections.
    pub fn limit(&self, bytes_per_second: u64) {
        self.state.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    pub fn cuts_left(&self) -> usize {
        self.state.cuts.lock().unwrap().len()
    }

    pub fn expect(&self, mishap: Mishap, request: &'static str) {
        *self.state.mishap.lock().unwrap() = Some((mishap, request));
    }

    pub fn has_happened(&self) -> bool {
        self.state.happened.load(Ordering::SeqCst)
    }

    pub fn cut(&self) {
        let _ = self.state.cut.send(());
    }

    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }
}

impl State {
    /// When a piece may pass.
    fn free_after(&self, length: usize) -> Instant {
        let (rate, now) = (self.rate.load(Ordering::SeqCst), Instant::now());
        let mut free = self.free.lock().unwrap();
        if rate > 0 {
            // What was not used of a short pause is made up for.
            *free = (*free).max(now - Duration::from_millis(20)) + Duration::from_secs_f64(length as f64 / rate as f64);
        }
        *free
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

async fn pass(state: &State, mut near: TcpStream) {
    let target = *state.target.lock().unwrap();
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let (mut from_near, mut to_near) = near.split();
    let (mut from_far, mut to_far) = far.split();
    let lost = AtomicBool::new(false);
    let there = async {
        let mut piece = vec![0; 32 << 10];
        while let Ok(length @ 1..) = from_near.read(&mut piece).await {
            let mishap = mishap(state, &piece[..length]);
            match mishap {
                Some(Mishap::Hold) => std::future::pending::<()>().await,
                Some(Mishap::LoseAnswer) => lost.store(true, Ordering::SeqCst),
                Some(Mishap::Cut) | None => {}
            }
            let free = state.free_after(length);
            tokio::time::sleep_until(free).await;
            if to_far.write_all(&piece[..length]).await.is_err() {
                return;
            }
            state.passed.fetch_add(length as u64, Ordering::SeqCst);
            if mishap == Some(Mishap::Cut) {
                state.happened.store(true, Ordering::SeqCst);
                // The destination reads the whole request first.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let _ = state.cut.send(());
            }
            let mut cuts = state.cuts.lock().unwrap();
            let Some(next) = cuts.front_mut() else { continue };
            *next = next.saturating_sub(length as u64);
            if *next == 0 {
                cuts.pop_front();
                let _ = state.cut.send(());
            }
        }
        let _ = to_far.shutdown().await;
        std::future::pending::<()>().await;
    };
    let back = async {
        let mut piece = vec![0; 32 << 10];
        while let Ok(length @ 1..) = from_far.read(&mut piece).await {
            if lost.load(Ordering::SeqCst) || to_near.write_all(&piece[..length]).await.is_err() {
                state.happened.store(true, Ordering::SeqCst);
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
    // The answer has arrived before the connection is closed.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn mishap(state: &State, piece: &[u8]) -> Option<Mishap> {
    let mut expected = state.mishap.lock().unwrap();
    let (mishap, request) = (*expected)?;
    if !piece.windows(request.len()).any(|found| found == request.as_bytes()) {
        return None;
    }
    *expected = None;
    if mishap == Mishap::Hold {
        state.happened.store(true, Ordering::SeqCst);
    }
    Some(mishap)
}
