//! The node's install slots: as many installers run at once as there are slots.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::model::ServerId;

/// Which servers hold a slot, and which wait for one, in the order of their requests.
#[derive(Debug)]
pub struct InstallSlots {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeSet<ServerId>,
    waiting: VecDeque<ServerId>,
}

impl InstallSlots {
    /// At least one slot.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default() }
    }

    /// Whether a server holds a slot.
    pub fn holds(&self, id: ServerId) -> bool {
        self.lock().held.contains(&id)
    }

    /// Whether a server waits for a slot.
    pub fn waits(&self, id: ServerId) -> bool {
        self.lock().waiting.contains(&id)
    }

    /// Takes a slot if one is free and no other server has waited longer; otherwise the server waits.
    pub fn take(&self, id: ServerId) -> bool {
        let mut state = self.lock();
        if state.held.contains(&id) {
            return true;
        }
        let free = self.limit.saturating_sub(state.held.len());
        let ahead = state.waiting.iter().position(|waiting| *waiting == id).unwrap_or(state.waiting.len());
        if ahead < free {
            state.waiting.retain(|waiting| *waiting != id);
            state.held.insert(id);
            return true;
        }
        if ahead == state.waiting.len() {
            state.waiting.push_back(id);
        }
        false
    }

    /// An installer that runs already has its slot, whether one was free or not.
    pub fn adopt(&self, id: ServerId) {
        let mut state = self.lock();
        state.waiting.retain(|waiting| *waiting != id);
        state.held.insert(id);
    }

    /// Releases a slot, or stops waiting for one. Returns the servers that may take a slot now.
    pub fn release(&self, id: ServerId) -> Vec<ServerId> {
        let mut state = self.lock();
        state.held.remove(&id);
        state.waiting.retain(|waiting| *waiting != id);
        let free = self.limit.saturating_sub(state.held.len());
        state.waiting.iter().take(free).copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
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
        let slots = InstallSlots::new(2);
        assert!(slots.take(id(1)) && slots.take(id(2)));
        assert!(!slots.take(id(3)) && !slots.take(id(4)));
        assert!(slots.take(id(1)), "it holds one");
        assert_eq!(slots.release(id(1)), [id(3)]);
        assert!(!slots.take(id(4)), "3 was first");
        assert!(slots.take(id(3)));
        assert_eq!(slots.release(id(2)), [id(4)]);
        assert!(slots.take(id(4)));
    }

    #[test]
    fn adopted_installers_count() {
        let slots = InstallSlots::new(1);
        slots.adopt(id(1));
        slots.adopt(id(2));
        assert!(!slots.take(id(3)));
        assert!(slots.release(id(1)).is_empty());
        assert_eq!(slots.release(id(2)), [id(3)]);
    }

    #[test]
    fn a_server_that_stops_waiting_holds_up_no_other() {
        let slots = InstallSlots::new(1);
        assert!(slots.take(id(1)));
        assert!(!slots.take(id(2)) && !slots.take(id(3)));
        assert!(slots.release(id(2)).is_empty());
        assert_eq!(slots.release(id(1)), [id(3)]);
    }
}
