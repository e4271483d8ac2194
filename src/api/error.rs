//! Errors in the format of Wings. Source: HTTP API, "Error bodies".

use std::io::ErrorKind;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::response;
use crate::panel::PanelError;
use crate::requests::admission::Denied;
use crate::store::StoreError;

/// The message of an error whose cause is only in the log.
pub(super) const UNEXPECTED: &str = "An unexpected error was encountered while processing this request";
/// The message about an empty body.
const NO_BODY: &str = "The data passed in the request was not in a parsable format. Please try again.";

/// Why a request is not answered with 2xx.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A status and a message for the caller.
    #[error("{status}: {message}")]
    Status {
        /// HTTP status.
        status: StatusCode,
        /// The `error` text.
        message: String,
    },
    /// The same, with the request's id in the body.
    #[error("{status}: {message}")]
    Identified {
        /// HTTP status.
        status: StatusCode,
        /// The `error` text.
        message: String,
    },
    /// The body is empty.
    #[error("the body is empty")]
    NoBody,
    /// The body is invalid.
    #[error("the body cannot be read: {0}")]
    BadBody(String),
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The panel did not answer, or rejected a call.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// Another failure.
    #[error("{0}")]
    Failed(String),
}

impl ApiError {
    /// An error with a message for the caller.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError::Status { status, message: message.into() }
    }

    /// What happened, without an HTTP status.
    pub fn message(&self) -> String {
        match self {
            ApiError::Status { message, .. } | ApiError::Identified { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    /// The error for a server that the API does not know.
    pub fn no_server() -> Self {
        Self::new(StatusCode::NOT_FOUND, "The requested resource does not exist on this instance.")
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Suspended => StatusCode::BAD_REQUEST,
            Denied::Installing
            | Denied::Restoring
            | Denied::Transferring
            | Denied::PowerAction
            | Denied::NotInstalling => StatusCode::CONFLICT,
        };
        Self::new(status, denied.to_string())
    }
}

/// Marks the response to an unexpected error: the guard logs the cause and adds the request's id.
#[derive(Clone)]
struct Unexpected {
    cause: String,
    message: &'static str,
}

/// Marks a response whose body gets the request's id.
#[derive(Clone)]
struct Identified(String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, message) = match &self {
            ApiError::Status { status, message } => return json_error(*status, message),
            ApiError::Identified { status, message } => {
                let mut response = json_error(*status, message);
                response.extensions_mut().insert(Identified(message.clone()));
                return response;
            }
            ApiError::NoBody => return json_error(StatusCode::BAD_REQUEST, NO_BODY),
            ApiError::BadBody(_) => (StatusCode::BAD_REQUEST, UNEXPECTED),
            ApiError::Store(StoreError::Unknown(_)) => return ApiError::no_server().into_response(),
            ApiError::Store(StoreError::Broken { .. } | StoreError::Conflict { .. }) => {
                return json_error(StatusCode::CONFLICT, &self.to_string());
            }
            ApiError::Store(StoreError::Disk(error)) => rejected_by_disk(error.kind()),
            ApiError::Store(_) | ApiError::Panel(_) | ApiError::Failed(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, UNEXPECTED)
            }
        };
        let mut response = json_error(status, message);
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

/// `{"error": …}`.
pub(super) fn json_error(status: StatusCode, message: &str) -> Response {
    (status, response::json(json!({"error": message}).to_string())).into_response()
}

/// Adds the request's id to the response to an unexpected error, and logs the cause. A `local` caller, who may read the log, gets the
/// cause as well.
pub(super) fn with_request_id(response: Response, request_id: &str, local: bool) -> Response {
    if let Some(Identified(message)) = response.extensions().get::<Identified>() {
        let text = json!({"error": message, "request_id": request_id}).to_string();
        return (response.status(), response::json(text)).into_response();
    }
    let Some(Unexpected { cause, message }) = response.extensions().get::<Unexpected>().cloned() else {
        return response;
    };
    tracing::error!(error = cause, "request failed");
    let message = match local {
        true if message == UNEXPECTED => cause,
        true => format!("{cause}: {message}"),
        false => message.to_owned(),
    };
    let text = json!({"error": message, "request_id": request_id}).to_string();
    (response.status(), response::json(text)).into_response()
}
