//! The list of servers, page by page.
//!
//! The first page says how many there are; the others are read side by side. Pages that were read are kept for a moment,
//! so that after an error the next attempt asks only for those that are missing. A list that changed under
//! the reader is never taken for the whole one: a server that slipped from one page to another would look deleted. One
//! that never holds still is taken for what it is in the end: servers that exist, and perhaps not all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::exchange::{Call, Exchange};
use super::invalid_response;
use crate::panel::wire::{self, MAX_ELEMENTS, Page};
use crate::panel::{Listed, ListedServer, PanelError};

/// Pages under way at once.
const PAGES_AT_ONCE: usize = 4;
/// Pages of an unfinished listing are too old after this.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Lists in a row that do not fit together before one is taken as it is.
const INCONSISTENT: u32 = 3;

/// The listing, and what is left of one that was cut short.
#[derive(Debug)]
pub(super) struct Listing {
    per_page: u32,
    // One listing at a time: a second one waits, and then reads anew.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    unfinished: Option<Unfinished>,
    /// Lists in a row that did not fit together.
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

    /// Reads the list, or what is missing of it.
    pub(super) async fn read(&self, exchange: &Exchange) -> Result<Listed, PanelError> {
        let mut state = self.state.lock().await;
        let kept = match state.unfinished.take().filter(|kept| kept.began.elapsed() < KEPT_FOR) {
            Some(kept) => kept,
            None => {
                let began = Instant::now();
                // The panel serves page 0 as page 1; Wings asks so.
                let first = self.page(exchange, 0).await?;
                Unfinished { began, last: first.last, total: first.total, pages: BTreeMap::from([(1, first)]) }
            }
        };
        let last_try = state.inconsistent + 1 >= INCONSISTENT;
        // From here on the pages stay in place, also if the caller stops waiting.
        let kept = state.unfinished.insert(kept);
        let trouble = self.missing_pages(exchange, kept, last_try).await;
        if let Err(Trouble::Page(error)) = trouble {
            return Err(error);
        }
        let Some(read) = state.unfinished.take() else { return Err(self.changed("nothing was read".into())) };
        let fits = match trouble {
            Err(Trouble::Changed(detail)) => Err(detail),
            _ => fits(&read),
        };
        match fits {
            Ok(()) => state.inconsistent = 0,
            Err(detail) if !last_try => {
                state.inconsistent += 1;
                return Err(self.changed(detail));
            }
            // The next list is read with the same patience as this one.
            Err(_) => state.inconsistent = 0,
        }
        union(read, fits.err()).map_err(|detail| self.changed(detail))
    }

    /// Reads the pages that are missing. With `all`, also those of another list than the first page's.
    async fn missing_pages(&self, exchange: &Exchange, kept: &mut Unfinished, all: bool) -> Result<(), Trouble> {
        let missing: Vec<u32> = (2..=kept.last).filter(|number| !kept.pages.contains_key(number)).collect();
        // After an error no further page is begun; those under way are taken.
        let stop = AtomicBool::new(false);
        let mut pages = stream::iter(missing)
            .take_while(|_| std::future::ready(!stop.load(Ordering::Relaxed)))
            .map(|number| async move { (number, self.page(exchange, number).await) })
            .buffer_unordered(PAGES_AT_ONCE);
        let (mut failed, mut changed) = (None, None);
        while let Some((number, page)) = pages.next().await {
            match page {
                Ok(page) => {
                    if (page.last, page.total) != (kept.last, kept.total) {
                        changed.get_or_insert(format!(
                            "the first page counts {}, page {number} counts {}",
                            counts(kept.last, kept.total),
                            counts(page.last, page.total)
                        ));
                        stop.fetch_or(!all, Ordering::Relaxed);
                    }
                    kept.pages.insert(number, page);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        match (failed, changed) {
            // Pages that do not belong together are of no use to the next attempt.
            (_, Some(detail)) if !all => Err(Trouble::Changed(detail)),
            (Some(error), _) => Err(Trouble::Page(error)),
            (None, Some(detail)) => Err(Trouble::Changed(detail)),
            (None, None) => Ok(()),
        }
    }

    async fn page(&self, exchange: &Exchange, number: u32) -> Result<Page, PanelError> {
        let call = Call::get(format!("/servers?page={number}&per_page={}", self.per_page));
        let answer = exchange.fetch(&call).await?;
        wire::page(&answer).map_err(|error| invalid_response(&call.name(), &error))
    }

    fn changed(&self, detail: String) -> PanelError {
        let call = format!("GET /api/remote/servers?per_page={}", self.per_page);
        PanelError::InvalidResponse { call, detail: format!("the list changed while it was read: {detail}") }
    }
}

enum Trouble {
    /// A page could not be read.
    Page(PanelError),
    /// The pages are not of one list.
    Changed(String),
}

fn counts(pages: u32, servers: Option<u64>) -> String {
    servers.map_or_else(|| format!("{pages} pages"), |servers| format!("{servers} servers on {pages} pages"))
}

/// Whether the pages are of one list.
fn fits(read: &Unfinished) -> Result<(), String> {
    let entries: usize = read.pages.values().map(|page| page.entries).sum();
    if read.last > 1 && read.total.is_some_and(|total| total != entries as u64) {
        return Err(format!("{entries} servers were listed of {}", read.total.unwrap_or(0)));
    }
    if read.pages.values().any(|page| (page.last, page.total) != (read.last, read.total)) {
        return Err("its pages do not count the same servers".into());
    }
    let names: Vec<_> = read.pages.values().flat_map(|page| page.servers.iter().map(|listed| listed.id)).collect();
    match names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        true => Err("a server was listed twice".into()),
        false => Ok(()),
    }
}

/// Puts the pages together, each server once.
fn union(read: Unfinished, inconsistency: Option<String>) -> Result<Listed, String> {
    let entries: usize = read.pages.values().map(|page| page.entries).sum();
    if entries > MAX_ELEMENTS {
        return Err(format!("{entries} servers are more than the {MAX_ELEMENTS} that are read"));
    }
    let unnamed = entries - read.pages.values().map(|page| page.servers.len()).sum::<usize>();
    let mut servers: Vec<ListedServer> = Vec::with_capacity(entries);
    let mut places = BTreeMap::new();
    for listed in read.pages.into_values().flat_map(|page| page.servers) {
        match places.get(&listed.id) {
            // What can be read wins over what cannot.
            Some(place) if listed.server.is_ok() => servers[*place] = listed,
            Some(_) => {}
            None => {
                places.insert(listed.id, servers.len());
                servers.push(listed);
            }
        }
    }
    let incomplete = match (inconsistency, unnamed) {
        (Some(detail), _) => Some(format!("it changes whenever it is read ({detail})")),
        (None, 0) => None,
        (None, unnamed) => Some(format!("{unnamed} of its entries do not say which server they are")),
    };
    Ok(Listed { servers, asked: read.began, incomplete })
}
