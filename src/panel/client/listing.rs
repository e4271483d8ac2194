//! The list of servers, page by page.
//!
//! The first page says how many there are; the others are read side by side. Pages that were read are kept for a moment,
//! so that after an error the next attempt asks only for those that are missing. A list that changed under
//! the reader is never taken for the whole one: a server that slipped from one page to another would look deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::exchange::{Call, Exchange};
use super::nonsense;
use crate::panel::wire::{self, MAX_ELEMENTS, Page};
use crate::panel::{ListedServer, PanelError};

/// Pages under way at once.
const PAGES_AT_ONCE: usize = 4;
/// Pages of an unfinished listing are too old after this.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The listing, and what is left of one that was cut short.
#[derive(Debug)]
pub(super) struct Listing {
    per_page: u32,
    // One listing at a time: a second one waits, and then reads anew.
    unfinished: Mutex<Option<Unfinished>>,
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
        Self { per_page, unfinished: Mutex::default() }
    }

    /// Reads the list, or what is missing of it.
    pub(super) async fn read(&self, exchange: &Exchange) -> Result<Vec<ListedServer>, PanelError> {
        let mut unfinished = self.unfinished.lock().await;
        let kept = unfinished.take().filter(|kept| kept.began.elapsed() < KEPT_FOR);
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let began = Instant::now();
                // The panel serves page 0 as page 1; Wings asks so.
                let first = self.page(exchange, 0).await?;
                Unfinished { began, last: first.last, total: first.total, pages: BTreeMap::from([(1, first)]) }
            }
        };
        // From here on the pages stay in place, also if the caller stops waiting.
        let kept = unfinished.insert(kept);
        let outcome = self.missing_pages(exchange, kept).await;
        match outcome {
            Ok(()) => {}
            Err(Trouble::Page(error)) => return Err(error),
            Err(Trouble::Changed(detail)) => {
                *unfinished = None;
                return Err(self.changed(detail));
            }
        }
        let whole = unfinished.take().map_or(Ok(Vec::new()), whole);
        whole.map_err(|detail| self.changed(detail))
    }

    async fn missing_pages(&self, exchange: &Exchange, kept: &mut Unfinished) -> Result<(), Trouble> {
        let missing: Vec<u32> = (2..=kept.last).filter(|number| !kept.pages.contains_key(number)).collect();
        // After an error no further page is begun; those under way are taken.
        let stop = AtomicBool::new(false);
        let mut pages = stream::iter(missing)
            .take_while(|_| std::future::ready(!stop.load(Ordering::Relaxed)))
            .map(|number| async move { (number, self.page(exchange, number).await) })
            .buffer_unordered(PAGES_AT_ONCE);
        let mut trouble = None;
        while let Some((number, page)) = pages.next().await {
            let found = match page {
                Ok(page) if (page.last, page.total) == (kept.last, kept.total) => {
                    kept.pages.insert(number, page);
                    continue;
                }
                Ok(page) => Trouble::Changed(format!(
                    "the first page counts {}, page {number} counts {}",
                    counts(kept.last, kept.total),
                    counts(page.last, page.total)
                )),
                Err(error) => Trouble::Page(error),
            };
            stop.store(true, Ordering::Relaxed);
            trouble.get_or_insert(found);
        }
        trouble.map_or(Ok(()), Err)
    }

    async fn page(&self, exchange: &Exchange, number: u32) -> Result<Page, PanelError> {
        let call = Call::get(format!("/servers?page={number}&per_page={}", self.per_page));
        let answer = exchange.fetch(&call).await?;
        wire::page(&answer).map_err(|error| nonsense(&call.name(), &error))
    }

    fn changed(&self, detail: String) -> PanelError {
        let call = format!("GET /api/remote/servers?per_page={}", self.per_page);
        PanelError::Nonsense { call, detail: format!("the list changed while it was read: {detail}") }
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

/// Puts the pages together, if they are of one list.
fn whole(read: Unfinished) -> Result<Vec<ListedServer>, String> {
    let entries: usize = read.pages.values().map(|page| page.entries).sum();
    if entries > MAX_ELEMENTS {
        return Err(format!("{entries} servers are more than the {MAX_ELEMENTS} that are read"));
    }
    if read.last > 1 && read.total.is_some_and(|total| total != entries as u64) {
        return Err(format!("{entries} servers were listed of {}", read.total.unwrap_or(0)));
    }
    let servers: Vec<ListedServer> = read.pages.into_values().flat_map(|page| page.servers).collect();
    let names: BTreeSet<_> = servers.iter().map(|listed| listed.id).collect();
    if names.len() < servers.len() {
        return Err("a server was listed twice".into());
    }
    Ok(servers)
}
