//! The list of servers, page by page.
//!
//! The first page has the number of pages; the others are read concurrently. After an error, the pages that were read are kept
//! for [`KEPT_FOR`], and the next attempt requests only the missing ones. A list that changed during the reading is not
//! accepted as complete: a server that moved from one page to another would seem deleted. After [`INCONSISTENT`] inconsistent
//! lists in a row, the union of the pages is returned and marked as incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::exchange::{Call, Exchange};
use crate::panel::wire::{self, MAX_ELEMENTS, Page};
use crate::panel::{Listed, ListedServer, PanelError};

/// Page requests in flight at once.
const PAGES_AT_ONCE: usize = 4;
/// Pages of an unfinished listing are discarded after this.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Inconsistent lists in a row until one is returned as incomplete.
const INCONSISTENT: u32 = 3;

/// The listing, with the pages of an unfinished attempt.
#[derive(Debug)]
pub(super) struct Listing {
    per_page: u32,
    // One listing at a time: a second caller waits, and then starts a new one.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    unfinished: Option<Unfinished>,
    /// Inconsistent lists in a row.
    inconsistent: u32,
}

#[derive(Debug)]
struct Unfinished {
    began: Instant,
    last: u32,
    total: Option<u64>,
    pages: BTreeMap<u32, Page>,
}

impl Listing {
    pub(super) fn new(per_page: u32) -> Self {
        Self { per_page, state: Mutex::default() }
    }

    /// Reads the list, or its missing pages.
    pub(super) async fn read(&self, exchange: &Exchange) -> Result<Listed, PanelError> {
        let mut state = self.state.lock().await;
        let kept = match state.unfinished.take().filter(|kept| kept.began.elapsed() < KEPT_FOR) {
            Some(kept) => kept,
            None => {
                let began = Instant::now();
                // Wings requests page 0, which the panel serves as page 1.
                let first = self.page(exchange, 0).await?;
                Unfinished { began, last: first.last, total: first.total, pages: BTreeMap::from([(1, first)]) }
            }
        };
        // From here on the pages stay in the state if the caller stops waiting.
        self.missing_pages(exchange, state.unfinished.insert(kept)).await?;
        let read = state.unfinished.take().ok_or_else(|| self.changed("nothing was read".into()))?;
        let inconsistency = inconsistency(&read);
        if let Some(detail) = &inconsistency
            && state.inconsistent + 1 < INCONSISTENT
        {
            state.inconsistent += 1;
            return Err(self.changed(detail.clone()));
        }
        state.inconsistent = 0;
        union(read, inconsistency).map_err(|detail| self.changed(detail))
    }

    /// Reads the missing pages. After an error no further page is requested; answers to earlier requests are kept.
    async fn missing_pages(&self, exchange: &Exchange, kept: &mut Unfinished) -> Result<(), PanelError> {
        let missing: Vec<u32> = (2..=kept.last).filter(|number| !kept.pages.contains_key(number)).collect();
        let failed = OnceLock::new();
        let mut pages = stream::iter(missing)
            .take_while(|_| std::future::ready(failed.get().is_none()))
            .map(|number| async move { (number, self.page(exchange, number).await) })
            .buffer_unordered(PAGES_AT_ONCE);
        while let Some((number, page)) = pages.next().await {
            match page {
                Ok(page) => drop(kept.pages.insert(number, page)),
                // The first error counts.
                Err(error) => drop(failed.set(error)),
            }
        }
        drop(pages);
        failed.into_inner().map_or(Ok(()), Err)
    }

    async fn page(&self, exchange: &Exchange, number: u32) -> Result<Page, PanelError> {
        let call = Call::get(format!("/servers?page={number}&per_page={}", self.per_page));
        exchange.read(&call, wire::page).await
    }

    fn changed(&self, detail: String) -> PanelError {
        let call = format!("GET /api/remote/servers?per_page={}", self.per_page);
        PanelError::InvalidResponse { call, detail: format!("the list changed while it was read: {detail}") }
    }
}

/// Why the pages are not of one list, if so.
fn inconsistency(read: &Unfinished) -> Option<String> {
    let entries: usize = read.pages.values().map(|page| page.entries).sum();
    let ids: Vec<_> = read.pages.values().flat_map(|page| page.servers.iter().map(|listed| listed.id)).collect();
    if read.last > 1 && read.total.is_some_and(|total| total != entries as u64) {
        Some(format!("{entries} servers were listed of {}", read.total.unwrap_or(0)))
    } else if read.pages.values().any(|page| (page.last, page.total) != (read.last, read.total)) {
        Some("its pages do not count the same servers".into())
    } else if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        Some("a server was listed twice".into())
    } else {
        None
    }
}

/// The servers of all pages, each one once.
fn union(read: Unfinished, inconsistency: Option<String>) -> Result<Listed, String> {
    let entries: usize = read.pages.values().map(|page| page.entries).sum();
    if entries > MAX_ELEMENTS {
        return Err(format!("{entries} servers are more than the {MAX_ELEMENTS} that are read"));
    }
    let without_id = entries - read.pages.values().map(|page| page.servers.len()).sum::<usize>();
    let mut servers: Vec<ListedServer> = Vec::with_capacity(entries);
    let mut positions = BTreeMap::new();
    for listed in read.pages.into_values().flat_map(|page| page.servers) {
        match positions.get(&listed.id) {
            // An entry that can be read replaces one that cannot.
            Some(position) if listed.server.is_ok() => servers[*position] = listed,
            Some(_) => {}
            None => {
                positions.insert(listed.id, servers.len());
                servers.push(listed);
            }
        }
    }
    let incomplete = match (inconsistency, without_id) {
        (Some(detail), _) => Some(format!("it changed during each attempt to read it ({detail})")),
        (None, 0) if read.total.is_none() => Some("it has no `meta.total`, so servers may be missing from it".into()),
        (None, 0) => None,
        (None, count) => Some(format!("{count} of its entries have no server id")),
    };
    Ok(Listed { servers, asked: read.began, incomplete })
}
