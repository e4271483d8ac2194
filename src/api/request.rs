//! What comes with a request, taken so that the wire's own errors are the answer where it cannot be used: the server's name
//! in the path, and the body, whose faults count only once it is known that there is such a server.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request};
use http::StatusCode;
use http::request::Parts;

use super::ApiError;

/// `{server}` of a path. Whatever cannot be read is the name of no server.
pub struct ServerName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for ServerName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| ApiError::no_server())
    }
}

/// How much of a request's body a route reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody {
    /// Nothing.
    Unread,
    /// All of it, unless it is longer than this many bytes.
    UpTo(usize),
}

impl RequestBody {
    /// Has [`Sent`] keep to it.
    pub fn limit(self, request: &mut Request) {
        DefaultBodyLimit::max(self.max()).apply(request);
        request.extensions_mut().insert(self);
    }

    fn max(self) -> usize {
        match self {
            RequestBody::Unread => 0,
            RequestBody::UpTo(bytes) => bytes,
        }
    }
}

/// A body, or why it could not be had.
pub struct Sent {
    body: Result<Bytes, BytesRejection>,
    max: usize,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        let max = request.extensions().get::<RequestBody>().map_or(0, |body| body.max());
        Ok(Self { body: Bytes::from_request(request, state).await, max })
    }
}

impl Sent {
    /// The body's bytes.
    ///
    /// # Errors
    /// It is too long, or broke off.
    pub fn bytes(&self) -> Result<&Bytes, ApiError> {
        self.body.as_ref().map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("The request body is larger than {} MiB.", self.max >> 20);
                ApiError::worded(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            _ => ApiError::BadBody(rejection.body_text()),
        })
    }
}

#[cfg(test)]
impl From<&'static str> for Sent {
    fn from(text: &'static str) -> Self {
        Self { body: Ok(Bytes::from_static(text.as_bytes())), max: text.len() }
    }
}
