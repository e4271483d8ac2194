//! `GET /local/node`: where the node's files are, its conditions, and folders that are no servers. A caller that can use the socket
//! needs no permission to read the node's file.

use axum::response::Response;
use serde_json::json;

use super::super::response::json as json_response;
use super::super::startup::Started;
use crate::store::unknown_folders;

/// `GET /local/node`.
pub async fn node(Started(api): Started) -> Response {
    let node = &api.context.node;
    let folders = api.context.store.run(|store| unknown_folders(store.servers_folder())).await;
    let body = json!({
        "config": node.config.source,
        "directories": node.config.directories,
        "panel": node.config.panel.is_some(),
        "conditions": node.conditions.list(),
        "unknownFolders": folders,
    });
    json_response(body.to_string())
}
