//! `/local/servers/{server}/files`: files and directories of a server as a stream, for `alula cp`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use futures_util::TryStreamExt;
use http::{HeaderValue, StatusCode, header};

use super::any;
use crate::api::files::answer;
use crate::api::request::{ServerPath, parameter};
use crate::api::response::json as json_response;
use crate::api::startup::Started;
use crate::api::{Api, ApiError};
use crate::files::denylist::Denylist;
use crate::files::tree::{Follow, Tree, TreeError};
use crate::files::tree_stream::{self, StreamError};
use crate::files::user_path::UserPath;
use crate::model::ServerId;
use crate::server_files::Access;

/// `GET /local/servers/{server}/files?path={path}`: what is at a path, with all that is below.
pub async fn send(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let path = path(query.as_deref())?;
    let (tree, blocking) = (open(&api, id, Access::PanelRead).await?, api.context.store.blocking());
    let (found, at) = (tree.clone(), path.clone());
    blocking.run(move || found.stat(&at, Follow::No)).await.map_err(|error| rejected(&error.into()))?;
    let (writer, reader) = tree_stream::pipe();
    api.context.tasks.spawn(format!("copy from {id}"), async move {
        let sent = blocking.run(move || tree_stream::send(&tree, &path, &AtomicBool::new(false), writer)).await;
        if let Err(error) = sent {
            tracing::debug!(server.id = %id, %error, "a copy of files has ended early");
        }
    });
    let mut response = Response::new(Body::from_stream(reader.into_stream()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// `PUT /local/servers/{server}/files?path={path}[&below={name}]`: writes what arrives to a path, or as this name into the
/// directory that is there.
pub async fn receive(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, ApiError> {
    let (path, name) = (path(query.as_deref())?, parameter(query.as_deref(), "below").map(decode));
    let (tree, blocking) = (open(&api, id, Access::PanelWrite).await?, api.context.store.blocking());
    let (writer, reader) = tree_stream::pipe();
    let forward = async move {
        let mut pieces = body.into_data_stream();
        // A connection that breaks is a stream that is cut, which the receiver notices.
        while let Ok(Some(piece)) = pieces.try_next().await {
            if writer.send(piece).await.is_err() {
                return;
            }
        }
    };
    let write = blocking.run(move || {
        let path = destination(&tree, path, name)?;
        tree_stream::receive(&tree, &path, reader, |_| {})
    });
    let ((), received) = tokio::join!(forward, write);
    let copied = received.map_err(|error| rejected(&error))?;
    Ok(json_response(serde_json::json!(copied).to_string()))
}

/// The path to write to: below the directory that is there.
fn destination(tree: &Tree, path: UserPath, name: Option<OsString>) -> Result<UserPath, StreamError> {
    let Some(name) = name else { return Ok(path) };
    match tree.stat(&path, Follow::Yes) {
        Ok(entry) if entry.is_directory() => Ok(path.join_clamped(&name).map_err(TreeError::from)?),
        _ => Ok(path),
    }
}

/// A server's files, for the operator: without the egg's denylist.
async fn open(api: &Arc<Api>, id: ServerId, access: Access) -> Result<Tree, ApiError> {
    any(api, id)?;
    let tree = api.files.tree(id, access).await.map_err(answer)?;
    Ok(tree.with_denylist(Arc::new(Denylist::default())))
}

fn path(query: Option<&str>) -> Result<UserPath, ApiError> {
    let path = decode(parameter(query, "path").unwrap_or_default());
    UserPath::parse(&path).map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

/// Bytes of which those that a query cannot have are `%` and two digits.
fn decode(text: &str) -> OsString {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, more @ ..] = rest {
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes)
}

fn rejected(error: &StreamError) -> ApiError {
    let status = match error {
        StreamError::Tree(TreeError::NotFound(_)) => StatusCode::NOT_FOUND,
        StreamError::Tree(TreeError::NoSpace(_)) => StatusCode::INSUFFICIENT_STORAGE,
        StreamError::Tree(_) => StatusCode::CONFLICT,
        StreamError::Remote(_) | StreamError::Connection(_) | StreamError::Invalid(_) => StatusCode::BAD_REQUEST,
        StreamError::Local { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_to_the_byte() {
        for (text, bytes) in [("a%20b", &b"a b"[..]), ("%FF%2f", b"\xff/"), ("%", b"%"), ("%zz%4", b"%zz%4"), ("", b"")]
        {
            assert_eq!(decode(text).into_vec(), bytes, "{text}");
        }
    }
}
