//! Logins over SFTP, which the panel decides about. Source: remote API, "SFTP authentication".

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::Secret;
use crate::model::ServerId;

/// What a client presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A password.
    Password(Secret),
    /// A public key as `authorized_keys` has it, without the end of the line.
    PublicKey(String),
}

/// An attempt to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpLogin {
    /// The whole name: that of the user, a dot, and the first eight digits of the server's id.
    pub username: String,
    pub credential: Credential,
    /// The client's address.
    pub peer: SocketAddr,
    /// Identifies the connection.
    pub session_id: Vec<u8>,
    /// The first line that the client has sent.
    pub client_version: Vec<u8>,
}

/// A user who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpUser {
    pub user: Uuid,
    pub server: ServerId,
    /// Names of permissions; `*` is all of them.
    pub permissions: Vec<String>,
}

impl SftpLogin {
    /// The body of the call.
    pub(super) fn body(&self) -> Value {
        let (kind, password) = match &self.credential {
            Credential::Password(password) => ("password", password.expose().to_owned()),
            Credential::PublicKey(line) => ("public_key", format!("{line}\n")),
        };
        json!({
            "type": kind,
            "username": self.username,
            "password": password,
            "ip": self.peer.to_string(),
            "session_id": STANDARD.encode(&self.session_id),
            "client_version": STANDARD.encode(&self.client_version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_that_of_wings() {
        let login = |credential| SftpLogin {
            username: "bob.550e8400".into(),
            credential,
            peer: "198.51.100.7:44340".parse().unwrap(),
            session_id: vec![1, 2, 3],
            client_version: b"SSH-2.0-OpenSSH_9.2".to_vec(),
        };
        assert_eq!(
            login(Credential::Password(Secret::new("secret"))).body(),
            json!({"type": "password", "username": "bob.550e8400", "password": "secret", "ip": "198.51.100.7:44340",
                   "session_id": "AQID", "client_version": "U1NILTIuMC1PcGVuU1NIXzkuMg=="})
        );
        let body = login(Credential::PublicKey("ssh-ed25519 AAAA".into())).body();
        assert_eq!(
            (body["type"].as_str(), body["password"].as_str()),
            (Some("public_key"), Some("ssh-ed25519 AAAA\n"))
        );
    }
}
