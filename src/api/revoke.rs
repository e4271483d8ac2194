//! Ends the access of users whose permissions have changed: their tokens are not accepted any more, and their sockets are closed.
//!
//! Source: HTTP API, "POST /api/deauthorize-user" and "Websocket denial".

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;

use super::request::{RequestBody, ServerPath};
use super::startup::Started;
use super::tokens::Revoked;
use super::{ApiError, body};
use crate::model::ServerId;

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeauthorizeBody {
    user: Option<String>,
    servers: Option<Texts>,
    /// The panel puts the others into this one.
    json: Option<Box<DeauthorizeBody>>,
}

/// A list of texts. Without its gaps: a PHP list from which entries were removed arrives as an object, or has nulls.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    List(Vec<Option<String>>),
    Gapped(BTreeMap<String, Option<String>>),
}

impl Texts {
    fn into_iter(self) -> impl Iterator<Item = String> {
        let (list, gapped) = match self {
            Self::List(list) => (list, BTreeMap::new()),
            Self::Gapped(gapped) => (Vec::new(), gapped),
        };
        list.into_iter().chain(gapped.into_values()).flatten()
    }
}

/// `POST /api/deauthorize-user`: revokes a user's tokens for the listed servers, and closes all sockets of these servers. Without a
/// list it closes the sockets of all servers and revokes nothing, as Wings does.
pub async fn deauthorize_user(Started(api): Started, body: RequestBody) -> Result<StatusCode, ApiError> {
    let wanted: DeauthorizeBody = body::object(&body)?;
    let DeauthorizeBody { user, servers, .. } =
        wanted.json.map_or_else(|| DeauthorizeBody { json: None, ..wanted }, |inner| *inner);
    let user = user.unwrap_or_default();
    let servers: Vec<String> = servers.into_iter().flat_map(Texts::into_iter).collect();
    if servers.is_empty() {
        api.sockets.close_all();
        return Ok(StatusCode::NO_CONTENT);
    }
    let now = api.context.clock.now();
    let known = servers.iter().filter_map(|id| id.parse::<ServerId>().ok()).filter(|id| api.server(*id).is_ok());
    for id in known {
        api.revocations.revoke(id, Revoked::User(&user), now);
        api.sockets.close(id);
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct DenyBody {
    #[serde(default)]
    jtis: Vec<String>,
}

/// `POST /api/servers/{server}/ws/deny`: revokes the tokens with these ids.
pub async fn deny_tokens(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let DenyBody { jtis } = body::object(&body)?;
    let now = api.context.clock.now();
    for jti in &jtis {
        api.revocations.revoke(id, Revoked::Token(jti), now);
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gaps_in_the_list_of_servers_are_left_out() {
        let servers = |body| {
            let body: DeauthorizeBody = serde_json::from_value(body).ok()?;
            Some(body.servers.into_iter().flat_map(Texts::into_iter).collect::<Vec<_>>())
        };
        assert_eq!(servers(json!({"servers": ["a", null, "b"]})).unwrap(), ["a", "b"]);
        assert_eq!(servers(json!({"servers": {"0": "a", "2": "b"}})).unwrap(), ["a", "b"]);
        assert!(servers(json!({"servers": null})).unwrap().is_empty());
        assert_eq!(servers(json!({"servers": [1]})), None);
    }
}
