//! `POST /api/update`: the panel pushes the node's configuration.
//!
//! The panel sends it inside a transaction of its database: any 4xx or 5xx undoes the administrator's change silently. So every body
//! that is JSON is answered with 200, and what was not applied is logged, see [`ConfigUpdates`](crate::config::ConfigUpdates).
//! Source: HTTP API, "POST /api/update".

use axum::response::Response;
use serde_json::json;

use super::request::RequestBody;
use super::startup::Started;
use super::{ApiError, body, response};

/// `POST /api/update`.
pub async fn update(Started(api): Started, body: RequestBody) -> Result<Response, ApiError> {
    let applied = api.context.node.updates.push(body::value(&body)?).await;
    Ok(response::json(json!({"applied": applied}).to_string()))
}
