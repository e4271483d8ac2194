//! The events of the engine about containers of servers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method};
use serde::Deserialize;

use super::containers::belongs_to;
use super::lines;
use super::wire::Wire;
use crate::model::NodeIdentity;
use crate::runtime::{ContainerChange, RuntimeEvent};

/// Events of this time before the request are requested, too. The engine answers a moment before it listens.
const OVERLAP: Duration = Duration::from_secs(1);

/// The events that change a container; those of commands and health checks do not. The last two are Podman's names of `die` and
/// `destroy`.
const ACTIONS: [&str; 13] = [
    "create", "start", "die", "oom", "kill", "stop", "pause", "unpause", "update", "rename", "destroy", "died",
    "remove",
];

/// The fields of an event that are used.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "Action")]
    action: Cow<'a, str>,
    #[serde(borrow, rename = "Actor")]
    actor: Actor<'a>,
}

#[derive(Deserialize)]
struct Actor<'a> {
    /// The container's labels, and `name`.
    #[serde(borrow, rename = "Attributes", default)]
    attributes: HashMap<Cow<'a, str>, Cow<'a, str>>,
}

/// Opens the stream of events. Returns after the engine has accepted the request.
pub(super) async fn listen(wire: &Wire, node: Arc<NodeIdentity>) -> Result<BoxStream<'static, RuntimeEvent>, Error> {
    let filters = serde_json::json!({"type": ["container"], "event": ACTIONS}).to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("filters", &filters)
        .append_pair("since", &now.saturating_sub(OVERLAP).as_secs().to_string())
        .finish();
    let response = wire.open(Method::GET, &format!("/events?{query}"), HeaderMap::new(), Bytes::new()).await?;
    let events = lines::lines(response)
        // A lost connection ends the stream. The subscriber subscribes again and observes everything.
        .take_while(|line| std::future::ready(line.is_ok()))
        .filter_map(move |line| std::future::ready(line.ok().and_then(|line| read(&node, &line))));
    Ok(events.boxed())
}

/// Parses an event, if it is about a container of a server of this node.
fn read(node: &NodeIdentity, line: &[u8]) -> Option<RuntimeEvent> {
    let event: Event<'_> = serde_json::from_slice(line).ok()?;
    let attributes = &event.actor.attributes;
    let attribute = |key: &str| attributes.get(key).map(|value| &**value);
    let (server, role) = belongs_to(attribute, attribute("name").into_iter())?;
    if node.owner(attribute).other().is_some() {
        return None;
    }
    let change = match &*event.action {
        "create" => ContainerChange::Created,
        "start" => ContainerChange::Started,
        "die" | "died" => ContainerChange::Ended,
        "destroy" | "remove" => ContainerChange::Removed,
        _ => ContainerChange::Other,
    };
    Some(RuntimeEvent { server, role, change })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;

    const SERVER: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn event(attributes: serde_json::Value) -> Option<RuntimeEvent> {
        let event = serde_json::json!({
            "status": "die", "id": "0123", "from": "game", "Type": "container", "Action": "die",
            "Actor": {"ID": "0123", "Attributes": attributes}, "scope": "local", "time": 1, "timeNano": 2,
        });
        read(&NodeIdentity::default(), event.to_string().as_bytes())
    }

    #[test]
    fn events_name_a_server_by_labels_or_name() {
        let found = |attributes| event(attributes).map(|event| (event.server.to_string(), event.role));
        let labels = |role| serde_json::json!({"alula.server": SERVER, "alula.role": role, "name": "other"});
        let server = SERVER.to_owned();
        assert_eq!(found(labels("server")), Some((server.clone(), Role::Server)));
        assert_eq!(found(labels("installer")), Some((server.clone(), Role::Installer)));
        assert_eq!(found(labels("garbage")), None);
        assert_eq!(found(serde_json::json!({"name": SERVER})), Some((server.clone(), Role::Server)));
        let installer = format!("{SERVER}_installer");
        assert_eq!(found(serde_json::json!({"name": installer, "exitCode": "1"})), Some((server, Role::Installer)));
        assert_eq!(found(serde_json::json!({"name": "postgres"})), None);
        assert_eq!(found(serde_json::json!({})), None);
        assert_eq!(found(serde_json::json!({"name": SERVER, "alula.node": "other"})), None);
        assert_eq!(event(serde_json::json!({"name": SERVER})).unwrap().change, ContainerChange::Ended);
    }

    #[test]
    fn other_lines_are_skipped() {
        for line in ["", "{}", "null", "{\"Action\":\"die\"}", "{\"Action\":\"die\",\"Actor\":{}}", "garbage"] {
            assert_eq!(read(&NodeIdentity::default(), line.as_bytes()), None, "{line}");
        }
    }
}
