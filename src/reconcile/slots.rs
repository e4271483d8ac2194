//! Slots of the node: as many servers do something at once as there are slots. The others wait, by priority and then in their order.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::model::ServerId;
use crate::wait;

/// Which servers hold a slot, and which wait for one.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeSet<ServerId>,
    waiting: Vec<Waiting>,
    /// Until then servers only begin to wait.
    opens_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    id: ServerId,
    priority: i32,
}

impl State {
    fn is_closed(&self) -> bool {
        self.opens_at.is_some_and(|at| Instant::now() < at)
    }

    /// The position of a server that waits from now on, if it did not.
    fn queue(&mut self, id: ServerId, priority: i32) -> usize {
        let wanted = Waiting { id, priority };
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) {
            if self.waiting[at] == wanted {
                return at;
            }
            self.waiting.remove(at);
        }
        let at = self.waiting.partition_point(|waiting| waiting.priority >= priority);
        self.waiting.insert(at, wanted);
        at
    }

    fn forget(&mut self, id: ServerId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }
}

impl Slots {
    /// At least one slot.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default() }
    }

    /// Number of slots.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a server holds a slot.
    pub fn holds(&self, id: ServerId) -> bool {
        self.lock().held.contains(&id)
    }

    /// Whether a server waits for a slot.
    pub fn waits(&self, id: ServerId) -> bool {
        self.lock().waiting.iter().any(|waiting| waiting.id == id)
    }

    /// Takes a slot if one is free and no other server comes first; otherwise the server waits.
    pub fn take(&self, id: ServerId, priority: i32) -> bool {
        let mut state = self.lock();
        if state.held.contains(&id) {
            return true;
        }
        let free = self.limit.saturating_sub(state.held.len());
        let granted = state.queue(id, priority) < free && !state.is_closed();
        if granted {
            state.forget(id);
            state.held.insert(id);
        }
        granted
    }

    /// As many servers are about to want a slot. If that is more than there are, all of them wait for a moment first, so that the
    /// priority decides and not which one comes first.
    pub fn collect(&self, servers: usize) {
        if servers > self.limit {
            self.lock().opens_at = Some(Instant::now() + wait::SLOT_ORDER);
        }
    }

    /// Until when servers only begin to wait, if they do.
    pub fn opens_at(&self) -> Option<Instant> {
        let state = self.lock();
        state.opens_at.filter(|_| state.is_closed())
    }

    /// A server that is at work already has its slot, whether one was free or not.
    pub fn adopt(&self, id: ServerId) {
        let mut state = self.lock();
        state.forget(id);
        state.held.insert(id);
    }

    /// Releases a slot, or stops waiting for one. Returns the servers that may take a slot now.
    pub fn release(&self, id: ServerId) -> Vec<ServerId> {
        let mut state = self.lock();
        state.held.remove(&id);
        state.forget(id);
        let free = self.limit.saturating_sub(state.held.len());
        state.waiting.iter().take(free).map(|waiting| waiting.id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> ServerId {
        ServerId::new(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn slots_are_given_in_the_order_of_requests() {
        let slots = Slots::new(2);
        assert!(slots.take(id(1), 0) && slots.take(id(2), 0));
        assert!(!slots.take(id(3), 0) && !slots.take(id(4), 0));
        assert!(slots.take(id(1), 0), "it holds one");
        assert_eq!(slots.release(id(1)), [id(3)]);
        assert!(!slots.take(id(4), 0), "3 was first");
        assert!(slots.take(id(3), 0));
        assert_eq!(slots.release(id(2)), [id(4)]);
        assert!(slots.take(id(4), 0));
    }

    #[test]
    fn adopted_installers_count() {
        let slots = Slots::new(1);
        slots.adopt(id(1));
        slots.adopt(id(2));
        assert!(!slots.take(id(3), 0));
        assert!(slots.release(id(1)).is_empty());
        assert_eq!(slots.release(id(2)), [id(3)]);
    }

    #[test]
    fn a_server_that_stops_waiting_holds_up_no_other() {
        let slots = Slots::new(1);
        assert!(slots.take(id(1), 0));
        assert!(!slots.take(id(2), 0) && !slots.take(id(3), 0));
        assert!(slots.release(id(2)).is_empty());
        assert_eq!(slots.release(id(1)), [id(3)]);
    }

    #[test]
    fn a_higher_priority_comes_first_and_equal_ones_keep_their_order() {
        let slots = Slots::new(1);
        assert!(slots.take(id(1), -5));
        for (number, priority) in [(2, 0), (3, 7), (4, 0), (5, 7), (6, -1)] {
            assert!(!slots.take(id(number), priority));
        }
        assert!(!slots.take(id(4), 1), "its priority was changed while it waits");
        for (before, next) in [(1, 3), (3, 5), (5, 4), (4, 2), (2, 6)] {
            assert_eq!(slots.release(id(before)), [id(next)]);
            let priority = [0, 0, 0, 7, 1, 7, -1][next as usize];
            assert!(slots.take(id(next), priority));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_come_together_are_ordered_before_the_first_one_gets_a_slot() {
        let slots = Slots::new(2);
        slots.collect(2);
        assert_eq!(slots.opens_at(), None, "there is one for each");
        slots.collect(3);
        for (number, priority) in [(1, 0), (2, 5), (3, 9)] {
            assert!(!slots.take(id(number), priority));
        }
        let opens_at = slots.opens_at().unwrap();
        tokio::time::sleep_until(opens_at).await;
        assert_eq!(slots.opens_at(), None);
        assert!(!slots.take(id(1), 0) && slots.take(id(2), 5) && slots.take(id(3), 9));
    }
}
