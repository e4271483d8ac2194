//! Tokens in links: for one download or upload by the holder of the link.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Claims, Revocations, Scope};
use crate::model::{ServerId, Timestamp};

/// Most links that are remembered. When there are more, those that expire first are dropped: new links are not accepted
/// instead of them, which would be used twice.
const MAX_ENTRIES: usize = 100_000;

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The server.
    pub server: ServerId,
    /// The user that it was signed for.
    pub user: Option<Uuid>,
    /// The file of a download.
    pub file: String,
    /// The backup of a download.
    pub backup: String,
}

/// Why a link is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// It has expired, or does not say when it does.
    #[error("This link has expired.")]
    Expired,
    /// It is for something else, was used or revoked, or names no user or server.
    #[error("The requested resource was not found on this server.")]
    NotFound,
}

/// What the check of a link depends on.
#[derive(Clone, Copy)]
pub struct LinkCheck<'a> {
    pub scope: Scope,
    pub now: Timestamp,
    pub revocations: &'a Revocations,
    /// `None`: the link is not used by this, as by a question about a file's length.
    pub used: Option<&'a UsedLinks>,
}

impl Claims {
    /// Uses a link. Source: HTTP API, "Signed URLs".
    ///
    /// # Errors
    /// Why it is not accepted. One that is for something else is used up by this, too.
    pub fn use_link(&self, LinkCheck { scope, now, revocations, used }: LinkCheck<'_>) -> Result<Link, LinkRefusal> {
        let remaining = self.remaining(now).filter(|remaining| *remaining >= 0).ok_or(LinkRefusal::Expired)?;
        let server: ServerId = self.server_uuid.parse().map_err(|_| LinkRefusal::NotFound)?;
        let early = self.nbf.is_some_and(|nbf| nbf > now.as_millis().div_euclid(1000));
        let named = !self.user_uuid.is_empty() && !self.unique_id.is_empty();
        if early || !named || revocations.covers(self, server, now) {
            return Err(LinkRefusal::NotFound);
        }
        let expires = now.as_millis().saturating_add((remaining + 1).saturating_mul(1000));
        if used.is_some_and(|used| !used.insert(&self.unique_id, Timestamp::from_millis(expires), now)) {
            return Err(LinkRefusal::NotFound);
        }
        match self.has_scope(scope) {
            true => {
                Ok(Link { server, user: self.user(), file: self.file_path.clone(), backup: self.backup_uuid.clone() })
            }
            false => Err(LinkRefusal::NotFound),
        }
    }
}

/// Why the token of a transfer is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefusal {
    /// It has expired, is not valid yet, or names no server.
    #[error("the token of the transfer has expired, or names no server")]
    Invalid,
    /// It is for something else.
    #[error("Forbidden.")]
    Scope,
    /// It was used.
    #[error("This token was used already.")]
    Used,
}

impl Claims {
    /// Uses the token of a transfer. Returns its server. A caller with a secret may use it again: its connection may have ended before
    /// anything was recorded. Source: HTTP API, "Destination".
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn use_transfer(
        &self,
        used: &UsedLinks,
        now: Timestamp,
        secret: Option<&str>,
    ) -> Result<ServerId, TransferRefusal> {
        let remaining = self.remaining(now).filter(|remaining| *remaining >= 0).ok_or(TransferRefusal::Invalid)?;
        if self.nbf.is_some_and(|nbf| nbf > now.as_millis().div_euclid(1000)) {
            return Err(TransferRefusal::Invalid);
        }
        if !self.has_scope(Scope::Transfer) {
            return Err(TransferRefusal::Scope);
        }
        let server: ServerId = self.sub.parse().map_err(|_| TransferRefusal::Invalid)?;
        let id = if self.unique_id.is_empty() { &self.jti } else { &self.unique_id };
        let expires = now.as_millis().saturating_add((remaining + 1).saturating_mul(1000));
        let expires = Timestamp::from_millis(expires);
        let caller = secret.map(|secret| format!("{id} {secret}"));
        let is_new = !id.is_empty() && used.insert(id, expires, now);
        match caller {
            Some(caller) if is_new => used.insert(&caller, expires, now).then_some(server),
            Some(caller) => used.has(&caller).then_some(server),
            None => is_new.then_some(server),
        }
        .ok_or(TransferRefusal::Used)
    }
}

/// The links that were used, until they expire. In memory: a link from before the start of the daemon is not accepted anyway, and the
/// panel lets no node read a server whose transfer has ended.
#[derive(Default)]
pub struct UsedLinks {
    state: Mutex<State>,
}

/// The hash of a link's id.
type Key = [u8; 32];

#[derive(Default)]
struct State {
    /// When each expires.
    links: HashMap<Key, Timestamp>,
    /// The same by time.
    times: BTreeSet<(Timestamp, Key)>,
}

impl UsedLinks {
    /// Remembers a link until it expires. Whether it was not used before.
    fn insert(&self, id: &str, expires: Timestamp, now: Timestamp) -> bool {
        let key = Sha256::digest(id).into();
        let mut state = self.state();
        while let Some((at, expired)) = state.times.first().copied().filter(|(at, _)| *at < now) {
            state.times.remove(&(at, expired));
            state.links.remove(&expired);
        }
        if state.links.len() >= MAX_ENTRIES || state.links.contains_key(&key) {
            return false;
        }
        state.links.insert(key, expires);
        state.times.insert((expires, key));
        true
    }

    fn has(&self, id: &str) -> bool {
        let key: Key = Sha256::digest(id).into();
        self.state().links.contains_key(&key)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis((NOW + seconds) * 1000)
    }

    fn claims(id: &str) -> Claims {
        Claims {
            exp: Some(NOW + 900),
            iat: Some(NOW),
            nbf: Some(NOW - 300),
            server_uuid: Uuid::from_u128(1).to_string(),
            user_uuid: Uuid::from_u128(2).to_string(),
            scope: "websocket file-download".into(),
            unique_id: id.into(),
            file_path: "/a".into(),
            ..Claims::default()
        }
    }

    #[test]
    fn a_link_is_used_once() {
        let (revocations, used) = (Revocations::new(at(-10)), UsedLinks::default());
        let check = |seconds| LinkCheck {
            scope: Scope::FileDownload,
            now: at(seconds),
            revocations: &revocations,
            used: Some(&used),
        };
        let link = Link {
            server: ServerId::new(Uuid::from_u128(1)),
            user: Some(Uuid::from_u128(2)),
            file: "/a".into(),
            backup: String::new(),
        };
        assert_eq!(claims("a").use_link(check(1)), Ok(link.clone()));
        assert_eq!(claims("a").use_link(check(2)), Err(LinkRefusal::NotFound));
        assert_eq!(claims("b").use_link(check(2)), Ok(link.clone()));
        let question = LinkCheck { used: None, ..check(3) };
        assert_eq!(claims("c").use_link(question), Ok(link.clone()));
        assert_eq!(claims("c").use_link(check(900)), Ok(link), "in its last second");
        assert_eq!(claims("d").use_link(check(901)), Err(LinkRefusal::Expired));
        assert!(used.insert("e", at(2000), at(1000)));
        assert_eq!(used.state().links.len(), 1, "expired ones are dropped");
    }

    #[test]
    fn links_for_something_else_are_not_found() {
        let (revocations, used) = (Revocations::new(at(-10)), UsedLinks::default());
        let check = LinkCheck { scope: Scope::FileUpload, now: at(1), revocations: &revocations, used: Some(&used) };
        let download = LinkCheck { scope: Scope::FileDownload, ..check };
        assert_eq!(claims("a").use_link(check), Err(LinkRefusal::NotFound));
        assert_eq!(claims("a").use_link(download), Err(LinkRefusal::NotFound), "used up");
        for claims in [
            Claims { unique_id: String::new(), ..claims("b") },
            Claims { user_uuid: String::new(), ..claims("b") },
            Claims { server_uuid: "x".into(), ..claims("b") },
            Claims { nbf: Some(NOW + 2), ..claims("b") },
            Claims { iat: Some(NOW - 100), ..claims("b") },
            Claims { iat: None, ..claims("b") },
            Claims { scope: "file-downloads".into(), ..claims("b") },
        ] {
            assert_eq!(claims.use_link(download), Err(LinkRefusal::NotFound), "{claims:?}");
        }
        let expired = Claims { exp: None, ..claims("z") };
        assert_eq!(expired.use_link(download), Err(LinkRefusal::Expired));
    }
}
