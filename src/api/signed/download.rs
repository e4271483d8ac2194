//! Downloads a file of a server, or the archive of a backup.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::time::SystemTime;

use axum::extract::{RawQuery, Request};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::answered;
use super::range::{Wanted, wanted};
use crate::api::files::{Query, body, content_disposition, path};
use crate::api::servers::backups;
use crate::api::startup::Started;
use crate::api::tokens::{Scope, UsedLinks};
use crate::api::{Api, ApiError};
use crate::files::tree::{Entry, TreeError};
use crate::server_files::{Access, FileContent};
use crate::tasks::Blocking;

/// `GET /download/file?token=`, and `HEAD`, which does not use the link up.
pub async fn download_file(
    Started(api): Started,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::of(&request);
    let link = api.link(Query::new(query.as_deref()).get("token"), Scope::FileDownload, asked.uses(&api))?;
    let path = path(&link.file).map_err(answered)?;
    let opened = api.files.run(link.server, Access::UserRead, move |tree| {
        let (file, entry) = tree.open(&path)?;
        Download::new(file, entry, &asked).map_err(TreeError::io("read", &path))
    });
    Ok(opened.await.map_err(answered)?.answer(api.context.store.blocking()))
}

/// `GET /download/backup?token=`, and `HEAD`. A server that is suspended or being installed has its backups.
pub async fn download_backup(
    Started(api): Started,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::of(&request);
    let link = api.link(Query::new(query.as_deref()).get("token"), Scope::BackupDownload, asked.uses(&api))?;
    let (server, id) = (link.server, backups::backup_id(&link.backup)?);
    api.server(server)?;
    let backup = backups::find_backup(&api, server, id).await?;
    if !backup.is_kept_here() {
        return Err(backups::no_backup());
    }
    let layout = api.context.node.layout.clone();
    let opened = api.context.store.blocking().run(move || {
        let opened = layout.open_backup(server, id).map_err(|error| error.to_string())?;
        let download = opened.map(|(file, entry)| Download::new(file, entry, &asked)).transpose();
        download.map_err(|error| format!("cannot read the archive of the backup {id}: {error}"))
    });
    let download = opened.await.map_err(ApiError::Failed)?.ok_or_else(backups::no_backup)?;
    Ok(download.answer(api.context.store.blocking()))
}

/// What a request for a download asks for.
struct Asked {
    /// The headers alone.
    head: bool,
    headers: HeaderMap,
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self { head: request.method() == Method::HEAD, headers: request.headers().clone() }
    }

    /// Where the link counts as used, if it does.
    fn uses<'a>(&self, api: &'a Api) -> Option<&'a UsedLinks> {
        (!self.head).then_some(&api.used_links)
    }
}

/// A file that is about to be sent.
struct Download {
    entry: Entry,
    wanted: Wanted,
    /// The first block, and what follows.
    content: Option<(Bytes, FileContent)>,
}

impl Download {
    /// Reads the first block, so that a file which cannot be read is an error and not a broken answer. Blocks.
    fn new(file: File, entry: Entry, asked: &Asked) -> io::Result<Self> {
        let wanted = wanted(&asked.headers, entry.size, &etag(&entry), entry.modified);
        let content = match wanted {
            Wanted::Part(range) | Wanted::Whole(range) if !asked.head => {
                let mut content = FileContent::new(file, range);
                Some((content.read()?, content))
            }
            _ => None,
        };
        Ok(Self { entry, wanted, content })
    }

    fn answer(self, blocking: Blocking) -> Response {
        let Self { entry, wanted, content } = self;
        let mut response = Response::default();
        if let Some((first, rest)) = content {
            *response.body_mut() = body(first, rest, blocking);
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
        response
    }
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
