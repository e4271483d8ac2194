//! Parts of a request: the server's id in the path, parameters of the query, and the body. A handler reads the body's errors once
//! it knows that the server exists.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request};
use http::StatusCode;
use http::request::Parts;

use super::ApiError;
use crate::model::ServerId;

/// `{server}` of a path. Anything but a UUID is answered with 404, as an unknown server is.
pub struct ServerPath(pub ServerId);

impl<S: Send + Sync> FromRequestParts<S> for ServerPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(name)| name.parse().ok());
        id.map(Self).ok_or_else(ApiError::no_server)
    }
}

/// The value of a query's parameter. No parameter of this API needs decoding.
pub fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The maximum size of a request's body, in bytes.
#[derive(Debug, Clone, Copy)]
struct BodyLimit(usize);

/// Limits what [`RequestBody`] reads of a request; with 0 it reads nothing.
pub fn limit_body(request: &mut Request, bytes: usize) {
    DefaultBodyLimit::max(bytes).apply(request);
    request.extensions_mut().insert(BodyLimit(bytes));
}

/// A body, or why it cannot be read.
pub struct RequestBody {
    body: Result<Bytes, BytesRejection>,
    max: usize,
}

impl<S: Send + Sync> FromRequest<S> for RequestBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        let max = request.extensions().get::<BodyLimit>().map_or(0, |limit| limit.0);
        Ok(Self { body: Bytes::from_request(request, state).await, max })
    }
}

impl RequestBody {
    /// The body's bytes.
    ///
    /// # Errors
    /// The body is too long or incomplete.
    pub fn bytes(&self) -> Result<&Bytes, ApiError> {
        self.body.as_ref().map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("The request body is larger than {} MiB.", self.max >> 20);
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            _ => ApiError::BadBody(rejection.body_text()),
        })
    }
}

#[cfg(test)]
impl From<&'static str> for RequestBody {
    fn from(text: &'static str) -> Self {
        Self { body: Ok(Bytes::from_static(text.as_bytes())), max: text.len() }
    }
}
