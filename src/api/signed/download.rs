//! Downloads a file.

use std::fmt::Write;
use std::time::SystemTime;

use axum::extract::{RawQuery, Request};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::answered;
use super::range::{Wanted, wanted};
use crate::api::ApiError;
use crate::api::files::{Query, body, content_disposition, path};
use crate::api::startup::Started;
use crate::api::tokens::Scope;
use crate::files::tree::{Entry, TreeError};
use crate::server_files::{Access, FileContent};

/// `GET /download/file?token=`, and `HEAD`, which does not use the link up.
pub async fn download_file(
    Started(api): Started,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let query = Query::new(query.as_deref());
    let only_asked = request.method() == Method::HEAD;
    let used = (!only_asked).then_some(&api.used_links);
    let link = api.link(query.get("token"), Scope::FileDownload, used)?;
    let path = path(&link.file).map_err(answered)?;
    let headers = request.headers().clone();
    let opened = api.files.run(link.server, Access::UserRead, move |tree| {
        let (file, entry) = tree.open(&path)?;
        let wanted = wanted(&headers, entry.size, &etag(&entry), entry.modified);
        let (Wanted::Part(range) | Wanted::Whole(range)) = wanted else { return Ok((entry, wanted, None)) };
        if only_asked {
            return Ok((entry, wanted, None));
        }
        let read = FileContent::new(file, range).and_then(|mut content| Ok((content.read()?, content)));
        Ok((entry, wanted, Some(read.map_err(TreeError::io("read", &path))?)))
    });
    let (entry, wanted, content) = opened.await.map_err(answered)?;
    let mut response = Response::default();
    if let Some((first, rest)) = content {
        *response.body_mut() = body(first, rest, api.context.store.blocking());
    }
    describe(response.headers_mut(), &entry);
    let (status, length, range) = match wanted {
        Wanted::Whole(_) => (StatusCode::OK, entry.size, None),
        Wanted::Part(range) => {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, entry.size);
            (StatusCode::PARTIAL_CONTENT, range.end - range.start, Some(text))
        }
        Wanted::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, Some(format!("bytes */{}", entry.size))),
    };
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if let Some(range) = range.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

fn describe(headers: &mut HeaderMap, entry: &Entry) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, content_disposition(entry));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(etag) = HeaderValue::try_from(etag(entry)) {
        headers.insert(header::ETAG, etag);
    }
    if let Ok(modified) = HeaderValue::try_from(httpdate::fmt_http_date(entry.modified.max(SystemTime::UNIX_EPOCH))) {
        headers.insert(header::LAST_MODIFIED, modified);
    }
}

/// Names the version of a file.
fn etag(entry: &Entry) -> String {
    let modified = entry.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "\"{:x}-{:x}-{:x}\"", entry.inode, entry.size, modified.as_nanos());
    text
}
