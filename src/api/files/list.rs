//! The listing of a directory.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;

use super::answer::answer;
use super::entry::{EntryView, Zone};
use super::query::{Query, path};
use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::api::{ApiError, response};
use crate::files::tree::{SortedListing, TreeError};
use crate::server_files::{Access, FileError, ServerFiles};

/// The bytes of a listing that are in memory at a time. A shorter one is sent at once.
const BLOCK: usize = 256 * 1024;

/// `GET /api/servers/{server}/files/list-directory?directory=`.
pub async fn list_directory(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    api.server(id)?;
    let directory = path(Query::new(query.as_deref()).get("directory")).map_err(answer)?;
    let (files, zone) = (api.files.clone(), api.zone.clone());
    let listed = api.files.run(id, Access::PanelRead, move |tree| {
        let mut listing = Listing { entries: tree.list_sorted(&directory)?, files, zone, begun: false, ended: false };
        Ok((listing.block()?, listing))
    });
    let (block, listing) = listed.await.map_err(|error| match error {
        FileError::Tree(TreeError::NotFound(_)) => {
            ApiError::new(StatusCode::NOT_FOUND, "The requested directory was not found on the server.")
        }
        other => answer(other),
    })?;
    if listing.ended {
        return Ok(response::json(block));
    }
    let blocking = api.context.store.blocking();
    let rest = stream::try_unfold(listing, move |mut listing| async move {
        match listing.ended {
            true => Ok(None),
            false => blocking.run(move || listing.block().map(|block| Some((block, listing)))).await,
        }
    });
    let first = stream::once(async move { Ok::<_, TreeError>(block) });
    Ok(response::json(Body::from_stream(futures_util::StreamExt::chain(first, rest))))
}

/// A listing that is written as JSON.
struct Listing {
    entries: SortedListing,
    files: Arc<ServerFiles>,
    zone: Zone,
    begun: bool,
    ended: bool,
}

impl Listing {
    /// The next bytes. Blocks.
    fn block(&mut self) -> Result<Bytes, TreeError> {
        let mut text = Vec::with_capacity(BLOCK / 16);
        while text.len() < BLOCK {
            let Some(entry) = self.entries.next() else {
                text.extend_from_slice(if self.begun { b"]" } else { b"[]" });
                self.ended = true;
                break;
            };
            let entry = entry?;
            let mime = self.files.mime_types().of(&entry, |buffer| self.entries.head(&entry, buffer));
            text.push(if self.begun { b',' } else { b'[' });
            self.begun = true;
            // Writing strings and numbers to memory does not fail.
            let _ = serde_json::to_writer(
                &mut text,
                &EntryView::new(entry.name.to_string_lossy(), &entry, mime, &self.zone),
            );
        }
        Ok(text.into())
    }
}
