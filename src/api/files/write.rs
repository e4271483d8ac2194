//! Writes a file.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{RawQuery, Request};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{StatusCode, header};

use super::answer::answer;
use super::query::{Query, path};
use crate::api::ApiError;
use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::files::tree::{NewFile, TreeError};
use crate::files::user_path::UserPath;
use crate::model::ServerId;
use crate::server_files::{Access, FileError, FileWriter, ServerFiles};

/// A body up to this length is read before its file is created.
const SMALL: u64 = 256 * 1024;

/// The most bytes that are read of a body that is refused, so that the client reads the answer.
const DRAINED: usize = 256 << 20;
/// The longest time for that.
const DRAINING: Duration = Duration::from_secs(30);

/// `POST /api/servers/{server}/files/write?file=`, with the content as body.
pub async fn write(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let Some(length) = length else { return Err(ApiError::new(StatusCode::BAD_REQUEST, "Missing Content-Length")) };
    let file = path(Query::new(query.as_deref()).get("file")).map_err(answer)?;
    let mut body = body_pieces(request.into_body());
    match write_to(&api.files, id, file, length, &mut body).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => {
            drained(body).await;
            Err(error)
        }
    }
}

async fn write_to(
    files: &ServerFiles,
    id: ServerId,
    path: UserPath,
    length: u64,
    body: &mut BodyDataStream,
) -> Result<(), ApiError> {
    let new = NewFile { mode: 0o644, keep_mode: true, size: Some(length) };
    if length <= SMALL {
        let content = collected(body, length).await?;
        let written = files.run(id, Access::PanelWrite, move |tree| tree.write(&path, new, &content));
        return written.await.map(drop).map_err(written_over);
    }
    let created = files.run(id, Access::PanelWrite, move |tree| tree.create(&path, new)).await;
    let mut writer = FileWriter::new(created.map_err(written_over)?, files.context().store.blocking());
    while let Some(piece) = body.next().await {
        writer.write(piece.map_err(broken_off)?).await.map_err(|error| written_over(error.into()))?;
    }
    files.check(id, Access::PanelWrite).map_err(|error| answer(error.into()))?;
    writer.commit().await.map(drop).map_err(|error| written_over(error.into()))
}

async fn collected(body: &mut BodyDataStream, length: u64) -> Result<Bytes, ApiError> {
    let mut content = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
    while let Some(piece) = body.next().await {
        content.extend_from_slice(&piece.map_err(broken_off)?);
    }
    Ok(content.freeze())
}

/// The pieces of a body, of any length in all.
pub fn body_pieces(body: Body) -> BodyDataStream {
    body.into_data_stream()
}

/// Reads the rest of a body whose content is not wanted.
pub async fn drained(mut body: BodyDataStream) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(piece)) = body.next().await {
            bytes += piece.len();
            if bytes > DRAINED {
                return;
            }
        }
    };
    // One that takes longer is cut off.
    let _ = tokio::time::timeout(DRAINING, read).await;
}

fn broken_off(error: axum::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("The request has broken off: {error}"))
}

fn written_over(error: FileError) -> ApiError {
    match error {
        FileError::Tree(TreeError::IsDirectory(_)) => ApiError::new(
            StatusCode::BAD_REQUEST,
            "Cannot write file, name conflicts with an existing directory by the same name.",
        ),
        other => answer(other),
    }
}
