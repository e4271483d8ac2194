//! JSON responses.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;

use super::ApiError;

/// A response with this JSON text.
pub fn json(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text.into()).into_response()
}

/// A response with this value as JSON.
///
/// # Errors
/// The value cannot be JSON, such as a map with keys that are not texts.
pub fn serialized(value: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_vec(value);
    text.map(json).map_err(|error| ApiError::Failed(format!("cannot write the response as JSON: {error}")))
}
