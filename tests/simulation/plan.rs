//! The events of a run by name: an action (`a7`), a crash of a daemon process (`c3`), an outage after it (`b3`), files that are
//! damaged while no daemon runs (`d3`), a fault at the nth call of a kind in a process (`3/start/1/server/2/lost`).
//!
//! Whether an event happens depends on the seed and its name alone. So leaving out events does not change the others, and
//! [`crate::shrink`] finds those that a failure needs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::rng::Rng;

/// The events of a run: all that are drawn, or a selection of them.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
    kept: Option<Arc<BTreeSet<String>>>,
    happened: Arc<Mutex<BTreeSet<String>>>,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self { seed, kept: None, happened: Arc::default() }
    }

    /// The only events that happen.
    pub fn only(seed: u64, kept: BTreeSet<String>) -> Self {
        Self { kept: Some(Arc::new(kept)), ..Self::new(seed) }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The randomness of the event with this name.
    pub fn rng(&self, name: &str) -> Rng {
        // FNV-1a: the same everywhere. It begins with a number that neighbouring seeds do not share bits of.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        Rng::new(name.as_bytes().iter().fold(Rng::new(self.seed).next(), hash))
    }

    /// Whether an event that was drawn happens.
    pub fn happens(&self, name: &str) -> bool {
        if self.kept.as_ref().is_some_and(|kept| !kept.contains(name)) {
            return false;
        }
        let mut happened = self.happened.lock().unwrap();
        if !happened.contains(name) {
            happened.insert(name.to_owned());
        }
        true
    }

    /// The events so far.
    pub fn happened(&self) -> BTreeSet<String> {
        self.happened.lock().unwrap().clone()
    }
}
