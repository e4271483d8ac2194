//! What may happen in a run, by name: a person's act (`a7`), the end of a life of the daemon (`c3`), an outage that comes with it
//! (`b3`), a record that is damaged while no daemon runs (`d3`), a fault at the nth call of a kind in a life
//! (`3/start/1/server/2/lost`).
//!
//! Whether something happens depends on the seed and on its name alone. So a run in which some of it is left out has the rest
//! as it was, and what a failure really needs is found by leaving out ever more ([`crate::shrink`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::rng::Rng;

/// What happens in a run: everything that is drawn, or what is kept of it.
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

    /// Nothing happens but this.
    pub fn only(seed: u64, kept: BTreeSet<String>) -> Self {
        Self { kept: Some(Arc::new(kept)), ..Self::new(seed) }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The chance of what has this name.
    pub fn rng(&self, name: &str) -> Rng {
        // FNV-1a: the same everywhere. It begins with a number that neighbouring seeds do not share bits of.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        Rng::new(name.as_bytes().iter().fold(Rng::new(self.seed).next(), hash))
    }

    /// Whether what was drawn happens.
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

    /// What has happened so far.
    pub fn happened(&self) -> BTreeSet<String> {
        self.happened.lock().unwrap().clone()
    }
}
