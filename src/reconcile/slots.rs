//! Slots of the node: as many servers do something at once as there are slots. The others wait, by priority and then in their order.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ServerId;
use crate::wait;

/// Which servers hold a slot, and which wait for one.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    /// A slot is free again this long after it was taken, whatever its holder does; and who has not asked for this long does not come
    /// first any more. The engine, a mount or a registry may hold a server up without end.
    at_most: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The holders, each with the time at which it took its slot.
    held: BTreeMap<ServerId, Instant>,
    waiting: Vec<Waiting>,
    /// Until then servers only begin to wait.
    opens_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    id: ServerId,
    priority: i32,
    /// When it last asked.
    asked: Instant,
}

impl State {
    /// The time at which the next slot is free by the limit of time, and how many holders have reached it.
    fn due(&self, at_most: Option<Duration>) -> (Option<Instant>, usize) {
        let (Some(at_most), now) = (at_most, Instant::now()) else { return (None, 0) };
        let ends = self.held.values().map(|taken| *taken + at_most);
        let (over, next): (Vec<_>, Vec<_>) = ends.partition(|end| *end <= now);
        (next.into_iter().min(), over.len())
    }

    fn is_closed(&self) -> bool {
        self.opens_at.is_some_and(|at| Instant::now() < at)
    }

    /// The number of servers that come before one that waits from now on, if it did not.
    fn queue(&mut self, id: ServerId, priority: i32, at_most: Option<Duration>) -> usize {
        let asked = Instant::now();
        let known = self.waiting.iter().position(|waiting| waiting.id == id);
        let at = match known.filter(|at| self.waiting[*at].priority == priority) {
            Some(at) => {
                self.waiting[at].asked = asked;
                at
            }
            None => {
                known.map(|at| self.waiting.remove(at));
                let at = self.waiting.partition_point(|waiting| waiting.priority >= priority);
                self.waiting.insert(at, Waiting { id, priority, asked });
                at
            }
        };
        let asks = |waiting: &&Waiting| at_most.is_none_or(|at_most| waiting.asked + at_most > asked);
        self.waiting[..at].iter().filter(asks).count()
    }

    fn forget(&mut self, id: ServerId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }
}

impl Slots {
    /// At least one slot.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), at_most: None, state: Mutex::default() }
    }

    /// The same, each for a limited time.
    pub fn for_a_while(limit: usize, at_most: Duration) -> Self {
        Self { at_most: Some(at_most), ..Self::new(limit) }
    }

    /// Number of slots.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a server holds a slot.
    pub fn holds(&self, id: ServerId) -> bool {
        self.lock().held.contains_key(&id)
    }

    /// Whether a server waits for a slot.
    pub fn waits(&self, id: ServerId) -> bool {
        self.lock().waiting.iter().any(|waiting| waiting.id == id)
    }

    /// Takes a slot if one is free and no other server comes first; otherwise the server waits.
    pub fn take(&self, id: ServerId, priority: i32) -> bool {
        let mut state = self.lock();
        if state.held.contains_key(&id) {
            return true;
        }
        let free = self.free(&state);
        let granted = state.queue(id, priority, self.at_most) < free && !state.is_closed();
        if granted {
            state.forget(id);
            state.held.insert(id, Instant::now());
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

    fn free(&self, state: &State) -> usize {
        let (_, over) = state.due(self.at_most);
        self.limit.saturating_sub(state.held.len() - over)
    }

    /// When a server that waits should ask again, besides after a release.
    pub fn opens_at(&self) -> Option<Instant> {
        let state = self.lock();
        if state.is_closed() {
            return state.opens_at;
        }
        self.at_most?;
        match self.free(&state) {
            0 => state.due(self.at_most).0,
            // The next one has not taken it.
            _ => (!state.waiting.is_empty()).then(|| Instant::now() + wait::SLOT_ORDER),
        }
    }

    /// A server that is at work already has its slot, whether one was free or not.
    pub fn adopt(&self, id: ServerId) {
        let mut state = self.lock();
        state.forget(id);
        state.held.insert(id, Instant::now());
    }

    /// Releases a slot, or stops waiting for one. Returns the servers that may take a slot now.
    pub fn release(&self, id: ServerId) -> Vec<ServerId> {
        let mut state = self.lock();
        state.held.remove(&id);
        state.forget(id);
        let free = self.free(&state);
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
    async fn a_server_that_hangs_holds_up_the_others_for_a_while_only() {
        let minute = Duration::from_secs(60);
        let slots = Slots::for_a_while(1, minute);
        let taken = Instant::now();
        assert!(slots.take(id(1), 0) && !slots.take(id(2), 5) && !slots.take(id(3), 0));
        assert_eq!(slots.opens_at(), Some(taken + minute));
        tokio::time::sleep_until(taken + minute).await;
        // The next one in line does not ask any more either.
        assert!(slots.holds(id(1)) && slots.take(id(3), 0));
        tokio::time::sleep(minute).await;
        assert!(slots.take(id(2), 5), "it asks again");
        assert!(slots.release(id(1)).is_empty());
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
