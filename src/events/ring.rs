//! A broadcast that is bounded by bytes. Each receiver reads all values; a value is dropped when all have read it, or when newer ones
//! need its space. Sending never waits. A receiver that has missed values gets their number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a value takes of a ring.
pub trait Weigh {
    /// Its bytes in memory.
    fn bytes(&self) -> usize;

    /// What it counts when it is missed.
    fn count(&self) -> u64;
}

/// The sending half, shared with the receivers.
pub struct Ring<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    max_bytes: usize,
}

/// What several rings hold together. A ring that sends while this is too much keeps [`Pool::LEAST`] bytes.
#[derive(Clone, Default)]
pub struct Pool {
    used: Arc<AtomicUsize>,
}

impl Pool {
    /// Bytes of all rings of a pool.
    pub const MOST: usize = 128 << 20;
    /// Bytes that a ring keeps at any time.
    pub const LEAST: usize = 1 << 20;

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > Self::MOST
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

struct State<T> {
    entries: VecDeque<Entry<T>>,
    /// Position of the first entry.
    first: u64,
    /// Bytes of all entries.
    bytes: usize,
    pool: Pool,
    /// The count of all values so far.
    count: u64,
    receivers: usize,
    closed: bool,
}

struct Entry<T> {
    value: T,
    bytes: usize,
    /// The count of all values before this one.
    before: u64,
    /// Receivers that have not read it.
    unread: usize,
}

/// What a receiver gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The next value.
    Value(T),
    /// Values with this count are missing here.
    Missed(u64),
}

impl<T> Ring<T> {
    /// A ring without receivers, one of a pool.
    pub fn new(max_bytes: usize, pool: Pool) -> Arc<Self> {
        let state = State { entries: VecDeque::new(), first: 0, bytes: 0, pool, count: 0, receivers: 0, closed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), max_bytes })
    }

    /// The number of receivers.
    pub fn receivers(&self) -> usize {
        self.state().receivers
    }

    /// No value follows. Receivers read the remaining ones.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Weigh> Ring<T> {
    /// Adds a value for all receivers.
    pub fn send(&self, value: T) {
        let mut state = self.state();
        let (bytes, count) = (value.bytes(), value.count());
        let (before, unread) = (state.count, state.receivers);
        state.count += count;
        if unread == 0 {
            state.first += 1;
            return;
        }
        state.entries.push_back(Entry { value, bytes, before, unread });
        state.bytes += bytes;
        state.pool.add(bytes);
        let max_bytes = if state.pool.is_full() { self.max_bytes.min(Pool::LEAST) } else { self.max_bytes };
        // The newest value stays, however large it is.
        while state.bytes > max_bytes && state.entries.len() > 1 {
            state.drop_first();
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl<T> State<T> {
    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.bytes;
            self.pool.subtract(entry.bytes);
            self.first += 1;
        }
    }

    fn drop_read(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.unread == 0) {
            self.drop_first();
        }
    }

    /// The position after the last value.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

impl<T> Drop for State<T> {
    fn drop(&mut self) {
        self.pool.subtract(self.bytes);
    }
}

/// The receiving half.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
    /// Position of the next value.
    next: u64,
    /// The count of all values before it.
    seen: u64,
}

/// Why there is no value now.
#[derive(Debug, PartialEq, Eq)]
pub enum Nothing {
    /// All values so far were read.
    Yet,
    /// The ring was closed, and all values were read.
    More,
}

impl<T: Clone> Receiver<T> {
    /// Receives the values from now on.
    pub fn new(ring: Arc<Ring<T>>) -> Self {
        let mut state = ring.state();
        state.receivers += 1;
        let (next, seen) = (state.end(), state.count);
        drop(state);
        Self { ring, next, seen }
    }

    /// The next value, if it was sent already.
    ///
    /// # Errors
    /// There is none.
    pub fn try_recv(&mut self) -> Result<Received<T>, Nothing> {
        let mut state = self.ring.state();
        if self.next < state.first {
            let seen = state.entries.front().map_or(state.count, |entry| entry.before);
            let missed = seen - self.seen;
            (self.next, self.seen) = (state.first, seen);
            return Ok(Received::Missed(missed));
        }
        let position = usize::try_from(self.next - state.first).unwrap_or(usize::MAX);
        let total = state.count;
        let after = state.entries.get(position + 1).map_or(total, |entry| entry.before);
        let Some(entry) = state.entries.get_mut(position) else {
            return Err(if state.closed { Nothing::More } else { Nothing::Yet });
        };
        entry.unread -= 1;
        let value = entry.value.clone();
        (self.next, self.seen) = (self.next + 1, after);
        state.drop_read();
        Ok(Received::Value(value))
    }

    /// The next value; `None` after the ring was closed. Cancel safe.
    pub async fn recv(&mut self) -> Option<Received<T>> {
        let ring = self.ring.clone();
        loop {
            let mut changed = std::pin::pin!(ring.changed.notified());
            // Before the look, so that a value that is sent after it ends the wait.
            changed.as_mut().enable();
            match self.try_recv() {
                Ok(received) => return Some(received),
                Err(Nothing::More) => return None,
                Err(Nothing::Yet) => changed.await,
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.ring.state();
        state.receivers -= 1;
        let read = usize::try_from(self.next.saturating_sub(state.first)).unwrap_or(usize::MAX);
        state.entries.iter_mut().skip(read).for_each(|entry| entry.unread -= 1);
        state.drop_read();
    }
}

#[cfg(test)]
mod tests;
