//! The requests of a channel that wait: bytes that the connection puts in and the session takes out.
//!
//! `russh` acknowledges data when it arrives, so what limits the memory is that the connection waits here, and with it all
//! that arrives on it. It must not wait while the session waits for the client to read answers: the client's permission to send
//! them may be behind the data that is waiting. Then up to [`MAX_BACKLOG`] bytes are taken, while all channels together have less
//! than [`NODE_BACKLOG`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

use super::limits::{BACKLOG, MAX_BACKLOG, NODE_BACKLOG};

/// Bytes of requests that wait, of all channels; clones share the number.
#[derive(Clone, Default)]
pub struct Backlog(Arc<AtomicUsize>);

/// The requests of a channel.
pub struct Inbox {
    backlog: Backlog,
    state: Mutex<State>,
    /// Bytes have arrived, or no more will.
    arrived: Notify,
    /// There is room, or the connection must not wait.
    room: Notify,
}

#[derive(Default)]
struct State {
    bytes: BytesMut,
    /// No more will arrive.
    ended: bool,
    /// The session waits for the client.
    answering: bool,
}

/// A client sends requests without reading answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client sends requests without reading the answers")]
pub struct Overflow;

impl Inbox {
    /// Nothing waits. What does is counted in `backlog`, too.
    pub fn new(backlog: Backlog) -> Self {
        Self { backlog, state: Mutex::default(), arrived: Notify::new(), room: Notify::new() }
    }

    /// Adds what has arrived, and waits until there is room for more. After the end nothing is added.
    ///
    /// # Errors
    /// Too much waits already.
    pub async fn put(&self, bytes: &[u8]) -> Result<(), Overflow> {
        {
            let mut state = self.state();
            if state.ended {
                return Ok(());
            }
            let waiting = state.bytes.len() + bytes.len();
            let all = self.backlog.0.load(Ordering::Relaxed);
            if waiting > MAX_BACKLOG || (waiting > 2 * BACKLOG && all > NODE_BACKLOG) {
                return Err(Overflow);
            }
            self.backlog.0.fetch_add(bytes.len(), Ordering::Relaxed);
            state.bytes.extend_from_slice(bytes);
        }
        self.arrived.notify_one();
        loop {
            let room = self.room.notified();
            {
                let state = self.state();
                if state.bytes.len() < BACKLOG || state.answering || state.ended {
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// No more will arrive.
    pub fn end(&self) {
        self.state().ended = true;
        self.arrived.notify_one();
        self.room.notify_one();
    }

    /// Waits for bytes, and takes all that have arrived. `None` after the end.
    pub async fn take(&self) -> Option<BytesMut> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.state();
                if !state.bytes.is_empty() {
                    let bytes = std::mem::take(&mut state.bytes);
                    drop(state);
                    self.backlog.0.fetch_sub(bytes.len(), Ordering::Relaxed);
                    self.room.notify_one();
                    return Some(bytes);
                }
                if state.ended {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Whether the session waits for the client to read answers.
    pub fn answering(&self, answering: bool) {
        self.state().answering = answering;
        if answering {
            self.room.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(self.state().bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    async fn is_stuck(future: impl Future<Output = impl Sized>) -> bool {
        tokio::time::timeout(Duration::from_secs(3600), future).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_waits_for_room_unless_the_session_waits_for_the_client() {
        let inbox = Inbox::new(Backlog::default());
        let part = vec![0; BACKLOG / 2];
        inbox.put(&part).await.unwrap();
        {
            let mut put = pin!(inbox.put(&part));
            assert!(is_stuck(put.as_mut()).await);
            inbox.answering(true);
            put.await.unwrap();
        }
        inbox.put(&part).await.unwrap();
        inbox.answering(false);
        {
            let mut put = pin!(inbox.put(&part));
            assert!(is_stuck(put.as_mut()).await);
            assert_eq!(inbox.take().await.map(|bytes| bytes.len()), Some(4 * part.len()));
            put.await.unwrap();
        }
        inbox.answering(true);
        let most = vec![0; MAX_BACKLOG];
        inbox.put(&most).await.unwrap();
        assert_eq!(inbox.put(&[0]).await, Err(Overflow));
        assert_eq!(inbox.backlog.0.load(Ordering::Relaxed), MAX_BACKLOG);
        let (other, backlog) = (Inbox::new(inbox.backlog.clone()), inbox.backlog.clone());
        backlog.0.fetch_add(NODE_BACKLOG, Ordering::Relaxed);
        other.answering(true);
        other.put(&vec![0; 2 * BACKLOG]).await.unwrap();
        assert_eq!(other.put(&[0]).await, Err(Overflow));
        drop((inbox, other));
        assert_eq!(backlog.0.load(Ordering::Relaxed), NODE_BACKLOG);
    }

    #[tokio::test(start_paused = true)]
    async fn the_session_waits_for_bytes_and_learns_of_the_end() {
        let inbox = Inbox::new(Backlog::default());
        assert!(is_stuck(inbox.take()).await);
        inbox.put(b"one").await.unwrap();
        inbox.put(b"two").await.unwrap();
        inbox.end();
        assert_eq!(inbox.take().await.as_deref(), Some(&b"onetwo"[..]));
        assert_eq!(inbox.take().await, None);
        assert_eq!(inbox.take().await, None);
    }
}
