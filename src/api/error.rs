//! Errors in the wire's own words. Source: HTTP API, "Error bodies".

use std::io::ErrorKind;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::panel::PanelError;
use crate::requests::admission::Denied;
use crate::store::StoreError;

/// What people read when nothing better can be said.
const UNEXPECTED: &str = "An unexpected error was encountered while processing this request";
/// The same for a body that is not there.
const NO_BODY: &str = "The data passed in the request was not in a parsable format. Please try again.";

/// Why a request is not answered with 2xx.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Worded for whoever asked.
    #[error("{status}: {message}")]
    Worded {
        /// HTTP status.
        status: StatusCode,
        /// The `error` text.
        message: String,
    },
    /// The body is empty.
    #[error("the body is empty")]
    NoBody,
    /// The body is not what it should be.
    #[error("the body cannot be read: {0}")]
    BadBody(String),
    /// The state folder refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The panel could not be asked, or said no.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
}

impl ApiError {
    /// An error in words for whoever asked.
    pub fn worded(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError::Worded { status, message: message.into() }
    }

    /// There is no such server, as far as the API is concerned.
    pub fn no_server() -> Self {
        Self::worded(StatusCode::NOT_FOUND, "The requested resource does not exist on this instance.")
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Suspended => StatusCode::BAD_REQUEST,
            Denied::Installing | Denied::PowerAction | Denied::NotInstalling => StatusCode::CONFLICT,
        };
        Self::worded(status, denied.to_string())
    }
}

/// Marks a response whose body is an unexpected error: the guard puts the request's id into it.
#[derive(Clone)]
struct Unexpected {
    /// For the log.
    cause: String,
    /// For whoever asked.
    message: &'static str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, message) = match &self {
            ApiError::Worded { status, message } => return json_error(*status, message, None),
            ApiError::NoBody => return json_error(StatusCode::BAD_REQUEST, NO_BODY, None),
            ApiError::BadBody(_) => (StatusCode::BAD_REQUEST, UNEXPECTED),
            ApiError::Store(StoreError::Unknown(_)) => return ApiError::no_server().into_response(),
            ApiError::Store(StoreError::Broken { .. } | StoreError::Conflict { .. }) => {
                return json_error(StatusCode::CONFLICT, &self.to_string(), None);
            }
            ApiError::Store(StoreError::Disk(error)) => rejected_by_disk(error.kind()),
            ApiError::Store(_) | ApiError::Panel(_) | ApiError::Failed(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, UNEXPECTED)
            }
        };
        let mut response = json_error(status, message, None);
        response.extensions_mut().insert(Unexpected { cause: self.to_string(), message });
        response
    }
}

fn rejected_by_disk(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (StatusCode::INSUFFICIENT_STORAGE, "The node's disk is full; free some space and try again.")
        }
        ErrorKind::ReadOnlyFilesystem => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "The node's state folder is on a read-only file system; mount it writable and try again.",
        ),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, UNEXPECTED),
    }
}

/// `{"error": …}`, with the request's id where it is of use.
pub(super) fn json_error(status: StatusCode, message: &str, request_id: Option<&str>) -> Response {
    let body = match request_id {
        Some(id) => serde_json::json!({"error": message, "request_id": id}),
        None => serde_json::json!({"error": message}),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// Writes the request's id into an unexpected error, and says once in the log what it was.
pub(super) fn with_request_id(response: Response, request_id: &str) -> Response {
    let Some(Unexpected { cause, message }) = response.extensions().get::<Unexpected>().cloned() else {
        return response;
    };
    tracing::error!(error = cause, "request failed");
    json_error(response.status(), message, Some(request_id))
}
