//! Tokens that are no longer accepted: those of a user or with an id, issued up to a moment. In memory: a token from before the start
//! of the daemon is not accepted anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Claims;
use crate::model::{ServerId, Timestamp};

/// The longest time for which a token is accepted, whatever it says itself. The panel's live for minutes. After this time an entry
/// is dropped.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Most entries. When there are more, all tokens from before the oldest one count as revoked.
const MAX_ENTRIES: usize = 16_384;

/// The tokens that are no longer accepted.
pub struct Revocations {
    state: Mutex<State>,
}

/// Which tokens of a server are revoked.
#[derive(Debug, Clone, Copy)]
pub enum Revoked<'a> {
    /// Those of a user.
    User(&'a str),
    /// Those with this `jti`.
    Token(&'a str),
}

/// The server, and the hash of what is revoked.
type Key = (ServerId, [u8; 32]);

struct State {
    /// Tokens that were issued before are not accepted.
    after: Timestamp,
    entries: BTreeMap<Key, Timestamp>,
    /// The same by age.
    ages: BTreeSet<(Timestamp, Key)>,
}

impl Revocations {
    /// Nothing is revoked but the tokens that were issued before `started_at`.
    pub fn new(started_at: Timestamp) -> Self {
        let state = State { after: started_at, entries: BTreeMap::new(), ages: BTreeSet::new() };
        Self { state: Mutex::new(state) }
    }

    /// Revokes tokens of a server that were issued up to now.
    pub fn revoke(&self, server: ServerId, revoked: Revoked<'_>, now: Timestamp) {
        let mut state = self.state();
        let key = key(server, revoked);
        if let Some(before) = state.entries.insert(key, now) {
            state.ages.remove(&(before, key));
        }
        state.ages.insert((now, key));
        state.limit(now);
    }

    /// Whether a token of a server is revoked. One that does not say when it was issued is.
    ///
    /// Tokens have seconds. One that was issued in the second of the revocation counts as issued before it.
    pub fn covers(&self, claims: &Claims, server: ServerId, now: Timestamp) -> bool {
        let state = self.state();
        let Some(issued_at) = claims.issued_at() else { return true };
        let revoked = |revoked| state.entries.get(&key(server, revoked)).is_some_and(|at| issued_at <= *at);
        if issued_at <= state.after || now.since(issued_at) > MAX_AGE {
            return true;
        }
        // Every event of every console asks, and hardly ever anything is revoked.
        !state.entries.is_empty() && (revoked(Revoked::User(&claims.user_uuid)) || revoked(Revoked::Token(&claims.jti)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn limit(&mut self, now: Timestamp) {
        while let Some((at, key)) = self.ages.first().copied() {
            let expired = now.since(at) > MAX_AGE;
            if !expired && self.entries.len() <= MAX_ENTRIES {
                return;
            }
            if !expired {
                self.after = self.after.max(at);
            }
            self.ages.remove(&(at, key));
            self.entries.remove(&key);
        }
    }
}

fn key(server: ServerId, revoked: Revoked<'_>) -> Key {
    let (kind, name) = match revoked {
        Revoked::User(name) => (0_u8, name),
        Revoked::Token(name) => (1, name),
    };
    (server, Sha256::new().chain_update([kind]).chain_update(name).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1000;

    fn server(number: u128) -> ServerId {
        ServerId::new(uuid::Uuid::from_u128(number))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000 * SECOND + millis)
    }

    fn token(user: &str, jti: &str, issued: i64) -> Claims {
        Claims { iat: Some(1_800_000_000 + issued), user_uuid: user.into(), jti: jti.into(), ..Claims::default() }
    }

    #[test]
    fn tokens_of_a_user_or_with_an_id_are_revoked_up_to_the_moment_on_one_server() {
        let (one, two) = (server(1), server(2));
        let revocations = Revocations::new(at(0));
        revocations.revoke(one, Revoked::User("ann"), at(10_500));
        revocations.revoke(one, Revoked::Token("t"), at(10_500));
        let covers = |token: &Claims, server| revocations.covers(token, server, at(20_000));
        assert!(covers(&token("ann", "x", 10), one) && covers(&token("bob", "t", 10), one));
        assert!(!covers(&token("ann", "x", 11), one), "a newer one");
        assert!(!covers(&token("bob", "x", 10), one) && !covers(&token("ann", "t", 10), two));
        assert!(!covers(&token("t", "ann", 10), one), "a name of the other kind");
    }

    #[test]
    fn tokens_from_before_the_start_or_without_a_time_are_revoked() {
        let revocations = Revocations::new(at(500));
        let covers = |token: &Claims, now| revocations.covers(token, server(1), at(now));
        assert!(covers(&token("ann", "", 0), 900), "in the second of the start");
        assert!(!covers(&token("ann", "", 1), 900));
        assert!(covers(&Claims { iat: None, ..token("ann", "", 1) }, 900));
        assert!(!covers(&token("ann", "", 1), 24 * 3600 * SECOND));
        assert!(covers(&token("ann", "", 1), 24 * 3600 * SECOND + 2 * SECOND), "very old ones, too");
    }

    #[test]
    fn entries_expire_and_are_limited_without_a_revoked_token_coming_back() {
        let revocations = Revocations::new(at(0));
        let day = 24 * 3600 * SECOND;
        for number in 0..1000 {
            revocations.revoke(server(1), Revoked::Token(&number.to_string()), at(number * 1000));
            revocations.revoke(server(1), Revoked::Token("again"), at(number * 1000));
        }
        assert_eq!(revocations.state().ages.len(), 1001);
        revocations.revoke(server(1), Revoked::User("x"), at(day + 500 * SECOND));
        assert_eq!(revocations.state().entries.len(), 502);
        assert!(revocations.covers(&token("", "3", 3), server(1), at(day + 500 * SECOND)));
        for number in 0..2 * MAX_ENTRIES {
            revocations.revoke(server(1), Revoked::Token(&format!("many {number}")), at(day + 600 * SECOND));
        }
        let state = revocations.state();
        assert_eq!((state.entries.len(), state.ages.len()), (MAX_ENTRIES, MAX_ENTRIES));
        drop(state);
        for number in 0..2 * MAX_ENTRIES as i64 {
            let token = token("", &format!("many {number}"), (day + 600 * SECOND) / 1000);
            assert!(revocations.covers(&token, server(1), at(day + 700 * SECOND)));
        }
        assert!(!revocations.covers(&token("", "other", day / 1000 + 601), server(1), at(day + 700 * SECOND)));
    }
}
