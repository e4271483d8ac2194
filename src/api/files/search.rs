//! Finds files by name.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;
use regex::{Regex, RegexBuilder};

use super::answer::answer;
use super::entry::{EntryView, Zone};
use super::query::{Query, path};
use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::api::{ApiError, response};
use crate::files::tree::{Tree, TreeError, Visit, WalkEntry};
use crate::files::user_path::UserPath;
use crate::server_files::{Access, FileError, MimeTypes, ServerFiles};

/// The most bytes of an answer. What is found beyond is left out.
const MAX_BYTES: usize = 8 << 20;

/// The shortest pattern, in bytes.
const MIN_PATTERN: usize = 3;

/// The size of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// `GET /api/servers/{server}/files/search?directory=&pattern=`.
pub async fn search(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    api.server(id)?;
    let query = Query::new(query.as_deref());
    let (directory, pattern) = (query.get("directory").to_owned(), query.get("pattern"));
    if pattern.len() < MIN_PATTERN {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "Pattern must be at least 3 characters long"));
    }
    let Some(pattern) = Pattern::new(pattern) else {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "The pattern is too long."));
    };
    let from = path(&directory).map_err(answer)?;
    let config = &api.context.node.config.files;
    let search = Search {
        pattern,
        from,
        prefix: directory.trim_end_matches('/').to_owned(),
        depth: config.search_depth,
        skips: config.search_skips.clone(),
        zone: api.zone.clone(),
        files: api.files.clone(),
        found: Vec::new(),
    };
    // The search ends with its caller.
    let cancelled = Arc::new(AtomicBool::new(false));
    let _guard = CancelOnDrop(cancelled.clone());
    let found = api.files.run(id, Access::PanelRead, move |tree| search.run(tree, &cancelled)).await;
    match found {
        Ok(found) => Ok(response::json(found)),
        Err(FileError::Tree(TreeError::NotFound(_) | TreeError::NotDirectory(_))) => Ok(response::json("[]")),
        Err(error) => Err(answer(error)),
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What names match, in any case: with `*` or `?` the whole name, otherwise a part of it.
enum Pattern {
    Whole(Regex),
    Part(String),
}

impl Pattern {
    /// `None` if it is too long.
    fn new(text: &str) -> Option<Self> {
        if !text.contains(['*', '?']) {
            return Some(Self::Part(text.to_lowercase()));
        }
        let expression = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
        let whole = RegexBuilder::new(&format!("^{expression}$"))
            .case_insensitive(true)
            .dot_matches_new_line(true)
            .size_limit(MAX_COMPILED)
            .build();
        whole.ok().map(Self::Whole)
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Whole(whole) => whole.is_match(name),
            Self::Part(part) => name.to_lowercase().contains(part),
        }
    }
}

struct Search {
    pattern: Pattern,
    from: UserPath,
    /// What the caller called the directory.
    prefix: String,
    depth: usize,
    skips: Vec<String>,
    zone: Zone,
    files: Arc<ServerFiles>,
    /// The answer so far.
    found: Vec<u8>,
}

impl Search {
    fn run(mut self, tree: &Tree, cancelled: &AtomicBool) -> Result<Vec<u8>, TreeError> {
        let from = tree.real_path(&self.from)?;
        tree.walk(&from, cancelled, &mut |entry| self.visit(&from, &entry))?;
        self.found.extend_from_slice(if self.found.is_empty() { b"[]" } else { b"]" });
        Ok(self.found)
    }

    fn visit(&mut self, from: &UserPath, entry: &WalkEntry<'_>) -> Visit {
        let Some(below) =
            entry.path.as_path().strip_prefix(from.as_path()).ok().filter(|below| !below.as_os_str().is_empty())
        else {
            return Visit::Enter;
        };
        let name = entry.entry.name.to_string_lossy();
        let is_directory = entry.entry.is_directory();
        if is_directory && self.skips.iter().any(|skipped| *skipped == name) {
            return Visit::Skip;
        }
        if self.pattern.matches(&name) {
            let below = below.to_string_lossy();
            let path = match self.prefix.is_empty() {
                true => below,
                false => Cow::Owned(format!("{}/{below}", self.prefix)),
            };
            self.add(path, entry);
        }
        if self.found.len() >= MAX_BYTES {
            return Visit::Stop;
        }
        match is_directory && below.components().count() > self.depth {
            true => Visit::Skip,
            false => Visit::Enter,
        }
    }

    fn add(&mut self, path: Cow<'_, str>, entry: &WalkEntry<'_>) {
        let types: &MimeTypes = self.files.mime_types();
        let mime = types.of(&entry.entry, |buffer| entry.head(buffer));
        self.found.push(if self.found.is_empty() { b'[' } else { b',' });
        // Writing strings and numbers to memory does not fail.
        let _ = serde_json::to_writer(&mut self.found, &EntryView::new(path, &entry.entry, mime, &self.zone));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_in_any_case() {
        for (pattern, name, expected) in [
            ("config", "MyConfig.yml", true),
            ("*.JAR", "a.jar", true),
            ("*.jar", "a.jar.old", false),
            ("level.???", "level.dat", true),
            ("level.???", "level.dat_old", false),
            ("caf\u{c9}", "caf\u{e9}", true),
            ("a+b(", "xa+b(y", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        assert!(Pattern::new(&"?".repeat(500_000)).is_none());
    }
}
