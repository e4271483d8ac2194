//! Uploads files from a form. Each is written under a temporary name; all get their names when the form is complete.

use std::ffi::OsStr;

use axum::body::BodyDataStream;
use axum::extract::{RawQuery, Request};
use http::{HeaderMap, StatusCode};
use multer::{Field, Multipart};
use serde_json::json;

use super::{answered, no_link};
use crate::activity::ActivityEvent;
use crate::api::client_address::ClientAddress;
use crate::api::files::{Query, body_pieces, drained, path};
use crate::api::form::{Pieces, Unread, boundary};
use crate::api::startup::Started;
use crate::api::tokens::{Link, Scope};
use crate::api::{Api, ApiError};
use crate::files::tree::NewFile;
use crate::files::user_path::UserPath;
use crate::server_files::{Access, FileWriter};

/// The field of the form that has files.
const FIELD: &str = "files";

/// The most files of a form.
const MAX_FILES: usize = 1000;

/// A file of the form that is written, and not committed yet.
struct Uploaded {
    name: String,
    writer: FileWriter,
}

/// `POST /upload/file?token=&directory=`.
pub async fn upload_file(
    Started(api): Started,
    client: ClientAddress,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let query = Query::new(query.as_deref());
    let boundary = form_boundary(request.headers());
    let mut body = body_pieces(request.into_body());
    let uploaded = upload(&api, client, &query, boundary, &mut body).await;
    if uploaded.is_err() {
        drained(body).await;
    }
    uploaded.map(|()| StatusCode::OK)
}

async fn upload(
    api: &Api,
    client: ClientAddress,
    query: &Query,
    boundary: Result<String, ApiError>,
    body: &mut BodyDataStream,
) -> Result<(), ApiError> {
    let link = api.link(query.get("token"), Scope::FileUpload, Some(&api.used_links))?;
    let directory = path(query.get("directory")).map_err(answered)?;
    let pieces = Pieces::new(body);
    let unread = pieces.unread();
    let mut form = Multipart::new(pieces, boundary?);
    let files = read_form(api, &link, &directory, &mut form, &unread).await?;
    if files.is_empty() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "No files were found on the request body."));
    }
    commit(api, &link, client, &directory, files).await
}

fn form_boundary(headers: &HeaderMap) -> Result<String, ApiError> {
    boundary(headers).ok_or_else(no_form)
}

async fn read_form(
    api: &Api,
    link: &Link,
    directory: &UserPath,
    form: &mut Multipart<'_>,
    unread: &Unread,
) -> Result<Vec<Uploaded>, ApiError> {
    let mut files = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(|_| no_form())? {
        unread.reset();
        if field.name() != Some(FIELD) || field.file_name().is_none() {
            while field.chunk().await.map_err(|_| no_form())?.is_some() {
                unread.reset();
            }
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, format!("There are more than {MAX_FILES} files.")));
        }
        files.push(receive(api, link, directory, field, unread).await?);
    }
    Ok(files)
}

/// Writes one file of the form.
async fn receive(
    api: &Api,
    link: &Link,
    directory: &UserPath,
    mut field: Field<'_>,
    unread: &Unread,
) -> Result<Uploaded, ApiError> {
    let name = field.file_name().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_owned();
    if matches!(name.as_str(), "" | "." | "..") || name.contains('\0') {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "A file of the form has no name."));
    }
    let path = directory.child(OsStr::new(&name));
    let new = NewFile { mode: 0o644, keep_mode: true, size: None };
    let created = api.files.run(link.server, Access::UserWrite, move |tree| tree.create(&path, new)).await;
    let mut writer = FileWriter::new(created.map_err(answered)?, api.context.store.blocking());
    let most = api.context.node.config.files.upload_limit_mib;
    while let Some(piece) = field.chunk().await.map_err(|_| no_form())? {
        unread.reset();
        if writer.length() + piece.len() as u64 > most << 20 {
            let message = format!("File {name} is larger than the maximum file upload size of {most} MB.");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
        writer.write(piece).await.map_err(|error| answered(error.into()))?;
    }
    Ok(Uploaded { name, writer })
}

/// Gives all files their names, and records them.
async fn commit(
    api: &Api,
    link: &Link,
    ClientAddress(client): ClientAddress,
    directory: &UserPath,
    files: Vec<Uploaded>,
) -> Result<(), ApiError> {
    api.files.check(link.server, Access::UserWrite).map_err(|error| answered(error.into()))?;
    if api.server(link.server).is_err() {
        return Err(no_link());
    }
    for Uploaded { name, writer } in files {
        writer.commit().await.map_err(|error| answered(error.into()))?;
        let metadata = json!({"file": name, "directory": directory.to_string()});
        api.files.record(link.server, ActivityEvent::FileUploaded, link.user, client, metadata);
    }
    Ok(())
}

fn no_form() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "Failed to get multipart form data from request.")
}
