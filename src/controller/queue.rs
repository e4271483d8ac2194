//! A queue of servers with times: each server is in it once, the earlier time counts, and a server that is being worked on comes out
//! again only when that work has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::ServerId;

/// A handle on the queue.
#[derive(Clone, Default)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// A server was queued that may be due before the one that [`Queue::next`] waits for.
    earlier: Notify,
}

#[derive(Default)]
struct State {
    due: BTreeMap<ServerId, Instant>,
    order: BTreeSet<(Instant, ServerId)>,
    running: BTreeSet<ServerId>,
}

impl State {
    fn push(&mut self, id: ServerId, at: Instant) -> bool {
        if let Some(before) = self.due.get(&id).copied() {
            if before <= at {
                return false;
            }
            self.order.remove(&(before, id));
        }
        self.due.insert(id, at);
        self.order.insert((at, id));
        true
    }

    /// The first server that is not being worked on, and its time.
    fn first(&self) -> Option<(Instant, ServerId)> {
        self.order.iter().find(|(_, id)| !self.running.contains(id)).copied()
    }
}

impl Queue {
    /// Queues a server for now.
    pub fn push(&self, id: ServerId) {
        self.push_at(id, Instant::now());
    }

    /// Queues a server for a time, unless an earlier one is queued.
    pub fn push_at(&self, id: ServerId, at: Instant) {
        if self.lock().push(id, at) {
            self.inner.earlier.notify_one();
        }
    }

    /// Waits for the next server whose time has come, and takes it out. It is being worked on until [`Queue::done`].
    ///
    /// Only one caller waits at a time. Dropping the future loses nothing.
    pub async fn next(&self) -> ServerId {
        loop {
            // Before the queue is read: a server that is queued afterwards is noticed.
            let earlier = self.inner.earlier.notified();
            let first = {
                let mut state = self.lock();
                match state.first() {
                    Some((at, id)) if at <= Instant::now() => {
                        state.order.remove(&(at, id));
                        state.due.remove(&id);
                        state.running.insert(id);
                        return id;
                    }
                    first => first,
                }
            };
            match first {
                // Either way the queue is read again.
                Some((at, _)) => drop(tokio::time::timeout_at(at, earlier).await),
                None => earlier.await,
            }
        }
    }

    /// The work on a server has ended; it is queued for `next`.
    pub fn done(&self, id: ServerId, next: Option<Instant>) {
        let mut state = self.lock();
        state.running.remove(&id);
        if let Some(at) = next {
            state.push(id, at);
        }
        drop(state);
        self.inner.earlier.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(number: u128) -> ServerId {
        ServerId::new(uuid::Uuid::from_u128(number))
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_time_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.push_at(id(1), start + Duration::from_secs(10));
        queue.push_at(id(1), start + Duration::from_secs(5));
        queue.push_at(id(1), start + Duration::from_secs(20));
        assert_eq!(queue.next().await, id(1));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        queue.done(id(1), None);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err(), "only once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_in_work_waits_for_its_end_and_holds_up_no_other() {
        let queue = Queue::default();
        queue.push(id(1));
        assert_eq!(queue.next().await, id(1));
        queue.push(id(1));
        queue.push(id(1));
        queue.push(id(2));
        assert_eq!(queue.next().await, id(2));
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
        queue.done(id(1), None);
        assert_eq!(queue.next().await, id(1));
        queue.done(id(1), None);
        queue.done(id(2), None);
        assert!(tokio::time::timeout(Duration::from_secs(3600), queue.next()).await.is_err(), "nothing is left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_queued_during_a_wait_is_noticed() {
        let queue = Queue::default();
        queue.push_at(id(1), Instant::now() + Duration::from_secs(100));
        let other = queue.clone();
        let pusher = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.push(id(2));
        });
        assert_eq!(queue.next().await, id(2));
        pusher.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_the_next_pass_is_kept() {
        let queue = Queue::default();
        queue.push(id(1));
        assert_eq!(queue.next().await, id(1));
        let later = Instant::now() + Duration::from_secs(7);
        queue.done(id(1), Some(later));
        assert_eq!(queue.next().await, id(1));
        assert_eq!(Instant::now(), later);
    }
}
