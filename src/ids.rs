//! Creates ids of requests that are unique across restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// A source of ids.
#[derive(Debug)]
pub enum Ids {
    /// UUIDs of version 7, which begin with the time: the ids of a daemon.
    Time,
    /// Consecutive numbers with a prefix, for tests and simulations.
    Numbered {
        /// The first half of each id.
        prefix: u64,
        /// The second half of the next id.
        next: AtomicU64,
    },
}

impl Ids {
    /// Deterministic ids that begin with 0.
    pub fn numbered(prefix: u64) -> Self {
        Self::Numbered { prefix, next: AtomicU64::new(0) }
    }

    /// A new id as text.
    pub fn next(&self) -> String {
        self.next_uuid().to_string()
    }

    /// A new id.
    pub fn next_uuid(&self) -> Uuid {
        match self {
            Self::Time => Uuid::now_v7(),
            Self::Numbered { prefix, next } => Uuid::from_u64_pair(*prefix, next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_numbered_ones_are_deterministic() {
        let three = |ids: Ids| [ids.next(), ids.next(), ids.next()];
        let [first, second, third] = three(Ids::Time);
        assert!(first < second && second < third);
        assert_eq!(three(Ids::numbered(7)), three(Ids::numbered(7)));
        assert_ne!(three(Ids::numbered(7)), three(Ids::numbered(8)));
    }
}
