//! JSON responses.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;

/// A response with this JSON text.
pub fn json(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text.into()).into_response()
}
