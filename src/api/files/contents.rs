//! The content of a file.

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};

use super::answer::answer;
use super::query::{Query, path};
use crate::api::ApiError;
use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::files::tree::{Entry, TreeError};
use crate::server_files::{Access, FileContent, Range};

/// `GET /api/servers/{server}/files/contents?file=&download=`.
pub async fn contents(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    api.server(id)?;
    let query = Query::new(query.as_deref());
    let (file, download) = (path(query.get("file")).map_err(answer)?, !query.get("download").is_empty());
    let files = api.files.clone();
    let opened = api.files.run(id, Access::PanelRead, move |tree| {
        let (content, entry) = tree.open(&file)?;
        let error = TreeError::io("read", &file);
        let range = Range { start: 0, end: entry.size };
        let mut rest = FileContent::new(content, range);
        let first = rest.read().map_err(error)?;
        let mime = files.mime_types().of(&entry, |buffer| {
            let length = first.len().min(buffer.len());
            buffer[..length].copy_from_slice(&first[..length]);
            Some(length)
        });
        Ok((entry, mime, first, rest))
    });
    let (entry, mime, first, rest) = opened.await.map_err(answer)?;
    let mut response = Response::new(body(first, rest, api.context.store.blocking()));
    let headers = response.headers_mut();
    let mime = HeaderValue::from_static(mime);
    headers.insert("x-mime-type", mime.clone());
    headers.insert(header::CONTENT_LENGTH, entry.size.into());
    if download {
        headers.insert(header::CONTENT_DISPOSITION, content_disposition(&entry));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    } else {
        headers.insert(header::CONTENT_TYPE, mime);
    }
    Ok(response)
}

/// A body of a block and what follows it.
pub fn body(first: Bytes, rest: FileContent, blocking: crate::tasks::Blocking) -> Body {
    match rest.is_at_end() {
        true => Body::from(first),
        false => Body::from_stream(stream::once(async move { Ok(first) }).chain(rest.into_stream(blocking))),
    }
}

/// The name under which a browser keeps a file.
pub fn content_disposition(entry: &Entry) -> HeaderValue {
    let mut text = String::from("attachment; filename=\"");
    for char in entry.name.to_string_lossy().chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            char if char.is_control() => text.push('_'),
            char => text.push(char),
        }
    }
    text.push('"');
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static("attachment"))
}
