//! `alula export` and `alula import`: a whole server as a stream.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use futures_util::TryStreamExt;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{any, trash};
use crate::api::request::{ServerPath, parameter};
use crate::api::response::json as json_response;
use crate::api::startup::Started;
use crate::api::{Api, ApiError};
use crate::archive::backup::{Hashes, IgnoreList, UnpackOptions, WriteOptions};
use crate::archive::export::{ExportError, read_server, write_server};
use crate::archive::spawn_helper;
use crate::files::Background;
use crate::files::trash::DeletedServer;
use crate::files::tree_stream::pipe;
use crate::files::user_path::UserPath;
use crate::model::{Record, ServerId};
use crate::progress::Progress;
use crate::reconcile::job::Subject;
use crate::store::OVERRIDE_FILE;

/// `GET /local/servers/{server}/export[?backups=true]`: the server as it is now. It may run, and its files may change meanwhile. A
/// stream without its last entry has failed.
pub async fn export(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let server = describe(&api, id, parameter(query.as_deref(), "backups") == Some("true"))?;
    if server.manifest.is_none() {
        return Err(ApiError::new(StatusCode::CONFLICT, ExportError::NoManifest(id).to_string()));
    }
    let operation = api.context.operations.begin(id, &Subject::Transfer(api.context.ids.next_uuid()));
    let (writer, reader) = pipe();
    let (context, blocking) = (api.context.clone(), api.context.store.blocking());
    let work = move || {
        let (_background, pace) = (Background::begin(), context.operations.pace());
        let options = WriteOptions {
            ignore: &IgnoreList::default(),
            level: context.node.config.backups.level,
            hashes: Hashes::default(),
            spawn: spawn_helper(context.store.blocking()),
            pace: Some(&pace),
            progress: operation.progress(),
        };
        write_server(&context.node.layout, &server, writer, options)
    };
    api.context.tasks.spawn(format!("export of {id}"), async move {
        if let Err(error) = blocking.run(work).await {
            tracing::warn!(server.id = %id, %error, "an export has ended early");
        }
    });
    let mut response = Response::new(Body::from_stream(reader.into_stream()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}

/// A server as a stream has it.
fn describe(api: &Api, id: ServerId, with_backups: bool) -> Result<DeletedServer, ApiError> {
    let snapshot = any(api, id)?;
    let mut record = Record::clone(&snapshot.record);
    record.backups.retain(|backup| with_backups && backup.is_kept_here());
    Ok(DeletedServer {
        server: id,
        at: api.context.clock.now(),
        manifest: snapshot.manifest.as_deref().cloned(),
        r#override: std::fs::read_to_string(api.context.store.folder(id).join(OVERRIDE_FILE)).ok(),
        record,
        declared: snapshot.requests.declared.clone(),
        data: None,
        backups: None,
    })
}

/// `PUT /local/import`: the server of a stream is on this node afterwards, with all its files, or nothing of it is. It does not start.
pub async fn import(Started(api): Started, body: Body) -> Result<Response, ApiError> {
    let (writer, reader) = pipe();
    let forward = async move {
        let mut pieces = body.into_data_stream();
        // A connection that breaks is a stream that lacks its end.
        while let Ok(Some(piece)) = pieces.try_next().await {
            if writer.send(piece).await.is_err() {
                return;
            }
        }
    };
    let (context, at) = (api.context.clone(), api.context.clock.now());
    let read = api.context.store.blocking().run(move || {
        let (_background, progress, pace) = (Background::begin(), Progress::new(), context.operations.pace());
        let options = UnpackOptions {
            only: None,
            denylist: false,
            hashes: Hashes::default(),
            pace: Some(&pace),
            progress: &progress,
            entry: &mut |_: &UserPath| {},
        };
        let exists = |id| context.store.get(id).is_some();
        read_server(&context.node.layout, at, exists, reader, options)
    });
    let ((), imported) = tokio::join!(forward, read);
    let imported = imported.map_err(|error| rejected(&error))?;
    let id = imported.server;
    bring_in(&api, imported).await?;
    Ok(json_response(json!({"uuid": id}).to_string()))
}

async fn bring_in(api: &Arc<Api>, imported: DeletedServer) -> Result<(), ApiError> {
    let id = imported.server;
    let brought = trash::bring_back(api, imported).await;
    brought.map_err(|error| {
        let message = format!("{error}; it is kept for a day: try `alula restore-deleted {id}`");
        ApiError::new(StatusCode::CONFLICT, message)
    })
}

fn rejected(error: &ExportError) -> ApiError {
    let status = match error {
        ExportError::Exists(_) => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    ApiError::new(status, error.to_string())
}
