//! The node's places for installations: as many installers run at once as there are places.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::model::ServerId;

/// Who holds a place, and who waits for one, first come first served.
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
    /// So many places; at least one.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default() }
    }

    /// Whether a server holds a place.
    pub fn holds(&self, id: ServerId) -> bool {
        self.lock().held.contains(&id)
    }

    /// Whether a server waits in line.
    pub fn waits(&self, id: ServerId) -> bool {
        self.lock().waiting.contains(&id)
    }

    /// Takes a place if one is free and nobody has waited longer; otherwise the server waits in line.
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

    /// An installer that runs already has its place, whether one was free or not.
    pub fn adopt(&self, id: ServerId) {
        let mut state = self.lock();
        state.waiting.retain(|waiting| *waiting != id);
        state.held.insert(id);
    }

    /// Gives a place back (or leaves the line) and names those whose turn it may be now.
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
    fn places_are_given_in_the_order_of_asking() {
        let slots = InstallSlots::new(2);
        assert!(slots.take(id(1)) && slots.take(id(2)));
        assert!(!slots.take(id(3)) && !slots.take(id(4)));
        assert!(slots.take(id(1)), "who holds one has it");
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
    fn who_leaves_the_line_holds_nobody_up() {
        let slots = InstallSlots::new(1);
        assert!(slots.take(id(1)));
        assert!(!slots.take(id(2)) && !slots.take(id(3)));
        assert!(slots.release(id(2)).is_empty());
        assert_eq!(slots.release(id(1)), [id(3)]);
    }
}
