//! Tokens that the panel signs for browsers: JWTs (HS256) whose key is the node's token.
//!
//! [`Claims::read`] checks the signature, [`Claims::check`] everything else, and does so again for each use: a token may expire or be
//! revoked meanwhile. Both are pure. Source: HTTP API, "Signed URLs"; websocket, "Authentication".

mod links;
mod revocations;

use std::collections::HashSet;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::{Deserialize, Deserializer};

use crate::config::Secret;
use crate::model::{ServerId, Timestamp};

pub use links::{Link, LinkCheck, LinkRefusal, TransferRefusal, UsedLinks};
pub use revocations::{Revocations, Revoked};

/// The permission to open a console.
pub const CONNECT: &str = "websocket.connect";
/// All permissions except those of administrators.
const ALL: &str = "*";
/// What permissions of administrators begin with.
const ADMIN: &str = "admin";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A console.
    Websocket,
    /// A download of a file.
    FileDownload,
    /// Uploads of files.
    FileUpload,
    /// A download of a backup.
    BackupDownload,
    /// A server that comes from another node.
    Transfer,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Scope::Websocket => "websocket",
            Scope::FileDownload => "file-download",
            Scope::FileUpload => "file-upload",
            Scope::BackupDownload => "backup-download",
            Scope::Transfer => "transfer",
        }
    }
}

/// The content of a token whose signature is right.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// Seconds since 1970.
    #[serde(deserialize_with = "seconds")]
    exp: Option<i64>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "seconds")]
    iat: Option<i64>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "seconds")]
    nbf: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    jti: String,
    #[serde(deserialize_with = "or_default")]
    server_uuid: String,
    /// The server of a transfer.
    #[serde(deserialize_with = "or_default")]
    sub: String,
    #[serde(deserialize_with = "or_default")]
    user_uuid: String,
    #[serde(deserialize_with = "or_default")]
    permissions: Vec<String>,
    /// Names with spaces between them.
    #[serde(deserialize_with = "or_default")]
    scope: String,
    /// The id of a link, which can be used once.
    #[serde(deserialize_with = "or_default")]
    unique_id: String,
    /// The file that a link is for.
    #[serde(deserialize_with = "or_default")]
    file_path: String,
    /// The backup that a link is for.
    #[serde(deserialize_with = "or_default")]
    backup_uuid: String,
}

/// Why a token is not accepted. The texts are those of Wings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no token yet.
    #[error("jwt: no jwt present")]
    Missing,
    /// It has expired, or does not say when it does.
    #[error("jwt: exp claim is invalid")]
    Expired,
    /// It was revoked, or issued before the daemon was started, or names no user or server.
    #[error("jwt: created too far in past (denylist)")]
    Revoked,
    /// It is not for this use.
    #[error("jwt: missing connect permission")]
    NoConnect,
    /// It is for another server.
    #[error("jwt: server uuid mismatch")]
    OtherServer,
}

/// The token is not signed with the node's key, or it is no token.
#[derive(Debug, thiserror::Error)]
#[error("the token cannot be read: {0}")]
pub struct Unreadable(#[from] jsonwebtoken::errors::Error);

/// What the check of a token depends on.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    pub scope: Scope,
    pub server: ServerId,
    pub now: Timestamp,
    pub revocations: &'a Revocations,
}

impl Claims {
    /// Reads a token that is signed with this key.
    ///
    /// # Errors
    /// The signature is wrong, or the text is no token.
    pub fn read(token: &str, key: &Secret) -> Result<Self, Unreadable> {
        let mut validation = Validation::new(Algorithm::HS256);
        // `Claims::check` does that, with the answers and the precision of Wings.
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        validation.required_spec_claims = HashSet::new();
        let key = DecodingKey::from_secret(key.expose().as_bytes())?;
        Ok(decode(token, &key, &validation)?.claims)
    }

    /// Whether the token may be used now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, Check { scope, server, now, revocations }: Check<'_>) -> Result<(), Refusal> {
        if self.remaining(now).is_none_or(|remaining| remaining < 0) {
            return Err(Refusal::Expired);
        }
        let named = !self.server_uuid.is_empty() && !self.user_uuid.is_empty();
        if !named || revocations.covers(self, server, now) {
            return Err(Refusal::Revoked);
        }
        if !self.has_scope(scope) || !self.allows(CONNECT) {
            return Err(Refusal::NoConnect);
        }
        if self.server_uuid.parse() != Ok(server) {
            return Err(Refusal::OtherServer);
        }
        Ok(())
    }

    fn has_scope(&self, scope: Scope) -> bool {
        self.scope.split_ascii_whitespace().any(|name| name == scope.as_str())
    }

    /// Whole seconds until the token expires; negative if it has expired.
    pub fn remaining(&self, now: Timestamp) -> Option<i64> {
        self.exp.map(|exp| exp.saturating_sub(now.as_millis().div_euclid(1000)))
    }

    /// Whether the token has a permission.
    pub fn allows(&self, permission: &str) -> bool {
        let has = |name: &str| self.permissions.iter().any(|own| own == name);
        has(permission) || (has(ALL) && !permission.starts_with(ADMIN))
    }

    /// The user's id.
    pub fn user(&self) -> Option<uuid::Uuid> {
        self.user_uuid.parse().ok()
    }

    /// When it was issued; `None` where it does not say so.
    fn issued_at(&self) -> Option<Timestamp> {
        self.iat.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)))
    }
}

/// A time, which some libraries write with a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    // What is no time of this age of the world becomes the earliest or latest one.
    #[allow(clippy::cast_possible_truncation)]
    Ok(number.map(|number| number.floor() as i64))
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests;
