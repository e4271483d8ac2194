//! Names of requests: each is new, whatever earlier runs of the daemon have given out.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Gives names to requests.
#[derive(Debug)]
pub struct Ids(Source);

#[derive(Debug)]
enum Source {
    /// UUIDs that begin with the time.
    Time,
    /// Numbers below a prefix.
    Numbered { prefix: u64, next: AtomicU64 },
}

impl Ids {
    /// UUIDs of version 7.
    pub fn by_time() -> Self {
        Self(Source::Time)
    }

    /// The same names for the same prefix, for tests and simulations.
    pub fn numbered(prefix: u64) -> Self {
        Self(Source::Numbered { prefix, next: AtomicU64::new(0) })
    }

    /// A name that was not given out before.
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
    fn each_name_is_new_and_numbered_ones_repeat_themselves() {
        let three = |ids: Ids| [ids.next(), ids.next(), ids.next()];
        let [first, second, third] = three(Ids::by_time());
        assert!(first < second && second < third);
        assert_eq!(three(Ids::numbered(7)), three(Ids::numbered(7)));
        assert_ne!(three(Ids::numbered(7)), three(Ids::numbered(8)));
    }
}
