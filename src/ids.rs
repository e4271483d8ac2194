//! Creates ids of requests that are unique across restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// A source of ids.
#[derive(Debug)]
pub struct Ids(Source);

#[derive(Debug)]
enum Source {
    /// UUIDs of version 7, which begin with the time.
    Time,
    /// Consecutive numbers with a prefix.
    Numbered { prefix: u64, next: AtomicU64 },
}

impl Ids {
    /// Ids of a daemon: UUIDs of version 7.
    pub fn by_time() -> Self {
        Self(Source::Time)
    }

    /// Deterministic ids, for tests and simulations.
    pub fn numbered(prefix: u64) -> Self {
        Self(Source::Numbered { prefix, next: AtomicU64::new(0) })
    }

    /// A new id.
    pub fn next(&self) -> String {
        let id = match &self.0 {
            Source::Time => Uuid::now_v7(),
            Source::Numbered { prefix, next } => Uuid::from_u64_pair(*prefix, next.fetch_add(1, Ordering::Relaxed)),
        };
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_numbered_ones_are_deterministic() {
        let three = |ids: Ids| [ids.next(), ids.next(), ids.next()];
        let [first, second, third] = three(Ids::by_time());
        assert!(first < second && second < third);
        assert_eq!(three(Ids::numbered(7)), three(Ids::numbered(7)));
        assert_ne!(three(Ids::numbered(7)), three(Ids::numbered(8)));
    }
}
